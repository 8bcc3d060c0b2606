//! The log as it grows, as server-sent events: news for pages, which then ask for the whole answer.
//!
//! ```text
//!   a commit ─▶ wakes every viewer ─▶ each reads the log after its last id
//! ```
//! A viewer waits without a database connection, and is never sent more than it reads: it has an id, no queue of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Sleep;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::caller::Caller;
use super::extract::Query;
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use crate::store::Page;
use crate::store::log::{self, LogEntry};

/// Viewers at the same time.
pub(super) const VIEWERS_MAX: usize = 1000;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Entries read at once.
const STEP: u32 = 200;
/// A viewer further behind than this is told to look at everything anew.
const BEHIND_MAX: i64 = 1000;
/// A stream whose viewer had to say who they are ends after so long; the client comes back by itself.
const PROVEN_FOR: Duration = Duration::from_mins(5);
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(follow))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Entries after this id; `Last-Event-ID` wins. Without either: what happens from now on.
    after: Option<i64>,
}

/// An event's data. Its id is the log entry's, its name the entry's kind.
#[derive(Debug, Serialize, ToSchema)]
struct EventData {
    subject: String,
    sentence: String,
}

/// The log as it grows
#[utoipa::path(get, path = "/events", tag = "log", operation_id = "follow_events",
    params(EventsQuery, ("last-event-id" = Option<i64>, Header, description = "Id of the last event seen")),
    responses(
        (status = 200, body = EventData, content_type = "text/event-stream", description =
            "`id`: the log entry's, `event`: its kind. `event: reset` says that too much was missed: look at everything anew"),
        (status = 503, description = "Too many viewers", body = ProblemBody)))]
async fn follow(
    State(app): State<App>,
    caller: Caller,
    sight: Sight,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let seen = match headers.get(LAST_EVENT_ID) {
        None => query.after,
        Some(id) => match id.to_str().ok().and_then(|id| id.trim().parse().ok()) {
            Some(id) => Some(id),
            None => return Err(Problem::new(Code::BadHeader, "Last-Event-ID is the number of a log entry")),
        },
    };
    let Ok(seat) = app.viewers.clone().try_acquire_owned() else {
        let detail = format!("{VIEWERS_MAX} viewers follow the log already");
        return Err(Problem::new(Code::Busy, detail).next("close pages that nobody looks at"));
    };
    // Listening begins before reading, so that nothing falls in between.
    let news = app.fleet.store.changes().log();
    let newest = newest(&app).await?;
    let mut viewer = match seen {
        // Ids beyond ours are of a database that is no more.
        Some(seen) if seen > newest || newest.saturating_sub(seen) > BEHIND_MAX => {
            let mut viewer = Viewer::new(app, sight, news, newest, seat);
            viewer.ready.push_back(reset(newest));
            viewer
        }
        seen => Viewer::new(app, sight, news, seen.unwrap_or(newest), seat),
    };
    viewer.until = ends(&viewer.app, &caller);
    let events = stream::unfold(viewer, |mut viewer| async move {
        let event = viewer.next().await?;
        Some((Ok(event), viewer))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Viewer {
    app: App,
    sight: Sight,
    /// When it must show again who it is.
    until: Option<Pin<Box<Sleep>>>,
    news: broadcast::Receiver<i64>,
    /// Id of the last entry that was read.
    last: i64,
    ready: VecDeque<Event>,
    /// There may be more to read at once.
    behind: bool,
    _seat: OwnedSemaphorePermit,
}

impl Viewer {
    fn new(
        app: App,
        sight: Sight,
        news: broadcast::Receiver<i64>,
        last: i64,
        seat: OwnedSemaphorePermit,
    ) -> Self {
        Self { app, sight, until: None, news, last, ready: VecDeque::new(), behind: false, _seat: seat }
    }

    /// The next event; `None` ends the stream, and the client comes back with its last id.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.read().await {
                Ok(()) if self.ready.is_empty() && !self.behind => self.wait().await?,
                Ok(()) => {}
                // It said so in the log.
                Err(_) => return None,
            }
        }
    }

    async fn read(&mut self) -> Answer<()> {
        let mut db = self.app.fleet.store.read().await?;
        let entries = log::after(&mut db, None, &Page::after(self.last, STEP)).await?;
        self.last = entries.last().map_or(self.last, |entry| entry.id);
        let read = entries.len();
        let told = super::log::told(&mut db, &self.sight, entries).await?;
        self.ready.extend(told.into_iter().filter(|(_, theirs)| *theirs).map(|(entry, _)| event(entry)));
        self.behind = read == STEP as usize;
        Ok(())
    }

    async fn wait(&mut self) -> Option<()> {
        tokio::select! {
            () = self.app.fleet.stop.cancelled() => None,
            () = ended(&mut self.until) => None,
            news = self.news.recv() => match news {
                // Whoever lagged reads the log from its own id all the same.
                Ok(_) | Err(RecvError::Lagged(_)) => Some(()),
                Err(RecvError::Closed) => None,
            },
        }
    }
}

/// Who was asked who they are is asked again after a while: what they may can change meanwhile.
fn ends(app: &App, caller: &Caller) -> Option<Pin<Box<Sleep>>> {
    let Caller::Proven(proven) = caller else { return None };
    let left = proven.until.since(app.fleet.clocks.trust.now());
    Some(Box::pin(tokio::time::sleep(left.min(PROVEN_FOR))))
}

async fn ended(until: &mut Option<Pin<Box<Sleep>>>) {
    match until {
        Some(until) => until.await,
        None => std::future::pending().await,
    }
}

async fn newest(app: &App) -> Answer<i64> {
    let newest = log::before(&mut app.fleet.store.read().await?, None, &Page::first(1)).await?;
    Ok(newest.first().map_or(0, |entry| entry.id))
}

fn event(entry: LogEntry) -> Event {
    let LogEntry { id, kind, subject, sentence, .. } = entry;
    data(Event::default().id(id.to_string()).event(kind), &EventData { subject, sentence })
}

fn reset(newest: i64) -> Event {
    let sentence = "too much happened meanwhile; look at everything anew".to_owned();
    data(
        Event::default().id(newest.to_string()).event("reset"),
        &EventData { subject: String::new(), sentence },
    )
}

fn data(event: Event, data: &EventData) -> Event {
    // JSON holds no line break, which is all that an event's data must not hold.
    event.data(serde_json::to_string(data).unwrap_or_default())
}

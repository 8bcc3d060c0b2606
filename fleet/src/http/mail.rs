//! Who is told by mail, how far that is, and a test of it.

use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Json};
use super::parts::append;
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::time::Time;
use crate::config::{MailConfig, MailList};
use crate::identity::ProjectName;
use crate::needs::book::{Book, Fate, Refused};
use crate::needs::letter::{self, Place};
use crate::smtp::{Letter, Relay};
use crate::store::mail;

/// How long a person waits for a test, up to the text and then for it: with both there is time for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(test))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Mail)]
struct MailView {
    /// Absent if nobody is told by mail.
    relay: Option<String>,
    from: Option<String>,
    /// Until when nothing but what is urgent is sent, in quiet hours.
    quiet_until: Option<Time>,
    /// Lists of people: of everything first, then of each project.
    items: Vec<ListView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailList)]
struct ListView {
    /// Of what they are told; of everything, if absent.
    project: Option<String>,
    to: Vec<String>,
    /// Things that they were told of, and that still stand.
    standing: usize,
    /// Things that they were not told of yet.
    waiting: usize,
    /// When the next mail is due, if nothing changes.
    next: Option<Time>,
    /// When the relay last took one.
    sent: Option<Time>,
    /// While the relay takes none.
    failing: Option<FailingView>,
    /// People whom the relay would not have; the newest 16.
    refused: Vec<RefusedView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailFailing)]
struct FailingView {
    since: Time,
    tries: u32,
    retry: Time,
    why: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailRefused)]
struct RefusedView {
    to: String,
    at: Time,
    why: String,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct MailTestBody {
    /// Whose list; that of everything, if absent.
    project: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailTest)]
struct TestView {
    relay: String,
    /// Whether everybody's was taken.
    taken: bool,
    /// Why it did not come to anybody's, if it did not.
    why: Option<String>,
    /// What the relay said of each.
    items: Vec<AnswerView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailAnswer)]
struct AnswerView {
    to: String,
    taken: bool,
    said: String,
}

/// Who is told by mail, and how far that is
#[utoipa::path(get, path = "/mail", tag = "log", operation_id = "get_mail",
    responses((status = 200, body = MailView)))]
async fn status(State(app): State<App>) -> Answer<Json<MailView>> {
    let Some(config) = &app.fleet.config.mail else {
        return Ok(Json(MailView { relay: None, from: None, quiet_until: None, items: Vec::new() }));
    };
    let (now, rules) = (app.fleet.clocks.trust.now(), config.rules());
    let mut db = app.fleet.store.read().await?;
    let mut items = Vec::new();
    for list in config.lists() {
        let book: Book = mail::get(&mut db, list.name()).await?.unwrap_or_default();
        let outlook = book.outlook(&rules, now);
        let failing = book.trouble().map(|trouble| FailingView {
            since: trouble.since.into(),
            tries: trouble.tries,
            retry: trouble.retry.into(),
            why: trouble.why.clone(),
        });
        let refused = |Refused { to, at, why }: &Refused| RefusedView {
            to: to.clone(),
            at: (*at).into(),
            why: why.clone(),
        };
        items.push(ListView {
            project: list.project.map(ToString::to_string),
            to: list.to.iter().map(ToString::to_string).collect(),
            standing: outlook.standing,
            waiting: outlook.waiting,
            next: outlook.next.map(Time::from),
            sent: book.sent().map(Time::from),
            failing,
            refused: book.refused().iter().map(refused).collect(),
        });
    }
    Ok(Json(MailView {
        relay: Some(config.relay.to_string()),
        from: Some(config.from.to_string()),
        quiet_until: rules.quiet_until(now).map(Time::from),
        items,
    }))
}

/// Sends a mail that says nothing, and tells what the relay answers
#[utoipa::path(post, path = "/mail/test", tag = "log", operation_id = "test_mail", request_body = MailTestBody,
    responses((status = 200, body = TestView), (status = 400, body = ProblemBody), (status = 409, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn test(
    State(app): State<App>,
    acting: Acting,
    Json(body): Json<MailTestBody>,
) -> Answer<Json<TestView>> {
    let (Some(config), Some(relay)) = (&app.fleet.config.mail, &app.fleet.relay) else {
        let problem = Problem::new(Code::State, "the server's configuration has no [mail]");
        return Err(problem.next("see docs/notifications.md; then start the server again"));
    };
    let asked = body.project.as_deref();
    let found = config.lists().find(|list| list.project.map(ProjectName::as_str) == asked);
    let list = found.ok_or_else(|| Problem::invalid("/project", "[mail] has no such list"))?;
    let view = sent(&app, config, relay, list).await?;
    let mut tx = app.fleet.store.write().await?;
    let became = if view.taken { "it was taken" } else { "it was not taken by all" };
    let sentence = format!("sent a test mail to {} people: {became}", list.to.len());
    append(&app, &mut tx, "mail.tested", list.name().to_owned(), sentence, &acting).await?;
    tx.commit().await?;
    Ok(Json(view))
}

async fn sent(app: &App, config: &MailConfig, relay: &Relay, list: MailList<'_>) -> Answer<TestView> {
    let now = app.fleet.clocks.trust.now();
    let place = Place {
        dashboard: app.fleet.dashboard().to_owned(),
        zone: config.zone.clone(),
        project: list.project.map(ToString::to_string),
    };
    let (subject, body) = letter::test(&place, now);
    let id = hex::encode(crate::mint::random().map_err(|error| Problem::internal(&error))?);
    let letter =
        Letter { id: format!("muster.test.{id}"), at: now, subject: &subject, body: &body, to: list.to };
    let relay_url = config.relay.to_string();
    Ok(match relay.send(&letter, list.to, PATIENCE).await {
        Ok(answers) => TestView {
            relay: relay_url,
            taken: answers.iter().all(|answer| answer.fate == Fate::Taken),
            why: None,
            items: answers
                .into_iter()
                .map(|answer| AnswerView {
                    to: answer.to,
                    taken: answer.fate == Fate::Taken,
                    said: answer.said,
                })
                .collect(),
        },
        Err(error) => {
            TestView { relay: relay_url, taken: false, why: Some(error.to_string()), items: Vec::new() }
        }
    })
}

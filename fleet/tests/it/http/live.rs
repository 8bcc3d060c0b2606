//! The event stream: news as it happens, and what was missed.

use axum::body::{Body, BodyDataStream};
use axum::http::{Method, header};
use futures_util::StreamExt as _;
use muster_fleet::fleet::Fleet;
use muster_fleet::store::log::{self, Actor, NewEntry};

use super::{Api, request};
use crate::server::PATIENCE;

pub(crate) async fn say(fleet: &Fleet, sentence: &str) -> i64 {
    let mut tx = fleet.store.write().await.unwrap();
    let entry = NewEntry {
        when: fleet.clocks.moment(),
        kind: "test.said",
        subject: "test".to_owned(),
        sentence: sentence.into(),
        actor: Actor::Fleet,
    };
    let id = log::append(&mut tx, &entry).await.unwrap();
    tx.commit().await.unwrap();
    id
}

struct Stream {
    body: BodyDataStream,
    text: String,
}

impl Stream {
    async fn open(api: &Api, path: &str, last: Option<i64>) -> Self {
        let mut request = request(Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = api.open(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event's block of lines; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(event);
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next())
                .await
                .expect("waited in vain for an event")?;
            self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn a_viewer_hears_what_happens_and_resumes_where_it_was() {
    let api = Api::start().await;
    let mut viewer = Stream::open(&api, "/api/v1/events", None).await;
    let first = say(api.fleet(), "one").await;
    let event = viewer.next().await.unwrap();
    assert!(event.contains(&format!("id: {first}")) && event.contains("event: test.said"), "{event}");
    assert!(event.contains("\"subject\":\"test\"") && event.contains("\"sentence\":\"one\""), "{event}");
    drop(viewer);

    say(api.fleet(), "two").await;
    say(api.fleet(), "three").await;
    let mut resumed = Stream::open(&api, "/api/v1/events", Some(first)).await;
    assert!(resumed.next().await.unwrap().contains("\"two\""));
    assert!(resumed.next().await.unwrap().contains("\"three\""));
    let mut by_query = Stream::open(&api, &format!("/api/v1/events?after={first}"), None).await;
    assert!(by_query.next().await.unwrap().contains("\"two\""));

    // A stop of the server ends streams instead of waiting for their viewers.
    api.stop().await;
    while resumed.next().await.is_some() {}
}

#[tokio::test]
async fn who_missed_too_much_looks_at_everything_anew() {
    let api = Api::start().await;
    let first = say(api.fleet(), "long ago").await;
    let mut tx = api.fleet().store.write().await.unwrap();
    let when = api.fleet().clocks.moment();
    for _ in 0..1001 {
        let (subject, sentence) = ("test".to_owned(), "more".into());
        let entry = NewEntry { when, kind: "test.said", subject, sentence, actor: Actor::Fleet };
        log::append(&mut tx, &entry).await.unwrap();
    }
    tx.commit().await.unwrap();
    for last in [first, i64::MAX] {
        let mut behind = Stream::open(&api, "/api/v1/events", Some(last)).await;
        let event = behind.next().await.unwrap();
        assert!(event.contains("event: reset"), "{event}");
        let now = say(api.fleet(), "now").await;
        assert!(behind.next().await.unwrap().contains(&format!("id: {now}")));
    }
    let nonsense = request(Method::GET, "/api/v1/events").header("last-event-id", "soon");
    api.send(nonsense.body(Body::empty()).unwrap()).await.is_problem(400, "bad_header");
    api.stop().await;
}

//! `Idempotency-Key`: a POST that is sent again, because nobody heard the answer, is answered again and not done again.
//!
//! ```text
//!   POST + key ─▶ new: done, the answer kept for a day          the same again: the kept answer
//!                 the key with another request: 422             the first has no answer (yet): 409
//! ```
//! Who may is asked before, each time anew. A failure of ours keeps nothing: trying again is right.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::Digest;

use super::caller::Caller;
use super::problem::{Answer, Code, Problem};
use super::{App, BODY_BYTES_MAX};
use crate::store::answers::{self, Kept, Known};

const KEY: &str = "idempotency-key";
const KEY_CHARS_MAX: usize = 128;
const KEPT_FOR: Duration = Duration::from_hours(24);
/// What a repeat is told beside the answer.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest answer that is kept.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Answers that hold a secret are not kept.
const SECRET: [&str; 5] = ["/tokens", "/enrolments", "/login", "/setup", "/result/token"];

pub(super) async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    answer(&app, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &App, request: Request, next: Next) -> Answer<Response> {
    let key = key(request.headers())?;
    let caller = request.extensions().get::<Caller>().and_then(Caller::key);
    // Others may show something that the handler knows, such as a trainer's token.
    let shown =
        || request.headers().get(header::AUTHORIZATION).map(|shown| Digest::of(shown.as_bytes()).to_string());
    let caller = caller.or_else(shown).unwrap_or_else(|| "open".to_owned());
    let (parts, body) = request.into_parts();
    let too_long = |_| Problem::new(Code::TooLarge, format!("a body has at most {BODY_BYTES_MAX} bytes"));
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(too_long)?;
    let place = (caller.as_str(), key.as_str());
    let now = app.fleet.clocks.trust.now();
    let asked = Digest::of(&[parts.uri.to_string().as_bytes(), b"\n", &body].concat());
    let mut tx = app.fleet.store.write().await?;
    let known = answers::claim(&mut tx, place, &asked, (now, now.minus(KEPT_FOR))).await?;
    tx.commit().await?;
    match known {
        Known::New => {}
        Known::Answered(kept) => return replay(kept),
        Known::Other => {
            let detail = "this idempotency key was used for another request";
            return Err(Problem::new(Code::KeyReused, detail).next("use a new key for a new request"));
        }
        Known::Unanswered => {
            let detail =
                "the first request with this key is under way, or was cut off before it was answered";
            return Err(
                Problem::new(Code::State, detail).next("look whether it was done, then use a new key if not")
            );
        }
        Known::TooMany => {
            let problem = Problem::new(Code::TooFast, "too many idempotency keys in one day");
            return Err(problem.after(KEPT_FOR).next("send keys only with what must not be done twice"));
        }
    }
    let secret = SECRET.iter().any(|end| parts.uri.path().ends_with(end));
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    let body =
        axum::body::to_bytes(body, ANSWER_BYTES_MAX).await.map_err(|error| Problem::internal(&error))?;
    let mut tx = app.fleet.store.write().await?;
    if parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS {
        answers::forget(&mut tx, place).await?;
    } else {
        answers::keep(&mut tx, place, &kept(parts.status, &parts.headers, &body, secret)).await?;
    }
    tx.commit().await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn key(headers: &HeaderMap) -> Answer<String> {
    let key = headers.get(KEY).and_then(|key| key.to_str().ok()).map(str::trim).unwrap_or_default();
    if (1..=KEY_CHARS_MAX).contains(&key.len()) {
        return Ok(key.to_owned());
    }
    Err(Problem::new(Code::BadHeader, "Idempotency-Key is 1 to 128 printable ASCII characters"))
}

fn kept(status: StatusCode, headers: &HeaderMap, body: &Bytes, secret: bool) -> Kept {
    let shown = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];
    let text = |name: &HeaderName| Some((name.to_string(), headers.get(name)?.to_str().ok()?.to_owned()));
    let headers: BTreeMap<String, String> = shown.iter().filter_map(text).collect();
    let body = (!(secret && status.is_success())).then(|| body.to_vec());
    Kept { status: status.as_u16(), headers, body }
}

fn replay(kept: Kept) -> Answer<Response> {
    let Some(body) = kept.body else {
        let detail = "this was done, and its secret was shown in the first answer";
        return Err(
            Problem::new(Code::State, detail).next("if it was lost, revoke what was made and make another")
        );
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(kept.status).map_err(|error| Problem::internal(&error))?;
    for (name, value) in kept.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

//! What stands around every handler: who may ask at all, how long an answer may take, which headers it carries.
//!
//! ```text
//!   headers ▶ panic ▶ host ▶ origin ▶ who ▶ may they ▶ time ▶ handler
//! ```
//! The danger is a page in somebody's browser: one of another site that posts here with their session, or to this machine's
//! loopback (refused by its origin), or one whose name was made to point here (refused by its Host).

use std::any::Any;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::{Code, Problem};

/// Longest time to an answer's first byte; blobs and the event stream are not bound by it.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

const CSP: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What an API answers is as of now, for whoever asked.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses names that are not this machine's own.
pub(super) async fn host(State(app): State<App>, request: Request, next: Next) -> Response {
    let own = app.fleet.config.identity.host();
    match host_of(request.headers(), request.uri()) {
        Some(host) if is_loopback(host) || own.is_some_and(|own| host.eq_ignore_ascii_case(own)) => {
            next.run(request).await
        }
        Some(_) | None => Problem::new(
            Code::WrongHost,
            "this server answers to localhost, 127.0.0.1 and [identity] url only",
        )
        .next("use http://127.0.0.1 and the server's port, or [identity] url")
        .into_response(),
    }
}

/// Refuses what another site's page wants changed here.
pub(super) async fn origin(request: Request, next: Next) -> Response {
    if is_safe(request.method()) || is_same_site(request.headers(), request.uri()) {
        return next.run(request).await;
    }
    Problem::new(Code::CrossSite, "the request comes from a page of another site").into_response()
}

pub(super) async fn within(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let Ok(response) = tokio::time::timeout(limit, next.run(request)).await else {
        let detail = format!("no answer within {} s", limit.as_secs());
        let problem =
            Problem::new(Code::TimedOut, detail).next("repeat in a moment; look at the server's log");
        return problem.into_response();
    };
    response
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands over what it caught")]
pub(super) fn panicked(caught: Box<dyn Any + Send + 'static>) -> Response {
    let said = caught.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| caught.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::internal(&std::io::Error::other(format!("a handler panicked: {said}"))).into_response()
}

fn is_safe(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD || method == Method::OPTIONS
}

/// Name and port the client thinks it speaks to.
fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

/// Browsers always say where a request comes from; whoever says nothing is no browser.
fn is_same_site(headers: &HeaderMap, uri: &Uri) -> bool {
    let fetched = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let origin = headers.get(header::ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().ok();
        let origin =
            origin.and_then(|origin| origin.strip_prefix("http://").or(origin.strip_prefix("https://")));
        origin.is_some() && origin == host_of(headers, uri)
    });
    fetched && origin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (host, expect) in [
            ("127.0.0.1:8480", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("[::1]:8480", true),
            ("fleet.example:8480", false),
            ("127.0.0.1.example", false),
            ("localhost:8480.example", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), expect, "{host}");
        }
    }

    #[test]
    fn origins() {
        let check = |site: Option<&'static str>, origin: Option<&'static str>, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8480"));
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            }
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(is_same_site(&headers, &Uri::from_static("/")), expect, "{site:?} {origin:?}");
        };
        check(None, None, true);
        check(Some("same-origin"), Some("http://127.0.0.1:8480"), true);
        check(Some("cross-site"), None, false);
        check(Some("same-site"), None, false);
        check(None, Some("http://evil.example"), false);
        check(None, Some("http://127.0.0.1:9999"), false);
        check(None, Some("null"), false);
    }
}

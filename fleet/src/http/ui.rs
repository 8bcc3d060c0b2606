//! The dashboard, from inside the binary. Without one the API works all the same, and the page says how to get it.

use std::path::Path;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::problem::{Code, Problem};

const INDEX: &str = "index.html";
/// Files with their content's hash in their names.
const HASHED: &str = "assets/";

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/dashboard/dist"]
#[allow_missing = true]
struct Dashboard;

const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Muster</title>\
    <h1>This build has no dashboard</h1><p>Run <code>make ui</code>, then build the server again. \
    The <a href=\"/api/v1/openapi.json\">API</a> and the <code>muster</code> command line work without it.</p></html>\n";

/// Whatever no route took: a file of the dashboard, or its one page, which knows the rest of the address.
pub(super) async fn serve(request: Request) -> Response {
    let (method, uri) = (request.method(), request.uri());
    if is_api(uri) {
        return Problem::new(Code::NoRoute, format!("nothing is at {}", uri.path()))
            .next("look into /api/v1/openapi.json")
            .into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return Problem::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
            .into_response();
    }
    let path = uri.path().trim_start_matches('/');
    match find(path, request.headers()) {
        Some(response) => response,
        None if path.starts_with(HASHED) => {
            Problem::new(Code::NoRoute, "the dashboard has no such file; reload the page").into_response()
        }
        None => find(INDEX, request.headers()).unwrap_or_else(missing),
    }
}

fn is_api(uri: &Uri) -> bool {
    uri.path() == "/api" || uri.path().starts_with("/api/")
}

fn find(path: &str, headers: &HeaderMap) -> Option<Response> {
    // The compressed siblings are no pages of their own.
    if Path::new(path).extension().is_some_and(|extension| extension == "br") {
        return None;
    }
    let brotli = if takes_brotli(headers) { Dashboard::get(&format!("{path}.br")) } else { None };
    let is_brotli = brotli.is_some();
    let file = brotli.or_else(|| Dashboard::get(path))?;
    let tag = tag(&file)?;
    let unchanged = headers.get(header::IF_NONE_MATCH) == Some(&tag);
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(file.data))
    };
    let describe = response.headers_mut();
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    describe.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind.as_ref()).ok()?);
    let cache = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    describe.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    describe.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    describe.insert(header::ETAG, tag);
    if is_brotli {
        describe.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    Some(response)
}

fn tag(file: &EmbeddedFile) -> Option<HeaderValue> {
    let hash = file.metadata.sha256_hash();
    HeaderValue::from_str(&format!("\"{}\"", hex::encode(&hash[..16]))).ok()
}

fn takes_brotli(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("br") && parts.next().is_none_or(|weight| weight != "q=0")
    })
}

fn missing() -> Response {
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, MISSING).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brotli_is_for_those_who_take_it() {
        let check = |accept: Option<&'static str>, expect: bool| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            }
            assert_eq!(takes_brotli(&headers), expect, "{accept:?}");
        };
        check(None, false);
        check(Some("gzip, deflate"), false);
        check(Some("gzip, br;q=1.0"), true);
        check(Some("br"), true);
        check(Some("br;q=0"), false);
    }

    #[test]
    fn the_api_has_no_pages() {
        let check =
            |uri: &'static str, expect: bool| assert_eq!(is_api(&Uri::from_static(uri)), expect, "{uri}");
        check("/api", true);
        check("/api/v2/devices", true);
        check("/apiary", false);
        check("/", false);
    }
}

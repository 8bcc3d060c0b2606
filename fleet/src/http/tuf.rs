//! What is published, as a standard TUF repository with consistent snapshots: any TUF client can read it, any mirror
//! can copy it. Read-only, and nothing here needs to be trusted.
//!
//! ```text
//!   /tuf/metadata/1.root.json … timestamp.json, 7.snapshot.json, 3.targets.json, 5.auto-er.json
//!   /tuf/targets/bundles/er/<sha256>.1.0.0.json      manifests of what is catalogued now
//!   /tuf/blobs/<sha256>                              every file that such a manifest names
//! ```
//!
//! Of files that change, the newest version is here and no other. A client that was overtaken between two requests
//! finds nothing, and begins again at the timestamp.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use muster_protocol::ids::Digest;
use muster_protocol::trust::FileName;

use super::App;
use super::extract::Id;
use super::problem::{Answer, Problem};
use crate::publisher::mirror;
use crate::store::{bundles, trust_files};

/// What never changes under its name may be kept by every cache on the way.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/tuf/metadata/{name}", get(metadata))
        .route("/tuf/targets/{*name}", get(target))
        .route("/tuf/blobs/{sha256}", get(blob))
}

async fn metadata(State(app): State<App>, Id(name): Id<String>) -> Answer<Response> {
    let absent = || Problem::not_found("metadata file", &name);
    let (file, version) = consistent(&name).ok_or_else(absent)?;
    let mut db = app.fleet.store.read().await?;
    let found = trust_files::versioned(&mut db, &file.wire()).await?;
    let (held, bytes) = found.ok_or_else(absent)?;
    if version.is_some_and(|wanted| wanted != held) {
        return Err(absent());
    }
    let caching = if version.is_some() { FOR_EVER } else { "no-cache" };
    let mut response = bytes.into_response();
    describe(&mut response, "application/json", caching);
    Ok(response)
}

async fn target(State(app): State<App>, Id(name): Id<String>) -> Answer<Response> {
    let absent = || Problem::not_found("target", &name);
    let (path, sha256) = mirror::parse_target(&name).ok_or_else(absent)?;
    let bundle = bundles::get(&mut app.fleet.store.read().await?, &sha256).await?;
    bundle.filter(|bundle| bundle.catalogued && bundle.path == path).ok_or_else(absent)?;
    content(&app, &sha256, "application/json").await
}

async fn blob(State(app): State<App>, Id(sha256): Id<Digest>) -> Answer<Response> {
    if !bundles::is_served(&mut app.fleet.store.read().await?, &sha256).await? {
        return Err(Problem::not_found("file of a catalogued bundle", sha256));
    }
    content(&app, &sha256, "application/octet-stream").await
}

async fn content(app: &App, sha256: &Digest, kind: &'static str) -> Answer<Response> {
    let found = app.fleet.blobs.get(sha256).await?;
    let (length, content) = found.ok_or_else(|| Problem::not_found("blob", sha256))?;
    let mut response = Body::from_stream(content).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    describe(&mut response, kind, FOR_EVER);
    Ok(response)
}

fn describe(response: &mut Response, kind: &'static str, caching: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
}

/// `7.snapshot.json` is version 7 of snapshot.json; `timestamp.json` alone has no version in its name.
fn consistent(name: &str) -> Option<(FileName, Option<u64>)> {
    if name == "timestamp.json" {
        return Some((FileName::Timestamp, None));
    }
    let (version, rest) = name.split_once('.')?;
    let version: u64 = version.parse().ok()?;
    let file: FileName = match rest {
        "root.json" => FileName::Root(version),
        "timestamp.json" => return None,
        rest => rest.parse().ok()?,
    };
    (file.stored(version) == name).then_some((file, Some(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(consistent(name).map(|(file, _)| file.wire()).as_deref(), expect, "{name}");
        };
        check("timestamp.json", Some("timestamp.json"));
        check("2.root.json", Some("2.root.json"));
        check("7.snapshot.json", Some("snapshot.json"));
        check("7.targets.json", Some("targets.json"));
        check("5.auto-er.json", Some("auto-er.json"));
        for wrong in [
            "root.json",
            "targets.json",
            "snapshot.json",
            "7.timestamp.json",
            "07.targets.json",
            "+7.targets.json",
            "7.7.targets.json",
            "7.1.root.json",
            "..targets.json",
            "",
        ] {
            check(wrong, None);
        }
    }
}

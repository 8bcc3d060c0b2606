//! Content by its SHA-256: uploaded as a stream, checked before it is kept.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt as _;
use muster_protocol::ids::Digest;
use muster_protocol::limits;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::Id;
use super::problem::{Answer, Code, Problem, ProblemBody};
use crate::blob::{BlobError, Blobs, Put};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put, get, head))
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        match &error {
            BlobError::Mismatch { expected, actual } => {
                let detail = format!("the content's digest is {actual}, not {expected}; nothing was kept");
                Self::new(Code::DigestMismatch, detail).next("upload it again, under the digest of its bytes")
            }
            BlobError::TooLong { max } => {
                Self::new(Code::TooLarge, format!("a blob has at most {max} bytes; nothing was kept"))
            }
            BlobError::Body(_) => Self::new(Code::BadBody, "the upload broke off; nothing was kept"),
            BlobError::Open { .. } | BlobError::Store { .. } | BlobError::Altered { .. } => {
                Self::internal(&error)
            }
        }
    }
}

/// Uploads content under its digest
#[utoipa::path(put, path = "/blobs/{sha256}", tag = "registry", operation_id = "put_blob",
    params(("sha256" = String, Path, description = "64 lower-case hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "Kept"),
        (status = 200, description = "It was here already"),
        (status = 413, description = "Too long; nothing was kept", body = ProblemBody),
        (status = 422, description = "Not what the digest says; nothing was kept", body = ProblemBody)))]
async fn put(State(app): State<App>, Id(digest): Id<Digest>, body: Body) -> Answer<StatusCode> {
    taken(&app.fleet.blobs, &digest, body, limits::BUNDLE_BYTES_MAX).await
}

/// Downloads content
#[utoipa::path(get, path = "/blobs/{sha256}", tag = "registry", operation_id = "get_blob",
    params(("sha256" = String, Path, description = "64 lower-case hexadecimal digits")),
    responses(
        (status = 200, description = "The bytes", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "Not here", body = ProblemBody)))]
async fn get(State(app): State<App>, Id(digest): Id<Digest>) -> Answer<Response> {
    given(&app.fleet.blobs, &digest).await
}

/// Whether content is here
#[utoipa::path(head, path = "/blobs/{sha256}", tag = "registry", operation_id = "head_blob",
    params(("sha256" = String, Path, description = "64 lower-case hexadecimal digits")),
    responses((status = 200, description = "Here"), (status = 404, description = "Not here")))]
async fn head(State(app): State<App>, Id(digest): Id<Digest>) -> Answer<Response> {
    described(&app.fleet.blobs, &digest).await
}

/// Keeps a body, if it is what its digest says.
pub(super) async fn taken(blobs: &Blobs, digest: &Digest, body: Body, bytes_max: u64) -> Answer<StatusCode> {
    let body = body.into_data_stream().map_err(std::io::Error::other);
    match blobs.put(digest, body, bytes_max).await? {
        Put::Stored => Ok(StatusCode::CREATED),
        Put::Existed => Ok(StatusCode::OK),
    }
}

pub(super) async fn given(blobs: &Blobs, digest: &Digest) -> Answer<Response> {
    let Some((length, content)) = blobs.get(digest).await? else {
        return Err(Problem::not_found("blob", digest));
    };
    let mut response = Body::from_stream(content).into_response();
    describe(&mut response, digest, length);
    Ok(response)
}

pub(super) async fn described(blobs: &Blobs, digest: &Digest) -> Answer<Response> {
    let length = blobs.head(digest).await?.ok_or_else(|| Problem::not_found("blob", digest))?;
    let mut response = Body::empty().into_response();
    describe(&mut response, digest, length);
    Ok(response)
}

fn describe(response: &mut Response, digest: &Digest, length: u64) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        headers.insert(header::ETAG, tag);
    }
}

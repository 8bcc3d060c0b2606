//! The catalogue's signed files: read as they are, taken in only when everything they promise is here.

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::{BundlePath, Digest};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json};
use super::parts::BundleName;
use super::problem::{Answer, Code, Fault, Problem, ProblemBody};
use super::time::Time;
use crate::intake::IntakeError;
use crate::store::trust_files;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// Uploads, which are answered when all that they newly list was read.
pub(super) fn taking() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put))
}

#[derive(Serialize, ToSchema)]
pub(super) struct TrustFiles {
    files: Vec<TrustFile>,
}

#[derive(Serialize, ToSchema)]
struct TrustFile {
    /// The name on the wire, such as `2.root.json`.
    name: String,
    version: u64,
    expires: Option<Time>,
    published: Time,
    bytes: u64,
}

/// What an accepted trust file changed.
#[derive(Serialize, ToSchema)]
pub(super) struct TrustAccepted {
    name: String,
    version: u64,
    /// Bundles that may run from now on.
    added: Vec<BundleName>,
    /// Bundles that the catalogue no longer lists.
    yanked: Vec<BundleName>,
    /// Paths of bundles that must not run any more.
    revoked: Vec<String>,
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        let IntakeError::Refused { faults } = &error else { return Self::internal(&error) };
        let listed = |fault: &crate::intake::Fault| Fault {
            pointer: fault.code.to_owned(),
            detail: fault.sentence.clone(),
        };
        let detail = match faults.as_slice() {
            [fault] => fault.sentence.clone(),
            faults => format!("{} faults; nothing was changed", faults.len()),
        };
        Self::new(Code::TrustRefused, detail).faults(faults.iter().map(listed).collect())
    }
}

/// Published trust files
#[utoipa::path(get, path = "/trust", tag = "registry", operation_id = "list_trust_files",
    responses((status = 200, body = TrustFiles)))]
async fn list(State(app): State<App>) -> Answer<Json<TrustFiles>> {
    let files = trust_files::list(&mut app.fleet.store.read().await?).await?;
    let file = |file: trust_files::TrustFile| TrustFile {
        name: file.name,
        version: file.version,
        expires: file.expires.map(Time),
        published: file.published.into(),
        bytes: file.size_bytes,
    };
    Ok(Json(TrustFiles { files: files.into_iter().map(file).collect() }))
}

/// One trust file, as it was signed
#[utoipa::path(get, path = "/trust/{name}", tag = "registry", operation_id = "get_trust_file",
    params(("name" = String, Path, description = "Such as `1.root.json` or `timestamp.json`")),
    responses((status = 200, description = "The signed bytes", body = Object, content_type = "application/json"),
        (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Id(name): Id<String>) -> Answer<Response> {
    let bytes = trust_files::bytes(&mut app.fleet.store.read().await?, &name).await?;
    let bytes = bytes.ok_or_else(|| Problem::not_found("trust file", &name))?;
    let mut response = bytes.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Takes a signed trust file in, or says every reason why not
#[utoipa::path(put, path = "/trust/{name}", tag = "registry", operation_id = "put_trust_file",
    params(("name" = String, Path, description = "`root.json`, `targets.json` or `auto-<model>.json`; a version before it is taken too")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The signed bytes"),
    responses((status = 200, body = TrustAccepted),
        (status = 422, description = "Refused with every fault; nothing was changed", body = ProblemBody)))]
async fn put(
    State(app): State<App>,
    Id(name): Id<String>,
    acting: Acting,
    request: Request,
) -> Answer<Json<TrustAccepted>> {
    let bytes = Bytes::from_request(request, &app).await?;
    let accepted = app.fleet.intake.upload(&name, &bytes, acting.for_log()).await?;
    let named = |(path, sha256): &(BundlePath, Digest)| BundleName {
        path: Some(path.to_string()),
        version: Some(path.version().to_string()),
        sha256: sha256.to_string(),
    };
    Ok(Json(TrustAccepted {
        name: accepted.name,
        version: accepted.version,
        added: accepted.added.iter().map(named).collect(),
        yanked: accepted.yanked.iter().map(named).collect(),
        revoked: accepted.revoked.iter().map(|(path, _)| path.to_string()).collect(),
    }))
}

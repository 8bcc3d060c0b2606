//! Where trainers that run elsewhere hand back what they made. Their token is good for one attempt of one run and for
//! nothing else; whatever is wrong with it is answered alike, so that nobody learns which runs there are.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt as _;
use muster_protocol::ids::{Digest, RunId};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::extract::{Id, Json, Query};
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::super::time::Time;
use super::load;
use crate::blob::Put;
use crate::handback::{self, MESSAGE_CHARS_MAX, OutputFile, TOKEN_S_MAX, TrainerResult};
use crate::retrain::{Run, RunState};
use crate::store::log::Actor;
use crate::store::{Control, Versioned, handbacks, runs};

/// Lines of one message.
const LINES_MAX: usize = 200;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    #[schema(max_length = 64)]
    builder: String,
    /// How long the training may take; at most a week.
    #[schema(maximum = 604_800)]
    seconds: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResultToken {
    /// Shown once. Good for one result of this attempt.
    token: String,
    until: Time,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProgressBody {
    #[serde(default)]
    #[schema(max_items = 200)]
    log: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultBody {
    /// `succeeded` or `failed`.
    status: Status,
    /// Why it failed.
    #[serde(default)]
    #[schema(max_length = 500)]
    message: String,
    /// What was made; each was uploaded before.
    #[serde(default)]
    #[schema(max_items = 64)]
    files: Vec<FileBody>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Succeeded,
    Failed,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResultFile)]
struct FileBody {
    /// Where it lies in the trainer's output: `model.onnx`, `saved_model/saved_model.pb`.
    path: String,
    sha256: String,
    bytes: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrainerResult)]
pub(super) struct ResultView {
    status: Status,
    message: String,
    files: Vec<FileBody>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BuilderQuery {
    /// Whoever holds the lease.
    builder: String,
}

/// Makes the token with which a trainer elsewhere hands back its result; the one before is worth nothing any more
#[utoipa::path(post, path = "/runs/{id}/result/token", tag = "builders", operation_id = "open_run_result",
    params(("id" = String, Path)), request_body = TokenBody,
    responses((status = 201, body = ResultToken), (status = 404, body = ProblemBody),
        (status = 409, description = "The run is not yours", body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(super) async fn token(
    State(app): State<App>,
    Id(id): Id<RunId>,
    Json(body): Json<TokenBody>,
) -> Answer<(StatusCode, Json<ResultToken>)> {
    let TokenBody { builder, seconds } = body;
    if seconds == 0 || seconds > TOKEN_S_MAX {
        return Err(Problem::invalid("/seconds", format!("a token lives for 1 to {TOKEN_S_MAX} seconds")));
    }
    let secret = crate::mint::secret()?;
    let token = format!("mrt_{}", hex::encode(secret));
    let mut tx = app.fleet.store.write().await?;
    let Versioned { document: run, .. } = load(&mut tx, &id).await?;
    let attempt = held(&run, &builder)?;
    let until = app.fleet.clocks.moment().at.plus(std::time::Duration::from_secs(seconds));
    handbacks::open(&mut tx, &id, &Digest::of(token.as_bytes()), attempt, until).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(ResultToken { token, until: until.into() })))
}

/// Uploads a file of the result under its digest
#[utoipa::path(put, path = "/runs/{id}/result/files/{sha256}", tag = "trainers", operation_id = "put_run_result_file",
    params(("id" = String, Path), ("sha256" = String, Path, description = "64 lower-case hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "Kept"), (status = 200, description = "It was here already"),
        (status = 404, description = "No such run, or the token is not good for it", body = ProblemBody),
        (status = 409, description = "The result was handed back already", body = ProblemBody),
        (status = 413, description = "Too long; nothing was kept", body = ProblemBody),
        (status = 422, description = "Not what the digest says; nothing was kept", body = ProblemBody)))]
pub(super) async fn file(
    State(app): State<App>,
    Path((id, sha256)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let bad = |error: &dyn std::fmt::Display| Problem::new(Code::BadPath, error.to_string());
    let id: RunId = id.parse().map_err(|error| bad(&error))?;
    let digest: Digest = sha256.parse().map_err(|error| bad(&error))?;
    let open =
        trusted(&mut app.fleet.store.read().await?, &id, &headers, app.fleet.clocks.moment().at).await?;
    if open.result.is_some() {
        return Err(Problem::new(Code::State, "the result was handed back already; it takes no more files"));
    }
    let body = body.into_data_stream().map_err(std::io::Error::other);
    match app.fleet.blobs.put(&digest, body, handback::BYTES_MAX).await? {
        Put::Stored => Ok(StatusCode::CREATED),
        Put::Existed => Ok(StatusCode::OK),
    }
}

/// Adds lines to the run's log while the training goes on
#[utoipa::path(post, path = "/runs/{id}/result/progress", tag = "trainers", operation_id = "say_run_progress",
    params(("id" = String, Path)), request_body = ProgressBody,
    responses((status = 204, description = "Heard"),
        (status = 404, description = "No such run, or the token is not good for it", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(super) async fn progress(
    State(app): State<App>,
    Id(id): Id<RunId>,
    headers: HeaderMap,
    Json(body): Json<ProgressBody>,
) -> Answer<StatusCode> {
    if body.log.len() > LINES_MAX {
        return Err(Problem::invalid("/log", format!("a message brings at most {LINES_MAX} lines")));
    }
    let moment = app.fleet.clocks.moment();
    let mut tx = app.fleet.store.write().await?;
    trusted(&mut tx, &id, &headers, moment.at).await?;
    runs::add_log(&mut tx, &id, moment.at, &body.log).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hands back the result; the same result said twice is taken once
#[utoipa::path(post, path = "/runs/{id}/result", tag = "trainers", operation_id = "hand_back_run_result",
    params(("id" = String, Path)), request_body = ResultBody,
    responses((status = 200, body = ResultView),
        (status = 404, description = "No such run, or the token is not good for it", body = ProblemBody),
        (status = 409, description = "Another result was handed back already", body = ProblemBody),
        (status = 422, description = "A file is named wrongly or was not uploaded", body = ProblemBody)))]
pub(super) async fn hand_back(
    State(app): State<App>,
    Id(id): Id<RunId>,
    headers: HeaderMap,
    Json(body): Json<ResultBody>,
) -> Answer<Json<ResultView>> {
    let moment = app.fleet.clocks.moment();
    let open = trusted(&mut app.fleet.store.read().await?, &id, &headers, moment.at).await?;
    let result = parse(body)?;
    if let TrainerResult::Succeeded { files } = &result {
        for (i, file) in files.iter().enumerate() {
            let at = || format!("/files/{i}");
            match app.fleet.blobs.head(&file.sha256).await? {
                Some(bytes) if bytes == file.bytes => {}
                Some(bytes) => {
                    let detail = format!("{} has {bytes} bytes, not {}", file.path.as_str(), file.bytes);
                    return Err(Problem::invalid(&at(), detail));
                }
                None => {
                    let detail = format!("{} was not uploaded", file.path.as_str());
                    return Err(
                        Problem::invalid(&at(), detail).next("upload it first, then hand back the result")
                    );
                }
            }
        }
    }
    let mut tx = app.fleet.store.write().await?;
    if handbacks::keep(&mut tx, &id, open.attempt, &result).await? {
        let Versioned { document: run, .. } = load(&mut tx, &id).await?;
        let sentence = match &result {
            TrainerResult::Succeeded { files } => format!("the trainer handed back {} files", files.len()),
            TrainerResult::Failed { message } => format!("the trainer failed: {message}"),
        };
        let builder = if let RunState::Claimed { builder, .. } = &run.state {
            Actor::Builder(builder.clone())
        } else {
            Actor::Fleet
        };
        super::say(&mut tx, &run, ("run.handed_back", sentence), builder, moment).await?;
        tx.commit().await?;
    } else {
        let known = handbacks::get(&mut tx, &id).await?.and_then(|known| known.result);
        if known.as_ref() != Some(&result) {
            return Err(Problem::new(Code::State, "another result was handed back already; it stays"));
        }
    }
    Ok(Json(ResultView::of(result)))
}

/// What a trainer elsewhere handed back, if it did
#[utoipa::path(get, path = "/runs/{id}/result", tag = "builders", operation_id = "get_run_result",
    params(("id" = String, Path), BuilderQuery),
    responses((status = 200, body = ResultView), (status = 204, description = "Not yet"),
        (status = 404, body = ProblemBody), (status = 409, description = "The run is not yours", body = ProblemBody)))]
pub(super) async fn get(
    State(app): State<App>,
    Id(id): Id<RunId>,
    Query(query): Query<BuilderQuery>,
) -> Answer<Response> {
    let mut db = app.fleet.store.read().await?;
    let Versioned { document: run, .. } = load(&mut db, &id).await?;
    let attempt = held(&run, &query.builder)?;
    let result = handbacks::get(&mut db, &id).await?.filter(|known| known.attempt == attempt);
    Ok(match result.and_then(|known| known.result) {
        Some(result) => Json(ResultView::of(result)).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// The attempt that this builder works on.
fn held(run: &Run, builder: &str) -> Answer<u32> {
    if let RunState::Claimed { builder: holder, attempt, .. } = &run.state
        && holder == builder
    {
        return Ok(*attempt);
    }
    Err(Problem::new(Code::LeaseLost, format!("the run is not leased to '{builder}'; stop working on it")))
}

/// The token's run, while somebody works on the attempt that it was made for.
async fn trusted(
    db: &mut Control,
    id: &RunId,
    headers: &HeaderMap,
    now: Timestamp,
) -> Answer<handbacks::Handback> {
    let unknown = || {
        Problem::new(Code::NotFound, "no run takes a result by this token").next(
            "send the newest token as `Authorization: Bearer`; a lapsed attempt's token is worth nothing",
        )
    };
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(|token| Digest::of(token.trim().as_bytes()))
        .ok_or_else(unknown)?;
    // Digests are compared: how long that takes says nothing of the token.
    let open = handbacks::get(db, id).await?.filter(|open| open.token == token && open.until > now);
    let open = open.ok_or_else(unknown)?;
    let state = runs::get::<Run>(db, id).await?.map(|run| run.document.state);
    if let Some(RunState::Claimed { attempt, .. }) = state
        && attempt == open.attempt
    {
        return Ok(open);
    }
    Err(unknown())
}

fn parse(body: ResultBody) -> Answer<TrainerResult> {
    let ResultBody { status, message, files } = body;
    if let Status::Failed = status {
        let message =
            muster_protocol::limits::sentence(message.chars().take(MESSAGE_CHARS_MAX).collect::<String>());
        return Ok(TrainerResult::Failed { message });
    }
    let files = files.into_iter().enumerate().map(|(i, file)| {
        let at = |field: &str, detail: String| Problem::invalid(&format!("/files/{i}/{field}"), detail);
        let FileBody { path, sha256, bytes } = file;
        Ok(OutputFile {
            path: path.parse().map_err(|error: handback::HandbackError| at("path", error.to_string()))?,
            sha256: sha256
                .parse()
                .map_err(|error: muster_protocol::ids::IdError| at("sha256", error.to_string()))?,
            bytes,
        })
    });
    let result = TrainerResult::Succeeded { files: files.collect::<Answer<_>>()? };
    result.check().map_err(|error| Problem::invalid("/files", error.to_string()))?;
    Ok(result)
}

impl ResultView {
    fn of(result: TrainerResult) -> Self {
        match result {
            TrainerResult::Failed { message } => Self { status: Status::Failed, message, files: Vec::new() },
            TrainerResult::Succeeded { files } => {
                let file = |file: OutputFile| FileBody {
                    path: file.path.into(),
                    sha256: file.sha256.to_string(),
                    bytes: file.bytes,
                };
                let files = files.into_iter().map(file).collect();
                Self { status: Status::Succeeded, message: String::new(), files }
            }
        }
    }
}

//! What each route needs, and the one place where it is asked for.
//!
//! ```text
//!   route ─▶ its rule ─▶ things that the request names ─▶ the project of each ─▶ may the caller?
//!     no rule: refused        unknown or of others: 404, the same body      too small a role: 403
//! ```
//! Handlers decide nothing of this; where a rule reaches over several projects they show and touch only what [`Sight`]
//! lets through.

mod place;
mod table;

use axum::RequestExt as _;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::caller::{Caller, Proven, unproven};
use super::problem::{Answer, Code, Problem};
use super::sight::Sight;
use super::{App, BODY_BYTES_MAX};
use crate::identity::{Permission, ProjectName};
use crate::store::projects;
use place::Place;
use table::TABLE;

/// What a route needs.
#[derive(Clone, Copy, Debug)]
struct Rule {
    method: &'static str,
    path: &'static str,
    need: Need,
}

#[derive(Clone, Copy, Debug)]
enum Need {
    /// Nothing: whoever asks.
    Nothing,
    /// Somebody, whoever it is: about themselves.
    Somebody,
    May(Permission, Reach),
}

/// In which project it must be allowed.
#[derive(Clone, Copy, Debug)]
enum Reach {
    /// In some; the handler keeps to those by [`Sight`].
    Each,
    /// In `default`: it concerns everybody.
    Fleet,
    /// In every one: it tells of all.
    All,
    /// In that of each thing the request names. If it names none: as the last says.
    Named(&'static [Thing], &'static Reach),
}

/// Something that a request names.
#[derive(Clone, Copy, Debug)]
struct Thing {
    at: At,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// The address's first parameter.
    Path,
    Query(&'static str),
    /// A field of the JSON body: one, or a list of them, by themselves or as `name` of an object.
    Body(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Site,
    Model,
    /// A dataset, with or without `@` and a version.
    Dataset,
    Device,
    Rollout,
    Run,
    Incident,
    Capture,
    Lease,
    Enrolment,
    Bundle,
    Blob,
    /// A file or profile of datasets.
    DatasetBlob,
    /// A manifest in the TUF mirror.
    Target,
    TrustFile,
}

/// What a request names, as it stands there.
struct Named {
    kind: Kind,
    text: String,
}

pub(super) async fn permit(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(matched) = request.extensions().get::<MatchedPath>().cloned() else {
        // The dashboard's files, and addresses at which there is nothing.
        return next.run(request).await;
    };
    match check(&app, request, matched.as_str()).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn check(app: &App, request: Request, path: &str) -> Answer<Request> {
    let rule = rule(request.method(), path)?;
    let caller = request.extensions().get::<Caller>().cloned().ok_or_else(|| unproven(false))?;
    let proven = match (&rule.need, &caller) {
        (Need::Nothing, _) | (Need::Somebody, Caller::Proven(_)) => return Ok(request),
        (_, Caller::Open) => return Ok(with(request, Sight::All)),
        (_, Caller::Nobody { showed }) => return Err(unproven(*showed)),
        (Need::May(..), Caller::Proven(proven)) => proven,
    };
    let Need::May(permission, reach) = rule.need else { return Ok(request) };
    let (request, named) = named(request, reach).await?;
    let mut db = app.fleet.store.read().await?;
    let owned = projects::owned(&mut db).await?;
    // What they may not even know of comes first, so that a refusal tells nothing of it.
    let mut needs = Vec::new();
    for thing in &named {
        let places = place::find(&mut db, &owned, thing).await?;
        match places {
            // The handler says what is wrong with it.
            Place::Malformed => {}
            Place::Unknown => return Err(place::unknown(thing)),
            Place::In(places) => {
                let reached = places
                    .into_iter()
                    .find(|place| proven.grants.reaches(&place.project, place.model.as_ref()));
                needs.push(reached.ok_or_else(|| place::unknown(thing))?);
            }
        }
    }
    drop(db);
    for place in &needs {
        let permission = place.permission.unwrap_or(permission);
        if !proven.grants.may(permission, &place.project, place.model.as_ref()) {
            return Err(forbidden(proven, permission, Some(&place.project)));
        }
    }
    if needs.is_empty() {
        without_names(proven, permission, reach)?;
    }
    Ok(with(request, Sight::of(&proven.grants, owned, permission)))
}

fn without_names(proven: &Proven, permission: Permission, reach: Reach) -> Answer<()> {
    match reach {
        Reach::Each if proven.grants.may_somewhere(permission) => Ok(()),
        Reach::Fleet => {
            let all = ProjectName::default_project();
            if proven.grants.may(permission, &all, None) {
                Ok(())
            } else {
                Err(forbidden(proven, permission, Some(&all)))
            }
        }
        Reach::All if proven.grants.may_everywhere(permission) => Ok(()),
        Reach::Each | Reach::All => Err(forbidden(proven, permission, None)),
        Reach::Named(_, otherwise) => without_names(proven, permission, *otherwise),
    }
}

/// A route without a rule is refused to everybody, in every mode: somebody forgot to say who may.
fn rule(method: &Method, path: &str) -> Answer<&'static Rule> {
    let found = |method: &str| TABLE.iter().find(|rule| rule.path == path && rule.method == method);
    let rule = found(method.as_str()).or_else(|| (method == Method::HEAD).then(|| found("GET")).flatten());
    match rule {
        Some(rule) => Ok(rule),
        None if TABLE.iter().any(|rule| rule.path == path) => {
            let detail = format!("{path} does not take {method}");
            Err(Problem::new(Code::MethodNotAllowed, detail).next("look into /api/v1/openapi.json"))
        }
        None => {
            tracing::error!(path, %method, "a route has no rule that says who may use it");
            Err(Problem::new(Code::Forbidden, "nobody may use this: no rule says who may"))
        }
    }
}

/// Whether nobody is asked who they are, as far as the rules say.
pub(super) fn is_for_anybody(method: &str, path: &str) -> bool {
    let found = TABLE.iter().find(|rule| rule.path == path && rule.method == method);
    found.is_some_and(|rule| matches!(rule.need, Need::Nothing))
}

fn with(mut request: Request, sight: Sight) -> Request {
    request.extensions_mut().insert(sight);
    request
}

fn forbidden(proven: &Proven, permission: Permission, project: Option<&ProjectName>) -> Problem {
    let what = match permission {
        Permission::Look => "look at this",
        Permission::Fetch => "fetch this",
        Permission::Build => "bring what was built",
        Permission::Operate => "operate",
        Permission::Approve => "approve",
        Permission::Administer => "administer",
    };
    let place =
        project.map_or_else(|| "any project".to_owned(), |project| format!("the project '{project}'"));
    Problem::new(Code::Forbidden, format!("{} may not {what} in {place}", proven.name))
        .next("ask an administrator for the role, or use a token that has it")
}

/// Everything that the rule looks for. The body is read for it only if it is looked into, and stays what it was.
async fn named(mut request: Request, reach: Reach) -> Answer<(Request, Vec<Named>)> {
    let Reach::Named(things, _) = reach else { return Ok((request, Vec::new())) };
    let mut found = Vec::new();
    let mut body: Option<Value> = None;
    if things.iter().any(|thing| matches!(thing.at, At::Body(_))) {
        let (parts, content) = request.into_parts();
        let bytes = bounded(content).await?;
        body = serde_json::from_slice(&bytes).ok();
        request = Request::from_parts(parts, Body::from(bytes));
    }
    let path = request.extract_parts::<RawPathParams>().await.ok();
    let query = request.uri().query().unwrap_or_default();
    let query: Vec<(String, String)> = pairs(query);
    for thing in things {
        let texts: Vec<String> = match thing.at {
            At::Path => {
                path.iter().flat_map(RawPathParams::iter).take(1).map(|(_, text)| text.to_owned()).collect()
            }
            At::Query(name) => {
                let same = query.iter().filter(|(key, text)| key == name && !text.is_empty());
                same.map(|(_, text)| text.clone()).collect()
            }
            At::Body(name) => match body.as_ref().and_then(|body| body.get(name)) {
                Some(Value::String(text)) => vec![text.clone()],
                Some(Value::Array(list)) => {
                    let text = |item: &Value| item.get("name").unwrap_or(item).as_str().map(str::to_owned);
                    list.iter().filter_map(text).collect()
                }
                Some(_) | None => Vec::new(),
            },
        };
        found.extend(texts.into_iter().map(|text| Named { kind: thing.kind, text }));
    }
    Ok((request, found))
}

async fn bounded(body: Body) -> Answer<Bytes> {
    axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| Problem::new(Code::TooLarge, format!("a body has at most {BODY_BYTES_MAX} bytes")))
}

/// As the handlers' own extractor reads it.
fn pairs(query: &str) -> Vec<(String, String)> {
    let uri = format!("/?{query}").parse().unwrap_or_default();
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|query| query.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_rule_speaks_of_is_refused() {
        let check = |method: Method, path: &str, code: Option<Code>| {
            assert_eq!(rule(&method, path).err().map(|problem| problem.code()), code, "{method} {path}");
        };
        check(Method::GET, "/api/v1/devices", None);
        check(Method::HEAD, "/api/v1/devices", None);
        check(Method::DELETE, "/api/v1/devices", Some(Code::MethodNotAllowed));
        check(Method::GET, "/api/v1/forgotten", Some(Code::Forbidden));
    }
}

//! What operations refuse alike, described once: every handler's own answers stand at the handler.

use utoipa::openapi::content::Content;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Ref;
use utoipa::openapi::{OpenApi, RefOr};

use super::problem::PROBLEM_JSON;

const JSON: &str = "application/json";

/// Status, name, and when it comes.
type Refusal = (&'static str, &'static str, &'static str);

const MALFORMED: Refusal =
    ("400", "Malformed", "The address, the query, a header or the body cannot be read");
const CROSS_SITE: Refusal = ("403", "CrossSite", "A page of another site asks for a change");
const TOO_LARGE: Refusal = ("413", "TooLarge", "The body is too long");
const NO_JSON: Refusal = ("415", "NoJson", "The body is not said to be JSON");
const INVALID: Refusal =
    ("422", "Invalid", "The body has a field that is missing, unknown or out of its bounds");
/// Of the server itself, whatever was asked.
const ALWAYS: [Refusal; 4] = [
    ("421", "WrongHost", "The server is not known by the name that was asked"),
    ("500", "Internal", "Something failed inside; the log says what, under the id that the answer has"),
    ("503", "Busy", "The server is busy, or its database away"),
    ("504", "TimedOut", "The answer took too long"),
];

/// Completes the description of every operation.
pub(super) fn described(mut document: OpenApi) -> OpenApi {
    let all = [MALFORMED, CROSS_SITE, TOO_LARGE, NO_JSON, INVALID].into_iter().chain(ALWAYS);
    let mut components = document.components.take().unwrap_or_default();
    for (_, name, description) in all {
        let body = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, body).build();
        components.responses.insert(name.to_owned(), response.into());
    }
    document.components = Some(components);
    for item in document.paths.paths.values_mut() {
        let PathItem { get, put, post, head, .. } = item;
        for (changes, operation) in [(false, get), (false, head), (true, put), (true, post)] {
            if let Some(operation) = operation {
                complete(operation, changes);
            }
        }
    }
    document
}

fn complete(operation: &mut Operation, changes: bool) {
    let mut refused = ALWAYS.to_vec();
    if changes {
        refused.push(CROSS_SITE);
    }
    if operation.parameters.is_some() || operation.request_body.is_some() {
        refused.push(MALFORMED);
    }
    if let Some(RefOr::T(body)) = &operation.request_body {
        refused.push(TOO_LARGE);
        if body.content.contains_key(JSON) {
            refused.extend([NO_JSON, INVALID]);
        }
    }
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
            && let Some(body) = response.content.shift_remove(JSON)
        {
            response.content.insert(PROBLEM_JSON.to_owned(), body);
        }
    }
    for (status, name, _) in refused {
        responses.entry(status.to_owned()).or_insert_with(|| Ref::from_response_name(name).into());
    }
}

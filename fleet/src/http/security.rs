//! What the API's description says of every operation alike, written once: how callers show who they are, and how they are
//! refused.

use utoipa::openapi::OpenApi;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Ref;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};

use super::permit;

const NO_SCOPES: [&str; 0] = [];

/// Refusals of whoever may not ask: by status.
const REFUSALS: [(&str, &str); 3] = [
    ("401", "Who asks has not shown who they are"),
    ("403", "Who asks may not do this"),
    ("429", "Who asks did so too often; Retry-After says when to come back"),
];

pub(super) fn guarded(mut document: OpenApi) -> OpenApi {
    let mut components = document.components.take().unwrap_or_default();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let session = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("muster")));
    components.security_schemes.insert("token".to_owned(), token.into());
    components.security_schemes.insert("session".to_owned(), session.into());
    document.components = Some(components);
    let either = vec![
        SecurityRequirement::new("token", NO_SCOPES),
        SecurityRequirement::new("session", NO_SCOPES),
        // In the open mode nobody is asked.
        SecurityRequirement::default(),
    ];
    document.security = Some(either);
    for (path, item) in &mut document.paths.paths {
        let all = [
            ("GET", &mut item.get),
            ("PUT", &mut item.put),
            ("POST", &mut item.post),
            ("HEAD", &mut item.head),
        ];
        for (method, operation) in all {
            let Some(operation) = operation else { continue };
            let anybody = permit::is_for_anybody(method, path);
            if anybody {
                operation.security = Some(Vec::new());
            }
            for (status, description) in REFUSALS {
                if anybody && status != "429" {
                    continue;
                }
                let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
                let mut refusal = ResponseBuilder::new().description(description);
                if method != "HEAD" {
                    refusal = refusal.content("application/json", body);
                }
                let responses = &mut operation.responses.responses;
                responses.entry(status.to_owned()).or_insert_with(|| refusal.build().into());
            }
        }
    }
    document
}

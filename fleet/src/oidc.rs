//! The identity provider: where to send a browser, and what its answer proves. Authorization code with PKCE, nothing else.
//!
//! The answer's token must be signed by the provider for us, with the nonce of this login, and be neither expired nor issued
//! at another time than now. Never decides who somebody is here; that is [`crate::http`]'s, by what this returns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdTokenFields, IssuerUrl,
    Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, StandardErrorResponse,
    StandardTokenResponse, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::TrustClock;
use crate::config::OidcConfig;
use crate::identity::{ProjectName, Role};
use crate::store::logins::Login;

/// How far the provider's clock may be from ours.
const SKEW_S: i64 = 120;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Groups of one person that are looked at.
const GROUPS_MAX: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("the client secret {path} cannot be read")]
    Secret {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no client to reach the identity provider with")]
    Setup(#[source] reqwest::Error),
    #[error("[identity] is not a configuration that can be used: {0}")]
    Config(String),
    #[error("the identity provider {issuer} could not be asked about itself: {why}")]
    Discovery { issuer: String, why: String },
    #[error("the identity provider did not take the code: {0}")]
    Exchange(String),
    #[error("the identity provider sent no token that says who it is")]
    NoToken,
    #[error("the identity provider's token proves nothing: {0}")]
    Token(String),
}

/// What a failed request says.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer cannot be read: {0}")]
    Answer(#[from] openidconnect::http::Error),
}

/// Who the provider says somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Somebody {
    pub issuer: String,
    /// What they are called there for ever.
    pub subject: String,
    /// What they would like to be called.
    pub name: Option<String>,
    pub display: Option<String>,
    pub groups: BTreeSet<String>,
}

/// All claims that the standard does not name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Others(BTreeMap<String, Value>);

impl AdditionalClaims for Others {}

type Fields = IdTokenFields<
    Others,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Relying = Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Where to send the browser, and what its answer must hold.
pub async fn begin(config: &OidcConfig, redirect: &str) -> Result<(String, Login), OidcError> {
    let client = relying(config, redirect, &http()?).await?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let flow = CoreAuthenticationFlow::AuthorizationCode;
    let request =
        client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random).set_pkce_challenge(challenge);
    let scopes = config.scopes.iter().cloned().map(Scope::new).chain([Scope::new("profile".to_owned())]);
    let (url, state, nonce) = request.add_scopes(scopes).url();
    let login =
        Login { state: state.into_secret(), nonce: nonce.secret().clone(), verifier: verifier.into_secret() };
    Ok((url.into(), login))
}

/// Turns the code into somebody.
pub async fn finish(
    config: &OidcConfig,
    redirect: &str,
    code: String,
    login: &Login,
) -> Result<Somebody, OidcError> {
    let http = http()?;
    let client = relying(config, redirect, &http).await?;
    let exchange = client
        .exchange_code(AuthorizationCode::new(code))
        .map_err(|error| OidcError::Config(error.to_string()))?;
    let answer = exchange
        .set_pkce_verifier(PkceCodeVerifier::new(login.verifier.clone()))
        .request_async(&|request| fetch(http.clone(), request))
        .await
        .map_err(|error| OidcError::Exchange(chain(&error)))?;
    let token = answer.id_token().ok_or(OidcError::NoToken)?;
    let verifier = client
        .id_token_verifier()
        .set_allowed_algs([
            CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
            CoreJwsSigningAlgorithm::RsaSsaPssSha256,
            CoreJwsSigningAlgorithm::EcdsaP256Sha256,
            CoreJwsSigningAlgorithm::EdDsa,
        ])
        .set_issue_time_verifier_fn(|issued| {
            let apart = TrustClock.now().as_seconds() - issued.timestamp();
            if apart.abs() <= SKEW_S { Ok(()) } else { Err(format!("it was issued {apart} s ago")) }
        });
    let nonce = Nonce::new(login.nonce.clone());
    let claims = token.claims(&verifier, &nonce).map_err(|error| OidcError::Token(chain(&error)))?;
    let text = |found: Option<&Value>| found.and_then(Value::as_str).map(str::to_owned);
    let groups = match claims.additional_claims().0.get(&config.groups_claim) {
        Some(Value::Array(groups)) => {
            groups.iter().take(GROUPS_MAX).filter_map(|group| text(Some(group))).collect()
        }
        Some(Value::String(group)) => BTreeSet::from([group.clone()]),
        Some(_) | None => BTreeSet::new(),
    };
    Ok(Somebody {
        issuer: claims.issuer().to_string(),
        subject: claims.subject().to_string(),
        name: claims.preferred_username().map(|name| name.to_string()),
        display: claims.name().and_then(|name| name.get(None)).map(|name| name.to_string()),
        groups,
    })
}

/// What somebody of these groups is here: the most of what their groups say.
pub fn roles(config: &OidcConfig, groups: &BTreeSet<String>) -> BTreeMap<ProjectName, Role> {
    let mut roles: BTreeMap<ProjectName, Role> = BTreeMap::new();
    for rule in config.roles.iter().filter(|rule| groups.contains(&rule.group)) {
        let role = roles.entry(rule.project.clone()).or_insert(rule.role);
        *role = rule.role.max(*role);
    }
    roles
}

async fn relying(config: &OidcConfig, redirect: &str, http: &reqwest::Client) -> Result<Relying, OidcError> {
    let wrong = |error: &dyn std::fmt::Display| OidcError::Config(error.to_string());
    let issuer = IssuerUrl::new(config.issuer.clone()).map_err(|error| wrong(&error))?;
    let redirect = RedirectUrl::new(redirect.to_owned()).map_err(|error| wrong(&error))?;
    let secret = match &config.client_secret_file {
        None => None,
        Some(path) => {
            let failed = |source| OidcError::Secret { path: path.display().to_string(), source };
            let text = std::fs::read_to_string(path).map_err(failed)?;
            Some(ClientSecret::new(text.lines().next().unwrap_or_default().trim().to_owned()))
        }
    };
    let metadata = CoreProviderMetadata::discover_async(issuer, &|request| fetch(http.clone(), request))
        .await
        .map_err(|error| OidcError::Discovery { issuer: config.issuer.clone(), why: chain(&error) })?;
    let client = Client::from_provider_metadata(metadata, ClientId::new(config.client_id.clone()), secret);
    Ok(client.set_redirect_uri(redirect))
}

/// Follows no redirects: a provider that sends us elsewhere could send us into our own network.
fn http() -> Result<reqwest::Client, OidcError> {
    // Err means that the process has a provider already, which is what we want.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_WITHIN)
        .build()
        .map_err(OidcError::Setup)
}

async fn fetch(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, FetchError> {
    let (parts, body) = request.into_parts();
    let request = http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
    let mut response = request.send().await?;
    let mut answer = openidconnect::http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        answer = answer.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(FetchError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(body)?)
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_become_the_most_that_any_of_them_says() {
        let config: OidcConfig = toml::from_str(
            "issuer = 'https://x'\nclient_id = 'm'\n\
             [[roles]]\ngroup = 'staff'\nproject = 'er'\nrole = 'viewer'\n\
             [[roles]]\ngroup = 'ml'\nproject = 'er'\nrole = 'approver'\n\
             [[roles]]\ngroup = 'ml'\nproject = 'icu'\nrole = 'viewer'",
        )
        .unwrap();
        let check = |groups: &[&str], expect: &[(&str, Role)]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            let expect = expect.iter().map(|(project, role)| (project.parse().unwrap(), *role)).collect();
            assert_eq!(roles(&config, &groups), expect, "{groups:?}");
        };
        check(&[], &[]);
        check(&["other"], &[]);
        check(&["staff"], &[("er", Role::Viewer)]);
        check(&["ml", "staff"], &[("er", Role::Approver), ("icu", Role::Viewer)]);
    }
}

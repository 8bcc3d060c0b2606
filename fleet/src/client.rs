//! The REST client of the CLI and the builder: the only way in which either reaches a fleet server.
//!
//! Owns addresses, time-outs, and turning every bad answer into one sentence. It must never retry by itself: whoever
//! calls knows whether waiting makes sense (see [`ClientError::is_transient`]).

mod blobs;
mod datasets;
mod error;
mod greeting;
mod runs;

use std::time::Duration;

use reqwest::header::{self, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use blobs::{Shelf, Upload};
pub use datasets::{DatasetVersion, NewVersion};
pub use error::{ClientError, Problem};
pub use greeting::Greeting;
pub use runs::{Champion, CheckBody, Claim, ClaimedRun, Finish, Heartbeat, HeartbeatAnswer, PublishedBundle};

/// Where a fleet server listens when nobody said otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8480";

const ACTOR_HEADER: &str = "x-muster-actor";
const ACTOR_CHARS_MAX: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request's first byte to the answer's last; blobs have no such limit, only [`SILENCE_TIMEOUT`].
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest JSON answer that is read into memory.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Pages that [`Client::list`] follows before it says that there is more.
const PAGES_MAX: usize = 200;

#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// For uploads: silence while a body is on its way out is no sign of anything.
    sending: reqwest::Client,
    server: Url,
    /// Who is said to act, in the server's log.
    actor: Option<HeaderValue>,
    /// What proves who asks: a token or a session. Marked as sensitive, so that nothing prints it.
    proof: Option<(HeaderName, HeaderValue)>,
}

impl Client {
    pub fn new(server: &str) -> Result<Self, ClientError> {
        let wrong = |why: String| ClientError::Address { server: server.to_owned(), why };
        let mut url: Url = server.parse().map_err(|error| wrong(format!("{error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("it must start with http:// or https://".to_owned()));
        }
        url.set_query(None);
        url.set_fragment(None);
        // Err means that the process has a provider already, which is what we want.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
        };
        let setup = |source| ClientError::Setup { source };
        let http = builder().read_timeout(SILENCE_TIMEOUT).tls_info(true).build().map_err(setup)?;
        let sending = builder().build().map_err(setup)?;
        Ok(Self { http, sending, server: url, actor: None, proof: None })
    }

    /// Says who acts; a name that no header can carry is left out.
    #[must_use]
    pub fn acting_as(mut self, name: &str) -> Self {
        let fits =
            (1..=ACTOR_CHARS_MAX).contains(&name.len()) && name.bytes().all(|b| (b' '..=b'~').contains(&b));
        self.actor = HeaderValue::from_str(name).ok().filter(|_| fits);
        self
    }

    /// Proves who asks by a token.
    pub fn with_token(self, token: &str) -> Result<Self, ClientError> {
        self.proving(header::AUTHORIZATION, &format!("Bearer {}", token.trim()))
    }

    /// Proves who asks by a session, begun with a name and a password.
    pub async fn logged_in(self, name: &str, password: &str) -> Result<Self, ClientError> {
        let path = "/api/v1/login";
        let body = serde_json::json!({"name": name, "password": password});
        let request = self.request(Method::POST, path).json(&body).timeout(ANSWER_TIMEOUT);
        let response = self.send(request).await?;
        let cookie = response.headers().get(header::SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        let cookie = cookie
            .ok_or_else(|| ClientError::Shape { path: path.to_owned(), what: "a session in a cookie" })?;
        self.proving(header::COOKIE, &cookie)
    }

    fn proving(mut self, name: HeaderName, value: &str) -> Result<Self, ClientError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| ClientError::Token)?;
        value.set_sensitive(true);
        self.proof = Some((name, value));
        Ok(self)
    }

    pub fn server(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }

    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ClientError> {
        self.json(self.request(Method::GET, path).query(query), path).await
    }

    /// All items of a list, page by page.
    pub async fn list(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ClientError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = query.to_vec();
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page = self.get(path, &query).await?;
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(more)) => items.extend(more),
                _ => return Err(ClientError::Shape { path: path.to_owned(), what: "a list in 'items'" }),
            }
            cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                return Ok(serde_json::json!({ "items": items }));
            }
        }
        Err(ClientError::Shape { path: path.to_owned(), what: "an end: narrow the list by a filter" })
    }

    pub async fn post(
        &self,
        path: &str,
        query: &[(&str, String)],
        body: &(impl Serialize + Sync),
    ) -> Result<Value, ClientError> {
        self.json(self.request(Method::POST, path).query(query).json(body), path).await
    }

    pub async fn put(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<Value, ClientError> {
        self.json(self.request(Method::PUT, path).json(body), path).await
    }

    /// As [`Self::put`], and only if what is there is still the revision that was seen.
    pub async fn put_if(
        &self,
        path: &str,
        seen: Option<u64>,
        body: &(impl Serialize + Sync),
    ) -> Result<Value, ClientError> {
        let mut request = self.request(Method::PUT, path).json(body);
        if let Some(revision) = seen {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        self.json(request, path).await
    }

    /// An answer that is no JSON, such as a page.
    pub async fn text(&self, path: &str, query: &[(&str, String)]) -> Result<String, ClientError> {
        let response =
            self.send(self.request(Method::GET, path).query(query).timeout(ANSWER_TIMEOUT)).await?;
        Ok(String::from_utf8_lossy(&self.bytes(response, ANSWER_BYTES_MAX).await?).into_owned())
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.asking(&self.http, method, path)
    }

    fn asking(&self, http: &reqwest::Client, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut url = self.server.clone();
        url.set_path(&format!("{}{path}", self.server.path().trim_end_matches('/')));
        let mut request = http.request(method, url);
        if let Some(actor) = &self.actor {
            request = request.header(ACTOR_HEADER, actor);
        }
        if let Some((name, value)) = &self.proof {
            request = request.header(name, value);
        }
        request
    }

    async fn json<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        path: &str,
    ) -> Result<T, ClientError> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        self.decode(response, path).await
    }

    async fn decode<T: DeserializeOwned>(&self, response: Response, path: &str) -> Result<T, ClientError> {
        let bytes = self.bytes(response, ANSWER_BYTES_MAX).await?;
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|source| ClientError::Json { path: path.to_owned(), source })
    }

    /// Sends, and turns whatever is not a success into its problem.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| self.network(source))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let is_problem = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/problem+json"));
        let body = self.bytes(response, 256 * 1024).await.unwrap_or_default();
        Err(ClientError::Refused(Box::new(Problem::of(status.as_u16(), is_problem, &body))))
    }

    async fn bytes(&self, mut response: Response, max: usize) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.network(source))? {
            if bytes.len() + chunk.len() > max {
                return Err(ClientError::TooLong { path: response.url().path().to_owned(), max });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn network(&self, source: reqwest::Error) -> ClientError {
        let server = self.server().to_owned();
        // The address is in our own sentence; reqwest would print it a second time.
        let source = source.without_url();
        if source.is_timeout() && !source.is_connect() {
            ClientError::Silent { server, source }
        } else {
            ClientError::Unreachable { server, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, valid: bool| assert_eq!(Client::new(text).is_ok(), valid, "{text}");
        check("http://127.0.0.1:8480", true);
        check("https://fleet.example/muster/", true);
        check("127.0.0.1:8480", false);
        check("ftp://fleet.example", false);
        check("", false);
    }

    #[test]
    fn tokens_are_sent_and_never_shown() {
        let client = Client::new("http://fleet.example").unwrap().with_token("mst_id_secret\n").unwrap();
        assert!(!format!("{client:?}").contains("secret"), "{client:?}");
        let request = client.request(Method::GET, "/x").build().unwrap();
        assert_eq!(request.headers()["authorization"], "Bearer mst_id_secret");
        assert!(Client::new("http://fleet.example").unwrap().with_token("a\nb").is_err());
    }

    #[test]
    fn paths_are_joined_to_the_server() {
        let client = Client::new("http://fleet.example/muster/?x=1").unwrap();
        assert_eq!(client.server(), "http://fleet.example/muster");
        let request = client.request(Method::GET, "/api/v1/devices").build().unwrap();
        assert_eq!(request.url().as_str(), "http://fleet.example/muster/api/v1/devices");
    }
}

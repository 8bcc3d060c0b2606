//! The first words with a server, which anybody may have with it: who it is, what time it has, who vouches for it.

use std::time::Duration;

use muster_protocol::time::Timestamp;
use reqwest::header;
use reqwest::tls::TlsInfo;
use reqwest::{Method, Response};
use serde::Deserialize;
use tokio::time::Instant;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Client, ClientError};

const PATH: &str = "/healthz";
/// Long enough for a server far away, short enough for a person who waits.
const WITHIN: Duration = Duration::from_secs(10);

/// What a server says of itself before it knows who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    /// Its clock, to the second, in the middle of `took`.
    pub date: Option<Timestamp>,
    pub took: Duration,
    /// Until when its certificate is good, where TLS was spoken.
    pub certificate_expires: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Health {
    version: String,
}

impl Client {
    pub async fn greet(&self) -> Result<Greeting, ClientError> {
        let began = Instant::now();
        let response = self.send(self.request(Method::GET, PATH).timeout(WITHIN)).await?;
        let took = began.elapsed();
        let (date, certificate_expires) = (date(&response), certificate_expires(&response));
        let Health { version } = self.decode(response, PATH).await?;
        Ok(Greeting { version, date, took, certificate_expires })
    }
}

fn date(response: &Response) -> Option<Timestamp> {
    let text = response.headers().get(header::DATE)?.to_str().ok()?;
    let at = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp::from_millis(at.timestamp().as_millisecond()))
}

fn certificate_expires(response: &Response) -> Option<Timestamp> {
    let der = response.extensions().get::<TlsInfo>()?.peer_certificate()?;
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(Timestamp::from_seconds(certificate.validity().not_after.timestamp()))
}

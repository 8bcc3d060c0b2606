//! The way out for mail: one relay, which is told one letter at a time.
//!
//! ```text
//!   connect ─ TLS ─ log in ─ from ─ to, each by itself ─ "here it comes" ─┬─ the text ─▶ taken, or not
//!            nobody has it, whatever goes wrong                           └─ breaks off: somebody may have it
//! ```
//! One connection a letter: there are a few a day. Never sends a password over a line that is not encrypted, unless it ends
//! within this machine.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, SinglePart};
use lettre::transport::smtp::Error as Refusal;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use muster_protocol::time::Timestamp;
use zeroize::Zeroizing;

use crate::config::{MailConfig, RelayUrl, Wrapped};
use crate::needs::book::{Answer, Fate};
use crate::needs::letter::plain;

const CONNECT: Duration = Duration::from_secs(10);
/// A polite end is not waited for longer.
const FAREWELL: Duration = Duration::from_secs(2);
const PASSWORD_BYTES_MAX: usize = 1024;
const SAID_CHARS_MAX: usize = 300;

#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    #[error("the password file {} cannot be read", path.display())]
    Password {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the password file {} holds no password", path.display())]
    NoPassword { path: PathBuf },
    #[error("[mail] ca {} cannot be read", path.display())]
    Ca {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no TLS can be made with what [mail] says")]
    Tls(#[source] Refusal),
    #[error("the letter cannot be written")]
    Letter(#[source] lettre::error::Error),
    #[error("{relay} cannot be reached: {why}")]
    Unreachable { relay: String, why: String },
    #[error("{relay} offers no STARTTLS, and nothing is sent without")]
    NoTls { relay: String },
    #[error("{relay} does not let {user} in: {why}")]
    LogIn { relay: String, user: String, why: String },
    #[error("{relay} does not take mail now: {why}")]
    Busy { relay: String, why: String },
    #[error("{relay} does not answer")]
    Silent { relay: String },
    #[error("{relay} broke off while it took a letter: {why}")]
    Unknown { relay: String, why: String },
}

impl SmtpError {
    /// Whether somebody may have the letter all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// A letter, addressed.
#[derive(Clone, Debug)]
pub struct Letter<'a> {
    /// The same however often it is sent: what stands before the `@` of its `Message-ID`.
    pub id: String,
    pub at: Timestamp,
    pub subject: &'a str,
    pub body: &'a str,
    /// Whom it names.
    pub to: &'a [Mailbox],
}

/// The server's relay. Holds no connection and no password.
pub struct Relay {
    url: RelayUrl,
    user: Option<(String, PathBuf)>,
    from: Mailbox,
    hello: ClientId,
    tls: Option<TlsParameters>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Relay {
    /// `name`: what this machine calls itself.
    pub fn new(config: &MailConfig, name: &str) -> Result<Self, SmtpError> {
        let user = config.relay.user.clone().zip(config.password_file.clone());
        let tls = config.relay.is_encrypted(config.ca.is_some()).then(|| trusting(config)).transpose()?;
        let hello = match name.parse() {
            Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
            Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
            Err(_) => ClientId::Domain(name.to_owned()),
        };
        let relay = Self { url: config.relay.clone(), user, from: config.from.clone(), hello, tls };
        // A password that is missing from the first is a mistake to be told of at once.
        relay.credentials()?;
        Ok(relay)
    }

    /// Sends a letter to each of `to`, and says what the relay said of each.
    pub async fn send(
        &self,
        letter: &Letter<'_>,
        to: &[Mailbox],
        patience: Duration,
    ) -> Result<Vec<Answer>, SmtpError> {
        let bytes = self.message(letter)?;
        let silent = |_| SmtpError::Silent { relay: self.url.to_string() };
        let ready = tokio::time::timeout(patience, self.ready(to)).await.map_err(silent)??;
        let Ready { mut connection, accepted, mut answers } = ready;
        if !accepted.is_empty() {
            let told = tokio::time::timeout(patience, connection.message(&bytes)).await;
            let (fate, words) = match told {
                Ok(told) => fate(told).map_err(|why| self.unknown(&why))?,
                Err(_) => return Err(self.unknown("it does not answer")),
            };
            answers.extend(accepted.into_iter().map(|to| Answer { to, fate, said: words.clone() }));
        }
        // The letter's fate is known; a relay that does not say good-bye changes nothing.
        tokio::time::timeout(FAREWELL, connection.quit()).await.ok();
        Ok(answers)
    }

    /// Everything up to where the text begins.
    async fn ready(&self, to: &[Mailbox]) -> Result<Ready, SmtpError> {
        let mut connection = self.connect().await?;
        let busy = |refusal: Refusal| SmtpError::Busy { relay: self.url.to_string(), why: said(&refusal) };
        let from = Mail::new(Some(self.from.email.clone()), Vec::new());
        connection.command(from).await.map_err(busy)?;
        let (mut accepted, mut answers) = (Vec::new(), Vec::new());
        for mailbox in to {
            let to = mailbox.email.to_string();
            let told = connection.command(Rcpt::new(mailbox.email.clone(), Vec::new())).await;
            match told {
                Ok(_) => accepted.push(to),
                Err(refusal) if refusal.status().is_some() => {
                    let fate = if refusal.is_permanent() { Fate::Refused } else { Fate::Later };
                    answers.push(Answer { to, fate, said: said(&refusal) });
                }
                Err(refusal) => return Err(busy(refusal)),
            }
        }
        if !accepted.is_empty() {
            connection.command(Data).await.map_err(busy)?;
        }
        Ok(Ready { connection, accepted, answers })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let relay = self.url.to_string();
        let place = (self.url.host.as_str(), self.url.port);
        let at_once = self.tls.clone().filter(|_| self.url.wrapped == Wrapped::AtOnce);
        let connect = AsyncSmtpConnection::connect_tokio1(place, Some(CONNECT), &self.hello, at_once, None);
        let unreachable =
            |refusal: Refusal| SmtpError::Unreachable { relay: relay.clone(), why: said(&refusal) };
        let mut connection = connect.await.map_err(unreachable)?;
        if let (Wrapped::Asked, Some(tls)) = (self.url.wrapped, &self.tls) {
            if !connection.can_starttls() {
                return Err(SmtpError::NoTls { relay });
            }
            connection.starttls(tls.clone(), &self.hello).await.map_err(unreachable)?;
        }
        if let Some((user, credentials)) = self.credentials()? {
            let refused =
                |refusal: Refusal| SmtpError::LogIn { relay: relay.clone(), user, why: said(&refusal) };
            connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(refused)?;
        }
        Ok(connection)
    }

    fn credentials(&self) -> Result<Option<(String, Credentials)>, SmtpError> {
        let Some((user, path)) = &self.user else { return Ok(None) };
        let read = std::fs::read_to_string(path).map(Zeroizing::new);
        let text = read.map_err(|source| SmtpError::Password { path: path.clone(), source })?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX || password.contains(['\r', '\n']) {
            return Err(SmtpError::NoPassword { path: path.clone() });
        }
        Ok(Some((user.clone(), Credentials::new(user.clone(), password.to_owned()))))
    }

    /// As it travels: headers and text, all of it ASCII.
    fn message(&self, letter: &Letter<'_>) -> Result<Vec<u8>, SmtpError> {
        let id = format!("<{}@{}>", letter.id, self.from.email.domain());
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(letter.subject)
            .date(letter.at.to_jiff().into())
            .message_id(Some(id))
            .header(AutoSubmitted);
        for mailbox in letter.to {
            message = message.to(mailbox.clone());
        }
        let message = message
            .singlepart(SinglePart::plain(letter.body.trim_end().to_owned()))
            .map_err(SmtpError::Letter)?;
        Ok(message.formatted())
    }

    fn unknown(&self, why: &str) -> SmtpError {
        SmtpError::Unknown { relay: self.url.to_string(), why: why.to_owned() }
    }
}

/// A relay that waits for the text.
struct Ready {
    connection: AsyncSmtpConnection,
    accepted: Vec<String>,
    answers: Vec<Answer>,
}

/// `Auto-Submitted: auto-generated`: nobody's absence note is to answer us (RFC 3834).
#[derive(Clone, Copy, Debug)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn trusting(config: &MailConfig) -> Result<TlsParameters, SmtpError> {
    // Err means that the process has a provider already, which is what we want.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let mut tls = TlsParameters::builder(config.relay.host.clone());
    if let Some(path) = &config.ca {
        let pem = std::fs::read(path).map_err(|source| SmtpError::Ca { path: path.clone(), source })?;
        let authorities = Certificate::from_pem(&pem).map_err(SmtpError::Tls)?;
        tls = tls.certificate_store(CertificateStore::None).add_root_certificate(authorities);
    }
    tls.build().map_err(SmtpError::Tls)
}

/// What the relay's last word on a letter means, or why it is none.
fn fate(told: Result<Response, Refusal>) -> Result<(Fate, String), String> {
    match told {
        Ok(response) => {
            let words: Vec<&str> = response.message().collect();
            Ok((Fate::Taken, plain(&format!("{} {}", response.code(), words.join(" ")), SAID_CHARS_MAX)))
        }
        Err(refusal) if refusal.is_permanent() => Ok((Fate::Refused, said(&refusal))),
        Err(refusal) if refusal.is_transient() => Ok((Fate::Later, said(&refusal))),
        Err(refusal) => Err(said(&refusal)),
    }
}

/// A relay's words, as one line.
fn said(refusal: &Refusal) -> String {
    plain(&refusal.to_string(), SAID_CHARS_MAX)
}

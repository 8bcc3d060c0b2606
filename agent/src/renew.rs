//! Keeps this box's certificate fresh: asks for the next one from a third of its life left, and at once when it has
//! expired, is gone, or the broker does not like it.
//!
//! ```text
//!   look (every minute) ──not due──▶ wait
//!        │ due, after some jitter
//!        ▼
//!   POST /v1/renew ──certificate──▶ keep it beside the old one ─▶ tell the loop, which connects with it
//!        │ no answer: again, ever later      refused: say so, again after hours; whatever runs goes on
//! ```
//!
//! Renewal shows no certificate, so it works after any time offline. It decides nothing about models: a box whose
//! membership has ended runs what it runs.

use std::time::{Duration, Instant};

use muster_protocol::enrol::{EnrolState, Enrolled};
use muster_protocol::ids::DeviceId;
use muster_protocol::message::Refusal;
use muster_protocol::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::address::{Address, AddressError};
use crate::back_off::{BackOff, within};
use crate::chain;
use crate::clock::{TrustClock, monotonic};
use crate::door::{Door, DoorError};
use crate::identity::{Certificate, Identity, IdentityError, KeyError, jitter};
use crate::tls::{self, TlsError};

const QUEUE: usize = 8;
/// Failures that are not spoken of yet: a network may be down for a while.
const QUIET: u32 = 3;
const UNRENEWED: &str = "certificate_not_renewed";
const PENDING: &str = "pending";

#[derive(Clone, Debug)]
pub struct RenewConfig {
    pub identity: Identity,
    pub device: DeviceId,
    pub clock: TrustClock,
    /// The TLS authorities of the root that is trusted now, PEM.
    pub authorities: watch::Receiver<Vec<String>>,
}

/// What it has to say to the loop.
#[derive(Debug)]
pub enum Said {
    /// There is another certificate: from here, or from a `rekey` beside this process.
    Changed { expires: Timestamp },
    /// Why there is none, while that is so.
    Trouble(Option<Refusal>),
}

/// Tells the task. It ends when this is dropped.
#[derive(Debug)]
pub struct Renewer {
    doubts: mpsc::Sender<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    #[error("this box's identity cannot be used")]
    Identity(#[from] IdentityError),
    #[error("the key cannot be used")]
    Key(#[from] KeyError),
    #[error("the enrolment names a server that is none")]
    Address(#[from] AddressError),
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    #[error("no fresh certificate was had")]
    Door(#[from] DoorError),
    #[error("the fleet answered for {0}, which is another device")]
    OtherDevice(DeviceId),
    #[error("the fleet has not accepted this box: accept it there, or look why not ('muster device show')")]
    Pending,
}

/// How eager it is.
#[derive(Clone, Copy, Debug)]
struct Pace {
    look_every: Duration,
    /// Over how long the boxes of a fleet that fall due together spread.
    spread_max: Duration,
    failed: BackOff,
    refused: BackOff,
    /// A certificate that is there is taken to the door this often at most, whoever dislikes it.
    doubt_every: Duration,
}

impl Pace {
    fn of(local: bool) -> Self {
        let seconds = Duration::from_secs;
        if local {
            Self {
                look_every: seconds(1),
                spread_max: seconds(1),
                failed: BackOff { shortest: Duration::from_millis(200), longest: seconds(5) },
                refused: BackOff { shortest: seconds(2), longest: seconds(5) },
                doubt_every: seconds(2),
            }
        } else {
            let (minutes, hours) = (Duration::from_mins, Duration::from_hours);
            Self {
                look_every: minutes(1),
                spread_max: hours(6),
                failed: BackOff { shortest: seconds(10), longest: hours(1) },
                refused: BackOff { shortest: hours(1), longest: hours(6) },
                doubt_every: hours(1),
            }
        }
    }
}

impl Renewer {
    /// The broker seems not to like this box's certificate.
    pub fn doubt(&self) {
        if self.doubts.try_send(()).is_err() {
            tracing::debug!("the certificate is in doubt already");
        }
    }
}

/// Starts the task.
pub fn start(config: RenewConfig, tasks: &mut JoinSet<()>) -> (Renewer, mpsc::Receiver<Said>) {
    let (doubts, doubted) = mpsc::channel(1);
    let (said, receiver) = mpsc::channel(QUEUE);
    let watcher = Watcher {
        config,
        said,
        serial: None,
        failures: 0,
        attempt_at: None,
        attempted: None,
        troubled: false,
    };
    tasks.spawn(watcher.live(doubted));
    (Renewer { doubts }, receiver)
}

struct Watcher {
    config: RenewConfig,
    said: mpsc::Sender<Said>,
    /// Of the certificate seen last.
    serial: Option<String>,
    failures: u32,
    attempt_at: Option<Instant>,
    attempted: Option<Instant>,
    troubled: bool,
}

/// The loop has ended.
struct Gone;

impl Watcher {
    async fn live(mut self, mut doubted: mpsc::Receiver<()>) {
        loop {
            let pace = self.pace();
            let Ok(certificate) = self.look().await else { return };
            let now = monotonic();
            if self.attempt_at.is_none() && self.is_due(certificate.as_ref(), now, &pace) {
                self.attempt_at = Some(now + self.spread(certificate.as_ref(), &pace));
            }
            if self.attempt_at.is_some_and(|at| at <= now) {
                if self.attempt(certificate.as_ref(), &pace).await.is_err() {
                    return;
                }
                continue;
            }
            let wait = self.attempt_at.map_or(pace.look_every, |at| (at - now).min(pace.look_every));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                doubt = doubted.recv() => match doubt {
                    Some(()) => self.doubted(&pace),
                    None => return,
                }
            }
        }
    }

    /// Reads the certificate, and says if it is another one than before.
    async fn look(&mut self) -> Result<Option<Certificate>, Gone> {
        let certificate = match self.config.identity.certificate() {
            Ok(certificate) => certificate,
            Err(error) => {
                tracing::error!(error = chain(&error), "this box's certificate cannot be read");
                None
            }
        };
        if let Some(found) = &certificate
            && self.serial.as_ref() != Some(&found.serial)
        {
            let first = self.serial.replace(found.serial.clone()).is_none();
            if !first {
                (self.failures, self.attempt_at) = (0, None);
                self.say(Said::Changed { expires: found.expires }).await?;
            }
        }
        Ok(certificate)
    }

    /// What a fresh certificate says of its life may look over at once to a box that was lied to about the time, or whose
    /// clock is far ahead: it must not ask without a pause.
    fn is_due(&self, certificate: Option<&Certificate>, now: Instant, pace: &Pace) -> bool {
        certificate
            .is_none_or(|found| self.config.clock.now() >= found.renew_from() && !self.just_asked(now, pace))
    }

    fn just_asked(&self, now: Instant, pace: &Pace) -> bool {
        self.attempted.is_some_and(|at| now.saturating_duration_since(at) < pace.doubt_every)
    }

    /// While the old one is good there is no hurry; without one there is.
    fn spread(&self, certificate: Option<&Certificate>, pace: &Pace) -> Duration {
        let left = certificate.map_or(Duration::ZERO, |found| found.expires.since(self.config.clock.now()));
        within((left / 10).min(pace.spread_max), jitter())
    }

    fn doubted(&mut self, pace: &Pace) {
        let now = monotonic();
        if !self.just_asked(now, pace) && self.attempt_at.is_none() {
            tracing::warn!("the broker does not accept this box; asking the fleet for a fresh certificate");
            self.attempt_at = Some(now);
        }
    }

    async fn attempt(&mut self, before: Option<&Certificate>, pace: &Pace) -> Result<(), Gone> {
        self.attempted = Some(monotonic());
        let error = match renew(&self.config).await {
            Ok(certificate) => {
                tracing::info!(
                    certificate.serial,
                    expires = %certificate.expires,
                    "the certificate was renewed"
                );
                (self.failures, self.attempt_at) = (0, None);
                return self.trouble(None).await;
            }
            Err(error) => error,
        };
        self.failures = self.failures.saturating_add(1);
        let refusal = refusal(&error);
        let back_off = if refusal.is_some() { pace.refused } else { pace.failed };
        let wait = back_off.wait(self.failures, jitter());
        self.attempt_at = Some(monotonic() + wait);
        tracing::warn!(
            error = chain(&error),
            failures = self.failures,
            again_s = wait.as_secs(),
            "the certificate is not renewed"
        );
        let expired = before.is_none_or(|found| found.expires <= self.config.clock.now());
        match refusal {
            Some(refusal) => self.trouble(Some(refusal)).await,
            None if expired || self.failures >= QUIET => {
                let sentence = format!("the certificate is not renewed: {}", chain(&error)).into();
                self.trouble(Some(Refusal { code: UNRENEWED.to_owned(), sentence })).await
            }
            None => Ok(()),
        }
    }

    async fn trouble(&mut self, trouble: Option<Refusal>) -> Result<(), Gone> {
        if trouble.is_none() && !self.troubled {
            return Ok(());
        }
        self.troubled = trouble.is_some();
        self.say(Said::Trouble(trouble)).await
    }

    async fn say(&self, said: Said) -> Result<(), Gone> {
        self.said.send(said).await.map_err(|_| Gone)
    }

    fn pace(&self) -> Pace {
        let server = self.config.identity.enrolment().ok().and_then(|it| Address::https(&it.server).ok());
        Pace::of(server.is_some_and(|server| server.is_local()))
    }
}

/// One attempt. The certificate is on disk when this returns.
async fn renew(config: &RenewConfig) -> Result<Certificate, RenewError> {
    let RenewConfig { identity, device, clock, authorities } = config;
    let csr = identity.key()?.csr()?;
    let tls = tls::client(&authorities.borrow(), None, clock)?;
    let door = Door::new(Address::https(&identity.enrolment()?.server)?, tls);
    let (certificate, mqtt) = certified(door.renew(csr).await?, device)?;
    Ok(identity.keep_renewed(&certificate, &mqtt)?)
}

/// The certificate and the broker in an answer that is for this device.
pub(crate) fn certified(answer: Enrolled, device: &DeviceId) -> Result<(String, String), RenewError> {
    if answer.device != *device {
        return Err(RenewError::OtherDevice(answer.device));
    }
    match answer.state {
        EnrolState::Active { certificate, mqtt } => Ok((certificate, mqtt)),
        EnrolState::Pending => Err(RenewError::Pending),
    }
}

/// What only a person can change.
fn refusal(error: &RenewError) -> Option<Refusal> {
    let (code, sentence) = match error {
        RenewError::Door(DoorError::Refused(refused)) if refused.status != 429 && refused.status < 500 => (
            refused.code.clone(),
            format!("the fleet does not renew this box's certificate: {}", refused.sentence),
        ),
        RenewError::Pending => (PENDING.to_owned(), error.to_string()),
        RenewError::Door(_)
        | RenewError::Identity(_)
        | RenewError::Key(_)
        | RenewError::Address(_)
        | RenewError::Tls(_)
        | RenewError::OtherDevice(_) => return None,
    };
    Some(Refusal { code: format!("membership_{code}"), sentence: sentence.into() })
}

#[cfg(test)]
mod tests {
    use muster_protocol::enrol::Fingerprint;

    use super::*;
    use crate::door::Refused;

    #[test]
    fn only_what_a_person_can_change_is_a_refusal() {
        let check = |error: RenewError, wanted: Option<&str>| {
            assert_eq!(refusal(&error).map(|refusal| refusal.code).as_deref(), wanted, "{error:?}");
        };
        let refused = |status| {
            let refused = Refused { status, code: "revoked".to_owned(), sentence: "lost".to_owned() };
            RenewError::Door(DoorError::Refused(refused))
        };
        check(refused(403), Some("membership_revoked"));
        check(refused(429), None);
        check(refused(503), None);
        check(RenewError::Pending, Some("membership_pending"));
        let address = Address::https("https://localhost:1").unwrap();
        check(RenewError::Door(DoorError::Slow { address }), None);
    }

    #[test]
    fn an_answer_for_another_device_is_none() {
        let (mine, other) = (DeviceId::mint([1; 16]), DeviceId::mint([2; 16]));
        let state = EnrolState::Active { certificate: "pem".to_owned(), mqtt: "mqtts://a:1".to_owned() };
        let answer = Enrolled { v: 1, device: mine.clone(), fingerprint: Fingerprint::of(b""), state };
        assert!(matches!(certified(answer.clone(), &other), Err(RenewError::OtherDevice(_))));
        assert_eq!(certified(answer, &mine).unwrap().1, "mqtts://a:1");
    }
}

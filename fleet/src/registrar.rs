//! Keeps the register of devices: answers boxes that want a certificate, and people who decide about boxes.
//!
//! ```text
//!   door ─▶ enrol · renew · rekey ─┐                          ┌─▶ certificate
//!                                  ├─▶ mind ─▶ one commit ─▶ ─┼─▶ Admission: who may be connected, at once
//!   API  ─▶ enrolments · decide  ──┘    (and to the disk)     └─▶ list of revoked certificates, in the same deed
//! ```
//! The database is the truth. What stands beside it, the admission and the list of revoked certificates, is made from it
//! after each commit, at the start and once a day, so that a server killed in between only has to start again. A decision
//! is on the disk before anybody is told of it: neither a revocation nor a certificate may be undone by a power cut.

mod decide;
mod files;
mod issue;
mod offline;
mod roll;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::enrol::{CERTIFICATE_LIFE_DAYS, Fingerprint};
use muster_protocol::ids::{DeviceId, EnrolmentId};
use muster_protocol::message::Sentence;
use muster_protocol::time::Timestamp;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::clock::{Clocks, Moment};
use crate::enrolment::{NotNow, Refusal, StandingName};
use crate::mint::MintError;
use crate::pki::{Pki, PkiError, Revoked};
use crate::store::log::{Actor, NewEntry};
use crate::store::{ControlTx, Store, StoreError, certificates, enrolments, identities, log};

pub use decide::Compared;
pub use files::{NewEnrolment, RootLack};
pub use issue::Asked;
pub use offline::{OfflineError, export_file, import_file};
pub use roll::{Imported, Roll, RollError, export, import};

/// The list of revoked certificates is written anew at least so often.
const LIST_EVERY: Duration = Duration::from_hours(24);
/// No certificate lives longer; a day more, for clocks.
const CERTIFICATE_LIFE: Duration = Duration::from_hours(24 * (CERTIFICATE_LIFE_DAYS as u64 + 1));
/// How often the clock is looked at.
const UPKEEP: Duration = Duration::from_hours(1);
/// After a failure.
const BACK_OFF: Duration = Duration::from_mins(1);
/// How long expired certificates and enrolments are remembered, for people who ask what happened.
const REMEMBERED: Duration = Duration::from_hours(24 * 30);
/// Rows forgotten in one transaction.
const FORGOTTEN_AT_ONCE: u32 = 1000;

#[derive(Debug, thiserror::Error)]
pub enum RegistrarError {
    /// The box is told so; nothing changed.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    #[error("there is no such device")]
    NoDevice,
    #[error("there is no such enrolment")]
    NoEnrolment,
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// Somebody compared, and it is another key.
    #[error("the key's fingerprint is {is}, not the one you compared with")]
    OtherKey { is: Fingerprint },
    #[error("nothing speaks against the device")]
    NoDoubt,
    #[error(transparent)]
    Root(#[from] RootLack),
    #[error("the database failed")]
    Store(#[from] StoreError),
    #[error("a certificate cannot be made")]
    Pki(#[from] PkiError),
    #[error("a new name cannot be made")]
    Mint(#[from] MintError),
    #[error("what was decided was cut off; see what became of it")]
    CutOff(#[from] JoinError),
}

/// Where boxes find the fleet, as it stands in what they are given.
#[derive(Clone, Debug)]
pub struct Places {
    /// `https://host:port`.
    pub door: String,
    /// `mqtts://host:port`.
    pub mqtt: String,
}

#[derive(Debug)]
pub struct Registrar {
    store: Store,
    pki: Arc<Pki>,
    admission: Admission,
    clocks: Clocks,
    places: Places,
    /// Commits and what follows from them, one after the other: a late admission must not undo a revocation.
    turn: Mutex<()>,
    /// Decisions that are being carried out; whoever asked for one may be gone.
    deeds: TaskTracker,
    list: Mutex<Option<Listed>>,
    retired: Arc<Notify>,
}

/// The list of revoked certificates as it was written last.
#[derive(Debug)]
struct Listed {
    at: Timestamp,
    revoked: Vec<Revoked>,
}

impl Registrar {
    pub fn new(store: Store, pki: Arc<Pki>, admission: Admission, clocks: Clocks, places: Places) -> Self {
        let (turn, list, retired) = (Mutex::new(()), Mutex::new(None), Arc::new(Notify::new()));
        let deeds = TaskTracker::new();
        Self { store, pki, admission, clocks, places, turn, deeds, list, retired }
    }

    /// Told by whoever retires a key outside of this file: its certificates must get onto the list.
    pub fn retired(&self) -> Arc<Notify> {
        self.retired.clone()
    }

    /// Keeps the list of revoked certificates fresh and forgets what is long over, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let pause = match self.upkeep().await {
                Ok(()) => UPKEEP,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the list of revoked certificates is not up to date; trying again"
                    );
                    BACK_OFF
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                () = self.retired.notified() => {}
            }
        }
        self.deeds.close();
        self.deeds.wait().await;
    }

    async fn upkeep(&self) -> Result<(), RegistrarError> {
        let now = self.clocks.trust.now();
        let mut tx = self.store.write().await?;
        let before = now.minus(REMEMBERED);
        certificates::trim(&mut tx, before, FORGOTTEN_AT_ONCE).await?;
        enrolments::trim(&mut tx, before, FORGOTTEN_AT_ONCE).await?;
        tx.commit().await?;
        let gone = identities::in_state(&mut self.store.read().await?, StandingName::Revoked).await?;
        // That is for good, so nobody is barred here who was just let in.
        for device in &gone {
            self.admission.bar(device);
        }
        let revoked = revoked(&self.store, now).await?;
        let fresh = |listed: &Listed| listed.revoked == revoked && now.since(listed.at) < LIST_EVERY;
        if self.list.lock().await.as_ref().is_some_and(fresh) {
            return Ok(());
        }
        self.write_list().await
    }

    /// Writes the list of revoked certificates as the database has it now. Writers take turns and read inside theirs, so
    /// that an older list never replaces a newer one.
    async fn write_list(&self) -> Result<(), RegistrarError> {
        let mut listed = self.list.lock().await;
        let now = self.clocks.trust.now();
        let revoked = write_list(&self.store, &self.pki, now).await?;
        *listed = Some(Listed { at: now, revoked });
        Ok(())
    }

    /// After a deed that revoked something. A failure leaves the deed done: the fleet refuses by its table already.
    async fn list_revoked(&self) {
        if let Err(error) = self.write_list().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "revoked here, but the broker's list of revoked certificates was not written; trying again"
            );
            self.retired.notify_one();
        }
    }

    /// Commits, and waits until the disk has it.
    async fn commit(&self, tx: ControlTx) -> Result<(), StoreError> {
        tx.commit().await?;
        self.store.persist().await
    }
}

/// Whom the broker lets in, as the database has it: to be admitted before anybody can connect.
pub async fn members(store: &Store) -> Result<BTreeSet<DeviceId>, StoreError> {
    let mut db = store.read().await?;
    let mut members = identities::in_state(&mut db, StandingName::Active).await?;
    members.extend(identities::in_state(&mut db, StandingName::Quarantined).await?);
    Ok(members)
}

/// Writes the list of revoked certificates as the database has it, and returns that: to be done before anybody can connect,
/// whatever the list in the folder says.
pub async fn write_list(store: &Store, pki: &Pki, now: Timestamp) -> Result<Vec<Revoked>, RegistrarError> {
    let revoked = revoked(store, now).await?;
    let mut list = revoked.clone();
    // A database that was lost does not know what it once revoked. Nothing leaves the list before it must have expired.
    let alive = |old: &Revoked| old.at.plus(CERTIFICATE_LIFE) > now;
    list.extend(pki.listed().into_iter().filter(alive));
    list.sort();
    list.dedup_by(|a, b| a.serial == b.serial);
    pki.write_crl(&list, now)?;
    Ok(revoked)
}

async fn revoked(store: &Store, now: Timestamp) -> Result<Vec<Revoked>, StoreError> {
    let found = certificates::revoked(&mut store.read().await?, now).await?;
    Ok(found.into_iter().map(|one| Revoked { serial: one.serial, at: one.at }).collect())
}

/// An entry about a device.
async fn say(
    tx: &mut ControlTx,
    when: Moment,
    device: &DeviceId,
    (kind, sentence): (&'static str, String),
    actor: Actor,
) -> Result<(), StoreError> {
    entry(tx, when, device.to_string(), (kind, sentence), actor).await
}

/// An entry about an enrolment.
async fn say_of(
    tx: &mut ControlTx,
    when: Moment,
    enrolment: &EnrolmentId,
    (kind, sentence): (&'static str, String),
    actor: Actor,
) -> Result<(), StoreError> {
    entry(tx, when, enrolment.to_string(), (kind, sentence), actor).await
}

async fn entry(
    tx: &mut ControlTx,
    when: Moment,
    subject: String,
    (kind, sentence): (&'static str, String),
    actor: Actor,
) -> Result<(), StoreError> {
    log::append(tx, &NewEntry { when, kind, subject, sentence: Sentence::from(sentence), actor }).await?;
    Ok(())
}

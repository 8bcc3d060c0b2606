//! Pieces that several resources show.

use std::collections::BTreeMap;

use muster_protocol::ids::Digest;
use muster_protocol::message::up;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::extract::Acting;
use super::problem::{Answer, Problem};
use super::time::{Time, real};
use crate::rollout::Cause;
use crate::store::log::{self, Actor, LogEntry, NewEntry};
use crate::store::{Control, ControlTx, Page, bundles};

/// Entries of a timeline at most: the newest.
const TIMELINE_MAX: u32 = 200;
/// Longest reason that is kept.
const REASON_CHARS_MAX: usize = 500;

/// A bundle by name and by identity, the SHA-256 of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct BundleName {
    /// Absent if the registry does not know the digest any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    pub(crate) sha256: String,
}

impl From<&up::BundleRef> for BundleName {
    fn from(bundle: &up::BundleRef) -> Self {
        Self {
            path: Some(bundle.path.to_string()),
            version: Some(bundle.path.version().to_string()),
            sha256: bundle.sha256.to_string(),
        }
    }
}

impl BundleName {
    /// Names a bundle of which only the digest is known.
    pub(crate) async fn find(db: &mut Control, sha256: &Digest) -> Answer<Self> {
        let bundle = bundles::get(db, sha256).await?;
        Ok(Self {
            path: bundle.as_ref().map(|bundle| bundle.path.to_string()),
            version: bundle.as_ref().map(|bundle| bundle.path.version().to_string()),
            sha256: sha256.to_string(),
        })
    }
}

/// A code for machines, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reason {
    pub(crate) code: String,
    pub(crate) sentence: String,
}

impl From<&Cause> for Reason {
    fn from(cause: &Cause) -> Self {
        Self { code: cause.code.clone(), sentence: cause.sentence.clone() }
    }
}

/// Why something does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct WaitingFor {
    pub(crate) code: String,
    pub(crate) sentence: String,
    /// What happens next, or what a person can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// How many devices it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) devices: Option<usize>,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Who {
    /// `fleet`, `device`, `person`, `builder` or `policy`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
}

impl From<&Actor> for Who {
    fn from(actor: &Actor) -> Self {
        let (kind, name) = match actor {
            Actor::Fleet => ("fleet", "fleet".to_owned()),
            Actor::Device(id) => ("device", id.to_string()),
            Actor::Person(name) => ("person", name.clone()),
            Actor::Builder(name) => ("builder", name.clone()),
            Actor::Policy(model) => ("policy", model.to_string()),
        };
        Self { kind, name }
    }
}

/// Something that happened to the thing shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TimelineEntry {
    pub(crate) at: Time,
    pub(crate) world_at: Time,
    pub(crate) kind: String,
    pub(crate) sentence: String,
    pub(crate) actor: Who,
}

impl From<LogEntry> for TimelineEntry {
    fn from(entry: LogEntry) -> Self {
        let LogEntry { when, kind, sentence, actor, .. } = entry;
        let actor = Who::from(&actor);
        Self { at: when.at.into(), world_at: when.world_at.into(), kind, sentence, actor }
    }
}

/// What the log says of a subject, the oldest first.
pub(crate) async fn timeline(db: &mut Control, subject: &str) -> Answer<Vec<TimelineEntry>> {
    let newest = log::before(db, Some(subject), &Page::first(TIMELINE_MAX)).await?;
    Ok(newest.into_iter().rev().map(TimelineEntry::from).collect())
}

/// Writes down what a person did.
pub(super) async fn append(
    app: &App,
    tx: &mut ControlTx,
    kind: &'static str,
    subject: String,
    sentence: String,
    acting: &Acting,
) -> Answer<()> {
    let when = app.fleet.clocks.moment();
    let entry = NewEntry { when, kind, subject, sentence: sentence.into(), actor: acting.for_log() };
    log::append(tx, &entry).await?;
    Ok(())
}

/// Why a person acts: kept in the log.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhyBody {
    #[serde(default)]
    #[schema(max_length = 500)]
    pub(crate) reason: String,
}

impl WhyBody {
    /// The reason, if it is not too long. It may be empty where the act allows that.
    pub(crate) fn reason(&self) -> Answer<&str> {
        let reason = self.reason.trim();
        if reason.chars().count() > REASON_CHARS_MAX {
            let detail = format!("a reason has at most {REASON_CHARS_MAX} characters");
            return Err(Problem::invalid("/reason", detail));
        }
        Ok(reason)
    }

    pub(crate) fn needed(&self) -> Answer<&str> {
        match self.reason()? {
            "" => Err(Problem::invalid("/reason", "give a reason; it is kept in the log")),
            reason => Ok(reason),
        }
    }
}

/// `: why`, or nothing.
pub(crate) fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// Devices by bundle.
pub(crate) type Spread = BTreeMap<Digest, u64>;

impl App {
    /// World time as real time.
    pub(crate) fn real(&self, world: muster_protocol::time::Timestamp) -> Time {
        real(self.fleet.clocks.world.scale(), world)
    }
}

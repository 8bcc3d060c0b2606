//! Why a retraining is asked for. Its id follows the loop to the last device.

use std::time::Duration;

use muster_protocol::ids::{Digest, IncidentId, ModelName, RunId, StreamName, TriggerId};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rollout::Cause;

/// A refusal that comes again within so much world time, for the same reason, is counted and not written again.
pub const COLLAPSE: Duration = Duration::from_hours(24);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    pub id: TriggerId,
    pub model: ModelName,
    /// World time.
    pub at: Timestamp,
    pub why: Why,
    pub outcome: TriggerOutcome,
    /// How often it was asked, all for the same reason and with the same answer.
    #[serde(default = "once")]
    pub times: u64,
    /// When it was asked last, if more than once; world time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

fn once() -> u64 {
    1
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Why {
    Drift {
        incident: IncidentId,
        onset: Timestamp,
        streams: Vec<StreamName>,
        /// The bundle whose reference it is that the world has left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<Digest>,
    },
    /// The answers do not come true any more.
    Labels {
        incident: IncidentId,
        onset: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<Digest>,
    },
    /// The owner's calendar says so.
    Schedule {
        due: Timestamp,
    },
    /// So many labels came in since the last run.
    Volume {
        labels: u64,
    },
    /// Somebody else's registry has a version that is to be fetched, held to the champion and signed here.
    Registry {
        /// The message that said so, by its own id.
        delivery: String,
        /// The model as it is called there.
        name: String,
        version: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alias: Option<String>,
    },
    Manual {
        by: String,
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum TriggerOutcome {
    Run { run: RunId },
    Refused { cause: Cause },
}

impl Why {
    /// What makes two triggers of a model the same one: the reference that was left, and the incident.
    pub fn key(&self) -> String {
        match self {
            Self::Drift { incident, bundle, .. } => format!("drift {} {incident}", short(bundle.as_ref())),
            Self::Labels { incident, bundle, .. } => format!("labels {} {incident}", short(bundle.as_ref())),
            Self::Schedule { .. } => "schedule".to_owned(),
            Self::Volume { .. } => "volume".to_owned(),
            Self::Registry { name, version, .. } => format!("registry {name} {version}"),
            Self::Manual { by, .. } => format!("manual {by}"),
        }
    }

    pub fn incident(&self) -> Option<&IncidentId> {
        match self {
            Self::Drift { incident, .. } | Self::Labels { incident, .. } => Some(incident),
            Self::Schedule { .. } | Self::Volume { .. } | Self::Registry { .. } | Self::Manual { .. } => None,
        }
    }

    /// Since when the world is another one.
    pub fn onset(&self) -> Option<Timestamp> {
        match self {
            Self::Drift { onset, .. } | Self::Labels { onset, .. } => Some(*onset),
            Self::Schedule { .. } | Self::Volume { .. } | Self::Registry { .. } | Self::Manual { .. } => None,
        }
    }

    /// Who asked, if it was a person.
    pub fn author(&self) -> Option<&str> {
        match self {
            Self::Manual { by, .. } => Some(by),
            Self::Drift { .. }
            | Self::Labels { .. }
            | Self::Schedule { .. }
            | Self::Volume { .. }
            | Self::Registry { .. } => None,
        }
    }

    /// The trigger's id where the same wish may be told twice: then both are one trigger.
    pub fn id(&self) -> Option<TriggerId> {
        match self {
            Self::Registry { delivery, .. } => {
                let digest = Digest::of(format!("delivery {delivery}").as_bytes());
                let mut random = [0; 16];
                random.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
                Some(TriggerId::mint(random))
            }
            Self::Drift { .. }
            | Self::Labels { .. }
            | Self::Schedule { .. }
            | Self::Volume { .. }
            | Self::Manual { .. } => None,
        }
    }
}

fn short(bundle: Option<&Digest>) -> String {
    bundle.map(|bundle| bundle.short().clone()).unwrap_or_default()
}

impl Trigger {
    /// Counts another refusal, if it is the same one within [`COLLAPSE`].
    pub fn count(&mut self, why: &Why, cause: &Cause, now: Timestamp) -> bool {
        let same = matches!(&self.outcome, TriggerOutcome::Refused { cause: known } if known.code == cause.code)
            && self.why.key() == why.key()
            && now.since(self.at) < COLLAPSE;
        if same {
            self.times = self.times.saturating_add(1);
            self.last = Some(now);
        }
        same
    }
}

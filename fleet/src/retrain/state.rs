//! The states of a run, each with its own facts.

use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rollout::Cause;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStep {
    pub state: String,
    pub world_at: Timestamp,
    pub at: Timestamp,
    /// The person, builder or policy that moved it; `None` if time did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What it was moved by: the trigger, the bundle's digest, the code of a cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunProgress {
    /// 0 to 1.
    pub fraction: f64,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum RunState {
    /// Waits until enough of the new world has been seen; world time.
    Collecting {
        until: Timestamp,
    },
    Queued {
        attempt: u32,
    },
    /// A builder works on it; the lease is real time.
    Claimed {
        builder: String,
        attempt: u32,
        lease_until: Timestamp,
    },
    /// It is signed and in the catalogue, and people have to agree before it is rolled out.
    Candidate {
        bundle: BundleRef,
        evaluation: serde_json::Value,
        people: u8,
        approved: Vec<Approved>,
        /// Real time.
        until: Timestamp,
    },
    Published {
        bundle: BundleRef,
        evaluation: serde_json::Value,
    },
    Rejected {
        cause: Cause,
        evaluation: serde_json::Value,
    },
    Failed {
        cause: Cause,
    },
    Cancelled {
        by: String,
        reason: String,
    },
}

/// A person agreed; real time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    pub by: String,
    pub at: Timestamp,
}

/// How a builder says a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    Published { bundle: BundleRef, evaluation: serde_json::Value },
    Rejected { cause: Cause, evaluation: serde_json::Value },
    Failed { cause: Cause },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunRefused {
    #[error("the run is {0}, not queued")]
    NotQueued(&'static str),
    #[error("the run is not leased to '{0}' any more; stop working on it")]
    LeaseLost(String),
    #[error("the run has ended as {0}")]
    Ended(&'static str),
    #[error("the run is {0}; only a candidate waits for approval")]
    NotCandidate(&'static str),
    #[error("'{0}' asked for this run; somebody else has to approve it")]
    OwnRun(String),
    #[error("'{0}' has approved it already; it takes another person")]
    ApprovedBefore(String),
}

impl RunState {
    /// What [`Self::name`] can be.
    pub const NAMES: [&'static str; 8] =
        ["collecting", "queued", "claimed", "candidate", "succeeded", "rejected", "failed", "cancelled"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Collecting { .. } => "collecting",
            Self::Queued { .. } => "queued",
            Self::Claimed { .. } => "claimed",
            Self::Candidate { .. } => "candidate",
            Self::Published { .. } => "succeeded",
            Self::Rejected { .. } => "rejected",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Whether a builder that repeats itself would bring it here again.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Candidate { bundle, evaluation, .. },
                Self::Candidate { bundle: again, evaluation: figures, .. },
            ) => bundle == again && evaluation == figures,
            (known, other) => known == other,
        }
    }

    pub fn is_open(&self) -> bool {
        match self {
            Self::Collecting { .. } | Self::Queued { .. } | Self::Claimed { .. } | Self::Candidate { .. } => {
                true
            }
            Self::Published { .. } | Self::Rejected { .. } | Self::Failed { .. } | Self::Cancelled { .. } => {
                false
            }
        }
    }
}

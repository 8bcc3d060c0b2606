//! JSON that devices send: hello, status, state, event.

use serde::{Deserialize, Serialize};

use super::{Message, MessageError, Sentence, bound};
use crate::capture::{CaptureStanding, CaptureState};
use crate::enrol::{Facts, Fingerprint};
use crate::ids::{BootId, BundlePath, CaptureId, Digest, SiteName, SlotName};
use crate::limits;
use crate::manifest::Numerics;
use crate::time::Timestamp;

/// First words of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub v: u8,
    pub boot: BootId,
    /// Counts connections within the boot, so that a late will never marks a newer connection offline.
    pub connection: u64,
    /// What people call the box.
    pub name: String,
    pub site: SiteName,
    pub agent_version: String,
    pub capabilities: Capabilities,
    /// Version of the order it acts on; 0 before the first.
    pub order_version: u64,
    /// Version of the root it trusts: the fleet may switch what only older roots vouch for when all boxes are past them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<u64>,
    /// Until when its newest certificate is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Timestamp>,
    /// What machine it is, to notice a key that was copied to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// The key it is connected with: once the fleet has heard of a new one, the one before is good no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Fingerprint>,
}

/// What the box can run, found out by looking.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Capabilities {
    pub arch: String,
    pub cpu_model: String,
    pub cores: u32,
    pub memory_bytes: u64,
    /// CPU features that models select on, such as `avx512_vnni`.
    pub cpu_flags: Vec<String>,
    /// What OpenVINO drives there: `CPU`, `GPU`, `NPU`. Where it does not drive the CPU, ONNX Runtime's own kernels do.
    pub devices: Vec<String>,
    /// Version of the inference runtime and of OpenVINO, or why there is none.
    pub runtime: String,
}

/// Presence; retained, and also the connection's last will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub v: u8,
    pub boot: BootId,
    pub connection: u64,
    pub presence: Presence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    Online,
    Offline,
}

/// Everything a device has to say of its slots: whole, never a delta. The latest wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub v: u8,
    pub boot: BootId,
    pub sequence: u64,
    /// Real time.
    pub at: Timestamp,
    /// Version of the order that this state answers; 0 before the first.
    pub observed_generation: u64,
    /// Version of the catalogue (targets) it trusts.
    pub catalogue: u64,
    /// Why the newest order or catalogue was refused, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// What a person should know of the box as a whole though it works: `clock_suspect`, `stale_metadata`,
    /// `certificate_not_renewed`, `membership_…` with what the fleet's door said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Refusal>,
    /// Leases of the box's own applications that have not run out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LocalLease>,
    /// How it stands to each capture that its order asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<CaptureState>,
    pub slots: Vec<SlotState>,
}

/// A machine-readable code with its sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: String,
    pub sentence: Sentence,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotState {
    pub slot: SlotName,
    /// What it works towards.
    pub phase: Phase,
    /// What answers applications now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Running>,
    /// What it can go back to at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<BundleRef>,
    /// What a person should know of the current bundle though it is not changed for it: `running_yanked`,
    /// `running_revoked`, `stopped_revoked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Refusal>,
}

/// A bundle by name and by identity (the SHA-256 of its manifest).
#[derive(Clone, Debug, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BundleRef {
    pub path: BundlePath,
    pub sha256: Digest,
}

impl PartialEq for BundleRef {
    /// The digest first: it lies in place, and mostly decides. A fleet is compared with one bundle at every look.
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && self.path == other.path
    }
}

/// The bundle that answers, proven by its digest, and how it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub bundle: BundleRef,
    pub variant: String,
    pub provider: ProviderUse,
    /// How its numbers come out here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerics: Option<Numerics>,
    /// Why no better variant of the bundle runs here, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<Sentence>,
    /// Real time of activation.
    pub since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderUse {
    pub provider: Provider,
    /// Why it is not the preferred one, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Sentence>,
}

/// What executes the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    #[serde(rename = "openvino")]
    OpenVino,
    /// ONNX Runtime's own CPU kernels.
    OnnxCpu,
}

/// Where a slot stands with its wish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    /// No model is wished for here.
    Empty,
    Downloading {
        bundle: BundleRef,
        received_bytes: u64,
        total_bytes: u64,
    },
    Verifying {
        bundle: BundleRef,
    },
    SelfTesting {
        bundle: BundleRef,
    },
    /// Fetched, verified and tested here; it waits for its moment.
    Ready {
        bundle: BundleRef,
        waits_for: ReadyFor,
    },
    Activating {
        bundle: BundleRef,
    },
    /// The wish is what runs.
    Running {
        bundle: BundleRef,
    },
    /// The wish cannot be had here; whatever ran goes on.
    Failed {
        bundle: BundleRef,
        code: String,
        sentence: Sentence,
        /// When the box tries again by itself, real time: a line that broke, a disk that was full. Without it, it does
        /// not before it is asked anew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again: Option<Timestamp>,
    },
    /// The wish is what ran, and must not any more: nothing answers here until the wish or the catalogue changes.
    Stopped {
        bundle: BundleRef,
        code: String,
        sentence: Sentence,
    },
}

/// What a staged bundle waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyFor {
    /// The fleet's permit: the order holds it back, or its permit has run out.
    Permit,
    /// Somebody at the box.
    Consent,
    /// An application at the box has said that it is busy.
    Lease,
}

/// An application at the box says: not now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalLease {
    pub owner: String,
    pub reason: Sentence,
    /// Real time. Nobody holds a box for ever.
    pub until: Timestamp,
}

/// Something that happened, kept until the fleet has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub v: u8,
    pub boot: BootId,
    pub sequence: u64,
    /// Lowest sequence of this boot that the box still holds.
    pub held_from: u64,
    /// Real time.
    pub at: Timestamp,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// A process began; what an earlier one had begun was resumed or reverted.
    Started {
        agent_version: String,
    },
    Activated {
        slot: SlotName,
        bundle: BundleRef,
        provider: ProviderUse,
        load_ms: u64,
        self_test_ms: u64,
    },
    ActivationFailed {
        slot: SlotName,
        bundle: BundleRef,
        code: String,
        sentence: Sentence,
    },
    /// It went back by itself.
    Reverted {
        slot: SlotName,
        from: BundleRef,
        to: Option<BundleRef>,
        code: String,
        sentence: Sentence,
    },
    /// It does not answer any more, because its bundle was revoked.
    Stopped {
        slot: SlotName,
        bundle: BundleRef,
        code: String,
        sentence: Sentence,
    },
    Cleared {
        slot: SlotName,
    },
    /// Somebody at the box said yes to this bundle.
    ConsentGiven {
        slot: SlotName,
        bundle: BundleRef,
        /// As they call themselves; nobody has checked it.
        by: String,
    },
    /// Somebody at the box took that back before it was activated.
    ConsentWithdrawn {
        slot: SlotName,
        bundle: BundleRef,
        by: String,
    },
    /// It captures rows for its site as the fleet asked, or does not (any more), for this reason.
    Capture {
        request: CaptureId,
        slot: SlotName,
        standing: CaptureStanding,
    },
    OrderRefused {
        code: String,
        sentence: Sentence,
    },
    TrustRefused {
        code: String,
        sentence: Sentence,
    },
    /// Telemetry was dropped, oldest first, because the spool was full.
    TelemetryDropped {
        reports: u64,
    },
    /// Messages that could not be read since the last such event.
    Malformed {
        count: u64,
        sentence: Sentence,
    },
}

impl Message for Hello {
    fn version(&self) -> u8 {
        self.v
    }

    fn check(&self) -> Result<(), MessageError> {
        bound("hello.name", self.name.len(), 64)?;
        bound("hello.agent_version", self.agent_version.len(), 64)?;
        let has = &self.capabilities;
        if let Some(facts) = &self.facts {
            bound("hello.facts.arch", facts.arch.len(), limits::SENTENCE_BYTES_MAX)?;
            bound("hello.facts.cpu_model", facts.cpu_model.len(), limits::SENTENCE_BYTES_MAX)?;
        }
        bound("hello.capabilities.cpu_flags", has.cpu_flags.len(), limits::CPU_FLAGS_MAX)?;
        bound("hello.capabilities.devices", has.devices.len(), 16)?;
        for text in
            [&has.arch, &has.cpu_model, &has.runtime].into_iter().chain(&has.cpu_flags).chain(&has.devices)
        {
            bound("hello.capabilities", text.len(), limits::SENTENCE_BYTES_MAX)?;
        }
        for text in self.facts.iter().flat_map(|facts| [&facts.arch, &facts.cpu_model]) {
            bound("hello.facts", text.len(), limits::SENTENCE_BYTES_MAX)?;
        }
        Ok(())
    }
}

impl Message for Status {
    fn version(&self) -> u8 {
        self.v
    }

    fn check(&self) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for State {
    fn version(&self) -> u8 {
        self.v
    }

    fn check(&self) -> Result<(), MessageError> {
        bound("state.notices", self.notices.len(), limits::NOTICES_MAX)?;
        bound("state.captures", self.captures.len(), limits::CAPTURES_MAX)?;
        bound("state.leases", self.leases.len(), limits::LOCAL_LEASES_MAX)?;
        for lease in &self.leases {
            bound("state.leases.owner", lease.owner.len(), 64)?;
            bound("state.leases.reason", lease.reason.as_str().len(), limits::LEASE_REASON_BYTES_MAX)?;
        }
        bound("state.slots", self.slots.len(), limits::SLOTS_MAX)
    }
}

impl Message for Event {
    fn version(&self) -> u8 {
        self.v
    }

    fn check(&self) -> Result<(), MessageError> {
        match &self.kind {
            EventKind::ConsentGiven { by, .. } | EventKind::ConsentWithdrawn { by, .. } => {
                bound("event.by", by.len(), limits::CONSENT_BY_BYTES_MAX)
            }
            EventKind::Started { .. }
            | EventKind::Activated { .. }
            | EventKind::ActivationFailed { .. }
            | EventKind::Reverted { .. }
            | EventKind::Stopped { .. }
            | EventKind::Cleared { .. }
            | EventKind::Capture { .. }
            | EventKind::OrderRefused { .. }
            | EventKind::TrustRefused { .. }
            | EventKind::TelemetryDropped { .. }
            | EventKind::Malformed { .. } => Ok(()),
        }
    }
}

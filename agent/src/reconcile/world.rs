//! What is so on this box, as the hands report it.

use std::collections::BTreeMap;

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{LocalLease, Sentence};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Consent, Standing};
use serde::{Deserialize, Serialize};

/// A file by its identity, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob {
    pub digest: Digest,
    pub length: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub slots: BTreeMap<SlotName, Occupied>,
    /// What is known of each bundle that is wished for and does not run.
    pub bundles: BTreeMap<Digest, Bundle>,
    pub busy: Option<Busy>,
    pub bad: BTreeMap<Digest, Bad>,
    pub setbacks: BTreeMap<Digest, Setback>,
    /// What keeps a proven bundle from being activated at this box.
    pub house: House,
    /// How well this box knows the time.
    pub clock: Clock,
}

/// What the box's owner, the people beside it and its applications have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct House {
    /// The owner's rule. It adds to the fleet's, and never takes away from it.
    pub consent: Consent,
    /// What people said yes to.
    pub given: BTreeMap<SlotName, Digest>,
    pub leases: Vec<LocalLease>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    #[default]
    Sound,
    /// It is not earlier than `now`, and may be much later: the machine's clock is wrong, and nobody has told it the time
    /// since it started.
    NoEarlier,
}

/// What a slot runs, and what it can go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupied {
    pub current: Option<BundleRef>,
    pub previous: Option<BundleRef>,
    /// What the newest catalogue says of the current one, and of the previous one.
    pub current_standing: Standing,
    pub previous_standing: Standing,
    /// The current one was revoked once and does not answer since then.
    pub stopped: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Bundle {
    /// The catalogue does not allow a change to it now.
    Withheld {
        code: String,
        sentence: Sentence,
    },
    Allowed(Content),
}

/// How far a bundle has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Its manifest is not here.
    Unread {
        manifest: Blob,
        received_bytes: u64,
    },
    /// Its manifest is here and cannot be used on this box.
    Refused {
        code: String,
        sentence: Sentence,
    },
    Partial {
        missing: Vec<Blob>,
        received_bytes: u64,
        total_bytes: u64,
    },
    /// All files are here by name.
    Stored,
    /// All files were read and have the digests that the manifest names.
    Verified,
    /// It answered its golden inputs as it should, in a process of its own.
    Proven,
}

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    pub slot: SlotName,
    pub bundle: BundleRef,
    pub doing: Doing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Verifying,
    Testing,
    Activating,
}

/// A bundle that failed here for good: not tried again until a newer order asks for it anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Version of the order that had asked for it.
    pub asked_in: u64,
    pub code: String,
    pub sentence: Sentence,
}

/// A step that failed for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setback {
    pub at: Timestamp,
    pub attempts: u32,
    pub code: String,
    pub sentence: Sentence,
}

//! The order: what one device should run now, signed online. Its check is ours; every row of its table is a refusal
//! with a name.

use serde::{Deserialize, Serialize};

use super::Target;
use super::catalogue::{LookupError, TrustedSet};
use super::envelope::{Envelope, EnvelopeError};
use super::fit::{Demands, Fitness, Unfit};
use super::root::Role;
use crate::capture::CaptureRequest;
use crate::ids::{BundlePath, DeviceId, Digest, SlotName};
use crate::limits::{CAPTURES_MAX, ORDER_BYTES_MAX, SLOTS_MAX};
use crate::time::Timestamp;

/// The whole wish for one device. No `want`s is a wish too: run nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    #[serde(rename = "_type")]
    pub type_: String,
    pub spec_version: String,
    pub version: u64,
    pub issued: Timestamp,
    pub expires: Timestamp,
    pub device: DeviceId,
    /// Version of `targets.json` that it was made against.
    pub catalogue: u64,
    pub want: Vec<Want>,
    /// Rows that the fleet would have the site keep. Whatever becomes of these wishes, the order is followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<CaptureRequest>,
}

/// One slot and the bundle wanted in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    pub slot: SlotName,
    pub bundle: BundlePath,
    pub sha256: Digest,
    #[serde(default, skip_serializing_if = "Permit::is_now")]
    pub activate: Permit,
    /// Somebody at the box must say yes before it switches.
    #[serde(default, skip_serializing_if = "Consent::is_not_needed")]
    pub consent: Consent,
}

/// When what is staged may be activated. A bundle that runs already is not touched by any of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permit {
    /// As soon as it has proven itself.
    #[default]
    Now,
    /// Fetch, verify and test it, and wait for the next order.
    Hold,
    /// As `Now` before this moment (real time), as `Hold` from then on: an order that arrives after its window has closed
    /// interrupts nobody.
    Until(Timestamp),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    #[default]
    NotNeeded,
    Ask,
}

impl Want {
    /// To be activated as soon as it has proven itself.
    pub fn now(slot: SlotName, bundle: BundlePath, sha256: Digest) -> Self {
        Self { slot, bundle, sha256, activate: Permit::Now, consent: Consent::NotNeeded }
    }

    /// The same bundle in the same slot, whenever it may be activated.
    pub fn is_same(&self, other: &Self) -> bool {
        self.slot == other.slot && self.bundle == other.bundle && self.sha256 == other.sha256
    }
}

impl Permit {
    pub fn is_now(&self) -> bool {
        *self == Self::Now
    }

    pub fn allows(&self, now: Timestamp) -> bool {
        match self {
            Self::Now => true,
            Self::Hold => false,
            Self::Until(end) => now < *end,
        }
    }
}

impl Consent {
    pub fn is_not_needed(&self) -> bool {
        *self == Self::NotNeeded
    }
}

/// What an order is held against.
#[derive(Clone, Copy, Debug)]
pub struct OrderContext<'a> {
    pub trusted: &'a TrustedSet,
    pub device: &'a DeviceId,
    /// What the device is. `None` asks nothing of it: for a fleet that has not heard of it yet. A device always knows.
    pub fitness: Option<&'a Fitness>,
    /// Version of the newest order accepted; 0 if there was none.
    pub floor: u64,
    /// What that order wants: an order may go on wanting it whatever has become of it, or a revoked bundle in one slot would
    /// keep every other slot from being changed. It is asked before every step towards a bundle whether the step is permitted.
    pub before: &'a [Want],
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted(Order),
    /// This version was accepted before.
    Unchanged,
}

#[derive(Debug, thiserror::Error)]
pub enum OrderRefusal {
    #[error("the order is {length} bytes long, more than the {ORDER_BYTES_MAX} allowed")]
    TooLarge { length: usize },
    #[error("the order cannot be read as a signed file")]
    Envelope(#[source] EnvelopeError),
    #[error("the order carries {found} of the {needed} signatures of order keys it needs")]
    Signature { found: usize, needed: usize },
    #[error("it is signed, but as '{found}' and not as an order")]
    WrongType { found: String },
    #[error("the order does not say what an order must")]
    Document(#[source] serde_json::Error),
    #[error("the order {0}")]
    Unbounded(&'static str),
    #[error("the order is for {device}")]
    OtherDevice { device: DeviceId },
    #[error("the order's version {version} is older than {floor}, accepted before")]
    OlderVersion { version: u64, floor: u64 },
    #[error("the order expired at {at}")]
    Expired { at: Timestamp },
    #[error("the order needs version {needed} of the catalogue; version {} is here", have.map_or_else(|| "none".to_owned(), |v| v.to_string()))]
    FutureCatalogue { needed: u64, have: Option<u64> },
    #[error("the catalogue has not come in full")]
    CatalogueIncomplete(#[source] LookupError),
    #[error("the catalogue allows no change now")]
    CatalogueStale(#[source] LookupError),
    #[error("{bundle} is not in the catalogue")]
    Uncatalogued { bundle: BundlePath },
    #[error("the order says {bundle} is {ordered}, the catalogue says {catalogued}")]
    HashDisagrees { bundle: BundlePath, ordered: String, catalogued: String },
    #[error("{bundle} was revoked: {reason}")]
    Revoked { bundle: BundlePath, reason: String },
    #[error("{bundle} does not fit this box")]
    Unfit {
        bundle: BundlePath,
        #[source]
        source: Unfit,
    },
}

impl OrderRefusal {
    /// Stable name for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "order_too_large",
            Self::Envelope(_) | Self::Document(_) | Self::Unbounded(_) => "order_malformed",
            Self::Signature { .. } => "order_signature",
            Self::WrongType { .. } => "order_wrong_type",
            Self::OtherDevice { .. } => "order_other_device",
            Self::OlderVersion { .. } => "order_older_version",
            Self::Expired { .. } => "order_expired",
            Self::FutureCatalogue { .. } => "order_future_catalogue",
            Self::CatalogueIncomplete(_) => "catalogue_incomplete",
            Self::CatalogueStale(_) => "catalogue_stale",
            Self::Uncatalogued { .. } => "bundle_uncatalogued",
            Self::HashDisagrees { .. } => "bundle_hash_disagrees",
            Self::Revoked { .. } => "bundle_revoked",
            Self::Unfit { source: Unfit::Hardware { .. }, .. } => "bundle_wrong_hardware",
            Self::Unfit { source: Unfit::Agent { .. }, .. } => "bundle_agent_too_old",
            Self::Unfit { source: Unfit::Unreadable(_), .. } => "bundle_demands_unreadable",
        }
    }

    /// Trust files that are on their way may change the answer: keep the order and ask again after the next refresh.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::FutureCatalogue { .. } | Self::CatalogueIncomplete(_) | Self::CatalogueStale(_) => true,
            Self::TooLarge { .. }
            | Self::Envelope(_)
            | Self::Signature { .. }
            | Self::WrongType { .. }
            | Self::Document(_)
            | Self::Unbounded(_)
            | Self::OtherDevice { .. }
            | Self::OlderVersion { .. }
            | Self::Expired { .. }
            | Self::Uncatalogued { .. }
            | Self::HashDisagrees { .. }
            | Self::Revoked { .. }
            | Self::Unfit { .. } => false,
        }
    }
}

impl Order {
    pub const TYPE: &'static str = "order";

    /// May this device act on these bytes? Nothing is read from them before the signature is.
    pub fn check(bytes: &[u8], context: &OrderContext<'_>) -> Result<Verdict, OrderRefusal> {
        let order = Self::authentic(bytes, context.trusted)?;
        if order.device != *context.device {
            return Err(OrderRefusal::OtherDevice { device: order.device });
        }
        if order.version == context.floor {
            return Ok(Verdict::Unchanged);
        }
        if order.version < context.floor {
            return Err(OrderRefusal::OlderVersion { version: order.version, floor: context.floor });
        }
        if order.expires < context.now {
            return Err(OrderRefusal::Expired { at: order.expires });
        }
        let have = context.trusted.versions().targets;
        if have.is_none_or(|have| order.catalogue > have) {
            return Err(OrderRefusal::FutureCatalogue { needed: order.catalogue, have });
        }
        let is_new = |want: &&Want| !context.before.iter().any(|before| before.is_same(want));
        for want in order.want.iter().filter(is_new) {
            context.trusted.permits(&want.bundle, &want.sha256, context.fitness, context.now)?;
        }
        Ok(Verdict::Accepted(order))
    }

    /// Signed by order keys of the trusted root, and well formed. That is all: use it to read back an order that was
    /// accepted before, or one's own.
    pub fn authentic(bytes: &[u8], trusted: &TrustedSet) -> Result<Self, OrderRefusal> {
        if bytes.len() > ORDER_BYTES_MAX {
            return Err(OrderRefusal::TooLarge { length: bytes.len() });
        }
        let envelope = Envelope::parse(bytes).map_err(OrderRefusal::Envelope)?;
        let threshold = trusted.count(Role::Order, &envelope);
        if !threshold.met() {
            return Err(OrderRefusal::Signature { found: threshold.found, needed: threshold.needed });
        }
        let found = envelope.signed().get("_type").and_then(|t| t.as_str()).unwrap_or_default();
        if found != Self::TYPE {
            return Err(OrderRefusal::WrongType { found: found.chars().take(32).collect() });
        }
        let order: Self = envelope.document().map_err(OrderRefusal::Document)?;
        order.bounded()?;
        Ok(order)
    }

    fn bounded(&self) -> Result<(), OrderRefusal> {
        if self.spec_version.split('.').next() != Some("1") {
            return Err(OrderRefusal::Unbounded("is written to another major version of the specification"));
        }
        if self.version == 0 {
            return Err(OrderRefusal::Unbounded("has the version 0"));
        }
        if self.want.len() > SLOTS_MAX {
            return Err(OrderRefusal::Unbounded("names more slots than a device has"));
        }
        let twice = |(i, want): (usize, &Want)| self.want[..i].iter().any(|other| other.slot == want.slot);
        if self.want.iter().enumerate().any(twice) {
            return Err(OrderRefusal::Unbounded("names a slot twice"));
        }
        if self.capture.len() > CAPTURES_MAX {
            return Err(OrderRefusal::Unbounded("asks for more captures than a device takes"));
        }
        if self
            .capture
            .iter()
            .enumerate()
            .any(|(i, one)| self.capture[..i].iter().any(|other| other.id == one.id))
        {
            return Err(OrderRefusal::Unbounded("asks for a capture twice"));
        }
        if let Some(fault) = self.capture.iter().find_map(CaptureRequest::fault) {
            return Err(OrderRefusal::Unbounded(fault));
        }
        Ok(())
    }
}

impl TrustedSet {
    /// May this bundle be activated now, on such a device? Asked of everything that an order wants, and again right
    /// before every step towards it. The order and the catalogue must name the same bytes: a thief of one of them gains
    /// nothing.
    pub fn permits(
        &self,
        bundle: &BundlePath,
        sha256: &Digest,
        fitness: Option<&Fitness>,
        now: Timestamp,
    ) -> Result<Target, OrderRefusal> {
        // First, and however old the catalogue is: what was revoked has left the list, and its reason says more.
        if let Some(revocation) = self.revocations().get(bundle) {
            let reason = revocation.reason.clone();
            return Err(OrderRefusal::Revoked { bundle: bundle.clone(), reason });
        }
        let target = match self.lookup(bundle, now) {
            Ok(target) => target,
            Err(LookupError::Absent { path }) => return Err(OrderRefusal::Uncatalogued { bundle: path }),
            Err(error @ LookupError::Incomplete { .. }) => {
                return Err(OrderRefusal::CatalogueIncomplete(error));
            }
            Err(error @ (LookupError::Expired { .. } | LookupError::Unusable { .. })) => {
                return Err(OrderRefusal::CatalogueStale(error));
            }
        };
        if target.sha256 != *sha256 {
            return Err(OrderRefusal::HashDisagrees {
                bundle: bundle.clone(),
                ordered: sha256.short(),
                catalogued: target.sha256.short(),
            });
        }
        if let Some(fitness) = fitness {
            Demands::of(&target.custom)
                .and_then(|demands| demands.met_by(fitness))
                .map_err(|source| OrderRefusal::Unfit { bundle: bundle.clone(), source })?;
        }
        Ok(target)
    }
}

//! The order: what one device should run now, signed online. Its check is ours; every row of its table is a refusal
//! with a name.

use serde::{Deserialize, Serialize};

use super::catalogue::{LookupError, TrustedSet};
use super::envelope::{Envelope, EnvelopeError};
use super::root::Role;
use crate::ids::{BundlePath, DeviceId, Digest, SlotName};
use crate::limits::{ORDER_BYTES_MAX, SLOTS_MAX};
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
}

/// One slot and the bundle wanted in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    pub slot: SlotName,
    pub bundle: BundlePath,
    pub sha256: Digest,
}

/// What an order is held against.
#[derive(Clone, Copy, Debug)]
pub struct OrderContext<'a> {
    pub trusted: &'a TrustedSet,
    pub device: &'a DeviceId,
    /// Version of the newest order accepted; 0 if there was none.
    pub floor: u64,
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
    #[error("the order wants {bundle} for {slot}, which is not in the catalogue")]
    Uncatalogued { slot: SlotName, bundle: BundlePath },
    #[error("the order says {bundle} is {ordered}, the catalogue says {catalogued}")]
    HashDisagrees { bundle: BundlePath, ordered: String, catalogued: String },
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
            | Self::HashDisagrees { .. } => false,
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
        for want in &order.want {
            agree(want, context)?;
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
        Ok(())
    }
}

/// The order and the catalogue must name the same bytes: a thief of one of them gains nothing.
fn agree(want: &Want, context: &OrderContext<'_>) -> Result<(), OrderRefusal> {
    let target = match context.trusted.lookup(&want.bundle, context.now) {
        Ok(target) => target,
        Err(LookupError::Absent { path }) => {
            return Err(OrderRefusal::Uncatalogued { slot: want.slot.clone(), bundle: path });
        }
        Err(error @ LookupError::Incomplete { .. }) => return Err(OrderRefusal::CatalogueIncomplete(error)),
        Err(error @ (LookupError::Expired { .. } | LookupError::Unusable { .. })) => {
            return Err(OrderRefusal::CatalogueStale(error));
        }
    };
    if target.sha256 == want.sha256 {
        Ok(())
    } else {
        Err(OrderRefusal::HashDisagrees {
            bundle: want.bundle.clone(),
            ordered: want.sha256.short(),
            catalogued: target.sha256.short(),
        })
    }
}

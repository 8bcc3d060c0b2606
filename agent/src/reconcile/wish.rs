//! What the fleet wishes, as the last accepted order has it.

use std::collections::BTreeMap;

use muster_protocol::ids::SlotName;
use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::{Consent, Order, Permit, Want};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Version of the order.
    pub generation: u64,
    pub slots: BTreeMap<SlotName, Wanted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub bundle: BundleRef,
    /// Version of the order that began to ask for this bundle here. An order that merely repeats it does not ask anew;
    /// one that asks for it again after another does.
    pub since: u64,
    /// When it may be activated. A newer order may change this alone: that asks for nothing anew, and what was fetched,
    /// proven or found bad stays so.
    #[serde(default)]
    pub activate: Permit,
    #[serde(default)]
    pub consent: Consent,
}

impl Wish {
    /// The wish after `order`. An order that is not newer changes nothing.
    pub fn follow(before: Option<&Self>, order: &Order) -> Self {
        if let Some(before) = before.filter(|before| order.version <= before.generation) {
            return before.clone();
        }
        let since = |slot: &SlotName, bundle: &BundleRef| {
            before
                .and_then(|before| before.slots.get(slot))
                .filter(|wanted| wanted.bundle == *bundle)
                .map_or(order.version, |wanted| wanted.since)
        };
        let wanted = order.want.iter().map(|want| {
            let bundle = BundleRef { path: want.bundle.clone(), sha256: want.sha256 };
            let since = since(&want.slot, &bundle);
            let Want { activate, consent, .. } = *want;
            (want.slot.clone(), Wanted { bundle, since, activate, consent })
        });
        Self { generation: order.version, slots: wanted.collect() }
    }
}

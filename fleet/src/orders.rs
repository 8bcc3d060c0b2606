//! Hands wishes to devices: signs the order, saves it and its message with the deed that decided it.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::capture::CaptureRequest;
use muster_protocol::ids::{DeviceId, SlotName};
use muster_protocol::message::Capabilities;
use muster_protocol::topic::{Down, Topic};
use muster_protocol::trust::author::ORDER_LIFE;
use muster_protocol::trust::{Fitness, TrustedSet, Want};

use crate::catalogue::{Catalogue, CatalogueError};
use crate::clock::Clocks;
use crate::signer::{OrderRequest, Signer, SignerError};
use crate::store::orders::StoredOrder;
use crate::store::outbox::{self, Message};
use crate::store::seats::{self, Seat};
use crate::store::{Control, ControlTx, Page, Store, StoreError, captures, devices, orders};

/// An order is signed anew when it has this left: a box that is off for so long still finds a good one.
const RENEW_BEFORE: Duration = Duration::from_secs(ORDER_LIFE.as_secs() / 2);
/// Orders renewed in one transaction.
const RENEW_BATCH: u32 = 100;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Orders {
    signer: Arc<Signer>,
    catalogue: Catalogue,
    clocks: Clocks,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The device's newest order says so already.
    Unchanged {
        version: u64,
    },
    Signed {
        version: u64,
    },
    /// It is set apart by a person: its order is signed and kept, and is handed to it when it is released.
    Kept {
        version: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("nothing is published yet; publish a catalogue before you order anything")]
    NoCatalogue,
    #[error("{device} is no member of the fleet, so it is ordered nothing")]
    NotAMember { device: DeviceId },
    #[error("the order cannot be signed")]
    Sign(#[from] SignerError),
    #[error("the catalogue cannot be read")]
    Catalogue(#[from] CatalogueError),
    #[error("the order cannot be saved")]
    Store(#[from] StoreError),
}

impl OrderError {
    /// Stable name for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCatalogue => "no_catalogue",
            Self::NotAMember { .. } => "not_a_member",
            Self::Sign(error) => error.code(),
            Self::Catalogue(_) | Self::Store(_) => "internal",
        }
    }
}

impl Handed {
    /// The version that the device will report as `observed_generation` once it acts on it.
    pub fn version(self) -> u64 {
        match self {
            Self::Unchanged { version } | Self::Signed { version } | Self::Kept { version } => version,
        }
    }
}

impl Orders {
    pub fn new(signer: Arc<Signer>, catalogue: Catalogue, clocks: Clocks) -> Self {
        Self { signer, catalogue, clocks }
    }

    /// Orders a device to run exactly `wants`, from the commit of `tx` on. The devices' own check has passed when this
    /// returns: every bundle is catalogued now, with that digest. Only members are ordered anything.
    pub async fn set_wants(
        &self,
        tx: &mut ControlTx,
        device: &DeviceId,
        wants: &[Want],
    ) -> Result<Handed, OrderError> {
        let trusted = self.published(tx).await?;
        let seat = seats::get(tx, device).await?.ok_or_else(|| not_a_member(device))?;
        self.order(tx, &trusted, &seat, wants.to_vec()).await
    }

    /// Orders a device to run `want` in the slot, or nothing there, beside what its other slots want. As
    /// [`Self::set_wants`], for many devices under one catalogue.
    pub async fn set_slot(
        &self,
        tx: &mut ControlTx,
        trusted: &TrustedSet,
        device: &DeviceId,
        slot: &SlotName,
        want: Option<Want>,
    ) -> Result<Handed, OrderError> {
        let seat = seats::get(tx, device).await?.ok_or_else(|| not_a_member(device))?;
        let mut wants = seat.wants.clone();
        wants.retain(|other| other.slot != *slot);
        wants.extend(want);
        wants.sort_by(|a, b| a.slot.cmp(&b.slot));
        self.order(tx, trusted, &seat, wants).await
    }

    /// Orders a device what it is ordered already, with what is asked of it to capture by now.
    pub async fn set_captures(
        &self,
        tx: &mut ControlTx,
        trusted: &TrustedSet,
        device: &DeviceId,
    ) -> Result<Handed, OrderError> {
        let seat = seats::get(tx, device).await?.ok_or_else(|| not_a_member(device))?;
        self.order(tx, trusted, &seat, seat.wants.clone()).await
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The catalogue that orders are signed against.
    pub async fn published(&self, control: &mut Control) -> Result<Arc<TrustedSet>, OrderError> {
        self.catalogue.published(control).await?.ok_or(OrderError::NoCatalogue)
    }

    async fn order(
        &self,
        tx: &mut ControlTx,
        trusted: &TrustedSet,
        seat: &Seat,
        wants: Vec<Want>,
    ) -> Result<Handed, OrderError> {
        let now = self.clocks.trust.now();
        let captures = captures::of_device(tx, &seat.device, now).await?;
        // One that has run out ends by itself; no new order says so.
        let asked = seat.captures.iter().filter(|request| request.until > now);
        let same = same(&seat.wants, &wants) && asked.eq(&captures);
        if seat.order > 0 && same && seat.order_expires > now.plus(RENEW_BEFORE) {
            return Ok(Handed::Unchanged { version: seat.order });
        }
        let fitness = fitness(&seat.agent_version, &seat.capabilities);
        let order = self
            .sign(tx, trusted, (&seat.device, fitness), (wants, captures), (seat.order, &seat.wants))
            .await?;
        let version = order.version;
        if seat.quarantined {
            return Ok(Handed::Kept { version });
        }
        hand(tx, order).await?;
        Ok(Handed::Signed { version })
    }

    /// Signs all orders anew that would expire before long. Returns how many. They say what they said before, whatever has
    /// become of the bundles that they name: what runs goes on running.
    pub async fn resign_due(&self, store: &Store) -> Result<u32, OrderError> {
        let before = self.clocks.trust.now().plus(RENEW_BEFORE);
        let mut renewed = 0;
        let mut page = Page::first(RENEW_BATCH);
        loop {
            let mut tx = store.write().await?;
            let Some(trusted) = self.catalogue.published(&mut tx).await? else { return Ok(renewed) };
            let found = orders::expiring(&mut tx, before, &page).await?;
            let full = found.len() == RENEW_BATCH as usize;
            let last = found.last().map(|order| (order.expires, order.device.clone()));
            renewed += self.resign(&mut tx, &trusted, found).await?;
            tx.commit().await?;
            match last {
                Some(last) if full => page = Page::after(last, RENEW_BATCH),
                Some(_) | None => return Ok(renewed),
            }
        }
    }

    async fn resign(
        &self,
        tx: &mut ControlTx,
        trusted: &TrustedSet,
        found: Vec<StoredOrder>,
    ) -> Result<u32, OrderError> {
        let mut renewed = 0;
        for due in found {
            let known = devices::get(tx, &due.device).await?;
            let fitness = known.and_then(|device| fitness(&device.agent_version, &device.capabilities));
            let captures = captures::of_device(tx, &due.device, self.clocks.trust.now()).await?;
            let asked = (due.wants.clone(), captures);
            match self.sign(tx, trusted, (&due.device, fitness), asked, (due.version, &due.wants)).await {
                Ok(order) => {
                    hand(tx, order).await?;
                    renewed += 1;
                }
                Err(OrderError::Sign(error)) => {
                    tracing::warn!(device.id = %due.device, error = &error as &dyn std::error::Error, "an order cannot be renewed and will expire");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(renewed)
    }

    async fn sign(
        &self,
        tx: &mut ControlTx,
        trusted: &TrustedSet,
        (device, fitness): (&DeviceId, Option<Fitness>),
        (wants, captures): (Vec<Want>, Vec<CaptureRequest>),
        (last_version, before): (u64, &[Want]),
    ) -> Result<StoredOrder, OrderError> {
        let now = self.clocks.trust.now();
        let (want, capture) = (wants.clone(), captures.clone());
        let request = OrderRequest {
            device: device.clone(),
            fitness,
            want,
            capture,
            last_version,
            before: before.to_vec(),
        };
        let signed = self.signer.order(trusted, request, now)?;
        let order = StoredOrder {
            device: device.clone(),
            version: signed.version,
            issued: now,
            expires: signed.expires,
            wants,
            captures,
            bytes: signed.bytes,
        };
        orders::put(tx, &order).await?;
        Ok(order)
    }
}

/// It leaves with the commit, and stays on the broker.
async fn hand(tx: &mut ControlTx, order: StoredOrder) -> Result<(), StoreError> {
    let topic = Topic::Down(order.device, Down::Order);
    outbox::push(tx, &Message { topic, payload: order.bytes, retain: true }).await
}

/// What a device said of itself. An agent of no plain version is not judged here: it judges for itself.
pub(crate) fn fitness(agent_version: &str, capabilities: &Capabilities) -> Option<Fitness> {
    Some(Fitness::of(capabilities, agent_version.parse().ok()?))
}

fn not_a_member(device: &DeviceId) -> OrderError {
    OrderError::NotAMember { device: device.clone() }
}

/// The same wish, in whatever order of slots.
fn same(a: &[Want], b: &[Want]) -> bool {
    a.len() == b.len() && a.iter().all(|want| b.contains(want))
}

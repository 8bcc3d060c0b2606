//! The windows that drift is tested on, as [`super::panes`] merged them.
//!
//! Counts add exactly and in any order, so a window is complete when its panes are. Nobody here knows which panes are
//! still to come; `panes` and `updated` let the mind judge.

use std::time::Duration;

use muster_protocol::drift::Counts;
use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::manifest::Monitoring;
use muster_protocol::time::Timestamp;

use super::heads::{self, Head};
use super::sql::on;
use super::watches::Seat;
use super::{Page, Result, StoreError, Telemetry};

#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub device: DeviceId,
    pub slot: SlotName,
    pub bundle: Digest,
    /// World time.
    pub from: Timestamp,
    /// End of the latest pane in it.
    pub to: Timestamp,
    pub panes: u64,
    /// Real time of the last pane's receipt.
    pub updated: Timestamp,
    /// One for each stream of the bundle's manifest, in its order.
    pub streams: Vec<Counts>,
}

#[derive(Clone, Debug, Default)]
pub struct WindowFilter {
    pub bundle: Option<Digest>,
    pub device: Option<DeviceId>,
    /// Windows that start here or later.
    pub from: Option<Timestamp>,
    /// Windows that start before this.
    pub before: Option<Timestamp>,
    /// Windows that got a pane at this real time or later.
    pub updated_since: Option<Timestamp>,
}

/// Lists go by start, device, slot, bundle: the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowKey {
    pub from: Timestamp,
    pub device: DeviceId,
    pub slot: SlotName,
    pub bundle: Digest,
}

impl Window {
    /// No pane of it is still to come: there are as many as it has room for, or one went on to its end, because a box
    /// with few rows makes few panes.
    pub fn is_whole(&self, monitoring: &Monitoring) -> bool {
        is_whole((self.from, self.to), self.panes, monitoring)
    }

    pub fn key(&self) -> WindowKey {
        WindowKey {
            from: self.from,
            device: self.device.clone(),
            slot: self.slot.clone(),
            bundle: self.bundle,
        }
    }
}

pub(super) fn is_whole((from, to): (Timestamp, Timestamp), panes: u64, monitoring: &Monitoring) -> bool {
    let Monitoring { pane_s, window_s, .. } = monitoring;
    panes >= window_s / pane_s.max(&1) || to >= from.plus(Duration::from_secs(*window_s))
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    head: heads::Row,
    counts: Vec<u8>,
}

impl TryFrom<Row> for Window {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let Head { seat, from, to, panes, updated } = row.head.try_into()?;
        let Seat { device, slot, bundle } = seat;
        Ok(Self { device, slot, bundle, from, to, panes, updated, streams: decode(&row.counts)? })
    }
}

const LIST: &str = "select device, slot, bundle, world_from, world_to, panes, updated, counts from windows \
     where ($1 is null or bundle = $1) and ($2 is null or device = $2) and ($3 is null or world_from >= $3) \
     and ($4 is null or world_from < $4) and ($5 is null or updated >= $5) \
     and (world_from, device, slot, bundle) > ($6, $7, $8, $9) order by world_from, device, slot, bundle limit $10";

pub async fn list(db: &mut Telemetry, filter: &WindowFilter, page: &Page<WindowKey>) -> Result<Vec<Window>> {
    let after = page.after.as_ref();
    on!(db, |sql| sqlx::query_as::<_, Row>(LIST)
        .bind(filter.bundle.map(|digest| digest.to_string()))
        .bind(filter.device.as_ref().map(DeviceId::as_str))
        .bind(filter.from.map(Timestamp::as_millis))
        .bind(filter.before.map(Timestamp::as_millis))
        .bind(filter.updated_since.map(Timestamp::as_millis))
        .bind(after.map_or(i64::MIN, |key| key.from.as_millis()))
        .bind(after.map_or("", |key| key.device.as_str()))
        .bind(after.map_or("", |key| key.slot.as_str()))
        .bind(after.map_or_else(String::new, |key| key.bundle.to_string()))
        .bind(page.limit())
        .fetch_all(sql)
        .await)
    .map_err(StoreError::query("listing windows"))?
    .into_iter()
    .map(Window::try_from)
    .collect()
}

const RECENT: &str = "select device, slot, bundle, world_from, world_to, panes, updated, counts from windows \
     where device = $1 and slot = $2 and bundle = $3 order by world_from desc limit $4";

/// The newest windows of one device, slot and bundle, the newest first.
pub async fn recent(
    db: &mut Telemetry,
    device: &DeviceId,
    slot: &SlotName,
    bundle: &Digest,
    limit: u32,
) -> Result<Vec<Window>> {
    on!(db, |sql| sqlx::query_as::<_, Row>(RECENT)
        .bind(device.as_str())
        .bind(slot.as_str())
        .bind(bundle.to_string())
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(sql)
        .await)
    .map_err(StoreError::query("listing a device's windows"))?
    .into_iter()
    .map(Window::try_from)
    .collect()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Counts>> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::corrupt("window", &error))
}

//! Panes of counts, merged into the windows in which they began.
//!
//! Those that came together are merged by a few statements, because on its way to a database server a statement costs more
//! than what it does there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::drift::Counts;
use muster_protocol::ids::DeviceId;
use muster_protocol::message::Pane;
use muster_protocol::time::Timestamp;

use super::rows::{self, Rows};
use super::windows::decode;
use super::{Result, StoreError, TelemetryTx};

/// Windows kept of each device, slot and bundle.
const KEPT: i64 = 400;
/// Windows that are read and written at once.
const CHUNK: usize = 500;

#[derive(Clone, Debug)]
pub struct NewPane {
    pub device: DeviceId,
    pub pane: Pane,
    /// How long the windows are that panes of its bundle are merged into.
    pub window: Duration,
}

/// Device, slot, bundle and start: a window's key as it stands in its row.
type Key = (String, String, String, i64);

/// What panes that came together add to one window.
#[derive(Debug)]
struct Sum {
    to: i64,
    panes: i64,
    /// One for each stream of the bundle's manifest.
    streams: Vec<Counts>,
}

/// Adds each pane to its window. Call once a pane. Returns how many were left out because their counts do not fit those of the
/// same bundle: other streams, or too many rows.
pub async fn add(tx: &mut TelemetryTx, panes: &[NewPane], at: Timestamp) -> Result<u64> {
    let mut by_window: BTreeMap<Key, Vec<&Pane>> = BTreeMap::new();
    for NewPane { device, pane, window } in panes {
        let from = pane.from.floor_to(*window).as_millis();
        let key = (device.to_string(), pane.slot.to_string(), pane.bundle.to_string(), from);
        by_window.entry(key).or_default().push(pane);
    }
    let by_window: Vec<(Key, Vec<&Pane>)> = by_window.into_iter().collect();
    let mut unfit = 0;
    for chunk in by_window.chunks(CHUNK) {
        unfit += merge(tx, chunk, at).await?;
    }
    Ok(unfit)
}

async fn merge(tx: &mut TelemetryTx, chunk: &[(Key, Vec<&Pane>)], at: Timestamp) -> Result<u64> {
    let mut held = held(tx, chunk).await?;
    let (mut unfit, mut begun, mut rows) = (0, BTreeSet::new(), Vec::with_capacity(chunk.len()));
    for (key, panes) in chunk {
        let before = held.remove(key);
        if before.is_none() {
            begun.insert((&key.0, &key.1, &key.2));
        }
        let mut sum = before.map(|streams| Sum { to: i64::MIN, panes: 0, streams });
        for pane in panes {
            unfit += u64::from(!fits(&mut sum, pane));
        }
        if let Some(sum) = sum.filter(|sum| sum.panes > 0) {
            let counts = postcard::to_stdvec(&sum.streams)
                .map_err(|source| StoreError::Encode { what: "window", source: Box::new(source) })?;
            rows.push((key, sum.to, sum.panes, counts));
        }
    }
    if rows.is_empty() {
        return Ok(unfit);
    }
    let written = keys(rows.iter().map(|row| row.0))
        .numbers(rows.iter().map(|row| row.1))
        .numbers(rows.iter().map(|row| row.2))
        .numbers(rows.iter().map(|_| at.as_millis()))
        .bytes(rows.iter().map(|row| row.3.as_slice()));
    rows::write(tx, SET, &written).await.map_err(StoreError::query("writing windows"))?;
    if begun.is_empty() { Ok(unfit) } else { trim(tx, &begun).await.map(|()| unfit) }
}

/// Adds a pane to what is there. If it does not fit, nothing has changed.
fn fits(sum: &mut Option<Sum>, pane: &Pane) -> bool {
    let to = pane.to.as_millis();
    let Some(sum) = sum else {
        *sum = Some(Sum { to, panes: 1, streams: pane.streams.clone() });
        return true;
    };
    if sum.streams.len() != pane.streams.len() {
        return false;
    }
    let mut streams = sum.streams.clone();
    if streams.iter_mut().zip(&pane.streams).any(|(sum, counts)| sum.merge(counts).is_err()) {
        return false;
    }
    *sum = Sum { to: sum.to.max(to), panes: sum.panes + 1, streams };
    true
}

const SET: (&str, &str) = (
    "insert into windows (device, slot, bundle, world_from, world_to, panes, updated, counts)",
    "on conflict (device, slot, bundle, world_from) do update set \
     world_to = case when windows.world_to > excluded.world_to then windows.world_to else excluded.world_to end, \
     panes = windows.panes + excluded.panes, updated = excluded.updated, counts = excluded.counts",
);
const HELD: (&str, &str) = (
    "select device, slot, bundle, world_from, counts from windows where (device, slot, bundle, world_from) in (",
    ")",
);

async fn held(tx: &mut TelemetryTx, chunk: &[(Key, Vec<&Pane>)]) -> Result<BTreeMap<Key, Vec<Counts>>> {
    let asked = keys(chunk.iter().map(|(key, _)| key));
    let rows: Vec<(String, String, String, i64, Vec<u8>)> =
        rows::read(tx, HELD, &asked).await.map_err(StoreError::query("reading windows"))?;
    rows.into_iter()
        .map(|(device, slot, bundle, from, counts)| Ok(((device, slot, bundle, from), decode(&counts)?)))
        .collect()
}

fn keys<'a>(keys: impl Iterator<Item = &'a Key> + Clone) -> Rows<'a> {
    Rows::default()
        .texts(keys.clone().map(|key| key.0.as_str()))
        .texts(keys.clone().map(|key| key.1.as_str()))
        .texts(keys.clone().map(|key| key.2.as_str()))
        .numbers(keys.map(|key| key.3))
}

/// Drops the oldest windows of those of whom one has begun.
async fn trim(tx: &mut TelemetryTx, begun: &BTreeSet<(&String, &String, &String)>) -> Result<()> {
    let begun = Rows::default()
        .texts(begun.iter().map(|seat| seat.0.as_str()))
        .texts(begun.iter().map(|seat| seat.1.as_str()))
        .texts(begun.iter().map(|seat| seat.2.as_str()));
    let after = format!(
        "), cut as (select device, slot, bundle, (select world_from from windows where windows.device = begun.device \
         and windows.slot = begun.slot and windows.bundle = begun.bundle order by world_from desc limit 1 offset {KEPT}) \
         as upto from begun) delete from windows where (device, slot, bundle, world_from) in (select windows.device, \
         windows.slot, windows.bundle, windows.world_from from cut join windows on windows.device = cut.device \
         and windows.slot = cut.slot and windows.bundle = cut.bundle and windows.world_from <= cut.upto)"
    );
    rows::write(tx, ("with begun (device, slot, bundle) as (", &after), &begun)
        .await
        .map_err(StoreError::query("dropping old windows"))
}

//! Panes of counts, merged into the windows in which they began.
//!
//! Those that came together are merged before they are written, by a few statements: on its way to a database server a
//! statement costs more than what it does there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::drift::Counts;
use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::message::Pane;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::convert::{column, parse};
use super::rows::{self, Rows};
use super::windows::decode;
use super::{Result, StoreError, TelemetryTx};

/// Windows kept of each device, slot and bundle.
const KEPT: i64 = 400;
/// Windows that are read and written at once.
const CHUNK: usize = 500;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewPane {
    pub pane: Pane,
    /// How long the windows are that panes of its bundle are merged into.
    pub window: Duration,
}

/// A window's start, in milliseconds, and whose it is.
type Key = (DeviceId, SlotName, Digest, i64);

/// What panes add to windows.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// More than one sum where panes do not fit each other: which of them fits its window is seen when they are written.
    sums: BTreeMap<Key, Vec<Sum>>,
    numbers: usize,
}

/// What panes that came together add to one window.
#[derive(Clone, Debug)]
struct Sum {
    to: Timestamp,
    panes: u64,
    /// One for each stream of the bundle's manifest.
    streams: Vec<Counts>,
}

impl Windows {
    /// Adds a pane. Call once a pane.
    pub fn add(&mut self, device: &DeviceId, NewPane { pane, window }: NewPane) {
        let Pane { slot, bundle, from, to, streams } = pane;
        let key = (device.clone(), slot, bundle, from.floor_to(window).as_millis());
        self.put(key, Sum { to, panes: 1, streams });
    }

    pub fn merge(&mut self, other: Self) {
        for (key, sums) in other.sums {
            for sum in sums {
                self.put(key.clone(), sum);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// How many numbers are held, about.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    fn put(&mut self, key: Key, sum: Sum) {
        let sums = self.sums.entry(key).or_default();
        if !sums.iter_mut().any(|held| held.add(&sum)) {
            self.numbers += sum.numbers();
            sums.push(sum);
        }
    }
}

impl Sum {
    /// Adds another one, if it fits. If not, nothing has changed.
    fn add(&mut self, other: &Self) -> bool {
        if !fits(&mut self.streams, &other.streams) {
            return false;
        }
        self.to = self.to.max(other.to);
        self.panes += other.panes;
        true
    }

    /// With the handful that each stream has beside its bins.
    fn numbers(&self) -> usize {
        self.streams.iter().map(|counts| counts.bins().len() + 16).sum()
    }
}

/// Adds what panes add to their windows. Returns how many panes were left out because their counts do not fit those of the
/// same bundle: other streams, or too many rows.
pub async fn add(tx: &mut TelemetryTx, windows: &Windows, at: Timestamp) -> Result<u64> {
    let all: Vec<(&Key, &Vec<Sum>)> = windows.sums.iter().collect();
    let mut unfit = 0;
    for chunk in all.chunks(CHUNK) {
        unfit += merge(tx, chunk, at).await?;
    }
    Ok(unfit)
}

async fn merge(tx: &mut TelemetryTx, chunk: &[(&Key, &Vec<Sum>)], at: Timestamp) -> Result<u64> {
    let mut held = held(tx, chunk).await?;
    let (mut unfit, mut begun, mut rows) = (0, BTreeSet::new(), Vec::with_capacity(chunk.len()));
    for (key, sums) in chunk {
        let before = held.remove(*key);
        if before.is_none() {
            begun.insert((&key.0, &key.1, &key.2));
        }
        let mut new: Option<Sum> =
            before.map(|streams| Sum { to: Timestamp::from_millis(i64::MIN), panes: 0, streams });
        for sum in *sums {
            match &mut new {
                None => new = Some(sum.clone()),
                Some(new) => unfit += if new.add(sum) { 0 } else { sum.panes },
            }
        }
        if let Some(new) = new.filter(|new| new.panes > 0) {
            let counts = postcard::to_stdvec(&new.streams)
                .map_err(|source| StoreError::Encode { what: "window", source: Box::new(source) })?;
            rows.push((*key, new.to.as_millis(), column(new.panes), counts));
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

/// Adds counts to those of the same streams. If they do not fit, nothing has changed.
fn fits(sums: &mut Vec<Counts>, more: &[Counts]) -> bool {
    if sums.len() != more.len() {
        return false;
    }
    let mut all = sums.clone();
    if all.iter_mut().zip(more).any(|(sum, counts)| sum.merge(counts).is_err()) {
        return false;
    }
    *sums = all;
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

async fn held(tx: &mut TelemetryTx, chunk: &[(&Key, &Vec<Sum>)]) -> Result<BTreeMap<Key, Vec<Counts>>> {
    let asked = keys(chunk.iter().map(|(key, _)| *key));
    let rows: Vec<(String, String, String, i64, Vec<u8>)> =
        rows::read(tx, HELD, &asked).await.map_err(StoreError::query("reading windows"))?;
    rows.into_iter()
        .map(|(device, slot, bundle, from, counts)| {
            let device = parse("device id", &device)?;
            let key = (device, parse("slot", &slot)?, parse("bundle digest", &bundle)?, from);
            Ok((key, decode(&counts)?))
        })
        .collect()
}

fn keys<'a>(keys: impl Iterator<Item = &'a Key> + Clone) -> Rows<'a> {
    Rows::default()
        .texts(keys.clone().map(|key| key.0.as_str()))
        .texts(keys.clone().map(|key| key.1.as_str()))
        .texts(keys.clone().map(|key| key.2.to_string()))
        .numbers(keys.map(|key| key.3))
}

/// Drops the oldest windows of those of whom one has begun.
async fn trim(tx: &mut TelemetryTx, begun: &BTreeSet<(&DeviceId, &SlotName, &Digest)>) -> Result<()> {
    let begun = Rows::default()
        .texts(begun.iter().map(|seat| seat.0.as_str()))
        .texts(begun.iter().map(|seat| seat.1.as_str()))
        .texts(begun.iter().map(|seat| seat.2.to_string()));
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

//! Rows that two bundles answered, one of them in the shadow, summed by device, slot, pair of bundles and world day.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::message::ShadowBlock;
use muster_protocol::time::Timestamp;
use sqlx::QueryBuilder;

use super::convert::{column, count, parse, time};
use super::rows::{self, Rows};
use super::sql::{among, on};
use super::{COUNT_MAX, Result, StoreError, Telemetry, TelemetryTx};

/// World time after which days are dropped.
const KEPT: Duration = Duration::from_hours(400 * 24);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    pub n: u64,
    pub differed: u64,
}

/// What a device compared on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowDay {
    pub slot: SlotName,
    /// In the shadow.
    pub bundle: Digest,
    /// What answered.
    pub against: Digest,
    /// Start of the world day.
    pub day: Timestamp,
    pub compared: Compared,
}

/// Which comparisons are added up: those of these two bundles, whichever of them was in the shadow.
#[derive(Clone, Copy, Debug)]
pub struct ShadowFilter<'a> {
    pub slot: &'a SlotName,
    pub bundles: (&'a Digest, &'a Digest),
    pub devices: &'a [&'a DeviceId],
    /// Days that start here or later.
    pub since: Timestamp,
}

type Key<'a> = (&'a DeviceId, &'a SlotName, Digest, Timestamp, Digest);

const ADD: (&str, &str) = (
    "insert into shadow_days (device, slot, bundle, day, against, n, differed)",
    "on conflict (device, slot, bundle, day, against) do update set n = shadow_days.n + excluded.n, \
     differed = shadow_days.differed + excluded.differed",
);

/// Adds blocks to their days. Call once a block.
pub async fn add(tx: &mut TelemetryTx, blocks: &[(DeviceId, ShadowBlock)]) -> Result<()> {
    let mut days: BTreeMap<Key<'_>, Compared> = BTreeMap::new();
    for (device, block) in blocks {
        let sum = days.entry((device, &block.slot, block.bundle, block.day, block.against)).or_default();
        sum.n += block.n.min(COUNT_MAX);
        sum.differed += block.differed.min(COUNT_MAX);
    }
    let rows = Rows::default()
        .texts(days.keys().map(|(device, ..)| device.as_str()))
        .texts(days.keys().map(|(_, slot, ..)| slot.as_str()))
        .texts(days.keys().map(|(.., bundle, _, _)| bundle.to_string()))
        .numbers(days.keys().map(|(.., day, _)| day.as_millis()))
        .texts(days.keys().map(|(.., against)| against.to_string()))
        .numbers(days.values().map(|sum| column(sum.n)))
        .numbers(days.values().map(|sum| column(sum.differed)));
    rows::write(tx, ADD, &rows).await.map_err(StoreError::query("adding what shadows compared"))?;
    for (device, _) in blocks {
        tx.touch(device);
    }
    Ok(())
}

const TRIM: &str = "delete from shadow_days where day < $1";

/// Drops days that are too old.
pub async fn trim(tx: &mut TelemetryTx, world_now: Timestamp) -> Result<()> {
    on!(tx, |sql| sqlx::query(TRIM).bind(world_now.minus(KEPT).as_millis()).execute(sql).await.map(drop))
        .map_err(StoreError::query("dropping what shadows compared long ago"))?;
    Ok(())
}

/// What each of the devices compared.
pub async fn compared(db: &mut Telemetry, filter: ShadowFilter<'_>) -> Result<Vec<(DeviceId, Compared)>> {
    let (one, other) = (filter.bundles.0.to_string(), filter.bundles.1.to_string());
    let rows: Vec<(String, i64, i64)> = on!(db, |sql| {
        let mut ask =
            QueryBuilder::new("select device, cast(sum(n) as bigint), cast(sum(differed) as bigint)");
        ask.push(" from shadow_days where slot = ").push_bind(filter.slot.as_str());
        ask.push(" and ((bundle = ")
            .push_bind(one.as_str())
            .push(" and against = ")
            .push_bind(other.as_str());
        ask.push(") or (bundle = ").push_bind(other.as_str());
        ask.push(" and against = ").push_bind(one.as_str()).push("))");
        ask.push(" and day >= ").push_bind(filter.since.as_millis());
        among(&mut ask, filter.devices);
        ask.push(" group by device");
        ask.build_query_as().fetch_all(sql).await
    })
    .map_err(StoreError::query("adding up what shadows compared"))?;
    let sum = |(device, n, differed): (String, i64, i64)| {
        Ok((parse("device id", &device)?, Compared { n: count(n), differed: count(differed) }))
    };
    rows.into_iter().map(sum).collect()
}

const OF_DEVICE: &str = "select slot, bundle, against, day, n, differed from shadow_days where device = $1 \
     order by day desc, slot, bundle, against limit $2";

/// The newest days of a device first.
pub async fn of_device(db: &mut Telemetry, device: &DeviceId, limit: u32) -> Result<Vec<ShadowDay>> {
    let rows: Vec<(String, String, String, i64, i64, i64)> = on!(db, |sql| {
        let ask = sqlx::query_as(OF_DEVICE).bind(device.as_str());
        ask.bind(i64::from(limit)).fetch_all(sql).await
    })
    .map_err(StoreError::query("listing what shadows compared"))?;
    let day = |(slot, bundle, against, day, n, differed): (String, String, String, _, _, _)| {
        Ok(ShadowDay {
            slot: parse("slot", &slot)?,
            bundle: parse("bundle digest", &bundle)?,
            against: parse("bundle digest", &against)?,
            day: time(day),
            compared: Compared { n: count(n), differed: count(differed) },
        })
    };
    rows.into_iter().map(day).collect()
}

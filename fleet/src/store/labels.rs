//! Predictions whose labels matured, summed by device, slot, bundle and world day.
//!
//! A day's pairs may have been made against more than one earlier bundle, so that bundle is part of the key.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::message::LabelBlock;
use muster_protocol::message::report::PairedLoss;
use muster_protocol::time::Timestamp;
use sqlx::QueryBuilder;

use super::convert::{column, count, parse, time};
use super::rows::{self, Rows};
use super::sql::{among, on};
use super::{Page, Result, StoreError, Telemetry, TelemetryTx};

/// World time after which days are dropped.
const KEPT: Duration = Duration::from_hours(400 * 24);

#[derive(Clone, Debug, PartialEq)]
pub struct LabelDay {
    pub device: DeviceId,
    pub slot: SlotName,
    pub bundle: Digest,
    /// Start of the world day.
    pub day: Timestamp,
    pub n: u64,
    pub label_sum: f64,
    pub prediction_sum: f64,
    pub loss_sum: f64,
    pub loss_sum_sq: f64,
    pub paired: Option<PairedDay>,
}

/// The same inputs answered by the bundle before: `diff = loss(bundle) - loss(against)`.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedDay {
    pub against: Digest,
    pub n: u64,
    pub loss_sum: f64,
    pub diff_sum: f64,
    pub diff_sum_sq: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct LabelFilter<'a> {
    pub bundle: &'a Digest,
    pub slot: &'a SlotName,
    pub devices: &'a [&'a DeviceId],
    /// Days that start here or later.
    pub since: Timestamp,
}

/// Lists go by device, day, and the digest of the bundle paired with, empty where there was none.
pub type LabelKey = (DeviceId, Timestamp, String);

impl LabelDay {
    fn of(device: &DeviceId, block: &LabelBlock) -> Self {
        let paired = |pairs: &PairedLoss| PairedDay {
            against: pairs.bundle,
            n: pairs.n,
            loss_sum: pairs.loss_sum,
            diff_sum: pairs.diff_sum,
            diff_sum_sq: pairs.diff_sum_sq,
        };
        Self {
            device: device.clone(),
            slot: block.slot.clone(),
            bundle: block.bundle,
            day: block.day,
            n: block.n,
            label_sum: block.label_sum,
            prediction_sum: block.prediction_sum,
            loss_sum: block.loss_sum,
            loss_sum_sq: block.loss_sum_sq,
            paired: block.against.as_ref().map(paired),
        }
    }

    /// Adds another of the same key.
    fn add(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.label_sum += other.label_sum;
        self.prediction_sum += other.prediction_sum;
        self.loss_sum += other.loss_sum;
        self.loss_sum_sq += other.loss_sum_sq;
        if let (Some(sum), Some(more)) = (&mut self.paired, &other.paired) {
            sum.n = sum.n.saturating_add(more.n);
            sum.loss_sum += more.loss_sum;
            sum.diff_sum += more.diff_sum;
            sum.diff_sum_sq += more.diff_sum_sq;
        }
    }

    pub fn key(&self) -> LabelKey {
        let against = self.paired.as_ref().map_or_else(String::new, |paired| paired.against.to_string());
        (self.device.clone(), self.day, against)
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    device: String,
    slot: String,
    bundle: String,
    day: i64,
    against: String,
    n: i64,
    label_sum: f64,
    prediction_sum: f64,
    loss_sum: f64,
    loss_sum_sq: f64,
    pairs: i64,
    against_loss_sum: f64,
    diff_sum: f64,
    diff_sum_sq: f64,
}

impl TryFrom<Row> for LabelDay {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let paired = if row.against.is_empty() {
            None
        } else {
            Some(PairedDay {
                against: parse("bundle digest", &row.against)?,
                n: count(row.pairs),
                loss_sum: row.against_loss_sum,
                diff_sum: row.diff_sum,
                diff_sum_sq: row.diff_sum_sq,
            })
        };
        Ok(Self {
            device: parse("device id", &row.device)?,
            slot: parse("slot", &row.slot)?,
            bundle: parse("bundle digest", &row.bundle)?,
            day: time(row.day),
            n: count(row.n),
            label_sum: row.label_sum,
            prediction_sum: row.prediction_sum,
            loss_sum: row.loss_sum,
            loss_sum_sq: row.loss_sum_sq,
            paired,
        })
    }
}

const ADD: (&str, &str) = (
    "insert into label_days (device, slot, bundle, day, against, n, label_sum, prediction_sum, loss_sum, loss_sum_sq, \
     pairs, against_loss_sum, diff_sum, diff_sum_sq)",
    "on conflict (device, slot, bundle, day, against) do update set n = label_days.n + excluded.n, \
     label_sum = label_days.label_sum + excluded.label_sum, \
     prediction_sum = label_days.prediction_sum + excluded.prediction_sum, \
     loss_sum = label_days.loss_sum + excluded.loss_sum, loss_sum_sq = label_days.loss_sum_sq + excluded.loss_sum_sq, \
     pairs = label_days.pairs + excluded.pairs, \
     against_loss_sum = label_days.against_loss_sum + excluded.against_loss_sum, \
     diff_sum = label_days.diff_sum + excluded.diff_sum, diff_sum_sq = label_days.diff_sum_sq + excluded.diff_sum_sq",
);

/// Adds blocks to their days. Call once a block.
pub async fn add(tx: &mut TelemetryTx, blocks: &[(DeviceId, LabelBlock)]) -> Result<()> {
    let mut days: BTreeMap<(SlotName, Digest, LabelKey), LabelDay> = BTreeMap::new();
    for (device, block) in blocks {
        let day = LabelDay::of(device, block);
        let key = (day.slot.clone(), day.bundle, day.key());
        match days.get_mut(&key) {
            Some(sum) => sum.add(&day),
            None => drop(days.insert(key, day)),
        }
    }
    let pairs = |of: fn(&PairedDay) -> f64| {
        days.values().map(move |day| day.paired.as_ref().map_or(0.0, of)).collect::<Vec<_>>()
    };
    let rows = Rows::default()
        .texts(days.values().map(|day| day.device.as_str()))
        .texts(days.values().map(|day| day.slot.as_str()))
        .texts(days.values().map(|day| day.bundle.to_string()))
        .numbers(days.values().map(|day| day.day.as_millis()))
        .texts(days.keys().map(|(_, _, (.., against))| against.as_str()))
        .numbers(days.values().map(|day| column(day.n)))
        .reals(days.values().map(|day| day.label_sum))
        .reals(days.values().map(|day| day.prediction_sum))
        .reals(days.values().map(|day| day.loss_sum))
        .reals(days.values().map(|day| day.loss_sum_sq))
        .numbers(days.values().map(|day| day.paired.as_ref().map_or(0, |pairs| column(pairs.n))))
        .reals(pairs(|pairs| pairs.loss_sum))
        .reals(pairs(|pairs| pairs.diff_sum))
        .reals(pairs(|pairs| pairs.diff_sum_sq));
    rows::write(tx, ADD, &rows).await.map_err(StoreError::query("adding matured labels"))?;
    for (device, _) in blocks {
        tx.touch(device);
    }
    Ok(())
}

const TRIM: &str = "delete from label_days where day < $1";

/// Drops days that are too old.
pub async fn trim(tx: &mut TelemetryTx, world_now: Timestamp) -> Result<()> {
    on!(tx, |sql| sqlx::query(TRIM).bind(world_now.minus(KEPT).as_millis()).execute(sql).await.map(drop))
        .map_err(StoreError::query("dropping old labels"))?;
    Ok(())
}

const LIST: &str = "select device, slot, bundle, day, against, n, label_sum, prediction_sum, loss_sum, loss_sum_sq, \
     pairs, against_loss_sum, diff_sum, diff_sum_sq from label_days where bundle = ";

pub async fn list(
    db: &mut Telemetry,
    filter: LabelFilter<'_>,
    page: &Page<LabelKey>,
) -> Result<Vec<LabelDay>> {
    let rows: Vec<Row> = on!(db, |sql| {
        let mut ask = QueryBuilder::new(LIST);
        ask.push_bind(filter.bundle.to_string());
        ask.push(" and slot = ").push_bind(filter.slot.as_str());
        ask.push(" and day >= ").push_bind(filter.since.as_millis());
        among(&mut ask, filter.devices);
        if let Some((device, day, against)) = &page.after {
            ask.push(" and (device, day, against) > (").push_bind(device.as_str());
            ask.push(", ").push_bind(day.as_millis()).push(", ").push_bind(against.as_str()).push(")");
        }
        ask.push(" order by device, day, against limit ").push_bind(page.limit());
        ask.build_query_as().fetch_all(sql).await
    })
    .map_err(StoreError::query("listing matured labels"))?;
    rows.into_iter().map(LabelDay::try_from).collect()
}

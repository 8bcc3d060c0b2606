//! Predictions whose labels matured, summed by device, slot, bundle and world day.
//!
//! A day's pairs may have been made against more than one earlier bundle, so that bundle is part of the key.

use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::message::LabelBlock;
use muster_protocol::time::Timestamp;
use sqlx::QueryBuilder;

use super::convert::{column, count, parse, time};
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

const ADD: &str = "insert into label_days (device, slot, bundle, day, against, n, label_sum, prediction_sum, loss_sum, \
     loss_sum_sq, pairs, against_loss_sum, diff_sum, diff_sum_sq) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
     on conflict (device, slot, bundle, day, against) do update set n = label_days.n + excluded.n, \
     label_sum = label_days.label_sum + excluded.label_sum, \
     prediction_sum = label_days.prediction_sum + excluded.prediction_sum, \
     loss_sum = label_days.loss_sum + excluded.loss_sum, loss_sum_sq = label_days.loss_sum_sq + excluded.loss_sum_sq, \
     pairs = label_days.pairs + excluded.pairs, \
     against_loss_sum = label_days.against_loss_sum + excluded.against_loss_sum, \
     diff_sum = label_days.diff_sum + excluded.diff_sum, diff_sum_sq = label_days.diff_sum_sq + excluded.diff_sum_sq";

/// Adds a block to its day. Call once a block.
pub async fn add(tx: &mut TelemetryTx, device: &DeviceId, block: &LabelBlock) -> Result<()> {
    let pairs = block.against.as_ref();
    on!(tx, |sql| sqlx::query(ADD)
        .bind(device.as_str())
        .bind(block.slot.as_str())
        .bind(block.bundle.to_string())
        .bind(block.day.as_millis())
        .bind(pairs.map_or_else(String::new, |pairs| pairs.bundle.to_string()))
        .bind(column(block.n))
        .bind(block.label_sum)
        .bind(block.prediction_sum)
        .bind(block.loss_sum)
        .bind(block.loss_sum_sq)
        .bind(pairs.map_or(0, |pairs| column(pairs.n)))
        .bind(pairs.map_or(0.0, |pairs| pairs.loss_sum))
        .bind(pairs.map_or(0.0, |pairs| pairs.diff_sum))
        .bind(pairs.map_or(0.0, |pairs| pairs.diff_sum_sq))
        .execute(sql)
        .await
        .map(drop))
    .map_err(StoreError::query("adding matured labels"))?;
    tx.touch(device);
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

//! Which windows got something since a look, without their counts; and sums over all boxes, without the boxes.

use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::manifest::Monitoring;
use muster_protocol::time::Timestamp;

use super::convert::{count, parse, time};
use super::sql::on;
use super::watches::Seat;
use super::windows::is_whole;
use super::{Page, Result, StoreError, Telemetry};

/// A window without its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub seat: Seat,
    /// World time.
    pub from: Timestamp,
    /// End of the latest pane in it.
    pub to: Timestamp,
    pub panes: u64,
    /// Real time of the last pane's receipt.
    pub updated: Timestamp,
}

impl Head {
    /// As [`super::windows::Window::is_whole`].
    pub fn is_whole(&self, monitoring: &Monitoring) -> bool {
        is_whole((self.from, self.to), self.panes, monitoring)
    }
}

/// The columns of a window that are not its counts.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    device: String,
    slot: String,
    bundle: String,
    world_from: i64,
    world_to: i64,
    panes: i64,
    updated: i64,
}

impl TryFrom<Row> for Head {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let device: DeviceId = parse("device id", &row.device)?;
        let slot: SlotName = parse("slot", &row.slot)?;
        let bundle: Digest = parse("bundle digest", &row.bundle)?;
        Ok(Self {
            seat: Seat { bundle, device, slot },
            from: time(row.world_from),
            to: time(row.world_to),
            panes: count(row.panes),
            updated: time(row.updated),
        })
    }
}

const UPDATED: &str = "select device, slot, bundle, world_from, world_to, panes, updated from windows \
     where updated >= $1 and (updated, device, slot, bundle, world_from) > ($1, $2, $3, $4, $5) \
     order by updated, device, slot, bundle, world_from limit $6";

/// Windows by the time of their last pane, from `since` on.
pub async fn updated(db: &mut Telemetry, since: Timestamp, page: &Page<Head>) -> Result<Vec<Head>> {
    let after = page.after.as_ref();
    on!(db, |sql| sqlx::query_as::<_, Row>(UPDATED)
        .bind(after.map_or(since, |head| head.updated).as_millis())
        .bind(after.map_or("", |head| head.seat.device.as_str()))
        .bind(after.map_or("", |head| head.seat.slot.as_str()))
        .bind(after.map_or_else(String::new, |head| head.seat.bundle.to_string()))
        .bind(after.map_or(i64::MIN, |head| head.from.as_millis()))
        .bind(page.limit())
        .fetch_all(sql)
        .await)
    .map_err(StoreError::query("listing what windows got"))?
    .into_iter()
    .map(Head::try_from)
    .collect()
}

/// Matured labels of one world day, all boxes together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelTotals {
    pub day: Timestamp,
    pub n: u64,
    pub label_sum: f64,
    pub prediction_sum: f64,
    pub loss_sum: f64,
    pub loss_sum_sq: f64,
}

const LABELS: &str = "select day, cast(sum(n) as bigint), sum(label_sum), sum(prediction_sum), sum(loss_sum), sum(loss_sum_sq) \
     from label_days where bundle = $1 and day >= $2 group by day order by day limit $3";

/// A bundle's labels by the day of the prediction, the oldest first.
pub async fn labels(
    db: &mut Telemetry,
    bundle: &Digest,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<LabelTotals>> {
    let rows: Vec<(i64, i64, f64, f64, f64, f64)> = on!(db, |sql| sqlx::query_as(LABELS)
        .bind(bundle.to_string())
        .bind(since.as_millis())
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(sql)
        .await)
    .map_err(StoreError::query("adding up matured labels"))?;
    let totals = |(day, n, label_sum, prediction_sum, loss_sum, loss_sum_sq)| LabelTotals {
        day: time(day),
        n: count(n),
        label_sum,
        prediction_sum,
        loss_sum,
        loss_sum_sq,
    };
    Ok(rows.into_iter().map(totals).collect())
}

const PREDICTIONS: &str = "select (hour / $3) * $3, cast(sum(row_count) as bigint) from hour_stats \
     where bundle = $1 and hour >= $2 group by 1 order by 1 limit $4";

/// Rows that a bundle has answered, by world day, the oldest first.
pub async fn predictions(
    db: &mut Telemetry,
    bundle: &Digest,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<(Timestamp, u64)>> {
    const DAY_MS: i64 = 86_400_000;
    let rows: Vec<(i64, i64)> = on!(db, |sql| sqlx::query_as(PREDICTIONS)
        .bind(bundle.to_string())
        .bind(since.as_millis())
        .bind(DAY_MS)
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(sql)
        .await)
    .map_err(StoreError::query("adding up predictions"))?;
    Ok(rows.into_iter().map(|(day, rows)| (time(day), count(rows))).collect())
}

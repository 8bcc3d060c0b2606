//! Rollups of each box: five minutes and hours, in slices.
//!
//! What is not rolled yet is added up from the reports themselves when somebody looks, so that nobody must ask a memory.

use std::collections::BTreeMap;

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;

use super::convert::time;
use super::rows::{self, Rows};
use super::slices::{self, Kind, Mark, Slice};
use super::sql::on;
use super::{Page, Result, StoreError, Telemetry, TelemetryTx, reports};
use crate::rollup::{Rollup, Step};

/// Rollups that are added to what is there at once.
const CHUNK: usize = 1000;

/// Rollups by box and start.
pub type Rollups = BTreeMap<(i64, Timestamp), Rollup>;

/// What the reports up to `last_id` add to the rollups of both steps. All of it, and that it was, is one commit: a crash
/// before it adds the reports up again, a crash after it does not.
pub async fn add(tx: &mut TelemetryTx, five_minutes: &Rollups, last_id: i64) -> Result<()> {
    merge(tx, Step::FiveMinutes, five_minutes).await?;
    let mut hours = Rollups::new();
    for ((box_id, starts), rollup) in five_minutes {
        hours.entry((*box_id, starts.floor_to(Step::Hour.span()))).or_default().add(rollup);
    }
    merge(tx, Step::Hour, &hours).await?;
    slices::set_mark(tx, Mark::Rolled, last_id).await
}

/// The highest report that is in the rollups.
pub async fn rolled(db: &mut Telemetry) -> Result<i64> {
    slices::mark(db, Mark::Rolled).await
}

/// The highest report that was ever taken.
pub async fn last_report(db: &mut Telemetry) -> Result<i64> {
    slices::last_report(db).await
}

async fn merge(tx: &mut TelemetryTx, step: Step, rollups: &Rollups) -> Result<()> {
    let kind = Kind::Rollups(step);
    let mut by_slice: BTreeMap<Timestamp, Vec<(i64, Timestamp, &Rollup)>> = BTreeMap::new();
    for ((box_id, starts), rollup) in rollups {
        let slice = Slice::of(kind, *starts);
        by_slice.entry(slice.starts).or_default().push((*box_id, *starts, rollup));
    }
    for (starts, rows) in by_slice {
        let slice = Slice { kind, starts };
        slices::ensure(tx, slice).await?;
        for chunk in rows.chunks(CHUNK) {
            merge_chunk(tx, slice, chunk).await?;
        }
    }
    Ok(())
}

async fn merge_chunk(tx: &mut TelemetryTx, slice: Slice, chunk: &[(i64, Timestamp, &Rollup)]) -> Result<()> {
    let table = slice.table();
    let keys = Rows::default()
        .numbers(chunk.iter().map(|(box_id, ..)| *box_id))
        .numbers(chunk.iter().map(|(_, starts, _)| starts.as_millis()));
    let get = format!("select box, starts, payload from {table} where (box, starts) in (");
    let held: Vec<(i64, i64, Vec<u8>)> =
        rows::read(tx, (&get, ")"), &keys).await.map_err(StoreError::query("reading rollups"))?;
    let held: BTreeMap<(i64, i64), Vec<u8>> =
        held.into_iter().map(|(box_id, starts, payload)| ((box_id, starts), payload)).collect();
    let mut payload_bytes = 0;
    let mut payloads = Vec::with_capacity(chunk.len());
    for (box_id, starts, rollup) in chunk {
        let mut sum = (*rollup).clone();
        if let Some(payload) = held.get(&(*box_id, starts.as_millis())) {
            sum.add(&unpack(payload)?);
            payload_bytes -= slices::bytes_of(payload.len());
        }
        let payload = postcard::to_stdvec(&sum)
            .map_err(|source| StoreError::Encode { what: "rollup", source: Box::new(source) })?;
        payload_bytes += slices::bytes_of(payload.len());
        payloads.push(payload);
    }
    let rows = keys.bytes(payloads.iter().map(Vec::as_slice));
    let set = format!("insert into {table} (box, starts, payload)");
    rows::write(tx, (&set, "on conflict (box, starts) do update set payload = excluded.payload"), &rows)
        .await
        .map_err(StoreError::query("writing rollups"))?;
    let new = slices::bytes_of(chunk.len()) - slices::bytes_of(held.len());
    slices::grow(tx, slice, new, payload_bytes, 0).await
}

/// A device's rollups that start in `[from, to)`, the oldest first, with what is not rolled yet.
pub async fn list(
    db: &mut Telemetry,
    device: &DeviceId,
    step: Step,
    (from, to): (Timestamp, Timestamp),
    limit: u32,
) -> Result<Vec<(Timestamp, Rollup)>> {
    let limit = Page::<()>::first(limit).limit();
    let mut all: BTreeMap<Timestamp, Rollup> = BTreeMap::new();
    for slice in slices::within(db, Kind::Rollups(step), from, to).await? {
        let rows: Vec<(i64, Vec<u8>)> = on!(db, |sql| sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select starts, payload from {} where box = (select min(box) from sources where device = $1) \
             and starts >= $2 and starts < $3 order by starts limit $4",
            slice.table()
        )))
        .bind(device.as_str())
        .bind(from.as_millis())
        .bind(to.as_millis())
        .bind(limit)
        .fetch_all(sql)
        .await)
        .map_err(StoreError::query("listing rollups"))?;
        for (starts, payload) in rows {
            all.insert(time(starts), unpack(&payload)?);
        }
        if i64::try_from(all.len()).is_ok_and(|found| found >= limit) {
            break;
        }
    }
    for report in reports::not_rolled(db, device, (from, to.plus(step.span()))).await? {
        let starts = report.measured.floor_to(step.span());
        if starts >= from && starts < to {
            all.entry(starts).or_default().add(&Rollup::of(&report.health, &report.models));
        }
    }
    Ok(all.into_iter().take(usize::try_from(limit).unwrap_or(0)).collect())
}

fn unpack(payload: &[u8]) -> Result<Rollup> {
    postcard::from_bytes(payload).map_err(|error| StoreError::corrupt("rollup", &error))
}

//! Reports as they came, packed, in slices of an hour; and how each box was last.
//!
//! What a report measured of data (panes, labels) stands in tables of its own; here is what a person looks at. Only while
//! those tables wait for it, it stands with the report.

use muster_protocol::ids::DeviceId;
use muster_protocol::message::{Health, LabelBlock, ModelStats, Report, ShadowBlock};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::convert::{column, count, from_json, parse, time, to_json};
use super::panes::NewPane;
use super::rows::{self, Rows};
use super::slices::{self, Kind, Mark, Slice};
use super::sql::on;
use super::{Page, Result, StoreError, Telemetry, TelemetryTx};

#[derive(Clone, Debug, PartialEq)]
pub struct ReportEntry {
    pub received: Timestamp,
    /// End of its span in real time, and never later than its receipt.
    pub measured: Timestamp,
    /// World time.
    pub from: Timestamp,
    pub to: Timestamp,
    pub health: Health,
    pub models: Vec<ModelStats>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthAt {
    pub received: Timestamp,
    pub health: Health,
}

/// A report to be kept.
#[derive(Clone, Debug)]
pub struct NewReport {
    /// Higher than that of every report before it.
    pub id: i64,
    pub source: i64,
    pub sequence: u64,
    pub measured: Timestamp,
    pub payload: Vec<u8>,
}

/// What a report measured of data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub panes: Vec<NewPane>,
    pub labels: Vec<LabelBlock>,
    pub shadows: Vec<ShadowBlock>,
}

impl Measured {
    pub fn is_empty(&self) -> bool {
        let Self { panes, labels, shadows } = self;
        panes.is_empty() && labels.is_empty() && shadows.is_empty()
    }
}

/// What is packed of a report. What it measured of data follows, if it is to be found there.
#[derive(Serialize, Deserialize)]
struct Packed<H, M> {
    from: Timestamp,
    to: Timestamp,
    health: H,
    models: M,
}

#[derive(sqlx::FromRow)]
struct Row {
    received: i64,
    measured: i64,
    payload: Vec<u8>,
}

impl TryFrom<Row> for ReportEntry {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let (packed, _) = unpack(&row.payload)?;
        Ok(Self {
            received: time(row.received),
            measured: time(row.measured),
            from: packed.from,
            to: packed.to,
            health: packed.health,
            models: packed.models,
        })
    }
}

pub fn pack(report: &Report) -> Result<Vec<u8>> {
    let packed = Packed { from: report.from, to: report.to, health: &report.health, models: &report.models };
    postcard::to_stdvec(&packed).map_err(encoding)
}

/// Adds what it measured to a packed report.
pub fn pack_measured(payload: Vec<u8>, measured: &Measured) -> Result<Vec<u8>> {
    if measured.is_empty() { Ok(payload) } else { postcard::to_extend(measured, payload).map_err(encoding) }
}

fn encoding(source: postcard::Error) -> StoreError {
    StoreError::Encode { what: "report", source: Box::new(source) }
}

type Unpacked = Packed<Health, Vec<ModelStats>>;

/// Returns what is left, which is what it measured, or nothing.
fn unpack(payload: &[u8]) -> Result<(Unpacked, &[u8])> {
    postcard::take_from_bytes(payload).map_err(|error| corrupt(&error))
}

fn unpack_measured(rest: &[u8]) -> Result<Measured> {
    if rest.is_empty() {
        Ok(Measured::default())
    } else {
        postcard::from_bytes(rest).map_err(|error| corrupt(&error))
    }
}

fn corrupt(error: &postcard::Error) -> StoreError {
    StoreError::corrupt("report", error)
}

/// Keeps reports that were received together.
pub async fn append(tx: &mut TelemetryTx, reports: &[NewReport], received: Timestamp) -> Result<()> {
    let Some(last) = reports.last() else { return Ok(()) };
    let slice = Slice::of(Kind::Reports, received);
    let payload = reports.iter().map(|report| slices::bytes_of(report.payload.len())).sum();
    slices::grow(tx, slice, slices::bytes_of(reports.len()), payload, last.id).await?;
    let rows = Rows::default()
        .numbers(reports.iter().map(|report| report.id))
        .numbers(reports.iter().map(|report| report.source))
        .numbers(reports.iter().map(|report| column(report.sequence)))
        .numbers(reports.iter().map(|_| received.as_millis()))
        .numbers(reports.iter().map(|report| report.measured.as_millis()))
        .bytes(reports.iter().map(|report| report.payload.as_slice()));
    let table = slice.table();
    let into = format!("insert into {table} (id, source, sequence, received, measured, payload)");
    rows::write(tx, (&into, ""), &rows).await.map_err(StoreError::query("writing reports"))
}

const OF_DEVICE: &str = "source in (select id from sources where device = $1)";

/// The newest first; the key is (when it was measured, when it was received).
pub async fn list(
    db: &mut Telemetry,
    device: &DeviceId,
    page: &Page<(Timestamp, Timestamp)>,
) -> Result<Vec<ReportEntry>> {
    let (before, received) =
        page.after.map_or((i64::MAX, 0), |(at, received)| (at.as_millis(), received.as_millis()));
    let mut found = Vec::new();
    for held in slices::held(db, Kind::Reports).await?.into_iter().rev() {
        let table = Slice { kind: Kind::Reports, starts: time(held.starts) }.table();
        let rows: Vec<Row> = on!(db, |sql| sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select received, measured, payload from {table} where {OF_DEVICE} and (measured, received) < ($2, $3) \
             order by measured desc, received desc limit $4"
        )))
        .bind(device.as_str())
        .bind(before)
        .bind(received)
        .bind(page.limit())
        .fetch_all(sql)
        .await)
        .map_err(StoreError::query("listing reports"))?;
        found.extend(rows);
    }
    // What waited on the box came late, so the slices do not follow each other by what was measured.
    found.sort_by_key(|row| std::cmp::Reverse((row.measured, row.received)));
    found.truncate(page.limit.clamp(1, super::LIMIT_MAX) as usize);
    found.into_iter().map(ReportEntry::try_from).collect()
}

/// Reports measured in `[from, to)`, the oldest first.
pub async fn between(
    db: &mut Telemetry,
    device: &DeviceId,
    (from, to): (Timestamp, Timestamp),
    limit: u32,
) -> Result<Vec<ReportEntry>> {
    read(db, device, (from, to), 0, limit).await
}

/// As [`between`], only those that are not in the rollups yet.
pub(super) async fn not_rolled(
    db: &mut Telemetry,
    device: &DeviceId,
    span: (Timestamp, Timestamp),
) -> Result<Vec<ReportEntry>> {
    let rolled = slices::mark(db, Mark::Rolled).await?;
    read(db, device, span, rolled, super::LIMIT_MAX).await
}

async fn read(
    db: &mut Telemetry,
    device: &DeviceId,
    (from, to): (Timestamp, Timestamp),
    after: i64,
    limit: u32,
) -> Result<Vec<ReportEntry>> {
    let limit = Page::<()>::first(limit).limit();
    let mut found: Vec<Row> = Vec::new();
    // Nothing is received before it was measured.
    let held = slices::held(db, Kind::Reports).await?;
    let may_hold =
        |held: &slices::Held| held.last_id > after && time(held.starts).plus(Kind::Reports.span()) > from;
    for held in held.into_iter().filter(may_hold) {
        let table = Slice { kind: Kind::Reports, starts: time(held.starts) }.table();
        let rows: Vec<Row> = on!(db, |sql| sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select received, measured, payload from {table} where {OF_DEVICE} and measured >= $2 and measured < $3 \
             and id > $4 order by measured, received limit $5"
        )))
        .bind(device.as_str())
        .bind(from.as_millis())
        .bind(to.as_millis())
        .bind(after)
        .bind(limit)
        .fetch_all(sql)
        .await)
        .map_err(StoreError::query("reading reports"))?;
        found.extend(rows);
    }
    found.sort_by_key(|row| (row.measured, row.received));
    found.truncate(usize::try_from(limit).unwrap_or(0));
    found.into_iter().map(ReportEntry::try_from).collect()
}

/// A report that is not in the rollups yet, with the box it is of.
#[derive(Debug)]
pub struct Unrolled {
    pub id: i64,
    pub source: i64,
    pub device: DeviceId,
    pub box_id: i64,
    pub sequence: u64,
    pub entry: ReportEntry,
    /// Empty where the sums had it when the report was written.
    pub measured: Measured,
}

#[derive(sqlx::FromRow)]
struct UnrolledRow {
    id: i64,
    source: i64,
    device: String,
    box_id: i64,
    sequence: i64,
    #[sqlx(flatten)]
    report: Row,
}

impl TryFrom<UnrolledRow> for Unrolled {
    type Error = StoreError;

    fn try_from(row: UnrolledRow) -> Result<Self> {
        let UnrolledRow { id, source, device, box_id, sequence, report } = row;
        let device = parse("device id", &device)?;
        let measured = unpack_measured(unpack(&report.payload)?.1)?;
        Ok(Self {
            id,
            source,
            device,
            box_id,
            sequence: count(sequence),
            entry: report.try_into()?,
            measured,
        })
    }
}

/// Reports that are not in the rollups yet, from the one after `after` on. What a restarted server must add up again.
pub async fn unrolled(db: &mut Telemetry, after: i64, limit: u32) -> Result<Vec<Unrolled>> {
    let after = after.max(slices::mark(db, Mark::Rolled).await?);
    let limit = Page::<()>::first(limit).limit();
    for held in slices::held(db, Kind::Reports).await?.into_iter().filter(|held| held.last_id > after) {
        let table = Slice { kind: Kind::Reports, starts: time(held.starts) }.table();
        let rows: Vec<UnrolledRow> = on!(db, |sql| sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select report.id, report.source, device, sources.box as box_id, sequence, received, measured, payload \
             from {table} report join sources on sources.id = report.source where report.id > $1 order by report.id limit $2"
        )))
        .bind(after)
        .bind(limit)
        .fetch_all(sql)
        .await)
        .map_err(StoreError::query("reading reports again"))?;
        if rows.is_empty() {
            continue;
        }
        return rows.into_iter().map(Unrolled::try_from).collect();
    }
    Ok(Vec::new())
}

const HEALTH_OF: &str =
    "select received, health from box_health where box = (select min(box) from sources where device = $1)";

/// As its newest report says, or, if it has been silent for longer than reports are kept, as it was then.
pub async fn health_of(db: &mut Telemetry, device: &DeviceId) -> Result<Option<HealthAt>> {
    for held in slices::held(db, Kind::Reports).await?.into_iter().rev() {
        let table = Slice { kind: Kind::Reports, starts: time(held.starts) }.table();
        let newest: Option<Row> = on!(db, |sql| sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select received, measured, payload from {table} where {OF_DEVICE} order by id desc limit 1"
        )))
        .bind(device.as_str())
        .fetch_optional(sql)
        .await)
        .map_err(StoreError::query("reading a device's newest report"))?;
        if let Some(row) = newest {
            let entry = ReportEntry::try_from(row)?;
            return Ok(Some(HealthAt { received: entry.received, health: entry.health }));
        }
    }
    let row: Option<(i64, String)> =
        on!(db, |sql| sqlx::query_as(HEALTH_OF).bind(device.as_str()).fetch_optional(sql).await)
            .map_err(StoreError::query("reading a device's health"))?;
    row.map(|(received, health)| {
        Ok(HealthAt { received: time(received), health: from_json("device's health", &health)? })
    })
    .transpose()
}

/// Remembers how boxes were, before the reports that show it leave.
pub async fn remember_health(
    tx: &mut TelemetryTx,
    boxes: impl IntoIterator<Item = (i64, &HealthAt)> + Send,
) -> Result<()> {
    let (mut ids, mut received, mut healths) = (Vec::new(), Vec::new(), Vec::new());
    for (id, at) in boxes {
        ids.push(id);
        received.push(at.received.as_millis());
        healths.push(to_json("device's health", &at.health)?);
    }
    let rows = Rows::default().numbers(ids).numbers(received).texts(healths);
    let set = (
        "insert into box_health (box, received, health)",
        "on conflict (box) do update set received = excluded.received, health = excluded.health",
    );
    rows::write(tx, set, &rows).await.map_err(StoreError::query("remembering the health of boxes"))
}

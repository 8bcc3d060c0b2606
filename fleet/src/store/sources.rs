//! Boots of boxes as the senders of numbered reports: how far each is safe here, and what each gave up for good.
//!
//! The reports themselves say how far a boot is safe; the number that stands here is as old as the last rollup, and covers
//! those whose reports have left. So taking a report writes one row, and both are one commit all the same.

use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::time::Timestamp;

use super::convert::{column, count, parse, time};
use super::rows::{self, Rows};
use super::slices::{self, Kind, Mark, Slice};
use super::sql::on;
use super::{Result, StoreError, Telemetry, TelemetryTx};

/// Boots remembered of each device: a box that restarts all day must not fill the database.
const BOOTS_MAX: i64 = 64;

/// One boot of one box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Stands for device and boot in the rows of reports.
    pub id: i64,
    /// The same for all boots of a box.
    pub box_id: i64,
    pub boot: BootId,
    /// Reports up to this one are safe, or gone for good.
    pub contiguous: u64,
    pub lost: u64,
    pub lost_since: Option<Timestamp>,
}

/// Reports that a boot of a device gave up before they were here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub boot: BootId,
    pub reports: u64,
    pub since: Timestamp,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    box_id: i64,
    contiguous: i64,
    lost: i64,
    lost_since: Option<i64>,
}

const GET: &str =
    "select id, box as box_id, contiguous, lost, lost_since from sources where device = $1 and boot = $2";

pub async fn get(db: &mut Telemetry, device: &DeviceId, boot: &BootId) -> Result<Option<Source>> {
    let row: Option<Row> = on!(db, |sql| sqlx::query_as(GET)
        .bind(device.as_str())
        .bind(boot.as_str())
        .fetch_optional(sql)
        .await)
    .map_err(StoreError::query("reading a device's position"))?;
    let Some(row) = row else { return Ok(None) };
    let contiguous = row.contiguous.max(newest(db, row.id).await?);
    Ok(Some(Source {
        id: row.id,
        box_id: row.box_id,
        boot: boot.clone(),
        contiguous: count(contiguous),
        lost: count(row.lost),
        lost_since: row.lost_since.map(time),
    }))
}

/// The highest number in those slices that may hold reports above the remembered position.
async fn newest(db: &mut Telemetry, source: i64) -> Result<i64> {
    let rolled = slices::mark(db, Mark::Rolled).await?;
    let mut newest = 0;
    for held in slices::held(db, Kind::Reports).await?.into_iter().filter(|held| held.last_id > rolled) {
        let table = Slice { kind: Kind::Reports, starts: time(held.starts) }.table();
        let (found,): (Option<i64>,) = on!(db, |sql| sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select max(sequence) from {table} where source = $1"
        )))
        .bind(source)
        .fetch_one(sql)
        .await)
        .map_err(StoreError::query("reading a device's newest report"))?;
        newest = newest.max(found.unwrap_or(0));
    }
    Ok(newest)
}

const NEXT: &str =
    "select coalesce(max(id), 0) + 1, (select min(box) from sources where device = $1) from sources";
const ADD: &str = "insert into sources (id, box, device, boot, contiguous, lost, lost_since, updated) \
     values ($1, $2, $3, $4, 0, 0, null, $5)";

/// Notes a boot that was not heard of before.
pub async fn add(tx: &mut TelemetryTx, device: &DeviceId, boot: &BootId, at: Timestamp) -> Result<Source> {
    let failed = StoreError::query("noting a boot");
    let (id, known): (i64, Option<i64>) =
        on!(tx, |sql| sqlx::query_as(NEXT).bind(device.as_str()).fetch_one(sql).await).map_err(&failed)?;
    let box_id = known.unwrap_or(id);
    on!(tx, |sql| sqlx::query(ADD)
        .bind(id)
        .bind(box_id)
        .bind(device.as_str())
        .bind(boot.as_str())
        .bind(at.as_millis())
        .execute(sql)
        .await
        .map(drop))
    .map_err(&failed)?;
    Ok(Source { id, box_id, boot: boot.clone(), contiguous: 0, lost: 0, lost_since: None })
}

const LOSE: &str = "update sources set lost = $2, lost_since = $3, contiguous = $4 where id = $1";

/// Notes what a boot gave up. The position goes with it: no report shows it yet.
pub async fn lose(tx: &mut TelemetryTx, source: &Source) -> Result<()> {
    on!(tx, |sql| sqlx::query(LOSE)
        .bind(source.id)
        .bind(column(source.lost))
        .bind(source.lost_since.map(Timestamp::as_millis))
        .bind(column(source.contiguous))
        .execute(sql)
        .await
        .map(drop))
    .map_err(StoreError::query("noting lost reports"))?;
    Ok(())
}

const REMEMBER: (&str, &str) = (
    "with safe (id, contiguous, updated) as (",
    ") update sources set contiguous = (select contiguous from safe where safe.id = sources.id), \
     updated = (select updated from safe where safe.id = sources.id) where id in (select id from safe)",
);

/// Remembers positions, before the reports that show them leave.
pub async fn remember(tx: &mut TelemetryTx, positions: &[(i64, u64)], at: Timestamp) -> Result<()> {
    let rows = Rows::default()
        .numbers(positions.iter().map(|(id, _)| *id))
        .numbers(positions.iter().map(|(_, contiguous)| column(*contiguous)))
        .numbers(positions.iter().map(|_| at.as_millis()));
    rows::write(tx, REMEMBER, &rows).await.map_err(StoreError::query("remembering positions"))
}

const FORGET: &str = "delete from sources where device = $1 and updated < \
     (select updated from sources where device = $1 order by updated desc limit 1 offset $2)";

/// Forgets the boots that were silent for longest.
pub async fn trim(tx: &mut TelemetryTx, device: &DeviceId) -> Result<()> {
    on!(tx, |sql| sqlx::query(FORGET).bind(device.as_str()).bind(BOOTS_MAX).execute(sql).await.map(drop))
        .map_err(StoreError::query("forgetting old boots"))?;
    Ok(())
}

const LOST_OF: &str = "select boot, lost, lost_since from sources where device = $1 and lost > 0 \
     order by lost_since desc limit $2";

/// What the boots of a device gave up, the newest first.
pub async fn lost_of(db: &mut Telemetry, device: &DeviceId) -> Result<Vec<Lost>> {
    let rows: Vec<(String, i64, Option<i64>)> =
        on!(db, |sql| sqlx::query_as(LOST_OF).bind(device.as_str()).bind(BOOTS_MAX).fetch_all(sql).await)
            .map_err(StoreError::query("reading lost reports"))?;
    let lost = |(boot, lost, since): (String, i64, Option<i64>)| {
        Ok(Lost { boot: parse("boot", &boot)?, reports: count(lost), since: time(since.unwrap_or(0)) })
    };
    rows.into_iter().map(lost).collect()
}

const LOST_ALL: &str =
    "select cast(coalesce(sum(lost), 0) as bigint), count(distinct device) from sources where lost > 0";

/// Reports that the whole fleet gave up, and how many devices did.
pub async fn lost_by_all(db: &mut Telemetry) -> Result<(u64, u64)> {
    let (reports, devices): (i64, i64) = on!(db, |sql| sqlx::query_as(LOST_ALL).fetch_one(sql).await)
        .map_err(StoreError::query("counting lost reports"))?;
    Ok((count(reports), count(devices)))
}

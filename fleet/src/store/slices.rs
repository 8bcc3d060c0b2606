//! Tables of one span of time each: reports and rollups are appended to the newest and leave with the oldest.
//!
//! ```text
//!   reports_2026112600  reports_2026112601 …   an hour each    rollups_5m_20261126 …  a day each    rollups_1h_20261101 …  30 days
//! ```
//! A table is dropped in a moment, where deleting its rows would keep every writer waiting. Reports stand in hours and not in
//! days because they are kept for hours: a day of 10,000 boxes is four times what their bound allows.
//!
//! How much is kept is counted as it is written, so that nobody has to look at every page to know it.

use std::time::Duration;

use muster_protocol::time::Timestamp;

use super::convert::{column, count, time};
use super::sql::{Flavour, on};
use super::{Result, StoreError, Telemetry, TelemetryTx};
use crate::rollup::{Bound, Retention, Step};

const DAY: Duration = Duration::from_hours(24);
/// Allowed for a row beside its payload: columns, key and index. An estimate; the file may be larger.
const ROW_BYTES: i64 = 50;

/// What a slice holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Reports,
    Rollups(Step),
}

/// What is kept of a kind, and what was dropped of it since the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub kind: Kind,
    pub slices: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Start of the oldest slice.
    pub since: Option<Timestamp>,
    pub dropped_rows: u64,
    pub dropped_bytes: u64,
    /// Rows that left before their age because there was too much.
    pub dropped_early: u64,
    pub dropped_last: Option<Timestamp>,
}

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) kind: Kind,
    pub(super) starts: Timestamp,
}

#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct Held {
    pub(super) starts: i64,
    pub(super) row_count: i64,
    pub(super) bytes: i64,
    pub(super) last_id: i64,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Reports, Self::Rollups(Step::FiveMinutes), Self::Rollups(Step::Hour)];

    /// How much of it is kept.
    pub fn bound(self, retention: &Retention) -> Bound {
        match self {
            Self::Reports => retention.reports,
            Self::Rollups(Step::FiveMinutes) => retention.five_minutes,
            Self::Rollups(Step::Hour) => retention.hours,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reports => "reports",
            Self::Rollups(Step::FiveMinutes) => "rollups_5m",
            Self::Rollups(Step::Hour) => "rollups_1h",
        }
    }

    pub(super) fn span(self) -> Duration {
        match self {
            Self::Reports => Duration::from_hours(1),
            Self::Rollups(Step::FiveMinutes) => DAY,
            Self::Rollups(Step::Hour) => DAY * 30,
        }
    }
}

impl Slice {
    /// The one that a moment falls into.
    pub(super) fn of(kind: Kind, at: Timestamp) -> Self {
        Self { kind, starts: at.floor_to(kind.span()) }
    }

    /// The table's name; nothing that came from outside can get into it.
    pub(super) fn table(self) -> String {
        let starts = self.starts.to_jiff();
        match self.kind {
            Kind::Reports => format!("reports_{}", starts.strftime("%Y%m%d%H")),
            Kind::Rollups(_) => format!("{}_{}", self.kind.as_str(), starts.strftime("%Y%m%d")),
        }
    }

    fn ddl(self, flavour: Flavour) -> Vec<String> {
        let table = self.table();
        let (bytes, clustered) = match flavour {
            Flavour::Sqlite => ("blob", " without rowid"),
            Flavour::Postgres => ("bytea", ""),
        };
        // SQLite keeps rows in the order of this very key, and of no other that is a number.
        let key = match flavour {
            Flavour::Sqlite => "integer primary key",
            Flavour::Postgres => "bigint primary key",
        };
        match self.kind {
            Kind::Reports => vec![
                format!(
                    "create table if not exists {table} (id {key}, source bigint not null, \
                     sequence bigint not null, received bigint not null, measured bigint not null, payload {bytes} not null)"
                ),
                format!("create unique index if not exists {table}_key on {table} (source, sequence)"),
            ],
            Kind::Rollups(_) => vec![format!(
                "create table if not exists {table} (box bigint not null, starts bigint not null, payload {bytes} not null, \
                 primary key (box, starts)){clustered}"
            )],
        }
    }
}

const GROW: &str = "insert into slices (kind, starts, row_count, bytes, last_id) values ($1, $2, $3, $4, $5) \
     on conflict (kind, starts) do update set row_count = slices.row_count + excluded.row_count, \
     bytes = slices.bytes + excluded.bytes, \
     last_id = case when excluded.last_id > slices.last_id then excluded.last_id else slices.last_id end \
     returning row_count";

/// Makes the table if there is none.
pub(super) async fn ensure(tx: &mut TelemetryTx, slice: Slice) -> Result<()> {
    grow(tx, slice, 0, 0, 0).await
}

/// Counts what is about to be written into a slice, and makes its table if nothing is in it.
pub(super) async fn grow(
    tx: &mut TelemetryTx,
    slice: Slice,
    rows: i64,
    payload: i64,
    last_id: i64,
) -> Result<()> {
    let (row_count,): (i64,) = on!(tx, |sql| sqlx::query_as(GROW)
        .bind(slice.kind.as_str())
        .bind(slice.starts.as_millis())
        .bind(rows)
        .bind(payload + rows * ROW_BYTES)
        .bind(last_id)
        .fetch_one(sql)
        .await)
    .map_err(StoreError::query("counting telemetry"))?;
    if row_count > rows {
        return Ok(());
    }
    for ddl in slice.ddl(tx.flavour()) {
        on!(tx, |sql| sqlx::query(sqlx::AssertSqlSafe(ddl)).execute(sql).await.map(drop))
            .map_err(StoreError::query("making a table of telemetry"))?;
    }
    Ok(())
}

const HELD: &str = "select starts, row_count, bytes, last_id from slices where kind = $1 order by starts";

/// The slices of a kind, the oldest first. There are as many as their age has spans.
pub(super) async fn held(db: &mut Telemetry, kind: Kind) -> Result<Vec<Held>> {
    on!(db, |sql| sqlx::query_as(HELD).bind(kind.as_str()).fetch_all(sql).await)
        .map_err(StoreError::query("listing tables of telemetry"))
}

/// Slices that may hold something of a time in `[from, to)`, the oldest first.
pub(super) async fn within(
    db: &mut Telemetry,
    kind: Kind,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Slice>> {
    let all = held(db, kind).await?.into_iter().map(|held| Slice { kind, starts: time(held.starts) });
    Ok(all.filter(|slice| slice.starts < to && slice.starts.plus(kind.span()) > from).collect())
}

const FORGET: &str = "delete from slices where kind = $1 and starts = $2";
const DROPPED: &str = "insert into dropped (kind, row_count, bytes, early, last) values ($1, $2, $3, $4, $5) \
     on conflict (kind) do update set row_count = dropped.row_count + excluded.row_count, \
     bytes = dropped.bytes + excluded.bytes, early = dropped.early + excluded.early, last = excluded.last";

/// Drops the oldest slices while there is too much, and those that are too old. Reports stay until they are in the rollups.
pub async fn retain(tx: &mut TelemetryTx, retention: &Retention, now: Timestamp) -> Result<u64> {
    if tx.flavour() == Flavour::Postgres {
        // Who reads has a table that it found here until it ends.
        on!(tx, |sql| sqlx::query("lock table slices in access exclusive mode").execute(sql).await.map(drop))
            .map_err(StoreError::query("waiting for readers of telemetry"))?;
    }
    let rolled = mark(tx, Mark::Rolled).await?;
    let mut dropped = 0;
    for kind in Kind::ALL {
        let bound = kind.bound(retention);
        let held = held(tx, kind).await?;
        let mut bytes: u64 = held.iter().map(|held| count(held.bytes)).sum();
        for one in held {
            let slice = Slice { kind, starts: time(one.starts) };
            let ends = slice.starts.plus(kind.span());
            let old = ends.plus(bound.age) <= now;
            let needed = one.last_id > rolled || ends > now;
            if needed || !(old || bytes > bound.bytes) {
                break;
            }
            bytes = bytes.saturating_sub(count(one.bytes));
            remove(tx, slice, one, if old { 0 } else { one.row_count }, now).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

async fn remove(tx: &mut TelemetryTx, slice: Slice, held: Held, early: i64, now: Timestamp) -> Result<()> {
    let failed = StoreError::query("dropping a table of telemetry");
    on!(tx, |sql| sqlx::query(sqlx::AssertSqlSafe(format!("drop table if exists {}", slice.table())))
        .execute(sql)
        .await
        .map(drop))
    .map_err(&failed)?;
    on!(tx, |sql| sqlx::query(FORGET)
        .bind(slice.kind.as_str())
        .bind(slice.starts.as_millis())
        .execute(sql)
        .await
        .map(drop))
    .map_err(&failed)?;
    on!(tx, |sql| sqlx::query(DROPPED)
        .bind(slice.kind.as_str())
        .bind(held.row_count)
        .bind(held.bytes)
        .bind(early)
        .bind(now.as_millis())
        .execute(sql)
        .await
        .map(drop))
    .map_err(&failed)?;
    Ok(())
}

const DROPPED_OF: &str = "select row_count, bytes, early, last from dropped where kind = $1";

/// How much is kept, and what was dropped.
pub async fn kept(db: &mut Telemetry) -> Result<Vec<Kept>> {
    let mut all = Vec::with_capacity(Kind::ALL.len());
    for kind in Kind::ALL {
        let held = held(db, kind).await?;
        let dropped: Option<(i64, i64, i64, i64)> =
            on!(db, |sql| sqlx::query_as(DROPPED_OF).bind(kind.as_str()).fetch_optional(sql).await)
                .map_err(StoreError::query("reading what was dropped"))?;
        let (dropped_rows, dropped_bytes, early, last) = dropped.unwrap_or_default();
        all.push(Kept {
            kind,
            slices: held.len() as u64,
            rows: held.iter().map(|held| count(held.row_count)).sum(),
            bytes: held.iter().map(|held| count(held.bytes)).sum(),
            since: held.first().map(|held| time(held.starts)),
            dropped_rows: count(dropped_rows),
            dropped_bytes: count(dropped_bytes),
            dropped_early: count(early),
            dropped_last: dropped.map(|_| time(last)),
        });
    }
    Ok(all)
}

/// A number that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Reports up to this one are in the rollups.
    Rolled,
    /// Reports up to this one are in the sums of hours.
    Summed,
    /// When sums that are too old were last looked for.
    Trimmed,
}

impl Mark {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rolled => "rolled",
            Self::Summed => "summed",
            Self::Trimmed => "trimmed",
        }
    }
}

const MARK: &str = "select value from marks where name = $1";
const SET_MARK: &str =
    "insert into marks (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value";

pub(super) async fn mark(db: &mut Telemetry, mark: Mark) -> Result<i64> {
    let found: Option<(i64,)> =
        on!(db, |sql| sqlx::query_as(MARK).bind(mark.as_str()).fetch_optional(sql).await)
            .map_err(StoreError::query("reading a mark"))?;
    Ok(found.map_or(0, |(value,)| value))
}

pub(super) async fn set_mark(tx: &mut TelemetryTx, mark: Mark, value: i64) -> Result<()> {
    on!(tx, |sql| sqlx::query(SET_MARK).bind(mark.as_str()).bind(value).execute(sql).await.map(drop))
        .map_err(StoreError::query("setting a mark"))?;
    Ok(())
}

/// Whether it is time to look for sums that are too old; notes that it was.
pub async fn trim_due(tx: &mut TelemetryTx, now: Timestamp, every: Duration) -> Result<bool> {
    if time(mark(tx, Mark::Trimmed).await?).plus(every) > now {
        return Ok(false);
    }
    set_mark(tx, Mark::Trimmed, now.as_millis()).await?;
    Ok(true)
}

/// The highest report that was ever taken.
pub(super) async fn last_report(db: &mut Telemetry) -> Result<i64> {
    let held = held(db, Kind::Reports).await?;
    let rolled = mark(db, Mark::Rolled).await?;
    Ok(held.iter().map(|held| held.last_id).fold(rolled, i64::max))
}

pub(super) fn bytes_of(payload: usize) -> i64 {
    column(payload as u64)
}

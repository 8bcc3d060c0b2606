//! What the engine was told of each rollout, in order, up to [`BYTES_MAX`]. A journal that reached its bound says so and
//! takes nothing more: one with a hole in it would replay to something that never was.

use muster_protocol::ids::RolloutId;

use super::convert::{column, count, from_json, to_json};
use super::{Control, ControlTx, Page, Result, StoreError};
use crate::rollout::journal::Entry;

/// Of one rollout's journal. A fleet of 100,000 fits with room for its changes.
pub const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How long a journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub entries: u64,
    pub bytes: u64,
    /// Something happened after the last entry that was not written.
    pub truncated: bool,
}

const EXTENT: &str = "select entries, bytes, truncated from rollout_journals where rollout = $1";

pub async fn extent(db: &mut Control, rollout: &RolloutId) -> Result<Extent> {
    let row: Option<(i64, i64, bool)> = sqlx::query_as(EXTENT)
        .bind(rollout.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a journal's extent"))?;
    Ok(row.map_or_else(Extent::default, |(entries, bytes, truncated)| Extent {
        entries: count(entries),
        bytes: count(bytes),
        truncated,
    }))
}

const GROW: &str = "insert into rollout_journals (rollout, entries, bytes, truncated) values ($1, $2, $3, $4) \
     on conflict (rollout) do update set entries = excluded.entries, bytes = excluded.bytes, \
     truncated = excluded.truncated";
const APPEND: &str = "insert into rollout_journal (rollout, seq, entry) values ($1, $2, $3)";

/// Appends an entry, or marks the journal as truncated.
pub async fn append(tx: &mut ControlTx, rollout: &RolloutId, entry: &Entry) -> Result<Extent> {
    let mut extent = extent(tx, rollout).await?;
    if extent.truncated {
        return Ok(extent);
    }
    let text = to_json("journal entry", entry)?;
    let bytes = extent.bytes.saturating_add(text.len() as u64);
    if bytes > BYTES_MAX {
        extent.truncated = true;
    } else {
        sqlx::query(APPEND)
            .bind(rollout.as_str())
            .bind(column(extent.entries))
            .bind(text)
            .execute(tx.sql())
            .await
            .map_err(StoreError::query("appending to a journal"))?;
        extent = Extent { entries: extent.entries + 1, bytes, truncated: false };
    }
    sqlx::query(GROW)
        .bind(rollout.as_str())
        .bind(column(extent.entries))
        .bind(column(extent.bytes))
        .bind(extent.truncated)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("noting a journal's extent"))?;
    Ok(extent)
}

const READ: &str =
    "select seq, entry from rollout_journal where rollout = $1 and seq >= $2 order by seq limit $3";

/// Entries in order, each with its number; the page's key is the number of the last entry read.
pub async fn read(db: &mut Control, rollout: &RolloutId, page: &Page<u64>) -> Result<Vec<(u64, Entry)>> {
    let rows: Vec<(i64, String)> = sqlx::query_as(READ)
        .bind(rollout.as_str())
        .bind(page.after.map_or(0, |last| column(last.saturating_add(1))))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading a journal"))?;
    rows.into_iter().map(|(seq, entry)| Ok((count(seq), from_json("journal entry", &entry)?))).collect()
}

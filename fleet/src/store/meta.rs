//! Facts about this database itself.

use super::{Control, ControlTx, Result, StoreError};

/// Which retained state on the broker is ours; see `say`.
pub const EPOCH: &str = "epoch";

/// How far in the log others were told of lineage; and how many events they took, and refused.
pub const LINEAGE_PLACE: &str = "lineage.place";
pub const LINEAGE_TOLD: &str = "lineage.told";
pub const LINEAGE_REFUSED: &str = "lineage.refused";

/// What tells this fleet's letters from those of others.
pub const MAIL_MARK: &str = "mail.mark";

/// How far in the log a webhook was told.
pub fn webhook_place(hook: &str) -> String {
    format!("webhook.{hook}.place")
}

const GET: &str = "select value from meta where key = $1";

pub async fn get(db: &mut Control, key: &str) -> Result<Option<String>> {
    let row: Option<(String,)> = sqlx::query_as(GET)
        .bind(key)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a fact"))?;
    Ok(row.map(|(value,)| value))
}

const SET: &str =
    "insert into meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value";

pub async fn set(tx: &mut ControlTx, key: &str, value: &str) -> Result<()> {
    sqlx::query(SET)
        .bind(key)
        .bind(value)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a fact"))?;
    Ok(())
}

//! Freezes: nothing is handed out, in the whole fleet or at a site, until somebody thaws it. One a scope.

use muster_protocol::ids::SiteName;
use muster_protocol::time::Timestamp;

use super::convert::{parse, time};
use super::{Control, ControlTx, LIMIT_MAX, Result, StoreError};

/// Since when, in real time, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFreeze {
    /// None is the whole fleet.
    pub site: Option<SiteName>,
    pub since: Timestamp,
    pub by: String,
    pub reason: String,
}

const FREEZE: &str = "insert into freezes (site, since, actor, reason) values ($1, $2, $3, $4) \
     on conflict (site) do update set actor = excluded.actor, reason = excluded.reason";

/// Freezes a scope; one that is frozen already keeps its `since`.
pub async fn freeze(tx: &mut ControlTx, freeze: &HeldFreeze) -> Result<()> {
    sqlx::query(FREEZE)
        .bind(key(freeze.site.as_ref()))
        .bind(freeze.since.as_millis())
        .bind(&freeze.by)
        .bind(&freeze.reason)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("freezing"))?;
    tx.touch_sites();
    Ok(())
}

const THAW: &str = "delete from freezes where site = $1";

/// Returns whether it was frozen.
pub async fn thaw(tx: &mut ControlTx, site: Option<&SiteName>) -> Result<bool> {
    let done =
        sqlx::query(THAW).bind(key(site)).execute(tx.sql()).await.map_err(StoreError::query("thawing"))?;
    tx.touch_sites();
    Ok(done.rows_affected() == 1)
}

const LIST: &str = "select site, since, actor, reason from freezes order by site limit $1";

/// The whole fleet's first, then by site. There is one a site at most, so this is all of them.
pub async fn all(db: &mut Control) -> Result<Vec<HeldFreeze>> {
    let rows: Vec<(String, i64, String, String)> = sqlx::query_as(LIST)
        .bind(i64::from(LIMIT_MAX))
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing freezes"))?;
    rows.into_iter()
        .map(|(site, since, by, reason)| {
            let site = if site.is_empty() { None } else { Some(parse("frozen site", &site)?) };
            Ok(HeldFreeze { site, since: time(since), by, reason })
        })
        .collect()
}

/// A site's name is never empty.
fn key(site: Option<&SiteName>) -> &str {
    site.map_or("", SiteName::as_str)
}

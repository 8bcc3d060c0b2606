//! Freezes: nothing is handed out, in the whole fleet or at a site, until somebody thaws it. One a scope.

use muster_protocol::ids::SiteName;
use muster_protocol::time::Timestamp;

use super::convert::{parse, time};
use super::{Control, ControlTx, Result, StoreError};

/// Sites that are frozen at the same time. More would be the whole fleet, which can be frozen at once.
pub const FREEZES_MAX: i64 = 100_000;

/// Since when, in real time, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFreeze {
    /// None is the whole fleet.
    pub site: Option<SiteName>,
    pub since: Timestamp,
    pub by: String,
    pub reason: String,
}

/// What became of a wish to freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Frozen {
    Frozen,
    /// There are [`FREEZES_MAX`] sites already.
    TooMany,
}

const COUNT: &str = "select count(*) from freezes where site <> '' and site <> $1";
const FREEZE: &str = "insert into freezes (site, since, actor, reason) values ($1, $2, $3, $4) \
     on conflict (site) do update set actor = excluded.actor, reason = excluded.reason";

/// Freezes a scope; one that is frozen already keeps its `since`. There is always room for the whole fleet.
pub async fn freeze(tx: &mut ControlTx, freeze: &HeldFreeze) -> Result<Frozen> {
    let failed = StoreError::query("freezing");
    let site = key(freeze.site.as_ref());
    if freeze.site.is_some() {
        let (others,): (i64,) =
            sqlx::query_as(COUNT).bind(site).fetch_one(tx.sql()).await.map_err(&failed)?;
        if others >= FREEZES_MAX {
            return Ok(Frozen::TooMany);
        }
    }
    sqlx::query(FREEZE)
        .bind(site)
        .bind(freeze.since.as_millis())
        .bind(&freeze.by)
        .bind(&freeze.reason)
        .execute(tx.sql())
        .await
        .map_err(&failed)?;
    tx.touch_sites();
    Ok(Frozen::Frozen)
}

const THAW: &str = "delete from freezes where site = $1";

/// Returns whether it was frozen.
pub async fn thaw(tx: &mut ControlTx, site: Option<&SiteName>) -> Result<bool> {
    let done =
        sqlx::query(THAW).bind(key(site)).execute(tx.sql()).await.map_err(StoreError::query("thawing"))?;
    tx.touch_sites();
    Ok(done.rows_affected() == 1)
}

const LIST: &str = "select site, since, actor, reason from freezes order by site";

/// The whole fleet's first, then by site: all of them, because one that is left out would be handed out to.
pub async fn all(db: &mut Control) -> Result<Vec<HeldFreeze>> {
    let rows: Vec<(String, i64, String, String)> =
        sqlx::query_as(LIST).fetch_all(db.sql()).await.map_err(StoreError::query("listing freezes"))?;
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

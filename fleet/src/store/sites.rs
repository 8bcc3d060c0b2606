//! What each site allows, by its name. The rules are the mind's document.

use muster_protocol::ids::SiteName;

use super::convert::{column, parse, to_json};
use super::documents::DocumentRow;
use super::{Control, ControlTx, Page, Result, Saved, StoreError, Versioned};
use crate::rollout::SiteRules;

const WHAT: &str = "site's rules";

const GET: &str = "select revision, document from sites where site = $1";

/// A site without rules of its own allows everything at any time.
pub async fn get(db: &mut Control, site: &SiteName) -> Result<Option<Versioned<SiteRules>>> {
    sqlx::query_as::<_, DocumentRow>(GET)
        .bind(site.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a site's rules"))?
        .map(|row| row.read(WHAT))
        .transpose()
}

const CREATE: &str =
    "insert into sites (site, revision, document) values ($1, 1, $2) on conflict (site) do nothing";
const SAVE: &str =
    "update sites set revision = revision + 1, document = $3 where site = $1 and revision = $2";

/// Replaces the rules if nobody else did since `seen` was loaded; `seen` 0 means that there were none.
pub async fn save(tx: &mut ControlTx, site: &SiteName, seen: u64, rules: &SiteRules) -> Result<Saved> {
    let document = to_json(WHAT, rules)?;
    let query = if seen == 0 {
        sqlx::query(CREATE).bind(site.as_str()).bind(document)
    } else {
        sqlx::query(SAVE).bind(site.as_str()).bind(column(seen)).bind(document)
    };
    let done = query.execute(tx.sql()).await.map_err(StoreError::query("saving a site's rules"))?;
    tx.touch_sites();
    Ok(Saved::of(done.rows_affected(), seen))
}

const LIST: &str = "select site, revision, document from sites where site > $1 order by site limit $2";

/// By name.
pub async fn list(db: &mut Control, page: &Page<SiteName>) -> Result<Vec<(SiteName, Versioned<SiteRules>)>> {
    let rows: Vec<(String, i64, String)> = sqlx::query_as(LIST)
        .bind(page.after.as_ref().map_or("", SiteName::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing sites' rules"))?;
    rows.into_iter()
        .map(|(site, revision, document)| {
            Ok((parse("site name", &site)?, DocumentRow { revision, document }.read(WHAT)?))
        })
        .collect()
}

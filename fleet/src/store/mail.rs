//! What each list of people was told by mail. The documents are the mind's.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{from_json, to_json};
use super::{Control, ControlTx, Result, StoreError};

const WHAT: &str = "mail book";
/// Lists of one fleet: one of everything, and one a project.
const LISTS_MAX: i64 = 1000;

const GET: &str = "select book from mail where list = $1";

pub async fn get<T: DeserializeOwned>(db: &mut Control, list: &str) -> Result<Option<T>> {
    let row: Option<(String,)> = sqlx::query_as(GET)
        .bind(list)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading what was mailed"))?;
    row.map(|(book,)| from_json(WHAT, &book)).transpose()
}

const SAVE: &str =
    "insert into mail (list, book) values ($1, $2) on conflict (list) do update set book = excluded.book";

/// There is one who writes, so nothing is compared.
pub async fn save(tx: &mut ControlTx, list: &str, book: &(impl Serialize + Sync)) -> Result<()> {
    sqlx::query(SAVE)
        .bind(list)
        .bind(to_json(WHAT, book)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing what was mailed"))?;
    Ok(())
}

const ALL: &str = "select list, book from mail order by list limit $1";

/// By list.
pub async fn all<T: DeserializeOwned>(db: &mut Control) -> Result<Vec<(String, T)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(ALL)
        .bind(LISTS_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading what was mailed"))?;
    rows.into_iter().map(|(list, book)| Ok((list, from_json(WHAT, &book)?))).collect()
}

const REMOVE: &str = "delete from mail where list = $1";

/// Forgets a list that nobody is on any more.
pub async fn remove(tx: &mut ControlTx, list: &str) -> Result<()> {
    sqlx::query(REMOVE)
        .bind(list)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting what was mailed"))?;
    Ok(())
}

//! The trust files that are published now, byte for byte, and every root there ever was.

use muster_protocol::time::Timestamp;
use muster_protocol::trust::{FileName, Files};

use super::convert::{column, count, time};
use super::{Control, ControlTx, Result, StoreError};

/// Roots, the four fixed names and the delegated files together; delegations are bounded far below.
const FILES_MAX: i64 = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFile {
    /// The name on the wire, such as `2.root.json`.
    pub name: String,
    pub version: u64,
    pub expires: Option<Timestamp>,
    pub published: Timestamp,
    pub size_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct NewTrustFile<'a> {
    pub name: &'a str,
    pub version: u64,
    pub expires: Option<Timestamp>,
    pub bytes: &'a [u8],
}

const PUT: &str = "insert into trust_files (name, version, expires, published, bytes) values ($1, $2, $3, $4, $5) \
     on conflict (name) do update set version = excluded.version, expires = excluded.expires, \
     published = excluded.published, bytes = excluded.bytes";

pub async fn put(tx: &mut ControlTx, file: NewTrustFile<'_>, at: Timestamp) -> Result<()> {
    sqlx::query(PUT)
        .bind(file.name)
        .bind(column(file.version))
        .bind(file.expires.map(Timestamp::as_millis))
        .bind(at.as_millis())
        .bind(file.bytes)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a trust file"))?;
    Ok(())
}

const BYTES: &str = "select bytes from trust_files where name = $1";

pub async fn bytes(db: &mut Control, name: &str) -> Result<Option<Vec<u8>>> {
    let row: Option<(Vec<u8>,)> = sqlx::query_as(BYTES)
        .bind(name)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a trust file"))?;
    Ok(row.map(|(bytes,)| bytes))
}

const VERSIONED: &str = "select version, bytes from trust_files where name = $1";

/// A file with the version that it has now.
pub async fn versioned(db: &mut Control, name: &str) -> Result<Option<(u64, Vec<u8>)>> {
    let row: Option<(i64, Vec<u8>)> = sqlx::query_as(VERSIONED)
        .bind(name)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a trust file"))?;
    Ok(row.map(|(version, bytes)| (count(version), bytes)))
}

const NEWEST_ROOT: &str =
    "select bytes from trust_files where name like '%.root.json' order by version desc limit 1";

/// The root that boxes trust from now on; `None` before the first.
pub async fn newest_root(db: &mut Control) -> Result<Option<Vec<u8>>> {
    let row: Option<(Vec<u8>,)> = sqlx::query_as(NEWEST_ROOT)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading the newest root"))?;
    Ok(row.map(|(bytes,)| bytes))
}

const ALL: &str = "select name, bytes from trust_files order by name limit $1";

/// Everything, by its name on the wire.
pub async fn all(db: &mut Control) -> Result<Files> {
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(ALL)
        .bind(FILES_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading the trust files"))?;
    Ok(rows.into_iter().collect())
}

/// What delegated roles list, by its name on the wire.
pub async fn delegated(db: &mut Control) -> Result<Files> {
    let mut files = all(db).await?;
    files.retain(|name, _| matches!(name.parse(), Ok(FileName::Delegated(_))));
    Ok(files)
}

const LIST: &str = "select name, version, expires, published, cast(length(bytes) as bigint) from trust_files \
     order by name limit $1";

pub async fn list(db: &mut Control) -> Result<Vec<TrustFile>> {
    let rows: Vec<(String, i64, Option<i64>, i64, i64)> = sqlx::query_as(LIST)
        .bind(FILES_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing the trust files"))?;
    let file = |(name, version, expires, published, bytes): (String, i64, Option<i64>, i64, i64)| TrustFile {
        name,
        version: count(version),
        expires: expires.map(time),
        published: time(published),
        size_bytes: count(bytes),
    };
    Ok(rows.into_iter().map(file).collect())
}

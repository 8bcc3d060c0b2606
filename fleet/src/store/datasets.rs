//! Versions of datasets, numbered in the order they came, and which runs were trained on which. Never a row of data.

use muster_protocol::ids::{DatasetName, Digest, RunId};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::convert::{column, count, from_json, parse, time, to_json};
use super::{Control, ControlTx, Page, Result, StoreError};
use crate::dataset::{Checked, External, Manifest, VersionRef};

const WHAT: &str = "dataset";

/// A version as somebody added it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Added {
    pub manifest: Manifest,
    /// The blob that its profile is.
    pub profile: Digest,
    pub checks: Vec<Checked>,
    pub external: Vec<External>,
    pub note: String,
    pub by: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub name: DatasetName,
    /// The digest of its manifest.
    pub sha256: Digest,
    pub number: u64,
    pub at: Timestamp,
    pub added: Added,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    sha256: String,
    number: i64,
    added: i64,
    document: String,
}

impl TryFrom<Row> for Version {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            name: parse("dataset name", &row.name)?,
            sha256: parse("dataset digest", &row.sha256)?,
            number: count(row.number),
            at: time(row.added),
            added: from_json(WHAT, &row.document)?,
        })
    }
}

const NEXT: &str = "select coalesce(max(number), 0) + 1 from dataset_versions where name = $1";
const ADD: &str =
    "insert into dataset_versions (name, sha256, number, added, document) values ($1, $2, $3, $4, $5)";

const HOLD: &str =
    "insert into dataset_content (sha256, name, version) values ($1, $2, $3) on conflict do nothing";

/// Adds a version that is not there yet. There is one writer at a time, so its number is its own.
pub async fn add(
    tx: &mut ControlTx,
    name: &DatasetName,
    sha256: &Digest,
    at: Timestamp,
    added: &Added,
) -> Result<()> {
    let failed = StoreError::query("adding a dataset's version");
    let (number,): (i64,) =
        sqlx::query_as(NEXT).bind(name.as_str()).fetch_one(tx.sql()).await.map_err(&failed)?;
    sqlx::query(ADD)
        .bind(name.as_str())
        .bind(sha256.to_string())
        .bind(number)
        .bind(at.as_millis())
        .bind(to_json(WHAT, added)?)
        .execute(tx.sql())
        .await
        .map_err(&failed)?;
    for content in added.manifest.files.iter().map(|file| &file.sha256).chain([&added.profile]) {
        sqlx::query(HOLD)
            .bind(content.to_string())
            .bind(name.as_str())
            .bind(sha256.to_string())
            .execute(tx.sql())
            .await
            .map_err(&failed)?;
    }
    Ok(())
}

const OF_CONTENT: &str = "select distinct name from dataset_content where sha256 = $1 limit 1000";

/// Whose versions hold this file or profile: none, if it was only uploaded yet.
pub async fn of_content(db: &mut Control, content: &Digest) -> Result<Vec<DatasetName>> {
    let rows: Vec<(String,)> = sqlx::query_as(OF_CONTENT)
        .bind(content.to_string())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("looking up whose content it is"))?;
    rows.iter().map(|(name,)| parse("dataset name", name)).collect()
}

const BY_NUMBER: &str =
    "select name, sha256, number, added, document from dataset_versions where name = $1 and number = $2";
const BY_DIGEST: &str =
    "select name, sha256, number, added, document from dataset_versions where name = $1 and sha256 = $2";
const LATEST: &str = "select name, sha256, number, added, document from dataset_versions where name = $1 \
     order by number desc limit 1";

pub async fn get(db: &mut Control, name: &DatasetName, version: VersionRef) -> Result<Option<Version>> {
    let query = match version {
        VersionRef::Latest => sqlx::query_as::<_, Row>(LATEST).bind(name.as_str()),
        VersionRef::Number(number) => sqlx::query_as(BY_NUMBER).bind(name.as_str()).bind(column(number)),
        VersionRef::Digest(sha256) => sqlx::query_as(BY_DIGEST).bind(name.as_str()).bind(sha256.to_string()),
    };
    query
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a dataset's version"))?
        .map(Version::try_from)
        .transpose()
}

const VERSIONS: &str = "select name, sha256, number, added, document from dataset_versions \
     where name = $1 and number < $2 order by number desc limit $3";

/// The newest first; pages go on below a number.
pub async fn versions(db: &mut Control, name: &DatasetName, page: &Page<u64>) -> Result<Vec<Version>> {
    let rows: Vec<Row> = sqlx::query_as(VERSIONS)
        .bind(name.as_str())
        .bind(page.after.map_or(i64::MAX, column))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing a dataset's versions"))?;
    rows.into_iter().map(Version::try_from).collect()
}

const DATASETS: &str = "select name, sha256, number, added, document from dataset_versions as version \
     where name > $1 and number = (select max(number) from dataset_versions where name = version.name) \
     order by name limit $2";

/// The latest version of each, by name.
pub async fn list(db: &mut Control, page: &Page<DatasetName>) -> Result<Vec<Version>> {
    let rows: Vec<Row> = sqlx::query_as(DATASETS)
        .bind(page.after.as_ref().map_or("", DatasetName::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing datasets"))?;
    rows.into_iter().map(Version::try_from).collect()
}

const TRAINED: &str =
    "insert into run_datasets (run, name, sha256) values ($1, $2, $3) on conflict do nothing";

/// Writes down what a run is trained on. Said twice, it is written once.
pub async fn trained(tx: &mut ControlTx, run: &RunId, name: &DatasetName, sha256: &Digest) -> Result<()> {
    sqlx::query(TRAINED)
        .bind(run.as_str())
        .bind(name.as_str())
        .bind(sha256.to_string())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing what a run is trained on"))?;
    Ok(())
}

const OF_RUN: &str = "select version.name, version.sha256, version.number, version.added, version.document \
     from run_datasets join dataset_versions as version \
     on version.name = run_datasets.name and version.sha256 = run_datasets.sha256 \
     where run_datasets.run = $1 order by version.name, version.number limit $2";

pub async fn of_run(db: &mut Control, run: &RunId, limit: u32) -> Result<Vec<Version>> {
    let rows: Vec<Row> = sqlx::query_as(OF_RUN)
        .bind(run.as_str())
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading what a run was trained on"))?;
    rows.into_iter().map(Version::try_from).collect()
}

const RUNS: &str = "select run from run_datasets where name = $1 and sha256 = $2 order by run limit $3";

/// The runs that were trained on a version.
pub async fn runs(db: &mut Control, name: &DatasetName, sha256: &Digest, limit: u32) -> Result<Vec<RunId>> {
    let rows: Vec<(String,)> = sqlx::query_as(RUNS)
        .bind(name.as_str())
        .bind(sha256.to_string())
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing the runs of a dataset"))?;
    rows.iter().map(|(run,)| parse("run id", run)).collect()
}

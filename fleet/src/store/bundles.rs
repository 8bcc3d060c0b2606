//! Bundles that were accepted: what the catalogue lists now, and what it listed once.

use muster_protocol::ids::{BundlePath, BundleVersion, Digest, ModelName};
use muster_protocol::manifest::Manifest;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Revocation;

use super::convert::{column, count, from_json, parse, time};
use super::{Control, ControlTx, NewestFirst, Page, Result, StoreError};
use crate::registry::Candidate;

#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    pub path: BundlePath,
    /// SHA-256 of the manifest: its identity.
    pub sha256: Digest,
    pub accepted: Timestamp,
    pub size_bytes: u64,
    pub manifest: Manifest,
    /// Blob of the drift reference.
    pub reference: Option<Digest>,
    /// Whether it may be activated anywhere: the catalogue lists it now.
    pub catalogued: bool,
    /// The catalogue says that it must not run any more, and why.
    pub revoked: Option<Revocation>,
}

/// A bundle that passed all checks.
#[derive(Clone, Debug)]
pub struct NewBundle {
    pub path: BundlePath,
    pub sha256: Digest,
    pub manifest: Manifest,
    /// The manifest as it was signed.
    pub bytes: Vec<u8>,
}

impl Bundle {
    pub fn key(&self) -> NewestFirst {
        NewestFirst { at: self.accepted, id: self.sha256.to_string() }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    sha256: String,
    path: String,
    accepted: i64,
    size_bytes: i64,
    manifest: String,
    reference: Option<String>,
    catalogued: bool,
    revoked: Option<String>,
}

impl TryFrom<Row> for Bundle {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            path: parse("bundle path", &row.path)?,
            sha256: parse("bundle digest", &row.sha256)?,
            accepted: time(row.accepted),
            size_bytes: count(row.size_bytes),
            manifest: from_json("manifest", &row.manifest)?,
            reference: row.reference.as_deref().map(|text| parse("reference digest", text)).transpose()?,
            catalogued: row.catalogued,
            revoked: row.revoked.as_deref().map(|text| from_json("revocation", text)).transpose()?,
        })
    }
}

const GET: &str = "select sha256, path, accepted, size_bytes, manifest, reference, catalogued, revoked from bundles where sha256 = $1";

pub async fn get(db: &mut Control, sha256: &Digest) -> Result<Option<Bundle>> {
    one(db, GET, sha256.to_string()).await
}

const AT_PATH: &str = "select sha256, path, accepted, size_bytes, manifest, reference, catalogued, revoked from bundles \
     where path = $1 and catalogued = true order by accepted desc limit 1";

/// The bundle that the catalogue lists at a path now.
pub async fn at_path(db: &mut Control, path: &BundlePath) -> Result<Option<Bundle>> {
    one(db, AT_PATH, path.to_string()).await
}

const REVOKED_AT: &str = "select sha256, path, accepted, size_bytes, manifest, reference, catalogued, revoked from bundles \
     where path = $1 and revoked is not null order by accepted desc limit 1";

/// The bundle of this path, if it must not run any more.
pub async fn revoked_at(db: &mut Control, path: &BundlePath) -> Result<Option<Bundle>> {
    one(db, REVOKED_AT, path.to_string()).await
}

async fn one(db: &mut Control, sql: &'static str, key: String) -> Result<Option<Bundle>> {
    sqlx::query_as::<_, Row>(sql)
        .bind(key)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a bundle"))?
        .map(Bundle::try_from)
        .transpose()
}

const LIST: &str = "select sha256, path, accepted, size_bytes, manifest, reference, catalogued, revoked from bundles \
     where ($1 is null or model = $1) and (accepted < $2 or (accepted = $2 and sha256 < $3)) \
     order by accepted desc, sha256 desc limit $4";

/// The newest first.
pub async fn list(
    db: &mut Control,
    model: Option<&ModelName>,
    page: &Page<NewestFirst>,
) -> Result<Vec<Bundle>> {
    let (at, id) = page.bound();
    sqlx::query_as::<_, Row>(LIST)
        .bind(model.map(ModelName::as_str))
        .bind(at)
        .bind(id)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing bundles"))?
        .into_iter()
        .map(Bundle::try_from)
        .collect()
}

const VERSION: &str = "select sha256, path, accepted, size_bytes, manifest, reference, catalogued, revoked from bundles \
     where model = $1 and version = $2 order by catalogued desc, accepted desc limit 1";

/// A model's version by what people call it: the one that the catalogue lists, else the newest that it listed once.
pub async fn version(db: &mut Control, model: &ModelName, version: &BundleVersion) -> Result<Option<Bundle>> {
    sqlx::query_as::<_, Row>(VERSION)
        .bind(model.as_str())
        .bind(version.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a model's version"))?
        .map(Bundle::try_from)
        .transpose()
}

/// A model that has bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub name: ModelName,
    pub versions: u64,
}

const MODELS: &str =
    "select model, count(*) from bundles where model > $1 group by model order by model limit $2";

/// By name.
pub async fn models(db: &mut Control, page: &Page<ModelName>) -> Result<Vec<Model>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(MODELS)
        .bind(page.after.as_ref().map_or("", ModelName::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing models"))?;
    rows.into_iter()
        .map(|(name, versions)| Ok(Model { name: parse("model name", &name)?, versions: count(versions) }))
        .collect()
}

const STANDING: &str = "select sha256, path, accepted, catalogued, revoked is not null from bundles where model = $1 \
     order by accepted desc, sha256 desc limit $2";

/// A version without its manifest: where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub path: BundlePath,
    pub candidate: Candidate,
}

/// A model's versions, the newest first.
pub async fn standing(db: &mut Control, model: &ModelName, limit: u32) -> Result<Vec<Standing>> {
    let rows: Vec<(String, String, i64, bool, bool)> = sqlx::query_as(STANDING)
        .bind(model.as_str())
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing a model's versions"))?;
    rows.into_iter()
        .map(|(sha256, path, accepted, catalogued, is_revoked)| {
            let candidate = Candidate {
                bundle: parse("bundle digest", &sha256)?,
                accepted: time(accepted),
                may_run: catalogued && !is_revoked,
                is_revoked,
            };
            Ok(Standing { path: parse("bundle path", &path)?, candidate })
        })
        .collect()
}

const CATALOGUED: &str = "select sha256, path from bundles where catalogued = true order by path limit $1";

/// Path and digest of everything that may run.
pub async fn catalogued(db: &mut Control, limit: u32) -> Result<Vec<(BundlePath, Digest)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(CATALOGUED)
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing the catalogue"))?;
    rows.iter()
        .map(|(sha256, path)| Ok((parse("bundle path", path)?, parse("bundle digest", sha256)?)))
        .collect()
}

const ADD: &str = "insert into bundles (sha256, path, model, version, created, accepted, size_bytes, manifest, reference, \
     catalogued) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, true) \
     on conflict (sha256) do update set path = excluded.path, catalogued = true";
const ADD_FILE: &str = "insert into bundle_files (bundle, path, sha256, length) values ($1, $2, $3, $4) \
     on conflict (bundle, path) do nothing";

/// Takes a bundle into the catalogue. One that was there before comes back.
pub async fn add(tx: &mut ControlTx, bundle: &NewBundle, at: Timestamp) -> Result<()> {
    let manifest = &bundle.manifest;
    let sha256 = bundle.sha256.to_string();
    let reference = manifest.reference.as_deref().and_then(|path| manifest.file(path));
    let text = std::str::from_utf8(&bundle.bytes)
        .map_err(|source| StoreError::Encode { what: "manifest", source: Box::new(source) })?;
    sqlx::query(ADD)
        .bind(&sha256)
        .bind(bundle.path.to_string())
        .bind(bundle.path.model().as_str())
        .bind(bundle.path.version().as_str())
        .bind(manifest.created.as_millis())
        .bind(at.as_millis())
        .bind(column(manifest.total_bytes()))
        .bind(text)
        .bind(reference.map(|file| file.sha256.to_string()))
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a bundle"))?;
    for file in &manifest.files {
        sqlx::query(ADD_FILE)
            .bind(&sha256)
            .bind(&file.path)
            .bind(file.sha256.to_string())
            .bind(column(file.length))
            .execute(tx.sql())
            .await
            .map_err(StoreError::query("writing a bundle's files"))?;
    }
    Ok(())
}

const YANK: &str = "update bundles set catalogued = false where sha256 = $1";

/// The catalogue no longer lists it: it is never activated again, and runs on where it runs.
pub async fn yank(tx: &mut ControlTx, sha256: &Digest) -> Result<()> {
    sqlx::query(YANK)
        .bind(sha256.to_string())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("yanking a bundle"))?;
    Ok(())
}

const REVOKE: &str = "update bundles set revoked = $1 where path = $2";

/// What the catalogue says now of every bundle that had this path: that it must not run any more, or nothing.
pub async fn set_revoked(tx: &mut ControlTx, path: &BundlePath, revoked: Option<&Revocation>) -> Result<()> {
    let text = revoked
        .map(serde_json::to_string)
        .transpose()
        .map_err(|source| StoreError::Encode { what: "revocation", source: Box::new(source) })?;
    sqlx::query(REVOKE)
        .bind(text)
        .bind(path.to_string())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("revoking a bundle"))?;
    Ok(())
}

const SERVED: &str = "select exists (select 1 from bundles where sha256 = $1 and catalogued = true) \
     or exists (select 1 from bundle_files f join bundles b on b.sha256 = f.bundle \
                where f.sha256 = $1 and b.catalogued = true)";

/// Whether devices may have this blob: it is a catalogued manifest, or a file that one names.
pub async fn is_served(db: &mut Control, blob: &Digest) -> Result<bool> {
    let (served,): (bool,) = sqlx::query_as(SERVED)
        .bind(blob.to_string())
        .fetch_one(db.sql())
        .await
        .map_err(StoreError::query("asking whether a blob is catalogued"))?;
    Ok(served)
}

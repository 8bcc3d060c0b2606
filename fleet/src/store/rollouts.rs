//! Rollouts and where each device stands in them. The documents are the mind's; we know the columns beside them.

use muster_protocol::ids::{DeviceId, ModelName, RolloutId};
use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{column, count, from_json, parse, time, to_json};
use super::documents::{DocumentRow, read_all};
use super::{Control, ControlTx, LIMIT_MAX, NewestFirst, Page, Result, Saved, StoreError, Versioned};

const WHAT: &str = "rollout";

const CREATE: &str =
    "insert into rollouts (id, revision, model, phase, created, document) values ($1, 1, $2, $3, $4, $5)";

/// Writes a new rollout, at revision 1.
pub async fn create(
    tx: &mut ControlTx,
    id: &RolloutId,
    model: &ModelName,
    phase: &str,
    created: Timestamp,
    document: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(CREATE)
        .bind(id.as_str())
        .bind(model.as_str())
        .bind(phase)
        .bind(created.as_millis())
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("creating a rollout"))?;
    Ok(())
}

const SAVE: &str =
    "update rollouts set revision = revision + 1, phase = $3, document = $4 where id = $1 and revision = $2";

/// Replaces the document if nobody else did since `seen` was loaded.
pub async fn save(
    tx: &mut ControlTx,
    id: &RolloutId,
    seen: u64,
    phase: &str,
    document: &(impl Serialize + Sync),
) -> Result<Saved> {
    let done = sqlx::query(SAVE)
        .bind(id.as_str())
        .bind(column(seen))
        .bind(phase)
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("saving a rollout"))?;
    Ok(Saved::of(done.rows_affected(), seen))
}

const GET: &str = "select revision, document from rollouts where id = $1";

pub async fn get<T: DeserializeOwned>(db: &mut Control, id: &RolloutId) -> Result<Option<Versioned<T>>> {
    sqlx::query_as::<_, DocumentRow>(GET)
        .bind(id.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a rollout"))?
        .map(|row| row.read(WHAT))
        .transpose()
}

const COUNTS: &str = "select phase, count(*) from rollouts group by phase order by phase";

/// How many there are by phase; those without any are left out.
pub async fn counts(db: &mut Control) -> Result<Vec<(String, u64)>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as(COUNTS).fetch_all(db.sql()).await.map_err(StoreError::query("counting rollouts"))?;
    Ok(rows.into_iter().map(|(phase, n)| (phase, count(n))).collect())
}

const LIST: &str = "select revision, document from rollouts where ($1 is null or model = $1) \
     and ($2 is null or phase = $2) and (created < $3 or (created = $3 and id < $4)) \
     order by created desc, id desc limit $5";

/// The newest first.
pub async fn list<T: DeserializeOwned>(
    db: &mut Control,
    model: Option<&ModelName>,
    phase: Option<&str>,
    page: &Page<NewestFirst>,
) -> Result<Vec<Versioned<T>>> {
    let (at, id) = page.bound();
    let rows = sqlx::query_as::<_, DocumentRow>(LIST)
        .bind(model.map(ModelName::as_str))
        .bind(phase)
        .bind(at)
        .bind(id)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing rollouts"))?;
    read_all(WHAT, &rows)
}

const PUT_DEVICE: &str = "insert into rollout_devices (rollout, device, document) values ($1, $2, $3) \
     on conflict (rollout, device) do update set document = excluded.document";

pub async fn put_device(
    tx: &mut ControlTx,
    rollout: &RolloutId,
    device: &DeviceId,
    record: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(PUT_DEVICE)
        .bind(rollout.as_str())
        .bind(device.as_str())
        .bind(to_json("rollout's device", record)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a rollout's device"))?;
    Ok(())
}

/// Rows of one statement: three parameters each, and a database takes 32,766.
const CHUNK: usize = 1000;

/// Writes many at once: a fleet that begins a rollout begins it with every device.
pub async fn put_devices<'a, T: Serialize + Sync + 'a>(
    tx: &mut ControlTx,
    rollout: &RolloutId,
    records: impl IntoIterator<Item = (&'a DeviceId, &'a T)>,
) -> Result<()> {
    let rows = records.into_iter().map(|(device, record)| Ok((device, to_json("rollout's device", record)?)));
    let rows: Vec<(&DeviceId, String)> = rows.collect::<Result<_>>()?;
    for chunk in rows.chunks(CHUNK) {
        let mut put = sqlx::QueryBuilder::new("insert into rollout_devices (rollout, device, document) ");
        put.push_values(chunk, |mut row, (device, document)| {
            row.push_bind(rollout.as_str()).push_bind(device.as_str()).push_bind(document.as_str());
        });
        put.push(" on conflict (rollout, device) do update set document = excluded.document");
        put.build().execute(tx.sql()).await.map_err(StoreError::query("writing a rollout's devices"))?;
    }
    Ok(())
}

const DEVICE: &str = "select document from rollout_devices where rollout = $1 and device = $2";

/// Where one device stands in a rollout.
pub async fn device<T: DeserializeOwned>(
    db: &mut Control,
    rollout: &RolloutId,
    device: &DeviceId,
) -> Result<Option<T>> {
    let row: Option<(String,)> = sqlx::query_as(DEVICE)
        .bind(rollout.as_str())
        .bind(device.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a rollout's device"))?;
    row.map(|(document,)| from_json("rollout's device", &document)).transpose()
}

const CREATED_SINCE: &str =
    "select revision, document from rollouts where created >= $1 order by created desc, id desc limit $2";

/// Those that were created at this moment or later, the newest first.
pub async fn created_since<T: DeserializeOwned>(
    db: &mut Control,
    since: Timestamp,
) -> Result<Vec<Versioned<T>>> {
    let rows = sqlx::query_as::<_, DocumentRow>(CREATED_SINCE)
        .bind(since.as_millis())
        .bind(i64::from(LIMIT_MAX))
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing the newest rollouts"))?;
    read_all(WHAT, &rows)
}

const REVISIONS: &str = "select id, revision, created from rollouts \
     where created < $1 or (created = $1 and id < $2) order by created desc, id desc limit $3";

/// Every rollout's revision, the newest first: what must be read again.
pub async fn revisions(db: &mut Control) -> Result<Vec<(RolloutId, u64)>> {
    revisions_by(db, LIMIT_MAX).await
}

/// All of them, read by so many at once.
async fn revisions_by(db: &mut Control, at_once: u32) -> Result<Vec<(RolloutId, u64)>> {
    let mut all = Vec::new();
    let mut page = Page::<NewestFirst>::first(at_once);
    loop {
        let (at, id) = page.bound();
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(REVISIONS)
            .bind(at)
            .bind(id)
            .bind(page.limit())
            .fetch_all(db.sql())
            .await
            .map_err(StoreError::query("listing the rollouts' revisions"))?;
        for (id, revision, _) in &rows {
            all.push((parse("rollout id", id)?, count(*revision)));
        }
        match rows.into_iter().nth(at_once as usize - 1) {
            Some((id, _, created)) => page = Page::after(NewestFirst { at: time(created), id }, at_once),
            None => return Ok(all),
        }
    }
}

const DEVICES: &str = "select device, document from rollout_devices where rollout = $1 and device > $2 order by device limit $3";

/// By device.
pub async fn devices<T: DeserializeOwned>(
    db: &mut Control,
    rollout: &RolloutId,
    page: &Page<DeviceId>,
) -> Result<Vec<(DeviceId, T)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(DEVICES)
        .bind(rollout.as_str())
        .bind(page.after.as_ref().map_or("", DeviceId::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing a rollout's devices"))?;
    rows.iter()
        .map(|(device, document)| Ok((parse("device id", device)?, from_json("rollout's device", document)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    fn id(n: u8) -> RolloutId {
        RolloutId::mint([n; 16])
    }

    /// Created at `created`, in seconds; their ids are counted from 1.
    async fn store(dir: &std::path::Path, created: &[i64]) -> Store {
        let store = Store::open(dir).await.unwrap();
        let mut tx = store.write().await.unwrap();
        for (n, created) in (1..).zip(created) {
            let model: ModelName = "er-beds".parse().unwrap();
            let at = Timestamp::from_seconds(*created);
            create(&mut tx, &id(n), &model, "running", at, &n).await.unwrap();
        }
        tx.commit().await.unwrap();
        store
    }

    #[tokio::test]
    async fn however_many_there_are_each_is_told_of_once_and_the_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        // Two of one moment: the id decides.
        let store = store(dir.path(), &[50, 20, 30, 30, 40]).await;
        let mut db = store.read().await.unwrap();
        let all = revisions(&mut db).await.unwrap();
        let ids: Vec<&RolloutId> = all.iter().map(|(id, _)| id).collect();
        assert_eq!((ids.len(), ids[0], ids[4]), (5, &id(1), &id(2)));
        for at_once in 1..=6 {
            assert_eq!(revisions_by(&mut db, at_once).await.unwrap(), all, "{at_once} at once");
        }
    }

    #[tokio::test]
    async fn what_a_clock_that_was_set_back_left_in_the_future_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), &[10, 30, 20]).await;
        let mut db = store.read().await.unwrap();
        let found = created_since::<u8>(&mut db, Timestamp::from_seconds(20)).await.unwrap();
        assert_eq!(found.into_iter().map(|found| found.document).collect::<Vec<_>>(), [2, 3]);
    }
}

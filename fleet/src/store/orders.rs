//! The order that each device should act on: one row a device, the newest.

use muster_protocol::capture::CaptureRequest;
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Want;

use super::convert::{column, count, from_json, parse, time, to_json};
use super::{Control, ControlTx, Page, Result, StoreError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrder {
    pub device: DeviceId,
    pub version: u64,
    pub issued: Timestamp,
    pub expires: Timestamp,
    pub wants: Vec<Want>,
    pub captures: Vec<CaptureRequest>,
    /// As signed.
    pub bytes: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct Row {
    device: String,
    version: i64,
    issued: i64,
    expires: i64,
    wants: String,
    captures: String,
    bytes: Vec<u8>,
}

impl TryFrom<Row> for StoredOrder {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            device: parse("device id", &row.device)?,
            version: count(row.version),
            issued: time(row.issued),
            expires: time(row.expires),
            wants: from_json("order's wants", &row.wants)?,
            captures: from_json("order's captures", &row.captures)?,
            bytes: row.bytes,
        })
    }
}

const PUT: &str = "insert into orders (device, version, issued, expires, wants, captures, bytes) values ($1, $2, $3, $4, $5, $6, $7) \
     on conflict (device) do update set version = excluded.version, issued = excluded.issued, \
     expires = excluded.expires, wants = excluded.wants, captures = excluded.captures, bytes = excluded.bytes";

pub async fn put(tx: &mut ControlTx, order: &StoredOrder) -> Result<()> {
    sqlx::query(PUT)
        .bind(order.device.as_str())
        .bind(column(order.version))
        .bind(order.issued.as_millis())
        .bind(order.expires.as_millis())
        .bind(to_json("order's wants", &order.wants)?)
        .bind(to_json("order's captures", &order.captures)?)
        .bind(&order.bytes)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing an order"))?;
    tx.touch(&order.device);
    Ok(())
}

const GET: &str =
    "select device, version, issued, expires, wants, captures, bytes from orders where device = $1";

pub async fn get(db: &mut Control, device: &DeviceId) -> Result<Option<StoredOrder>> {
    sqlx::query_as::<_, Row>(GET)
        .bind(device.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading an order"))?
        .map(StoredOrder::try_from)
        .transpose()
}

const REMOVE: &str = "delete from orders where device = $1";

/// Forgets a device's order. Returns whether there was one.
pub async fn remove(tx: &mut ControlTx, device: &DeviceId) -> Result<bool> {
    let done = sqlx::query(REMOVE)
        .bind(device.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting an order"))?;
    tx.touch(device);
    Ok(done.rows_affected() == 1)
}

const LIST: &str = "select device, version, issued, expires, wants, captures, bytes from orders where device > $1 order by device limit $2";

/// By device.
pub async fn list(db: &mut Control, page: &Page<DeviceId>) -> Result<Vec<StoredOrder>> {
    sqlx::query_as::<_, Row>(LIST)
        .bind(page.after.as_ref().map_or("", DeviceId::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing orders"))?
        .into_iter()
        .map(StoredOrder::try_from)
        .collect()
}

const OF_MEMBERS: &str = "select orders.device, version, issued, expires, wants, captures, bytes from orders \
     join identities on identities.device = orders.device \
     where identities.state = 'active' and orders.device > $1 order by orders.device limit $2";

/// By device, only those of active ones: what may stand on the broker.
pub async fn of_members(db: &mut Control, page: &Page<DeviceId>) -> Result<Vec<StoredOrder>> {
    sqlx::query_as::<_, Row>(OF_MEMBERS)
        .bind(page.after.as_ref().map_or("", DeviceId::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing the orders of active devices"))?
        .into_iter()
        .map(StoredOrder::try_from)
        .collect()
}

const EXPIRING: &str = "select orders.device, version, issued, expires, wants, captures, bytes from orders \
     join identities on identities.device = orders.device \
     where identities.state = 'active' and expires < $1 \
     and (expires > $2 or (expires = $2 and orders.device > $3)) order by expires, orders.device limit $4";

/// Orders of active devices that expire before `before`, the most urgent first.
pub async fn expiring(
    db: &mut Control,
    before: Timestamp,
    page: &Page<(Timestamp, DeviceId)>,
) -> Result<Vec<StoredOrder>> {
    let after = page.after.as_ref();
    let (expires, device) = after.map_or((i64::MIN, ""), |(at, device)| (at.as_millis(), device.as_str()));
    sqlx::query_as::<_, Row>(EXPIRING)
        .bind(before.as_millis())
        .bind(expires)
        .bind(device)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing expiring orders"))?
        .into_iter()
        .map(StoredOrder::try_from)
        .collect()
}

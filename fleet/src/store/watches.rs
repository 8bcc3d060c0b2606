//! What the eye for drift remembers between windows: of each bundle on each box, and of each bundle at each site.

use muster_protocol::ids::{DeviceId, Digest, SiteName, SlotName};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{from_json, parse, to_json};
use super::sql::among;
use super::{Control, ControlTx, Page, Result, StoreError};

const WATCH: &str = "watch";
const BASELINE: &str = "baseline";

/// A bundle in a slot of a box.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    pub bundle: Digest,
    pub device: DeviceId,
    pub slot: SlotName,
}

const PUT: &str = "insert into watches (bundle, device, slot, document) values ($1, $2, $3, $4) \
     on conflict (bundle, device, slot) do update set document = excluded.document";

pub async fn put(tx: &mut ControlTx, seat: &Seat, document: &(impl Serialize + Sync)) -> Result<()> {
    sqlx::query(PUT)
        .bind(seat.bundle.to_string())
        .bind(seat.device.as_str())
        .bind(seat.slot.as_str())
        .bind(to_json(WATCH, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing what is remembered of a box's windows"))?;
    tx.shows(&seat.device);
    Ok(())
}

const GET: &str = "select document from watches where bundle = $1 and device = $2 and slot = $3";

pub async fn get<T: DeserializeOwned>(db: &mut Control, seat: &Seat) -> Result<Option<T>> {
    let row: Option<(String,)> = sqlx::query_as(GET)
        .bind(seat.bundle.to_string())
        .bind(seat.device.as_str())
        .bind(seat.slot.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading what is remembered of a box's windows"))?;
    row.map(|(document,)| from_json(WATCH, &document)).transpose()
}

/// What is remembered of the bundle in this slot of the devices.
pub async fn of<T: DeserializeOwned>(
    db: &mut Control,
    devices: &[&DeviceId],
    (slot, bundle): (&SlotName, &Digest),
) -> Result<Vec<(DeviceId, T)>> {
    let mut ask = sqlx::QueryBuilder::new("select device, document from watches where bundle = ");
    ask.push_bind(bundle.to_string()).push(" and slot = ").push_bind(slot.as_str());
    among(&mut ask, devices);
    let rows: Vec<(String, String)> = ask
        .build_query_as()
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading what is remembered of windows"))?;
    rows.iter()
        .map(|(device, document)| Ok((parse("device id", device)?, from_json(WATCH, document)?)))
        .collect()
}

const LIST: &str = "select bundle, device, slot, document from watches where (bundle, device, slot) > ($1, $2, $3) \
     order by bundle, device, slot limit $4";

/// By bundle, device and slot.
pub async fn list<T: DeserializeOwned>(db: &mut Control, page: &Page<Seat>) -> Result<Vec<(Seat, T)>> {
    let after = page.after.as_ref();
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(LIST)
        .bind(after.map_or_else(String::new, |seat| seat.bundle.to_string()))
        .bind(after.map_or("", |seat| seat.device.as_str()))
        .bind(after.map_or("", |seat| seat.slot.as_str()))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing what is remembered of windows"))?;
    rows.iter()
        .map(|(bundle, device, slot, document)| {
            let seat = Seat {
                bundle: parse("bundle digest", bundle)?,
                device: parse("device id", device)?,
                slot: parse("slot", slot)?,
            };
            Ok((seat, from_json(WATCH, document)?))
        })
        .collect()
}

const FORGET: &str = "delete from watches where bundle = $1 and device = $2 and slot = $3";

/// Forgets a box that does not run the bundle any more.
pub async fn forget(tx: &mut ControlTx, seat: &Seat) -> Result<()> {
    sqlx::query(FORGET)
        .bind(seat.bundle.to_string())
        .bind(seat.device.as_str())
        .bind(seat.slot.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting a box's windows"))?;
    tx.shows(&seat.device);
    Ok(())
}

const PUT_SITE: &str = "insert into baselines (bundle, site, document) values ($1, $2, $3) \
     on conflict (bundle, site) do update set document = excluded.document";

pub async fn put_site(
    tx: &mut ControlTx,
    bundle: &Digest,
    site: &SiteName,
    document: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(PUT_SITE)
        .bind(bundle.to_string())
        .bind(site.as_str())
        .bind(to_json(BASELINE, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a site's baseline"))?;
    Ok(())
}

const GET_SITE: &str = "select document from baselines where bundle = $1 and site = $2";

pub async fn site<T: DeserializeOwned>(
    db: &mut Control,
    bundle: &Digest,
    site: &SiteName,
) -> Result<Option<T>> {
    let row: Option<(String,)> = sqlx::query_as(GET_SITE)
        .bind(bundle.to_string())
        .bind(site.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a site's baseline"))?;
    row.map(|(document,)| from_json(BASELINE, &document)).transpose()
}

const LIST_SITES: &str =
    "select site, document from baselines where bundle = $1 and site > $2 order by site limit $3";

/// What is known of each site of a bundle, by site.
pub async fn sites<T: DeserializeOwned>(
    db: &mut Control,
    bundle: &Digest,
    page: &Page<SiteName>,
) -> Result<Vec<(SiteName, T)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(LIST_SITES)
        .bind(bundle.to_string())
        .bind(page.after.as_ref().map_or("", SiteName::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing sites' baselines"))?;
    rows.iter().map(|(site, document)| Ok((parse("site", site)?, from_json(BASELINE, document)?))).collect()
}

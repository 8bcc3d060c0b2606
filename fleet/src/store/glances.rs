//! All boxes at a glance: how many are here, answer or fail, and what answers where, without a look into any document.
//! Triggers of the database keep the rows (`migrations/control/0100_glances.sql`); members alone are counted.

use std::collections::BTreeSet;

use muster_protocol::ids::{BundlePath, DeviceId, Digest, ModelName, SiteName, SlotName};
use muster_protocol::time::Timestamp;
use sqlx::{QueryBuilder, Sqlite};

use super::convert::{count, parse};
use super::{Control, Result, StoreError};

/// Whose boxes are meant: those of some sites, or all.
pub type Sites<'a> = Option<&'a BTreeSet<SiteName>>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headcount {
    pub total: u64,
    pub online: u64,
    /// Devices on which some slot answers.
    pub answering: u64,
    /// Devices on which some slot cannot have its wish, or that refuse their order.
    pub failing: u64,
}

/// How many slots of a site's devices answer with a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub bundle: Digest,
    pub path: BundlePath,
    pub site: SiteName,
    pub slots: u64,
}

/// Narrows a statement to those of `sites`.
pub(super) fn within(ask: &mut QueryBuilder<Sqlite>, column: &'static str, sites: Sites<'_>) {
    let Some(sites) = sites else { return };
    // No site has an empty name; an empty list would be no SQL.
    ask.push(" and ").push(column).push(" in (''");
    for site in sites {
        ask.push(", ").push_bind(site.as_str());
    }
    ask.push(")");
}

const HEADCOUNT: &str = "select count(*), count(*) filter (where presence = 'online'), count(*) filter (where answers), \
     count(*) filter (where fails) from device_glances where member";

pub async fn headcount(db: &mut Control, sites: Sites<'_>) -> Result<Headcount> {
    let mut ask = QueryBuilder::new(HEADCOUNT);
    within(&mut ask, "site", sites);
    let (total, online, answering, failing): (i64, i64, i64, i64) =
        ask.build_query_as().fetch_one(db.sql()).await.map_err(StoreError::query("counting devices"))?;
    Ok(Headcount {
        total: count(total),
        online: count(online),
        answering: count(answering),
        failing: count(failing),
    })
}

const PLACES: &str =
    "select bundle, path, site, count(*) from device_slots where member and bundle is not null";

/// What answers where, by bundle and site.
pub async fn places(db: &mut Control, sites: Sites<'_>) -> Result<Vec<Place>> {
    let mut ask = QueryBuilder::new(PLACES);
    within(&mut ask, "site", sites);
    ask.push(" group by bundle, path, site order by bundle, path, site");
    let rows: Vec<(String, String, String, i64)> =
        ask.build_query_as().fetch_all(db.sql()).await.map_err(StoreError::query("counting what answers"))?;
    let place = |(bundle, path, site, slots): (String, String, String, i64)| {
        Ok(Place {
            bundle: parse("slot's bundle", &bundle)?,
            path: parse("slot's bundle", &path)?,
            site: parse("device's site", &site)?,
            slots: count(slots),
        })
    };
    rows.into_iter().map(place).collect()
}

/// Devices that cannot have what they should, by site.
pub async fn failing(db: &mut Control, sites: Sites<'_>, limit: u32) -> Result<Vec<DeviceId>> {
    let ask = QueryBuilder::new("select device from device_glances where member and fails");
    devices(db, ask, sites, limit).await
}

/// Devices that are offline since then or longer, by site.
pub async fn silent(
    db: &mut Control,
    sites: Sites<'_>,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<DeviceId>> {
    let mut ask = QueryBuilder::new(
        "select device from device_glances where member and presence = 'offline' and presence_since <= ",
    );
    ask.push_bind(since.as_millis());
    devices(db, ask, sites, limit).await
}

async fn devices(
    db: &mut Control,
    mut ask: QueryBuilder<Sqlite>,
    sites: Sites<'_>,
    limit: u32,
) -> Result<Vec<DeviceId>> {
    within(&mut ask, "site", sites);
    ask.push(" order by site, device limit ").push_bind(i64::from(limit));
    let rows: Vec<(String,)> =
        ask.build_query_as().fetch_all(db.sql()).await.map_err(StoreError::query("listing devices"))?;
    rows.into_iter().map(|(id,)| parse("device id", &id)).collect()
}

const SITES: &str = "select distinct site from device_glances";

/// Every site that has devices.
pub async fn sites(db: &mut Control) -> Result<BTreeSet<SiteName>> {
    let rows: Vec<(String,)> =
        sqlx::query_as(SITES).fetch_all(db.sql()).await.map_err(StoreError::query("listing sites"))?;
    rows.into_iter().map(|(site,)| parse("device's site", &site)).collect()
}

const MEMBERS: &str =
    "select device, site from device_glances where member and ($1 is null or site = $1) order by device";

/// Members and where they are, of one site or all.
pub async fn members(db: &mut Control, site: Option<&SiteName>) -> Result<Vec<(DeviceId, SiteName)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(MEMBERS)
        .bind(site.map(SiteName::as_str))
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing members"))?;
    let member =
        |(id, site): (String, String)| Ok((parse("device id", &id)?, parse("device's site", &site)?));
    rows.into_iter().map(member).collect()
}

/// A slot that has to do with a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSlot {
    pub device: DeviceId,
    pub name: String,
    pub site: SiteName,
    pub slot: SlotName,
}

const OF_MODEL: &str = "select slots.device, devices.name, slots.site, slots.slot \
     from device_slots slots join devices on devices.id = slots.device \
     where slots.member and (slots.slot = $1 or slots.model = $1 or slots.former = $1) \
     and ($2 is null or slots.device = $2) \
     order by slots.site, devices.name, slots.device, slots.slot limit $3";

/// Slots that are called like the model, answer with it or can go back to it, of one member or all.
pub async fn of_model(
    db: &mut Control,
    model: &ModelName,
    device: Option<&DeviceId>,
    limit: u32,
) -> Result<Vec<ModelSlot>> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(OF_MODEL)
        .bind(model.as_str())
        .bind(device.map(DeviceId::as_str))
        .bind(i64::from(limit))
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing the slots of a model"))?;
    let slot = |(device, name, site, slot): (String, String, String, String)| {
        Ok(ModelSlot {
            device: parse("device id", &device)?,
            name,
            site: parse("device's site", &site)?,
            slot: parse("slot", &slot)?,
        })
    };
    rows.into_iter().map(slot).collect()
}

const MODEL_DEVICES: &str = "select count(distinct device) from device_slots \
     where member and (slot = $1 or model = $1 or former = $1)";

/// How many members have such a slot.
pub async fn model_devices(db: &mut Control, model: &ModelName) -> Result<u64> {
    let (devices,): (i64,) = sqlx::query_as(MODEL_DEVICES)
        .bind(model.as_str())
        .fetch_one(db.sql())
        .await
        .map_err(StoreError::query("counting the devices of a model"))?;
    Ok(count(devices))
}

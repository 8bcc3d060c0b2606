//! Each member of the fleet as the rollout engine wants to know it: who it is, where it stands, what it was ordered, in one
//! row. Strangers and devices that were revoked have no seat.

use muster_protocol::capture::CaptureRequest;
use muster_protocol::ids::{DeviceId, SiteName};
use muster_protocol::message::{Capabilities, Presence, State};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Want;

use super::convert::{count, from_json, parse, time};
use super::devices::presence_of;
use super::{Control, Page, Result, StoreError};
use crate::rollout::filter::Tags;

#[derive(Clone, Debug, PartialEq)]
pub struct Seat {
    pub device: DeviceId,
    pub name: String,
    pub site: SiteName,
    pub agent_version: String,
    pub capabilities: Capabilities,
    pub presence: Presence,
    /// Real time.
    pub presence_since: Timestamp,
    /// Whether it is set apart: what it says is not believed, and orders wait for it.
    pub quarantined: bool,
    pub state: Option<State>,
    pub tags: Tags,
    /// Version of its newest order; 0 before the first.
    pub order: u64,
    /// When that expires, real time.
    pub order_expires: Timestamp,
    pub wants: Vec<Want>,
    /// What that asks for beside.
    pub captures: Vec<CaptureRequest>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    site: String,
    agent_version: String,
    capabilities: String,
    presence: String,
    presence_since: i64,
    standing: String,
    state: Option<String>,
    tags: Option<String>,
    version: Option<i64>,
    expires: Option<i64>,
    wants: Option<String>,
    captures: Option<String>,
}

impl TryFrom<Row> for Seat {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let tags = row.tags.as_deref().map(|text| from_json("device's tags", text)).transpose()?;
        let wants = row.wants.as_deref().map(|text| from_json("order's wants", text)).transpose()?;
        let captures = row.captures.as_deref().map(|text| from_json("order's captures", text)).transpose()?;
        Ok(Self {
            device: parse("device id", &row.id)?,
            name: row.name,
            site: parse("device's site", &row.site)?,
            agent_version: row.agent_version,
            capabilities: from_json("device's capabilities", &row.capabilities)?,
            presence: presence_of(&row.presence)?,
            presence_since: time(row.presence_since),
            quarantined: row.standing == "quarantined",
            state: row.state.as_deref().map(|text| from_json("device's state", text)).transpose()?,
            tags: tags.unwrap_or_default(),
            order: row.version.map_or(0, count),
            order_expires: row.expires.map(time).unwrap_or_default(),
            wants: wants.unwrap_or_default(),
            captures: captures.unwrap_or_default(),
        })
    }
}

const LIST: &str = "select devices.id, devices.name, devices.site, devices.agent_version, devices.capabilities, \
     devices.presence, devices.presence_since, identities.state as standing, devices.state, \
     device_tags.document as tags, orders.version, orders.expires, orders.wants, orders.captures from devices \
     join identities on identities.device = devices.id \
     left join device_tags on device_tags.device = devices.id left join orders on orders.device = devices.id \
     where devices.id > $1 and identities.state in ('active', 'quarantined') order by devices.id limit $2";

/// By device.
pub async fn list(db: &mut Control, page: &Page<DeviceId>) -> Result<Vec<Seat>> {
    sqlx::query_as::<_, Row>(LIST)
        .bind(page.after.as_ref().map_or("", DeviceId::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing the fleet's members"))?
        .into_iter()
        .map(Seat::try_from)
        .collect()
}

const OF: &str = "select devices.id, devices.name, devices.site, devices.agent_version, devices.capabilities, \
     devices.presence, devices.presence_since, identities.state as standing, devices.state, \
     device_tags.document as tags, orders.version, orders.expires, orders.wants, orders.captures from devices \
     join identities on identities.device = devices.id \
     left join device_tags on device_tags.device = devices.id left join orders on orders.device = devices.id \
     where identities.state in ('active', 'quarantined') and devices.id in (";

/// Devices asked for in one statement.
const CHUNK: usize = 500;

/// Those of `devices` that are members.
pub async fn of(db: &mut Control, devices: impl IntoIterator<Item = &DeviceId>) -> Result<Vec<Seat>> {
    let devices: Vec<&DeviceId> = devices.into_iter().collect();
    let mut found = Vec::with_capacity(devices.len());
    for chunk in devices.chunks(CHUNK) {
        let mut query = sqlx::QueryBuilder::new(OF);
        let mut ids = query.separated(", ");
        for device in chunk {
            ids.push_bind(device.as_str());
        }
        query.push(")");
        let rows: Vec<Row> = query
            .build_query_as()
            .fetch_all(db.sql())
            .await
            .map_err(StoreError::query("reading members of the fleet"))?;
        for row in rows {
            found.push(Seat::try_from(row)?);
        }
    }
    Ok(found)
}

/// Nothing if it is no member.
pub async fn get(db: &mut Control, device: &DeviceId) -> Result<Option<Seat>> {
    Ok(of(db, [device]).await?.pop())
}

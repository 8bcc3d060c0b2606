//! Devices: who they are, whether they are here, what they last said of themselves.

use std::collections::BTreeSet;

use muster_protocol::ids::{BootId, DeviceId, Digest, ModelName, SiteName};
use muster_protocol::message::{Capabilities, Hello, Presence, State, Status};
use muster_protocol::time::Timestamp;
use sqlx::{QueryBuilder, Sqlite};

use super::convert::{column, count, from_json, parse, time, to_json};
use super::glances::within;
use super::{Control, ControlTx, Page, Result, StoreError};
use crate::enrolment::StandingName;

#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub id: DeviceId,
    pub name: String,
    pub site: SiteName,
    pub agent_version: String,
    pub capabilities: Capabilities,
    pub first_seen: Timestamp,
    /// Time of the last message of any kind.
    pub last_seen: Timestamp,
    pub presence: Presence,
    pub presence_since: Timestamp,
    pub boot: BootId,
    /// Counts connections within the boot.
    pub connection: u64,
    /// Version of the order it acts on; 0 before the first.
    pub order_applied: u64,
    /// Version of the root that it trusts; none if it did not say.
    pub root: Option<u64>,
    /// Its last reported state of the present boot or an earlier one.
    pub state: Option<State>,
}

/// Lists go by site, name, id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    pub site: SiteName,
    pub name: String,
    pub id: DeviceId,
}

#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    pub site: Option<SiteName>,
    pub presence: Option<Presence>,
    /// Part of the name or of the id, whatever the case.
    pub text: Option<String>,
    /// Some slot is like this.
    pub slot: SlotFilter,
    /// Of these sites only: those that the caller may see.
    pub sites: Option<BTreeSet<SiteName>>,
}

/// What one slot of a device is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotFilter {
    /// The word of its phase.
    pub phase: Option<String>,
    /// It answers with this model, or is called like it.
    pub model: Option<ModelName>,
    /// It answers with this bundle.
    pub bundle: Option<Digest>,
}

/// What a hello meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Never seen before.
    Stranger,
    Known {
        was: Presence,
    },
    /// A newer connection of the same boot has spoken already.
    Late,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceCounts {
    pub online: u64,
    pub offline: u64,
}

impl Device {
    pub fn key(&self) -> DeviceKey {
        DeviceKey { site: self.site.clone(), name: self.name.clone(), id: self.id.clone() }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    site: String,
    agent_version: String,
    capabilities: String,
    first_seen: i64,
    last_seen: i64,
    presence: String,
    presence_since: i64,
    boot: String,
    connection: i64,
    order_applied: i64,
    root: Option<i64>,
    state: Option<String>,
}

impl TryFrom<Row> for Device {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: parse("device id", &row.id)?,
            name: row.name,
            site: parse("device's site", &row.site)?,
            agent_version: row.agent_version,
            capabilities: from_json("device's capabilities", &row.capabilities)?,
            first_seen: time(row.first_seen),
            last_seen: time(row.last_seen),
            presence: presence_of(&row.presence)?,
            presence_since: time(row.presence_since),
            boot: parse("device's boot", &row.boot)?,
            connection: count(row.connection),
            order_applied: count(row.order_applied),
            root: row.root.map(count),
            state: row.state.as_deref().map(|text| from_json("device's state", text)).transpose()?,
        })
    }
}

const GET: &str = "select id, name, site, agent_version, capabilities, first_seen, last_seen, presence, presence_since, \
     boot, connection, order_applied, root, state from devices where id = $1";

pub async fn get(db: &mut Control, id: &DeviceId) -> Result<Option<Device>> {
    sqlx::query_as::<_, Row>(GET)
        .bind(id.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a device"))?
        .map(Device::try_from)
        .transpose()
}

const LIST: &str = "select id, name, site, agent_version, capabilities, first_seen, last_seen, presence, presence_since, \
     boot, connection, order_applied, root, state from devices where ";

pub async fn list(db: &mut Control, filter: &DeviceFilter, page: &Page<DeviceKey>) -> Result<Vec<Device>> {
    let mut ask = QueryBuilder::new(LIST);
    match &page.after {
        None => ask.push("true"),
        Some(DeviceKey { site, name, id }) => {
            ask.push("(site, name, id) > (").push_bind(site.as_str());
            ask.push(", ").push_bind(name.as_str()).push(", ").push_bind(id.as_str()).push(")")
        }
    };
    narrow(&mut ask, filter, way(db, &filter.slot).await?);
    ask.push(" order by site, name, id limit ").push_bind(page.limit());
    ask.build_query_as::<Row>()
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing devices"))?
        .into_iter()
        .map(Device::try_from)
        .collect()
}

/// Where a device is, and what it says of its slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Whereabouts {
    pub id: DeviceId,
    pub site: SiteName,
    pub state: Option<State>,
}

const WHEREABOUTS: &str = "select devices.id, devices.site, devices.state \
     from devices left join identities on identities.device = devices.id \
     where devices.id > $1 and (identities.state is null or identities.state in ('active', 'quarantined')) \
     order by devices.id limit $2";

/// Every device once, in pages by its id, which never changes: one that moves or is renamed meanwhile is not missed. Not
/// those that were revoked: what they said last stands there for ever, and tells nothing of what they run.
pub async fn whereabouts(db: &mut Control, page: &Page<DeviceId>) -> Result<Vec<Whereabouts>> {
    let rows: Vec<(String, String, Option<String>)> = sqlx::query_as(WHEREABOUTS)
        .bind(page.after.as_ref().map_or("", DeviceId::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("looking where devices are"))?;
    let read = |(id, site, state): (String, String, Option<String>)| {
        Ok(Whereabouts {
            id: parse("device id", &id)?,
            site: parse("device's site", &site)?,
            state: state.as_deref().map(|text| from_json("device's state", text)).transpose()?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// How many devices a list by this filter has in all.
pub async fn number(db: &mut Control, filter: &DeviceFilter) -> Result<u64> {
    let mut ask = QueryBuilder::new("select count(*) from devices where true");
    narrow(&mut ask, filter, way(db, &filter.slot).await?);
    let (devices,): (i64,) = ask
        .build_query_as()
        .fetch_one(db.sql())
        .await
        .map_err(StoreError::query("counting listed devices"))?;
    Ok(count(devices))
}

/// Devices that are found by their slots and then put in order. With more of them a page is full before many are looked at.
const FOUND_MAX: u32 = 5000;

/// How devices are found by what their slots are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By site and name, each looked up in the narrow tables beside ([`glances`](super::glances)) until the page is full.
    ByName,
    /// The slots first: there are few.
    BySlot,
}

async fn way(db: &mut Control, slot: &SlotFilter) -> Result<Way> {
    if *slot == SlotFilter::default() {
        return Ok(Way::ByName);
    }
    let mut ask = QueryBuilder::new("select count(*) from (select 1 from device_slots where true");
    like(&mut ask, slot);
    ask.push(" limit ").push_bind(i64::from(FOUND_MAX) + 1).push(")");
    let (found,): (i64,) = ask
        .build_query_as()
        .fetch_one(db.sql())
        .await
        .map_err(StoreError::query("finding the devices of a filter"))?;
    Ok(if found > i64::from(FOUND_MAX) { Way::ByName } else { Way::BySlot })
}

fn narrow(ask: &mut QueryBuilder<Sqlite>, filter: &DeviceFilter, way: Way) {
    let DeviceFilter { site, presence, text, slot, sites } = filter;
    if let Some(site) = site {
        ask.push(" and site = ").push_bind(site.as_str());
    }
    within(ask, "site", sites.as_ref());
    if let Some(presence) = presence {
        ask.push(" and exists (select 1 from device_glances glance where glance.device = devices.id");
        ask.push(" and glance.presence = ").push_bind(presence_text(*presence)).push(")");
    }
    if let Some(pattern) = text.as_deref().map(containing) {
        ask.push(" and (lower(name) like ").push_bind(pattern.clone()).push(" escape '\\' or id like ");
        ask.push_bind(pattern).push(" escape '\\')");
    }
    if *slot != SlotFilter::default() {
        ask.push(match way {
            Way::ByName => " and exists (select 1 from device_slots where device = devices.id",
            Way::BySlot => " and id in (select device from device_slots where true",
        });
        like(ask, slot);
        ask.push(")");
    }
}

/// One slot is like this.
fn like(ask: &mut QueryBuilder<Sqlite>, slot: &SlotFilter) {
    let SlotFilter { phase, model, bundle } = slot;
    if let Some(phase) = phase {
        ask.push(" and phase = ").push_bind(phase.as_str());
    }
    if let Some(model) = model {
        ask.push(" and (model = ").push_bind(model.as_str());
        ask.push(" or slot = ").push_bind(model.as_str()).push(")");
    }
    if let Some(bundle) = bundle {
        ask.push(" and bundle = ").push_bind(bundle.to_string());
    }
}

const COUNT: &str = "select presence, count(*) from devices group by presence";

pub async fn presence_counts(db: &mut Control) -> Result<PresenceCounts> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as(COUNT).fetch_all(db.sql()).await.map_err(StoreError::query("counting devices"))?;
    let mut counts = PresenceCounts::default();
    for (presence, n) in rows {
        match presence_of(&presence)? {
            Presence::Online => counts.online = count(n),
            Presence::Offline => counts.offline = count(n),
        }
    }
    Ok(counts)
}

/// Members of one site that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteGroup {
    pub site: SiteName,
    pub standing: StandingName,
    pub online: bool,
    pub devices: u64,
}

const BY_SITE: &str = "select identities.site, identities.state, coalesce(devices.presence, 'offline') as presence, count(*) \
     from identities left join devices on devices.id = identities.device \
     group by identities.site, identities.state, coalesce(devices.presence, 'offline') order by 1, 2, 3 limit $1";

/// How many are where, how they stand, and whether they are here.
pub async fn by_site(db: &mut Control) -> Result<Vec<SiteGroup>> {
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(BY_SITE)
        .bind(i64::from(super::LIMIT_MAX))
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("counting devices by site"))?;
    let group = |(site, state, presence, n): (String, String, String, i64)| {
        Ok(SiteGroup {
            site: parse("device's site", &site)?,
            standing: parse("identity's state", &state)?,
            online: presence_of(&presence)? == Presence::Online,
            devices: count(n),
        })
    };
    rows.into_iter().map(group).collect()
}

const HELLO: &str = "insert into devices (id, name, site, agent_version, capabilities, first_seen, last_seen, presence, \
     presence_since, boot, connection, order_applied, root) \
     values ($1, $2, $3, $4, $5, $6, $6, 'online', $6, $7, $8, $9, $10) \
     on conflict (id) do update set name = excluded.name, site = excluded.site, agent_version = excluded.agent_version, \
     capabilities = excluded.capabilities, last_seen = excluded.last_seen, presence = 'online', \
     presence_since = case when devices.presence = 'online' then devices.presence_since else excluded.presence_since end, \
     boot = excluded.boot, connection = excluded.connection, order_applied = excluded.order_applied, \
     root = excluded.root";

/// Registers a stranger, or brings a known device up to date and online.
pub async fn hello(tx: &mut ControlTx, id: &DeviceId, hello: &Hello, at: Timestamp) -> Result<Greeting> {
    let greeting = match connection(tx, id).await? {
        None => Greeting::Stranger,
        Some(now) if now.boot == hello.boot && now.number > hello.connection => {
            return Ok(Greeting::Late);
        }
        Some(now) => Greeting::Known { was: now.presence },
    };
    sqlx::query(HELLO)
        .bind(id.as_str())
        .bind(&hello.name)
        .bind(hello.site.as_str())
        .bind(&hello.agent_version)
        .bind(to_json("device's capabilities", &hello.capabilities)?)
        .bind(at.as_millis())
        .bind(hello.boot.as_str())
        .bind(column(hello.connection))
        .bind(column(hello.order_version))
        .bind(hello.root.map(column))
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("greeting a device"))?;
    tx.touch(id);
    Ok(greeting)
}

const PRESENCE: &str =
    "update devices set presence = $2, presence_since = $3 where id = $1 and presence <> $2";

/// Takes a status over if it is of the present connection. A late will of an earlier one changes nothing. Returns
/// whether the presence changed.
pub async fn presence(tx: &mut ControlTx, id: &DeviceId, status: &Status, at: Timestamp) -> Result<bool> {
    match connection(tx, id).await? {
        Some(now) if now.boot == status.boot && now.number == status.connection => {}
        Some(_) | None => return Ok(false),
    }
    let done = sqlx::query(PRESENCE)
        .bind(id.as_str())
        .bind(presence_text(status.presence))
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("noting a device's presence"))?;
    tx.touch(id);
    Ok(done.rows_affected() == 1)
}

const ALL_OFFLINE: &str =
    "update devices set presence = 'offline', presence_since = $1 where presence = 'online'";

/// After a start of the embedded broker nobody is connected, whatever was known before. Returns how many were online.
pub async fn all_offline(tx: &mut ControlTx, at: Timestamp) -> Result<u64> {
    let done = sqlx::query(ALL_OFFLINE)
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("marking all devices offline"))?;
    tx.touch_everybody();
    Ok(done.rows_affected())
}

const GONE: &str =
    "update devices set presence = 'offline', presence_since = $2 where id = $1 and presence = 'online'";

/// It is not listened to any more, so nothing that it says would mark it offline.
pub async fn gone(tx: &mut ControlTx, id: &DeviceId, at: Timestamp) -> Result<()> {
    sqlx::query(GONE)
        .bind(id.as_str())
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("marking a device offline"))?;
    tx.touch(id);
    Ok(())
}

const STATE: &str = "update devices set state = $3, order_applied = $4 where id = $1 and boot = $2";

/// Takes a state over if it is of the present boot. Returns whether it was.
pub async fn state(tx: &mut ControlTx, id: &DeviceId, state: &State) -> Result<bool> {
    let done = sqlx::query(STATE)
        .bind(id.as_str())
        .bind(state.boot.as_str())
        .bind(to_json("device's state", state)?)
        .bind(column(state.observed_generation))
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a device's state"))?;
    tx.touch(id);
    Ok(done.rows_affected() == 1)
}

/// Devices of one statement.
const CHUNK: usize = 500;

/// Notes that devices spoke. Returns those of them that are known.
pub async fn seen(
    tx: &mut ControlTx,
    devices: impl IntoIterator<Item = &DeviceId>,
    at: Timestamp,
) -> Result<BTreeSet<DeviceId>> {
    let devices: Vec<&str> = devices.into_iter().map(DeviceId::as_str).collect();
    let mut known = BTreeSet::new();
    for chunk in devices.chunks(CHUNK) {
        let mut set = QueryBuilder::new("update devices set last_seen = ");
        set.push_bind(at.as_millis()).push(" where id in (");
        let mut list = set.separated(", ");
        for device in chunk {
            list.push_bind(*device);
        }
        set.push(") returning id");
        let rows: Vec<(String,)> = set
            .build_query_as()
            .fetch_all(tx.sql())
            .await
            .map_err(StoreError::query("noting that devices spoke"))?;
        for (id,) in rows {
            known.insert(parse("device id", &id)?);
        }
    }
    Ok(known)
}

struct Connection {
    boot: BootId,
    number: u64,
    presence: Presence,
}

const CONNECTION: &str = "select boot, connection, presence from devices where id = $1";

async fn connection(tx: &mut ControlTx, id: &DeviceId) -> Result<Option<Connection>> {
    let row: Option<(String, i64, String)> = sqlx::query_as(CONNECTION)
        .bind(id.as_str())
        .fetch_optional(tx.sql())
        .await
        .map_err(StoreError::query("reading a device's connection"))?;
    row.map(|(boot, connection, presence)| {
        Ok(Connection {
            boot: parse("device's boot", &boot)?,
            number: count(connection),
            presence: presence_of(&presence)?,
        })
    })
    .transpose()
}

fn presence_text(presence: Presence) -> &'static str {
    match presence {
        Presence::Online => "online",
        Presence::Offline => "offline",
    }
}

pub(super) fn presence_of(text: &str) -> Result<Presence> {
    match text {
        "online" => Ok(Presence::Online),
        "offline" => Ok(Presence::Offline),
        other => Err(StoreError::corrupt("device's presence", &other)),
    }
}

/// A pattern for `like … escape '\'` that means: contains this.
fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars().take(64) {
        if ['%', '_', '\\'].contains(&c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

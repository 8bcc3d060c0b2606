//! Devices: who they are, whether they are here, what they last said of themselves.

use std::collections::BTreeSet;

use muster_protocol::ids::{BootId, DeviceId, SiteName};
use muster_protocol::message::{Capabilities, Hello, Presence, State, Status};
use muster_protocol::time::Timestamp;

use super::convert::{column, count, from_json, parse, time, to_json};
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
     boot, connection, order_applied, root, state from devices \
     where (site, name, id) > ($1, $2, $3) and ($4 is null or site = $4) and ($5 is null or presence = $5) \
     and ($6 is null or lower(name) like $6 escape '\\' or id like $6 escape '\\') \
     order by site, name, id limit $7";

pub async fn list(db: &mut Control, filter: &DeviceFilter, page: &Page<DeviceKey>) -> Result<Vec<Device>> {
    let after = page.after.as_ref();
    sqlx::query_as::<_, Row>(LIST)
        .bind(after.map_or("", |key| key.site.as_str()))
        .bind(after.map_or("", |key| key.name.as_str()))
        .bind(after.map_or("", |key| key.id.as_str()))
        .bind(filter.site.as_ref().map(SiteName::as_str))
        .bind(filter.presence.map(presence_text))
        .bind(filter.text.as_deref().map(containing))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing devices"))?
        .into_iter()
        .map(Device::try_from)
        .collect()
}

/// Why a device may need a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Offline since this moment, or before.
    Silent { since: Timestamp },
    /// Some slot cannot have its wish, or the order is refused. Sometimes one that only speaks of it is among them.
    Failing,
}

const SILENT: &str = "select id, name, site, agent_version, capabilities, first_seen, last_seen, presence, presence_since, \
     boot, connection, order_applied, root, state from devices \
     where (site, name, id) > ($1, $2, $3) and presence = 'offline' and presence_since <= $4 \
     order by site, name, id limit $5";
// States are kept as we write them, without spaces. Reading all of a large fleet's would take ten times as long.
const FAILING: &str = "select id, name, site, agent_version, capabilities, first_seen, last_seen, presence, presence_since, \
     boot, connection, order_applied, root, state from devices where (site, name, id) > ($1, $2, $3) \
     and (state like '%\"is\":\"failed\"%' or state like '%\"is\":\"stopped\"%' or state like '%\"refusal\":{%') \
     order by site, name, id limit $4";

/// Devices that ail, by site, name and id.
pub async fn ailing(db: &mut Control, ailment: Ailment, page: &Page<DeviceKey>) -> Result<Vec<Device>> {
    let after = page.after.as_ref();
    let (sql, since) = match ailment {
        Ailment::Silent { since } => (SILENT, Some(since)),
        Ailment::Failing => (FAILING, None),
    };
    let mut query = sqlx::query_as::<_, Row>(sql)
        .bind(after.map_or("", |key| key.site.as_str()))
        .bind(after.map_or("", |key| key.name.as_str()))
        .bind(after.map_or("", |key| key.id.as_str()));
    if let Some(since) = since {
        query = query.bind(since.as_millis());
    }
    let rows = query.bind(page.limit()).fetch_all(db.sql()).await;
    rows.map_err(StoreError::query("listing devices that ail"))?.into_iter().map(Device::try_from).collect()
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
        let mut set = sqlx::QueryBuilder::new("update devices set last_seen = ");
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

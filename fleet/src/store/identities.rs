//! Identities: which key is which device, and where it stands. A row is written whole: writers take turns, so whoever
//! loads, decides and saves within one transaction overwrites nobody.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::enrol::Fingerprint;
use muster_protocol::ids::{DeviceId, Digest};

use sqlx::QueryBuilder;

use super::convert::{count, from_json, parse, time, to_json};
use super::{Control, ControlTx, LIMIT_MAX, NewestFirst, Page, Result, StoreError};
use crate::enrolment::{Identity, Key, Standing, StandingName};

#[derive(sqlx::FromRow)]
struct Row {
    device: String,
    name: String,
    site: String,
    fingerprint: String,
    spki: Vec<u8>,
    former: Option<String>,
    state: String,
    reason: String,
    since: i64,
    facts: String,
    enrolment: Option<String>,
    enrolled: i64,
    boots: String,
    suspicion: String,
}

impl TryFrom<Row> for Identity {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let state: StandingName = parse("identity's state", &row.state)?;
        Ok(Self {
            device: parse("device id", &row.device)?,
            name: row.name,
            site: parse("identity's site", &row.site)?,
            key: Key { fingerprint: fingerprint(&row.fingerprint)?, spki: row.spki },
            former: row.former.as_deref().map(fingerprint).transpose()?,
            standing: state.because(row.reason),
            since: time(row.since),
            facts: from_json("identity's facts", &row.facts)?,
            enrolment: row.enrolment.as_deref().map(|id| parse("enrolment id", id)).transpose()?,
            enrolled: time(row.enrolled),
            boots: from_json("identity's boots", &row.boots)?,
            suspicion: from_json("identity's suspicion", &row.suspicion)?,
        })
    }
}

const SAVE: &str = "insert into identities (device, name, site, fingerprint, spki, former, state, reason, since, facts, \
     enrolment, enrolled, boots, suspicion, suspect) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
     on conflict (device) do update set name = excluded.name, site = excluded.site, fingerprint = excluded.fingerprint, \
     spki = excluded.spki, former = excluded.former, state = excluded.state, reason = excluded.reason, \
     since = excluded.since, facts = excluded.facts, boots = excluded.boots, suspicion = excluded.suspicion, \
     suspect = excluded.suspect";

pub async fn save(tx: &mut ControlTx, identity: &Identity) -> Result<()> {
    tx.changes.identity_written();
    sqlx::query(SAVE)
        .bind(identity.device.as_str())
        .bind(&identity.name)
        .bind(identity.site.as_str())
        .bind(identity.key.fingerprint.digest().to_string())
        .bind(&identity.key.spki)
        .bind(identity.former.map(|former| former.digest().to_string()))
        .bind(identity.standing.name().as_str())
        .bind(identity.standing.reason())
        .bind(identity.since.as_millis())
        .bind(to_json("identity's facts", &identity.facts)?)
        .bind(identity.enrolment.as_ref().map(|id| id.as_str().to_owned()))
        .bind(identity.enrolled.as_millis())
        .bind(to_json("identity's boots", &identity.boots)?)
        .bind(to_json("identity's suspicion", &identity.suspicion)?)
        .bind(!identity.suspicion.is_none())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing an identity"))?;
    tx.touch(&identity.device);
    Ok(())
}

const GET: &str = "select device, name, site, fingerprint, spki, former, state, reason, since, facts, enrolment, enrolled, \
     boots, suspicion from identities where device = $1";

pub async fn get(db: &mut Control, device: &DeviceId) -> Result<Option<Identity>> {
    sqlx::query_as::<_, Row>(GET)
        .bind(device.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading an identity"))?
        .map(Identity::try_from)
        .transpose()
}

const BY_KEY: &str = "select device, name, site, fingerprint, spki, former, state, reason, since, facts, enrolment, enrolled, \
     boots, suspicion from identities where fingerprint = $1 or former = $1";

/// Whose key this is, or was until the next one has connected.
pub async fn by_key(db: &mut Control, key: Fingerprint) -> Result<Option<Identity>> {
    sqlx::query_as::<_, Row>(BY_KEY)
        .bind(key.digest().to_string())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("looking up a key"))?
        .map(Identity::try_from)
        .transpose()
}

const STANDING: &str = "select state, reason from identities where device = $1";

/// Where a device stands; `None` for one that never enrolled.
pub async fn standing(db: &mut Control, device: &DeviceId) -> Result<Option<Standing>> {
    let row: Option<(String, String)> = sqlx::query_as(STANDING)
        .bind(device.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading where a device stands"))?;
    row.map(|(state, reason)| Ok(parse::<StandingName>("identity's state", &state)?.because(reason)))
        .transpose()
}

/// Devices of one statement.
const CHUNK: usize = 500;

/// Where devices stand; those that never enrolled are left out.
pub async fn standings(
    db: &mut Control,
    devices: impl IntoIterator<Item = &DeviceId>,
) -> Result<BTreeMap<DeviceId, StandingName>> {
    let devices: Vec<&str> = devices.into_iter().map(DeviceId::as_str).collect();
    let mut found = BTreeMap::new();
    for chunk in devices.chunks(CHUNK) {
        let mut get = sqlx::QueryBuilder::new("select device, state from identities where device in (");
        let mut list = get.separated(", ");
        for device in chunk {
            list.push_bind(*device);
        }
        get.push(")");
        let rows: Vec<(String, String)> = get
            .build_query_as()
            .fetch_all(db.sql())
            .await
            .map_err(StoreError::query("reading where devices stand"))?;
        for (device, state) in rows {
            found.insert(parse("device id", &device)?, parse("identity's state", &state)?);
        }
    }
    Ok(found)
}

#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityFilter {
    pub state: Option<StandingName>,
    /// Only those that a person should look at.
    pub suspect: bool,
}

const LIST: &str = "select device, name, site, fingerprint, spki, former, state, reason, since, facts, enrolment, enrolled, \
     boots, suspicion from identities \
     where (enrolled, device) < (";

/// The newest first.
pub async fn list(
    db: &mut Control,
    filter: IdentityFilter,
    page: &Page<NewestFirst>,
) -> Result<Vec<Identity>> {
    let (at, id) = page.bound();
    let mut ask = QueryBuilder::new(LIST);
    ask.push_bind(at).push(", ").push_bind(id).push(")");
    // Only what is asked for: a condition that may hold anyway has no index.
    if let Some(state) = filter.state {
        ask.push(" and state = ").push_bind(state.as_str());
    }
    if filter.suspect {
        ask.push(" and suspect = true");
    }
    ask.push(" order by enrolled desc, device desc limit ").push_bind(page.limit());
    ask.build_query_as::<Row>()
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing identities"))?
        .into_iter()
        .map(Identity::try_from)
        .collect()
}

const IN_STATE: &str =
    "select device from identities where state = $1 and device > $2 order by device limit $3";

/// Every device that stands here.
pub async fn in_state(db: &mut Control, state: StandingName) -> Result<BTreeSet<DeviceId>> {
    let mut found = BTreeSet::new();
    let mut after = String::new();
    loop {
        let rows: Vec<(String,)> = sqlx::query_as(IN_STATE)
            .bind(state.as_str())
            .bind(&after)
            .bind(i64::from(LIMIT_MAX))
            .fetch_all(db.sql())
            .await
            .map_err(StoreError::query("listing the devices of a state"))?;
        let full = rows.len() == LIMIT_MAX as usize;
        for (device,) in rows {
            found.insert(parse("device id", &device)?);
            after = device;
        }
        if !full {
            return Ok(found);
        }
    }
}

const COUNTS: &str = "select state, count(*) from identities group by state order by state";

/// How many stand where; states without any are left out.
pub async fn counts(db: &mut Control) -> Result<Vec<(StandingName, u64)>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as(COUNTS).fetch_all(db.sql()).await.map_err(StoreError::query("counting identities"))?;
    rows.iter().map(|(state, n)| Ok((parse("identity's state", state)?, count(*n)))).collect()
}

fn fingerprint(text: &str) -> Result<Fingerprint> {
    parse::<Digest>("key's fingerprint", text).map(Fingerprint::from)
}

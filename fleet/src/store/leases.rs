//! "Not now": leases that people took for a box or a whole site. Real time; what has run out counts for nothing and is
//! dropped when the next one is taken.

use muster_protocol::ids::{DeviceId, LeaseId, SiteName};
use muster_protocol::time::Timestamp;

use super::convert::{parse, time};
use super::{Control, ControlTx, Page, Result, StoreError};

/// Leases that hold at the same time, in the whole fleet.
pub const LEASES_MAX: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLease {
    pub id: LeaseId,
    pub of: Scope,
    pub owner: String,
    pub reason: String,
    pub taken: Timestamp,
    pub expires: Timestamp,
}

/// What nobody may interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Device(DeviceId),
    Site(SiteName),
}

/// What became of a wish for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    Taken,
    /// There are [`LEASES_MAX`] already.
    TooMany,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    device: Option<String>,
    site: Option<String>,
    owner: String,
    reason: String,
    taken: i64,
    expires: i64,
}

impl TryFrom<Row> for HeldLease {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let of = match (&row.device, &row.site) {
            (Some(device), None) => Scope::Device(parse("leased device", device)?),
            (None, Some(site)) => Scope::Site(parse("leased site", site)?),
            (Some(_), Some(_)) | (None, None) => {
                return Err(StoreError::corrupt("lease", &"it is of neither a device nor a site"));
            }
        };
        Ok(Self {
            id: parse("lease id", &row.id)?,
            of,
            owner: row.owner,
            reason: row.reason,
            taken: time(row.taken),
            expires: time(row.expires),
        })
    }
}

impl Scope {
    fn columns(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Device(device) => (Some(device.as_str()), None),
            Self::Site(site) => (None, Some(site.as_str())),
        }
    }
}

const TRIM: &str = "delete from leases where expires <= $1";
const COUNT: &str = "select count(*) from leases";
const TAKE: &str = "insert into leases (id, device, site, owner, reason, taken, expires) \
     values ($1, $2, $3, $4, $5, $6, $7) on conflict (id) do update set reason = excluded.reason, \
     expires = excluded.expires";

/// Takes a lease, or makes one last longer that has the same id.
pub async fn take(tx: &mut ControlTx, lease: &HeldLease) -> Result<Taken> {
    let failed = StoreError::query("taking a lease");
    sqlx::query(TRIM).bind(lease.taken.as_millis()).execute(tx.sql()).await.map_err(&failed)?;
    let (held,): (i64,) = sqlx::query_as(COUNT).fetch_one(tx.sql()).await.map_err(&failed)?;
    if held >= LEASES_MAX {
        return Ok(Taken::TooMany);
    }
    let (device, site) = lease.of.columns();
    sqlx::query(TAKE)
        .bind(lease.id.as_str())
        .bind(device)
        .bind(site)
        .bind(&lease.owner)
        .bind(&lease.reason)
        .bind(lease.taken.as_millis())
        .bind(lease.expires.as_millis())
        .execute(tx.sql())
        .await
        .map_err(&failed)?;
    touch(tx, &lease.of);
    Ok(Taken::Taken)
}

const GET: &str =
    "select id, device, site, owner, reason, taken, expires from leases where id = $1 and expires > $2";

pub async fn get(db: &mut Control, id: &LeaseId, now: Timestamp) -> Result<Option<HeldLease>> {
    sqlx::query_as::<_, Row>(GET)
        .bind(id.as_str())
        .bind(now.as_millis())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a lease"))?
        .map(HeldLease::try_from)
        .transpose()
}

const RELEASE: &str = "delete from leases where id = $1";

pub async fn release(tx: &mut ControlTx, lease: &HeldLease) -> Result<()> {
    sqlx::query(RELEASE)
        .bind(lease.id.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("releasing a lease"))?;
    touch(tx, &lease.of);
    Ok(())
}

const LIST: &str = "select id, device, site, owner, reason, taken, expires from leases \
     where expires > $1 and id > $2 order by id limit $3";

/// Those that hold at `now`, by id.
pub async fn list(db: &mut Control, now: Timestamp, page: &Page<LeaseId>) -> Result<Vec<HeldLease>> {
    sqlx::query_as::<_, Row>(LIST)
        .bind(now.as_millis())
        .bind(page.after.as_ref().map_or("", LeaseId::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing leases"))?
        .into_iter()
        .map(HeldLease::try_from)
        .collect()
}

fn touch(tx: &mut ControlTx, of: &Scope) {
    match of {
        Scope::Device(device) => tx.touch(device),
        Scope::Site(_) => {}
    }
    tx.touch_sites();
}

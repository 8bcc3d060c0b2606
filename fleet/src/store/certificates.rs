//! Certificates issued to devices: the newest is given again to whoever lost it, and the revoked ones make the CRL.

use muster_protocol::enrol::Fingerprint;
use muster_protocol::ids::{DeviceId, Digest};
use muster_protocol::time::Timestamp;

use super::convert::{column, parse, time};
use super::{Control, ControlTx, LIMIT_MAX, Result, StoreError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Hexadecimal.
    pub serial: String,
    pub device: DeviceId,
    pub key: Fingerprint,
    pub issued: Timestamp,
    pub expires: Timestamp,
    /// The device's first, then its authority's.
    pub pem: String,
}

/// One that must not be accepted any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedCertificate {
    pub serial: String,
    pub at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct Row {
    serial: String,
    device: String,
    fingerprint: String,
    issued: i64,
    expires: i64,
    pem: String,
}

impl TryFrom<Row> for Certificate {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            serial: row.serial,
            device: parse("device id", &row.device)?,
            key: Fingerprint::from(parse::<Digest>("key's fingerprint", &row.fingerprint)?),
            issued: time(row.issued),
            expires: time(row.expires),
            pem: row.pem,
        })
    }
}

const ADD: &str = "insert into certificates (serial, device, fingerprint, issued, expires, pem) \
     values ($1, $2, $3, $4, $5, $6)";

pub async fn add(tx: &mut ControlTx, certificate: &Certificate) -> Result<()> {
    sqlx::query(ADD)
        .bind(&certificate.serial)
        .bind(certificate.device.as_str())
        .bind(certificate.key.digest().to_string())
        .bind(certificate.issued.as_millis())
        .bind(certificate.expires.as_millis())
        .bind(&certificate.pem)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a certificate"))?;
    Ok(())
}

const NEWEST: &str = "select serial, device, fingerprint, issued, expires, pem from certificates \
     where fingerprint = $1 and device = $2 and revoked is null order by expires desc, serial limit 1";

/// The newest of a device's key that was not revoked; it may have expired.
pub async fn newest(db: &mut Control, device: &DeviceId, key: Fingerprint) -> Result<Option<Certificate>> {
    sqlx::query_as::<_, Row>(NEWEST)
        .bind(key.digest().to_string())
        .bind(device.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a certificate"))?
        .map(Certificate::try_from)
        .transpose()
}

const EXPIRY: &str = "select max(expires) from certificates where device = $1";

/// When the last of a device's certificates expires; `None` if it never had one.
pub async fn expiry(db: &mut Control, device: &DeviceId) -> Result<Option<Timestamp>> {
    let (expires,): (Option<i64>,) = sqlx::query_as(EXPIRY)
        .bind(device.as_str())
        .fetch_one(db.sql())
        .await
        .map_err(StoreError::query("reading when a certificate expires"))?;
    Ok(expires.map(time))
}

const REVOKE_DEVICE: &str = "update certificates set revoked = $2 where device = $1 and revoked is null";

/// All that a device ever got.
pub async fn revoke_of_device(tx: &mut ControlTx, device: &DeviceId, at: Timestamp) -> Result<u64> {
    let done = sqlx::query(REVOKE_DEVICE)
        .bind(device.as_str())
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("revoking a device's certificates"))?;
    Ok(done.rows_affected())
}

const REVOKE_KEY: &str =
    "update certificates set revoked = $3 where device = $1 and fingerprint = $2 and revoked is null";

/// Those of a key that the device uses no longer.
pub async fn revoke_of_key(
    tx: &mut ControlTx,
    device: &DeviceId,
    key: Fingerprint,
    at: Timestamp,
) -> Result<u64> {
    let done = sqlx::query(REVOKE_KEY)
        .bind(device.as_str())
        .bind(key.digest().to_string())
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("revoking a key's certificates"))?;
    Ok(done.rows_affected())
}

const REVOKED: &str = "select serial, revoked from certificates \
     where revoked is not null and expires > $1 and serial > $2 order by serial limit $3";

/// What the CRL must list: revoked, and not expired by `now`.
pub async fn revoked(db: &mut Control, now: Timestamp) -> Result<Vec<RevokedCertificate>> {
    let mut found: Vec<RevokedCertificate> = Vec::new();
    loop {
        let rows: Vec<(String, i64)> = sqlx::query_as(REVOKED)
            .bind(now.as_millis())
            .bind(found.last().map_or("", |last| &last.serial))
            .bind(i64::from(LIMIT_MAX))
            .fetch_all(db.sql())
            .await
            .map_err(StoreError::query("listing revoked certificates"))?;
        let full = rows.len() == LIMIT_MAX as usize;
        found.extend(rows.into_iter().map(|(serial, at)| RevokedCertificate { serial, at: time(at) }));
        if !full {
            return Ok(found);
        }
    }
}

const TRIM: &str = "delete from certificates where serial in (select serial from certificates where expires < $1 \
     and exists (select 1 from certificates newer where newer.device = certificates.device \
     and newer.expires > certificates.expires) order by expires limit $2)";

/// Forgets what expired before `before`, except each device's last: people are shown when it expired.
pub async fn trim(tx: &mut ControlTx, before: Timestamp, limit: u32) -> Result<u64> {
    let done = sqlx::query(TRIM)
        .bind(before.as_millis())
        .bind(column(limit.into()))
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting old certificates"))?;
    Ok(done.rows_affected())
}

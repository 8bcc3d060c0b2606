//! Which bundle failed on which device, in whatever rollout, so that nobody hands it out there again unasked.

use std::collections::BTreeMap;

use muster_protocol::ids::{DeviceId, Digest};
use muster_protocol::time::Timestamp;

use super::convert::{parse, time};
use super::{Control, ControlTx, LIMIT_MAX, Result, StoreError};
use crate::rollout::Cause;

/// Why it is bad there, and since when, in world time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    pub at: Timestamp,
    pub cause: Cause,
}

const PUT: &str = "insert into bad_bundles (device, sha256, code, sentence, at) values ($1, $2, $3, $4, $5) \
     on conflict (device, sha256) do update set code = excluded.code, sentence = excluded.sentence, at = excluded.at";

pub async fn put(tx: &mut ControlTx, device: &DeviceId, bundle: &Digest, bad: &Bad) -> Result<()> {
    sqlx::query(PUT)
        .bind(device.as_str())
        .bind(bundle.to_string())
        .bind(&bad.cause.code)
        .bind(&bad.cause.sentence)
        .bind(bad.at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("noting that a bundle failed on a device"))?;
    tx.touch(device);
    Ok(())
}

const FORGET: &str = "delete from bad_bundles where device = $1 and sha256 = $2";

/// It is asked anew, and may show that it can.
pub async fn forget(tx: &mut ControlTx, device: &DeviceId, bundle: &Digest) -> Result<()> {
    sqlx::query(FORGET)
        .bind(device.as_str())
        .bind(bundle.to_string())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting that a bundle failed on a device"))?;
    tx.touch(device);
    Ok(())
}

const OF: &str = "select device, code, sentence, at from bad_bundles where sha256 = $1 and device > $2 \
     order by device limit $3";

/// Where the bundle failed.
pub async fn of(db: &mut Control, bundle: &Digest) -> Result<BTreeMap<DeviceId, Bad>> {
    let mut found = BTreeMap::new();
    let mut after = String::new();
    loop {
        let rows: Vec<(String, String, String, i64)> = sqlx::query_as(OF)
            .bind(bundle.to_string())
            .bind(&after)
            .bind(i64::from(LIMIT_MAX))
            .fetch_all(db.sql())
            .await
            .map_err(StoreError::query("reading where a bundle failed"))?;
        let full = rows.len() == LIMIT_MAX as usize;
        for (device, code, sentence, at) in rows {
            found.insert(parse("device id", &device)?, Bad { at: time(at), cause: Cause { code, sentence } });
            after = device;
        }
        if !full {
            return Ok(found);
        }
    }
}

//! How far each device's numbered messages are safe here, one position a boot and stream.
//!
//! Those of states and events, in the control file, beside what they become: the position and its effect are one commit.
//! Reports say themselves how far they are safe ([`super::sources`]).

use std::collections::BTreeMap;

use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::time::Timestamp;

use super::convert::{column, count, parse};
use super::{Control, ControlTx, Result, StoreError};

/// Numbered messages of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    State,
    Event,
}

/// How far a boot's states and events are safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Safe {
    pub event: u64,
    pub state: u64,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Event => "event",
        }
    }
}

/// Boots remembered of each device and stream: a box that restarts all day must not fill the database.
const BOOTS_MAX: i64 = 64;

const GET: &str = "select contiguous from positions where device = $1 and boot = $2 and stream = $3";

/// The highest number up to which nothing is missing; 0 at first.
pub async fn get(db: &mut Control, device: &DeviceId, boot: &BootId, stream: Stream) -> Result<u64> {
    let found: Option<(i64,)> = sqlx::query_as(GET)
        .bind(device.as_str())
        .bind(boot.as_str())
        .bind(stream.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a device's position"))?;
    Ok(found.map_or(0, |(contiguous,)| count(contiguous)))
}

/// Pairs of one statement.
const CHUNK: usize = 500;

/// Positions of states and events of many boots at once; those of which nothing is here are left out.
pub async fn of(
    db: &mut Control,
    boots: impl IntoIterator<Item = &(DeviceId, BootId)>,
) -> Result<BTreeMap<(DeviceId, BootId), Safe>> {
    let boots: Vec<_> = boots.into_iter().collect();
    let mut found: BTreeMap<(DeviceId, BootId), Safe> = BTreeMap::new();
    for chunk in boots.chunks(CHUNK) {
        let mut get = sqlx::QueryBuilder::new(
            "select device, boot, stream, contiguous from positions where (device, boot) in (",
        );
        get.push_values(chunk, |mut row, (device, boot)| {
            row.push_bind(device.as_str()).push_bind(boot.as_str());
        });
        get.push(")");
        let rows: Vec<(String, String, String, i64)> = get
            .build_query_as()
            .fetch_all(db.sql())
            .await
            .map_err(StoreError::query("reading the devices' positions"))?;
        for (device, boot, stream, contiguous) in rows {
            let safe = found.entry((parse("device id", &device)?, parse("boot", &boot)?)).or_default();
            if stream == Stream::Event.as_str() {
                safe.event = count(contiguous);
            } else if stream == Stream::State.as_str() {
                safe.state = count(contiguous);
            }
        }
    }
    Ok(found)
}

const SET: &str = "insert into positions (device, boot, stream, contiguous, updated) values ($1, $2, $3, $4, $5) \
     on conflict (device, boot, stream) do update set contiguous = excluded.contiguous, updated = excluded.updated";

pub async fn set(
    tx: &mut ControlTx,
    device: &DeviceId,
    boot: &BootId,
    stream: Stream,
    contiguous: u64,
    at: Timestamp,
) -> Result<()> {
    sqlx::query(SET)
        .bind(device.as_str())
        .bind(boot.as_str())
        .bind(stream.as_str())
        .bind(column(contiguous))
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("moving a device's position"))?;
    Ok(())
}

const FORGET: &str = "delete from positions where device = $1 and stream = $2 and updated < \
     (select updated from positions where device = $1 and stream = $2 order by updated desc limit 1 offset $3)";

/// Forgets the boots that were silent for longest.
pub async fn trim(tx: &mut ControlTx, device: &DeviceId) -> Result<()> {
    for stream in [Stream::State, Stream::Event] {
        sqlx::query(FORGET)
            .bind(device.as_str())
            .bind(stream.as_str())
            .bind(BOOTS_MAX)
            .execute(tx.sql())
            .await
            .map_err(StoreError::query("forgetting old boots"))?;
    }
    Ok(())
}

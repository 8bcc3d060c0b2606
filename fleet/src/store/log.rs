//! What happened, for people: append-only, in one order for everybody. Timelines and the event stream read it.

use std::fmt;
use std::str::FromStr;

use muster_protocol::ids::{DeviceId, ModelName};
use muster_protocol::message::Sentence;

use super::convert::{parse, time};
use super::{Control, ControlTx, Page, Result, StoreError};
pub use crate::clock::Moment;

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The server by itself.
    Fleet,
    Device(DeviceId),
    Person(String),
    Builder(String),
    /// The retraining policy of a model.
    Policy(ModelName),
}

#[derive(Clone, Debug)]
pub struct NewEntry {
    pub when: Moment,
    /// What sort of thing happened: `device.registered`, `rollout.held` …
    pub kind: &'static str,
    /// Id of what it happened to.
    pub subject: String,
    pub sentence: Sentence,
    pub actor: Actor,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub id: i64,
    pub when: Moment,
    pub kind: String,
    pub subject: String,
    pub sentence: String,
    pub actor: Actor,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    at: i64,
    world_at: i64,
    kind: String,
    subject: String,
    sentence: String,
    actor: String,
}

impl TryFrom<Row> for LogEntry {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id,
            when: Moment { at: time(row.at), world_at: time(row.world_at) },
            kind: row.kind,
            subject: row.subject,
            sentence: row.sentence,
            actor: parse("log entry's actor", &row.actor)?,
        })
    }
}

const APPEND: &str = "insert into log (at, world_at, kind, subject, sentence, actor) values ($1, $2, $3, $4, $5, $6) \
     returning id";

/// Listeners hear of it after the commit. Returns the entry's id.
pub async fn append(tx: &mut ControlTx, entry: &NewEntry) -> Result<i64> {
    let (id,): (i64,) = sqlx::query_as(APPEND)
        .bind(entry.when.at.as_millis())
        .bind(entry.when.world_at.as_millis())
        .bind(entry.kind)
        .bind(&entry.subject)
        .bind(entry.sentence.as_str())
        .bind(entry.actor.to_string())
        .fetch_one(tx.sql())
        .await
        .map_err(StoreError::query("appending to the log"))?;
    tx.logged(id);
    Ok(id)
}

const AFTER: &str = "select id, at, world_at, kind, subject, sentence, actor from log \
     where id > $1 and ($2 is null or subject = $2) order by id limit $3";

/// Entries after an id, the oldest first: how a follower reads on.
pub async fn after(db: &mut Control, subject: Option<&str>, page: &Page<i64>) -> Result<Vec<LogEntry>> {
    read(db, AFTER, page.after.unwrap_or(0), subject, page.limit()).await
}

const LAST: &str = "select coalesce(max(id), 0) from log";

/// Id of the newest entry; 0 before the first.
pub async fn last(db: &mut Control) -> Result<i64> {
    let (id,): (i64,) =
        sqlx::query_as(LAST).fetch_one(db.sql()).await.map_err(StoreError::query("reading the log"))?;
    Ok(id)
}

const BEFORE: &str = "select id, at, world_at, kind, subject, sentence, actor from log \
     where id < $1 and ($2 is null or subject = $2) order by id desc limit $3";

/// Entries before an id, the newest first: how a person reads back.
pub async fn before(db: &mut Control, subject: Option<&str>, page: &Page<i64>) -> Result<Vec<LogEntry>> {
    read(db, BEFORE, page.after.unwrap_or(i64::MAX), subject, page.limit()).await
}

async fn read(
    db: &mut Control,
    sql: &'static str,
    id: i64,
    subject: Option<&str>,
    limit: i64,
) -> Result<Vec<LogEntry>> {
    sqlx::query_as::<_, Row>(sql)
        .bind(id)
        .bind(subject)
        .bind(limit)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading the log"))?
        .into_iter()
        .map(LogEntry::try_from)
        .collect()
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet"),
            Self::Device(id) => write!(f, "device:{id}"),
            Self::Person(name) => write!(f, "person:{name}"),
            Self::Builder(name) => write!(f, "builder:{name}"),
            Self::Policy(model) => write!(f, "policy:{model}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is nobody who acts here")]
pub struct ActorError(String);

impl FromStr for Actor {
    type Err = ActorError;

    fn from_str(text: &str) -> std::result::Result<Self, ActorError> {
        let wrong = || ActorError(text.to_owned());
        match text.split_once(':') {
            None if text == "fleet" => Ok(Self::Fleet),
            Some(("device", id)) => id.parse().map(Self::Device).map_err(|_| wrong()),
            Some(("person", name)) => Ok(Self::Person(name.to_owned())),
            Some(("builder", name)) => Ok(Self::Builder(name.to_owned())),
            Some(("policy", model)) => model.parse().map(Self::Policy).map_err(|_| wrong()),
            Some(_) | None => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_come_back() {
        let device = DeviceId::mint([3; 16]);
        for actor in [
            Actor::Fleet,
            Actor::Device(device),
            Actor::Person("ada: of the lab".to_owned()),
            Actor::Builder("b1".to_owned()),
        ] {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        for wrong in ["", "device:x", "root", "policy:A"] {
            assert!(wrong.parse::<Actor>().is_err(), "{wrong}");
        }
    }
}

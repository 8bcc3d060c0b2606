//! What happened, for people: append-only, in one order for everybody, each entry linked to the one before
//! ([`crate::audit`]). Timelines and the event stream read it.

use std::fmt;
use std::str::FromStr;

use muster_protocol::ids::{DeviceId, Digest, ModelName};
use muster_protocol::message::Sentence;

use super::convert::{parse, time};
use super::{Control, ControlTx, Page, Result, Store, StoreError};
use crate::audit::{Entry, Seen, genesis};
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
    /// None only in a log that somebody has been at.
    pub link: Option<Digest>,
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
    link: Option<Vec<u8>>,
}

impl Row {
    fn entry(&self) -> Entry<'_> {
        Entry {
            id: self.id,
            at: time(self.at),
            world_at: time(self.world_at),
            kind: &self.kind,
            subject: &self.subject,
            sentence: &self.sentence,
            actor: &self.actor,
        }
    }
}

/// Whatever is no digest is no link.
fn link(column: Option<Vec<u8>>) -> Option<Digest> {
    column.and_then(|bytes| bytes.try_into().ok()).map(Digest::from_bytes)
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
            link: link(row.link),
        })
    }
}

const APPEND: &str = "insert into log (at, world_at, kind, subject, sentence, actor) values ($1, $2, $3, $4, $5, $6) \
     returning id";

const LINK: &str = "update log set link = $2 where id = $1";

/// Listeners hear of it after the commit. Returns the entry's id.
pub async fn append(tx: &mut ControlTx, entry: &NewEntry) -> Result<i64> {
    let before = match tx.logged {
        Some(last) => last.link,
        None => newest(tx).await?.map_or_else(genesis, |last| last.link),
    };
    let actor = entry.actor.to_string();
    let failed = StoreError::query("appending to the log");
    let (id,): (i64,) = sqlx::query_as(APPEND)
        .bind(entry.when.at.as_millis())
        .bind(entry.when.world_at.as_millis())
        .bind(entry.kind)
        .bind(&entry.subject)
        .bind(entry.sentence.as_str())
        .bind(&actor)
        .fetch_one(tx.sql())
        .await
        .map_err(failed)?;
    // As the database keeps it: whole milliseconds.
    let (at, world_at) = (time(entry.when.at.as_millis()), time(entry.when.world_at.as_millis()));
    let (kind, subject, sentence) = (entry.kind, entry.subject.as_str(), entry.sentence.as_str());
    let link = Entry { id, at, world_at, kind, subject, sentence, actor: &actor }.link(&before);
    set_link(tx, id, link).await?;
    tx.logged(Seen { id, link });
    Ok(id)
}

async fn set_link(tx: &mut ControlTx, id: i64, link: Digest) -> Result<()> {
    let failed = StoreError::query("linking a log entry");
    sqlx::query(LINK).bind(id).bind(&link.as_bytes()[..]).execute(tx.sql()).await.map_err(failed)?;
    Ok(())
}

const NEWEST: &str = "select id, link from log order by id desc limit 1";

/// The newest entry's link; none in an empty log. An entry without a link counts as one with none before it.
async fn newest(db: &mut Control) -> Result<Option<Seen>> {
    let row: Option<(i64, Option<Vec<u8>>)> = sqlx::query_as(NEWEST)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading the newest log entry"))?;
    Ok(row.map(|(id, column)| Seen { id, link: link(column).unwrap_or_else(genesis) }))
}

const IS_LINKED: &str = "select exists (select 1 from log where link is not null)";
/// Entries that are linked at once; a log of before is linked in one transaction all the same.
const LINKED_AT_ONCE: i64 = 1000;

/// Links a log that was written before entries were linked. A log with any link in it is left as it is: what is missing
/// there was taken out.
pub(super) async fn link_old(store: &Store) -> Result<()> {
    let mut tx = store.write().await?;
    let failed = |source| StoreError::query("looking for links in the log")(source);
    let (is_linked,): (bool,) = sqlx::query_as(IS_LINKED).fetch_one(tx.sql()).await.map_err(failed)?;
    if is_linked {
        return Ok(());
    }
    let mut last = Seen { id: 0, link: genesis() };
    loop {
        let none: Option<&str> = None;
        let rows: Vec<Row> = sqlx::query_as(AFTER)
            .bind(last.id)
            .bind(none)
            .bind(LINKED_AT_ONCE)
            .fetch_all(tx.sql())
            .await
            .map_err(failed)?;
        if rows.is_empty() {
            return tx.commit().await;
        }
        for row in &rows {
            last = Seen { id: row.id, link: row.entry().link(&last.link) };
            set_link(&mut tx, last.id, last.link).await?;
        }
    }
}

const AFTER: &str = "select id, at, world_at, kind, subject, sentence, actor, link from log \
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

const BEFORE: &str = "select id, at, world_at, kind, subject, sentence, actor, link from log \
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

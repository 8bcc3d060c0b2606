//! Messages that leave with a commit: written in the transaction that decided them, published after it, and deleted
//! when the broker has them.

use muster_protocol::topic::Topic;

use super::convert::{count, parse};
use super::{Control, ControlTx, Page, Result, StoreError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: Topic,
    pub payload: Vec<u8>,
    pub retain: bool,
}

const PUSH: &str = "insert into outbox (topic, payload, retain, qos) values ($1, $2, $3, 1)";

pub async fn push(tx: &mut ControlTx, message: &Message) -> Result<()> {
    sqlx::query(PUSH)
        .bind(message.topic.to_string())
        .bind(&message.payload)
        .bind(message.retain)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("putting a message into the outbox"))?;
    tx.says();
    Ok(())
}

const NEXT: &str = "select seq, topic, payload, retain from outbox where seq > $1 order by seq limit $2";

/// The oldest messages after a sequence number, in the order in which they must be published.
pub async fn next(db: &mut Control, page: &Page<i64>) -> Result<Vec<(i64, Message)>> {
    let rows: Vec<(i64, String, Vec<u8>, bool)> = sqlx::query_as(NEXT)
        .bind(page.after.unwrap_or(0))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading the outbox"))?;
    rows.into_iter()
        .map(|(seq, topic, payload, retain)| {
            Ok((seq, Message { topic: parse("outbox topic", &topic)?, payload, retain }))
        })
        .collect()
}

const WAITING: &str = "select count(*) from outbox";

/// How many messages wait.
pub async fn waiting(db: &mut Control) -> Result<u64> {
    let failed = StoreError::query("counting the outbox");
    let (waiting,): (i64,) = sqlx::query_as(WAITING).fetch_one(db.sql()).await.map_err(failed)?;
    Ok(count(waiting))
}

const DONE: &str = "delete from outbox where seq = $1";

/// The broker has it.
pub async fn done(tx: &mut ControlTx, seq: i64) -> Result<()> {
    sqlx::query(DONE).bind(seq).execute(tx.sql()).await.map_err(StoreError::query("emptying the outbox"))?;
    Ok(())
}

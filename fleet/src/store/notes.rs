//! What people write on a version, beside what its manifest says. A version that nobody wrote on has revision 0.

use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};

use super::convert::{column, to_json};
use super::documents::DocumentRow;
use super::{Control, ControlTx, Result, Saved, StoreError, Versioned};
use crate::rollout::filter::Tags;

const WHAT: &str = "version's notes";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    pub description: String,
    pub tags: Tags,
}

const GET: &str = "select revision, document from notes where bundle = $1";

pub async fn get(db: &mut Control, bundle: &Digest) -> Result<Versioned<Notes>> {
    let row = sqlx::query_as::<_, DocumentRow>(GET)
        .bind(bundle.to_string())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a version's notes"))?;
    match row {
        Some(row) => row.read(WHAT),
        None => Ok(Versioned { revision: 0, document: Notes::default() }),
    }
}

const CREATE: &str =
    "insert into notes (bundle, revision, document) values ($1, 1, $2) on conflict (bundle) do nothing";
const SAVE: &str =
    "update notes set revision = revision + 1, document = $3 where bundle = $1 and revision = $2";

/// Replaces the notes if nobody else did since `seen` was loaded.
pub async fn save(tx: &mut ControlTx, bundle: &Digest, seen: u64, notes: &Notes) -> Result<Saved> {
    let document = to_json(WHAT, notes)?;
    let query = if seen == 0 {
        sqlx::query(CREATE).bind(bundle.to_string()).bind(document)
    } else {
        sqlx::query(SAVE).bind(bundle.to_string()).bind(column(seen)).bind(document)
    };
    let done = query.execute(tx.sql()).await.map_err(StoreError::query("saving a version's notes"))?;
    Ok(Saved::of(done.rows_affected(), seen))
}

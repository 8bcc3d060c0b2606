//! What all aggregates kept as documents share: a revision that a writer must have seen.

use serde::de::DeserializeOwned;

use super::Result;
use super::convert::{count, from_json};

/// A document with the revision that a later save must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    pub revision: u64,
    pub document: T,
}

/// What became of a compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Saved {
    Saved {
        revision: u64,
    },
    /// Somebody else wrote first: load, decide again, save again.
    Stale,
}

impl Saved {
    /// From how many rows the update with its `where revision = …` touched.
    pub(super) fn of(rows: u64, expected: u64) -> Self {
        if rows == 1 { Self::Saved { revision: expected.saturating_add(1) } } else { Self::Stale }
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct DocumentRow {
    pub(super) revision: i64,
    pub(super) document: String,
}

impl DocumentRow {
    pub(super) fn read<T: DeserializeOwned>(&self, what: &'static str) -> Result<Versioned<T>> {
        Ok(Versioned { revision: count(self.revision), document: from_json(what, &self.document)? })
    }
}

pub(super) fn read_all<T: DeserializeOwned>(
    what: &'static str,
    rows: &[DocumentRow],
) -> Result<Vec<Versioned<T>>> {
    rows.iter().map(|row| row.read(what)).collect()
}

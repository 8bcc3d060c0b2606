//! How lists are bounded: a limit always, and the key after which to go on.

use muster_protocol::time::Timestamp;

/// No list is longer, whoever asks.
pub const LIMIT_MAX: u32 = 10_000;

/// Part of a list: what follows `after`, at most `limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K> {
    pub after: Option<K>,
    pub limit: u32,
}

/// The key of lists that begin with the newest: time of birth and id. Pass the last entry's to get the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestFirst {
    pub at: Timestamp,
    pub id: String,
}

impl<K> Page<K> {
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    pub fn after(key: K, limit: u32) -> Self {
        Self { after: Some(key), limit }
    }

    pub(super) fn limit(&self) -> i64 {
        i64::from(self.limit.clamp(1, LIMIT_MAX))
    }
}

impl Page<NewestFirst> {
    /// Time and id to compare with; beyond every entry on the first page.
    pub(super) fn bound(&self) -> (i64, &str) {
        match &self.after {
            Some(key) => (key.at.as_millis(), &key.id),
            None => (i64::MAX, ""),
        }
    }
}

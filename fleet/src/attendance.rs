//! Which builders were here, and when. In memory only: a builder asks again every few seconds, so what is worth knowing is
//! known a moment after the start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use muster_protocol::time::Timestamp;

/// Names kept; those that were here longest ago go.
const NAMES_MAX: usize = 100;

/// Cheap to clone; all clones keep one list.
#[derive(Clone, Debug, Default)]
pub struct Attendance(Arc<Mutex<BTreeMap<String, Timestamp>>>);

impl Attendance {
    pub fn note(&self, name: &str, at: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(name.to_owned(), at);
        if seen.len() > NAMES_MAX {
            let oldest = seen.iter().min_by_key(|(_, at)| **at).map(|(name, _)| name.clone());
            oldest.and_then(|name| seen.remove(&name));
        }
    }

    /// Who was here last, and when.
    pub fn last(&self) -> Option<(String, Timestamp)> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().max_by_key(|(_, at)| **at).map(|(name, at)| (name.clone(), *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_told_and_the_oldest_go() {
        let attendance = Attendance::default();
        assert_eq!(attendance.last(), None);
        for n in 0..200_i64 {
            attendance.note(&format!("b{n}"), Timestamp::from_seconds(1000 - n));
        }
        assert_eq!(attendance.last(), Some(("b0".to_owned(), Timestamp::from_seconds(1000))));
        attendance.note("b150", Timestamp::from_seconds(2000));
        assert_eq!(attendance.last().map(|(name, _)| name), Some("b150".to_owned()));
        assert_eq!(attendance.0.lock().unwrap().len(), NAMES_MAX);
    }
}

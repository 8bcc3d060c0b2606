//! The log as a chain: each entry carries a digest of itself and of the entry before, so that whoever changes, removes or
//! moves one has to write all that follow anew, and whoever remembers one link notices that.
//!
//! ```text
//!   link(n) = SHA-256("muster-log/1" · link(n−1) · id · at · world_at · kind · subject · sentence · actor)
//! ```
//! Numbers are 8 bytes, big-endian; texts follow their length. Before the first entry stands a link of zeros.

use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;

const DOMAIN: &[u8] = b"muster-log/1";

/// What stands before the first entry.
pub fn genesis() -> Digest {
    Digest::from_bytes([0; 32])
}

/// An entry as it is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub id: i64,
    /// Real time.
    pub at: Timestamp,
    pub world_at: Timestamp,
    pub kind: &'a str,
    pub subject: &'a str,
    pub sentence: &'a str,
    /// Kind and name: `person:ada`, or `fleet`.
    pub actor: &'a str,
}

impl Entry<'_> {
    pub fn link(&self, before: &Digest) -> Digest {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(before.as_bytes());
        for number in [self.id, self.at.as_millis(), self.world_at.as_millis()] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for text in [self.kind, self.subject, self.sentence, self.actor] {
            // Lengths keep two texts from being read as one.
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        Digest::of(&bytes)
    }
}

/// Where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("entry {0} carries no link")]
    Unlinked(i64),
    #[error("after entry {after} comes entry {found}: {} missing", entries(*after, *found))]
    Missing { after: i64, found: i64 },
    #[error("entry {found} stands after entry {after}: the order was changed")]
    Order { after: i64, found: i64 },
    #[error("entry {0} is not what was written, or does not follow the entry before it")]
    Changed(i64),
    #[error("entry {0} was {1} when it was last looked at: the log was written anew")]
    Rewritten(i64, Digest),
    #[error("the log ends at entry {last}, and entry {seen} was there when it was last looked at")]
    CutOff { last: i64, seen: i64 },
}

fn entries(after: i64, found: i64) -> String {
    let n = found.saturating_sub(after).saturating_sub(1);
    if n == 1 { format!("entry {} is", after + 1) } else { format!("{n} entries are") }
}

/// A link that somebody keeps, elsewhere than where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: i64,
    pub link: Digest,
}

/// Follows a log from its first entry on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    last: Option<Seen>,
    seen: Option<Seen>,
    /// How many entries were followed.
    pub entries: u64,
}

impl Chain {
    /// A chain that must go through what was seen.
    pub fn through(seen: Option<Seen>) -> Self {
        Self { last: None, seen, entries: 0 }
    }

    /// The newest entry that was followed.
    pub fn last(&self) -> Option<Seen> {
        self.last
    }

    /// Takes the next entry with the link it carries; says what is wrong, and goes on from what it carries.
    pub fn follow(&mut self, entry: &Entry<'_>, link: Option<Digest>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let (after, before) = self.last.map_or((0, genesis()), |last| (last.id, last.link));
        if entry.id <= after {
            faults.push(Fault::Order { after, found: entry.id });
        } else if entry.id > after + 1 {
            faults.push(Fault::Missing { after, found: entry.id });
        }
        let expected = entry.link(&before);
        match link {
            None => faults.push(Fault::Unlinked(entry.id)),
            // What follows a gap cannot fit, and was named already.
            Some(link) if link != expected && faults.is_empty() => faults.push(Fault::Changed(entry.id)),
            Some(_) => {}
        }
        let link = link.unwrap_or(expected);
        if let Some(seen) = self.seen.filter(|seen| seen.id == entry.id && seen.link != link) {
            faults.push(Fault::Rewritten(seen.id, seen.link));
        }
        self.last = Some(Seen { id: entry.id, link });
        self.entries += 1;
        faults
    }

    /// After the newest entry: whether what was seen is still there.
    pub fn end(&self) -> Option<Fault> {
        let last = self.last.map_or(0, |last| last.id);
        self.seen.filter(|seen| seen.id > last).map(|seen| Fault::CutOff { last, seen: seen.id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Row {
        id: i64,
        sentence: String,
        link: Option<Digest>,
    }

    impl Row {
        fn entry(&self) -> Entry<'_> {
            let at = Timestamp::from_millis(self.id * 1000);
            Entry {
                id: self.id,
                at,
                world_at: at,
                kind: "a",
                subject: "b",
                sentence: &self.sentence,
                actor: "fleet",
            }
        }
    }

    fn log(n: i64) -> Vec<Row> {
        let mut before = genesis();
        (1..=n)
            .map(|id| {
                let mut row = Row { id, sentence: format!("sentence {id}"), link: None };
                before = row.entry().link(&before);
                row.link = Some(before);
                row
            })
            .collect()
    }

    fn faults(rows: &[Row], seen: Option<Seen>) -> Vec<Fault> {
        let mut chain = Chain::through(seen);
        let mut faults: Vec<Fault> =
            rows.iter().flat_map(|row| chain.follow(&row.entry(), row.link)).collect();
        faults.extend(chain.end());
        faults
    }

    fn link_all(rows: &mut [Row]) {
        let mut before = genesis();
        for row in rows {
            before = row.entry().link(&before);
            row.link = Some(before);
        }
    }

    #[test]
    fn an_honest_log_holds_and_each_kind_of_harm_is_named() {
        let rows = log(5);
        assert_eq!(faults(&rows, None), []);

        let mut changed = rows.clone();
        changed[2].sentence = "nothing happened".to_owned();
        assert_eq!(faults(&changed, None), [Fault::Changed(3)]);

        let mut removed = rows.clone();
        removed.remove(2);
        assert_eq!(faults(&removed, None), [Fault::Missing { after: 2, found: 4 }]);

        let mut moved = rows.clone();
        moved.swap(1, 3);
        assert!(faults(&moved, None).contains(&Fault::Order { after: 4, found: 3 }));

        let mut unlinked = rows.clone();
        unlinked[4].link = None;
        assert_eq!(faults(&unlinked, None), [Fault::Unlinked(5)]);
    }

    #[test]
    fn who_writes_everything_anew_is_found_by_whoever_remembers_a_link() {
        let rows = log(5);
        let seen = Some(Seen { id: 4, link: rows[3].link.unwrap() });
        assert_eq!(faults(&rows, seen), []);
        assert_eq!(faults(&rows[..3], seen), [Fault::CutOff { last: 3, seen: 4 }]);
        let mut anew = rows;
        anew[1].sentence = "nothing happened".to_owned();
        link_all(&mut anew);
        assert_eq!(faults(&anew, None), []);
        assert!(matches!(faults(&anew, seen)[..], [Fault::Rewritten(4, _)]));
    }

    #[test]
    fn texts_cannot_lend_each_other_letters() {
        let row = log(1).remove(0);
        let (one, two) = (
            Entry { kind: "ab", subject: "c", ..row.entry() },
            Entry { kind: "a", subject: "bc", ..row.entry() },
        );
        assert_ne!(one.link(&genesis()), two.link(&genesis()));
    }

    proptest! {
        /// Two entries that change places, contents and links and all, do not go unnoticed either.
        #[test]
        fn no_permutation_of_contents_holds(n in 2_i64..20, a in 0_usize..20, b in 0_usize..20) {
            let mut rows = log(n);
            let (a, b) = (a % rows.len(), b % rows.len());
            prop_assume!(a != b);
            let (left, right) = (rows[a].clone(), rows[b].clone());
            rows[a] = Row { id: left.id, ..right };
            rows[b] = Row { id: rows[b].id, ..left };
            prop_assert!(!faults(&rows, None).is_empty());
        }
    }
}

//! Signs that a key is used by more than one machine, or by another than the one that enrolled.
//!
//! ```text
//!   one box:      boot a ─ a ─ a ─ b ─ b ─ c          a boot that was replaced never comes back
//!   two boxes:    boot a ─ b ─ a ─ b                  each takes the other's place at the broker
//! ```
//! A bad network alone looks like `a ─ a ─ a`: it reconnects with the boot that it has. A message that was merely late
//! brings a connection number that was seen before, and accuses nobody. Suspicion never acts by itself: a person decides
//! whether to quarantine, and a ward that loses its boxes to a false alarm has lost more than to a clone.

use muster_protocol::enrol::Facts;
use muster_protocol::ids::BootId;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Boots of one device that are remembered. Clones alternate within a few; a box that restarts more often while
/// another one speaks in between would have to do so this many times.
const BOOTS_MAX: usize = 16;

/// The boots that a device connected with, the newest last, each with its newest connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boots(Vec<Seen>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    boot: BootId,
    connection: u64,
}

/// What speaks against a device, until a person has looked at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Suspicion {
    /// Two machines use its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone: Option<Doubt>,
    /// It is not the machine that enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Doubt>,
    /// What the machine says it is now, if that is doubted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The first time, real time.
    pub since: Timestamp,
    pub sentence: String,
    pub times: u32,
}

/// What a hello said about who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sight {
    /// The boot that spoke last, or a new one.
    Usual,
    /// Repeats what was said before.
    Late,
    /// A boot that another had replaced makes a new connection.
    Back { replaced_by: BootId },
}

impl Boots {
    fn see(&mut self, boot: &BootId, connection: u64) -> Sight {
        let Some(place) = self.0.iter().position(|seen| seen.boot == *boot) else {
            if self.0.len() >= BOOTS_MAX {
                self.0.remove(0);
            }
            self.0.push(Seen { boot: boot.clone(), connection });
            return Sight::Usual;
        };
        if connection <= self.0[place].connection {
            return Sight::Late;
        }
        let seen = self.0.remove(place);
        let newer = self.0.last().filter(|_| place < self.0.len()).map(|last| last.boot.clone());
        self.0.push(Seen { connection, ..seen });
        newer.map_or(Sight::Usual, |replaced_by| Sight::Back { replaced_by })
    }
}

impl Suspicion {
    /// A hello came. Returns what it newly speaks of, in a sentence for people; a doubt that stands is only counted.
    pub fn hello(
        &mut self,
        boots: &mut Boots,
        enrolled: &Facts,
        (boot, connection): (&BootId, u64),
        facts: Option<&Facts>,
        now: Timestamp,
    ) -> Vec<String> {
        let mut news = Vec::new();
        if let Sight::Back { replaced_by } = boots.see(boot, connection) {
            let sentence = format!(
                "{boot} connected again after {replaced_by} had taken its place: two machines seem to use one key"
            );
            news.extend(doubt(&mut self.clone, sentence, now));
        }
        if let Some(facts) = facts
            && let Some(sentence) = differs(enrolled, facts)
        {
            self.facts = Some(facts.clone());
            news.extend(doubt(&mut self.hardware, sentence, now));
        }
        news
    }

    pub fn is_none(&self) -> bool {
        self.clone.is_none() && self.hardware.is_none()
    }

    /// All of it in one line; nothing if there is none.
    pub fn sentence(&self) -> Option<String> {
        let said: Vec<&str> = [&self.clone, &self.hardware]
            .into_iter()
            .flatten()
            .map(|doubt| doubt.sentence.as_str())
            .collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// When the first doubt arose.
    pub fn since(&self) -> Option<Timestamp> {
        [&self.clone, &self.hardware].into_iter().flatten().map(|doubt| doubt.since).min()
    }
}

fn doubt(standing: &mut Option<Doubt>, sentence: String, now: Timestamp) -> Option<String> {
    if let Some(doubt) = standing {
        doubt.times = doubt.times.saturating_add(1);
        return None;
    }
    *standing = Some(Doubt { since: now, sentence: sentence.clone(), times: 1 });
    Some(sentence)
}

/// How a machine differs from the one that enrolled. What either side does not know is no difference.
fn differs(enrolled: &Facts, seen: &Facts) -> Option<String> {
    let other = |a: Option<_>, b: Option<_>| a.is_some() && b.is_some() && a != b;
    let board = other(enrolled.board, seen.board);
    let machine = other(enrolled.machine, seen.machine);
    let what = match (board, machine) {
        (true, true) => "the key is on another machine than the one that enrolled (board and system differ)",
        (true, false) => "the key is on another board than the one that enrolled: a disk was moved or copied",
        (false, true) => "the system is another than the one that enrolled: it was installed anew or copied",
        (false, false) => return None,
    };
    Some(what.to_owned())
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::Digest;

    use super::*;

    fn boot(n: u8) -> BootId {
        BootId::mint([n; 16])
    }

    #[test]
    fn only_a_boot_that_comes_back_accuses() {
        let check = |hellos: &[(u8, u64)], times: u32| {
            let (mut boots, mut suspicion) = (Boots::default(), Suspicion::default());
            for (n, connection) in hellos {
                let now = Timestamp::from_seconds(1);
                suspicion.hello(&mut boots, &Facts::default(), (&boot(*n), *connection), None, now);
            }
            assert_eq!(suspicion.clone.map_or(0, |doubt| doubt.times), times, "{hellos:?}");
        };
        check(&[(1, 1)], 0);
        // A bad network: the same boot again and again.
        check(&[(1, 1), (1, 2), (1, 3), (1, 9)], 0);
        // Restarts.
        check(&[(1, 1), (1, 2), (2, 1), (3, 1), (3, 2)], 0);
        // A hello of before the restart, delivered late or twice.
        check(&[(1, 1), (1, 2), (2, 1), (1, 2), (2, 2)], 0);
        check(&[(1, 1), (1, 2), (2, 1), (1, 1)], 0);
        // Two machines.
        check(&[(1, 1), (2, 1), (1, 2)], 1);
        check(&[(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)], 3);
        check(&[(1, 1), (2, 1), (2, 2), (3, 1), (1, 7)], 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut boots = Boots::default();
        for n in 0..200 {
            boots.see(&boot(n), 1);
        }
        assert_eq!(boots.0.len(), BOOTS_MAX);
        assert_eq!(boots.see(&boot(199), 2), Sight::Usual);
    }

    #[test]
    fn facts_that_differ_accuse_and_facts_that_lack_do_not() {
        let facts = |board: Option<&str>, machine: Option<&str>| Facts {
            board: board.map(|text| Digest::of(text.as_bytes())),
            machine: machine.map(|text| Digest::of(text.as_bytes())),
            ..Facts::default()
        };
        let check = |enrolled: &Facts, seen: &Facts, part: Option<&str>| {
            let found = differs(enrolled, seen);
            assert_eq!(found.is_some(), part.is_some(), "{found:?}");
            assert!(found.is_none_or(|found| found.contains(part.unwrap_or_default())));
        };
        let both = facts(Some("b"), Some("m"));
        check(&both, &both, None);
        check(&both, &facts(None, None), None);
        check(&facts(None, None), &both, None);
        check(&both, &facts(Some("x"), Some("m")), Some("another board"));
        check(&both, &facts(Some("b"), Some("x")), Some("installed anew"));
        check(&both, &facts(Some("x"), Some("x")), Some("another machine"));
    }

    #[test]
    fn a_doubt_is_told_once_and_counted() {
        let (mut boots, mut suspicion) = (Boots::default(), Suspicion::default());
        let mut said = Vec::new();
        for (n, connection) in [(1, 1_u64), (2, 1), (1, 2), (2, 2)] {
            let now = Timestamp::from_seconds(1);
            said.extend(suspicion.hello(&mut boots, &Facts::default(), (&boot(n), connection), None, now));
        }
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(suspicion.clone.as_ref().unwrap().times, 2);
        assert_eq!(suspicion.sentence().as_deref(), Some(said[0].as_str()));
        let text = serde_json::to_string(&(&boots, &suspicion)).unwrap();
        assert_eq!(serde_json::from_str::<(Boots, Suspicion)>(&text).unwrap(), (boots, suspicion));
    }
}

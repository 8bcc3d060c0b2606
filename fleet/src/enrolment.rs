//! Who becomes a member of the fleet, who stays one, and what makes a member doubtful.
//!
//! ```text
//!   enrolment file ─▶ pending ─accept─▶ active ⇄ quarantined
//!                        │                 └───revoke──┴─▶ revoked
//!                        └──reject─▶ rejected
//! ```
//! A device is its key: names, sites and states hang on the fingerprint of the public key that it showed with its
//! enrolment file. The mind of identity: it decides, and touches neither the database nor a certificate. It must never
//! let a token do more than ask: what a token opens is a question to a person, unless its maker said otherwise.

mod standing;
mod suspicion;

use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::{DeviceId, EnrolmentId, SiteName};
use muster_protocol::time::Timestamp;

pub use standing::{NotNow, Standing, StandingName, Verb};
pub use suspicion::{Boots, Doubt, Suspicion};

/// What one enrolment file allows. Its token is known here by its digest only, and that stays in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    pub id: EnrolmentId,
    pub site: SiteName,
    /// How many boxes it was made for.
    pub count: u32,
    pub uses_left: u32,
    pub approval: Approval,
    pub made: Timestamp,
    pub made_by: String,
    pub expires: Timestamp,
    pub cancelled: Option<Timestamp>,
}

/// What happens with a box that shows the file's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approval {
    /// It waits until a person has compared fingerprints.
    #[default]
    Manual,
    /// It is a member at once: whoever gets hold of the file first is in.
    Auto,
}

/// A device as the fleet knows it: a key, a name for people, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub device: DeviceId,
    pub name: String,
    pub site: SiteName,
    /// The registered key.
    pub key: Key,
    /// The key before it, good until the registered one has connected once.
    pub former: Option<Fingerprint>,
    pub standing: Standing,
    pub since: Timestamp,
    /// What the machine was when it enrolled, or when a person last said that another is right.
    pub facts: Facts,
    /// None if it was imported.
    pub enrolment: Option<EnrolmentId>,
    pub enrolled: Timestamp,
    pub boots: Boots,
    pub suspicion: Suspicion,
}

/// A public key and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub fingerprint: Fingerprint,
    /// DER of its `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
}

/// Why a box gets no certificate. Each is final for the request, and says nothing that its sender does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    TokenUnknown,
    TokenCancelled,
    TokenExpired {
        at: Timestamp,
    },
    TokenUsedUp,
    /// The key belongs to no device.
    KeyUnknown,
    /// The device has another key since.
    KeyReplaced,
    /// The new key belongs to another device.
    KeyTaken,
    Pending,
    Rejected,
    Quarantined,
    Revoked,
}

/// What a box that shows a token is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One use of the token is spent on it.
    Joins(Approval),
    /// It asked before and still waits.
    Waits,
    /// It asked before and is a member.
    Member,
}

impl Enrolment {
    /// Whether another box may join with it.
    pub fn admits(&self, now: Timestamp) -> Result<Approval, Refusal> {
        if self.cancelled.is_some() {
            Err(Refusal::TokenCancelled)
        } else if self.uses_left == 0 {
            Err(Refusal::TokenUsedUp)
        } else if now >= self.expires {
            Err(Refusal::TokenExpired { at: self.expires })
        } else {
            Ok(self.approval)
        }
    }

    /// `open`, `used_up`, `expired` or `cancelled`.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match self.admits(now) {
            Ok(_) => "open",
            Err(Refusal::TokenCancelled) => "cancelled",
            Err(Refusal::TokenUsedUp) => "used_up",
            Err(_) => "expired",
        }
    }
}

/// A box shows a token and a key. Whoever showed this key before gets the same answer again, whatever became of the token
/// since: a retry after a crash, and the question "am I accepted yet?", must cost nothing.
pub fn enter(
    enrolment: Option<&Enrolment>,
    known: Option<&Identity>,
    key: Fingerprint,
    now: Timestamp,
) -> Result<Entry, Refusal> {
    let enrolment = enrolment.ok_or(Refusal::TokenUnknown)?;
    let Some(identity) = known else { return enrolment.admits(now).map(Entry::Joins) };
    if identity.key.fingerprint != key {
        return Err(Refusal::KeyReplaced);
    }
    match identity.standing {
        Standing::Pending => Ok(Entry::Waits),
        Standing::Active
        | Standing::Rejected { .. }
        | Standing::Quarantined { .. }
        | Standing::Revoked { .. } => member(identity).map(|()| Entry::Member),
    }
}

/// Whether the holder of this key is given a fresh certificate. The key before the registered one counts as long as it is
/// kept: a box that lost the answer to its change of keys must be able to come back.
pub fn renew(known: Option<&Identity>) -> Result<(), Refusal> {
    member(known.ok_or(Refusal::KeyUnknown)?)
}

/// Whether `shown`, the key of the certificate that a device connected with, may be replaced by `new`.
pub fn rekey(
    identity: Option<&Identity>,
    shown: Fingerprint,
    new: Fingerprint,
    owner_of_new: Option<&DeviceId>,
) -> Result<(), Refusal> {
    let identity = identity.ok_or(Refusal::KeyUnknown)?;
    member(identity)?;
    if shown != identity.key.fingerprint && Some(shown) != identity.former {
        return Err(Refusal::KeyReplaced);
    }
    if Some(new) == identity.former && new != shown {
        return Err(Refusal::KeyReplaced);
    }
    match owner_of_new {
        Some(owner) if *owner != identity.device => Err(Refusal::KeyTaken),
        Some(_) | None => Ok(()),
    }
}

fn member(identity: &Identity) -> Result<(), Refusal> {
    match identity.standing {
        Standing::Active => Ok(()),
        Standing::Pending => Err(Refusal::Pending),
        Standing::Rejected { .. } => Err(Refusal::Rejected),
        Standing::Quarantined { .. } => Err(Refusal::Quarantined),
        Standing::Revoked { .. } => Err(Refusal::Revoked),
    }
}

impl Identity {
    /// Makes `key` the registered one. The key that the device still connects with stays good beside it. Returns keys
    /// that are good no longer.
    #[must_use]
    pub fn change_key(&mut self, shown: Fingerprint, key: Key) -> Vec<Fingerprint> {
        let before: Vec<Fingerprint> =
            [Some(self.key.fingerprint), self.former].into_iter().flatten().collect();
        self.key = key;
        self.former = Some(shown).filter(|former| *former != self.key.fingerprint);
        before.into_iter().filter(|old| *old != self.key.fingerprint && Some(*old) != self.former).collect()
    }

    /// The device has connected with this key. Returns the key that is good no longer, if that was the first time.
    pub fn connected_with(&mut self, key: Fingerprint) -> Option<Fingerprint> {
        if key == self.key.fingerprint { self.former.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn enrolment() -> Enrolment {
        Enrolment {
            id: EnrolmentId::mint([1; 16]),
            site: "er-2".parse().unwrap(),
            count: 1,
            uses_left: 1,
            approval: Approval::Manual,
            made: at(NOW - 10),
            made_by: "ada".to_owned(),
            expires: at(NOW + 10),
            cancelled: None,
        }
    }

    fn key(n: u8) -> Key {
        Key { fingerprint: Fingerprint::of(&[n]), spki: vec![n] }
    }

    fn identity(standing: Standing) -> Identity {
        Identity {
            device: DeviceId::mint([7; 16]),
            name: "er-2-1".to_owned(),
            site: "er-2".parse().unwrap(),
            key: key(1),
            former: None,
            standing,
            since: at(NOW),
            facts: Facts::default(),
            enrolment: None,
            enrolled: at(NOW),
            boots: Boots::default(),
            suspicion: Suspicion::default(),
        }
    }

    fn because() -> String {
        "because".to_owned()
    }

    #[test]
    fn a_token_is_good_until_it_is_not() {
        let check = |change: fn(&mut Enrolment), expect: Result<Approval, Refusal>, state: &str| {
            let mut enrolment = enrolment();
            change(&mut enrolment);
            assert_eq!(enrolment.admits(at(NOW)), expect);
            assert_eq!(enrolment.state(at(NOW)), state);
        };
        check(|_| {}, Ok(Approval::Manual), "open");
        check(|e| e.approval = Approval::Auto, Ok(Approval::Auto), "open");
        check(|e| e.uses_left = 0, Err(Refusal::TokenUsedUp), "used_up");
        check(|e| e.expires = at(NOW), Err(Refusal::TokenExpired { at: at(NOW) }), "expired");
        check(|e| e.cancelled = Some(at(1)), Err(Refusal::TokenCancelled), "cancelled");
    }

    #[test]
    fn whoever_asked_before_gets_the_same_answer() {
        let check = |known: Option<Standing>, key: u8, expect: Result<Entry, Refusal>| {
            let known = known.map(identity);
            let spent = Enrolment { uses_left: 0, ..enrolment() };
            for (enrolment, new) in [(enrolment(), true), (spent, false)] {
                let answer = enter(Some(&enrolment), known.as_ref(), self::key(key).fingerprint, at(NOW));
                if known.is_none() && !new {
                    assert_eq!(answer, Err(Refusal::TokenUsedUp));
                } else {
                    assert_eq!(answer, expect, "{known:?}");
                }
            }
            let unknown = enter(None, known.as_ref(), self::key(key).fingerprint, at(NOW));
            assert_eq!(unknown, Err(Refusal::TokenUnknown));
        };
        check(None, 1, Ok(Entry::Joins(Approval::Manual)));
        check(Some(Standing::Pending), 1, Ok(Entry::Waits));
        check(Some(Standing::Active), 1, Ok(Entry::Member));
        check(Some(Standing::Active), 2, Err(Refusal::KeyReplaced));
        check(Some(Standing::Rejected { reason: because() }), 1, Err(Refusal::Rejected));
        check(Some(Standing::Quarantined { reason: because() }), 1, Err(Refusal::Quarantined));
        check(Some(Standing::Revoked { reason: because() }), 1, Err(Refusal::Revoked));
    }

    #[test]
    fn only_members_are_given_certificates() {
        let check = |known: Option<Standing>, expect: Result<(), Refusal>| {
            let known = known.map(identity);
            assert_eq!(renew(known.as_ref()), expect);
            let (old, new) = (key(1).fingerprint, key(2).fingerprint);
            assert_eq!(rekey(known.as_ref(), old, new, None), expect);
        };
        check(None, Err(Refusal::KeyUnknown));
        check(Some(Standing::Pending), Err(Refusal::Pending));
        check(Some(Standing::Active), Ok(()));
        check(Some(Standing::Rejected { reason: because() }), Err(Refusal::Rejected));
        check(Some(Standing::Quarantined { reason: because() }), Err(Refusal::Quarantined));
        check(Some(Standing::Revoked { reason: because() }), Err(Refusal::Revoked));
    }

    #[test]
    fn the_old_key_stays_until_the_new_one_has_connected() {
        let mut device = identity(Standing::Active);
        let (one, two, three) = (key(1).fingerprint, key(2).fingerprint, key(3).fingerprint);
        assert_eq!(device.change_key(one, key(2)), []);
        assert_eq!((device.key.fingerprint, device.former), (two, Some(one)));
        // The answer was lost: the same request again changes nothing, another new key replaces the one never used.
        assert_eq!(rekey(Some(&device), one, two, Some(&device.device)), Ok(()));
        assert_eq!(device.change_key(one, key(2)), []);
        assert_eq!(device.change_key(one, key(3)), [two]);
        assert_eq!((device.key.fingerprint, device.former), (three, Some(one)));
        assert_eq!(device.connected_with(one), None);
        assert_eq!(device.connected_with(three), Some(one));
        assert_eq!(device.connected_with(three), None);
        // The old key has no say any more.
        assert_eq!(rekey(Some(&device), one, two, None), Err(Refusal::KeyReplaced));
        assert_eq!(rekey(Some(&device), three, two, None), Ok(()));
    }

    #[test]
    fn a_key_has_one_owner() {
        let device = identity(Standing::Active);
        let (own, new) = (key(1).fingerprint, key(2).fingerprint);
        let other = DeviceId::mint([8; 16]);
        assert_eq!(rekey(Some(&device), own, new, Some(&other)), Err(Refusal::KeyTaken));
        // To make the old key the new one while both are good would leave it unclear which the box holds.
        let mut changed = device.clone();
        assert_eq!(changed.change_key(own, key(2)), []);
        assert_eq!(rekey(Some(&changed), new, own, Some(&device.device)), Err(Refusal::KeyReplaced));
    }
}

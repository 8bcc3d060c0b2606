//! Where a device stands, and the only ways from one place to another.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It showed a token; nobody has compared fingerprints yet.
    Pending,
    /// A member: it connects, is ordered and is listened to.
    Active,
    /// It never was one, and never will be with this key.
    Rejected { reason: String },
    /// Set apart by a person who doubts it: it keeps running and shows that it is there, but is neither ordered nor
    /// believed until it is released.
    Quarantined { reason: String },
    /// A member no longer, for good.
    Revoked { reason: String },
}

/// The name of a [`Standing`], for filters and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StandingName {
    Pending,
    Active,
    Rejected,
    Quarantined,
    Revoked,
}

/// What a person decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    Accept,
    Reject { reason: String },
    Quarantine { reason: String },
    Release { reason: String },
    Revoke { reason: String },
}

/// There is no such way from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device that is {is} cannot be {verb}; {hint}")]
pub struct NotNow {
    pub is: StandingName,
    pub verb: &'static str,
    pub hint: &'static str,
}

impl Standing {
    /// Where a decision leads.
    pub fn after(&self, verb: Verb) -> Result<Self, NotNow> {
        match (self, verb) {
            (Self::Pending, Verb::Accept) | (Self::Quarantined { .. }, Verb::Release { .. }) => {
                Ok(Self::Active)
            }
            (Self::Pending, Verb::Reject { reason }) => Ok(Self::Rejected { reason }),
            (Self::Active, Verb::Quarantine { reason }) => Ok(Self::Quarantined { reason }),
            (Self::Active | Self::Quarantined { .. }, Verb::Revoke { reason }) => {
                Ok(Self::Revoked { reason })
            }
            (_, verb) => Err(NotNow { is: self.name(), verb: verb.done(), hint: self.hint() }),
        }
    }

    pub fn name(&self) -> StandingName {
        match self {
            Self::Pending => StandingName::Pending,
            Self::Active => StandingName::Active,
            Self::Rejected { .. } => StandingName::Rejected,
            Self::Quarantined { .. } => StandingName::Quarantined,
            Self::Revoked { .. } => StandingName::Revoked,
        }
    }

    /// Why; empty where nobody had to say.
    pub fn reason(&self) -> &str {
        match self {
            Self::Pending | Self::Active => "",
            Self::Rejected { reason } | Self::Quarantined { reason } | Self::Revoked { reason } => reason,
        }
    }

    /// May it be connected to the broker? One that is set apart may: whoever doubts it wants to see it.
    pub fn may_connect(&self) -> bool {
        match self {
            Self::Active | Self::Quarantined { .. } => true,
            Self::Pending | Self::Rejected { .. } | Self::Revoked { .. } => false,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Pending => "accept or reject it first",
            Self::Active => "quarantine or revoke it",
            Self::Rejected { .. } => "let it make a new key and enrol it with a new file",
            Self::Quarantined { .. } => "release or revoke it",
            Self::Revoked { .. } => "revocation is final; let it make a new key and enrol it with a new file",
        }
    }
}

impl Verb {
    /// As in "cannot be accepted".
    pub fn done(&self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Reject { .. } => "rejected",
            Self::Quarantine { .. } => "quarantined",
            Self::Release { .. } => "released",
            Self::Revoke { .. } => "revoked",
        }
    }

    /// Why; empty where nobody has to say.
    pub fn reason(&self) -> &str {
        match self {
            Self::Accept => "",
            Self::Reject { reason }
            | Self::Quarantine { reason }
            | Self::Release { reason }
            | Self::Revoke { reason } => reason,
        }
    }
}

impl StandingName {
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Active, Self::Rejected, Self::Quarantined, Self::Revoked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Rejected => "rejected",
            Self::Quarantined => "quarantined",
            Self::Revoked => "revoked",
        }
    }

    /// The standing of this name. The reason is dropped where there is none to give.
    pub fn because(self, reason: String) -> Standing {
        match self {
            Self::Pending => Standing::Pending,
            Self::Active => Standing::Active,
            Self::Rejected => Standing::Rejected { reason },
            Self::Quarantined => Standing::Quarantined { reason },
            Self::Revoked => Standing::Revoked { reason },
        }
    }
}

impl fmt::Display for StandingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a state: write pending, active, rejected, quarantined or revoked")]
pub struct StandingNameError(String);

impl FromStr for StandingName {
    type Err = StandingNameError;

    fn from_str(text: &str) -> Result<Self, StandingNameError> {
        let wrong = || StandingNameError(text.chars().take(40).collect());
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way there is, and that there is no other.
    #[test]
    fn the_whole_table() {
        use StandingName::{Active, Pending, Quarantined, Rejected, Revoked};
        let why = || "because".to_owned();
        let verbs = || {
            [
                Verb::Accept,
                Verb::Reject { reason: why() },
                Verb::Quarantine { reason: why() },
                Verb::Release { reason: why() },
                Verb::Revoke { reason: why() },
            ]
        };
        //                accept         reject           quarantine          release         revoke
        let table = [
            (Pending, [Some(Active), Some(Rejected), None, None, None]),
            (Active, [None, None, Some(Quarantined), None, Some(Revoked)]),
            (Rejected, [None, None, None, None, None]),
            (Quarantined, [None, None, None, Some(Active), Some(Revoked)]),
            (Revoked, [None, None, None, None, None]),
        ];
        assert_eq!(table.map(|(from, _)| from), StandingName::ALL);
        for (from, row) in table {
            for (verb, expect) in verbs().into_iter().zip(row) {
                let from = from.because("before".to_owned());
                let after = from.after(verb.clone());
                assert_eq!(after.as_ref().ok().map(Standing::name), expect, "{from:?} {verb:?}");
                match after {
                    Ok(Standing::Active) => {}
                    Ok(after) => assert_eq!(after.reason(), "because"),
                    Err(refused) => assert!(refused.to_string().contains(verb.done()), "{refused}"),
                }
            }
        }
    }

    #[test]
    fn names_come_back() {
        for name in StandingName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
            assert_eq!(name.because(String::new()).name(), name);
        }
        assert!("retired".parse::<StandingName>().is_err());
    }
}

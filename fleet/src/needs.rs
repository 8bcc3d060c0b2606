//! What needs a person, in words: one list, which the overview shows and mail tells, so that the two cannot differ.
//!
//! ```text
//!   lookout reads ─▶ Needs ─┬▶ the overview
//!                           └▶ book: what was told to whom, what is to be told when ─▶ letter: how it reads
//! ```
//! Pure. What of the list is whose is for whoever shows it to ask.

pub mod book;
pub mod letter;

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::{ModelName, SiteName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What sort of thing it is, the most pressing first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    DeviceSuspect,
    MailUndelivered,
    DevicePending,
    RolloutHeld,
    RolloutProposed,
    IncidentOpen,
    Approval,
    RetrainFailed,
    ActivationFailed,
    DeviceSilent,
}

/// Whether it may wake somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Boxes answer as before, and the morning is soon enough.
    Usual,
    /// Boxes answer wrongly or not at all, or somebody may have a key, and every hour makes it worse.
    Urgent,
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Site(SiteName),
    Model(ModelName),
    Fleet,
}

/// What there is to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    Ours(String),
    /// Words of a program that is not ours, such as a trainer's last ones. Nobody knows what they quote: they are shown to
    /// who is logged in, and go nowhere else.
    Theirs(String),
}

/// Something that a person has to decide or look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub kind: Kind,
    /// Of the device, rollout, incident, run or list of people that it is about.
    pub id: String,
    /// Tells two needs of one kind and id apart: the rollout is held again, the box fails with another bundle.
    pub mark: String,
    pub owner: Owner,
    pub urgency: Urgency,
    pub title: String,
    pub detail: Detail,
    /// Real time.
    pub since: Timestamp,
    /// Where in the dashboard to decide.
    pub link: String,
    /// Of a device that waits: what a person compares with what the box shows.
    pub fingerprint: Option<String>,
}

/// All of them, as far as they are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The most pressing kind first.
    pub list: Vec<Need>,
    /// Kinds of which there are more than are listed: of these, one that is missing may stand all the same.
    pub cut: BTreeSet<Kind>,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeviceSuspect => "device_suspect",
            Self::MailUndelivered => "mail_undelivered",
            Self::DevicePending => "device_pending",
            Self::RolloutHeld => "rollout_held",
            Self::RolloutProposed => "rollout_proposed",
            Self::IncidentOpen => "incident_open",
            Self::Approval => "approval",
            Self::RetrainFailed => "retrain_failed",
            Self::ActivationFailed => "activation_failed",
            Self::DeviceSilent => "device_silent",
        }
    }

    /// What more of the same are called.
    fn others(self) -> &'static str {
        match self {
            Self::DeviceSuspect => "boxes may share their key with somebody",
            Self::MailUndelivered => "lists of people get no mail",
            Self::DevicePending => "boxes ask to join",
            Self::RolloutHeld => "rollouts wait for you",
            Self::RolloutProposed => "rollouts wait for approval",
            Self::IncidentOpen => "drift incidents are open",
            Self::Approval => "retrained models wait for you",
            Self::RetrainFailed => "retrainings failed",
            Self::ActivationFailed => "boxes cannot run what they should",
            Self::DeviceSilent => "boxes are offline",
        }
    }
}

impl Detail {
    pub fn text(&self) -> &str {
        match self {
            Self::Ours(text) | Self::Theirs(text) => text,
        }
    }
}

impl Need {
    /// The same need has the same key for as long as it stands, whatever is said of it meanwhile.
    pub fn key(&self) -> String {
        // Neither kinds nor ids have spaces.
        format!("{} {} {}", self.kind.as_str(), self.id, self.mark)
    }

    /// The command that shows it.
    pub fn command(&self) -> String {
        let id = &self.id;
        match self.kind {
            Kind::DeviceSuspect | Kind::ActivationFailed | Kind::DeviceSilent => {
                format!("muster device show {id}")
            }
            Kind::MailUndelivered => "muster mail status".to_owned(),
            Kind::DevicePending => "muster device pending".to_owned(),
            Kind::RolloutHeld | Kind::RolloutProposed => format!("muster rollout show {id}"),
            Kind::IncidentOpen => format!("muster drift show {id}"),
            Kind::Approval | Kind::RetrainFailed => format!("muster run show {id}"),
        }
    }
}

impl Needs {
    /// Takes in needs of one kind, or of a few, up to `limit` of each.
    pub fn add(&mut self, needs: impl IntoIterator<Item = Need>, limit: usize) {
        let mut taken: BTreeMap<Kind, usize> = BTreeMap::new();
        for need in needs {
            let taken = taken.entry(need.kind).or_default();
            if *taken < limit {
                *taken += 1;
                self.list.push(need);
            } else {
                self.cut.insert(need.kind);
            }
        }
    }

    /// Those that are somebody's, up to `limit` of each kind.
    #[must_use]
    pub fn of(&self, theirs: impl Fn(&Need) -> bool, limit: usize) -> Self {
        let mut some = Self { list: Vec::new(), cut: self.cut.clone() };
        some.add(self.list.iter().filter(|need| theirs(need)).cloned(), limit);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn need(kind: Kind, id: &str) -> Need {
        Need {
            kind,
            id: id.to_owned(),
            mark: String::new(),
            owner: Owner::Fleet,
            urgency: Urgency::Usual,
            title: format!("{id} needs you"),
            detail: Detail::Ours("because".to_owned()),
            since: Timestamp::from_seconds(1_795_485_600),
            link: format!("/things/{id}"),
            fingerprint: None,
        }
    }

    #[test]
    fn more_than_is_listed_is_known_to_be_more() {
        let mut needs = Needs::default();
        needs.add(["a", "b", "c"].map(|id| need(Kind::DeviceSilent, id)), 2);
        needs.add([need(Kind::RolloutHeld, "r")], 2);
        assert_eq!((needs.list.len(), &needs.cut), (3, &[Kind::DeviceSilent].into()));
        let own = needs.of(|need| need.id != "a", 1);
        assert_eq!(own.list.iter().map(|need| need.id.as_str()).collect::<Vec<_>>(), ["b", "r"]);
        assert_eq!(own.cut, needs.cut);
    }

    #[test]
    fn a_need_is_the_same_whatever_is_said_of_it() {
        let one = need(Kind::RolloutHeld, "ro-1");
        let said = Need { title: "other".to_owned(), since: Timestamp::from_seconds(0), ..one.clone() };
        assert_eq!(one.key(), said.key());
        assert_ne!(one.key(), Need { mark: "2".to_owned(), ..one.clone() }.key());
        assert_ne!(one.key(), need(Kind::Approval, "ro-1").key());
    }

    #[test]
    fn kinds_are_written_as_they_are_kept() {
        for kind in [Kind::DeviceSuspect, Kind::MailUndelivered, Kind::DevicePending, Kind::RolloutProposed] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}

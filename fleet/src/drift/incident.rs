//! One finding from its first look to its end: it grows, and never forgets who saw it.

use std::collections::BTreeSet;

use muster_protocol::ids::{DeviceId, Digest, IncidentId, ModelName, SiteName, TriggerId};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::finding::{Finding, FoundStream, Kind};

/// Incidents of single boxes and sites that a bundle may have open at once: a fleet of a thousand broken boxes is not a
/// thousand letters. They never keep out what is everybody's, of which there is one of each kind.
pub const OPEN_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub model: ModelName,
    pub bundle: Digest,
    pub state: IncidentState,
    /// Incidents of before there were kinds count as one that asks for nothing.
    #[serde(default = "before_kinds")]
    pub kind: Kind,
    /// World time of the alarm.
    pub opened: Timestamp,
    /// Start of the first suspicious window.
    pub onset: Timestamp,
    pub devices: BTreeSet<DeviceId>,
    pub sites: BTreeSet<SiteName>,
    /// The strongest first.
    pub streams: Vec<FoundStream>,
    /// How it was told from the other kinds.
    #[serde(default)]
    pub reason: String,
    /// What it asked for, if it did.
    pub trigger: Option<TriggerId>,
    /// Why its newest request for retraining was refused, while it is: the cause's code.
    #[serde(default)]
    pub refused: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum IncidentState {
    Open,
    Acknowledged { at: Timestamp, by: String, reason: String },
    Closed { at: Timestamp, by: String, reason: String },
}

/// Who closes what has ended by itself.
pub const FLEET: &str = "fleet";

impl IncidentState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Closed { .. } => "closed",
        }
    }

    pub fn is_closed(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open | Self::Acknowledged { .. } => false,
        }
    }
}

impl Incident {
    pub fn open(id: IncidentId, model: ModelName, bundle: Digest, finding: Finding, now: Timestamp) -> Self {
        let Finding { kind, onset, devices, sites, streams, reason } = finding;
        Self {
            id,
            model,
            bundle,
            state: IncidentState::Open,
            kind,
            opened: now,
            onset,
            devices,
            sites,
            streams,
            reason,
            trigger: None,
            refused: None,
        }
    }

    /// Takes a newer finding in.
    pub fn update(&mut self, finding: Finding) {
        self.onset = self.onset.min(finding.onset);
        self.devices.extend(finding.devices);
        self.sites.extend(finding.sites);
        let forgotten = |old: &FoundStream| !finding.streams.iter().any(|new| new.name == old.name);
        let before: Vec<FoundStream> = self.streams.drain(..).filter(forgotten).collect();
        self.streams = finding.streams;
        self.streams.extend(before);
        self.reason = finding.reason;
    }

    /// Whether it is this finding's. A box's fault is that box's, a notice is its site's; of the others a bundle has one.
    fn is_of(&self, finding: &Finding) -> bool {
        self.kind == finding.kind
            && match self.kind {
                Kind::DeviceFault => self.devices == finding.devices,
                Kind::SiteDiffers => self.sites == finding.sites,
                Kind::KnownSeason
                | Kind::DataQuality
                | Kind::SiteChange
                | Kind::Performance
                | Kind::NewRegime => true,
            }
    }

    /// Whether a person has closed it knowing all that the finding says: then it is not told again.
    fn has_answered(&self, finding: &Finding) -> bool {
        let IncidentState::Closed { at, by, .. } = &self.state else { return false };
        by != FLEET
            && self.is_of(finding)
            && finding.onset <= *at
            && finding.devices.is_subset(&self.devices)
            && finding.sites.is_subset(&self.sites)
            && finding.streams.iter().all(|new| self.streams.iter().any(|old| old.name == new.name))
    }

    /// What changed, where and since when, in one sentence.
    pub fn sentence(&self) -> String {
        let named: Vec<String> = self.streams.iter().take(3).map(FoundStream::said).collect();
        let more = self.streams.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let sites: Vec<&str> = self.sites.iter().take(5).map(SiteName::as_str).collect();
        let others = self.sites.len().saturating_sub(5);
        let others = if others > 0 { format!(" and {others} other sites") } else { String::new() };
        let at = if sites.is_empty() { String::new() } else { format!(" at {}{others}", sites.join(", ")) };
        let what = if named.is_empty() { String::new() } else { format!("{}{more}: ", named.join(", ")) };
        format!("{what}{}{at}", self.kind.said())
    }
}

impl FoundStream {
    fn said(&self) -> String {
        match (self.broken, self.shift) {
            (Some(rule), _) => format!("{} {}", self.name, super::broken_word(rule)),
            (None, Some(shift)) => format!("{} {:+.1} sd", self.name, shift.sd),
            (None, None) => format!("{} changed its mix", self.name),
        }
    }
}

fn before_kinds() -> Kind {
    Kind::SiteChange
}

/// What is to be done about the incidents of one bundle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconciled {
    pub open: Vec<Finding>,
    pub grow: Vec<(IncidentId, Finding)>,
    pub close: Vec<(IncidentId, String)>,
}

/// Compares what is found with the incidents that are open, and with those that people have closed.
pub fn reconcile(open: &[Incident], closed: &[Incident], findings: Vec<Finding>) -> Reconciled {
    let mut done = Reconciled::default();
    for incident in open {
        // Performance has its own look, and a notice stands until somebody has read it.
        let stays = match incident.kind {
            Kind::SiteDiffers => true,
            Kind::KnownSeason
            | Kind::DataQuality
            | Kind::DeviceFault
            | Kind::SiteChange
            | Kind::Performance
            | Kind::NewRegime => findings.iter().any(|finding| incident.is_of(finding)),
        };
        if !stays {
            done.close.push((incident.id.clone(), ended(incident, &findings)));
        }
    }
    for finding in findings {
        match open.iter().find(|incident| incident.is_of(&finding)) {
            Some(incident) => done.grow.push((incident.id.clone(), finding)),
            None if closed.iter().any(|incident| incident.has_answered(&finding)) => {}
            None if !finding.kind.is_of_many() || open.len() + done.open.len() < OPEN_MAX => {
                done.open.push(finding);
            }
            None => {}
        }
    }
    done
}

/// Why an incident ends: it is over, or it has turned out to be something else.
fn ended(incident: &Incident, findings: &[Finding]) -> String {
    let taken = findings.iter().find(|finding| {
        !finding.devices.is_disjoint(&incident.devices)
            && finding.streams.iter().any(|stream| incident.streams.iter().any(|old| old.name == stream.name))
    });
    match taken {
        Some(finding) => format!("it is judged to be something else now: {}", finding.kind.said()),
        None => "three quiet windows: it is back within its reference".to_owned(),
    }
}

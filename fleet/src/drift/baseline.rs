//! What is normal at one site: learnt from the first quiet windows of its boxes, then frozen.
//!
//! ```text
//!   quiet windows   1 … 9        10 … 29          30
//!                   learning     provisional      frozen: never learnt again for this bundle
//! ```
//! A baseline that went on learning would learn the harm in. While it is learnt, boxes are judged by the training data,
//! and what differs from those from the first windows on is the site, not a change: a notice, said once.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::drift::{
    BASELINE_WINDOWS_MIN, BASELINE_WINDOWS_WANTED, Counts, Reading, Rule, Shift, StreamReference, test,
};
use muster_protocol::ids::{DeviceId, SlotName, StreamName};
use muster_protocol::manifest::{Monitoring, ReferenceFile};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::watch::{Counted, Watch, WindowReading};

/// A box that differs from the training data within so many windows of its site's first one always did.
const FIRST_WINDOWS: u32 = 3;
/// A site differs enough to be told of from here on: the usual name for it is a moderate change.
const DIFFERS_PSI: f64 = 0.1;
/// Chance that a site of this kind would differ as much.
const DIFFERS_B: f64 = 0.02;

/// One bundle at one site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Start of its first window.
    pub begun: Timestamp,
    /// Quiet windows that are to be learnt from; forgotten once it is frozen.
    pub quiet: Vec<WindowAt>,
    pub baseline: Option<Baseline>,
    /// What differs from the training data, the largest first.
    pub differs: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowAt {
    pub device: DeviceId,
    pub slot: SlotName,
    pub from: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Windows that it was learnt from.
    pub windows: usize,
    pub streams: BTreeMap<StreamName, StreamReference>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub stream: StreamName,
    pub shift: Option<Shift>,
    pub psi_adj: f64,
    pub b: f64,
}

impl Site {
    pub fn new(begun: Timestamp) -> Self {
        Self { begun, quiet: Vec::new(), baseline: None, differs: Vec::new() }
    }

    pub fn is_frozen(&self) -> bool {
        self.baseline.as_ref().is_some_and(|baseline| baseline.windows >= BASELINE_WINDOWS_WANTED)
    }

    /// Takes note of a window that was read. Returns whether there is enough to learn from now.
    pub fn note(&mut self, at: WindowAt, watch: &Watch, reading: &WindowReading, window: Duration) -> bool {
        self.begun = self.begun.min(at.from);
        let enough = reading.rows >= Rule::default().n_min();
        if self.is_frozen() || !enough || self.quiet.contains(&at) || !self.is_quiet(watch, window) {
            return false;
        }
        self.quiet.push(at);
        let wanted = match &self.baseline {
            None => BASELINE_WINDOWS_MIN,
            Some(_) => BASELINE_WINDOWS_WANTED,
        };
        self.quiet.len() >= wanted
    }

    /// No stream drifts, but for what the site always was; and none is broken.
    fn is_quiet(&self, watch: &Watch, window: Duration) -> bool {
        watch.streams.values().all(|stream| {
            let news = |since| self.baseline.is_some() || !self.always_differed(since, window);
            let changed = match stream.judged().reading() {
                Reading::Drift { onset, .. } => news(onset),
                Reading::Calm | Reading::Unknown => false,
            };
            !changed && !stream.broken().is_some_and(|broken| news(broken.since))
        })
    }

    /// Whether what differs from the training data since `onset` is the site's nature.
    pub fn always_differed(&self, onset: Timestamp, window: Duration) -> bool {
        onset < self.begun.plus(window * FIRST_WINDOWS)
    }

    /// Learns the baseline from its quiet windows, oldest first. Leaves things as they are if too few of them are left.
    pub fn learn(&mut self, monitoring: &Monitoring, training: &ReferenceFile, windows: &[Counted]) {
        let mut streams = BTreeMap::new();
        let mut differs = Vec::new();
        for (place, name) in monitoring.streams.iter().map(|stream| &stream.name).enumerate() {
            let Some(training) = training.streams.get(name) else { continue };
            let counts: Vec<Counts> =
                windows.iter().filter_map(|window| window.streams.get(place)).cloned().collect();
            // Counts that do not fit were never read as quiet; a stream with too few rows has no baseline.
            let Ok(Some(own)) = training.baseline(&counts, &Rule::default()) else { continue };
            differs.extend(difference(name, training, &counts, monitoring.streams.len()));
            streams.insert(name.clone(), own);
        }
        if streams.is_empty() {
            return;
        }
        differs.sort_by(|a, b| b.psi_adj.total_cmp(&a.psi_adj).then_with(|| a.stream.cmp(&b.stream)));
        self.differs = differs;
        self.baseline = Some(Baseline { windows: windows.len(), streams });
        if self.is_frozen() {
            self.quiet = Vec::new();
        }
    }
}

/// All windows at once against the training data. They vary as the largest merge that was replayed does.
fn difference(
    name: &StreamName,
    training: &StreamReference,
    windows: &[Counts],
    monitored: usize,
) -> Option<Difference> {
    let total = Counts::merged(windows).ok()??;
    let over_dispersion =
        training.merged.last().map_or(&training.over_dispersion, |merged| &merged.over_dispersion);
    let monitored = u32::try_from(monitored).unwrap_or(u32::MAX);
    let verdict = test(&training.reference, &total, over_dispersion, monitored).ok()??;
    let psi_adj = verdict.effects?.psi_adj;
    (psi_adj >= DIFFERS_PSI && verdict.b <= DIFFERS_B).then(|| Difference {
        stream: name.clone(),
        shift: Shift::of(training, &total, &verdict),
        psi_adj,
        b: verdict.b,
    })
}

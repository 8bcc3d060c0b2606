//! One bundle on one box: each monitored stream against the training data, against what is normal at its site, and,
//! while it drifts, against its own season.
//!
//! ```text
//!   closed window ─┬─▶ quality      missing, unseen, out of range, stuck: 2 of 3 windows
//!                  ├─▶ training     alone and merged by 4 and 16
//!                  ├─▶ own          the same, once the site's baseline is learnt
//!                  └─▶ season       only while one of the two above drifts
//! ```
//! It is read window by window, oldest first, and remembered between them; so a restart forgets nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::drift::{
    self, Alarm, AlarmState, Counts, CountsError, Phase, QualityAnswer, QualityLimits, QualityRule, Reading,
    Rule, STUCK_WINDOWS, Shift, StreamReadings, StreamReference, Verdict,
};
use muster_protocol::ids::StreamName;
use muster_protocol::manifest::{Monitoring, ReferenceFile};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::season::{self, Drifting, Season};

/// Windows in a row that end a suspicion.
const QUIET_WINDOWS: u32 = 3;
/// The memory of a quality rule, in bits: two of the last three.
const MEMORY: u8 = 0b111;

/// One closed window of one box.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    pub from: Timestamp,
    /// One for each monitored stream, in the manifest's order.
    pub streams: Vec<Counts>,
}

/// What a window is compared with.
#[derive(Clone, Copy, Debug)]
pub struct References<'a> {
    pub monitoring: &'a Monitoring,
    pub training: &'a ReferenceFile,
    /// What is normal at the site; none while it is being learnt.
    pub own: Option<&'a Baseline>,
}

impl References<'_> {
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.monitoring.window_s)
    }
}

/// What is remembered of one bundle on one box between windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// End of the newest window that was read.
    pub read_until: Option<Timestamp>,
    pub streams: BTreeMap<StreamName, StreamWatch>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamWatch {
    pub training: Against,
    pub own: Against,
    /// Only while it drifts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub season: Option<Season>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
}

/// A stream against one reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Against {
    pub alarm: Alarm,
    /// Start of the first window of the present run of suspicious ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Windows in a row that were not suspicious.
    pub quiet: u32,
    /// The newest window that had enough rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Look>,
}

/// One window in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Chance that any monitored column looks this bad without drift.
    pub b: f64,
    pub psi_adj: f64,
    pub js: f64,
    /// None if the window had no values to compare.
    pub shift: Option<Shift>,
}

/// A quality rule that failed lately.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Broken {
    pub rule: QualityRule,
    /// Whether each of the last windows failed, the newest in the lowest bit.
    hits: u8,
    /// Start of the first window that failed.
    pub since: Timestamp,
    pub raised: bool,
    pub rate: f64,
    pub limit: f64,
}

/// Which reference a stream is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The bundle's: the site's baseline is being learnt.
    Training,
    Own,
}

/// One stream in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamReading {
    pub name: StreamName,
    pub state: AlarmState,
    pub judge: Judge,
    /// None: too few rows.
    pub look: Option<Look>,
    /// Quality rules that stand.
    pub broken: Vec<QualityRule>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WindowReading {
    pub from: Timestamp,
    pub to: Timestamp,
    pub rows: u64,
    pub streams: Vec<StreamReading>,
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("there is no window to read")]
    Nothing,
    #[error("a window of {found} streams came for a bundle that monitors {expected}")]
    Streams { found: usize, expected: usize },
    #[error("the drift reference has no stream '{0}'")]
    NoReference(StreamName),
    #[error("the counts of stream '{stream}' do not fit its reference")]
    Counts {
        stream: StreamName,
        #[source]
        source: CountsError,
    },
}

impl Watch {
    /// Reads the newest of `windows`, oldest first; the earlier ones are what it is merged with and what its season was.
    /// On an error nothing is remembered.
    pub fn read(
        &mut self,
        references: &References<'_>,
        windows: &[Counted],
    ) -> Result<WindowReading, WatchError> {
        let Some((newest, past)) = windows.split_last() else { return Err(WatchError::Nothing) };
        let names = &references.monitoring.streams;
        if newest.streams.len() != names.len() {
            return Err(WatchError::Streams { found: newest.streams.len(), expected: names.len() });
        }
        let past: Vec<&Counted> = past.iter().filter(|window| window.streams.len() == names.len()).collect();
        let mut next = self.clone();
        let mut streams = Vec::with_capacity(names.len());
        for (place, name) in names.iter().map(|stream| &stream.name).enumerate() {
            let training =
                references.training.streams.get(name).ok_or_else(|| WatchError::NoReference(name.clone()))?;
            let own = references.own.and_then(|own| own.streams.get(name));
            let watch = next.streams.entry(name.clone()).or_default();
            let stream = Series { place, past: &past, newest, references };
            let reading = watch
                .read(name, &stream, training, own)
                .map_err(|source| WatchError::Counts { stream: name.clone(), source })?;
            streams.push(reading);
        }
        let to = newest.from.plus(references.window());
        next.read_until = next.read_until.max(Some(to));
        *self = next;
        let rows = newest.streams.iter().map(Counts::rows).max().unwrap_or(0);
        Ok(WindowReading { from: newest.from, to, rows, streams })
    }

    /// Windows that are still needed, besides those that are to be read.
    pub fn needs(&self, window: Duration) -> Needs {
        let recent_from = self
            .read_until
            .map(|read| read.minus(window * (Rule::default().windows_kept().saturating_sub(1))));
        let onsets = || self.streams.values().filter_map(StreamWatch::onset);
        let season = onsets().min().zip(onsets().max());
        Needs { recent_from, season: season.map(|(first, last)| (first.minus(season::LOOKED_BACK), last)) }
    }
}

/// Start times of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// None: nothing was read yet.
    pub recent_from: Option<Timestamp>,
    /// Of the weeks before the drift: from the first, before the second.
    pub season: Option<(Timestamp, Timestamp)>,
}

/// One stream's windows.
struct Series<'a> {
    place: usize,
    past: &'a [&'a Counted],
    newest: &'a Counted,
    references: &'a References<'a>,
}

impl Series<'_> {
    fn newest(&self) -> &Counts {
        &self.newest.streams[self.place]
    }

    /// The last of them, the newest included.
    fn last(&self, count: usize) -> Vec<Counts> {
        let from = self.past.len().saturating_sub(count.saturating_sub(1));
        let past = self.past[from..].iter().map(|window| window.streams[self.place].clone());
        past.chain([self.newest().clone()]).collect()
    }

    fn at(&self) -> impl Iterator<Item = (Timestamp, &Counts)> + Clone {
        self.past.iter().map(|window| (window.from, &window.streams[self.place]))
    }

    fn monitored(&self) -> u32 {
        u32::try_from(self.references.monitoring.streams.len()).unwrap_or(u32::MAX)
    }
}

impl StreamWatch {
    fn read(
        &mut self,
        name: &StreamName,
        series: &Series<'_>,
        training: &StreamReference,
        own: Option<&StreamReference>,
    ) -> Result<StreamReading, CountsError> {
        let rule = Rule::default();
        let kept = series.last(usize::try_from(rule.windows_kept()).unwrap_or(usize::MAX));
        let mut state = self.training.read(&rule, training, &kept, series)?;
        let (mut judge, mut against) = (Judge::Training, training);
        if let Some(own) = own {
            state = self.own.read(&rule, own, &kept, series)?;
            (judge, against) = (Judge::Own, own);
        }
        self.look_at_quality(against, &kept, series.newest.from)?;
        let look = match (judge, state) {
            (_, AlarmState::Insufficient) => None,
            (Judge::Training, _) => self.training.last,
            (Judge::Own, _) => self.own.last,
        };
        self.season = match (self.onset(), look) {
            (None, _) => None,
            // Too few rows change nothing that was known.
            (Some(_), None) => self.season,
            (Some(onset), Some(_)) => {
                let (span, monitored) = (series.references.window(), series.monitored());
                let drifting = Drifting { against, onset, span, monitored };
                Season::weigh(self.season, &drifting, &series.at(), (series.newest.from, series.newest()))?
            }
        };
        let broken = self.broken.iter().filter(|broken| broken.raised).map(|broken| broken.rule).collect();
        Ok(StreamReading { name: name.clone(), state, judge, look, broken })
    }

    /// Its own baseline where there is one: sites differ from the training data for good.
    pub fn judged(&self) -> &Against {
        if self.own.last.is_some() { &self.own } else { &self.training }
    }

    /// Start of the drift that stands.
    pub fn onset(&self) -> Option<Timestamp> {
        self.judged().onset()
    }

    /// What is wrong with its data. Values out of range are no fault of the data: the drift test tells them, with what
    /// they amount to.
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.iter().find(|broken| match broken.rule {
            QualityRule::Missing | QualityRule::Unseen | QualityRule::Stuck => broken.raised,
            QualityRule::OutOfRange => false,
        })
    }

    /// For [`drift::attribute`].
    pub fn readings(&self) -> StreamReadings {
        StreamReadings {
            training: self.training.reading(),
            own: self.own.reading(),
            season: match (&self.season, self.onset()) {
                (Some(season), Some(_)) => season.reading(),
                (None, _) | (_, None) => Reading::Unknown,
            },
        }
    }

    fn look_at_quality(
        &mut self,
        against: &StreamReference,
        kept: &[Counts],
        from: Timestamp,
    ) -> Result<(), CountsError> {
        let last = &kept[kept.len().saturating_sub(STUCK_WINDOWS)..];
        for check in drift::quality(against, last, &QualityLimits::default())? {
            let at = self.broken.iter().position(|broken| broken.rule == check.rule);
            let failed = match check.answer {
                QualityAnswer::Insufficient => continue,
                QualityAnswer::Pass => 0,
                QualityAnswer::Fail => 1,
            };
            let at = match at {
                Some(at) => at,
                None if failed == 0 => continue,
                None => {
                    let (rule, rate, limit) = (check.rule, check.rate, check.limit);
                    self.broken.push(Broken { rule, hits: 0, since: from, raised: false, rate, limit });
                    self.broken.len() - 1
                }
            };
            let broken = &mut self.broken[at];
            broken.hits = ((broken.hits << 1) | failed) & MEMORY;
            broken.raised |= broken.hits.count_ones() >= 2;
            if failed == 1 {
                (broken.rate, broken.limit) = (check.rate, check.limit);
            }
        }
        self.broken.retain(|broken| broken.hits != 0);
        Ok(())
    }
}

impl Against {
    fn read(
        &mut self,
        rule: &Rule,
        reference: &StreamReference,
        kept: &[Counts],
        series: &Series<'_>,
    ) -> Result<AlarmState, CountsError> {
        // Only the newest window must fit: one of long ago that does not is no reason to be blind today.
        let judged = reference
            .judge(rule, kept, series.monitored())
            .or_else(|_| reference.judge(rule, &kept[kept.len() - 1..], series.monitored()))?;
        let stood = self.onset().is_some();
        let state = self.alarm.observe(rule, judged.window.as_ref(), &judged.merged);
        match state {
            AlarmState::Warn | AlarmState::Drift => {
                self.since.get_or_insert(series.newest.from);
                self.quiet = 0;
            }
            AlarmState::Ok => {
                // A suspicion outlives two quiet windows, as the alarm's own memory of three does. An alarm that has just
                // ended has had its three.
                self.quiet = self.quiet.saturating_add(1);
                if stood || self.quiet >= QUIET_WINDOWS {
                    self.since = None;
                }
            }
            AlarmState::Insufficient => return Ok(state),
        }
        self.last = judged.window.as_ref().map(|verdict| Look::of(reference, series.newest(), verdict));
        Ok(state)
    }

    /// Since when the alarm is raised.
    pub fn onset(&self) -> Option<Timestamp> {
        match self.alarm.phase() {
            Phase::Raised { .. } => self.since,
            Phase::Calm => None,
        }
    }

    pub fn reading(&self) -> Reading {
        match (self.last, self.onset()) {
            (None, _) => Reading::Unknown,
            (Some(look), Some(onset)) => Reading::Drift { onset, shift: look.shift },
            // Suspicious is not calm: it contradicts nobody.
            (Some(look), None) if look.b <= Rule::default().clear() => Reading::Unknown,
            (Some(_), None) => Reading::Calm,
        }
    }
}

impl Look {
    pub fn of(reference: &StreamReference, window: &Counts, verdict: &Verdict) -> Self {
        let effects = verdict.effects;
        Self {
            b: verdict.b,
            psi_adj: effects.map_or(0.0, |effects| effects.psi_adj),
            js: effects.map_or(0.0, |effects| effects.js),
            shift: Shift::of(reference, window, verdict),
        }
    }
}

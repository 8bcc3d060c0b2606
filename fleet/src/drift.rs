//! From counts to an incident: which streams of a bundle have left its reference, where, and since when.
//!
//! ```text
//!   windows of one device ─▶ Watch (one alarm a stream) ─▶ drifting? ─┐
//!                                                                     ├▶ assess: open · update · close an incident
//!   the same of every other device that runs the bundle ──────────────┘
//! ```
//! One device alone is a device's matter (a sensor, a camera): its incident says so and never asks for retraining.
//! When half of the devices that can tell see it, the world has changed.
//!
//! Pure. The statistics are `muster_protocol::drift`, the same on the box and here; all times are world time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::drift::{self, Alarm, AlarmState, Counts, CountsError, Phase as AlarmPhase, Rule};
use muster_protocol::ids::{DeviceId, Digest, IncidentId, ModelName, SiteName, StreamName, TriggerId};
use muster_protocol::manifest::{Monitoring, ReferenceFile, StreamReference};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What is remembered of one bundle on one device between windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    pub streams: BTreeMap<StreamName, StreamWatch>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamWatch {
    /// End of the newest window that was read.
    pub read_until: Option<Timestamp>,
    pub alarm: Alarm,
    /// Start of the first window of the present run of suspicious ones.
    pub since: Option<Timestamp>,
    /// Windows in a row that were not suspicious.
    pub quiet: u32,
    pub last: Option<StreamReading>,
}

/// One stream in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReading {
    pub name: StreamName,
    pub state: AlarmState,
    /// Chance that any monitored column looks this bad without drift.
    pub b: Option<f64>,
    pub psi_adj: Option<f64>,
    /// Shift of the mean in reference standard deviations; none for categories.
    pub mean_shift_sd: Option<f64>,
    pub js: Option<f64>,
}

/// One closed window of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowReading {
    pub from: Timestamp,
    pub to: Timestamp,
    pub rows: u64,
    pub streams: Vec<StreamReading>,
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
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
    /// Reads one closed window: `counts` has one entry for each monitored stream, in the manifest's order.
    pub fn read(
        &mut self,
        (monitoring, reference): (&Monitoring, &ReferenceFile),
        from: Timestamp,
        counts: &[Counts],
    ) -> Result<WindowReading, WatchError> {
        if counts.len() != monitoring.streams.len() {
            return Err(WatchError::Streams { found: counts.len(), expected: monitoring.streams.len() });
        }
        let monitored = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        let to = from.plus(Duration::from_secs(monitoring.window_s));
        let mut streams = Vec::with_capacity(counts.len());
        for (stream, window) in monitoring.streams.iter().zip(counts) {
            let against = reference
                .streams
                .get(&stream.name)
                .ok_or_else(|| WatchError::NoReference(stream.name.clone()))?;
            let watch = self.streams.entry(stream.name.clone()).or_default();
            let reading = watch.read(&stream.name, against, window, monitored, from)?;
            watch.read_until = Some(to);
            streams.push(reading);
        }
        let rows = counts.iter().map(Counts::rows).max().unwrap_or(0);
        Ok(WindowReading { from, to, rows, streams })
    }

    /// End of the newest window that was read.
    pub fn read_until(&self) -> Option<Timestamp> {
        self.streams.values().filter_map(|watch| watch.read_until).max()
    }

    /// Streams whose alarm is raised.
    pub fn drifting(&self) -> impl Iterator<Item = (&StreamName, &StreamWatch)> {
        self.streams.iter().filter(|(_, watch)| matches!(watch.alarm.phase(), AlarmPhase::Raised { .. }))
    }

    /// Whether at least `share` of its streams drift.
    fn is_drifting(&self, share: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "at most 1,024 streams")]
        let (drifting, all) = (self.drifting().count() as f64, self.streams.len() as f64);
        drifting > 0.0 && drifting >= share * all
    }
}

impl StreamWatch {
    fn read(
        &mut self,
        name: &StreamName,
        against: &StreamReference,
        window: &Counts,
        monitored: u32,
        from: Timestamp,
    ) -> Result<StreamReading, WatchError> {
        let verdict = drift::test(&against.reference, window, &against.over_dispersion, monitored)
            .map_err(|source| WatchError::Counts { stream: name.clone(), source })?;
        let state = self.alarm.observe(&Rule::default(), verdict.as_ref(), &[]);
        match state {
            AlarmState::Warn | AlarmState::Drift => {
                self.since.get_or_insert(from);
                self.quiet = 0;
            }
            AlarmState::Ok => {
                // A suspicion outlives two quiet windows, as the alarm's own memory of three does.
                self.quiet += 1;
                if self.quiet >= 3 {
                    self.since = None;
                }
            }
            AlarmState::Insufficient => {}
        }
        let effects = verdict.as_ref().and_then(|verdict| verdict.effects);
        let reading = StreamReading {
            name: name.clone(),
            state,
            b: verdict.as_ref().map(|verdict| verdict.b),
            psi_adj: effects.map(|effects| effects.psi_adj),
            mean_shift_sd: effects.and_then(|effects| effects.numeric).map(|numeric| numeric.mean_shift_sd),
            js: effects.map(|effects| effects.js),
        };
        self.last = Some(reading.clone());
        Ok(reading)
    }
}

/// One alarm of one bundle, from the first suspicion to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub model: ModelName,
    pub bundle: Digest,
    pub state: IncidentState,
    /// Whether the world or only a box changed.
    pub reach: Reach,
    /// World time of the alarm.
    pub opened: Timestamp,
    /// Start of the first suspicious window.
    pub onset: Timestamp,
    pub devices: BTreeSet<DeviceId>,
    pub sites: BTreeSet<SiteName>,
    /// Drifting streams, the strongest first.
    pub streams: Vec<IncidentStream>,
    /// What it asked for, if it did.
    pub trigger: Option<TriggerId>,
    /// Why its newest request for retraining was refused, while it is: the cause's code.
    #[serde(default)]
    pub refused: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Some boxes only: look at their sensors.
    Devices,
    /// Half or more of the boxes that can tell: the world has changed.
    Cohort,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum IncidentState {
    Open,
    Acknowledged { at: Timestamp, by: String, reason: String },
    Closed { at: Timestamp, by: String, reason: String },
}

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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentStream {
    pub name: StreamName,
    /// Mean shift in reference standard deviations where the stream is numeric; the largest of the devices.
    pub effect_sd: Option<f64>,
    pub psi_adj: f64,
    pub b: f64,
    pub devices: usize,
}

/// What the watches of all devices that run one bundle say together.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub reach: Reach,
    pub onset: Timestamp,
    pub devices: BTreeSet<DeviceId>,
    pub sites: BTreeSet<SiteName>,
    pub streams: Vec<IncidentStream>,
}

/// Puts the watches together. `None`: no device drifts on `share` of its streams.
pub fn assess(watches: &BTreeMap<DeviceId, (SiteName, Watch)>, share: f64) -> Option<Finding> {
    let telling = watches.values().filter(|(_, watch)| watch.read_until().is_some()).count();
    let drifting: Vec<_> = watches.iter().filter(|(_, (_, watch))| watch.is_drifting(share)).collect();
    let onset =
        drifting.iter().flat_map(|(_, (_, watch))| watch.drifting().filter_map(|(_, s)| s.since)).min()?;
    let reach = if drifting.len() * 2 >= telling && (drifting.len() >= 2 || telling == 1) {
        Reach::Cohort
    } else {
        Reach::Devices
    };
    let mut streams: BTreeMap<StreamName, IncidentStream> = BTreeMap::new();
    for (name, watch) in drifting.iter().flat_map(|(_, (_, watch))| watch.drifting()) {
        let Some(last) = &watch.last else { continue };
        let stream = streams.entry(name.clone()).or_insert_with(|| IncidentStream {
            name: name.clone(),
            effect_sd: None,
            psi_adj: 0.0,
            b: 1.0,
            devices: 0,
        });
        stream.devices += 1;
        stream.psi_adj = stream.psi_adj.max(last.psi_adj.unwrap_or(0.0));
        stream.b = stream.b.min(last.b.unwrap_or(1.0));
        if let Some(shift) = last.mean_shift_sd
            && stream.effect_sd.is_none_or(|known| shift.abs() > known.abs())
        {
            stream.effect_sd = Some(shift);
        }
    }
    let mut streams: Vec<IncidentStream> = streams.into_values().collect();
    streams.sort_by(|a, b| b.psi_adj.total_cmp(&a.psi_adj).then_with(|| a.name.cmp(&b.name)));
    Some(Finding {
        reach,
        onset,
        devices: drifting.iter().map(|(id, _)| (*id).clone()).collect(),
        sites: drifting.iter().map(|(_, (site, _))| site.clone()).collect(),
        streams,
    })
}

impl Incident {
    pub fn open(id: IncidentId, model: ModelName, bundle: Digest, finding: Finding, now: Timestamp) -> Self {
        let Finding { reach, onset, devices, sites, streams } = finding;
        Self {
            id,
            model,
            bundle,
            state: IncidentState::Open,
            reach,
            opened: now,
            onset,
            devices,
            sites,
            streams,
            trigger: None,
            refused: None,
        }
    }

    /// Takes a newer finding into an open incident: it may grow and gain reach, never forget who saw it.
    pub fn update(&mut self, finding: Finding) {
        self.reach = match (self.reach, finding.reach) {
            (Reach::Devices, Reach::Devices) => Reach::Devices,
            (Reach::Cohort, _) | (_, Reach::Cohort) => Reach::Cohort,
        };
        self.onset = self.onset.min(finding.onset);
        self.devices.extend(finding.devices);
        self.sites.extend(finding.sites);
        self.streams = finding.streams;
    }

    /// What changed, where and since when, in one sentence.
    pub fn sentence(&self) -> String {
        let named: Vec<String> = self.streams.iter().take(3).map(IncidentStream::said).collect();
        let more = self.streams.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let sites: Vec<&str> = self.sites.iter().map(SiteName::as_str).collect();
        let reach = match self.reach {
            Reach::Cohort => "the world changed at",
            Reach::Devices => "only some boxes see it, at",
        };
        format!("{}{more}: {reach} {}", named.join(", "), sites.join(", "))
    }
}

impl IncidentStream {
    fn said(&self) -> String {
        match self.effect_sd {
            Some(shift) => format!("{} {shift:+.1} sd", self.name),
            None => format!("{} changed its mix", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::drift::{Counter, OverDispersion, Reference};
    use muster_protocol::manifest::{Source, Stream};

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn value(i: u32) -> f32 {
        // Low-discrepancy values in 0..1: every window looks like the reference.
        #[expect(clippy::cast_possible_truncation, reason = "test data")]
        let v = (f64::from(i) * 0.618_033_988_749_895).fract() as f32;
        v
    }

    fn bundle(streams: usize) -> (Monitoring, ReferenceFile) {
        let values: Vec<f32> = (0..5000).map(value).collect();
        let names: Vec<StreamName> = (0..streams).map(|i| format!("s{i}").parse().unwrap()).collect();
        let source = |column| Source::Numeric { tensor: "x".into(), column, null_when_column: None };
        let streams =
            names.iter().enumerate().map(|(i, name)| Stream { name: name.clone(), source: source(i) });
        let monitoring = Monitoring { streams: streams.collect(), ..Monitoring::default() };
        let reference = StreamReference {
            reference: Reference::numeric(&values).unwrap(),
            over_dispersion: OverDispersion::default(),
            merged: Vec::new(),
        };
        let streams = names.into_iter().map(|name| (name, reference.clone())).collect();
        (monitoring, ReferenceFile { schema: "muster-reference/1".into(), streams })
    }

    /// A window of 500 rows; the first `shifted` streams are moved by a third of their range.
    fn window(
        (monitoring, reference): &(Monitoring, ReferenceFile),
        seed: u32,
        shifted: usize,
    ) -> Vec<Counts> {
        let counts = monitoring.streams.iter().enumerate().map(|(i, stream)| {
            let mut counter = Counter::new(&reference.streams[&stream.name].reference);
            let Counter::Numeric(numeric) = &mut counter else { unreachable!() };
            let shift = if i < shifted { 0.33 } else { 0.0 };
            (0..500).for_each(|row| numeric.observe(value(seed * 500 + row) + shift));
            counter.take()
        });
        counts.collect()
    }

    fn watched(shifted: usize, windows: u32) -> Watch {
        let bundle = bundle(10);
        let mut watch = Watch::default();
        let mut from = Timestamp::default();
        for seed in 0..windows {
            watch.read((&bundle.0, &bundle.1), from, &window(&bundle, seed, shifted)).unwrap();
            from = from.plus(DAY);
        }
        watch
    }

    fn fleet(watches: &[Watch]) -> BTreeMap<DeviceId, (SiteName, Watch)> {
        let site = |n: usize| format!("site-{n}").parse().unwrap();
        let id = |n: usize| DeviceId::mint([u8::try_from(n).unwrap(); 16]);
        watches.iter().enumerate().map(|(n, watch)| (id(n), (site(n), watch.clone()))).collect()
    }

    #[test]
    fn a_quiet_stream_raises_nothing() {
        assert_eq!(assess(&fleet(&[watched(0, 10), watched(0, 10)]), 0.2), None);
    }

    #[test]
    fn the_world_changes_when_half_of_the_devices_see_it() {
        let finding = assess(&fleet(&[watched(3, 3), watched(3, 3), watched(0, 3)]), 0.2).unwrap();
        assert_eq!(finding.reach, Reach::Cohort);
        assert_eq!(finding.onset, Timestamp::default());
        assert_eq!(finding.devices.len(), 2);
        assert_eq!(finding.streams.len(), 3);
    }

    #[test]
    fn one_device_of_three_is_a_devices_matter() {
        let finding = assess(&fleet(&[watched(3, 3), watched(0, 3), watched(0, 3)]), 0.2).unwrap();
        assert_eq!(finding.reach, Reach::Devices);
    }

    #[test]
    fn too_few_streams_are_no_incident() {
        assert_eq!(assess(&fleet(&[watched(1, 3), watched(1, 3)]), 0.2), None);
    }

    #[test]
    fn a_window_of_another_shape_is_refused() {
        let bundle = bundle(2);
        let refused = Watch::default().read((&bundle.0, &bundle.1), Timestamp::default(), &[]);
        assert!(matches!(refused, Err(WatchError::Streams { found: 0, expected: 2 })));
    }

    #[test]
    fn an_incident_says_what_where_and_how_much() {
        let finding = assess(&fleet(&[watched(4, 3), watched(4, 3)]), 0.2).unwrap();
        let now = Timestamp::default().plus(DAY);
        let incident =
            Incident::open(IncidentId::mint([1; 16]), "er".parse().unwrap(), Digest::of(b""), finding, now);
        let sentence = incident.sentence();
        assert!(
            sentence.contains("+1.1 sd") && sentence.contains("1 more") && sentence.contains("site-1"),
            "{sentence}"
        );
    }
}

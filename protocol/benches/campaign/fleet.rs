//! A fleet of twenty sites with three boxes each, six-hour windows, and a model that was trained on working hours alone.
//! Who is blamed for what: nights and weekends, one broken box, one site, the whole world.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::drift::{
    Alarm, AlarmState, Attribution, Cause, Counter, Counts, DeviceReadings, Phase, Reading, Rule, Season,
    Shift, StreamReadings, StreamReference, attribute,
};
use muster_protocol::ids::{DeviceId, SiteName, StreamName};
use muster_protocol::time::Timestamp;

use crate::device::{count, reference_of};
use crate::noise::Noise;

const SITES: usize = 20;
const BOXES: usize = 3;
const STREAMS: usize = 6;
const ROWS: usize = 72;
const WINDOWS_A_DAY: usize = 4;
/// Windows before anything happens, and after.
const BEFORE: usize = 4 * 7 * WINDOWS_A_DAY;
const AFTER: usize = 14 * WINDOWS_A_DAY;
/// Windows of a box's own baseline: the first.
const BASELINE: usize = 30;
/// Monday, 2 November 2026.
const START_S: i64 = 1_793_577_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Nothing but nights and weekends.
    Season,
    /// One sensor of one box, +2 sd.
    BrokenBox,
    /// Two streams of one site, +0.8 sd.
    OneSite,
    /// Two streams everywhere, +0.8 sd.
    NewRegime,
}

/// What was said during the fortnight after the event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Windows in which retraining was asked for.
    pub(crate) retraining: usize,
    /// The same, had only the training data been asked.
    pub(crate) retraining_by_training_alone: usize,
    pub(crate) broken: BTreeSet<DeviceId>,
    pub(crate) sites: BTreeSet<SiteName>,
    pub(crate) seasonal: usize,
}

pub(crate) fn blamed_box() -> DeviceId {
    device(7, 1)
}

pub(crate) fn blamed_site() -> SiteName {
    site(7)
}

pub(crate) fn live(event: Event, seed: u64) -> Told {
    let mut noise = Noise::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) + 1);
    let training = training(&mut noise);
    let mut boxes: Vec<Watched> = (0..SITES)
        .flat_map(|site| {
            let offsets: Vec<f64> = (0..STREAMS).map(|_| 0.2 * noise.normal()).collect();
            (0..BOXES).map(move |at| (site, at, offsets.clone())).collect::<Vec<_>>()
        })
        .map(|(site, at, offsets)| Watched::new(site, at, offsets, &training))
        .collect();
    let mut told = Told::default();
    for window in 0..BEFORE + AFTER {
        for watched in &mut boxes {
            watched.live(window, event, &mut noise);
        }
        if window >= BEFORE {
            told.hear(&boxes);
        }
    }
    told
}

impl Told {
    fn hear(&mut self, boxes: &[Watched]) {
        let readings: Vec<DeviceReadings> = boxes.iter().map(|watched| watched.readings.clone()).collect();
        let found = attribute(&readings);
        let asks =
            |found: &[Attribution]| usize::from(found.iter().any(|found| found.cause.asks_for_retraining()));
        self.retraining += asks(&found);
        for found in found {
            match found.cause {
                Cause::DeviceFault => self.broken.extend(found.devices),
                Cause::SiteChange => self.sites.extend(found.sites),
                Cause::KnownSeason => self.seasonal += 1,
                Cause::NewRegime => {}
            }
        }
        let mut alone = readings;
        for streams in alone.iter_mut().flat_map(|device| device.streams.values_mut()) {
            (streams.own, streams.season) = (Reading::Unknown, Reading::Unknown);
        }
        self.retraining_by_training_alone += asks(&attribute(&alone));
    }
}

/// The model's reference: six weeks of weekday windows from six to eighteen, of a site without peculiarities.
fn training(noise: &mut Noise) -> Vec<StreamReference> {
    let rule = Rule::default();
    (0..STREAMS)
        .map(|stream| {
            let working = (0..6 * 7 * WINDOWS_A_DAY)
                .filter(|window| (window / WINDOWS_A_DAY) % 7 < 5 && matches!(window % WINDOWS_A_DAY, 1 | 2));
            let windows: Vec<Vec<f32>> = working.map(|window| rows(stream, window, 0.0, noise)).collect();
            let windows: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
            reference_of(false, &windows, &rule)
        })
        .collect()
}

/// Half of the streams have a strong day and a weekend.
#[expect(clippy::cast_possible_truncation, reason = "as models see their inputs")]
fn rows(stream: usize, window: usize, level: f64, noise: &mut Noise) -> Vec<f32> {
    let (daily, weekly) = if stream < 3 { (1.0, 0.5) } else { (0.0, 0.0) };
    let weekend = if (window / WINDOWS_A_DAY) % 7 >= 5 { -weekly } else { 0.0 };
    (0..ROWS)
        .map(|row| {
            let hour = 6.0 * ((window % WINDOWS_A_DAY) as f64 + row as f64 / ROWS as f64);
            let cycle = daily * (std::f64::consts::TAU * (hour - 6.0) / 24.0).sin();
            (cycle + weekend + level + noise.normal()) as f32
        })
        .collect()
}

struct Watched {
    readings: DeviceReadings,
    offsets: Vec<f64>,
    at: (usize, usize),
    streams: Vec<Stream>,
}

struct Stream {
    name: StreamName,
    training: (StreamReference, Memory),
    own: Option<(StreamReference, Memory)>,
    season: Memory,
    counter: Counter,
    windows: Vec<(Timestamp, Counts)>,
    /// Whether each window was calm against its season.
    calm: Vec<bool>,
}

/// An alarm and since when it has been suspicious.
#[derive(Default)]
struct Memory {
    alarm: Alarm,
    since: Option<Timestamp>,
}

impl Watched {
    fn new(at_site: usize, at: usize, offsets: Vec<f64>, training: &[StreamReference]) -> Self {
        let streams = training.iter().enumerate().map(|(stream, reference)| Stream {
            name: format!("stream-{stream}").parse().unwrap(),
            counter: Counter::new(&reference.reference),
            training: (reference.clone(), Memory::default()),
            own: None,
            season: Memory::default(),
            windows: Vec::new(),
            calm: Vec::new(),
        });
        let readings =
            DeviceReadings { device: device(at_site, at), site: site(at_site), streams: BTreeMap::new() };
        Self { readings, offsets, at: (at_site, at), streams: streams.collect() }
    }

    fn live(&mut self, window: usize, event: Event, noise: &mut Noise) {
        for (stream, watched) in self.streams.iter_mut().enumerate() {
            let happened = if window < BEFORE { 0.0 } else { event.moves(self.at, stream) };
            let values = rows(stream, window, self.offsets[stream] + happened, noise);
            let said = watched.read(window, &values);
            self.readings.streams.insert(watched.name.clone(), said);
        }
    }
}

impl Event {
    fn moves(self, at: (usize, usize), stream: usize) -> f64 {
        match self {
            Self::BrokenBox if at == (7, 1) && stream == 4 => 2.0,
            Self::OneSite if at.0 == 7 && (2..4).contains(&stream) => 0.8,
            Self::NewRegime if (2..4).contains(&stream) => 0.8,
            Self::Season | Self::BrokenBox | Self::OneSite | Self::NewRegime => 0.0,
        }
    }
}

impl Stream {
    fn read(&mut self, window: usize, values: &[f32]) -> StreamReadings {
        let rule = Rule::default();
        let from = Timestamp::from_seconds(START_S + i64::try_from(window).unwrap() * 6 * 3600);
        count(&mut self.counter, values);
        let counts = self.counter.take();
        let seasonal = if window < BEFORE / 2 {
            None
        } else {
            let calm = self.windows.iter().zip(&self.calm).filter(|(_, calm)| **calm);
            let calm = calm.map(|((from, counts), _)| (*from, counts));
            self.training.0.seasonal(from, calm, &rule).unwrap()
        };
        self.windows.push((from, counts));
        let last: Vec<Counts> = self
            .windows
            .iter()
            .rev()
            .take(rule.windows_kept() as usize)
            .rev()
            .map(|(_, c)| c.clone())
            .collect();

        let season = seasonal.map_or(Reading::Unknown, |reference| {
            self.season.read(&reference, &last[last.len() - 1..], from)
        });
        self.calm.push(self.season.since.is_none());
        let (reference, memory) = &mut self.training;
        let training = memory.read(reference, &last, from);
        let own = self.own.as_mut().map_or(Reading::Unknown, |(own, memory)| memory.read(own, &last, from));
        if self.windows.len() == BASELINE {
            let first: Vec<Counts> = self.windows.iter().map(|(_, counts)| counts.clone()).collect();
            self.own = self.training.0.baseline(&first, &rule).unwrap().map(|own| (own, Memory::default()));
        }
        StreamReadings { training, own, season }
    }
}

impl Memory {
    fn read(&mut self, against: &StreamReference, windows: &[Counts], from: Timestamp) -> Reading {
        let rule = Rule::default();
        let judged = against.judge(&rule, windows, u32::try_from(STREAMS).unwrap()).unwrap();
        match self.alarm.observe(&rule, judged.window.as_ref(), &judged.merged) {
            AlarmState::Warn | AlarmState::Drift => {
                self.since.get_or_insert(from);
            }
            AlarmState::Ok => self.since = None,
            AlarmState::Insufficient => {}
        }
        match (self.alarm.phase(), windows.last(), &judged.window) {
            (Phase::Raised { .. }, Some(window), Some(verdict)) => {
                let shift = Shift::of(against, window, verdict);
                Reading::Drift { onset: self.since.unwrap_or(from), shift }
            }
            (_, _, _) => Reading::Calm,
        }
    }
}

fn device(at_site: usize, at: usize) -> DeviceId {
    format!("d-{:026}", at_site * 10 + at).parse().unwrap()
}

fn site(at: usize) -> SiteName {
    format!("site-{at:02}").parse().unwrap()
}

/// The windows are of the kinds that a season tells apart.
pub(crate) fn seasons() -> usize {
    let starts = (0..7 * WINDOWS_A_DAY).map(|window| START_S + i64::try_from(window).unwrap() * 6 * 3600);
    starts.map(|start| Season::of(Timestamp::from_seconds(start))).collect::<BTreeSet<_>>().len()
}

//! Sites with boxes, from their reference on, one window of a day after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_fleet::drift::{Counted, Incident, References, Site, Stand, Watch, WindowAt, assess, reconcile};
use muster_protocol::drift::{Counter, Counts, Floor, Rule};
use muster_protocol::ids::{DeviceId, Digest, IncidentId, SiteName};
use muster_protocol::manifest::{Monitoring, ReferenceFile, Source, Stream};
use muster_protocol::time::Timestamp;

use crate::learn::{count, reference_of};
use crate::store::{Run, Window};

const DAY: Duration = Duration::from_hours(24);
/// Panes of a window: a box tells up to four times a day, and keeps small counts to itself each time.
const PANES: usize = 4;
/// The runs' reference: a year.
const LEARNT: usize = 365;

/// An incident, and the day on which it was opened.
pub(crate) struct Opened {
    pub(crate) day: usize,
    pub(crate) incident: Incident,
}

pub(crate) struct Hospital<'a> {
    runs: &'a [&'a Run],
    monitoring: Monitoring,
    training: ReferenceFile,
    boxes: Vec<Watched>,
    /// Boxes at each site.
    each: usize,
    sites: Vec<Site>,
    begins: usize,
    day: usize,
    open: Vec<Incident>,
    pub(crate) opened: Vec<Opened>,
}

#[derive(Default)]
struct Watched {
    windows: Vec<Counted>,
    watch: Watch,
}

pub(crate) fn site(place: usize, each: usize) -> SiteName {
    format!("er-{:02}", place / each).parse().unwrap()
}

fn device(place: usize) -> DeviceId {
    DeviceId::mint([u8::try_from(place).unwrap(); 16])
}

/// Whatever weekday it is: windows of a day are compared with those of the same one.
fn at(day: usize) -> Timestamp {
    Timestamp::from_seconds(4 * 86_400).plus(DAY * u32::try_from(day).unwrap())
}

impl<'a> Hospital<'a> {
    /// Learns from the year before `begin` days after the runs' own reference: from all of them at once, as a bundle's
    /// reference is made.
    pub(crate) fn learn(runs: &'a [&'a Run], begin: usize, each: usize) -> Self {
        let begins = LEARNT + begin;
        let years: Vec<&[Window]> = runs.iter().map(|run| &run.windows[begin..begins]).collect();
        let names = &runs[0].names;
        let rule = Rule::default();
        let learnt = names.iter().enumerate().map(|(column, name)| {
            let reference = reference_of(runs[0].categorical[column], &years, column, &rule);
            (name.parse().unwrap(), reference)
        });
        let streams = learnt.collect();
        let training = ReferenceFile { schema: "muster-reference/1".into(), streams };
        let source = |column| Source::Numeric { tensor: "x".into(), column, null_when_column: None };
        let streams = names.iter().enumerate();
        let streams = streams.map(|(at, name)| Stream { name: name.parse().unwrap(), source: source(at) });
        let monitoring = Monitoring {
            streams: streams.collect(),
            pane_s: DAY.as_secs() / PANES as u64,
            window_s: DAY.as_secs(),
        };
        Self {
            runs,
            monitoring,
            training,
            boxes: runs.iter().map(|_| Watched::default()).collect(),
            each,
            sites: (0..runs.len().div_ceil(each)).map(|_| Site::new(at(begins))).collect(),
            begins,
            day: 0,
            open: Vec::new(),
            opened: Vec::new(),
        }
    }

    pub(crate) fn live_as_it_comes(&mut self, days: usize) {
        for _ in 0..days {
            self.live(&|_, window| window);
        }
    }

    /// Lives one day, with the patients that `changed` makes of those of the box at this place.
    pub(crate) fn live(&mut self, changed: &dyn Fn(usize, Window) -> Window) {
        let today = self.begins + self.day;
        let from = at(today);
        for place in 0..self.boxes.len() {
            let window = changed(place, self.runs[place].windows[today].clone());
            let streams = self.count(&window);
            let (watched, site) = (&mut self.boxes[place], &mut self.sites[place / self.each]);
            watched.windows.push(Counted { from, streams });
            let own = site.baseline.clone();
            let references =
                References { monitoring: &self.monitoring, training: &self.training, own: own.as_ref() };
            let reading = watched.watch.read(&references, &watched.windows).unwrap();
            let note = WindowAt { device: device(place), slot: "er".parse().unwrap(), from };
            if site.note(note, &watched.watch, &reading, DAY) {
                self.learn_site(place / self.each);
            }
        }
        self.reconcile(from.plus(DAY));
        self.day += 1;
    }

    /// As the box tells it: pane by pane, and no pane before it is full or its window ends.
    fn count(&self, window: &Window) -> Vec<Counts> {
        let streams = self.monitoring.streams.iter().zip(window);
        let counted = streams.map(|(stream, values)| {
            let reference = &self.training.streams[&stream.name].reference;
            let mut counter = Counter::new(reference);
            let mut told = Vec::new();
            let mut left = values.len();
            for pane in values.chunks(values.len().div_ceil(PANES).max(1)) {
                count(&mut counter, pane);
                left -= pane.len();
                if left == 0 || counter.counts().rows() >= Floor::LEAST.full() {
                    told.push(counter.take().disclosed(reference, Floor::LEAST));
                }
            }
            Counts::merged(&told).unwrap().unwrap()
        });
        counted.collect()
    }

    fn learn_site(&mut self, number: usize) {
        let site = &mut self.sites[number];
        let quiet: BTreeSet<(DeviceId, Timestamp)> =
            site.quiet.iter().map(|at| (at.device.clone(), at.from)).collect();
        let boxes = self.boxes.iter().enumerate();
        let mut windows: Vec<Counted> = boxes
            .flat_map(|(place, watched)| watched.windows.iter().map(move |window| (device(place), window)))
            .filter(|(device, window)| quiet.contains(&(device.clone(), window.from)))
            .map(|(_, window)| window.clone())
            .collect();
        windows.sort_by_key(|window| window.from);
        site.learn(&self.monitoring, &self.training, &windows);
    }

    fn reconcile(&mut self, now: Timestamp) {
        let stands = self.boxes.iter().enumerate().map(|(place, watched)| {
            let at = &self.sites[place / self.each];
            Stand::of(device(place), site(place, self.each), &watched.watch, at, DAY)
        });
        let stands: Vec<Stand> = stands.collect();
        let sites = self.sites.iter().enumerate().filter(|(_, site)| !site.differs.is_empty());
        let differing =
            sites.map(|(number, at)| (site(number * self.each, self.each), (at.begun, at.differs.clone())));
        let findings = assess(&stands.iter().collect::<Vec<_>>(), &differing.collect());
        let done = reconcile(&self.open, &[], findings);
        self.open.retain(|incident| !done.close.iter().any(|(closed, _)| *closed == incident.id));
        for (id, finding) in done.grow {
            if let Some(incident) = self.open.iter_mut().find(|incident| incident.id == id) {
                incident.update(finding);
            }
        }
        for finding in done.open {
            let id = IncidentId::mint([u8::try_from(self.opened.len() % 256).unwrap(); 16]);
            let incident =
                Incident::open(id, "deterioration".parse().unwrap(), Digest::of(b"bundle"), finding, now);
            self.opened.push(Opened { day: self.day, incident: incident.clone() });
            self.open.push(incident);
        }
    }
}

//! Fleets of boxes that live through ordinary days, a season, a broken sensor, a new regime.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::drift::{AlarmState, Counter, Counts, QualityRule, Reference, Rule, StreamReference};
use muster_protocol::ids::{DeviceId, Digest, IncidentId, SiteName, StreamName};
use muster_protocol::manifest::{Monitoring, ReferenceFile, Source, Stream};
use muster_protocol::time::Timestamp;

use super::*;

mod hours;
mod incidents;

const DAY: Duration = Duration::from_hours(24);
const ROWS: u32 = 150;
/// Standard deviation of the values, which are even in 0..1.
const SD: f32 = 0.288_675;
const STREAMS: usize = 4;

/// Even in 0..1, and the same on every machine.
fn noise(seed: u64) -> f32 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    let value = ((x ^ (x >> 31)) >> 40) as f32 / 16_777_216.0;
    value
}

/// What a stream reads on a box on a day, in standard deviations away from the ordinary; none where it reads nothing.
type Shift<'a> = &'a dyn Fn(usize, usize, i64) -> Option<f32>;

struct Fleet {
    /// Length of a window; the tests count time in windows.
    span: Duration,
    monitoring: Monitoring,
    training: ReferenceFile,
    /// Boxes at each site.
    each: usize,
    boxes: Vec<Life>,
    sites: BTreeMap<SiteName, Site>,
}

#[derive(Default)]
struct Life {
    windows: Vec<Counted>,
    watch: Watch,
    last: Vec<AlarmState>,
}

fn at(day: i64) -> Timestamp {
    // A Monday.
    Timestamp::from_seconds((day + 4) * 86_400)
}

/// Where a window begins.
fn begins(window: i64, span: Duration) -> Timestamp {
    at(0).plus(span * u32::try_from(window).unwrap())
}

fn device(place: usize) -> DeviceId {
    DeviceId::mint([u8::try_from(place).unwrap(); 16])
}

fn count(reference: &Reference, seed: u64, rows: u32, shift: Option<f32>) -> Counts {
    let mut counter = Counter::new(reference);
    let Counter::Numeric(numeric) = &mut counter else { unreachable!() };
    for row in 0..rows {
        let value = noise(seed * 100_003 + u64::from(row));
        numeric.observe(shift.map_or(f32::NAN, |shift| value + shift * SD));
    }
    counter.take()
}

impl Fleet {
    /// Trained on 200 days, each shifted as `trained` says.
    fn trained(sites: usize, each: usize, trained: impl Fn(i64) -> f32) -> Self {
        Self::spanning(DAY, sites, each, 0..200, trained)
    }

    /// The same with windows of another length, trained on these of them.
    fn spanning(
        span: Duration,
        sites: usize,
        each: usize,
        seen: impl Iterator<Item = i64>,
        trained: impl Fn(i64) -> f32,
    ) -> Self {
        let day = |day: i64| (0..ROWS).map(move |row| (day, row));
        let value = |(day, row): (i64, u32)| {
            noise(u64::try_from(day).unwrap() * 7919 + u64::from(row) + 1_000_000_000) + trained(day) * SD
        };
        let values: Vec<f32> = seen.flat_map(day).map(value).collect();
        let reference = Reference::numeric(&values).unwrap();
        let mut counter = Counter::new(&reference);
        let windows = values.chunks(ROWS as usize).map(|window| {
            let Counter::Numeric(numeric) = &mut counter else { unreachable!() };
            numeric.observe_all(window);
            counter.take()
        });
        let windows: Vec<Counts> = windows.collect();
        let learnt = StreamReference::replay(reference, &[windows], &Rule::default()).unwrap();
        let names: Vec<StreamName> = (0..STREAMS).map(|i| format!("s{i}").parse().unwrap()).collect();
        let source = |column| Source::Numeric { tensor: "x".into(), column, null_when_column: None };
        let streams =
            names.iter().enumerate().map(|(i, name)| Stream { name: name.clone(), source: source(i) });
        let monitoring =
            Monitoring { streams: streams.collect(), pane_s: span.as_secs(), window_s: span.as_secs() };
        let streams = names.into_iter().map(|name| (name, learnt.clone())).collect();
        let training = ReferenceFile { schema: "muster-reference/1".into(), streams };
        let boxes = (0..sites * each).map(|_| Life::default()).collect();
        Self { span, monitoring, training, each, boxes, sites: BTreeMap::new() }
    }

    fn ordinary(sites: usize, each: usize) -> Self {
        Self::trained(sites, each, |_| 0.0)
    }

    fn site(&self, place: usize) -> SiteName {
        format!("site-{:02}", place / self.each).parse().unwrap()
    }

    /// Lives one day with so many rows a box.
    fn live(&mut self, day: i64, rows: u32, shift: Shift<'_>) {
        let from = begins(day, self.span);
        for place in 0..self.boxes.len() {
            let name = self.site(place);
            let life = &mut self.boxes[place];
            let streams = self.monitoring.streams.iter().enumerate().map(|(stream, known)| {
                let seed = ((day.unsigned_abs() * 64 + place as u64) * 8 + stream as u64) + 7;
                count(&self.training.streams[&known.name].reference, seed, rows, shift(place, stream, day))
            });
            life.windows.push(Counted { from, streams: streams.collect() });
            let site = self.sites.entry(name).or_insert_with(|| Site::new(from));
            let own = site.baseline.clone();
            let references =
                References { monitoring: &self.monitoring, training: &self.training, own: own.as_ref() };
            // As a restarted server would know it.
            let remembered = serde_json::to_string(&life.watch).unwrap();
            life.watch = serde_json::from_str(&remembered).unwrap();
            let reading = life.watch.read(&references, &life.windows).unwrap();
            life.last = reading.streams.iter().map(|stream| stream.state).collect();
            let slot = "m".parse().unwrap();
            let note = WindowAt { device: device(place), slot, from };
            if site.note(note, &life.watch, &reading, self.span) {
                let (of, quiet) = (|at: &WindowAt| (at.device.clone(), at.from), site.quiet.clone());
                let wanted: BTreeSet<_> = quiet.iter().map(of).collect();
                let lives = self.boxes.iter().enumerate();
                let mut windows: Vec<Counted> = lives
                    .flat_map(|(place, life)| life.windows.iter().map(move |window| (device(place), window)))
                    .filter(|(device, window)| wanted.contains(&(device.clone(), window.from)))
                    .map(|(_, window)| window.clone())
                    .collect();
                windows.sort_by_key(|window| window.from);
                let name = self.site(place);
                let site = self.sites.get_mut(&name).unwrap();
                site.learn(&self.monitoring, &self.training, &windows);
            }
        }
    }

    fn days(&mut self, days: std::ops::Range<i64>, shift: Shift<'_>) {
        days.for_each(|day| self.live(day, ROWS, shift));
    }

    fn findings(&self) -> Vec<Finding> {
        let stands: Vec<Stand> = self
            .boxes
            .iter()
            .enumerate()
            .map(|(place, life)| {
                let name = self.site(place);
                let site = &self.sites[&name];
                Stand::of(device(place), name, &life.watch, site, self.span)
            })
            .collect();
        let differing = self.sites.iter().filter(|(_, site)| !site.differs.is_empty());
        let differing = differing.map(|(name, site)| (name.clone(), (site.begun, site.differs.clone())));
        assess(&stands.iter().collect::<Vec<_>>(), &differing.collect())
    }

    fn kinds(&self) -> Vec<Kind> {
        self.findings().iter().map(|finding| finding.kind).collect()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a day without rows is none")]
fn ordinary(_: usize, _: usize, _: i64) -> Option<f32> {
    Some(0.0)
}

#[test]
fn ordinary_days_raise_nothing_and_each_site_is_learnt_once() {
    let mut fleet = Fleet::ordinary(4, 2);
    fleet.days(0..4, &ordinary);
    assert!(fleet.sites.values().all(|site| site.baseline.is_none()), "eight windows are too few");
    let mut learnt = BTreeSet::new();
    for day in 4..60 {
        fleet.live(day, ROWS, &ordinary);
        assert_eq!(fleet.kinds(), [], "day {day}");
        learnt.extend(fleet.sites.values().filter_map(|site| site.baseline.as_ref()).map(|own| own.windows));
    }
    assert_eq!(learnt, BTreeSet::from([10, 30]), "two boxes a site: after 5 days, for good after 15");
    assert!(fleet.sites.values().all(|site| site.is_frozen() && site.quiet.is_empty()));
}

#[test]
fn a_site_that_never_was_like_the_training_data_is_a_notice_and_no_alarm() {
    let mut fleet = Fleet::ordinary(4, 2);
    let one = |place: usize, _: usize, _: i64| Some(if place < 2 { 0.6 } else { 0.0 });
    for day in 0..60 {
        fleet.live(day, ROWS, &one);
        let expect: &[Kind] = if day < 4 { &[] } else { &[Kind::SiteDiffers] };
        assert_eq!(fleet.kinds(), expect, "day {day}");
    }
    let notice = &fleet.findings()[0];
    assert_eq!((notice.sites.len(), notice.streams.len(), notice.onset), (1, STREAMS, at(0)));
    let shift = notice.streams[0].shift.unwrap();
    assert!((shift.sd - 0.6).abs() < 0.1 && shift.low < shift.sd && shift.sd < shift.high, "{shift:?}");
}

#[test]
fn one_box_of_a_site_is_that_boxs_matter() {
    let mut fleet = Fleet::ordinary(4, 3);
    fleet.days(0..30, &ordinary);
    fleet.days(30..34, &|place, stream, _| Some(if (place, stream) == (4, 1) { 1.2 } else { 0.0 }));
    let findings = fleet.findings();
    let [fault] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(
        (fault.kind, &fault.devices, fault.onset),
        (Kind::DeviceFault, &BTreeSet::from([device(4)]), at(30))
    );
    assert!(!fault.kind.may_ask() && fault.reason.contains("2 other devices of site 'site-01' are calm"));
    // Repaired: three quiet windows end it.
    fleet.days(34..40, &ordinary);
    assert_eq!(fleet.kinds(), []);
}

#[test]
fn one_site_of_twenty_is_named() {
    let mut fleet = Fleet::ordinary(20, 2);
    fleet.days(0..20, &ordinary);
    fleet.days(20..24, &|place, stream, _| Some(if place / 2 == 7 && stream == 0 { 0.8 } else { 0.0 }));
    let findings = fleet.findings();
    let [change] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((change.kind, change.devices.len()), (Kind::SiteChange, 2));
    assert_eq!(change.sites, BTreeSet::from(["site-07".parse().unwrap()]));
    assert!(change.reason.contains("1 of 20 sites"), "{}", change.reason);
}

#[test]
fn a_new_regime_is_one_finding_that_may_ask() {
    let mut fleet = Fleet::ordinary(3, 1);
    // It comes slowly, as an epidemic does, and the streams that know of it do so at all sites.
    let epidemic = |_: usize, stream: usize, day: i64| {
        #[expect(clippy::cast_precision_loss, reason = "a few days")]
        let risen = ((day - 38).clamp(0, 14) as f32) / 14.0;
        Some(if stream < 2 { 1.5 * risen } else { 0.0 })
    };
    fleet.days(0..38, &epidemic);
    assert_eq!(fleet.kinds(), []);
    let mut noticed = None;
    for day in 38..60 {
        fleet.live(day, ROWS, &epidemic);
        let regime = fleet.findings().into_iter().find(|finding| finding.kind == Kind::NewRegime);
        if noticed.is_none() && regime.is_some() {
            noticed = Some(day - 37);
        }
    }
    assert!(noticed.is_some_and(|days| days <= 9), "{noticed:?} days");
    let findings = fleet.findings();
    let [regime] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((regime.kind, regime.devices.len(), regime.streams.len()), (Kind::NewRegime, 3, 2));
    assert!(regime.onset >= at(38) && regime.kind.may_ask(), "{regime:?}");
}

#[test]
fn while_the_world_changes_the_only_box_of_a_site_is_not_broken_as_well() {
    let changed = |faulty: usize| {
        move |place: usize, stream: usize, day: i64| {
            let is_new = stream == 0 || (place == faulty && stream == 2 && day >= 32);
            Some(if is_new { 1.0 } else { 0.0 })
        }
    };
    let mut alone = Fleet::ordinary(3, 1);
    alone.days(0..30, &ordinary);
    alone.days(30..36, &changed(1));
    let findings = alone.findings();
    let [regime] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((regime.kind, regime.devices.len(), regime.streams.len()), (Kind::NewRegime, 3, 2));
    // Where others stand beside it, and are calm, it is.
    let mut several = Fleet::ordinary(3, 3);
    several.days(0..30, &ordinary);
    several.days(30..36, &changed(4));
    assert_eq!(several.kinds(), [Kind::DeviceFault, Kind::NewRegime]);
}

#[test]
fn what_comes_gradually_is_no_season_on_any_day_of_the_week() {
    // Streams of an epidemic that know of it more and less: the last cross the alarm when it has long been there.
    let strength = [1.2, 0.6, 0.4, 0.0];
    for begins in [30, 45, 60] {
        let epidemic = |_: usize, stream: usize, day: i64| {
            #[expect(clippy::cast_precision_loss, reason = "a few days")]
            let risen = ((day - begins).clamp(0, 14) as f32) / 14.0;
            Some(strength[stream] * risen)
        };
        let mut fleet = Fleet::ordinary(3, 1);
        fleet.days(0..begins, &epidemic);
        let mut streams = BTreeSet::new();
        for day in begins..begins + 50 {
            fleet.live(day, ROWS, &epidemic);
            for finding in fleet.findings() {
                assert_ne!(finding.kind, Kind::KnownSeason, "day {day} of {begins}: {finding:?}");
                if finding.kind == Kind::NewRegime {
                    streams.extend(finding.streams.into_iter().map(|stream| stream.name));
                }
            }
        }
        assert_eq!(streams.len(), 3, "{begins}: {streams:?}");
        assert_eq!(fleet.kinds(), [Kind::NewRegime], "{begins}");
    }
}

#[test]
fn a_regime_that_begins_while_sites_are_learnt_is_seen_against_the_training_data() {
    let mut fleet = Fleet::ordinary(3, 1);
    fleet.days(0..5, &ordinary);
    fleet.days(5..9, &|_, stream, _| Some(if stream == 0 { 1.0 } else { 0.0 }));
    assert!(fleet.sites.values().all(|site| site.baseline.is_none()));
    assert_eq!(fleet.kinds(), [Kind::NewRegime]);
}

#[test]
fn a_season_that_the_model_was_trained_on_asks_for_nothing() {
    // A year in the training data, up and down; the sites were learnt when it was low.
    let year = |day: i64| {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred days")]
        let turn = day as f32 / 100.0 * std::f32::consts::TAU;
        -turn.cos()
    };
    let mut fleet = Fleet::trained(4, 2, year);
    let mut seen = BTreeSet::new();
    for day in 0..60 {
        fleet.live(day, ROWS, &|_, _, day| Some(year(day)));
        seen.extend(fleet.kinds());
    }
    assert!(seen.is_subset(&BTreeSet::from([Kind::KnownSeason, Kind::SiteDiffers])), "{seen:?}");
}

#[test]
fn weekends_that_the_training_data_lack_are_a_known_season() {
    let weekend = |_: usize, _: usize, day: i64| Some(if day % 7 >= 5 { 1.2 } else { 0.0 });
    let mut fleet = Fleet::ordinary(3, 2);
    let mut seen = BTreeSet::new();
    for day in 0..70 {
        fleet.live(day, ROWS, &weekend);
        if day >= 28 {
            seen.extend(fleet.kinds());
        }
    }
    assert!(seen.is_subset(&BTreeSet::from([Kind::KnownSeason])), "{seen:?}");
}

#[test]
fn a_dead_sensor_is_broken_data_and_no_drift() {
    let mut fleet = Fleet::ordinary(3, 1);
    fleet.days(0..40, &ordinary);
    let dead = |place: usize, stream: usize, _: i64| (!(place == 1 && stream == 2)).then_some(0.0);
    fleet.days(40..44, &dead);
    let findings = fleet.findings();
    let [broken] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((broken.kind, &broken.devices), (Kind::DataQuality, &BTreeSet::from([device(1)])));
    assert_eq!(broken.streams[0].broken, Some(QualityRule::Missing));
    fleet.days(44..50, &ordinary);
    assert_eq!(fleet.kinds(), []);
}

#[test]
fn too_few_rows_are_insufficient_and_teach_nothing() {
    let mut fleet = Fleet::ordinary(2, 1);
    for day in 0..15 {
        fleet.live(day, 30, &|_, _, _| Some(2.0));
    }
    assert!(fleet.boxes.iter().all(|life| life.last == [AlarmState::Insufficient; STREAMS]));
    assert!(fleet.sites.values().all(|site| site.quiet.is_empty() && site.baseline.is_none()));
    assert_eq!(fleet.kinds(), []);
}

#[test]
fn windows_that_do_not_fit_are_refused_and_leave_nothing_behind() {
    let fleet = Fleet::ordinary(1, 1);
    let references = References { monitoring: &fleet.monitoring, training: &fleet.training, own: None };
    let mut watch = Watch::default();
    let short = Counted { from: at(0), streams: Vec::new() };
    let refused = watch.read(&references, &[short]);
    assert!(matches!(refused, Err(WatchError::Streams { found: 0, expected: STREAMS })));
    let other = Counts::empty(&Reference::numeric(&[1.0]).unwrap());
    let strange = Counted { from: at(0), streams: vec![other; STREAMS] };
    assert!(matches!(watch.read(&references, &[strange]), Err(WatchError::Counts { .. })));
    assert_eq!(watch, Watch::default());
}

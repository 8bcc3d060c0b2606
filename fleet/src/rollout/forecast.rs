//! What a plan would do, before it does: the real engine on the real fleet's view, in simulated time.
//!
//! ```text
//!   view ─▶ sample ─▶ for each scenario and each run:  look ─▶ assign ─▶ devices act ─▶ look …  ─▶ spread of what came
//! ```
//! The engine is not modelled: [`super::advance`] itself decides, with the plan's own windows, caps, leases and gates. What
//! is modelled are the boxes: when they are there, how long they install, what they show. Each assumption stands in
//! [`Assumed`], and the answer says it.
//!
//! Randomness is the seed. Bounded: by devices, runs and looks, and by time where the caller's runs out: the answer says what
//! was sampled, and how many runs it was.

mod sample;
mod world;

use muster_protocol::ids::{ModelName, SiteName, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, Timing};
use super::view::FleetView;
use sample::Sample;
use world::{Course, World};

/// Devices that are simulated at most.
pub const DEVICES_MAX: usize = 2_000;
/// Looks in one run at most.
const LOOKS_MAX: u32 = 600;
const RUNS_MAX: u64 = 31;
const RUNS_MIN: u64 = 5;

/// Bugs that are played through: which share of devices is hit, and when.
const BUGS: [Bug; 4] = [
    Bug { share: 0.05, at: BugAt::Install },
    Bug { share: 0.2, at: BugAt::Install },
    Bug { share: 0.5, at: BugAt::Install },
    Bug { share: 0.2, at: BugAt::Later },
];

/// What would be rolled out where.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    pub model: &'a ModelName,
    pub slot: &'a SlotName,
    pub bundle: &'a BundleRef,
    pub bundle_bytes: u64,
    pub plan: &'a Plan,
    pub view: &'a FleetView,
    pub now: Timestamp,
    pub seed: u64,
}

/// How much is played through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Nothing: only who is meant.
    Nobody,
    /// A healthy bundle alone: what a finished rollout is compared with.
    Healthy,
    /// The bugs too: what a person approves with open eyes.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bug {
    pub share: f64,
    pub at: BugAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BugAt {
    Install,
    /// Two to eight hours after it was activated.
    Later,
}

/// What is taken for granted of boxes whose own history is not known.
#[derive(Clone, Copy, Debug)]
pub struct Assumed {
    /// Share of time that a box which is there now is there.
    pub online_share: f64,
    /// The same of one that is away now.
    pub away_share: f64,
    /// Mean length of an absence.
    pub absence_h: f64,
    /// Mean time from order to activation.
    pub install_min: f64,
    /// Ordinary failures of installs.
    pub install_failure: f64,
    pub requests_per_hour: f64,
    pub labels_per_hour: f64,
}

pub const ASSUMED: Assumed = Assumed {
    online_share: 0.97,
    away_share: 0.4,
    absence_h: 8.0,
    install_min: 6.0,
    install_failure: 0.005,
    requests_per_hour: 60.0,
    labels_per_hour: 12.0,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    pub seed: u64,
    /// Devices that match the plan.
    pub cohort: usize,
    /// Of them, devices that were simulated.
    pub simulated: usize,
    pub runs: u64,
    /// From the beginning to completion.
    pub finish: Spread,
    pub stages: Vec<StageForecast>,
    pub sites: Vec<SiteForecast>,
    pub bugs: Vec<BugForecast>,
    pub warnings: Vec<String>,
    /// What was sampled and assumed, in a sentence.
    pub basis: String,
}

/// Seconds of world time since the beginning; `None` where so many runs did not get there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    pub p10_s: Option<u64>,
    pub p50_s: Option<u64>,
    pub p90_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageForecast {
    pub name: String,
    /// Until its gate passed.
    #[serde(flatten)]
    pub passed: Spread,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteForecast {
    pub site: SiteName,
    /// That lack the bundle.
    pub devices: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BugForecast {
    pub share: f64,
    pub at: BugAt,
    pub sentence: String,
    /// Share of runs in which the gates, or a hold for a person, stopped it before everybody had it.
    pub stopped_share: f64,
    /// Share of runs in which the first stage stopped it: the power of its gate against this bug.
    pub first_stage_power: f64,
    /// Devices told to run it, when it stopped.
    pub exposed_p50: u64,
    pub exposed_p90: u64,
    /// Hours that devices had lived with it by then, all together.
    pub device_hours_p50: u64,
    pub stopped_after_p50_s: Option<u64>,
}

/// Plays it through. `within` says whether less than so large a share of the caller's time has gone: a run that is not
/// at its end by then is left out.
pub fn forecast(intent: &Intent<'_>, depth: Depth, within: &dyn Fn(f64) -> bool) -> Forecast {
    let sample = Sample::of(intent);
    // Work is devices × looks × runs; the more devices, the fewer runs say as much.
    let at_most =
        |work: u64| (work / (sample.view.devices.len().max(1) as u64 * 150)).clamp(RUNS_MIN, RUNS_MAX);
    let (runs, cases) = match depth {
        Depth::Nobody => (0, &BUGS[..0]),
        Depth::Healthy => (at_most(400_000), &BUGS[..0]),
        Depth::Full => (at_most(1_000_000), &BUGS[..]),
    };
    let play = |bug: Option<Bug>, share: f64| -> Vec<Course> {
        let world = |run: u64| World::new(intent, &sample, bug, intent.seed ^ (run << 32));
        (0..runs).map_while(|run| world(run).live(LOOKS_MAX, || within(share))).collect()
    };
    // Each case has as much time, and what those before it left.
    let all = u32::try_from(cases.len()).unwrap_or(u32::MAX).saturating_add(1);
    let share = |case: u32| f64::from(case + 1) / f64::from(all);
    let healthy = play(None, share(0));
    let played = cases.iter().zip(1..).map(|(bug, case)| (bug, play(Some(*bug), share(case))));
    let bugs: Vec<BugForecast> = played
        .filter(|(_, courses)| !courses.is_empty())
        .map(|(bug, courses)| of_bug(*bug, &courses))
        .collect();
    let done = healthy.len() as u64;
    let stages: Vec<StageForecast> = intent
        .plan
        .stages
        .iter()
        .enumerate()
        .map(|(at, stage)| StageForecast {
            name: stage.name.clone(),
            passed: Spread::of(healthy.iter().map(|course| course.passed.get(at).copied().flatten())),
        })
        .collect();
    let mut forecast = Forecast {
        seed: intent.seed,
        cohort: sample.cohort,
        simulated: sample.view.devices.len(),
        runs: done,
        finish: Spread::of(healthy.iter().map(|course| course.finished)),
        stages,
        sites: sample.sites.clone(),
        bugs,
        warnings: Vec::new(),
        basis: if runs == 0 { String::new() } else { basis(&sample, done) },
    };
    forecast.warnings = warnings(intent, &forecast, &healthy);
    if done == 0 && runs > 0 {
        let sentence = "the plan is too long, or the fleet too large, to be played through in the time there is: nothing is said of when it ends";
        forecast.warnings.push(sentence.to_owned());
    }
    forecast
}

#[expect(clippy::cast_precision_loss, reason = "shares of a few runs")]
fn of_bug(bug: Bug, courses: &[Course]) -> BugForecast {
    let percent = bug.share * 100.0;
    let sentence = match bug.at {
        BugAt::Install => format!("{percent:.0} % of installs fail"),
        BugAt::Later => format!("{percent:.0} % of devices fail 2 to 8 hours later"),
    };
    let share = |holds: fn(&Course) -> bool| {
        courses.iter().filter(|course| holds(course)).count() as f64 / courses.len().max(1) as f64
    };
    let mut exposed: Vec<u64> = courses.iter().map(|course| course.exposed).collect();
    let mut hours: Vec<u64> = courses.iter().map(|course| course.device_hours).collect();
    exposed.sort_unstable();
    hours.sort_unstable();
    let stopped = courses.iter().map(|course| course.stopped.map(|(_, after)| after));
    BugForecast {
        share: bug.share,
        at: bug.at,
        sentence,
        stopped_share: share(|course| course.stopped.is_some()),
        first_stage_power: share(|course| matches!(course.stopped, Some((0, _)))),
        exposed_p50: rank(&exposed, 0.5),
        exposed_p90: rank(&exposed, 0.9),
        device_hours_p50: rank(&hours, 0.5),
        stopped_after_p50_s: Spread::of(stopped).p50_s,
    }
}

fn warnings(intent: &Intent<'_>, forecast: &Forecast, healthy: &[Course]) -> Vec<String> {
    let mut said = Vec::new();
    let first = intent.plan.stages.first().map_or("", |stage| stage.name.as_str());
    for bug in forecast.bugs.iter().filter(|bug| bug.first_stage_power < 0.5) {
        said.push(format!(
            "its first stage '{first}' is unlikely to see that {}: it stopped it in {:.0} % of runs",
            bug.sentence,
            bug.first_stage_power * 100.0
        ));
    }
    for bug in forecast.bugs.iter().filter(|bug| bug.stopped_share < 0.5) {
        said.push(format!(
            "if {}, everybody is likely to get it: it was stopped in {:.0} % of runs",
            bug.sentence,
            bug.stopped_share * 100.0
        ));
    }
    let held = healthy.iter().filter(|course| course.finished.is_none()).count();
    if held > 0 {
        let why = healthy.iter().find_map(|course| course.why.clone()).unwrap_or_default();
        said.push(format!(
            "a healthy bundle did not get to the end in {held} of {} runs: {why}",
            healthy.len()
        ));
    }
    if intent.plan.timing == Timing::IgnoreWindows {
        said.push("the sites' windows are ignored".to_owned());
    }
    said
}

fn basis(sample: &Sample, runs: u64) -> String {
    let Assumed { online_share, install_min, requests_per_hour, labels_per_hour, .. } = ASSUMED;
    format!(
        "Foreseen from {runs} runs of each case with {} of {} devices, the windows, leases and caps of now, and boxes that \
         are there {:.0} % of the time, install in about {install_min} minutes, answer {requests_per_hour} requests and see \
         {labels_per_hour} labels an hour.",
        sample.view.devices.len(),
        sample.cohort,
        online_share * 100.0
    )
}

impl Spread {
    fn of(times: impl Iterator<Item = Option<u64>>) -> Self {
        let mut times: Vec<u64> = times.map(|time| time.unwrap_or(u64::MAX)).collect();
        times.sort_unstable();
        let at = |share: f64| Some(rank(&times, share)).filter(|time| *time != u64::MAX && !times.is_empty());
        Self { p10_s: at(0.1), p50_s: at(0.5), p90_s: at(0.9) }
    }
}

/// The value below which this share of a sorted list lies.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a short list"
)]
fn rank(sorted: &[u64], share: f64) -> u64 {
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::{DeviceId, Digest};

    use super::super::Size;
    use super::super::plan::tests::plan;
    use super::super::view::DeviceView;
    use super::*;

    fn foresee(devices: u32, sizes: &[Size], edit: impl Fn(&mut Plan), depth: Depth) -> Forecast {
        foresee_within(devices, sizes, edit, depth, &|_| true)
    }

    fn foresee_within(
        devices: u32,
        sizes: &[Size],
        edit: impl Fn(&mut Plan),
        depth: Depth,
        within: &dyn Fn(f64) -> bool,
    ) -> Forecast {
        let mut plan = plan(sizes);
        edit(&mut plan);
        let old = BundleRef { path: "bundles/er/1.json".parse().unwrap(), sha256: Digest::of(b"1") };
        let bundle = BundleRef { path: "bundles/er/2.json".parse().unwrap(), sha256: Digest::of(b"2") };
        let mut view = FleetView::default();
        for n in 0..devices {
            let site = format!("er-{}", n % 3).parse().unwrap();
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            let current = Some(old.clone());
            view.devices.insert(
                DeviceId::mint(id),
                DeviceView { wish: current.clone(), current, ..DeviceView::at(site) },
            );
        }
        let (model, slot) = ("er".parse().unwrap(), "er".parse().unwrap());
        let intent = Intent {
            model: &model,
            slot: &slot,
            bundle: &bundle,
            bundle_bytes: 1_000,
            plan: &plan,
            view: &view,
            now: Timestamp::from_millis(1_800_000_000_000),
            seed: 7,
        };
        forecast(&intent, depth, within)
    }

    const STAGED: [Size; 3] = [Size::Count(5), Size::Percent(50.0), Size::Percent(100.0)];

    #[test]
    fn the_same_seed_foresees_the_same() {
        let once = foresee(12, &[Size::Count(2), Size::Percent(100.0)], |_| {}, Depth::Healthy);
        let again = foresee(12, &[Size::Count(2), Size::Percent(100.0)], |_| {}, Depth::Healthy);
        assert_eq!(once, again);
    }

    #[test]
    fn a_healthy_bundle_ends_after_its_bakes() {
        let told = foresee(
            12,
            &[Size::Count(2), Size::Percent(100.0)],
            |plan| plan.stages[1].quorum_percent = 80.0,
            Depth::Healthy,
        );
        let finish = told.finish.p50_s.unwrap();
        assert!(finish >= 2 * 3600, "two bakes of an hour each take longer than {finish} s: {told:?}");
        assert!(told.stages[0].passed.p50_s.unwrap() < finish);
        let bytes: u64 = told.sites.iter().map(|site| site.bytes).sum();
        assert_eq!((told.sites.len(), bytes), (3, 12_000));
    }

    #[test]
    fn a_large_bug_stops_early_and_small_canaries_are_told_as_blind() {
        let told = foresee(60, &STAGED, |_| {}, Depth::Full);
        let half = told.bugs.iter().find(|bug| bug.share > 0.4).unwrap();
        assert!(half.stopped_share > 0.9 && half.exposed_p50 <= 30, "{half:?}");
        let small = told.bugs.iter().find(|bug| bug.share < 0.1).unwrap();
        assert!(small.first_stage_power < 0.5);
        assert!(
            told.warnings.iter().any(|said| said.contains("5 % of installs fail")),
            "{:?}",
            told.warnings
        );
    }

    #[test]
    fn where_time_is_over_it_says_what_it_knows() {
        let none = foresee_within(60, &STAGED, |_| {}, Depth::Full, &|_| false);
        assert_eq!((none.runs, none.finish, none.bugs.len()), (0, Spread::default(), 0));
        assert!(none.cohort == 60 && none.warnings.iter().any(|said| said.contains("too long")), "{none:?}");
        // The first case has a fifth of the time, and each bug as much again: so there is enough for the first alone.
        let healthy = foresee_within(60, &STAGED, |_| {}, Depth::Full, &|share| share < 0.3);
        assert!(healthy.runs > 0 && healthy.finish.p50_s.is_some() && healthy.bugs.is_empty(), "{healthy:?}");
        let nobody = foresee(60, &STAGED, |_| {}, Depth::Nobody);
        assert_eq!((nobody.runs, nobody.cohort), (0, 60));
        assert!(!nobody.warnings.iter().any(|said| said.contains("too long")), "{:?}", nobody.warnings);
    }

    #[test]
    fn a_large_fleet_is_sampled_and_said_so() {
        let told = foresee(
            5_000,
            &[Size::Percent(1.0), Size::Percent(100.0)],
            |plan| plan.in_flight_max = 5_000,
            Depth::Healthy,
        );
        assert!(told.simulated <= DEVICES_MAX && told.cohort == 5_000);
        assert!(told.basis.contains("of 5000 devices"), "{}", told.basis);
        let devices: u64 = told.sites.iter().map(|site| site.devices).sum();
        assert_eq!(devices, 5_000, "bytes are of all, not of the sample");
    }
}

//! Whole fleets live through years of the emergency department, judged as the fleet server judges them: what each box
//! discloses, its site's own baseline, seasons, what all boxes say together, incidents. `make drift-campaign`.
//!
//! ```text
//!   quiet      hospitals of three sites, a year each, from five days of the calendar on: the winter comes and goes
//!   epidemic   the same hospitals, in another month each: while the sites are still learnt, and after it
//!   fault      one box of four at a site has a sensor that is wrong
//!   site       one site of twenty has other patients
//! ```
//! Every goal is printed last as `goal NAME: VALUE UNIT, wanted <= LIMIT: met|missed`; a missed one ends with 1.

#![expect(clippy::disallowed_methods, reason = "a stopwatch asks the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on stops and says where; its numbers are small"
)]

#[path = "years/hospital.rs"]
mod hospital;
#[path = "../../protocol/benches/campaign/learn.rs"]
mod learn;
#[path = "../../protocol/benches/campaign/parallel.rs"]
mod parallel;
#[path = "../../protocol/benches/campaign/store.rs"]
#[expect(dead_code, reason = "the campaign of single devices writes runs of its own")]
mod store;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use hospital::{Hospital, Opened};
use muster_fleet::drift::Kind;
use parallel::{index, parallel};
use store::{Run, Window};

/// Runs: of one site each, or of one box.
const RUNS: usize = 40;
/// Sites of a hospital group, as in the demo.
const GROUP: usize = 3;
const YEAR: usize = 365;
/// Days after New Year on which a fleet begins: its reference is the year before.
const BEGIN: [usize; 5] = [0, 31, 120, 210, 300];
/// Quiet days before an epidemic: the sites are being learnt, or have been.
const BEFORE: [usize; 2] = [12, 60];
/// Days of it that the runs have.
const EPIDEMIC: usize = 40;
/// What happens to one box or one site, on which day, and for how long it is watched.
const CHANGED_DAY: usize = 60;
const CHANGED_FOR: usize = 60;
/// Boxes of a site, of which one has a fault.
const BOXES: usize = 4;
/// Boxes of each of twenty sites, of which one has other patients.
const PAIR: usize = 2;
const CHANGED_SITE: usize = 7;
/// Days of an epidemic's data until retraining is asked for, at half of the hospitals and at the slowest: more than half of
/// the sites have to agree. Its ramp is a fortnight long.
const MEDIAN_MAX: f64 = 11.0;
const RAMP_DAYS: f64 = 14.0;

fn main() -> ExitCode {
    let start = Instant::now();
    let folder = store::root().join("target/drift-years");
    if folder.exists() && !std::env::args().any(|argument| argument == "kept") {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    if !folder.exists() {
        store::write_emergency_department(&folder, &["fleet", &RUNS.to_string()]);
    }
    let read = |begin: &str| -> Vec<Run> {
        let found = store::runs(&folder, begin);
        parallel(found.len() as u64, |at| Run::read(&found[index(at)]))
    };
    let (quiet, sick) = (read("quiet-"), read("epidemic-"));
    println!("{RUNS} runs are written and read: {:.0} s", start.elapsed().as_secs_f64());

    let quiet_years = quiet_years(&quiet);
    let epidemics = epidemics(&sick);
    let fault = fault(&quiet);
    let site = one_site(&quiet);
    println!("all: {:.0} s\n", start.elapsed().as_secs_f64());
    if goals(&quiet_years, &epidemics, &fault, &site) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One group of sites from a day on: its name, and the incidents it opened.
struct Lived {
    name: String,
    opened: Vec<Opened>,
}

impl Lived {
    fn asked(&self) -> impl Iterator<Item = &Opened> {
        self.opened.iter().filter(|opened| opened.incident.kind.may_ask())
    }

    fn of(&self, kind: Kind) -> Vec<&Opened> {
        self.opened.iter().filter(|opened| opened.incident.kind == kind).collect()
    }

    fn print(&self) {
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        for opened in &self.opened {
            *kinds.entry(opened.incident.kind).or_default() += 1;
        }
        let kinds: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        println!(
            "  {:<28} {}",
            self.name,
            if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") }
        );
        for opened in self.asked() {
            println!("    day {}: {}", opened.day, opened.incident.sentence());
        }
    }
}

fn groups(runs: &[Run]) -> Vec<Vec<&Run>> {
    runs.chunks_exact(GROUP).map(|group| group.iter().collect()).collect()
}

fn quiet_years(runs: &[Run]) -> Vec<Lived> {
    println!("a quiet year of {GROUP} sites: incidents that it opened");
    let groups = groups(runs);
    let lived = parallel((groups.len() * BEGIN.len()) as u64, |at| {
        let (group, begin) = (index(at) / BEGIN.len(), BEGIN[index(at) % BEGIN.len()]);
        let mut hospital = Hospital::learn(&groups[group], begin, 1);
        hospital.live_as_it_comes(YEAR);
        Lived { name: format!("hospital {group} from day {begin}"), opened: hospital.opened }
    });
    lived.iter().for_each(Lived::print);
    lived
}

fn epidemics(runs: &[Run]) -> Vec<(Lived, usize)> {
    println!(
        "\nan epidemic at {GROUP} sites: incidents, and the day of the epidemic on which the world was found changed"
    );
    let groups = groups(runs);
    let lived = parallel((groups.len() * BEFORE.len()) as u64, |at| {
        let (group, before) = (index(at) / BEFORE.len(), BEFORE[index(at) % BEFORE.len()]);
        let mut hospital = Hospital::learn(&groups[group], BEFORE[1] - before, 1);
        hospital.live_as_it_comes(before + EPIDEMIC);
        (Lived { name: format!("hospital {group}, {before} quiet days"), opened: hospital.opened }, before)
    });
    for (lived, _) in &lived {
        lived.print();
    }
    lived
}

/// Each site has so many boxes, every box patients of its own. On some of them one column rises from a day on.
fn changed(runs: &[Run], each: usize, column: &str, by: f32, is_changed: fn(usize) -> bool) -> Lived {
    let runs: Vec<&Run> = runs.iter().collect();
    let column = runs[0].names.iter().position(|name| name == column).unwrap();
    let mut hospital = Hospital::learn(&runs, BEGIN[2], each);
    for day in 0..CHANGED_DAY + CHANGED_FOR {
        hospital.live(&|place, mut window: Window| {
            if is_changed(place) && day >= CHANGED_DAY {
                for value in &mut window[column] {
                    *value += by;
                }
            }
            window
        });
    }
    let lived = Lived { name: format!("{} sites", RUNS / each), opened: hospital.opened };
    lived.print();
    lived
}

fn fault(runs: &[Run]) -> Lived {
    println!("\none box of {BOXES} reads a degree more from day {CHANGED_DAY} on");
    changed(runs, BOXES, "temp_c", 1.0, |place| place == BOXES + 1)
}

fn one_site(runs: &[Run]) -> Lived {
    println!("\npatients of one site of {} are ten years older from day {CHANGED_DAY} on", RUNS / PAIR);
    changed(runs, PAIR, "age", 10.0, |place| place / PAIR == CHANGED_SITE)
}

/// The day of the epidemic on which retraining was first asked for.
fn day_asked(lived: &Lived, before: usize) -> f64 {
    let first = lived.asked().find(|opened| opened.day >= before);
    first.map_or(f64::INFINITY, |opened| (opened.day - before + 1) as f64)
}

fn goals(quiet: &[Lived], epidemics: &[(Lived, usize)], fault: &Lived, site: &Lived) -> bool {
    let mut all = true;
    let mut goal = |name: &str, value: f64, unit: &str, wanted: &str, limit: f64| {
        let met = if wanted == "<=" { value <= limit } else { (value - limit).abs() < 0.5 };
        all &= met;
        println!(
            "goal {name}: {value:.2} {unit}, wanted {wanted} {limit:.2}: {}",
            if met { "met" } else { "missed" }
        );
    };
    let asked = |lived: &Lived| lived.asked().count() as f64;
    let years: f64 = quiet.iter().map(asked).sum();
    goal("asked_in_quiet_years", years, &format!("times in {} years of hospitals", quiet.len()), "<=", 0.0);
    let early =
        epidemics.iter().flat_map(|(lived, before)| lived.asked().filter(move |opened| opened.day < *before));
    goal(
        "asked_before_an_epidemic",
        early.count() as f64,
        &format!("times in {}", epidemics.len()),
        "<=",
        0.0,
    );
    let mut asked_on: Vec<f64> = epidemics.iter().map(|(lived, before)| day_asked(lived, *before)).collect();
    asked_on.sort_by(f64::total_cmp);
    let unit = format!("days of data, of {} hospitals", asked_on.len());
    let of = |at: usize| asked_on.get(at).copied().unwrap_or(f64::INFINITY);
    goal("epidemic_asked_median", of(asked_on.len() / 2), &unit, "<=", MEDIAN_MAX);
    goal("epidemic_asked_slowest", of(asked_on.len().saturating_sub(1)), &unit, "<=", RAMP_DAYS);
    goal("fault_asked", asked(fault), "times", "<=", 0.0);
    goal("fault_incidents", fault.of(Kind::DeviceFault).len() as f64, "of that box", "=", 1.0);
    goal("site_asked", asked(site), "times", "<=", 0.0);
    let named = site.of(Kind::SiteChange);
    let right = named
        .iter()
        .all(|opened| opened.incident.sites.iter().eq([&hospital::site(CHANGED_SITE * PAIR, PAIR)]));
    goal(
        "site_named",
        if right { named.len() as f64 } else { f64::NAN },
        "incident of that site alone",
        "=",
        1.0,
    );
    all
}

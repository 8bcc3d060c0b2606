//! Does drift cry wolf, and does it see what it should? Our rule on seeded streams, Evidently and `NannyML` as they come from `PyPI`
//! beside it on the same files. `make drift-campaign`; with the argument `ours` without the peers, with `kept` beside what the
//! peers answered last time; with a number, our own streams from that seed on, which nobody has looked at yet.
//!
//! Every goal is printed last as `goal NAME: VALUE UNIT, wanted <= LIMIT: met|missed`; a missed one ends with 1.

#![expect(clippy::disallowed_methods, reason = "a stopwatch asks the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on stops and says where; its numbers are small"
)]

#[path = "campaign/device.rs"]
mod device;
#[path = "campaign/learn.rs"]
mod learn;
#[path = "drift/noise.rs"]
mod noise;
#[path = "campaign/parallel.rs"]
mod parallel;
#[path = "campaign/peers.rs"]
mod peers;
#[path = "campaign/score.rs"]
mod score;
#[path = "campaign/store.rs"]
mod store;
#[path = "campaign/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use device::Device;
use parallel::{index, parallel};
use peers::Answers;
use score::{Alarms, Seen};
use store::Run;
use world::{Change, Family, World};

/// Devices of each family that the peers watch too.
const PEER_DEVICES: u64 = 6;
/// Runs of each change, ours and the peers'.
const CHANGES: u64 = 100;
const PEER_CHANGES: u64 = 10;
/// A report of Evidently's takes seconds: it sees one device of each family.
const EVIDENTLY_DEVICES: usize = 1;
const EVIDENTLY_WINDOWS: usize = 15;
const EVIDENTLY_CHANGES: usize = 2;
/// Years of the emergency department, quiet and with an epidemic each; the peers see the first ones.
const ER_SEEDS: u64 = 8;
const PEER_ER: usize = 4;
/// Days between the end of the reference and the epidemic's first day.
const ER_QUIET_DAYS: usize = 70;
/// Where changes are made: rows of the family with the longest independent reference.
const CHANGED: Family = Family::Independent { reference: 40 };

fn main() -> ExitCode {
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    let (alone, kept) = (asked("ours"), asked("kept"));
    let start = Instant::now();
    let folder = store::root().join("target/drift-campaign");
    if !kept {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        store::write_emergency_department(&folder, &[&ER_SEEDS.to_string()]);
    }

    let from = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(0);
    let ours = Ours::measure(&folder, from);
    println!("ours: {:.0} s\n", start.elapsed().as_secs_f64());
    let answers = match (alone, kept) {
        (true, _) => Answers::new(),
        (false, true) => peers::kept(&folder),
        (false, false) => ask_peers(&folder),
    };
    let onsets = table_of_onsets(&ours, &folder, &answers);
    table_of_changes(&ours, &answers);
    println!("all: {:.0} s\n", start.elapsed().as_secs_f64());
    if goals(&ours, &onsets, alone) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What our rule did.
struct Ours {
    quiet: Vec<(Family, Alarms)>,
    er: Alarms,
    /// Days from the epidemic's first to the first alarm, a seed; none: never.
    epidemic: Vec<Option<usize>>,
    /// The same until a model of tomorrow's admissions had been wrong twice as much as usual for a week.
    harmed: Vec<Option<usize>>,
    changes: BTreeMap<&'static str, Seen>,
}

impl Ours {
    fn measure(folder: &Path, from: u64) -> Self {
        let quiet = Family::ALL.map(|family| {
            let alarms = parallel(family.devices(), |seed| {
                let mut world = World::new(family, from + seed);
                let (reference, watched) = family.windows();
                let mut device = Device::learn(&world.categorical(), &world.windows(reference));
                let alarmed: Vec<bool> = (0..watched).map(|_| device.observe(&world.window(None))).collect();
                Alarms::of(&alarmed)
            });
            (family, sum(alarms))
        });
        let er = store::runs(folder, "er-quiet");
        let er = parallel(er.len() as u64, |at| Alarms::of(&watch(&Run::read(&er[index(at)]))));
        let epidemic = store::runs(folder, "er-epidemic");
        let lived = parallel(epidemic.len() as u64, |at| {
            let run = Run::read(&epidemic[index(at)]);
            (first_day(&watch(&run)), run.error_doubled)
        });
        let (epidemic, harmed) = lived.into_iter().unzip();
        let changes = Change::ALL.map(|change| {
            let mut seen = Seen::default();
            for alarmed in parallel(CHANGES, |seed| watch(&changed(change, from + seed))) {
                seen.add(&alarmed);
            }
            (change.name(), seen)
        });
        Self { quiet: quiet.into(), er: sum(er), epidemic, harmed, changes: changes.into_iter().collect() }
    }
}

/// Our rule over a stored run: whether the device was in alarm after each watched window.
fn watch(run: &Run) -> Vec<bool> {
    let (reference, watched) = run.windows.split_at(run.reference);
    let mut device = Device::learn(&run.categorical, reference);
    watched.iter().map(|window| device.observe(window)).collect()
}

fn first_day(alarmed: &[bool]) -> Option<usize> {
    alarmed.iter().skip(ER_QUIET_DAYS).position(|&alarmed| alarmed).map(|day| day + 1)
}

/// A quiet reference, then two windows in which one column of twenty has changed.
fn changed(change: Change, seed: u64) -> Run {
    let mut world = World::new(CHANGED, 50_000 + seed);
    let (reference, _) = CHANGED.windows();
    let mut windows = world.windows(reference);
    windows.extend((0..2).map(|_| world.window(Some(change))));
    run(format!("change-{}-{seed:03}", change.name().replace([' ', '%'], "")), &world, reference, windows)
}

fn quiet(family: Family, seed: u64) -> Run {
    let mut world = World::new(family, seed);
    let (reference, watched) = family.windows();
    let windows = world.windows(reference + watched);
    run(format!("quiet-{}-{seed:03}", family.name()), &world, reference, windows)
}

fn run(name: String, world: &World, reference: usize, windows: Vec<store::Window>) -> Run {
    let rows = windows.iter().map(|window| window[0].len()).collect();
    let (names, categorical) = (Vec::new(), world.categorical());
    Run { name, names, categorical, reference, rows, error_doubled: None, windows }
}

fn ask_peers(folder: &Path) -> Answers {
    for family in Family::ALL {
        parallel(PEER_DEVICES, |seed| quiet(family, seed).write(folder));
    }
    for change in Change::ALL {
        parallel(PEER_CHANGES, |seed| changed(change, seed).write(folder));
    }
    let all = |begin: &str| store::runs(folder, begin);
    let some = |begin: &str, count: usize| all(begin).into_iter().take(count).collect::<Vec<_>>();
    let mut nannyml: Vec<PathBuf> = ["quiet", "change"].iter().flat_map(|begin| all(begin)).collect();
    nannyml.extend(["er-quiet", "er-epidemic"].iter().flat_map(|begin| some(begin, PEER_ER)));
    let mut evidently: Vec<PathBuf> = Family::ALL
        .iter()
        .flat_map(|family| some(&format!("quiet-{}-", family.name()), EVIDENTLY_DEVICES))
        .chain(some("er-quiet", EVIDENTLY_DEVICES))
        .collect();
    for change in Change::ALL {
        evidently.extend(some(changed(change, 0).name.trim_end_matches("000"), EVIDENTLY_CHANGES));
    }
    let mut answers = Answers::new();
    let working = [
        peers::start(peers::SCRIPTS[0], folder, &nannyml, usize::MAX),
        peers::start(peers::SCRIPTS[1], folder, &evidently, EVIDENTLY_WINDOWS),
    ];
    for peer in working {
        peer.finish(&mut answers);
    }
    answers
}

/// Prints false alarms of every rule; returns the onsets a thousand on the peers' streams, ours and `NannyML`'s with
/// 2 of 3.
fn table_of_onsets(ours: &Ours, folder: &Path, answers: &Answers) -> BTreeMap<String, (f64, f64)> {
    println!(
        "without drift, in 1,000 device-windows: onsets (95 % upper bound), windows in alarm, windows watched"
    );
    let mut compared = BTreeMap::new();
    let families = Family::ALL.iter().map(|family| (family.name(), family.says()));
    let er = ("er".to_owned(), "emergency department, a year after two, 24 h, n 123, 16 columns");
    for (name, says) in families.chain([er]) {
        println!("  {says}");
        let own = ours.quiet.iter().find(|(family, _)| family.name() == name);
        line("ours", own.map_or(ours.er, |(_, alarms)| *alarms));
        if answers.is_empty() {
            continue;
        }
        let begin = if name == "er" { "er-quiet-".to_owned() } else { format!("quiet-{name}-") };
        let same: Vec<PathBuf> = store::runs(folder, &begin)
            .into_iter()
            .filter(|path| {
                let run = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                answers.contains_key(&(run, "nannyml".to_owned()))
            })
            .collect();
        let same = sum(parallel(same.len() as u64, |at| Alarms::of(&watch(&Run::read(&same[index(at)])))));
        if same.windows > 0 {
            line("ours, NannyML's streams", same);
        }
        for rule in ["nannyml-2of3", "nannyml", "evidently", "evidently-any-column"] {
            let of_rule = answers.iter().filter(|((run, of), _)| of == rule && run.starts_with(&begin));
            let alarms = sum(of_rule.map(|(_, alarmed)| Alarms::of(alarmed)));
            if alarms.windows == 0 {
                continue;
            }
            line(rule, alarms);
            if rule == "nannyml-2of3" {
                compared.insert(name.clone(), (same.rate(), alarms.rate()));
            }
        }
    }
    println!();
    compared
}

fn line(rule: &str, alarms: Alarms) {
    println!(
        "    {rule:<24} {:>7.2} ({:.2}) {:>8.1} {:>8}",
        alarms.rate(),
        alarms.upper(),
        alarms.alarmed_rate(),
        alarms.windows
    );
}

fn table_of_changes(ours: &Ours, answers: &Answers) {
    println!(
        "one column of twenty changes, n 500: share of runs that see it in the first window, within two"
    );
    for change in Change::ALL {
        println!("  {}", change.name());
        let own = ours.changes.get(change.name()).copied().unwrap_or_default();
        let begin = changed(change, 0).name.trim_end_matches("000").to_owned();
        let peers = ["nannyml-2of3", "nannyml", "evidently", "evidently-any-column"].map(|rule| {
            let mut seen = Seen::default();
            let of_rule = answers.iter().filter(|((run, of), _)| of == rule && run.starts_with(&begin));
            of_rule.for_each(|(_, alarmed)| seen.add(alarmed));
            (rule, seen)
        });
        for (rule, seen) in [("ours", own)].into_iter().chain(peers).filter(|(_, seen)| seen.runs > 0) {
            let first = seen.first as f64 / seen.runs as f64;
            println!("    {rule:<24} {first:>6.2} {:>6.2}   of {}", seen.share(), seen.runs);
        }
    }
    let days: Vec<String> =
        ours.epidemic.iter().map(|day| day.map_or("never".to_owned(), |day| day.to_string())).collect();
    println!("  emergency department, 14-day ramp of an epidemic: noticed on day {}", days.join(", "));
    let harm = |day: &Option<usize>| day.map_or("never".to_owned(), |day| day.to_string());
    println!(
        "    a bed model's error had doubled for a week on day {}",
        ours.harmed.iter().map(harm).collect::<Vec<_>>().join(", ")
    );
    for rule in ["nannyml-2of3", "nannyml"] {
        let of_rule = answers.iter().filter(|((run, of), _)| of == rule && run.starts_with("er-epidemic"));
        let days: Vec<String> = of_rule
            .map(|(_, alarmed)| first_day(alarmed).map_or("never".to_owned(), |day| day.to_string()))
            .collect();
        if !days.is_empty() {
            println!("    {rule:<24} day {}", days.join(", "));
        }
    }
    println!();
}

fn goals(ours: &Ours, compared: &BTreeMap<String, (f64, f64)>, alone: bool) -> bool {
    let mut all = true;
    let mut goal = |name: &str, value: f64, unit: &str, wanted: &str, limit: f64| {
        let met = if wanted == "<=" { value <= limit } else { value >= limit };
        all &= met;
        println!(
            "goal {name}: {value:.2} {unit}, wanted {wanted} {limit:.2}: {}",
            if met { "met" } else { "missed" }
        );
    };
    let unit = "false onsets in 1,000 device-windows";
    for (family, alarms) in &ours.quiet {
        let limit = match family {
            Family::Independent { .. } | Family::Cycles => 1.0,
            Family::Memory | Family::Factory => 2.0,
        };
        goal(&format!("onsets_{}", family.name()), alarms.rate(), unit, "<=", limit);
    }
    goal("onsets_er", ours.er.rate(), unit, "<=", 1.0);
    for (name, (own, theirs)) in compared {
        goal(&format!("onsets_{name}_beside_nannyml_2of3"), *own, unit, "<=", *theirs);
    }
    for (name, seen) in &ours.changes {
        let name = name.replace([' ', '%', '+', '.'], "_");
        goal(&format!("seen_{name}"), seen.share(), "of the runs within two windows", ">=", 0.95);
    }
    let slowest =
        ours.epidemic.iter().map(|day| day.map_or(f64::INFINITY, |day| day as f64)).fold(0.0, f64::max);
    goal("epidemic", slowest, "days, the slowest seed", "<=", 11.0);
    let in_time = ours.epidemic.iter().zip(&ours.harmed).filter(|(noticed, harmed)| {
        noticed.is_some_and(|noticed| harmed.is_none_or(|harmed| noticed <= harmed))
    });
    let share = in_time.count() as f64 / ours.epidemic.len().max(1) as f64;
    goal("epidemic_no_later_than_the_harm", share, "of the seeds", ">=", 1.0);

    if alone {
        println!("the peers were left out: nothing is said about them");
    }
    all
}

fn sum(alarms: impl IntoIterator<Item = Alarms>) -> Alarms {
    alarms.into_iter().fold(Alarms::default(), Alarms::plus)
}

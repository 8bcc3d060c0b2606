//! Many seeds on all cores, and what came of them.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::coverage::Coverage;
use crate::invariants::{self, Broken};
use crate::rng::Rng;
use crate::setting;

const REGRESSIONS: &str = include_str!("regressions.txt");
/// What a campaign of this size must have seen.
const RUNS_THAT_SEE_ALL: u64 = 10_000;
/// Of so many seeds one is lived a second time, with a transport that repeats itself.
const TWIN_EVERY: u64 = 16;
const LAST_EVENTS: usize = 40;

/// Lives through one seed.
fn one(seed: u64) -> Result<Coverage, Broken> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = setting::build(seed);
        setting::live(&mut world)?;
        if seed % TWIN_EVERY == TWIN_EVERY / 2 {
            let mut twin = setting::build(seed);
            twin.repeats = Some(Rng::new(!seed));
            setting::live(&mut twin)?;
            invariants::late_repeats_change_nothing(&world.fleet, &twin.fleet)?;
        }
        Ok(std::mem::take(&mut world.coverage))
    }));
    lived.unwrap_or_else(|_| {
        Err(Broken { invariant: "no_panic", sentence: "it panicked, see above".to_owned() })
    })
}

/// Lives through it once more and writes down what happened.
fn retell(seed: u64, broken: &Broken) -> String {
    let story = catch_unwind(AssertUnwindSafe(|| {
        let mut world = setting::build(seed);
        world.retell = Some(Vec::new());
        drop(setting::live(&mut world));
        let story = world.retell.unwrap_or_default();
        let first = story.len().saturating_sub(LAST_EVENTS);
        let lines = story[first..].iter().map(|(at, line)| format!("    {at}  {line}\n"));
        lines.collect::<String>()
    }));
    let story = story.unwrap_or_default();
    let Broken { invariant, sentence } = broken;
    format!("seed {seed} breaks {invariant}: {sentence}\n{story}    again: make sim SEED={seed} RUNS=1\n")
}

pub(crate) fn seeds(seeds: Range<u64>) {
    for seed in seeds {
        if let Err(broken) = one(seed) {
            panic!("{}", retell(seed, &broken));
        }
    }
}

/// Every line is a seed, and why it is there.
pub(crate) fn regressions() {
    for line in REGRESSIONS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let seed = line.split_whitespace().next().unwrap().parse().unwrap();
        seeds(seed..seed + 1);
    }
}

fn number(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how much to run is said by whoever runs it")]
    let text = std::env::var(name).unwrap_or_default();
    text.parse().unwrap_or(default)
}

pub(crate) fn run() {
    let (first, runs) = (number("SEED", 1), number("RUNS", 10_000));
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let results: Mutex<(Coverage, Vec<(u64, Broken)>)> = Mutex::default();
    let failures_max = number("FAILURES", 5) as usize;
    #[expect(clippy::disallowed_methods, reason = "how long the campaign takes is no input of a run")]
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut coverage = Coverage::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        break;
                    }
                    match one(seed) {
                        Ok(seen) => coverage.add(seen),
                        Err(broken) => {
                            let mut results = results.lock().unwrap();
                            results.1.push((seed, broken));
                            stop.store(results.1.len() >= failures_max, Ordering::Relaxed);
                        }
                    }
                    let done = seed - first + 1;
                    if done % (runs / 10).max(1) == 0 {
                        println!("{done} of {runs} runs, {} a second", rate(done, began.elapsed()));
                    }
                }
                results.lock().unwrap().0.add(coverage);
            });
        }
    });
    let (coverage, mut failures) = results.into_inner().unwrap();
    let took = began.elapsed();
    let done = (next.load(Ordering::Relaxed) - first).min(runs);
    println!("\n{}", coverage.table());
    println!("{done} runs in {:.1} s, {} a second on {threads} cores", took.as_secs_f64(), rate(done, took));
    failures.sort_by_key(|(seed, _)| *seed);
    for (seed, broken) in &failures {
        println!("{}", retell(*seed, broken));
    }
    let missing = coverage.missing();
    if !missing.is_empty() {
        println!("never seen: {}", missing.join(", "));
    }
    assert!(failures.is_empty(), "{} seeds break an invariant", failures.len());
    assert!(runs < RUNS_THAT_SEE_ALL || missing.is_empty(), "{} things were never seen", missing.len());
}

fn rate(runs: u64, took: Duration) -> u64 {
    (runs as f64 / took.as_secs_f64().max(0.001)) as u64
}

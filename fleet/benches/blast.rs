//! `make bench-gates`: the blast radius of four bad bundles under four policies, false halts of healthy ones, and the
//! power of the default gate. SEEDS=n changes the number of rollouts of each.

#![expect(
    clippy::print_stdout,
    reason = "a bench prints its table and says by its code whether it met its goals"
)]

#[path = "../tests/blast/model.rs"]
mod model;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use model::{BUGS, Bundle, HEALTHY, Outcome, groups, ours, percentile, rate, waves};
use muster_fleet::gate::{GateLimits, Harm, power};

const DEVICES: usize = 2000;
/// A bundle that harms one box in ten must never reach the last stage in nine rollouts of ten.
const LIMIT_P90: f64 = 561.0;

type Policy = fn(usize, Bundle, u64) -> Outcome;

fn main() {
    // Cargo adds a flag of its own.
    let seeds = std::env::args().find_map(|word| word.parse::<u32>().ok()).unwrap_or(200).max(1);
    let mut met = true;
    println!(
        "devices exposed when hand-out stopped: median (90th percentile) of {seeds} rollouts, {DEVICES} devices\n"
    );
    println!(
        "{:<24} {:>14} {:>14} {:>14} {:>14}",
        "bug", "by clock", "growing rate", "groups 50/50", "muster"
    );
    let limits = [50.0, 500.0, 60.0, 550.0];
    for (bug, limit) in BUGS.into_iter().zip(limits) {
        let cell = |policy: Policy| {
            let exposed: Vec<usize> =
                runs(policy, bug, seeds).into_iter().map(|outcome| outcome.exposed).collect();
            (percentile(exposed.clone(), 50), percentile(exposed, 90))
        };
        let cells = [cell(waves), cell(rate), cell(groups), cell(ours)];
        let said = cells.map(|(median, most)| format!("{median} ({most})"));
        println!("{:<24} {:>14} {:>14} {:>14} {:>14}", bug.name, said[0], said[1], said[2], said[3]);
        let name = bug.name.replace(' ', "_").replace('%', "percent");
        met &= goal(&format!("exposed_when_{name}"), as_f64(cells[3].0), "devices", limit);
        met &= goal(&format!("exposed_when_{name}_p90"), as_f64(cells[3].1), "devices", LIMIT_P90);
    }
    for bundle in HEALTHY {
        let halted: Vec<String> =
            runs(ours, bundle, seeds).into_iter().filter_map(|outcome| outcome.stopped).collect();
        let percent = as_f64(halted.len()) * 100.0 / f64::from(seeds);
        println!("{}: {} of {seeds} halted {halted:?}", bundle.name, halted.len());
        let name = if bundle.fails_install > 0.0 { "install" } else { "late" };
        met &= goal(&format!("false_halts_{name}"), percent, "percent", 2.0);
    }
    tell_power();
    if !met {
        std::process::exit(1);
    }
}

/// Rollouts with the seeds 0 to `seeds`, on two threads.
fn runs(policy: Policy, bundle: Bundle, seeds: u32) -> Vec<Outcome> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= u64::from(seeds) {
                return outcomes;
            }
            outcomes.push(policy(DEVICES, bundle, seed));
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut outcomes = work();
        outcomes.extend(other.join().unwrap_or_default());
        outcomes
    })
}

fn as_f64(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn goal(name: &str, value: f64, unit: &str, limit: f64) -> bool {
    let met = value <= limit;
    println!("goal {name}: {value} {unit}, wanted <= {limit}: {}", if met { "met" } else { "missed" });
    met
}

/// The chance that the default gate stops a bundle, by devices that live with it for six hours.
fn tell_power() {
    let limits = GateLimits::default();
    println!("\nchance that the default gate stops it within 6 h\n");
    println!("{:<34} {:>6} {:>6} {:>6} {:>6}", "harm", 5, 10, 50, 500);
    let harms = [
        ("2 % of installs fail (healthy)", Harm::InstallFailures(0.02)),
        ("5 % of installs fail", Harm::InstallFailures(0.05)),
        ("10 % of installs fail", Harm::InstallFailures(0.10)),
        ("20 % of installs fail", Harm::InstallFailures(0.20)),
        ("50 % of installs fail", Harm::InstallFailures(0.50)),
        ("2 % leave it (healthy)", Harm::Reverts(0.02)),
        ("10 % leave it", Harm::Reverts(0.10)),
        ("20 % leave it", Harm::Reverts(0.20)),
        ("0.005 failures per hour (healthy)", Harm::FailuresPerHour(0.005)),
        ("0.02 failures per hour", Harm::FailuresPerHour(0.02)),
        ("0.05 failures per hour", Harm::FailuresPerHour(0.05)),
        ("20 % worse on 500 patients each", Harm::Worse { rise: 0.2, spread: 1.0, labels: 500 }),
        ("30 % worse on 500 patients each", Harm::Worse { rise: 0.3, spread: 1.0, labels: 500 }),
    ];
    for (name, harm) in harms {
        let cell = |devices| format!("{:.1} %", power(&limits, devices, 6.0, harm) * 100.0);
        println!("{name:<34} {:>6} {:>6} {:>6} {:>6}", cell(5), cell(10), cell(50), cell(500));
    }
}

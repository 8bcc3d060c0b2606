//! Whether anybody notices that a model is replaced: `make soak`.
//!
//! A camera asks at half the rate that the box can do, at fixed times, whether or not the last answer is there: what waits
//! behind a stall is counted as late. Meanwhile the bundle is replaced again and again: compiled beside the one that answers,
//! activated, the one before kept. Goals: no request fails; the 99th percentile is at most 1.5 times that of the quiet time
//! just after (the median of the turns); memory does not grow with the number of swaps.
//!
//! `SWAPS` (100) says how many; with `HOURS` it goes on for so long. As many come before, under the same load, and are not
//! counted but for requests that fail: what allocators and the runtime keep for later is taken in them.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]
#![expect(clippy::disallowed_methods, reason = "a bench has no configuration file")]
#![expect(clippy::cast_precision_loss, reason = "counts of a bench are exact in a double")]

#[path = "inference/camera.rs"]
mod camera;
#[path = "inference/goals.rs"]
mod goals;
#[path = "inference/house.rs"]
mod house;
#[path = "inference/pulse.rs"]
mod pulse;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use camera::{Camera, Turn};
use goals::Goals;
use house::{House, workspace};
use pulse::{Pulse, median};
use tokio::time::Instant;

/// Swaps of one turn. A quiet time of the same length follows: what else the machine does, now and then, falls on both alike;
/// a shorter quiet time would miss most of it, and look better than it was.
const TURN: u32 = 10;
/// Swaps after which a process has all that it keeps, or nearly.
const SETTLING: u32 = 1_000;
/// Equal parts of a run.
const PARTS: usize = 10;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let hours: Option<f64> = std::env::var("HOURS").ok().and_then(|hours| hours.parse().ok());
    let swaps: u32 = std::env::var("SWAPS").ok().and_then(|swaps| swaps.parse().ok()).unwrap_or(100);
    let settling = hours.map_or(swaps.min(SETTLING), |_| SETTLING);
    let house = House::open().await;
    let file = workspace().join(".muster/bench-models/cnn_int8.onnx");
    let mut version = 0;
    house.swap_in(&file, version).await;
    let camera = Arc::new(Camera::new(&house));
    let capacity = camera.capacity().await;
    let pace = Duration::from_secs_f64(2.0 / capacity);
    println!("{capacity:.0} requests a second can be answered; the camera asks {:.0}", capacity / 2.0);

    let mut pulse = Pulse::start();
    let mut failures = Vec::new();
    println!("{settling} swaps that are not counted");
    while version < settling {
        let asks = camera.clone().asks(pace);
        for _ in 0..TURN {
            version += 1;
            house.swap_in(&file, version).await;
        }
        failures.extend(asks.end(&mut pulse, 99).await.failures);
    }
    let (mut ratios, mut ratios_of_all, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let until = hours.map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0));
    let last = version + swaps;
    println!("{:>8} {:>33} {:>33}", "", "p99 in even moments, ms", "slow moments, p99 of all, ms");
    println!(
        "{:>8} {:>16} {:>16} {:>18} {:>18} {:>10}",
        "swaps", "quiet", "swapping", "quiet", "swapping", "memory"
    );
    while until.map_or(version < last, |until| Instant::now() < until) {
        let (began, asks) = (Instant::now(), camera.clone().asks(pace));
        for _ in 0..TURN {
            version += 1;
            house.swap_in(&file, version).await;
            memory.push((f64::from(version), resident_kb()));
        }
        let took = began.elapsed();
        let swapping = asks.end(&mut pulse, 99).await;
        let asks = camera.clone().asks(pace);
        tokio::time::sleep(took).await;
        let quiet = asks.end(&mut pulse, 99).await;
        let mib = memory.last().map_or(0.0, |(_, kb)| kb / 1024.0);
        let all = |turn: &Turn| format!("{:.0} %, {:.2}", 100.0 * turn.slow, turn.all);
        println!(
            "{version:>8} {:>16.2} {:>16.2} {:>18} {:>18} {mib:>6.1} MiB",
            quiet.even,
            swapping.even,
            all(&quiet),
            all(&swapping)
        );
        ratios.push(swapping.even / quiet.even);
        ratios_of_all.push(swapping.all / quiet.all);
        failures.extend(swapping.failures.into_iter().chain(quiet.failures));
    }
    pulse.end();
    let first = failures.first();
    println!("slow moments and all: {:.2} x of quiet; failed: {first:?}", median(ratios_of_all));
    let steps = growth(&memory);
    let at_least = steps.get(1).copied().unwrap_or(f64::NAN);
    println!(
        "memory grows by {:.2} KiB a swap from one tenth of them to the next (the median), by more than {at_least:.2} with 98 %",
        median(steps)
    );
    house.close().await;
    let mut goals = Goals::default();
    goals.add("swap_failed_requests", failures.len() as f64, "requests", ..=0.0);
    goals.add("swap_p99", median(ratios), "x of quiet", ..=1.5);
    goals.add("swap_memory_at_least", at_least, "KiB a swap", ..=1.0);
    goals.tell()
}

fn resident_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How much is added from one of ten equal parts to the next, by their means; the least first.
///
/// Memory moves in steps that stay (requests pile up behind a stall of the machine, and an allocator keeps what they took): they
/// would look like a slope to a mean or to a line, and leave the median alone, which a leak does not. The second of nine is less
/// than their median with 98 %, whatever they are distributed like (Conover, "Practical Nonparametric Statistics", on quantiles).
fn growth(points: &[(f64, f64)]) -> Vec<f64> {
    let parts: Vec<(f64, f64)> = points.chunks_exact((points.len() / PARTS).max(1)).map(mean).collect();
    let mut steps: Vec<f64> =
        parts.windows(2).map(|pair| (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0)).collect();
    steps.sort_by(f64::total_cmp);
    steps
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n)
}

//! The rollout engine on fleets of 1,000, 10,000 and 100,000 boxes: the real store on a real disk, the real engine, orders
//! signed with real keys and held against a real catalogue. `make bench-rollout`.
//!
//! Every goal is printed last as `goal NAME: VALUE UNIT, wanted <= LIMIT: met|missed`; a missed one ends with 1.

#![expect(clippy::disallowed_methods, reason = "a stopwatch asks the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on stops and says where"
)]

#[path = "rollout/boxes.rs"]
mod boxes;
#[path = "rollout/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_fleet::rollout::Phase;
use muster_fleet::store::tags;
use muster_fleet::tasks::rollouts::Driver;
use tokio_util::sync::CancellationToken;

use boxes::{answer, fail, handed};
use world::World;

const FLEETS: [usize; 3] = [1_000, 10_000, 100_000];
/// Boxes that may install at once: what a hand-out in full swing keeps busy.
const IN_FLIGHT: u32 = 200;
const REPEATS: usize = 20;
/// The cost of one box must not grow with the fleet. Caches and deeper trees cost something; beyond this it is the design.
const GROWTH_MAX: f64 = 1.5;

#[derive(Debug)]
struct Measured {
    devices: usize,
    start: Duration,
    step: Duration,
    cohort: Duration,
    stop: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    println!("context: hawkBit: users report more than a minute to start a rollout of 140,000 targets");
    println!("context: AWS IoT Jobs: hands a job to 1,000 devices a minute at most");
    // Other sizes can be named: `cargo bench --bench rollout -- 1000 50000`. The goals are those of the largest.
    let mut fleets: Vec<usize> = std::env::args().filter_map(|size| size.parse().ok()).collect();
    if fleets.is_empty() {
        fleets.extend(FLEETS);
    }
    let mut measured = Vec::new();
    for devices in fleets {
        let one = measure(devices).await;
        println!(
            "{:>7} boxes: start {:>8.1} ms, step {:>6.2} ms, cohorts {:>5.2} ms, stop {:>6.1} ms (medians; stop: slowest of {REPEATS})",
            one.devices,
            ms(one.start),
            ms(one.step),
            ms(one.cohort),
            ms(one.stop)
        );
        measured.push(one);
    }
    scaling(&measured);
    if goals(&measured) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(devices: usize) -> Measured {
    let mut world = World::make(devices, REPEATS + 1).await;
    let mut driver = Driver::new(&world.tasks);
    driver.look(&world.tasks).await.unwrap();

    // Create and start: written, every box enlisted and saved, the first orders signed and committed.
    let began = Instant::now();
    let rollout = world.begin(0, IN_FLIGHT).await;
    driver.look(&world.tasks).await.unwrap();
    let start = began.elapsed();
    assert_eq!(driver.roster().watch(&rollout).unwrap().members.len(), devices);
    let waiting = handed(&world.store).await;
    assert_eq!(waiting.len(), (IN_FLIGHT as usize).min(devices));

    // One box's event: it says that it runs the bundle, so that another is asked.
    driver.look(&world.tasks).await.unwrap();
    let mut steps = Vec::new();
    for device in waiting.iter().take(REPEATS) {
        answer(&world.store, std::slice::from_ref(device)).await;
        let began = Instant::now();
        driver.look(&world.tasks).await.unwrap();
        steps.push(began.elapsed());
        // Its orders are committed too, and read back without being asked about.
        driver.sync().await.unwrap();
    }

    // One attribute: who is in the cohort is asked of that box alone.
    let mut cohorts = Vec::new();
    for (n, device) in world.devices.iter().take(REPEATS).enumerate() {
        let mut tx = world.store.write().await.unwrap();
        let ward = format!("w{n}").parse().unwrap();
        let tagged = [("ward".parse().unwrap(), ward)].into();
        let _saved = tags::save(&mut tx, device, 0, &tagged).await.unwrap();
        tx.commit().await.unwrap();
        let began = Instant::now();
        assert!(driver.sync().await.unwrap());
        cohorts.push(began.elapsed());
        let watch = driver.roster().watch(&rollout).unwrap();
        assert_eq!(watch.view.devices[device].tags.len(), 1);
    }
    println!(
        "         {devices} boxes: started in {:.1} ms, steps {:?}, cohorts {:?}",
        ms(start),
        spread(&steps),
        spread(&cohorts)
    );
    drop(driver);
    world.end(&rollout).await;

    let stop = stops(&mut world).await;
    Measured { devices, start, step: usual(steps), cohort: usual(cohorts), stop }
}

/// From the commit of what decides (boxes that cannot install it) to the commit after which nobody else is handed the
/// bundle, with the tasks of a server running and boxes answering as fast as they are asked.
async fn stops(world: &mut World) -> Duration {
    let quit = CancellationToken::new();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(muster_fleet::tasks::run(world.tasks.clone(), quit.clone()));
    let mut took = Vec::new();
    for n in 1..=REPEATS {
        let rollout = world.begin(n, IN_FLIGHT).await;
        let mut seen = 0;
        // Into full swing: several rounds of hand-outs, each begun by the answers to the one before.
        while seen < (2 * IN_FLIGHT as usize).min(world.devices.len() / 4) {
            let asked = handed(&world.store).await;
            seen += asked.len();
            answer(&world.store, &asked).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut last = Vec::new();
        while last.len() < 20 {
            last.extend(handed(&world.store).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fail(&world.store, &last).await;
        let decided = Instant::now();
        world.until(&rollout, |phase| !matches!(phase, Phase::Running { .. })).await;
        took.push(decided.elapsed());
        world.end(&rollout).await;
    }
    quit.cancel();
    while running.join_next().await.is_some() {}
    slowest(took)
}

/// Fastest, median and slowest, milliseconds.
fn spread(times: &[Duration]) -> [f64; 3] {
    let mut times: Vec<f64> = times.iter().map(|time| (ms(*time) * 100.0).round() / 100.0).collect();
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2], times[times.len() - 1]]
}

/// The median: of something that others on the machine hold up now and then.
fn usual(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Of so few repeats the 99th percentile is the slowest.
fn slowest(times: Vec<Duration>) -> Duration {
    times.into_iter().max().unwrap_or_default()
}

fn scaling(measured: &[Measured]) {
    println!("\n  boxes    start, µs a box    step, µs a box");
    for one in measured {
        println!("{:>7}    {:>15.2}    {:>14.3}", one.devices, each(one, one.start), each(one, one.step));
    }
    println!();
}

fn goals(measured: &[Measured]) -> bool {
    let (Some(small), Some(large)) = (measured.first(), measured.last()) else { return false };
    let growth = each(large, large.start) / each(small, small.start);
    let goals = [
        ("rollout_start", large.start.as_secs_f64(), "s", 5.0),
        ("rollout_step", ms(large.step), "ms", 50.0),
        ("rollout_cohorts", ms(large.cohort), "ms", 5.0),
        ("rollout_stop", large.stop.as_secs_f64(), "s p99", 1.0),
        ("rollout_start_growth", growth, "x a box from the smallest fleet to the largest", GROWTH_MAX),
    ];
    let mut all = true;
    for (name, value, unit, limit) in goals {
        let met = value <= limit;
        all &= met;
        println!("goal {name}: {value:.2} {unit}, wanted <= {limit}: {}", if met { "met" } else { "missed" });
    }
    all
}

#[expect(clippy::cast_precision_loss, reason = "a fleet's size is exact in a double")]
fn each(one: &Measured, time: Duration) -> f64 {
    time.as_secs_f64() * 1e6 / one.devices as f64
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

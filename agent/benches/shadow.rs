//! Whether anybody notices that a second bundle sees the same requests: `make bench-shadow`.
//!
//! A camera asks at half the rate that the box can do. Times without and with a shadow take turns; the shadow may take a
//! quarter of all cores. Goal: the 95th percentile with it is at most 1.1 times that without (the median of the turns). Then
//! the shadow is allowed everything: what keeps it from slowing the live model is that it finds out by itself.

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

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use camera::Camera;
use goals::Goals;
use house::{House, bundle, workspace};
use muster_agent::engine::LoadSpec;
use muster_agent::shadow::{Shadow, Sums};
use muster_protocol::manifest::InferencePrecision;
use pulse::Pulse;

const TURN: Duration = Duration::from_secs(2);
const TURNS: u32 = 8;
const BUDGET: f64 = 0.25;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let house = House::open().await;
    let file = workspace().join(".muster/bench-models/cnn_int8.onnx");
    house.swap_in(&file, 0).await;
    let camera = Arc::new(Camera::new(&house));
    let capacity = camera.capacity().await;
    let pace = Duration::from_secs_f64(2.0 / capacity);
    println!("{capacity:.0} requests a second can be answered; the camera asks {:.0}", capacity / 2.0);
    let slot = house::NAME.parse().unwrap();
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let (mut ratio, mut failed) = (None, 0);
    let mut pulse = Pulse::start();
    for (name, budget) in [("a quarter of all cores", BUDGET * cores), ("everything", cores)] {
        let (mut ratios, mut ratios_of_all, mut slow) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..TURNS {
            house.slots.shadow(&slot, None);
            let asks = camera.clone().asks(pace);
            tokio::time::sleep(TURN).await;
            let alone = asks.end(&mut pulse, 95).await;
            house.slots.shadow(&slot, Some(shadow(&house, &file, budget).await));
            let asks = camera.clone().asks(pace);
            tokio::time::sleep(TURN).await;
            let beside = asks.end(&mut pulse, 95).await;
            failed += alone.failures.len() + beside.failures.len();
            slow += (alone.slow + beside.slow) / f64::from(2 * TURNS);
            ratios.push(beside.even / alone.even);
            ratios_of_all.push(beside.all / alone.all);
        }
        let median = pulse::median(ratios);
        let Sums { seen, rows, spent, share, .. } = sums(&house).await;
        println!(
            "allowed {name}: p95 {median:.2} x of that alone ({:.2} with the {:.0} % that were asked in slow moments); in the last turn {rows} of {seen} answers compared, {:.0} % of a core, share {share:.2}",
            pulse::median(ratios_of_all),
            100.0 * slow,
            100.0 * spent.as_secs_f64() / TURN.as_secs_f64()
        );
        ratio.get_or_insert(median);
    }
    pulse.end();
    house.close().await;
    let mut goals = Goals::default();
    goals.add("shadow_failed_requests", failed as f64, "requests", ..=0.0);
    goals.add("shadow_p95", ratio.unwrap_or(f64::NAN), "x of alone", ..=1.1);
    goals.tell()
}

/// The same model as another bundle.
async fn shadow(house: &House, file: &Path, budget: f64) -> Shadow {
    let model = house.engine.load_lone(LoadSpec::new(file, InferencePrecision::F32)).await.unwrap();
    let (manifest, candidate) = bundle(model.signature(), 1);
    let live = house.slots.current(&house::NAME.parse().unwrap()).unwrap();
    Shadow::start(model, manifest, candidate, live, budget).unwrap()
}

async fn sums(house: &House) -> Sums {
    loop {
        if let Some(sums) = house.slots.shadows().first().unwrap().1.sums() {
            return sums;
        }
        tokio::task::yield_now().await;
    }
}

//! What inference costs here, beside what it could cost and what it costs elsewhere: `make bench-inference`.
//!
//! ```text
//!   way        one client, a model that does next to nothing: what a socket adds to asking in the process
//!   json       whether one large request in JSON holds up a small one
//!   limit      real models, as many clients as sessions, beside OpenVINO's own benchmark_app, which is the limit
//!   mlserver   the same models in MLServer, asked by the same clients with the same bytes
//! ```
//!
//! The sides take turns, so that what else the machine does falls on all of them; a ratio is the median of its turns.
//! Exits with 1 where a goal is missed.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]
#![expect(clippy::disallowed_methods, reason = "a bench has no configuration file")]
#![expect(clippy::cast_precision_loss, reason = "counts of a bench are exact in a double")]

#[path = "inference/clients.rs"]
mod clients;
#[path = "inference/goals.rs"]
mod goals;
#[path = "inference/house.rs"]
mod house;
#[path = "inference/peers.rs"]
mod peers;
#[path = "inference/pulse.rs"]
mod pulse;
#[path = "inference/way.rs"]
mod way;
#[path = "inference/work.rs"]
mod work;

use std::process::ExitCode;

use goals::Goals;
use house::House;
use tokio::runtime::Builder;

type Part = fn(&Bench, &mut Goals);

/// All, or those that are named: `cargo bench … -- way`.
const PARTS: [(&str, Part); 4] = [
    ("way", way::measure),
    ("json", way::beside_much_json),
    ("limit", work::beside_the_limit),
    ("mlserver", work::beside_mlserver),
];

fn main() -> ExitCode {
    // As the agent's own.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let house = runtime.block_on(House::open());
    let bench = Bench { house, runtime };
    let mut goals = Goals::default();
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, measure) in PARTS {
        if named.is_empty() || named.iter().any(|wanted| wanted == name) {
            measure(&bench, &mut goals);
        }
    }
    let Bench { house, runtime } = bench;
    runtime.block_on(house.close());
    goals.tell()
}

/// What serves, and on what.
struct Bench {
    house: House,
    runtime: tokio::runtime::Runtime,
}

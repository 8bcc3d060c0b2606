//! What the way costs: one client that asks again and again, as a scanner or a camera does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Bench;
use super::clients::{Client, Question, Way};
use super::goals::Goals;
use super::house::workspace;
use super::pulse::{Pulse, median};

const TURNS: usize = 20;
const ASKS: usize = 50;

struct Case {
    name: &'static str,
    goal: &'static str,
    file: &'static str,
    shape: &'static [usize],
    answer_bytes: usize,
}

const IMAGE: &[usize] = &[1, 3, 224, 224];
const CASES: [Case; 3] = [
    Case {
        name: "one row",
        goal: "row",
        file: "agent/tests/fixtures/logistic.onnx",
        shape: &[1, 4],
        answer_bytes: 4,
    },
    Case {
        name: "an image of 602 kB, three numbers back",
        goal: "image",
        file: ".muster/bench-models/means.onnx",
        shape: IMAGE,
        answer_bytes: 12,
    },
    Case {
        name: "an image of 602 kB, as much back",
        goal: "image_both_ways",
        file: "agent/tests/fixtures/image.onnx",
        shape: IMAGE,
        answer_bytes: 602_112,
    },
];

/// One side's questions of one turn: when each was asked, and how long it took.
type Turn = Vec<(Instant, Duration)>;

/// Goals: 0.15 ms and 0.3 ms for each megabyte that is carried, at the median, over REST and gRPC. What was asked while the
/// machine was slow is left out.
pub(crate) fn measure(bench: &Bench, goals: &mut Goals) {
    let mut pulse = Pulse::start();
    println!("{:<64} {:>8} {:>8} {:>9} {:>8}", "One client; milliseconds", "p50", "p95", "added", "even");
    for Case { name, goal, file, shape, answer_bytes } in CASES {
        let model = bench.runtime.block_on(bench.house.swap_in(&workspace().join(file), 1));
        let question = Question::new(shape);
        let mut sides: Vec<(&str, Box<dyn Client>, Vec<Turn>)> = Way::ALL
            .map(|way| (way.name(), question.ask(way, &bench.house, &model), Vec::new()))
            .into_iter()
            .collect();
        sides.push(("the loopback alone", question.ask_nobody(answer_bytes), Vec::new()));
        for _ in 0..TURNS {
            for (_, client, turns) in &mut sides {
                // The first of a turn finds everything cold.
                for _ in 0..ASKS / 10 {
                    client.ask();
                }
                let turn = (0..ASKS).map(|_| {
                    let began = Instant::now();
                    client.ask();
                    (began, began.elapsed())
                });
                turns.push(turn.collect());
            }
        }
        let slow = pulse.slow();
        let even = |turn: &Turn| -> Vec<Duration> {
            turn.iter().filter(|(began, _)| !slow.has(*began)).map(|&(_, took)| took).collect()
        };
        // Turn by turn: which core a thread is woken on is a habit that lasts, and halves or doubles what is so short.
        let medians =
            |turns: &[Turn]| -> Vec<f64> { turns.iter().map(|turn| percentile(&even(turn), 50)).collect() };
        let alone = medians(&sides[0].2);
        for (side, _, turns) in sides {
            let took = turns.iter().flat_map(&even).collect::<Vec<_>>();
            let (p50, p95) = (percentile(&took, 50), percentile(&took, 95));
            let added = medians(&turns).into_iter().zip(&alone).map(|(turn, alone)| turn - alone);
            let added = median(added);
            let share = 100.0 * took.len() as f64 / (TURNS * ASKS) as f64;
            println!("{:<64} {p50:>8.3} {p95:>8.3} {added:>9.3} {share:>6.0} %", format!("{name}: {side}"));
            let megabytes = (question.bytes() + answer_bytes) as f64 / 1e6;
            let wanted = ..=0.15 + 0.3 * megabytes;
            let short = [(Way::Rest, "rest"), (Way::Grpc, "grpc")];
            if let Some((_, way)) = short.into_iter().find(|(way, _)| way.name() == side) {
                goals.add(&format!("added_{goal}_{way}"), added, "ms", wanted);
            }
        }
    }
    pulse.end();
}

/// Requests of 16 MB in JSON, one after the other, and beside them one row again and again: who waits for whom.
pub(crate) fn beside_much_json(bench: &Bench, _: &mut Goals) {
    let file = workspace().join("agent/tests/fixtures/logistic.onnx");
    let model = bench.runtime.block_on(bench.house.swap_in(&file, 1));
    let mut row = Question::new(&[1, 4]).ask(Way::Rest, &bench.house, &model);
    let much = Question::new(&[400_000, 4]);
    let mut large = [(); 2].map(|()| much.ask_json(bench.house.server.addr));
    let mut ask = || {
        let began = Instant::now();
        row.ask();
        began.elapsed()
    };
    let alone: Vec<Duration> = (0..2000).map(|_| ask()).collect();
    let asking = AtomicUsize::new(large.len());
    let beside = std::thread::scope(|scope| {
        for client in &mut large {
            let asking = &asking;
            scope.spawn(move || {
                (0..10).for_each(|_| client.ask());
                asking.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut beside = Vec::new();
        while asking.load(Ordering::Relaxed) > 0 {
            beside.push(ask());
        }
        beside
    });
    let size = much.json_bytes() as f64 / 1e6;
    println!("\nOne row beside requests of {size:.0} MB in JSON, two at once; milliseconds");
    println!("{:<64} {:>8} {:>8} {:>9}", "", "p50", "p99", "longest");
    for (name, took) in [("nothing beside it", alone), ("beside them", beside)] {
        let [p50, p99, longest] = [50, 99, 100].map(|part| percentile(&took, part));
        println!("{name:<64} {p50:>8.3} {p99:>8.3} {longest:>9.3}");
    }
}

/// In milliseconds; there is none of nothing.
fn percentile(took: &[Duration], part: usize) -> f64 {
    let mut took = took.to_vec();
    took.sort_unstable();
    let at = (took.len() * part / 100).min(took.len().saturating_sub(1));
    took.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}

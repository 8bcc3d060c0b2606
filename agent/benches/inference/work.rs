//! How many requests a second are answered, beside the limit and beside another server.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Bench;
use super::clients::{Client, Question, Way};
use super::goals::Goals;
use super::house::workspace;
use super::peers::{MlServer, benchmark_app};
use super::pulse::median;

struct Work {
    model: &'static str,
    shape: &'static [usize],
    turns: usize,
    span: Duration,
}

const WORKS: [Work; 3] = [
    Work { model: "tabular", shape: &[1, 12], turns: 7, span: Duration::from_secs(1) },
    Work { model: "cnn_int8", shape: &[1, 3, 64, 64], turns: 3, span: Duration::from_secs(1) },
    Work { model: "resnet50", shape: &[1, 3, 224, 224], turns: 7, span: Duration::from_secs(2) },
];
/// Clients at once of the comparison between servers, and how many of them share a thread.
const CLIENTS: usize = 16;
const TOGETHER: usize = 4;

/// Goal: ResNet-50, asked in the process by as many clients as it has sessions, answers at least 0.95 times as often.
pub(crate) fn beside_the_limit(bench: &Bench, goals: &mut Goals) {
    println!("\n{:<64} {:>10} {:>12}", "As many clients as sessions; answers a second", "rate", "of limit");
    // Nothing is to be learnt of the smallest: that tool, a program in Python, is not its limit.
    for Work { model: name, shape, turns, span } in WORKS.into_iter().skip(1) {
        let file = model_file(name);
        let model = bench.runtime.block_on(bench.house.swap_in(&file, 1));
        let question = Question::new(shape);
        let mut sides = Way::ALL.map(|way| {
            let clients = (0..model.sessions()).map(|_| question.ask(way, &bench.house, &model));
            (way, clients.collect::<Vec<_>>(), Vec::new())
        });
        let mut limits = Vec::new();
        for _ in 0..turns {
            let limit = benchmark_app(&file, model.sessions(), span);
            limits.push(limit);
            for (_, clients, rates) in &mut sides {
                let rate = rate(clients, span);
                rates.push((rate, rate / limit));
            }
        }
        println!("{:<64} {:>10.1}", format!("{name}: benchmark_app"), median(limits));
        for (way, _, rates) in sides {
            let rate = median(rates.iter().map(|turn| turn.0));
            let ratio = median(rates.iter().map(|turn| turn.1));
            println!("{:<64} {rate:>10.1} {ratio:>12.3}", format!("{name}: {}", way.name()));
            if way == Way::InProcess && name == "resnet50" {
                goals.add("resnet50_of_benchmark_app", ratio, "x", 0.95..);
            }
        }
    }
}

/// Goal: the tabular model, asked in JSON by the same clients, answers at least 20 times as often as in `MLServer`.
pub(crate) fn beside_mlserver(bench: &Bench, goals: &mut Goals) {
    println!("\n{:<64} {:>10} {:>12}", "REST, JSON, 16 clients; answers a second", "rate", "x MLServer");
    for Work { model: name, shape, turns, span } in WORKS {
        let file = model_file(name);
        drop(bench.runtime.block_on(bench.house.swap_in(&file, 1)));
        let question = Question::new(shape);
        let peer = MlServer::start(&file);
        let both = [bench.house.server.addr, peer.addr];
        // Connected anew each turn: MLServer closes a connection that was silent for five seconds.
        let asked = |server| {
            let mut crowds = [(); CLIENTS / TOGETHER].map(|()| question.ask_json_together(server, TOGETHER));
            TOGETHER as f64 * rate(&mut crowds, span)
        };
        let turns: Vec<[f64; 2]> = (0..turns).map(|_| both.map(asked)).collect();
        let ratio = median(turns.iter().map(|[here, there]| here / there));
        println!("{:<64} {:>10.1}", format!("{name}: MLServer"), median(turns.iter().map(|turn| turn[1])));
        let here = median(turns.iter().map(|turn| turn[0]));
        println!("{:<64} {here:>10.1} {ratio:>12.1}", format!("{name}: here"));
        if name == "tabular" {
            goals.add("tabular_of_mlserver", ratio, "x", 20.0..);
        }
    }
}

fn model_file(name: &str) -> PathBuf {
    workspace().join(".muster/bench-models").join(name).with_extension("onnx")
}

/// Answers a second when each client asks as fast as it is answered.
fn rate(clients: &mut [Box<dyn Client>], span: Duration) -> f64 {
    for client in clients.iter_mut() {
        client.ask();
    }
    let began = Instant::now();
    let answered: usize = std::thread::scope(|scope| {
        let asking = clients.iter_mut().map(|client| {
            scope.spawn(move || {
                let mut answered = 0;
                while began.elapsed() < span {
                    client.ask();
                    answered += 1;
                }
                answered
            })
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().map(|one| one.join().unwrap()).sum()
    });
    answered as f64 / began.elapsed().as_secs_f64()
}

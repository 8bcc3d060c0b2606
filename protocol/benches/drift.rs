//! What drift costs a box: time a value, bytes a stream, bytes on the wire, and rows a second beside whylogs on the same
//! table. `make bench-drift`.
//!
//! Every goal is printed last as `goal NAME: VALUE UNIT, wanted <= LIMIT: met|missed`; a missed one ends with 1.

#![expect(clippy::disallowed_methods, reason = "a stopwatch asks the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on stops and says where"
)]

#[path = "drift/noise.rs"]
mod noise;
#[path = "drift/wire.rs"]
mod wire;

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use muster_protocol::drift::{Counter, Counts, NumericCounter, OverDispersion, Reference, test};

use noise::Noise;

/// The table that both count: ten numeric columns.
const ROWS: usize = 100_000;
const COLUMNS: usize = 10;
const REFERENCE_ROWS: usize = 10_000;
/// The table is counted in slices shorter than a turn on the processor, each so often; of each the fastest run counts. On
/// a shared machine the others measure the neighbours.
const SLICES: usize = 20;
const REPEATS: usize = 60;

fn main() -> ExitCode {
    let table = rows(1, ROWS);
    let references: Vec<Reference> =
        columns(&rows(2, REFERENCE_ROWS)).iter().map(|column| Reference::numeric(column).unwrap()).collect();

    let slices = || table.chunks(table.len() / SLICES);
    let by_column: f64 = slices().map(|slice| best(|| count_columns(&references, slice))).sum();
    let by_row: f64 = slices().map(|slice| best(|| count_rows(&references, slice))).sum();
    println!(
        "counting, ns a value: {:.2} column by column, {:.2} row by row",
        per_value(by_column),
        per_value(by_row)
    );

    let windows: Vec<Counts> = counted(&references, &table);
    let judge = best(|| {
        for (reference, window) in references.iter().zip(&windows) {
            black_box(test(reference, window, &OverDispersion::default(), 10).unwrap());
        }
    });
    println!("judging a window with all effect sizes: {:.2} µs a stream", judge / COLUMNS as f64 * 1e6);

    let categorical =
        Reference::categorical((0..900).map(|i| Some(["chest", "limb", "other"][i % 3]))).unwrap();
    println!(
        "bytes a stream while counting: {} numeric with its edges (a pane of over 65,535 rows adds {}), {} the handle of \
         a categorical one, whose names are on the heap",
        size_of::<NumericCounter>(),
        size_of::<Counts>() + windows.first().map_or(0, |counts| counts.bins().len() * size_of::<u64>()),
        size_of_val(&Counter::new(&categorical)),
    );

    let ours = ROWS as f64 / by_row;
    let theirs = whylogs(&table);
    println!(
        "rows of ten columns a second: {ours:.0} here, {theirs:.0} whylogs (its fastest mode, the whole frame at once)"
    );

    let wire = wire::hour();
    println!(
        "bytes an hour for 100 streams, one row a second: {} in one pane, {} in ten-minute panes; at 100 rows a second {} \
         and {}",
        wire.hour, wire.ten_minutes, wire.busy_hour, wire.busy_ten_minutes
    );
    println!();
    let goals = [
        goal("drift_value", per_value(by_row), "ns", "<=", 10.0),
        goal("drift_stream", size_of::<Counter>() as f64, "bytes", "<=", 220.0),
        goal("drift_rows", ours / theirs, "x whylogs", ">=", 100.0),
        goal("drift_hour", wire.hour as f64 / 1e3, "kB an hour, panes merged to the hour", "<=", 30.0),
        goal("drift_ten_minutes", wire.ten_minutes as f64 / 1e3, "kB an hour, ten-minute panes", "<=", 60.0),
    ];
    if goals.into_iter().all(|met| met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn goal(name: &str, value: f64, unit: &str, wanted: &str, limit: f64) -> bool {
    let met = if wanted == "<=" { value <= limit } else { value >= limit };
    println!(
        "goal {name}: {value:.2} {unit}, wanted {wanted} {limit}: {}",
        if met { "met" } else { "missed" }
    );
    met
}

/// Seconds of the fastest run.
fn best<T>(mut run: impl FnMut() -> T) -> f64 {
    let times = (0..REPEATS).map(|_| {
        let start = Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn per_value(seconds: f64) -> f64 {
    seconds / (ROWS * COLUMNS) as f64 * 1e9
}

fn counters(references: &[Reference]) -> Vec<NumericCounter> {
    let numeric = references.iter().filter_map(|reference| match reference {
        Reference::Numeric(numeric) => Some(NumericCounter::new(numeric)),
        Reference::Categorical(_) => None,
    });
    numeric.collect()
}

fn count_columns(references: &[Reference], table: &[f32]) -> Vec<Counts> {
    let columns = columns(table);
    let counters = counters(references).into_iter().zip(&columns);
    counters
        .map(|(mut counter, column)| {
            counter.observe_all(column);
            counter.take()
        })
        .collect()
}

/// As a box does it: one row of an answered request after the other, to closed panes.
fn count_rows(references: &[Reference], table: &[f32]) -> Vec<Counts> {
    let mut counters = counters(references);
    for row in table.chunks_exact(COLUMNS) {
        for (counter, &value) in counters.iter_mut().zip(row) {
            counter.observe(value);
        }
    }
    counters.iter_mut().map(NumericCounter::take).collect()
}

fn counted(references: &[Reference], table: &[f32]) -> Vec<Counts> {
    count_rows(references, &table[..500 * COLUMNS])
}

/// Normal, skewed, heavy-tailed and tied columns, row after row.
fn rows(seed: u64, count: usize) -> Vec<f32> {
    let mut noise = Noise::new(seed);
    (0..count * COLUMNS)
        .map(|at| {
            let normal = noise.normal();
            let value = match at % COLUMNS {
                0..4 => 37.0 + 0.5 * normal,
                4..6 => normal.exp(),
                6 => normal / noise.uniform().max(1e-3),
                7 => (4.0 + 2.0 * normal).round(),
                8 => {
                    if noise.uniform() < 0.4 {
                        0.0
                    } else {
                        normal.abs()
                    }
                }
                _ => noise.uniform(),
            };
            #[expect(clippy::cast_possible_truncation, reason = "as models see their inputs")]
            let value = value as f32;
            value
        })
        .collect()
}

fn columns(table: &[f32]) -> Vec<Vec<f32>> {
    (0..COLUMNS).map(|column| table.iter().skip(column).step_by(COLUMNS).copied().collect()).collect()
}

/// Rows a second that whylogs profiles of the same table.
fn whylogs(table: &[f32]) -> f64 {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join("target/bench-drift.f32");
    let bytes: Vec<u8> = table.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(&file, bytes).unwrap();
    let python = root.join(".muster/peers/bin/python");
    let script = root.join("protocol/benches/peers/whylogs_rows.py");
    let output = Command::new(&python).arg(script).arg(&file).arg(COLUMNS.to_string()).output();
    let output =
        output.unwrap_or_else(|error| fail(&format!("{}: {error}; run `make peers`", python.display())));
    if !output.status.success() {
        fail(&String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

#[expect(clippy::panic, reason = "a measurement that cannot go on stops and says where")]
fn fail(why: &str) -> ! {
    panic!("{why}")
}

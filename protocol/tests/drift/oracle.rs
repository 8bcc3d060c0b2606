//! Random rows, judged here and by the specification's own program (`vectors/drift_ref.py`, numpy and scipy).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use muster_protocol::drift::{Alarm, Counts, OverDispersion, Rule, test as drift_test};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::checks::{Checks, Outcome, count, number, reference_of, rows, step, vectors, whole};

const CASES: usize = 250;

#[test]
fn random_rows_are_judged_alike() -> Outcome {
    let mut oracle = Oracle::start()?;
    let mut checks = Checks::default();
    checks.null_floor = 1e-12;
    let mut runner = runner();
    for case in 0..CASES {
        let asked = drawn(&rows_strategy(), &mut runner)?;
        let told = oracle.ask(&asked)?;
        compare(&mut checks, &format!("case {case}"), &asked, &told)?;
    }
    checks.finish(&format!("{CASES} random cases"))
}

#[test]
fn random_alarms_go_the_same_way() -> Outcome {
    let mut oracle = Oracle::start()?;
    let mut checks = Checks::default();
    let mut runner = runner();
    let rule = Rule::default();
    for case in 0..CASES {
        let asked = drawn(&alarm_strategy(), &mut runner)?;
        let told = oracle.ask(&asked)?;
        let mut alarm = Alarm::default();
        for (i, b) in rows(&asked["b"])?.iter().enumerate() {
            let state = step(&mut alarm, &rule, [b, &asked["effect_ok"][i], &asked["b_merged"][i]])?;
            checks.same(&format!("case {case} step {i}"), Some(state), told[i].as_str());
        }
    }
    checks.finish(&format!("{CASES} random alarms"))
}

fn compare(checks: &mut Checks, what: &str, asked: &Value, told: &Value) -> Outcome {
    let reference = reference_of(&asked["reference"], &asked["kind"])?;
    checks.reference(what, &reference, &told["reference"])?;
    let windows: Vec<Counts> =
        rows(&asked["windows"])?.iter().map(|window| count(&reference, window)).collect::<Outcome<_>>()?;
    for (window, state) in windows.iter().zip(rows(&told["states"])?) {
        checks.counts(what, window, state)?;
    }
    // Repeated and reordered, merged counts stay what they are.
    let merged = Counts::merged(windows.iter().rev())?.ok_or("no windows")?;
    checks.counts(what, &merged, &told["merged"])?;
    checks.same(what, Some(&merged), Counts::merged(&windows)?.as_ref());

    let learnt = OverDispersion::replay(&reference, &windows)?;
    let od = &told["od"];
    for (j, v) in learnt.v().into_iter().enumerate() {
        checks.statistic(&format!("{what} v{j}"), v, number(&od["v"][j])?);
    }
    checks.statistic(&format!("{what} a"), learnt.a(), number(&od["a"])?);
    checks.statistic(&format!("{what} v0"), learnt.v0(), number(&od["v0"])?);
    let windows_told = learnt.windows().map(u64::from) == od["R"].as_u64();
    checks.record(windows_told, || format!("{what}: {:?} windows were replayed", learnt.windows()));
    checks.same(&format!("{what} use_rest"), Some(learnt.uses_rest()), od["use_rest"].as_bool());

    let columns = u32::try_from(whole(&asked["K"])?)?;
    let independent = OverDispersion::default();
    let learnts = windows.iter().flat_map(|window| [(window, &independent), (window, &learnt)]);
    let tested = learnts.zip(rows(&told["tests"])?);
    for ((window, learnt), expected) in tested.chain([((&merged, &learnt), &told["merged_test"])]) {
        let verdict = drift_test(&reference, window, learnt, columns)?;
        checks.verdict(what, &serde_json::to_value(verdict)?, expected)?;
    }
    Ok(())
}

/// Reproducible: a failure comes again.
fn runner() -> TestRunner {
    TestRunner::new_with_rng(ProptestConfig::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn drawn(strategy: &BoxedStrategy<Value>, runner: &mut TestRunner) -> Outcome<Value> {
    Ok(strategy.new_tree(runner).map_err(|reason| reason.message().to_owned())?.current())
}

fn rows_strategy() -> BoxedStrategy<Value> {
    // Multiples of 1/64 are exact in f32, in every grid and in decimal: no tolerance hides a row in the wrong bin.
    let grid = |low: i32, high: i32| (low..high).prop_map(|step| Some(f64::from(step) / 64.0)).boxed();
    let families = prop_oneof![
        4 => Just(grid(-6400, 6400)),
        2 => (-8i32..8).prop_map(move |at| grid(at * 64, at * 64 + 256)),
        2 => Just((-3i32..4).prop_map(|step| Some(f64::from(step))).boxed()),
        1 => Just(Just(Some(3.5)).boxed()),
        1 => Just(prop_oneof![6 => Just(Some(0.0)), 4 => (0i32..40_000).prop_map(|step| Some(f64::from(step)))].boxed()),
    ];
    let numeric = (families.clone(), families, 0u32..4).prop_flat_map(|(before, now, missing)| {
        let sparse =
            move |values: BoxedStrategy<Option<f64>>| prop_oneof![20 => values, missing => Just(None)];
        let first = before.clone();
        let reference = (first, prop::collection::vec(sparse(before), 1..400))
            .prop_map(|(first, more)| std::iter::once(first).chain(more).collect::<Vec<_>>());
        let windows = prop::collection::vec(prop::collection::vec(sparse(now), 1..80), 1..16);
        (reference, windows, 1u32..40)
    });
    let numeric = numeric.prop_map(
        |(reference, windows, k)| json!({"kind": "numeric", "reference": reference, "windows": windows, "K": k}),
    );
    let names = (1usize..90, 1usize..90, 0u32..3).prop_flat_map(|(before, now, missing)| {
        let name = |most: usize| (0..most, 0..most).prop_map(|(a, b)| Some(format!("c{}", a.min(b))));
        let sparse = move |most| prop_oneof![20 => name(most), missing => Just(None)];
        let reference = (name(before), prop::collection::vec(sparse(before), 1..300))
            .prop_map(|(first, more)| std::iter::once(first).chain(more).collect::<Vec<_>>());
        (reference, prop::collection::vec(prop::collection::vec(sparse(now), 1..60), 1..14), 1u32..40)
    });
    let names = names.prop_map(
        |(reference, windows, k)| json!({"kind": "categorical", "reference": reference, "windows": windows, "K": k}),
    );
    prop_oneof![2 => numeric, 1 => names].boxed()
}

fn alarm_strategy() -> BoxedStrategy<Value> {
    let b = prop_oneof![
        4 => 0.0f64..=1.0,
        3 => 0.0f64..=0.03,
        1 => prop::sample::select(vec![0.02, 1e-5, 2e-4, 0.10, 0.0]),
    ];
    let merged = prop::collection::vec(prop_oneof![9 => 0.001f64..=1.0, 1 => 0.0f64..=4e-4], 0..3);
    prop::collection::vec((b, any::<bool>(), merged), 1..40)
        .prop_map(|steps| {
            let b: Vec<f64> = steps.iter().map(|(b, _, _)| *b).collect();
            let effect_ok: Vec<bool> = steps.iter().map(|(_, effect, _)| *effect).collect();
            let b_merged: Vec<&Vec<f64>> = steps.iter().map(|(_, _, merged)| merged).collect();
            json!({"b": b, "effect_ok": effect_ok, "b_merged": b_merged})
        })
        .boxed()
}

/// The specification's program, asked over its standard streams.
struct Oracle {
    child: Child,
    ask: ChildStdin,
    told: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Outcome<Self> {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/python/bin/python");
        let script = vectors().join("oracle.py");
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}; run `make python`", python.display()))?;
        let (ask, told) = (child.stdin.take(), child.stdout.take());
        let (ask, told) = (ask.ok_or("no standard input")?, told.ok_or("no standard output")?);
        Ok(Self { child, ask, told: BufReader::new(told) })
    }

    fn ask(&mut self, case: &Value) -> Outcome<Value> {
        writeln!(self.ask, "{case}")?;
        let mut line = String::new();
        self.told.read_line(&mut line)?;
        Ok(serde_json::from_str(&line).map_err(|error| format!("{error}: '{line}' for {case}"))?)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // Its input ends with it; a program that still runs is not waited for.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

//! The drift statistics against reference vectors made by an independent implementation in numpy and scipy.
//!
//! Every number of every vector is checked, within the tolerances of `vectors/manifest.json`: counts exactly, statistics
//! to 1e-9 relative or 1e-10, p-values to 1e-6 in their decimal logarithm.

use std::fs;
use std::path::PathBuf;

use muster_protocol::drift::performance::{Estimated, Moments, ObservedExpected, prediction_powered};
use muster_protocol::drift::{
    Alarm, Counts, NumericCounter, OverDispersion, Reference, Rule, benjamini_hochberg, special,
    test as drift_test,
};
use serde_json::Value;

use crate::checks::{Checks, Outcome, count, number, read, reference_of, rows, step, vectors, whole};

#[test]
fn every_case_gives_the_expected_reference_counts_and_verdict() -> Outcome {
    let mut checks = Checks::default();
    let mut cases = 0;
    for path in case_files()? {
        let case = read(&path)?;
        let file = path.file_name().ok_or("no file name")?.to_string_lossy().into_owned();
        let reference = reference_of(&case["reference"], &case["kind"])?;
        let window = count(&reference, &case["current"])?;
        let stream = &case["stream"];
        checks.reference(&file, &reference, &stream["reference"])?;
        checks.counts(&file, &window, &stream["window"])?;
        let columns = u32::try_from(whole(&stream["K"])?)?;
        let verdict = drift_test(&reference, &window, &OverDispersion::default(), columns)?;
        checks.verdict(&file, &serde_json::to_value(verdict)?, &stream["test"])?;
        if !case["expected"]["evidently"].is_null() {
            checks.against_exact(&file, &case)?;
        }
        cases += 1;
    }
    assert_eq!(cases, 36);
    checks.finish(&format!("{cases} cases"))
}

#[test]
fn special_functions() -> Outcome {
    let spec = read(&vectors().join("spec_special_functions.json"))?;
    let mut checks = Checks::default();
    for row in rows(&spec["chi2_sf"])? {
        let got = special::chi2_sf(number(&row["x"])?, number(&row["df"])?);
        checks.probability(&format!("chi2_sf {row}"), got, number(&row["sf"])?, 0.0);
    }
    for row in rows(&spec["betabin"])? {
        let (k, n, a, b) = (whole(&row["k"])?, whole(&row["n"])?, number(&row["a"])?, number(&row["b"])?);
        let upper = special::beta_binomial_upper(k, n, a, b);
        checks.probability(&format!("upper {row}"), upper, number(&row["upper"])?, 0.0);
        let two_sided = special::beta_binomial_two_sided(k, n, a, b);
        checks.probability(&format!("two_sided {row}"), two_sided, number(&row["two_sided"])?, 0.0);
    }
    for row in rows(&spec["f2_sf"])? {
        let windows = row["R"].as_u64().map(u32::try_from).transpose()?;
        let got = special::f2_sf(number(&row["S"])?, windows);
        checks.probability(&format!("f2_sf {row}"), got, number(&row["sf"])?, 0.0);
    }
    checks.finish("special functions")
}

#[test]
fn overdispersion_is_learnt_by_replay() -> Outcome {
    let spec = read(&vectors().join("spec_overdispersion.json"))?;
    let mut checks = Checks::default();
    let kind = Value::from("numeric");
    let reference = reference_of(&spec["reference"], &kind)?;
    let block = usize::try_from(whole(&spec["block"])?)?;
    let replayed: Vec<Counts> = rows(&spec["reference"])?
        .chunks(block)
        .map(|block| count(&reference, &Value::from(block.to_vec())))
        .collect::<Outcome<_>>()?;
    let learnt = OverDispersion::replay(&reference, &replayed)?;

    let expected = &spec["od"];
    for (j, v) in learnt.v().into_iter().enumerate() {
        checks.statistic(&format!("v{j}"), v, number(&expected["v"][j])?);
    }
    checks.statistic("a", learnt.a(), number(&expected["a"])?);
    checks.statistic("nu", learnt.nu().ok_or("no nu")?, number(&expected["nu"])?);
    checks.statistic("v0", learnt.v0(), number(&expected["v0"])?);
    checks.same("R", learnt.windows().map(u64::from), expected["R"].as_u64());
    checks.same("use_rest", Some(learnt.uses_rest()), expected["use_rest"].as_bool());

    for (i, values) in rows(&spec["windows"])?.iter().enumerate() {
        let window = count(&reference, values)?;
        for (name, overdispersion) in
            [("tests_with_od", &learnt), ("tests_without_od", &OverDispersion::default())]
        {
            let verdict = serde_json::to_value(drift_test(&reference, &window, overdispersion, 10)?)?;
            checks.verdict(&format!("{name}[{i}]"), &verdict, &spec[name][i])?;
        }
    }
    checks.finish("over-dispersion")
}

#[test]
fn merged_windows_equal_the_window_of_all_values() -> Outcome {
    let spec = read(&vectors().join("spec_merge.json"))?;
    let mut checks = Checks::default();
    let reference = reference_of(&spec["reference"], &Value::from("numeric"))?;
    let (first, second) = (count(&reference, &spec["w1"])?, count(&reference, &spec["w2"])?);
    checks.counts("state1", &first, &spec["state1"])?;
    checks.counts("state2", &second, &spec["state2"])?;
    let mut merged = second.clone();
    merged.merge(&first)?;
    checks.counts("merged", &merged, &spec["merged"])?;
    let all: Vec<Value> = rows(&spec["w1"])?.iter().chain(rows(&spec["w2"])?).cloned().collect();
    checks.same("concatenated", Some(&merged), Some(&count(&reference, &Value::from(all))?));
    let verdict = drift_test(&reference, &merged, &OverDispersion::default(), 5)?;
    checks.verdict("merged", &serde_json::to_value(verdict)?, &spec["test"])?;
    checks.finish("merge")
}

#[test]
fn alarm_sequences() -> Outcome {
    let spec = read(&vectors().join("spec_alarm.json"))?;
    let mut checks = Checks::default();
    let rule: Rule = serde_json::from_value(spec["rule"].clone())?;
    checks.same("rule", Some(&rule), Some(&Rule::default()));
    for (s, sequence) in rows(&spec["sequences"])?.iter().enumerate() {
        let mut alarm = Alarm::default();
        for (i, b) in rows(&sequence["b"])?.iter().enumerate() {
            let sequence_step = [b, &sequence["effect_ok"][i], &sequence["b_merged"][i]];
            let state = step(&mut alarm, &rule, sequence_step)?;
            checks.same(&format!("sequence {s} step {i}"), Some(state), sequence["states"][i].as_str());
            // A restart between any two windows changes nothing.
            alarm = serde_json::from_str(&serde_json::to_string(&alarm)?)?;
        }
    }
    checks.finish("alarm")
}

#[test]
fn standing_out_of_many_sites_and_streams() -> Outcome {
    let spec = read(&vectors().join("spec_fleet_bh.json"))?;
    let mut checks = Checks::default();
    let p: Vec<f64> = rows(&spec["p"])?.iter().map(number).collect::<Outcome<_>>()?;
    let adjusted = benjamini_hochberg(&p);
    for (got, expected) in adjusted.iter().zip(rows(&spec["adjusted_scipy"])?) {
        checks.probability("adjusted", *got, number(expected)?, 0.0);
    }
    let levels = spec["rejected"].as_object().ok_or("no levels")?;
    for (q, rejected) in levels {
        let q_level: f64 = q.parse()?;
        for (got, expected) in adjusted.iter().zip(rows(rejected)?) {
            checks.same(&format!("rejected at {q}"), Some(u64::from(*got <= q_level)), expected.as_u64());
        }
    }
    checks.finish("Benjamini-Hochberg")
}

#[test]
fn performance_without_labels_and_with_matured_ones() -> Outcome {
    let spec = read(&vectors().join("spec_cbpe_labels.json"))?;
    let mut checks = Checks::default();
    let column = |name: &str| -> Outcome<Vec<f64>> { rows(&spec[name])?.iter().map(number).collect() };
    let (scores, chances, labels, labelled) =
        (column("score")?, column("p")?, column("y")?, column("labelled")?);
    let threshold = number(&spec["threshold"])?;

    let mut outcomes = ObservedExpected::default();
    let (mut estimated, mut difference) = (Moments::default(), Moments::default());
    for (i, (&score, &p)) in scores.iter().zip(&chances).enumerate() {
        let error = if score >= threshold { 1.0 - p } else { p };
        estimated.observe(error);
        if labelled[i] > 0.5 {
            outcomes.observe(labels[i], p);
            difference.observe(f64::from(u8::from((score >= threshold) != (labels[i] > 0.5))) - error);
        }
    }

    // The bins are of the probabilities, which rise with the score: where they are cut is where the score is.
    let below = |(&p, &score): (&f64, &f64)| (score < threshold).then_some(p);
    let cut = chances.iter().zip(&scores).filter_map(below).fold(0.0, f64::max) + 1e-6;
    #[expect(clippy::cast_possible_truncation, reason = "as models answer")]
    let narrow: Vec<f32> = chances.iter().map(|&p| p as f32).collect();
    let reference = Reference::numeric(&narrow)?;
    let Reference::Numeric(numeric) = &reference else { return Err("not numeric".into()) };
    let mut counter = NumericCounter::new(numeric);
    counter.observe_all(&narrow);
    let got = Estimated::of(&reference, &counter.take(), Some(cut)).ok_or("no estimate")?;
    let expected = &spec["expected"];
    let promised = number(&expected["TP"])? + number(&expected["FN"])?;
    checks.record((got.positives - promised).abs() < 1e-2, || format!("{got:?}: {promised} were promised"));
    let accuracy = got.accuracy.ok_or("no accuracy")?;
    let figures = [
        ("brier", got.loss, number(&expected["brier"])?),
        ("accuracy", accuracy, number(&expected["accuracy"])?),
        ("NannyML's accuracy", accuracy, number(&spec["nannyml"]["accuracy"])?),
    ];
    for (name, told, exact) in figures {
        checks.record(told.low <= exact && exact <= told.high, || {
            format!("{name}: {exact} is outside {told:?}")
        });
        checks.record((told.value - exact).abs() < 2e-3, || format!("{name}: {told:?} is not {exact}"));
    }

    let expected = &spec["labels"];
    checks.statistic("O", outcomes.observed, number(&expected["O"])?);
    checks.statistic("E", outcomes.expected, number(&expected["E"])?);
    checks.statistic("z", outcomes.z().ok_or("no z")?, number(&expected["z_O_minus_E"])?);
    let spiegelhalter = outcomes.spiegelhalter_z().ok_or("no z")?;
    checks.statistic("spiegelhalter", spiegelhalter, number(&expected["spiegelhalter_z"])?);
    let powered = prediction_powered(&estimated, &difference).ok_or("no estimate")?;
    checks.statistic("ppi", powered.value, number(&expected["error_ppi"])?);
    checks.statistic("se of ppi", powered.standard_error, number(&expected["se_ppi"])?);
    checks.statistic("cbpe", estimated.mean().ok_or("no mean")?, number(&expected["error_cbpe"])?);
    checks.finish("performance")
}

fn case_files() -> Outcome<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(vectors())?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("case_")));
    files.sort();
    Ok(files)
}

//! The drift statistics against reference vectors made by an independent implementation in numpy and scipy.
//!
//! Every number of every vector is checked, within the tolerances of `vectors/manifest.json`: counts exactly, statistics
//! to 1e-9 relative or 1e-10, p-values to 1e-6 in their decimal logarithm.

use std::{
    error::Error,
    fmt::Debug,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use muster_protocol::drift::{
    Alarm, AlarmState, Counter, Counts, Effect, OverDispersion, Reference, Rule, special, test as drift_test,
};
use serde_json::Value;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

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
        checks.probability(&format!("chi2_sf {row}"), got, number(&row["sf"])?);
    }
    for row in rows(&spec["betabin"])? {
        let (k, n, a, b) = (whole(&row["k"])?, whole(&row["n"])?, number(&row["a"])?, number(&row["b"])?);
        let upper = special::beta_binomial_upper(k, n, a, b);
        checks.probability(&format!("upper {row}"), upper, number(&row["upper"])?);
        let two_sided = special::beta_binomial_two_sided(k, n, a, b);
        checks.probability(&format!("two_sided {row}"), two_sided, number(&row["two_sided"])?);
    }
    for row in rows(&spec["f2_sf"])? {
        let windows = row["R"].as_u64().map(u32::try_from).transpose()?;
        let got = special::f2_sf(number(&row["S"])?, windows);
        checks.probability(&format!("f2_sf {row}"), got, number(&row["sf"])?);
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
            let effect = match sequence["effect_ok"][i].as_bool() {
                Some(false) => Effect::Negligible,
                Some(true) | None => Effect::Relevant,
            };
            let merged: Vec<f64> =
                sequence["b_merged"][i].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            let state = match alarm.step(&rule, number(b)?, effect, &merged) {
                AlarmState::Insufficient => "INSUFFICIENT",
                AlarmState::Ok => "OK",
                AlarmState::Warn => "WARN",
                AlarmState::Drift => "DRIFT",
            };
            checks.same(&format!("sequence {s} step {i}"), Some(state), sequence["states"][i].as_str());
            // A restart between any two windows changes nothing.
            alarm = serde_json::from_str(&serde_json::to_string(&alarm)?)?;
        }
    }
    checks.finish("alarm")
}

/// Compares, remembers the largest deviations, and reports all failures of a test at once.
#[derive(Default)]
struct Checks {
    made: usize,
    failed: Vec<String>,
    statistic_max: f64,
    log10_max: f64,
}

impl Checks {
    fn same<T: PartialEq + Copy + Debug>(&mut self, what: &str, got: Option<T>, expected: Option<T>) {
        self.record(got.is_some() && got == expected, || format!("{what}: {got:?} is not {expected:?}"));
    }

    fn statistic(&mut self, what: &str, got: f64, expected: f64) {
        let off = (got - expected).abs();
        let deviation = off / expected.abs().max(0.1);
        self.statistic_max = self.statistic_max.max(deviation);
        self.record(deviation <= 1e-9, || format!("{what}: {got} is not {expected}"));
    }

    fn probability(&mut self, what: &str, got: f64, expected: f64) {
        let deviation =
            if got < 1e-280 && expected < 1e-280 { 0.0 } else { (got.log10() - expected.log10()).abs() };
        self.log10_max = self.log10_max.max(deviation);
        self.record(deviation <= 1e-6, || format!("{what}: {got} is not {expected}"));
    }

    fn record(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        self.made += 1;
        if !holds {
            self.failed.push(failure());
        }
    }

    fn reference(&mut self, file: &str, reference: &Reference, expected: &Value) -> Outcome {
        self.wholes(&format!("{file} reference"), reference.counts(), &expected["r"])?;
        self.same(&format!("{file} m"), Some(reference.m()), expected["m"].as_u64());
        self.same(&format!("{file} nulls"), Some(reference.nulls()), expected["nulls"].as_u64());
        match reference {
            Reference::Numeric(numeric) => {
                let edges = rows(&expected["edges"])?;
                self.same(&format!("{file} edges"), Some(numeric.edges().len()), Some(edges.len()));
                for (&edge, expected) in numeric.edges().iter().zip(edges) {
                    self.same(&format!("{file} edge"), Some(edge), float(expected));
                }
                self.same(&format!("{file} min"), Some(numeric.min()), float(&expected["min"]));
                self.same(&format!("{file} max"), Some(numeric.max()), float(&expected["max"]));
                self.statistic(&format!("{file} mean"), numeric.mean(), number(&expected["mean"])?);
                self.statistic(&format!("{file} sd"), numeric.sd(), number(&expected["sd"])?);
                let means = rows(&expected["bin_means"])?;
                self.same(&format!("{file} means"), Some(numeric.bin_means().len()), Some(means.len()));
                for (&mean, expected) in numeric.bin_means().iter().zip(means) {
                    self.statistic(&format!("{file} bin mean"), mean, number(expected)?);
                }
            }
            Reference::Categorical(categorical) => {
                let names: Vec<&str> = rows(&expected["cats"])?.iter().filter_map(Value::as_str).collect();
                let got: Vec<&str> = categorical.categories().iter().map(String::as_str).collect();
                self.same(&format!("{file} categories"), Some(&*got), Some(&*names));
                self.same(
                    &format!("{file} other"),
                    Some(categorical.has_other()),
                    expected["other"].as_bool(),
                );
                let singletons = expected["singletons"].as_u64();
                self.same(&format!("{file} singletons"), Some(categorical.singletons()), singletons);
            }
        }
        Ok(())
    }

    fn counts(&mut self, file: &str, counts: &Counts, expected: &Value) -> Outcome {
        self.wholes(&format!("{file} window"), counts.bins(), &expected["c"])?;
        for (name, got) in [("n", counts.n()), ("nulls", counts.nulls()), ("novel", counts.novel())] {
            self.same(&format!("{file} {name}"), Some(got), expected[name].as_u64());
        }
        let sums =
            [("sum", counts.sum()), ("sum_first", counts.sum_first()), ("sum_last", counts.sum_last())];
        for (name, got) in sums {
            match (got, expected[name].as_f64()) {
                (Some(got), Some(expected)) => self.statistic(&format!("{file} {name}"), got, expected),
                (got, expected) => self.record(got == expected, || format!("{file} {name}: {got:?}")),
            }
        }
        for (name, got) in [("min", counts.min()), ("max", counts.max())] {
            let expected = float(&expected[name]);
            self.record(got == expected, || format!("{file} {name}: {got:?} is not {expected:?}"));
        }
        Ok(())
    }

    /// Every field the vector has must be in the verdict, under its own name or in lower case.
    fn verdict(&mut self, file: &str, verdict: &Value, expected: &Value) -> Outcome {
        let fields = expected.as_object().ok_or("the expected test is not an object")?;
        for (name, expected) in fields {
            let what = format!("{file} {name}");
            let effects = &verdict["effects"];
            let places = [&verdict[name.to_lowercase()], &effects[name], &effects["numeric"][name]];
            let got = places.into_iter().find(|place| !place.is_null()).ok_or(what.clone())?;
            if let Some(expected) = expected.as_array() {
                self.same(&what, Some(rows(got)?.len()), Some(expected.len()));
                for (got, expected) in rows(got)?.iter().zip(expected) {
                    self.statistic(&what, number(got)?, number(expected)?);
                }
            } else if name.starts_with("p_") || name == "b" {
                self.probability(&what, number(got)?, number(expected)?);
            } else {
                self.statistic(&what, number(got)?, number(expected)?);
            }
        }
        Ok(())
    }

    /// Twenty bins stay close to the exact two-sample statistics that other tools compute from all raw values.
    fn against_exact(&mut self, file: &str, case: &Value) -> Outcome {
        let (stream, exact) = (&case["stream"], &case["expected"]);
        if case["kind"] != "numeric" || whole(&stream["test"]["n"])? < 300 {
            return Ok(());
        }
        let (bins, ks) = (number(&stream["test"]["ks_bins"])?, number(&exact["scipy"]["ks_statistic"])?);
        self.record(ks - 0.05 <= bins && bins <= ks + 1e-9, || format!("{file} ks: {bins} for {ks}"));
        let w1 = number(&stream["test"]["w1_norm"])?;
        let wasserstein = number(&exact["evidently"]["wasserstein_normed"])?;
        let allowed = 0.03 * wasserstein + 0.03;
        self.record((w1 - wasserstein).abs() <= allowed, || format!("{file} w1: {w1} for {wasserstein}"));
        Ok(())
    }

    fn wholes(&mut self, what: &str, got: &[u64], expected: &Value) -> Outcome {
        let expected = rows(expected)?;
        self.same(what, Some(got.len()), Some(expected.len()));
        for (&got, expected) in got.iter().zip(expected) {
            self.same(what, Some(got), expected.as_u64());
        }
        Ok(())
    }

    fn finish(self, what: &str) -> Outcome {
        let Self { made, failed, statistic_max, log10_max } = self;
        writeln!(
            std::io::stdout(),
            "{what}: {made} checks, {} failed; largest deviation of a statistic {statistic_max:.1e}, of log10 p {log10_max:.1e}",
            failed.len()
        )?;
        assert!(made > 0 && failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    }
}

fn reference_of(values: &Value, kind: &Value) -> Outcome<Reference> {
    Ok(match kind.as_str() {
        Some("numeric") => Reference::numeric(&floats(values)?)?,
        _ => Reference::categorical(rows(values)?.iter().map(Value::as_str))?,
    })
}

fn count(reference: &Reference, values: &Value) -> Outcome<Counts> {
    let mut counter = Counter::new(reference);
    match &mut counter {
        Counter::Numeric(numeric) => numeric.observe_all(&floats(values)?),
        Counter::Categorical(categorical) => {
            rows(values)?.iter().for_each(|value| categorical.observe(value.as_str()));
        }
    }
    Ok(counter.counts())
}

/// Values as the model sees them; a missing one is NaN.
fn floats(values: &Value) -> Outcome<Vec<f32>> {
    Ok(rows(values)?.iter().map(|value| float(value).unwrap_or(f32::NAN)).collect())
}

/// A number as an f32. The vectors' f32 values are exact in decimal, but reading JSON may cost an f64 its last bit; the
/// rounding to f32 takes that back.
fn float(value: &Value) -> Option<f32> {
    if value.is_null() { None } else { value.to_string().parse().ok() }
}

fn case_files() -> Outcome<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(vectors())?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("case_")));
    files.sort();
    Ok(files)
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read(path: &Path) -> Outcome<Value> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn rows(value: &Value) -> Outcome<&Vec<Value>> {
    value.as_array().ok_or_else(|| format!("not a list: {value}").into())
}

fn number(value: &Value) -> Outcome<f64> {
    value.as_f64().ok_or_else(|| format!("not a number: {value}").into())
}

fn whole(value: &Value) -> Outcome<u64> {
    value.as_u64().ok_or_else(|| format!("not a whole number: {value}").into())
}

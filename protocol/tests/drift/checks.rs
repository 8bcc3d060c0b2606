//! What the vectors and the oracle share: reading their JSON, and comparing every number within its tolerance.

use std::error::Error;
use std::fmt::Debug;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use muster_protocol::drift::{Alarm, AlarmState, Counter, Counts, Effect, Reference, Rule};
use serde_json::Value;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Compares, remembers the largest deviations, and reports all failures of a test at once.
#[derive(Default)]
pub(crate) struct Checks {
    /// Where the reference's own p-value of missing rows is rounded: it takes the lower tail from 1.
    pub(crate) null_floor: f64,
    made: usize,
    failed: Vec<String>,
    statistic_max: f64,
    log10_max: f64,
}

impl Checks {
    pub(crate) fn same<T: PartialEq + Copy + Debug>(
        &mut self,
        what: &str,
        got: Option<T>,
        expected: Option<T>,
    ) {
        self.record(got.is_some() && got == expected, || format!("{what}: {got:?} is not {expected:?}"));
    }

    pub(crate) fn statistic(&mut self, what: &str, got: f64, expected: f64) {
        let off = (got - expected).abs();
        let deviation = off / expected.abs().max(0.1);
        self.statistic_max = self.statistic_max.max(deviation);
        self.record(deviation <= 1e-9, || format!("{what}: {got} is not {expected}"));
    }

    /// Compares decimal logarithms, unless both are within `floor` of each other.
    pub(crate) fn probability(&mut self, what: &str, got: f64, expected: f64, floor: f64) {
        let same = (got - expected).abs() <= floor || (got < 1e-280 && expected < 1e-280);
        let deviation = if same { 0.0 } else { (got.log10() - expected.log10()).abs() };
        self.log10_max = self.log10_max.max(deviation);
        self.record(deviation <= 1e-6, || format!("{what}: {got} is not {expected}"));
    }

    pub(crate) fn record(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        self.made += 1;
        if !holds {
            self.failed.push(failure());
        }
    }

    pub(crate) fn reference(&mut self, file: &str, reference: &Reference, expected: &Value) -> Outcome {
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

    pub(crate) fn counts(&mut self, file: &str, counts: &Counts, expected: &Value) -> Outcome {
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
        let numeric = counts.sum().is_some() && counts.n() > 0;
        let stuck = numeric && float(&expected["min"]) == float(&expected["max"]);
        self.record(counts.is_stuck() == stuck, || format!("{file} is stuck: {}", counts.is_stuck()));
        Ok(())
    }

    /// Every field the vector has must be in the verdict, under its own name or in lower case.
    pub(crate) fn verdict(&mut self, file: &str, verdict: &Value, expected: &Value) -> Outcome {
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
                let rounded = matches!(name.as_str(), "p_null" | "p_feature" | "b");
                let floor = if rounded { self.null_floor } else { 0.0 };
                self.probability(&what, number(got)?, number(expected)?, floor);
            } else {
                self.statistic(&what, number(got)?, number(expected)?);
            }
        }
        Ok(())
    }

    /// Twenty bins stay close to the exact two-sample statistics that other tools compute from all raw values.
    pub(crate) fn against_exact(&mut self, file: &str, case: &Value) -> Outcome {
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

    pub(crate) fn wholes(&mut self, what: &str, got: &[u64], expected: &Value) -> Outcome {
        let expected = rows(expected)?;
        self.same(what, Some(got.len()), Some(expected.len()));
        for (&got, expected) in got.iter().zip(expected) {
            self.same(what, Some(got), expected.as_u64());
        }
        Ok(())
    }

    pub(crate) fn finish(self, what: &str) -> Outcome {
        let Self { made, failed, statistic_max, log10_max, null_floor: _ } = self;
        writeln!(
            std::io::stdout(),
            "{what}: {made} checks, {} failed; largest deviation of a statistic {statistic_max:.1e}, of log10 p {log10_max:.1e}",
            failed.len()
        )?;
        assert!(made > 0 && failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    }
}

pub(crate) fn reference_of(values: &Value, kind: &Value) -> Outcome<Reference> {
    Ok(match kind.as_str() {
        Some("numeric") => Reference::numeric(&floats(values)?)?,
        _ => Reference::categorical(rows(values)?.iter().map(Value::as_str))?,
    })
}

pub(crate) fn count(reference: &Reference, values: &Value) -> Outcome<Counts> {
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
pub(crate) fn floats(values: &Value) -> Outcome<Vec<f32>> {
    Ok(rows(values)?.iter().map(|value| float(value).unwrap_or(f32::NAN)).collect())
}

/// A number as an f32. The vectors' f32 values are exact in decimal, but reading JSON may cost an f64 its last bit; the
/// rounding to f32 takes that back.
pub(crate) fn float(value: &Value) -> Option<f32> {
    if value.is_null() { None } else { value.to_string().parse().ok() }
}

pub(crate) fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub(crate) fn read(path: &Path) -> Outcome<Value> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

pub(crate) fn rows(value: &Value) -> Outcome<&Vec<Value>> {
    value.as_array().ok_or_else(|| format!("not a list: {value}").into())
}

pub(crate) fn number(value: &Value) -> Outcome<f64> {
    value.as_f64().ok_or_else(|| format!("not a number: {value}").into())
}

pub(crate) fn whole(value: &Value) -> Outcome<u64> {
    value.as_u64().ok_or_else(|| format!("not a whole number: {value}").into())
}

/// One step of an alarm as the specification writes it: `b`, whether there is an effect, the merged windows' `b`.
pub(crate) fn step(
    alarm: &mut Alarm,
    rule: &Rule,
    [b, effect, merged]: [&Value; 3],
) -> Outcome<&'static str> {
    let effect = match effect.as_bool() {
        Some(false) => Effect::Negligible,
        Some(true) | None => Effect::Relevant,
    };
    let merged: Vec<f64> = merged.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    Ok(match alarm.step(rule, number(b)?, effect, &merged) {
        AlarmState::Insufficient => "INSUFFICIENT",
        AlarmState::Ok => "OK",
        AlarmState::Warn => "WARN",
        AlarmState::Drift => "DRIFT",
    })
}

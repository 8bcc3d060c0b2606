//! Goals and whether they are met.

use std::ops::{Bound, RangeBounds};
use std::process::ExitCode;

#[derive(Debug, Default)]
pub(crate) struct Goals {
    lines: Vec<String>,
    is_one_missed: bool,
}

impl Goals {
    /// `wanted` has one end: `..=1.5` is at most, `0.95..` at least. What could not be measured (NaN) is missed.
    pub(crate) fn add(&mut self, name: &str, value: f64, unit: &str, wanted: impl RangeBounds<f64>) {
        let met = wanted.contains(&value);
        let (sign, limit) = match (wanted.start_bound(), wanted.end_bound()) {
            (Bound::Unbounded, Bound::Included(limit)) => ("<=", limit),
            (Bound::Included(limit), Bound::Unbounded) => (">=", limit),
            bounds => unreachable!("no goal is like {bounds:?}"),
        };
        let word = if met { "met" } else { "missed" };
        self.lines.push(format!("goal {name}: {value:.2} {unit}, wanted {sign} {limit:.2}: {word}"));
        self.is_one_missed |= !met;
    }

    pub(crate) fn tell(&self) -> ExitCode {
        self.lines.iter().for_each(|line| println!("{line}"));
        if self.is_one_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

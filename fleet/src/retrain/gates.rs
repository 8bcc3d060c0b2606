//! What a candidate was held to before it was signed: every check with its figure and its limit, passed or not.
//!
//! Gates 1 to 5 are measured by the builder; the shadow and the canary are the rollout's own.

use serde::{Deserialize, Serialize};

/// Checks of one run.
pub const CHECKS_MAX: usize = 200;

/// In the order in which they are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Where it comes from: run, trigger, datasets.
    Provenance,
    /// Applications call it as they call the champion.
    Schema,
    /// Its errors on rows that no model was trained on, and in every part of the fleet.
    Offline,
    /// Its variants answer alike.
    Golden,
    /// It fits the boxes.
    Resources,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Failed,
    /// It could not be measured: no champion to compare with, too few rows of a slice.
    Unknown,
}

/// What a figure may be at most, or must be at least.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub gate: Gate,
    /// Stable, for programs: `worse_on_recent`.
    pub code: String,
    pub verdict: Verdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    pub sentence: String,
}

impl Check {
    /// Holds a figure to its limit; one that is no number fails.
    pub fn measured(gate: Gate, code: &str, measured: f64, limit: Limit, sentence: String) -> Self {
        let holds = match limit {
            Limit::AtMost(limit) => measured <= limit,
            Limit::AtLeast(limit) => measured >= limit,
        };
        let verdict = if holds { Verdict::Passed } else { Verdict::Failed };
        Self { measured: Some(measured), limit: Some(limit), ..Self::said(gate, code, verdict, sentence) }
    }

    /// A check without a figure.
    pub fn said(gate: Gate, code: &str, verdict: Verdict, sentence: impl Into<String>) -> Self {
        let sentence = muster_protocol::limits::sentence(sentence);
        Self { gate, code: code.to_owned(), verdict, measured: None, limit: None, sentence }
    }
}

/// The first check that a candidate does not pass.
pub fn first_failure(checks: &[Check]) -> Option<&Check> {
    checks.iter().find(|check| check.verdict == Verdict::Failed)
}

/// Whether everything was measured and passed. Nothing measured is no pass.
pub fn all_passed(checks: &[Check]) -> bool {
    !checks.is_empty() && checks.iter().all(|check| check.verdict == Verdict::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_held_to_their_limits() {
        let check = |measured, limit, expect| {
            let check = Check::measured(Gate::Offline, "x", measured, limit, String::new());
            assert_eq!(check.verdict, expect);
        };
        check(1.0, Limit::AtMost(1.0), Verdict::Passed);
        check(1.1, Limit::AtMost(1.0), Verdict::Failed);
        check(0.9, Limit::AtLeast(1.0), Verdict::Failed);
        check(f64::NAN, Limit::AtMost(1.0), Verdict::Failed);
        check(f64::NAN, Limit::AtLeast(1.0), Verdict::Failed);
    }

    #[test]
    fn nothing_measured_is_no_pass() {
        assert!(!all_passed(&[]));
        let unknown = Check::said(Gate::Schema, "no_champion", Verdict::Unknown, "");
        assert!(!all_passed(std::slice::from_ref(&unknown)));
        assert_eq!(first_failure(&[unknown]), None);
    }
}

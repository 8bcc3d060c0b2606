//! What a candidate was held to, as builders say it and people read it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::problem::{Answer, Problem};
use crate::retrain::{CHECKS_MAX, Check, Gate, Limit, Verdict};

const CODE_CHARS_MAX: usize = 64;

#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RunCheck)]
pub(super) struct CheckBody {
    gate: GateBody,
    /// Stable, for programs: `worse_on_recent`.
    #[schema(max_length = 64)]
    code: String,
    verdict: VerdictBody,
    measured: Option<f64>,
    /// What was measured may be at most this.
    at_most: Option<f64>,
    /// What was measured must be at least this.
    at_least: Option<f64>,
    sentence: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RunGate)]
enum GateBody {
    Provenance,
    Schema,
    Offline,
    Golden,
    Resources,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RunVerdict)]
enum VerdictBody {
    Passed,
    Failed,
    /// It could not be measured.
    Unknown,
}

/// Bounded, and cut where a sentence is too long.
pub(super) fn checks(bodies: Vec<CheckBody>) -> Answer<Vec<Check>> {
    if bodies.len() > CHECKS_MAX {
        return Err(Problem::invalid("/outcome", format!("a run has at most {CHECKS_MAX} checks")));
    }
    Ok(bodies.into_iter().map(Check::from).collect())
}

impl From<CheckBody> for Check {
    fn from(body: CheckBody) -> Self {
        let gate = match body.gate {
            GateBody::Provenance => Gate::Provenance,
            GateBody::Schema => Gate::Schema,
            GateBody::Offline => Gate::Offline,
            GateBody::Golden => Gate::Golden,
            GateBody::Resources => Gate::Resources,
        };
        let verdict = match body.verdict {
            VerdictBody::Passed => Verdict::Passed,
            VerdictBody::Failed => Verdict::Failed,
            VerdictBody::Unknown => Verdict::Unknown,
        };
        let code: String = body.code.chars().take(CODE_CHARS_MAX).collect();
        let limit = body.at_most.map(Limit::AtMost).or(body.at_least.map(Limit::AtLeast));
        Self { measured: body.measured, limit, ..Self::said(gate, &code, verdict, body.sentence) }
    }
}

impl From<&Check> for CheckBody {
    fn from(check: &Check) -> Self {
        let gate = match check.gate {
            Gate::Provenance => GateBody::Provenance,
            Gate::Schema => GateBody::Schema,
            Gate::Offline => GateBody::Offline,
            Gate::Golden => GateBody::Golden,
            Gate::Resources => GateBody::Resources,
        };
        let verdict = match check.verdict {
            Verdict::Passed => VerdictBody::Passed,
            Verdict::Failed => VerdictBody::Failed,
            Verdict::Unknown => VerdictBody::Unknown,
        };
        let (at_most, at_least) = match check.limit {
            Some(Limit::AtMost(limit)) => (Some(limit), None),
            Some(Limit::AtLeast(limit)) => (None, Some(limit)),
            None => (None, None),
        };
        let (code, sentence) = (check.code.clone(), check.sentence.clone());
        Self { gate, code, verdict, measured: check.measured, at_most, at_least, sentence }
    }
}

//! What a model's owner wants: what may ask for retraining, what holds it back, and who has a say in the result.

use muster_protocol::ids::ModelName;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::rollout::Plan;
use crate::rollout::calendar::{Hours, WINDOWS_MAX, Zone};

/// Shortest cooldown that a policy may ask for, seconds.
pub const COOLDOWN_S_MIN: u64 = 3600;
/// Longest time that labels may need, days: what is older is not kept long enough to be judged.
pub const HORIZON_DAYS_MAX: u64 = 180;
/// People whose approval a policy may ask for.
pub const APPROVERS_MAX: u8 = 10;

/// When a model's owner wants it trained again. All times are world time.
///
/// Fields with a default came later: policies that were stored without them mean the same as before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub model: ModelName,
    pub enabled: bool,
    /// Share of a bundle's monitored streams that must drift.
    pub drift_share: f64,
    /// Least time between two runs, seconds.
    pub cooldown_s: u64,
    /// How much of the new world must have been seen before training on it, seconds after the onset.
    pub min_data_s: u64,
    pub runs_per_week_max: u32,
    /// What matured labels may ask for.
    #[serde(default)]
    pub labels: LabelPolicy,
    /// A floor under the triggers that look at data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// So many labels that came in since the last run ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<u64>,
    #[serde(default)]
    pub guards: Guards,
    #[serde(default)]
    pub approval: Approval,
    /// What happens with a bundle that a run published.
    pub rollout: RolloutPolicy,
}

/// How the model's own outcomes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelPolicy {
    /// World time after a prediction at which its label is in, seconds.
    pub horizon_s: u64,
    /// Whether answers that do not come true ask for retraining, or only for a person.
    pub retrain: bool,
}

impl Default for LabelPolicy {
    fn default() -> Self {
        Self { horizon_s: 86_400, retrain: false }
    }
}

/// What holds back a trigger that no person pulled, besides the cooldown and the budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guards {
    /// Rows that must have been seen since the onset: fewer teach nothing.
    pub min_new_rows: u64,
    /// Weekly windows, in `zone`, in which no run begins by itself.
    pub blackout: Hours,
    pub zone: Zone,
    /// Whether a rollout of the model that is under way, bakes included, may be overtaken by a new run.
    pub during_rollout: bool,
}

impl Guards {
    /// When the blackout that covers this moment ends; `None` if none does.
    pub fn blackout_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.blackout.keeps_until(&self.zone, now)
    }
}

/// Who must agree before a candidate may be rolled out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case", deny_unknown_fields)]
pub enum Approval {
    /// A candidate that fails a gate is rejected; any other goes on.
    #[default]
    None,
    /// It goes on by itself if every gate was measured and passed; what could not be measured is a person's to judge.
    IfGatesPass,
    /// So many people, none of whom asked for the run.
    Required { people: u8 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum RolloutPolicy {
    /// It waits for a person.
    Manual,
    Automatic {
        plan: Plan,
    },
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    #[error("drift_share is a share above 0 and up to 1")]
    Share,
    #[error("cooldown_s must be at least {COOLDOWN_S_MIN}")]
    Cooldown,
    #[error("runs_per_week_max must be at least 1; disable the policy instead")]
    Runs,
    #[error("labels that come later than {HORIZON_DAYS_MAX} days are not waited for")]
    Horizon,
    #[error("a volume of 0 labels would ask for ever; leave it out instead")]
    Volume,
    #[error("a policy has at most {WINDOWS_MAX} blackout windows")]
    Blackout,
    #[error("an approval is asked of 1 to {APPROVERS_MAX} people")]
    People,
    #[error("the rollout plan is not usable")]
    Plan(#[source] crate::rollout::PlanError),
}

impl Policy {
    pub fn check(&self) -> Result<(), PolicyError> {
        if !(self.drift_share > 0.0 && self.drift_share <= 1.0) {
            return Err(PolicyError::Share);
        }
        if self.cooldown_s < COOLDOWN_S_MIN {
            return Err(PolicyError::Cooldown);
        }
        if self.runs_per_week_max == 0 {
            return Err(PolicyError::Runs);
        }
        if self.labels.horizon_s > HORIZON_DAYS_MAX * 86_400 {
            return Err(PolicyError::Horizon);
        }
        if self.volume == Some(0) {
            return Err(PolicyError::Volume);
        }
        if self.guards.blackout.windows.len() > WINDOWS_MAX {
            return Err(PolicyError::Blackout);
        }
        if let Approval::Required { people } = self.approval
            && !(1..=APPROVERS_MAX).contains(&people)
        {
            return Err(PolicyError::People);
        }
        match &self.rollout {
            RolloutPolicy::Manual => Ok(()),
            RolloutPolicy::Automatic { plan } => plan.check().map_err(PolicyError::Plan),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_were_stored_before_there_were_guards_still_read() {
        let stored = r#"{"model":"er","enabled":true,"drift_share":0.2,"cooldown_s":86400,"min_data_s":0,
            "runs_per_week_max":7,"rollout":{"how":"manual"}}"#;
        let policy: Policy = serde_json::from_str(stored).unwrap();
        assert_eq!(policy.check(), Ok(()));
        assert_eq!((policy.approval, policy.schedule, policy.volume), (Approval::None, None, None));
        assert_eq!(policy.guards, Guards::default());
        assert_eq!(policy.guards.blackout_until(Timestamp::from_seconds(0)), None);
    }

    #[test]
    fn a_blackout_ends_when_its_window_does() {
        let blackout = Hours { windows: vec!["mon-fri 07:00-19:00".parse().unwrap()] };
        let guards = Guards { blackout, zone: "Europe/Berlin".parse().unwrap(), ..Guards::default() };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        // 24 November 2026 is a Tuesday; Berlin is an hour ahead.
        assert_eq!(guards.blackout_until(at("2026-11-24T05:59:00Z")), None);
        assert_eq!(guards.blackout_until(at("2026-11-24T06:00:00Z")), Some(at("2026-11-24T18:00:00Z")));
        assert_eq!(guards.blackout_until(at("2026-11-28T12:00:00Z")), None);
    }
}

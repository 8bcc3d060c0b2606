//! Whether a trigger becomes a run. Every "no" has a reason that a person can act on.

use std::time::Duration;

use muster_protocol::ids::{IncidentId, RolloutId};
use muster_protocol::time::Timestamp;

use super::{Policy, Run, RunState, Why};
use crate::rollout::Cause;

const WEEK_S: u64 = 7 * 86_400;

/// What is going on around a model when a trigger is decided on.
#[derive(Clone, Debug, Default)]
pub struct Situation<'a> {
    /// The model's newest runs, any order.
    pub runs: &'a [Run],
    /// A rollout of the model that has not ended.
    pub rollout: Option<RolloutId>,
    /// An open incident that says the data are wrong, not the world.
    pub bad_data: Option<IncidentId>,
    /// Rows that were seen since the onset, or since the last run; `None` where nobody counts them.
    pub new_rows: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Train, not before this time.
    Run {
        not_before: Timestamp,
    },
    Refuse(Cause),
}

/// Whether a trigger becomes a run. What a person asks for is held back by nothing but a run that is open already.
pub fn decide(policy: Option<&Policy>, why: &Why, around: &Situation<'_>, now: Timestamp) -> Decision {
    if let Some(cause) = refusal(policy, why, around, now) {
        Decision::Refuse(cause)
    } else {
        let min_data = policy.map_or(0, |policy| policy.min_data_s);
        let enough = why.onset().map(|onset| onset.plus(Duration::from_secs(min_data)));
        Decision::Run { not_before: enough.unwrap_or(now).max(now) }
    }
}

fn refusal(policy: Option<&Policy>, why: &Why, around: &Situation<'_>, now: Timestamp) -> Option<Cause> {
    let refuse = |code: &str, sentence: String| Some(Cause::new(code, sentence));
    if let Some(open) = around.runs.iter().find(|run| run.state.is_open()) {
        return refuse("run_open", format!("run {} of this model is under way already", open.id));
    }
    if why.author().is_some() {
        return None;
    }
    let Some(policy) = policy else {
        return refuse(
            "no_policy",
            "the model has no retrain policy; set one or start a run by hand".to_owned(),
        );
    };
    if !policy.enabled {
        return refuse("disabled", "the model's retrain policy is disabled".to_owned());
    }
    if let Some(answer) = answered(why, around.runs) {
        return refuse("answered", format!("run {} has answered the same trigger", answer.id));
    }
    if let Some(incident) = &around.bad_data {
        let sentence = format!("{incident} says that data are wrong; a model must not learn from them");
        return refuse("bad_data", sentence);
    }
    if !policy.guards.during_rollout
        && let Some(rollout) = &around.rollout
    {
        return refuse("rollout_open", format!("{rollout} of this model is under way"));
    }
    let cooldown = Duration::from_secs(policy.cooldown_s);
    if let Some(last) = around.runs.iter().map(|run| run.created).max()
        && now < last.plus(cooldown)
    {
        return refuse(
            "cooldown",
            format!("the last run began {last}; the cooldown ends {}", last.plus(cooldown)),
        );
    }
    let this_week = around.runs.iter().filter(|run| now.since(run.created).as_secs() < WEEK_S).count();
    if this_week >= policy.runs_per_week_max as usize {
        return refuse("budget", format!("{this_week} runs within a week, as many as the policy allows"));
    }
    if let Some(until) = policy.guards.blackout_until(now) {
        return refuse("blackout", format!("the policy lets no run begin now; the blackout ends {until}"));
    }
    match (why, around.new_rows) {
        (Why::Schedule { .. }, Some(0)) => {
            refuse("nothing_new", "nothing new was seen since the last run".to_owned())
        }
        (_, Some(rows)) if rows < policy.guards.min_new_rows => refuse(
            "few_rows",
            format!("{rows} new rows were seen; the policy asks for {}", policy.guards.min_new_rows),
        ),
        (_, Some(_) | None) => None,
    }
}

/// A run that dealt with the same reference and incident, and whose end was an answer.
fn answered<'a>(why: &Why, runs: &'a [Run]) -> Option<&'a Run> {
    why.incident()?;
    runs.iter().find(|run| {
        let is_answer = match &run.state {
            RunState::Published { .. } | RunState::Rejected { .. } => true,
            RunState::Collecting { .. }
            | RunState::Queued { .. }
            | RunState::Claimed { .. }
            | RunState::Candidate { .. }
            | RunState::Failed { .. }
            | RunState::Cancelled { .. } => false,
        };
        is_answer && run.why.key() == why.key()
    })
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::{RunId, TriggerId};

    use super::super::{Guards, LabelPolicy, Moment, RolloutPolicy, Trigger, TriggerOutcome};
    use super::*;
    use crate::retrain::Approval;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_seconds(hours * 3600)
    }

    fn policy() -> Policy {
        Policy {
            model: "er".parse().unwrap(),
            enabled: true,
            drift_share: 0.2,
            cooldown_s: 24 * 3600,
            min_data_s: 48 * 3600,
            runs_per_week_max: 2,
            labels: LabelPolicy::default(),
            schedule: None,
            volume: None,
            guards: Guards::default(),
            approval: Approval::None,
            rollout: RolloutPolicy::Manual,
        }
    }

    fn drift(incident: u8) -> Why {
        let incident = IncidentId::mint([incident; 16]);
        Why::Drift { incident, onset: at(0), streams: Vec::new(), bundle: None }
    }

    fn manual() -> Why {
        Why::Manual { by: "me".into(), reason: "test".into() }
    }

    fn run(created: i64) -> Run {
        let moment = Moment { at: at(created), world: at(created) };
        let trigger = Trigger {
            id: TriggerId::mint([2; 16]),
            model: "er".parse().unwrap(),
            at: at(created),
            why: drift(1),
            outcome: TriggerOutcome::Run { run: RunId::mint([3; 16]) },
            times: 1,
            last: None,
        };
        Run::new(RunId::mint([3; 16]), &trigger, at(created), Approval::None, moment)
    }

    fn ended(created: i64) -> Run {
        let mut run = run(created);
        run.cancel("me", "test", Moment { at: at(created), world: at(created) }).unwrap();
        run
    }

    fn refused(decision: &Decision) -> &str {
        match decision {
            Decision::Refuse(cause) => &cause.code,
            Decision::Run { .. } => "run",
        }
    }

    fn check(policy: Option<&Policy>, why: &Why, around: &Situation<'_>, now: i64, expect: &str) {
        assert_eq!(refused(&decide(policy, why, around, at(now))), expect);
    }

    #[test]
    fn triggers_are_decided() {
        let with = |runs: &[Run], policy: Option<&Policy>, now, expect: &str| {
            check(policy, &drift(9), &Situation { runs, ..Situation::default() }, now, expect);
        };
        let policy = policy();
        with(&[], Some(&policy), 10, "run");
        with(&[], None, 10, "no_policy");
        with(&[], Some(&Policy { enabled: false, ..policy.clone() }), 10, "disabled");
        with(&[run(1)], Some(&policy), 10, "run_open");
        with(&[ended(1)], Some(&policy), 10, "cooldown");
        with(&[ended(1), ended(30)], Some(&policy), 60, "budget");
        with(&[ended(1)], Some(&policy), 60, "run");
    }

    #[test]
    fn what_goes_on_around_the_model_holds_back_all_but_people() {
        let policy = policy();
        let rollout = Situation { rollout: Some(RolloutId::mint([4; 16])), ..Situation::default() };
        let broken = Situation { bad_data: Some(IncidentId::mint([5; 16])), ..Situation::default() };
        for (around, code) in [(&rollout, "rollout_open"), (&broken, "bad_data")] {
            check(Some(&policy), &drift(1), around, 10, code);
            check(Some(&policy), &manual(), around, 10, "run");
        }
        let guards = Guards { during_rollout: true, ..Guards::default() };
        check(Some(&Policy { guards, ..policy.clone() }), &drift(1), &rollout, 10, "run");
        // The epoch was a Thursday, and 10:00 is at work.
        let blackout = crate::rollout::calendar::Hours { windows: vec!["thu 09:00-11:00".parse().unwrap()] };
        let guards = Guards { blackout, ..Guards::default() };
        let policy = Policy { guards, ..policy };
        check(Some(&policy), &drift(1), &Situation::default(), 10, "blackout");
        check(Some(&policy), &drift(1), &Situation::default(), 11, "run");
    }

    #[test]
    fn a_run_needs_something_new_to_learn_from() {
        let guards = Guards { min_new_rows: 1000, ..Guards::default() };
        let policy = Policy { guards, ..policy() };
        let seen = |rows| Situation { new_rows: Some(rows), ..Situation::default() };
        check(Some(&policy), &drift(1), &seen(999), 10, "few_rows");
        check(Some(&policy), &drift(1), &seen(1000), 10, "run");
        check(Some(&policy), &Why::Schedule { due: at(10) }, &seen(0), 10, "nothing_new");
        check(Some(&policy), &Why::Schedule { due: at(10) }, &seen(1000), 10, "run");
    }

    #[test]
    fn the_same_incident_is_answered_once() {
        let mut answer = run(0);
        let cause = Cause::new("worse_on_recent", "worse");
        answer.state = RunState::Rejected { cause, evaluation: serde_json::Value::Null };
        let runs = [answer];
        let around = Situation { runs: &runs, ..Situation::default() };
        check(Some(&policy()), &drift(1), &around, 100, "answered");
        check(Some(&policy()), &drift(2), &around, 100, "run");
        let runs = [ended(0)];
        let around = Situation { runs: &runs, ..Situation::default() };
        check(Some(&policy()), &drift(1), &around, 100, "run");
    }

    #[test]
    fn it_waits_until_enough_of_the_new_world_was_seen() {
        let around = Situation::default();
        let decided = |policy: Option<&Policy>, why: &Why, now| decide(policy, why, &around, at(now));
        let policy = policy();
        assert_eq!(decided(Some(&policy), &drift(1), 10), Decision::Run { not_before: at(48) });
        assert_eq!(decided(Some(&policy), &drift(1), 60), Decision::Run { not_before: at(60) });
        assert_eq!(decided(None, &manual(), 10), Decision::Run { not_before: at(10) });
    }
}

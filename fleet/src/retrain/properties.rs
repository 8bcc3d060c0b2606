//! What holds for any storm of triggers: at most one open run of a model, no refusal without a reason, one run for a storm.

use muster_protocol::ids::{IncidentId, ModelName, RunId, TriggerId};
use muster_protocol::time::Timestamp;
use proptest::prelude::*;

use super::*;

const MINUTE_MS: i64 = 60_000;

fn policy(cooldown_h: u64) -> Policy {
    Policy {
        model: model(),
        enabled: true,
        drift_share: 0.2,
        cooldown_s: cooldown_h * 3600,
        min_data_s: 0,
        runs_per_week_max: 7,
        labels: LabelPolicy::default(),
        schedule: None,
        volume: None,
        guards: Guards::default(),
        approval: Approval::None,
        rollout: RolloutPolicy::Manual,
    }
}

fn model() -> ModelName {
    "er".parse().unwrap()
}

fn moment(ms: i64) -> Moment {
    Moment { at: Timestamp::from_millis(ms), world: Timestamp::from_millis(ms) }
}

fn drift(incident: u8, onset_ms: i64) -> Why {
    let incident = IncidentId::mint([incident; 16]);
    Why::Drift { incident, onset: Timestamp::from_millis(onset_ms), streams: Vec::new(), bundle: None }
}

/// The store's part, in memory: what was decided is kept.
#[derive(Default)]
struct Kept {
    runs: Vec<Run>,
    triggers: Vec<Trigger>,
}

impl Kept {
    fn ask(&mut self, policy: &Policy, why: Why, now: Moment) {
        let around = Situation { runs: &self.runs, ..Situation::default() };
        let number = u8::try_from(self.runs.len()).unwrap();
        let outcome = match decide(Some(policy), &why, &around, now.world) {
            Decision::Refuse(cause) => {
                if self.triggers.iter_mut().any(|known| known.count(&why, &cause, now.world)) {
                    return;
                }
                TriggerOutcome::Refused { cause }
            }
            Decision::Run { .. } => TriggerOutcome::Run { run: RunId::mint([number; 16]) },
        };
        let id = TriggerId::mint([0; 16]);
        let trigger = Trigger { id, model: model(), at: now.world, why, outcome, times: 1, last: None };
        if let TriggerOutcome::Run { run } = &trigger.outcome {
            self.runs.push(Run::new(run.clone(), &trigger, now.world, policy.approval, now));
        }
        self.triggers.push(trigger);
    }

    fn asked(&self) -> u64 {
        self.triggers.iter().map(|trigger| trigger.times).sum()
    }
}

/// What may happen to a model, minute by minute.
#[derive(Clone, Debug)]
enum Event {
    Drift(u8),
    Manual(u8),
    Claim,
    Finish(bool),
    Cancel,
    Tick,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5_u8).prop_map(Event::Drift),
        1 => (0..3_u8).prop_map(Event::Manual),
        2 => Just(Event::Claim),
        2 => any::<bool>().prop_map(Event::Finish),
        1 => Just(Event::Cancel),
        1 => Just(Event::Tick),
    ]
}

fn live(kept: &mut Kept, policy: &Policy, event: &Event, now: Moment) {
    let Some(run) = kept.runs.last_mut() else {
        if let Event::Drift(incident) = event {
            kept.ask(policy, drift(*incident, 0), now);
        }
        return;
    };
    match event {
        Event::Drift(incident) => kept.ask(policy, drift(*incident, 0), now),
        Event::Manual(who) => {
            kept.ask(policy, Why::Manual { by: who.to_string(), reason: String::new() }, now);
        }
        Event::Claim => drop(run.claim("b", now)),
        Event::Finish(well) => {
            let cause = crate::rollout::Cause::new("x", "x");
            let end = if *well {
                RunEnd::Rejected { cause, evaluation: serde_json::Value::Null }
            } else {
                RunEnd::Failed { cause }
            };
            let _refused = run.finish("b", end, Vec::new(), now);
        }
        Event::Cancel => drop(run.cancel("me", "", now)),
        Event::Tick => _ = run.tick(now),
    }
}

proptest! {
    #[test]
    fn a_model_never_has_two_open_runs_and_no_answer_is_lost(
        events in prop::collection::vec((event(), 0..2000_i64), 1..120),
        cooldown_h in 1..48_u64,
    ) {
        let (mut kept, mut minutes, mut asked) = (Kept::default(), 0, 0);
        let policy = policy(cooldown_h);
        for (event, later) in &events {
            minutes += later;
            let before = kept.asked();
            live(&mut kept, &policy, event, moment(minutes * MINUTE_MS));
            asked += kept.asked() - before;
            prop_assert!(kept.runs.iter().filter(|run| run.state.is_open()).count() <= 1);
        }
        prop_assert_eq!(asked, kept.asked());
        for trigger in &kept.triggers {
            match &trigger.outcome {
                TriggerOutcome::Run { run } => prop_assert!(kept.runs.iter().any(|known| known.id == *run)),
                TriggerOutcome::Refused { cause } => {
                    prop_assert!(!cause.code.is_empty() && !cause.sentence.is_empty());
                }
            }
        }
        // By themselves, runs keep their distance.
        let by_itself: Vec<_> =
            kept.runs.iter().filter(|run| run.why.author().is_none()).map(|run| run.created).collect();
        for pair in by_itself.windows(2) {
            prop_assert!(pair[1].since(pair[0]).as_secs() >= policy.cooldown_s);
        }
    }

    #[test]
    fn a_thousand_alarms_within_a_minute_are_one_run(
        incidents in prop::collection::vec(0..200_u8, 1000),
        ends in 0..1000_usize,
    ) {
        let mut kept = Kept::default();
        let policy = policy(24);
        for (number, incident) in incidents.iter().enumerate() {
            let now = moment(i64::try_from(number).unwrap() * 60);
            kept.ask(&policy, drift(*incident, 0), now);
            if number == ends {
                kept.runs[0].cancel("me", "", now).unwrap();
            }
        }
        prop_assert_eq!(kept.runs.len(), 1);
        prop_assert_eq!(kept.asked(), 1000);
        // One row for each incident and reason, not one for each alarm.
        prop_assert!(kept.triggers.len() <= 1 + 2 * 200);
    }
}

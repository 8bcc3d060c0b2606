//! The record of one rollout that stands without the server: who asked and why, what ran where and when, each verdict with
//! what it was computed from. Whoever holds it can do the sums again.
//!
//! ```text
//!   signed { _type: evidence, record: "…" } ─▶ signature ─▶ sums ─▶ verdicts, by the gate's own code ─▶ history lived again
//! ```
//! The record travels as text inside the signed part: canonical JSON knows no fractions, and the arithmetic is full of them.
//!
//! Pure: the envelope is checked by whoever read it.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::{DeviceId, RolloutId};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::{Entry, Replay};
use super::{Actor, FleetView, Members, Phase, Rollout, StageEnd, StagePlan, StageRecord, advance};
use crate::gate::{self, GateReport, Verdict};

pub const TYPE: &str = "evidence";
pub const SPEC_VERSION: &str = "1.0.0";
/// Longest file that is read.
pub const BYTES_MAX: usize = 1 << 30;

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    #[serde(rename = "_type")]
    pub type_: String,
    pub spec_version: String,
    pub rollout: RolloutId,
    /// Real time.
    pub made: Timestamp,
    /// A [`Pack`] as JSON text.
    pub record: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// World time at which `members` and `view` were so.
    pub seen: Timestamp,
    /// Author, reason, approvals, plan, bundle, and each stage with its gate's newest answer.
    pub rollout: Rollout,
    /// What became of each device, and when.
    pub members: Members,
    /// Members in each state of progress.
    pub counts: BTreeMap<String, usize>,
    /// What the engine saw when the pack was made: the inputs of the gate's newest answer.
    pub view: FleetView,
    /// The gate's answer to that, if the rollout was being judged.
    pub gate: Option<GateReport>,
    /// What people, policies and the fleet did, the oldest first.
    pub acts: Vec<Act>,
    /// Where somebody went on against or without a gate, in words.
    pub deviations: Vec<String>,
    /// Everything that the engine was told, if the server kept it in full.
    pub journal: Option<Vec<Entry>>,
    /// What was foreseen when it began.
    pub forecast: Option<super::forecast::Forecast>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Real time.
    pub at: Timestamp,
    pub world_at: Timestamp,
    pub kind: String,
    pub by: String,
    pub sentence: String,
}

/// What was looked at, and what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub checked: Vec<String>,
    pub differs: Vec<String>,
}

impl Pack {
    pub fn of(
        (rollout, members): (Rollout, Members),
        mut view: FleetView,
        seen: Timestamp,
        acts: Vec<Act>,
        journal: Option<Vec<Entry>>,
        forecast: Option<super::forecast::Forecast>,
    ) -> Self {
        // Whoever is not part of it is nobody's business, but for the controls that the gate compares with.
        let selector = rollout.plan.selector.clone();
        view.devices.retain(|id, device| members.contains_key(id) || selector.matches(&device.traits(id)));
        let gate = advance(&rollout, &members, &view, seen).gate;
        Self {
            seen,
            counts: counts(&members),
            gate,
            deviations: deviations(&rollout),
            rollout,
            members,
            view,
            acts,
            journal,
            forecast,
        }
    }

    /// Does all sums again.
    pub fn verify(&self) -> Findings {
        let mut found = Findings::default();
        self.check_sums(&mut found);
        self.check_approvals(&mut found);
        self.check_stages(&mut found);
        self.check_gate(&mut found);
        self.check_history(&mut found);
        found
    }

    fn check_sums(&self, found: &mut Findings) {
        let sums = counts(&self.members);
        found.that(sums == self.counts, &format!("counts over {} devices", self.members.len()), || {
            format!("counts are recorded as {:?}, and the devices make {sums:?}", self.counts)
        });
        let stages = self.rollout.plan.stages.len();
        let stray: Vec<&DeviceId> =
            self.members.iter().filter(|(_, member)| member.stage >= stages).map(|(id, _)| id).collect();
        found.that(stray.is_empty(), "each device belongs to a stage of the plan", || {
            format!("devices of stages that the plan has not: {stray:?}")
        });
        found.that(self.rollout.stages.len() == stages, "each stage has its record", || {
            format!("{} records for {stages} stages", self.rollout.stages.len())
        });
    }

    fn check_approvals(&self, found: &mut Findings) {
        let author = match &self.rollout.started_by {
            Actor::Person { name } => Some(name.as_str()),
            Actor::Policy { .. } | Actor::Engine => None,
        };
        let names: BTreeSet<&str> = self
            .rollout
            .approvals
            .iter()
            .map(|yes| yes.by.as_str())
            .filter(|name| Some(*name) != author)
            .collect();
        let begun = match &self.rollout.phase {
            Phase::Proposed { .. } => false,
            // One may be given up before anybody said yes.
            Phase::Aborting { .. } | Phase::Aborted { .. } | Phase::Superseded { .. } => {
                self.rollout.stages.first().is_some_and(|stage| stage.opened.is_some())
            }
            Phase::Scheduled { .. }
            | Phase::Running { .. }
            | Phase::Paused { .. }
            | Phase::Held { .. }
            | Phase::RollingBack { .. }
            | Phase::RolledBack { .. }
            | Phase::Completed { .. } => true,
        };
        let needed = usize::from(self.rollout.plan.approvals_min);
        found.that(
            !begun || names.len() >= needed,
            &format!("approved by {} of {needed}", names.len()),
            || {
                format!(
                    "it began with the yes of {} people other than its author, and its plan demands {needed}",
                    names.len()
                )
            },
        );
    }

    fn check_stages(&self, found: &mut Findings) {
        for (plan, record) in self.rollout.plan.stages.iter().zip(&self.rollout.stages) {
            let name = &plan.name;
            if let Some(gate) = &record.gate {
                let worst =
                    gate.layers.iter().map(|layer| layer.verdict).max().unwrap_or(Verdict::Insufficient);
                found.that(
                    worst == gate.verdict,
                    &format!("stage '{name}': the verdict is its worst layer's"),
                    || {
                        format!(
                            "stage '{name}': recorded as {:?}, and its layers say {worst:?}",
                            gate.verdict
                        )
                    },
                );
            }
            Self::check_decision(plan, record, found);
            let decided = record.decision.as_ref().map(|decision| decision.report.verdict);
            let verdict = decided.or(record.gate.as_ref().map(|gate| gate.verdict));
            match &record.closed {
                // A person's promotion needs no verdict.
                None | Some(StageEnd::Promoted { .. }) => {}
                Some(StageEnd::Passed { .. }) => {
                    found.that(
                        verdict == Some(Verdict::Pass),
                        &format!("stage '{name}' passed by its gate"),
                        || format!("stage '{name}' is recorded as passed, and its gate said {verdict:?}"),
                    );
                }
                Some(StageEnd::Failed { .. }) => {
                    found.that(
                        verdict == Some(Verdict::Fail),
                        &format!("stage '{name}' failed by its gate"),
                        || format!("stage '{name}' is recorded as failed, and its gate said {verdict:?}"),
                    );
                }
            }
        }
        let deviations = deviations(&self.rollout);
        found.that(deviations == self.deviations, &format!("deviations told: {}", deviations.len()), || {
            format!("told as {:?}, and the stages say {deviations:?}", self.deviations)
        });
    }

    /// Asks the gate again what it was asked when the stage was decided.
    fn check_decision(plan: &StagePlan, record: &StageRecord, found: &mut Findings) {
        let name = &plan.name;
        let Some(decision) = &record.decision else { return };
        let Some(evidence) = &decision.evidence else {
            let what =
                format!("stage '{name}': too many devices to keep its evidence here; the history has it");
            found.checked.push(what);
            return;
        };
        let again = gate::judge(evidence, &plan.gate, decision.report.asked_at);
        let what =
            format!("stage '{name}': its decision, computed again from {} devices", evidence.exposed.len());
        found.that(again == decision.report, &what, || {
            format!(
                "stage '{name}': decided on {}, and its evidence gives {}",
                told(Some(&decision.report)),
                told(Some(&again))
            )
        });
    }

    fn check_gate(&self, found: &mut Findings) {
        let again = advance(&self.rollout, &self.members, &self.view, self.seen).gate;
        let what =
            if self.gate.is_some() { "the gate's answer computed again" } else { "no gate was being asked" };
        found.that(again == self.gate, what, || {
            format!(
                "the gate's answer is recorded as {}, and its inputs give {}",
                told(self.gate.as_ref()),
                told(again.as_ref())
            )
        });
    }

    fn check_history(&self, found: &mut Findings) {
        let Some(journal) = &self.journal else {
            found.checked.push("no history is included: verdicts of stages before are believed".to_owned());
            return;
        };
        let mut replay = Replay::default();
        for entry in journal {
            if let Err(error) = replay.follow(entry) {
                found.differs.push(format!("history: {error}"));
                return;
            }
        }
        let same = replay.rollout.as_ref() == Some(&self.rollout) && replay.members == self.members;
        found.that(
            same,
            &format!("history lived again: {} entries, every verdict with them", journal.len()),
            || "history leads to another rollout than the one recorded".to_owned(),
        );
    }
}

impl Findings {
    fn that(&mut self, holds: bool, what: &str, differs: impl FnOnce() -> String) {
        if holds { self.checked.push(what.to_owned()) } else { self.differs.push(differs()) }
    }
}

fn counts(members: &Members) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for member in members.values() {
        *counts.entry(member.progress.name().to_owned()).or_insert(0) += 1;
    }
    counts
}

fn deviations(rollout: &Rollout) -> Vec<String> {
    let mut told = Vec::new();
    for (plan, record) in rollout.plan.stages.iter().zip(&rollout.stages) {
        if let Some(StageEnd::Promoted { at, by, reason }) = &record.closed {
            let who = match by {
                Actor::Person { name } => name.as_str(),
                Actor::Policy { .. } => "a policy",
                Actor::Engine => "the engine",
            };
            told.push(format!("{at}: {who} let stage '{}' pass without its gate: {reason}", plan.name));
        }
    }
    told
}

fn told(gate: Option<&GateReport>) -> String {
    gate.map_or_else(
        || "none".to_owned(),
        |gate| {
            let layers = gate.layers.iter().map(|layer| {
                let measured = layer.measured.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
                format!("{:?} {:?} at {measured}", layer.layer, layer.verdict)
            });
            format!("{:?} ({})", gate.verdict, layers.collect::<Vec<_>>().join(", "))
        },
    )
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::Digest;
    use muster_protocol::message::up::BundleRef;

    use super::super::journal::{Change, Input, outcome};
    use super::super::plan::tests::plan;
    use super::super::view::DeviceView;
    use super::super::{Size, Verb};
    use super::*;

    fn bundle() -> BundleRef {
        BundleRef { path: "bundles/er/2.json".parse().unwrap(), sha256: Digest::of(b"2") }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(hours * 3_600_000)
    }

    /// A rollout lived by the real engine for a while: asked, activated, judged, its stage passed by a person.
    fn lived() -> Pack {
        let by = Actor::Person { name: "ada".to_owned() };
        let mut rollout = Rollout::start(
            RolloutId::mint([7; 16]),
            ("er".parse().unwrap(), "er".parse().unwrap()),
            bundle(),
            plan(&[Size::Count(1), Size::Percent(100.0)]),
            (by, "winter".to_owned()),
            at(0),
        )
        .unwrap();
        let mut members = Members::new();
        let mut view = FleetView::default();
        for n in 0..4 {
            view.devices.insert(DeviceId::mint([n; 16]), DeviceView::at("er-1".parse().unwrap()));
        }
        let mut before = FleetView::default();
        let mut journal = vec![Entry {
            at: at(0),
            input: Input::Begun { rollout: Box::new(rollout.clone()) },
            outcome: outcome(&rollout, &Members::new()),
        }];
        for hour in 1..5 {
            let answer = advance(&rollout, &members, &view, at(hour));
            rollout.apply(&mut members, &answer);
            let change = Change::between(&before, &view);
            journal.push(Entry {
                at: at(hour),
                input: Input::Looked { change },
                outcome: outcome(&rollout, &answer.members),
            });
            before = view.clone();
            for assignment in &answer.assign {
                let device = view.devices.get_mut(&assignment.device).unwrap();
                device.wish.clone_from(&assignment.bundle);
                device.current.clone_from(&assignment.bundle);
                device.evidence.hours = 2.0;
            }
        }
        let nadia = Actor::Person { name: "nadia".to_owned() };
        rollout.act(Verb::Promote, nadia.clone(), "seen on the ward", at(6)).unwrap();
        journal.push(Entry {
            at: at(6),
            input: Input::Acted { verb: Verb::Promote, by: nadia, reason: "seen on the ward".to_owned() },
            outcome: outcome(&rollout, &Members::new()),
        });
        Pack::of((rollout, members), view, at(7), Vec::new(), Some(journal), None)
    }

    fn differs(edit: impl FnOnce(&mut Pack)) -> String {
        let mut pack = lived();
        edit(&mut pack);
        pack.verify().differs.join("; ")
    }

    #[test]
    fn what_was_lived_holds() {
        let text = serde_json::to_string(&lived()).unwrap();
        let back: Pack = serde_json::from_str(&text).unwrap();
        let found = back.verify();
        assert_eq!(found.differs, Vec::<String>::new());
        assert!(found.checked.iter().any(|what| what.contains("6 entries")), "{found:?}");
        assert_eq!(back.deviations.len(), 1, "{:?}", back.deviations);
        assert!(back.gate.is_some());
    }

    #[test]
    fn altered_arithmetic_is_found() {
        let measured = |pack: &mut Pack| pack.gate.as_mut().unwrap().layers[0].n += 1;
        assert!(differs(measured).contains("the gate's answer is recorded as"));
        let inputs = |pack: &mut Pack| {
            let view = &mut pack.view;
            view.devices.values_mut().for_each(|device| device.evidence.failed_hours = 1.0);
        };
        assert!(differs(inputs).contains("its inputs give"));
        let verdict = |pack: &mut Pack| pack.rollout.stages[0].gate.as_mut().unwrap().verdict = Verdict::Fail;
        assert!(differs(verdict).contains("its layers say"));
    }

    #[test]
    fn altered_sums_acts_and_history_are_found() {
        assert!(differs(|pack| drop(pack.members.pop_first())).contains("counts are recorded as"));
        assert!(differs(|pack| pack.deviations.clear()).contains("the stages say"));
        assert!(differs(|pack| pack.rollout.plan.approvals_min = 2).contains("demands 2"));
        assert!(
            differs(|pack| "summer".clone_into(&mut pack.rollout.reason))
                .contains("history leads to another")
        );
        assert!(differs(|pack| drop(pack.journal.as_mut().unwrap().remove(2))).contains("history: entry"));
        let closed = |pack: &mut Pack| pack.rollout.stages[0].closed = Some(StageEnd::Passed { at: at(6) });
        assert!(differs(closed).contains("recorded as passed"));
    }
}

//! What the runs have seen: every state, every transition, every verb in every phase, every layer's every answer.

use std::collections::BTreeMap;
use std::fmt::Write;

use muster_fleet::gate::{Layer, Verdict};
use muster_fleet::rollout::{Rollout, Verb};

use crate::invariants::Look;

type Counts<K> = BTreeMap<K, u64>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) phases: Counts<&'static str>,
    pub(crate) steps: Counts<(&'static str, &'static str)>,
    pub(crate) progress: Counts<&'static str>,
    pub(crate) moves: Counts<(&'static str, &'static str)>,
    pub(crate) verbs: Counts<(&'static str, &'static str, bool)>,
    pub(crate) layers: Counts<(&'static str, &'static str)>,
}

impl Coverage {
    pub(crate) fn phase(&mut self, rollout: &Rollout) {
        *self.phases.entry(rollout.phase.name()).or_default() += 1;
    }

    pub(crate) fn look(&mut self, look: &Look<'_>) {
        if look.answer.transition.is_some() {
            self.step(look.before, look.after);
        }
        for (id, member) in &look.answer.members {
            let is = member.progress.name();
            let was = look.members_before.get(id).map_or("(new)", |member| member.progress.name());
            if was != is {
                *self.progress.entry(is).or_default() += 1;
                *self.moves.entry((was, is)).or_default() += 1;
            }
        }
        let layers = look.answer.gate.iter().flat_map(|gate| &gate.layers);
        for layer in layers.filter(|layer| layer.applies) {
            let verdict = match layer.verdict {
                Verdict::Pass => "pass",
                Verdict::Insufficient => "insufficient",
                Verdict::Fail => "fail",
            };
            *self.layers.entry((layer.layer.name(), verdict)).or_default() += 1;
        }
    }

    pub(crate) fn step(&mut self, before: &Rollout, after: &Rollout) {
        self.phase(after);
        let (was, is) = (before.phase.name(), after.phase.name());
        *self.steps.entry((was, is)).or_default() += 1;
    }

    pub(crate) fn verb(&mut self, verb: Verb, phase: &'static str, accepted: bool) {
        *self.verbs.entry((phase, verb.as_str(), accepted)).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        add(&mut self.phases, other.phases);
        add(&mut self.steps, other.steps);
        add(&mut self.progress, other.progress);
        add(&mut self.moves, other.moves);
        add(&mut self.verbs, other.verbs);
        add(&mut self.layers, other.layers);
    }

    /// Everything with its count.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut part = |title: &str, rows: Vec<(String, u64)>| {
            let _ = writeln!(text, "{title}");
            for (what, count) in rows {
                let _ = writeln!(text, "  {count:>12}  {what}");
            }
        };
        part("phases", self.phases.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect());
        let arrow = |((a, b), n): (&(&str, &str), &u64)| (format!("{a} -> {b}"), *n);
        part("phase transitions", self.steps.iter().map(arrow).collect());
        part("progress of devices", self.progress.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect());
        part("moves of devices", self.moves.iter().map(arrow).collect());
        let verb = |((phase, verb, ok), n): (&(&str, &str, bool), &u64)| {
            (format!("{verb} while {phase}: {}", if *ok { "done" } else { "refused" }), *n)
        };
        part("verbs", self.verbs.iter().map(verb).collect());
        part("gate layers", self.layers.iter().map(|((l, v), n)| (format!("{l}: {v}"), *n)).collect());
        text
    }

    /// What should have been seen and was not.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let phases = PHASES.iter().filter(|name| !self.phases.contains_key(*name));
        missing.extend(phases.map(|name| format!("phase {name}")));
        let steps = STEPS.iter().filter(|step| !self.steps.contains_key(*step));
        missing.extend(steps.map(|(a, b)| format!("phase {a} -> {b}")));
        let progress = PROGRESS.iter().filter(|name| !self.progress.contains_key(*name));
        missing.extend(progress.map(|name| format!("device {name}")));
        let moves = MOVES.iter().filter(|step| !self.moves.contains_key(*step));
        missing.extend(moves.map(|(a, b)| format!("device {a} -> {b}")));
        for phase in PHASES {
            for verb in VERBS {
                let seen =
                    [true, false].iter().any(|ok| self.verbs.contains_key(&(*phase, verb.as_str(), *ok)));
                if !seen {
                    missing.push(format!("{} while {phase}", verb.as_str()));
                }
            }
        }
        for layer in LAYERS.iter().map(|layer| layer.name()) {
            for verdict in ["pass", "insufficient", "fail"] {
                let never = NEVER.contains(&(layer, verdict));
                if !never && !self.layers.contains_key(&(layer, verdict)) {
                    missing.push(format!("layer {layer}: {verdict}"));
                }
            }
        }
        missing
    }
}

fn add<K: Ord>(into: &mut Counts<K>, from: Counts<K>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

pub(crate) const VERBS: &[Verb] =
    &[Verb::Approve, Verb::Pause, Verb::Resume, Verb::Promote, Verb::Retry, Verb::Abort, Verb::Rollback];

const PHASES: &[&str] = &[
    "proposed",
    "scheduled",
    "running",
    "paused",
    "held",
    "rolling_back",
    "rolled_back",
    "aborting",
    "aborted",
    "superseded",
    "completed",
];

const STEPS: &[(&str, &str)] = &[
    ("proposed", "running"),
    ("proposed", "scheduled"),
    ("scheduled", "running"),
    ("running", "running"),
    ("running", "paused"),
    ("running", "held"),
    ("running", "rolling_back"),
    ("running", "aborting"),
    ("running", "completed"),
    ("running", "superseded"),
    ("paused", "running"),
    ("paused", "rolling_back"),
    ("paused", "aborting"),
    ("held", "running"),
    ("held", "rolling_back"),
    ("held", "aborting"),
    ("aborting", "aborted"),
    ("rolling_back", "rolled_back"),
    ("completed", "rolling_back"),
    ("completed", "held"),
];

const PROGRESS: &[&str] = &[
    "waiting",
    "excluded",
    "offered",
    "ready",
    "permitted",
    "baking",
    "done",
    "failed",
    "reverted",
    "returning",
    "returned",
];

const MOVES: &[(&str, &str)] = &[
    ("(new)", "waiting"),
    ("waiting", "offered"),
    ("waiting", "permitted"),
    ("waiting", "excluded"),
    ("excluded", "waiting"),
    ("offered", "ready"),
    ("offered", "waiting"),
    ("offered", "failed"),
    ("ready", "permitted"),
    ("permitted", "ready"),
    ("permitted", "baking"),
    ("permitted", "failed"),
    ("permitted", "waiting"),
    ("baking", "done"),
    ("baking", "reverted"),
    ("done", "reverted"),
    ("failed", "waiting"),
    ("offered", "returning"),
    ("permitted", "returning"),
    ("baking", "returning"),
    ("done", "returning"),
    ("returning", "returned"),
];

const LAYERS: &[Layer] = &[
    Layer::HardStop,
    Layer::Install,
    Layer::Runtime,
    Layer::Silence,
    Layer::Latency,
    Layer::LatencyRise,
    Layer::MemoryRise,
    Layer::TemperatureRise,
    Layer::PairedError,
    Layer::Shadow,
    Layer::Coverage,
];

/// Answers that a layer cannot give: a kind of box that was not heard condemns nothing.
const NEVER: &[(&str, &str)] = &[("coverage", "fail")];

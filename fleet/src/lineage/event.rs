//! A training run's or a rollout's beginning and end as `OpenLineage` events: which job, out of which data, into which.
//!
//! ```text
//!   train.MODEL     datasets ──▶ models/MODEL            claimed · succeeded, rejected · failed · cancelled
//!   rollout.MODEL   models/MODEL ──▶ slots/SLOT          started · completed · rolled back · aborted, superseded
//! ```
//! A dataset's version is the SHA-256 of its content, a model's that of its manifest, so that two systems that never met
//! agree on what they speak of. What has no facet in the standard is in facets of our own, under `muster_`, each with
//! the address of its schema (`docs/schemas/openlineage`).

use muster_protocol::ids::Digest;
use muster_protocol::manifest::{Evaluation, Manifest};
use muster_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::retrain::Run;
use crate::rollout::{Actor, Phase, Rollout};

/// Where the other side's words are defined.
const SPEC: &str = "https://openlineage.io/spec";
const EVENT: &str = "2-0-2/OpenLineage.json#/$defs/RunEvent";
const PRODUCER: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/tree/v", env!("CARGO_PKG_VERSION"));
const OWN: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/schemas/openlineage");

/// What happened, in the standard's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Start,
    /// It goes on: another builder took it over.
    Running,
    Complete,
    Fail,
    Abort,
    /// After its end, which the standard allows only once.
    Other,
}

/// What an event is told of beside its subject.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'a> {
    pub state: State,
    /// Real time.
    pub at: Timestamp,
    /// Under which jobs and data of ours are known; the owner's choice.
    pub namespace: &'a str,
    /// The manifest of the bundle that the run made, or that the rollout brings.
    pub bundle: Option<(&'a Digest, &'a Manifest)>,
    /// Why it ended badly.
    pub failure: Option<&'a str>,
}

/// A training run.
pub fn of_run(run: &Run, telling: &Telling<'_>) -> Value {
    let Telling { namespace, bundle, .. } = telling;
    let lineage = bundle.map(|(_, manifest)| &manifest.lineage);
    let inputs: Vec<Value> = lineage
        .iter()
        .flat_map(|lineage| &lineage.datasets)
        .map(|dataset| {
            let metrics = json!({"rowCount": dataset.rows, "columnMetrics": {}});
            let metrics = facet("facets/1-0-3/DataQualityMetricsInputDatasetFacet.json", metrics);
            let mut input = named(namespace, &dataset.name, &dataset.sha256);
            input["inputFacets"] = json!({ "dataQualityMetrics": metrics });
            input
        })
        .collect();
    let outputs: Vec<Value> =
        bundle.iter().map(|(sha256, manifest)| model(namespace, sha256, manifest)).collect();
    let mut facets = Map::new();
    let asked = json!({"run": run.id, "trigger": run.trigger, "model": run.model, "why": run.why});
    facets.insert("muster_trigger".to_owned(), own("MusterTriggerRunFacet", asked));
    event(telling, (run.id.as_str(), job_of_run(run)), facets, (inputs, outputs))
}

/// A rollout.
pub fn of_rollout(rollout: &Rollout, telling: &Telling<'_>) -> Value {
    let Telling { namespace, bundle, .. } = telling;
    let sha256 = &rollout.bundle.sha256;
    let input = match bundle {
        Some((sha256, manifest)) => model(namespace, sha256, manifest),
        None => named(namespace, &format!("models/{}", rollout.model), sha256),
    };
    let output = named(namespace, &format!("slots/{}", rollout.slot), sha256);
    let stages: Vec<Value> = rollout
        .plan
        .stages
        .iter()
        .zip(&rollout.stages)
        .map(|(stage, record)| {
            let verdict = record.gate.as_ref().map(|gate| gate.verdict);
            json!({"name": stage.name, "gate": verdict})
        })
        .collect();
    let (by, trigger) = match &rollout.started_by {
        Actor::Person { name } => (name.as_str(), None),
        Actor::Policy { trigger } => ("policy", trigger.as_ref()),
        Actor::Engine => ("fleet", None),
    };
    let told = json!({
        "rollout": rollout.id, "bundle": rollout.bundle.path, "sha256": sha256, "slot": rollout.slot,
        "phase": rollout.phase.name(), "startedBy": by, "reason": rollout.reason, "trigger": trigger,
        "stages": stages,
    });
    let mut facets = Map::new();
    facets.insert("muster_rollout".to_owned(), own("MusterRolloutRunFacet", told));
    let made_by = bundle.and_then(|(_, manifest)| manifest.lineage.run.as_ref());
    if let Some(run) = made_by.filter(|_| trigger.is_some()) {
        let parent = json!({
            "run": {"runId": uuid(run.as_str())},
            "job": {"namespace": namespace, "name": format!("train.{}", rollout.model)},
        });
        facets.insert("parent".to_owned(), facet("facets/1-2-0/ParentRunFacet.json", parent));
    }
    let job = format!("rollout.{}", rollout.model);
    event(telling, (rollout.id.as_str(), job), facets, (vec![input], vec![output]))
}

/// Why a rollout ended badly, if it did.
pub fn failure(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::Held { cause, .. } | Phase::RollingBack { cause, .. } | Phase::RolledBack { cause, .. } => {
            Some(&cause.sentence)
        }
        Phase::Aborting { reason, .. } | Phase::Aborted { reason, .. } => Some(reason),
        Phase::Proposed { .. }
        | Phase::Scheduled { .. }
        | Phase::Running { .. }
        | Phase::Paused { .. }
        | Phase::Superseded { .. }
        | Phase::Completed { .. } => None,
    }
}

fn job_of_run(run: &Run) -> String {
    format!("train.{}", run.model)
}

fn event(
    telling: &Telling<'_>,
    (id, job): (&str, String),
    mut facets: Map<String, Value>,
    (inputs, outputs): (Vec<Value>, Vec<Value>),
) -> Value {
    let state = match telling.state {
        State::Start => "START",
        State::Running => "RUNNING",
        State::Complete => "COMPLETE",
        State::Fail => "FAIL",
        State::Abort => "ABORT",
        State::Other => "OTHER",
    };
    let engine = json!({"name": "muster", "version": env!("CARGO_PKG_VERSION")});
    facets
        .insert("processing_engine".to_owned(), facet("facets/1-1-1/ProcessingEngineRunFacet.json", engine));
    if let Some(failure) = telling.failure.filter(|failure| !failure.is_empty()) {
        let message = json!({"message": failure, "programmingLanguage": "Rust"});
        facets.insert("errorMessage".to_owned(), facet("facets/1-0-1/ErrorMessageRunFacet.json", message));
    }
    let kind = json!({"processingType": "BATCH", "integration": "MUSTER", "jobType": "JOB"});
    json!({
        "eventType": state,
        "eventTime": telling.at,
        "producer": PRODUCER,
        "schemaURL": format!("{SPEC}/{EVENT}"),
        "run": {"runId": uuid(id), "facets": facets},
        "job": {
            "namespace": telling.namespace,
            "name": job,
            "facets": {"jobType": facet("facets/2-0-4/JobTypeJobFacet.json", kind)},
        },
        "inputs": inputs,
        "outputs": outputs,
    })
}

/// A model's version as a dataset, with how it did before it was signed.
fn model(namespace: &str, sha256: &Digest, manifest: &Manifest) -> Value {
    let mut model = named(namespace, &format!("models/{}", manifest.model), sha256);
    let mut told = json!({
        "version": manifest.version, "sizeBytes": manifest.total_bytes(),
        "variants": manifest.variants.iter().map(|variant| &variant.id).collect::<Vec<_>>(),
    });
    if let Some(evaluation) = &manifest.evaluation {
        told["evaluation"] = figures(evaluation);
    }
    if let Some(champion) = &manifest.lineage.champion {
        told["champion"] = json!(champion);
    }
    model["facets"]["muster_model"] = own("MusterModelDatasetFacet", told);
    model
}

fn figures(evaluation: &Evaluation) -> Value {
    let sets = evaluation.sets.iter().map(|set| {
        let mut told = json!({"name": set.name, "rows": set.rows, "challenger": set.challenger});
        if let Some(champion) = set.champion {
            told["champion"] = json!(champion);
        }
        told
    });
    json!({"metric": evaluation.metric, "sets": sets.collect::<Vec<_>>()})
}

fn named(namespace: &str, name: &str, version: &Digest) -> Value {
    let version = json!({"datasetVersion": format!("sha256:{version}")});
    json!({
        "namespace": namespace,
        "name": name,
        "facets": {"version": facet("facets/1-0-1/DatasetVersionDatasetFacet.json", version)},
    })
}

/// A facet of the standard: its file, whose name says what is in it.
fn facet(file: &str, content: Value) -> Value {
    let name = file.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    signed(&format!("{SPEC}/{file}#/$defs/{name}"), content)
}

/// A facet of our own.
fn own(name: &str, content: Value) -> Value {
    signed(&format!("{OWN}/{name}.json#/$defs/{name}"), content)
}

fn signed(schema: &str, mut content: Value) -> Value {
    content["_producer"] = json!(PRODUCER);
    content["_schemaURL"] = json!(schema);
    content
}

/// The id of a run of ours as the standard wants it: the first half of the id's SHA-256, marked as made by our own rule
/// (version 8 of RFC 9562). The same id gives the same answer everywhere and always.
fn uuid(id: &str) -> String {
    let hex = Digest::of(id.as_bytes()).to_string();
    let variant = match hex.as_bytes().get(16) {
        Some(b'0'..=b'3') => '8',
        Some(b'4'..=b'7') => '9',
        Some(b'8'..=b'9' | b'a' | b'b') => 'a',
        Some(_) | None => 'b',
    };
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-8{}-{variant}{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_uuids_that_never_change() {
        let check = |id: &str| {
            let uuid = uuid(id);
            let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
            assert_eq!(uuid.as_bytes()[14], b'8', "{uuid}");
            assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        };
        for id in ["run-1", "ro-2", "", "run-0123456789abcdefghjkmnpqrs"] {
            check(id);
        }
        assert_eq!(uuid("run-1"), uuid("run-1"));
        assert_ne!(uuid("run-1"), uuid("run-2"));
    }
}

//! A model that was retrained because of drift, rolled out and now answers on a box: every step from there to the site.

use std::collections::BTreeSet;

use muster_protocol::ids::{DeviceId, Digest, IncidentId, RolloutId, RunId, SlotName, TriggerId};
use muster_protocol::manifest::Manifest;
use muster_protocol::message::up::{BundleRef, Running};
use muster_protocol::time::Timestamp;

use super::*;
use crate::drift::{Finding, FoundStream, Incident, Kind as Finds};
use crate::retrain::{Moment, Run, Trigger, TriggerOutcome, Why};
use crate::rollout::{
    Actor, Approval, Asked, Cause, Member, Phase, Plan, Progress, Rollout, Selector, StageEnd,
};

struct Story {
    device: DeviceId,
    slot: SlotName,
    bundle: BundleRef,
    manifest: Manifest,
    running: Running,
    rollout: Rollout,
    member: Member,
    run: Run,
    trigger: Trigger,
    incident: Incident,
}

fn at(hours: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + hours * 3600)
}

fn story() -> Story {
    let mut manifest: Manifest =
        serde_json::from_str(include_str!("../../../protocol/tests/wire/manifest.json")).unwrap();
    let (run, trigger) = (RunId::mint([1; 16]), TriggerId::mint([2; 16]));
    manifest.lineage.run = Some(run.clone());
    manifest.lineage.trigger = Some(trigger.clone());
    manifest.lineage.champion = Some(Digest::of(b"champion"));
    let path = format!("bundles/{}/auto/{}.json", manifest.model, manifest.version).parse().unwrap();
    let bundle = BundleRef { path, sha256: Digest::of(b"bundle") };
    let slot: SlotName = manifest.model.as_str().parse().unwrap();
    let device = DeviceId::mint([3; 16]);
    let running = serde_json::from_value(serde_json::json!({
        "bundle": bundle, "variant": "cpu", "provider": {"provider": "onnx_cpu"}, "since": at(9),
    }));
    let incident = IncidentId::mint([4; 16]);
    let finding = Finding {
        kind: Finds::NewRegime,
        onset: at(0),
        devices: BTreeSet::from([device.clone()]),
        sites: BTreeSet::from(["icu".parse().unwrap()]),
        streams: vec![FoundStream {
            name: "age".parse().unwrap(),
            shift: None,
            psi_adj: 0.4,
            b: 0.3,
            devices: 1,
            broken: None,
        }],
        reason: "all boxes agree".to_owned(),
    };
    let why = Why::Drift {
        incident: incident.clone(),
        onset: at(0),
        streams: vec!["age".parse().unwrap()],
        bundle: None,
    };
    let trigger = Trigger {
        id: trigger,
        model: manifest.model.clone(),
        at: at(2),
        why,
        outcome: TriggerOutcome::Run { run: run.clone() },
        times: 1,
        last: None,
    };
    let stages =
        serde_json::json!([{"name": "all", "size": {"percent": 100.0}, "bake_s": 60, "deadline_s": 600}]);
    let mut rollout = Rollout::start(
        RolloutId::mint([5; 16]),
        (manifest.model.clone(), slot.clone()),
        bundle.clone(),
        Plan::of(serde_json::from_value(stages).unwrap(), Selector::default()),
        (Actor::Policy { trigger: Some(trigger.id.clone()) }, "retrained".to_owned()),
        at(6),
    )
    .unwrap();
    rollout.approvals.push(Approval { at: at(7), by: "bob".to_owned(), reason: "looks right".to_owned() });
    rollout.stages[0].closed = Some(StageEnd::Passed { at: at(10) });
    rollout.phase = Phase::Completed { at: at(10) };
    let asked = Asked { at: at(8), from: None, via: None };
    Story {
        incident: Incident::open(incident, manifest.model.clone(), Digest::of(b"champion"), finding, at(1)),
        run: Run::new(
            run,
            &trigger,
            at(2),
            crate::retrain::Approval::None,
            Moment { at: at(2), world: at(2) },
        ),
        member: Member {
            stage: 0,
            attempts: 1,
            progress: Progress::Baked { asked, activated: at(9), at: at(10) },
        },
        running: running.unwrap(),
        device,
        slot,
        bundle,
        manifest,
        rollout,
        trigger,
    }
}

impl Story {
    fn records(&self) -> Records<'_> {
        Records {
            bundle: self.bundle.clone(),
            entry: Some(Entry {
                manifest: &self.manifest,
                accepted: at(5),
                by: Some("b1".to_owned()),
                revoked: None,
            }),
            rollouts: vec![&self.rollout],
            run: Some(&self.run),
            builder: Some("b1".to_owned()),
            trigger: Some(&self.trigger),
            incident: Some(&self.incident),
            champion: None,
            place: Some(Place {
                device: &self.device,
                name: "box-3",
                slot: &self.slot,
                running: &self.running,
                order: None,
                parts: vec![(&self.rollout, &self.member)],
            }),
        }
    }
}

fn relations(graph: &Graph) -> Vec<&'static str> {
    graph.edges.iter().map(|edge| edge.relation).collect()
}

#[test]
fn a_box_leads_back_to_the_site_where_it_was_seen() {
    let story = story();
    let graph = build(&story.records());
    let told = relations(&graph);
    for relation in [
        "runs",
        "brought_by",
        "started_by",
        "follows",
        "approved_by",
        "judged_by",
        "listed_by",
        "made_by",
        "asked_by",
        "because_of",
        "seen_in",
        "seen_at",
        "compared_with",
    ] {
        assert!(told.contains(&relation), "{relation}: {told:?}");
    }
    // By steps alone, from the box to the ward.
    let mut reached = BTreeSet::from([graph.nodes[0].id.clone()]);
    loop {
        let next: Vec<String> = graph
            .edges
            .iter()
            .filter(|edge| reached.contains(&edge.from) && !reached.contains(&edge.to))
            .map(|edge| edge.to.clone())
            .collect();
        if next.is_empty() {
            break;
        }
        reached.extend(next);
    }
    assert_eq!(graph.nodes[0].kind, Kind::Device);
    assert_eq!(reached.len(), graph.nodes.len(), "nothing hangs loose");
    assert!(reached.contains("site:icu"));
    for edge in &graph.edges {
        assert!(!edge.evidence.is_empty() && edge.sentence.len() > 10, "{edge:?}");
    }
    assert!(!graph.truncated && graph.gaps.is_empty());
    assert_eq!(build(&story.records()), graph);
}

#[test]
fn what_was_taken_back_explains_what_answers_again() {
    let mut story = story();
    let newer = BundleRef { path: "bundles/er-beds/99.json".parse().unwrap(), sha256: Digest::of(b"newer") };
    let mut bad = story.rollout.clone();
    bad.id = RolloutId::mint([9; 16]);
    bad.bundle = newer;
    bad.phase =
        Phase::RolledBack { at: at(14), stage: 0, cause: Cause::new("gate", "errors rose in the canary") };
    let returned = Member { stage: 0, attempts: 1, progress: Progress::Returned { at: at(14) } };
    story.running.since = at(14);
    let mut records = story.records();
    let place = records.place.as_mut().unwrap();
    place.parts.insert(0, (&bad, &returned));
    let graph = build(&records);
    let back = graph.edges.iter().find(|edge| edge.relation == "returned_by").unwrap();
    assert!(back.sentence.contains("99") && back.sentence.contains("errors rose"), "{}", back.sentence);
    assert!(relations(&graph).contains(&"brought_by"), "how it came first is told too");
}

#[test]
fn what_nobody_knows_is_said() {
    let story = story();
    let mut records = story.records();
    (records.run, records.trigger, records.incident, records.builder) = (None, None, None, None);
    records.rollouts.clear();
    records.place.as_mut().unwrap().parts.clear();
    let graph = build(&records);
    assert_eq!(graph.gaps.len(), 1);
    let made = graph.edges.iter().find(|edge| edge.relation == "made_by").unwrap();
    assert!(made.sentence.contains("not known here any more"), "{}", made.sentence);
    records.entry = None;
    assert_eq!(relations(&build(&records)), ["runs"]);
}

#[test]
fn a_graph_is_bounded_and_says_so() {
    let mut story = story();
    story.manifest.lineage.datasets = (0..100_u8)
        .map(|n| muster_protocol::manifest::Dataset {
            name: format!("d{n}"),
            sha256: Digest::of(&[n]),
            rows: 1,
        })
        .collect();
    let graph = build(&story.records());
    assert!(graph.truncated && graph.nodes.len() <= NODES_MAX);
    let many: Vec<Rollout> =
        (0..100_u8).map(|n| Rollout { id: RolloutId::mint([n; 16]), ..story.rollout.clone() }).collect();
    let mut records = story.records();
    records.rollouts = many.iter().collect();
    let graph = build(&records);
    assert!(graph.truncated && graph.nodes.len() <= NODES_MAX, "{}", graph.nodes.len());
}

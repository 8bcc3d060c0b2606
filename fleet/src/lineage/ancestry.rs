//! The bundle's side: who rolled it out and why, what let it pass, who signed it, what made it and what asked for that.

use muster_protocol::manifest::Lineage;

use super::place::rollout_name;
use super::{Edge, Entry, Graph, Kind, Records, When, because, shown};
use crate::drift::Incident;
use crate::gate::Verdict;
use crate::retrain::{Trigger, Why};
use crate::rollout::{Actor, Rollout, StageEnd, StageRecord};

/// Rollouts told of at most: the newest.
const ROLLOUTS_MAX: usize = 16;

pub(super) fn tell(graph: &mut Graph, records: &Records<'_>) {
    let bundle = graph.bundle(&records.bundle);
    if let Some(entry) = &records.entry {
        listed(graph, &bundle, records, entry);
    }
    graph.truncated |= records.rollouts.len() > ROLLOUTS_MAX;
    for rollout in records.rollouts.iter().take(ROLLOUTS_MAX) {
        rolled_out(graph, &bundle, rollout);
    }
    let Some(entry) = &records.entry else { return };
    let lineage = &entry.manifest.lineage;
    trained(graph, &bundle, records, lineage);
    for dataset in shown(graph, lineage.datasets.iter()) {
        let node = graph.node(Kind::Dataset, &dataset.sha256.to_string(), &dataset.name);
        graph.edge(Edge {
            from: bundle.clone(),
            to: node,
            relation: "trained_on",
            at: Some(When::Real(entry.manifest.created)),
            by: None,
            evidence: dataset.sha256.to_string(),
            sentence: format!("it was trained on {}, {} rows", dataset.name, dataset.rows),
        });
    }
    if let Some(champion) = &lineage.champion {
        let known = records.champion.as_ref().filter(|known| known.sha256 == *champion);
        let node = match known {
            Some(known) => graph.bundle(known),
            None => graph.digest(champion),
        };
        let named = known.map_or_else(|| champion.short().clone(), |it| it.path.version().to_string());
        graph.edge(Edge {
            from: bundle,
            to: node,
            relation: "compared_with",
            at: Some(When::Real(entry.manifest.created)),
            by: None,
            evidence: champion.to_string(),
            sentence: format!("it was compared with {named}, which was champion then"),
        });
    }
}

fn listed(graph: &mut Graph, bundle: &str, records: &Records<'_>, entry: &Entry<'_>) {
    let signer = entry.by.clone().unwrap_or_else(|| "somebody".to_owned());
    let node = graph.node(Kind::Person, &signer, &signer);
    let revoked = entry.revoked.as_ref().map_or_else(String::new, |why| format!("; it is revoked: {why}"));
    graph.edge(Edge {
        from: bundle.to_owned(),
        to: node,
        relation: "listed_by",
        at: Some(When::Real(entry.accepted)),
        by: entry.by.clone(),
        evidence: records.bundle.sha256.to_string(),
        sentence: format!("{signer} listed {} in the signed catalogue{revoked}", records.bundle.path),
    });
}

fn rolled_out(graph: &mut Graph, bundle: &str, rollout: &Rollout) {
    let node = graph.node(Kind::Rollout, rollout.id.as_str(), rollout_name(rollout));
    let told = graph.edges.iter().any(|edge| edge.relation == "brought_by" && edge.to == node);
    if !told {
        graph.edge(Edge {
            from: bundle.to_owned(),
            to: node.clone(),
            relation: "rolled_out_by",
            at: Some(When::World(rollout.created)),
            by: Some(name_of(&rollout.started_by)),
            evidence: rollout.id.to_string(),
            sentence: format!("rollout {} brings it; it is {}", rollout.id, rollout.phase.name()),
        });
    }
    let who = name_of(&rollout.started_by);
    let starter = match &rollout.started_by {
        Actor::Person { name } => graph.node(Kind::Person, name, name),
        Actor::Policy { .. } | Actor::Engine => {
            graph.node(Kind::Policy, rollout.model.as_str(), format!("policy of {}", rollout.model))
        }
    };
    graph.edge(Edge {
        from: node.clone(),
        to: starter.clone(),
        relation: "started_by",
        at: Some(When::World(rollout.created)),
        by: Some(who.clone()),
        evidence: rollout.id.to_string(),
        sentence: format!("{who} started rollout {}{}", rollout.id, because(&rollout.reason)),
    });
    if let Actor::Policy { trigger: Some(trigger) } = &rollout.started_by {
        let cause = graph.node(Kind::Trigger, trigger.as_str(), trigger.as_str());
        graph.edge(Edge {
            from: starter,
            to: cause,
            relation: "follows",
            at: Some(When::World(rollout.created)),
            by: Some(who),
            evidence: trigger.to_string(),
            sentence: format!("the policy followed trigger {trigger}"),
        });
    }
    for approval in &rollout.approvals {
        let person = graph.node(Kind::Person, &approval.by, &approval.by);
        graph.edge(Edge {
            from: node.clone(),
            to: person,
            relation: "approved_by",
            at: Some(When::World(approval.at)),
            by: Some(approval.by.clone()),
            evidence: rollout.id.to_string(),
            sentence: format!("{} approved it{}", approval.by, because(&approval.reason)),
        });
    }
    for (stage, record) in rollout.plan.stages.iter().zip(&rollout.stages) {
        gate(graph, rollout, &node, (&stage.name, record));
    }
}

fn gate(graph: &mut Graph, rollout: &Rollout, node: &str, (stage, record): (&str, &StageRecord)) {
    let Some(end) = &record.closed else { return };
    let key = format!("{}/{stage}", rollout.id);
    let gate = graph.node(Kind::Gate, &key, format!("gate of '{stage}'"));
    let (at, by, sentence) = match end {
        StageEnd::Passed { at } => {
            (*at, "fleet".to_owned(), format!("stage '{stage}' passed its gate: {}", layers(record)))
        }
        StageEnd::Promoted { at, by, reason } => {
            let who = name_of(by);
            let sentence = format!("{who} let stage '{stage}' pass by hand{}", because(reason));
            (*at, who, sentence)
        }
        StageEnd::Failed { at } => {
            (*at, "fleet".to_owned(), format!("stage '{stage}' failed its gate: {}", layers(record)))
        }
    };
    graph.edge(Edge {
        from: node.to_owned(),
        to: gate,
        relation: "judged_by",
        at: Some(When::World(at)),
        by: Some(by),
        evidence: key,
        sentence,
    });
}

/// What each layer of the gate said that had a say.
fn layers(record: &StageRecord) -> String {
    let report = record.decision.as_ref().map(|decision| &decision.report).or(record.gate.as_ref());
    let Some(report) = report else { return "it said nothing".to_owned() };
    let said = report.layers.iter().filter(|layer| layer.applies).map(|layer| {
        let verdict = match layer.verdict {
            Verdict::Pass => "passes",
            Verdict::Insufficient => "cannot tell",
            Verdict::Fail => "fails",
        };
        format!("{} {verdict}", layer.layer.name())
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { "nothing was asked".to_owned() } else { said.join(", ") }
}

fn trained(graph: &mut Graph, bundle: &str, records: &Records<'_>, lineage: &Lineage) {
    let Some(id) = &lineage.run else { return };
    let node = graph.node(Kind::Run, id.as_str(), id.as_str());
    let run = records.run.filter(|run| run.id == *id);
    let builder = records.builder.clone();
    let sentence = match run {
        Some(run) => {
            let by = builder.as_ref().map_or_else(String::new, |name| format!(" by builder '{name}'"));
            format!("run {} made it{by}, with trainer '{}'", run.id, lineage.trainer)
        }
        None => format!("its manifest says that run {id} made it; that run is not known here any more"),
    };
    graph.edge(Edge {
        from: bundle.to_owned(),
        to: node.clone(),
        relation: "made_by",
        at: run.and_then(|run| run.timeline.last()).map(|step| When::Real(step.at)),
        by: builder,
        evidence: id.to_string(),
        sentence,
    });
    let Some(cause) = run.map(|run| &run.trigger).or(lineage.trigger.as_ref()) else { return };
    let asked = graph.node(Kind::Trigger, cause.as_str(), cause.as_str());
    let why = run.map(|run| &run.why).or(records.trigger.map(|trigger| &trigger.why));
    let sentence = match why {
        Some(Why::Manual { by, reason }) => format!("{by} asked for the training{}", because(reason)),
        Some(_) => "the retraining policy asked for it, because of what was seen in the fleet".to_owned(),
        None => format!("trigger {cause} asked for it; it is not known here any more"),
    };
    graph.edge(Edge {
        from: node,
        to: asked.clone(),
        relation: "asked_by",
        at: records.trigger.map(|trigger: &Trigger| When::World(trigger.at)),
        by: why.map(asker),
        evidence: cause.to_string(),
        sentence,
    });
    if let Some(incident) = records.incident {
        seen(graph, &asked, incident);
    }
}

fn seen(graph: &mut Graph, asked: &str, incident: &Incident) {
    let node = graph.node(Kind::Incident, incident.id.as_str(), incident.kind.said());
    graph.edge(Edge {
        from: asked.to_owned(),
        to: node.clone(),
        relation: "because_of",
        at: Some(When::World(incident.opened)),
        by: Some("fleet".to_owned()),
        evidence: incident.id.to_string(),
        sentence: format!("incident {}: {}", incident.id, incident.sentence()),
    });
    for stream in shown(graph, incident.streams.iter()) {
        let key = format!("{}/{}", incident.bundle, stream.name);
        let found = graph.node(Kind::Stream, &key, stream.name.as_str());
        graph.edge(Edge {
            from: node.clone(),
            to: found,
            relation: "seen_in",
            at: Some(When::World(incident.onset)),
            by: None,
            evidence: incident.id.to_string(),
            sentence: format!("{} changed on {}", stream.name, crate::gate::devices(stream.devices)),
        });
    }
    for site in shown(graph, incident.sites.iter()) {
        let place = graph.node(Kind::Site, site.as_str(), site.as_str());
        graph.edge(Edge {
            from: node.clone(),
            to: place,
            relation: "seen_at",
            at: Some(When::World(incident.onset)),
            by: None,
            evidence: incident.id.to_string(),
            sentence: format!("it was seen at {site}"),
        });
    }
}

fn asker(why: &Why) -> String {
    if let Why::Manual { by, .. } = why { by.clone() } else { "policy".to_owned() }
}

fn name_of(actor: &Actor) -> String {
    match actor {
        Actor::Person { name } => name.clone(),
        Actor::Policy { .. } => "policy".to_owned(),
        Actor::Engine => "fleet".to_owned(),
    }
}

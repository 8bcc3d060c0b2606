//! The box's side: what it was ordered, what it runs, and which rollout brought or returned that.

use muster_protocol::ids::{DeviceId, SlotName};
use muster_protocol::message::up::Running;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Want;

use super::{Edge, Graph, Kind, Records, When};
use crate::rollout::{Member, Phase, Progress, Rollout};

/// A slot of a box.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    pub device: &'a DeviceId,
    pub name: &'a str,
    pub slot: &'a SlotName,
    pub running: &'a Running,
    /// The order that the box should act on.
    pub order: Option<Order<'a>>,
    /// The box's part in rollouts of the slot, the newest first.
    pub parts: Vec<(&'a Rollout, &'a Member)>,
}

#[derive(Clone, Debug)]
pub struct Order<'a> {
    pub version: u64,
    pub issued: Timestamp,
    /// What it says of the slot.
    pub want: Option<&'a Want>,
}

pub(super) fn tell(graph: &mut Graph, records: &Records<'_>, place: &Place<'_>) {
    let Place { device, name, slot, running, .. } = place;
    let box_ = graph.node(Kind::Device, device.as_str(), *name);
    let bundle = graph.bundle(&records.bundle);
    let (model, version) = (records.bundle.path.model(), records.bundle.path.version());
    let variant = &running.variant;
    graph.edge(Edge {
        from: box_.clone(),
        to: bundle.clone(),
        relation: "runs",
        at: Some(When::Real(running.since)),
        by: None,
        evidence: records.bundle.sha256.to_string(),
        sentence: format!("{name} answers for {slot} with {model} {version}, variant {variant}"),
    });
    if let Some(order) = &place.order {
        tell_order(graph, (box_.clone(), bundle.clone()), records, place, order);
    }
    tell_way(graph, &bundle, records, place);
}

fn tell_order(
    graph: &mut Graph,
    (box_, bundle): (String, String),
    records: &Records<'_>,
    place: &Place<'_>,
    order: &Order<'_>,
) {
    let Order { version, issued, want } = order;
    let key = format!("{}/{version}", place.device);
    let node = graph.node(Kind::Order, &key, format!("order {version}"));
    let slot = place.slot;
    let says = match want {
        Some(want) if want.sha256 == records.bundle.sha256 => format!("asks it to run that in {slot}"),
        Some(want) => {
            format!("asks for {} {} in {slot} instead", want.bundle.model(), want.bundle.version())
        }
        None => format!("asks for nothing in {slot}"),
    };
    graph.edge(Edge {
        from: box_,
        to: node.clone(),
        relation: "ordered_by",
        at: Some(When::Real(*issued)),
        by: Some("fleet".to_owned()),
        evidence: format!("order {version} of {}", place.device),
        sentence: format!("order {version}, which the fleet signed, {says}"),
    });
    if want.is_some_and(|want| want.sha256 == records.bundle.sha256) {
        graph.edge(Edge {
            from: node,
            to: bundle,
            relation: "names",
            at: Some(When::Real(*issued)),
            by: Some("fleet".to_owned()),
            evidence: records.bundle.sha256.to_string(),
            sentence: format!("the order names it by its digest {}", records.bundle.sha256.short()),
        });
    }
}

/// How the bundle came to be what answers: brought by a rollout, or left when a later one was taken back.
fn tell_way(graph: &mut Graph, bundle: &str, records: &Records<'_>, place: &Place<'_>) {
    let name = place.name;
    let returned = place.parts.iter().find_map(|(rollout, member)| match &member.progress {
        Progress::Returned { at } => Some((*rollout, *at)),
        Progress::Waiting
        | Progress::Excluded { .. }
        | Progress::Offered { .. }
        | Progress::Ready { .. }
        | Progress::Permitted { .. }
        | Progress::Activated { .. }
        | Progress::Baked { .. }
        | Progress::Failed { .. }
        | Progress::Reverted { .. }
        | Progress::Returning { .. } => None,
    });
    let brought = place.parts.iter().find_map(|(rollout, member)| {
        let is_it = rollout.bundle.sha256 == records.bundle.sha256;
        arrival(&member.progress).filter(|_| is_it).map(|at| (*rollout, *member, at))
    });
    if let Some((rollout, at)) = returned
        && brought.is_none_or(|(_, _, arrived)| arrived < at)
    {
        let node = graph.node(Kind::Rollout, rollout.id.as_str(), rollout_name(rollout));
        let why = match &rollout.phase {
            Phase::RollingBack { cause, .. } | Phase::RolledBack { cause, .. } => {
                format!(": {}", cause.sentence)
            }
            Phase::Proposed { .. }
            | Phase::Scheduled { .. }
            | Phase::Running { .. }
            | Phase::Paused { .. }
            | Phase::Held { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Superseded { .. }
            | Phase::Completed { .. } => String::new(),
        };
        let version = rollout.bundle.path.version();
        graph.edge(Edge {
            from: bundle.to_owned(),
            to: node,
            relation: "returned_by",
            at: Some(When::World(at)),
            by: Some("fleet".to_owned()),
            evidence: rollout.id.to_string(),
            sentence: format!("{name} went back to it when the rollout of {version} was taken back{why}"),
        });
    }
    let Some((rollout, member, at)) = brought else {
        if returned.is_none() {
            // A box that was delivered with a bundle, or whose rollout is forgotten.
            graph.gaps.push(format!("no rollout that is known here brought it to {name}"));
        }
        return;
    };
    let node = graph.node(Kind::Rollout, rollout.id.as_str(), rollout_name(rollout));
    let stage = rollout.plan.stages.get(member.stage).map_or("", |stage| stage.name.as_str());
    let before = member.progress.asked().and_then(|asked| asked.from.as_ref());
    let before = before.map_or_else(
        || "nothing answered before".to_owned(),
        |from| format!("{} answered before", from.path.version()),
    );
    graph.edge(Edge {
        from: bundle.to_owned(),
        to: node,
        relation: "brought_by",
        at: Some(When::World(at)),
        by: Some("fleet".to_owned()),
        evidence: rollout.id.to_string(),
        sentence: format!("the rollout brought it to {name} in stage '{stage}'; {before}"),
    });
}

fn arrival(progress: &Progress) -> Option<Timestamp> {
    match progress {
        Progress::Activated { at, .. } => Some(*at),
        Progress::Baked { activated, .. } | Progress::Reverted { activated, .. } => Some(*activated),
        Progress::Waiting
        | Progress::Excluded { .. }
        | Progress::Offered { .. }
        | Progress::Ready { .. }
        | Progress::Permitted { .. }
        | Progress::Failed { .. }
        | Progress::Returning { .. }
        | Progress::Returned { .. } => None,
    }
}

pub(super) fn rollout_name(rollout: &Rollout) -> String {
    format!("rollout of {} {}", rollout.model, rollout.bundle.path.version())
}

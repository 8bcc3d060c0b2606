//! Why a model is where it is: one graph out of what was recorded, from a box back to what was seen on other boxes.
//!
//! ```text
//!   box ─▶ order ─▶ bundle ─▶ rollout ─▶ who, why, gates
//!                      └───▶ run ─▶ trigger ─▶ incident ─▶ streams, sites
//!                      └───▶ datasets, the champion it had to beat, who signed
//! ```
//! Every step says when, by whom and by what evidence, and is a sentence. Nothing is guessed: what a record names and
//! nobody knows any more is a node that says so. Pure: no clock, no database, no network, no log.

mod ancestry;
pub mod event;
mod place;

use std::collections::BTreeSet;

use muster_protocol::ids::Digest;
use muster_protocol::manifest::Manifest;
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;

use crate::drift::Incident;
use crate::retrain::{Run, Trigger};
use crate::rollout::Rollout;

pub use place::{Order, Place};

/// Nodes of one graph at most; it says if it was cut.
pub const NODES_MAX: usize = 200;
/// Of streams, sites and datasets each, the first.
const SHOWN_MAX: usize = 16;

/// What was recorded of a bundle, and of where it runs.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    pub bundle: BundleRef,
    /// What the registry knows of it; none if it has forgotten it.
    pub entry: Option<Entry<'a>>,
    /// Those that bring it, the newest first.
    pub rollouts: Vec<&'a Rollout>,
    pub run: Option<&'a Run>,
    /// Who had the run last.
    pub builder: Option<String>,
    pub trigger: Option<&'a Trigger>,
    pub incident: Option<&'a Incident>,
    /// The bundle it had to beat, by name.
    pub champion: Option<BundleRef>,
    /// A slot of a box that answers with it, if the question is about one.
    pub place: Option<Place<'a>>,
}

#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub manifest: &'a Manifest,
    pub accepted: Timestamp,
    /// Who listed it in the catalogue.
    pub by: Option<String>,
    pub revoked: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// The first is what was asked about.
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    /// There was more than a graph may hold.
    pub truncated: bool,
    /// What nobody knows, said rather than hidden.
    pub gaps: Vec<String>,
    ids: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Kind and name, such as `run:run-…`.
    pub id: String,
    pub kind: Kind,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Device,
    Order,
    Bundle,
    Rollout,
    Gate,
    Person,
    Policy,
    Run,
    Trigger,
    Incident,
    Stream,
    Site,
    Dataset,
}

/// One step back: what `from` owes to `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub from: String,
    pub to: String,
    /// Such as `brought_by`.
    pub relation: &'static str,
    pub at: Option<When>,
    pub by: Option<String>,
    /// A digest or an id that proves it.
    pub evidence: String,
    pub sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Real(Timestamp),
    World(Timestamp),
}

/// The graph of a bundle, and of the box that runs it.
pub fn build(records: &Records<'_>) -> Graph {
    let mut graph = Graph::default();
    if let Some(place) = &records.place {
        place::tell(&mut graph, records, place);
    }
    ancestry::tell(&mut graph, records);
    graph
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Order => "order",
            Self::Bundle => "bundle",
            Self::Rollout => "rollout",
            Self::Gate => "gate",
            Self::Person => "person",
            Self::Policy => "policy",
            Self::Run => "run",
            Self::Trigger => "trigger",
            Self::Incident => "incident",
            Self::Stream => "stream",
            Self::Site => "site",
            Self::Dataset => "dataset",
        }
    }
}

impl Graph {
    /// The node's id, whether or not there is still room for it: an edge to what was cut is cut with it.
    fn node(&mut self, kind: Kind, key: &str, name: impl Into<String>) -> String {
        let id = format!("{}:{key}", kind.as_str());
        if self.ids.contains(&id) {
            return id;
        }
        if self.nodes.len() >= NODES_MAX {
            self.truncated = true;
            return id;
        }
        self.ids.insert(id.clone());
        self.nodes.push(Node { id: id.clone(), kind, name: name.into() });
        id
    }

    fn bundle(&mut self, bundle: &BundleRef) -> String {
        let name = format!("{} {}", bundle.path.model(), bundle.path.version());
        self.node(Kind::Bundle, &bundle.sha256.to_string(), name)
    }

    fn digest(&mut self, sha256: &Digest) -> String {
        let name = format!("{} (not known here any more)", sha256.short());
        self.node(Kind::Bundle, &sha256.to_string(), name)
    }

    fn edge(&mut self, edge: Edge) {
        if self.ids.contains(&edge.from) && self.ids.contains(&edge.to) {
            self.edges.push(edge);
        }
    }
}

/// The first of a list, and whether there was more.
fn shown<T>(graph: &mut Graph, all: impl Iterator<Item = T>) -> Vec<T> {
    let mut shown: Vec<T> = all.take(SHOWN_MAX + 1).collect();
    if shown.len() > SHOWN_MAX {
        shown.truncate(SHOWN_MAX);
        graph.truncated = true;
    }
    shown
}

/// `, because: why`, or nothing.
fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(", because: {reason}") }
}

#[cfg(test)]
mod tests;

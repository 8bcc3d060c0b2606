//! Why a model is where it is, in one answer; and what was made out of what, as `OpenLineage` events.

use axum::extract::State;
use muster_protocol::ids::{DeviceId, ModelName, SlotName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Id, Ids, Json, Query};
use super::models::{Called, find};
use super::page::{Paging, parsed};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::time::Time;
use crate::lineage::{Edge, Graph, Node, When};
use crate::store::devices;
use crate::tasks::lineage::{self as deed, News};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(of_device)).routes(routes!(of_version)).routes(routes!(events))
}

/// A graph that leads back from what was asked about.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LineageGraph)]
struct GraphView {
    /// The first is what was asked about.
    nodes: Vec<NodeView>,
    edges: Vec<EdgeView>,
    /// What nobody knows.
    gaps: Vec<String>,
    /// There was more than the 200 nodes that a graph may hold.
    truncated: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LineageNode)]
struct NodeView {
    id: String,
    /// `device`, `order`, `bundle`, `rollout`, `gate`, `person`, `policy`, `run`, `trigger`, `incident`, `stream`,
    /// `site` or `dataset`.
    kind: &'static str,
    name: String,
}

/// What one thing owes to another.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LineageEdge)]
struct EdgeView {
    from: String,
    to: String,
    /// Such as `brought_by`.
    relation: &'static str,
    at: Option<Time>,
    by: Option<String>,
    /// A digest or an id that proves it.
    evidence: String,
    sentence: String,
}

impl GraphView {
    fn of(app: &App, Graph { nodes, edges, gaps, truncated, .. }: Graph) -> Self {
        let node = |Node { id, kind, name }: Node| NodeView { id, kind: kind.as_str(), name };
        let edge = |Edge { from, to, relation, at, by, evidence, sentence }: Edge| {
            let at = at.map(|at| match at {
                When::Real(at) => at.into(),
                When::World(at) => app.real(at),
            });
            EdgeView { from, to, relation, at, by, evidence, sentence }
        };
        Self {
            nodes: nodes.into_iter().map(node).collect(),
            edges: edges.into_iter().map(edge).collect(),
            gaps,
            truncated,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SlotQuery {
    /// Needed where more than one slot answers.
    slot: Option<String>,
}

/// Why this model is on this box
#[utoipa::path(get, path = "/devices/{id}/lineage", tag = "lineage", operation_id = "get_device_lineage",
    params(("id" = String, Path), SlotQuery),
    responses((status = 200, body = GraphView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
async fn of_device(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    Query(query): Query<SlotQuery>,
) -> Answer<Json<GraphView>> {
    let wanted: Option<SlotName> = parsed("slot", query.slot.as_deref())?;
    let mut db = app.fleet.store.read().await?;
    let device = devices::get(&mut db, &id).await?.ok_or_else(|| Problem::not_found("device", &id))?;
    let slots = device.state.iter().flat_map(|state| &state.slots);
    let answering: Vec<_> = slots
        .filter(|slot| wanted.as_ref().is_none_or(|wanted| *wanted == slot.slot))
        .filter_map(|slot| slot.current.as_ref().map(|running| (&slot.slot, running)))
        .collect();
    let (slot, running) = match answering.as_slice() {
        [one] => *one,
        [] => {
            let place = wanted.map_or_else(String::new, |slot| format!(" in slot {slot}"));
            let detail = format!("nothing answers{place} on {}", device.name);
            return Err(Problem::new(Code::NotFound, detail).next("look at the device: muster device show"));
        }
        many => {
            let names: Vec<&str> = many.iter().map(|(slot, _)| slot.as_str()).collect();
            let detail = format!("several slots answer on {}: {}", device.name, names.join(", "));
            return Err(Problem::new(Code::BadQuery, detail).next("name one with slot"));
        }
    };
    let graph = deed::of_slot(&mut db, &device, slot, running).await?;
    Ok(Json(GraphView::of(&app, graph)))
}

/// Where a version comes from, and who let it go where
#[utoipa::path(get, path = "/models/{model}/versions/{version}/lineage", tag = "lineage",
    operation_id = "get_version_lineage",
    params(("model" = String, Path),
        ("version" = String, Path, description = "Its version, its SHA-256, or @ and an alias")),
    responses((status = 200, body = GraphView), (status = 404, body = ProblemBody)))]
async fn of_version(
    State(app): State<App>,
    Ids(model, called): Ids<ModelName, Called>,
) -> Answer<Json<GraphView>> {
    let mut db = app.fleet.store.read().await?;
    let bundle = find(&mut db, &model, &called).await?;
    let graph = deed::of_bundle(&mut db, &bundle).await?;
    Ok(Json(GraphView::of(&app, graph)))
}

/// A part of the events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LineageEvents)]
struct EventsView {
    /// `OpenLineage` run events, the oldest first.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// Cursor of the rest; absent on the last page. A page may be empty and still have a next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What was made out of what, as `OpenLineage` events
#[utoipa::path(get, path = "/lineage/events", tag = "lineage", operation_id = "list_lineage_events", params(Paging),
    responses((status = 200, body = EventsView), (status = 400, body = ProblemBody)))]
async fn events(State(app): State<App>, Query(paging): Query<Paging>) -> Answer<Json<EventsView>> {
    let after = paging.key::<i64>()?.unwrap_or(0);
    let limit = paging.limit()?;
    let mut db = app.fleet.store.read().await?;
    let News { events, seen } =
        deed::news(&mut db, &app.fleet.config.lineage.namespace, after, limit).await?;
    let next = match seen {
        Some(seen) if crate::store::log::last(&mut db).await? > seen => Some(super::page::cursor(&seen)),
        Some(_) | None => None,
    };
    Ok(Json(EventsView { items: events.into_iter().map(|(_, event)| event).collect(), next }))
}

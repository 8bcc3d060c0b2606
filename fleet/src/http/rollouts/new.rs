//! A new rollout: everything that can be known beforehand is checked beforehand, and the same way when only rehearsed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::{
    AliasName, BundlePath, Digest, IdError, ModelName, RolloutId, SlotName, TriggerId,
};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::extract::{Acting, Json, Query};
use super::super::parts::BundleName;
use super::super::plan::{PlanBody, refused};
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::foresee::{ForecastView, Question, SpreadView, foresee};
use super::{RolloutView, beside, show};
use crate::mint;
use crate::rollout::draw;
use crate::rollout::forecast::{Depth, Forecast};
use crate::rollout::{Actor, FleetView, Plan, Rollout};
use crate::store::bundles::Bundle;
use crate::store::log::NewEntry;
use crate::store::{Control, aliases, bundles, forecasts, log};
use crate::tasks::rollouts::newest_of_slot;
use crate::tasks::runs as task;
use crate::tasks::view::fleet_view;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRollout)]
pub(super) struct NewBody {
    #[schema(value_type = String)]
    model: ModelName,
    /// A bundle's path in the catalogue, the SHA-256 of its manifest, or `model@alias`: what the alias points at now.
    bundle: String,
    /// The model's name, if absent.
    #[schema(value_type = Option<String>)]
    slot: Option<SlotName>,
    #[serde(default)]
    reason: String,
    started_by: Option<StarterBody>,
    #[serde(flatten)]
    plan: PlanBody,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Starter)]
struct StarterBody {
    kind: StarterKind,
    #[serde(default)]
    name: String,
    #[schema(value_type = Option<String>)]
    trigger: Option<TriggerId>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StarterKind {
    Person,
    Policy,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct NewQuery {
    /// Only says what would happen.
    #[serde(default)]
    dry_run: bool,
    /// Of a dry run: whether it is played through, which takes seconds; who is meant is said in any case.
    #[serde(default = "yes")]
    forecast: bool,
}

fn yes() -> bool {
    true
}

/// What a rollout would do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RolloutRehearsal)]
pub(super) struct Rehearsal {
    dry_run: bool,
    bundle: BundleName,
    slot: String,
    cohort: usize,
    stages: Vec<RehearsedStage>,
    /// How long it would take and what its gates can see, from playing it through on the fleet of now.
    forecast: ForecastView,
}

#[derive(Debug, Serialize, ToSchema)]
struct RehearsedStage {
    name: String,
    /// Devices of this stage alone.
    target_devices: usize,
    /// Devices of this stage and all before it.
    reaches: usize,
    bake_s: u64,
    deadline_s: u64,
    /// Names of the first devices, in the order in which they are asked.
    first: Vec<String>,
    /// When its gate would pass.
    forecast: SpreadView,
}

/// Names shown of each stage.
const NAMES_SHOWN: usize = 20;

struct Checked {
    model: ModelName,
    slot: SlotName,
    bundle: BundleRef,
    bundle_bytes: u64,
    /// The name that the bundle was wished for by, if it can move.
    alias: Option<String>,
    plan: Plan,
    started_by: Actor,
    reason: String,
}

/// Begins a rollout, or says what it would do
#[utoipa::path(post, path = "/rollouts", tag = "rollouts", operation_id = "create_rollout", params(NewQuery),
    request_body = NewBody,
    responses((status = 201, description = "Begun", body = RolloutView),
        (status = 200, description = "What it would do", body = Rehearsal),
        (status = 409, description = "An open rollout brings the same bundle", body = ProblemBody),
        (status = 422, description = "It cannot work", body = ProblemBody)))]
pub(super) async fn create(
    State(app): State<App>,
    Query(query): Query<NewQuery>,
    acting: Acting,
    Json(body): Json<NewBody>,
) -> Answer<Response> {
    let mut db = app.fleet.store.read().await?;
    let checked = check(&mut db, body, &acting).await?;
    let moment = app.fleet.clocks.moment();
    let mut rollout = checked.begin(RolloutId::mint(mint::random()?), moment.world_at)?;
    let mut telemetry = app.fleet.store.read_telemetry().await?;
    let view = fleet_view(&mut db, &mut telemetry, &rollout, app.fleet.clocks).await?;
    drop(telemetry);
    drop(db);
    let view = Arc::new(view);
    let drawn = drawn(&checked, &view)?;
    let doubts = checked.plan.check_against(&view).map_err(|error| refused(&checked.plan, &error))?;
    let depth = match (query.dry_run, query.forecast) {
        (true, true) => Depth::Full,
        (true, false) => Depth::Nobody,
        (false, _) => Depth::Healthy,
    };
    let question = Question {
        rollout: rollout.clone(),
        bundle_bytes: checked.bundle_bytes,
        view: Arc::clone(&view),
        now: moment.world_at,
        depth,
    };
    let mut foreseen = foresee(question).await;
    if let Ok(foreseen) = &mut foreseen {
        foreseen.warnings.extend(doubts.into_iter().map(|doubt| doubt.sentence));
        foreseen.warnings.extend(beside::doubts(&app, &rollout, &view));
    }
    if query.dry_run {
        return Ok(Json(rehearse(&checked, &drawn, &foreseen?)).into_response());
    }
    let mut tx = app.fleet.store.write().await?;
    // Somebody may have begun it since we looked; nothing else that we checked can become dangerous.
    is_new(&mut tx, &checked.slot, &checked.bundle).await?;
    newest_of_slot(&mut tx, &mut rollout).await?;
    let actor = match &rollout.started_by {
        Actor::Policy { .. } => log::Actor::Policy(rollout.model.clone()),
        Actor::Person { .. } | Actor::Engine => acting.for_log(),
    };
    task::create(&mut tx, &rollout, actor, moment).await?;
    task::follow(&mut tx, &rollout).await?;
    // A rollout waits for no forecast: without one, there is nothing to compare it with later.
    if let Ok(foreseen) = &foreseen {
        forecasts::put(&mut tx, &rollout.id, foreseen).await?;
    }
    if let Some(wished) = &checked.alias {
        let BundleRef { path, sha256 } = &rollout.bundle;
        let sentence = format!("{wished} was {path} ({sha256}) when the rollout was made");
        let (kind, subject) = ("rollout.resolved", rollout.id.to_string());
        let entry =
            NewEntry { when: moment, kind, subject, sentence: sentence.into(), actor: acting.for_log() };
        log::append(&mut tx, &entry).await?;
    }
    tx.commit().await?;
    let mut response = show(&app, &rollout.id).await?;
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/rollouts/{}", rollout.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn check(db: &mut Control, body: NewBody, acting: &Acting) -> Answer<Checked> {
    let NewBody { model, bundle, slot, reason, started_by, plan } = body;
    if reason.chars().count() > 500 {
        return Err(Problem::invalid("/reason", "a reason has at most 500 characters"));
    }
    let slot = match slot {
        Some(slot) => slot,
        None => model.as_str().parse().map_err(|error| Problem::invalid("/slot", format!("{error}")))?,
    };
    let plan = plan.resolve(db).await?.plan()?;
    let plan = task::confined(db, &model, plan).await?;
    let plan = plan.map_err(|error| Problem::invalid("/selector/filter", error.to_string()))?;
    let alias = bundle.contains('@').then(|| bundle.clone());
    let (bundle, bundle_bytes) = find(db, &bundle).await?;
    if *bundle.path.model() != model {
        let detail = format!("{} is a bundle of {}, not of {model}", bundle.path, bundle.path.model());
        return Err(Problem::invalid("/bundle", detail));
    }
    is_new(db, &slot, &bundle).await?;
    let started_by = match started_by {
        // Who proved who they are is the author, whatever the request says: nobody approves their own by another name.
        _ if acting.is_proven() => Actor::Person { name: acting.0.clone() },
        Some(StarterBody { kind: StarterKind::Policy, trigger, .. }) => Actor::Policy { trigger },
        Some(StarterBody { kind: StarterKind::Person, name, .. }) if !name.trim().is_empty() => {
            Actor::Person { name: name.trim().chars().take(64).collect() }
        }
        Some(StarterBody { kind: StarterKind::Person, .. }) | None => {
            Actor::Person { name: acting.0.clone() }
        }
    };
    let reason = reason.trim().to_owned();
    Ok(Checked { model, slot, bundle, bundle_bytes, alias, plan, started_by, reason })
}

impl Checked {
    fn begin(&self, id: RolloutId, now: Timestamp) -> Answer<Rollout> {
        let what = (self.model.clone(), self.slot.clone());
        let who = (self.started_by.clone(), self.reason.clone());
        Rollout::start(id, what, self.bundle.clone(), self.plan.clone(), who, now)
            .map_err(|error| refused(&self.plan, &error))
    }
}

/// Refuses if the bundle is being rolled out in the slot already. Others may be: whose a box is, priority and age decide.
async fn is_new(db: &mut Control, slot: &SlotName, bundle: &BundleRef) -> Answer<()> {
    let Some(open) = task::open_with(db, slot, bundle).await? else { return Ok(()) };
    let detail = format!("rollout {open} brings this bundle into slot '{slot}' already");
    Err(Problem::new(Code::RolloutOpen, detail).next("wait for it, abort it or roll it back"))
}

async fn find(db: &mut Control, text: &str) -> Answer<(BundleRef, u64)> {
    let found = if let Ok(sha256) = text.parse::<Digest>() {
        bundles::get(db, &sha256).await?
    } else if let Some((model, alias)) = text.split_once('@') {
        named(db, model, alias).await?
    } else {
        let path: BundlePath = text.parse().map_err(|error| {
            Problem::invalid(
                "/bundle",
                format!("write a path, 64 hexadecimal digits or model@alias: {error}"),
            )
        })?;
        match bundles::revoked_at(db, &path).await? {
            Some(revoked) => Some(revoked),
            None => bundles::at_path(db, &path).await?,
        }
    };
    match found {
        Some(Bundle { path, revoked: Some(revocation), .. }) => {
            let detail = format!("{path} is revoked: {}", revocation.reason);
            Err(Problem::new(Code::Revoked, detail).next("choose another bundle"))
        }
        Some(bundle) if bundle.catalogued => {
            Ok((BundleRef { path: bundle.path, sha256: bundle.sha256 }, bundle.size_bytes))
        }
        Some(_) | None => {
            let detail =
                format!("the catalogue does not list {}", text.chars().take(200).collect::<String>());
            Err(Problem::new(Code::NotCatalogued, detail).next("publish it first: `muster release publish`"))
        }
    }
}

/// What an alias points at now.
async fn named(db: &mut Control, model: &str, alias: &str) -> Answer<Option<Bundle>> {
    let wrong = |error: IdError| Problem::invalid("/bundle", error.to_string());
    let (model, alias): (ModelName, AliasName) =
        (model.parse().map_err(wrong)?, alias.parse().map_err(wrong)?);
    if let Some(alias) = aliases::get(db, &model, &alias).await? {
        Ok(bundles::get(db, &alias.bundle).await?)
    } else {
        let detail = format!("{model} has no version that is called {alias}");
        Err(Problem::invalid("/bundle", detail).next("look at its names: muster model show"))
    }
}

/// The devices of each stage by name, in the order in which they are asked: drawn by the engine itself.
fn drawn<'a>(checked: &Checked, view: &'a FleetView) -> Answer<Vec<Vec<&'a str>>> {
    let bundle = &checked.bundle.sha256;
    let mut placed: Vec<_> = draw::stages(&checked.plan, bundle, view).into_iter().collect();
    if placed.is_empty() {
        let problem = Problem::new(Code::EmptyCohort, "no device matches the selector");
        return Err(problem.next("widen the selector, or start an agent first"));
    }
    placed.sort_by_key(|(device, _)| draw::draw(bundle, device));
    let mut stages = vec![Vec::new(); checked.plan.stages.len()];
    for (device, stage) in placed {
        let name = view.devices.get(&device).map(|device| device.name.as_str());
        if let (Some(stage), Some(name)) = (stages.get_mut(stage), name) {
            stage.push(name);
        }
    }
    Ok(stages)
}

fn rehearse(checked: &Checked, drawn: &[Vec<&str>], foreseen: &Forecast) -> Rehearsal {
    let mut reaches = 0;
    let stages = checked.plan.stages.iter().zip(drawn).enumerate().map(|(at, (stage, devices))| {
        reaches += devices.len();
        RehearsedStage {
            name: stage.name.clone(),
            target_devices: devices.len(),
            reaches,
            bake_s: stage.bake_s,
            deadline_s: stage.deadline_s,
            first: devices.iter().take(NAMES_SHOWN).map(|name| (*name).to_owned()).collect(),
            forecast: SpreadView::of(foreseen.stages.get(at).map(|stage| stage.passed).unwrap_or_default()),
        }
    });
    Rehearsal {
        dry_run: true,
        bundle: BundleName::from(&checked.bundle),
        slot: checked.slot.to_string(),
        stages: stages.collect(),
        cohort: drawn.iter().map(Vec::len).sum(),
        forecast: ForecastView::of(foreseen, None),
    }
}

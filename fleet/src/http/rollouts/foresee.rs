//! What a rollout would do, and, once it lives, what was foreseen beside what came.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::time::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::super::problem::{Answer, Code, Problem};
use crate::rollout::forecast::{BugAt, Depth, Forecast, Intent, Spread, forecast};
use crate::rollout::{FleetView, Phase, Rollout, StageEnd};

/// A forecast keeps a core busy for seconds; the others wait.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);
const TURN_WITHIN: Duration = Duration::from_secs(8);
/// How long a forecast may take: before a start, and where it is all that is asked for.
const HEALTHY_WITHIN: Duration = Duration::from_secs(2);
const FULL_WITHIN: Duration = Duration::from_secs(6);

/// A rollout that may never come, with the fleet that it would meet.
pub(super) struct Question {
    pub(super) rollout: Rollout,
    pub(super) bundle_bytes: u64,
    pub(super) view: Arc<FleetView>,
    pub(super) now: Timestamp,
    pub(super) depth: Depth,
}

/// Seconds of world time since the beginning; absent where so many runs did not get there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ForecastSpread)]
#[expect(clippy::struct_field_names, reason = "the unit of each is part of its name in the API")]
pub(super) struct SpreadView {
    p10_s: Option<u64>,
    p50_s: Option<u64>,
    p90_s: Option<u64>,
}

/// What was foreseen of a plan.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Forecast)]
pub(super) struct ForecastView {
    finish: SpreadView,
    stages: Vec<StageView>,
    sites: Vec<SiteView>,
    /// What would become of a bad bundle.
    bugs: Vec<BugView>,
    warnings: Vec<String>,
    /// What was sampled and assumed.
    basis: String,
    cohort: usize,
    simulated: usize,
    runs: u64,
    /// How long it really took to complete, once it has.
    actual_s: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ForecastStage)]
struct StageView {
    name: String,
    p10_s: Option<u64>,
    p50_s: Option<u64>,
    p90_s: Option<u64>,
    /// How long it really took until its gate passed, once it has.
    actual_s: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ForecastSite)]
struct SiteView {
    site: String,
    /// That lack the bundle.
    devices: u64,
    bytes: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ForecastBug)]
struct BugView {
    /// Of devices that are hit.
    share: f64,
    /// `install` or `later`.
    at: &'static str,
    sentence: String,
    /// Share of runs in which it was stopped.
    stopped_share: f64,
    /// Share of runs in which the first stage stopped it: the power of its gate.
    first_stage_power: f64,
    exposed_p50: u64,
    exposed_p90: u64,
    device_hours_p50: u64,
    stopped_after_p50_s: Option<u64>,
}

/// Plays it through, off the threads that answer requests, for as long as a person waits: with what there was time for.
pub(super) async fn foresee(question: Question) -> Answer<Forecast> {
    let busy = || Problem::new(Code::Busy, "the forecast did not come").next("repeat in a moment");
    let limit = match question.depth {
        Depth::Nobody => return Ok(forecast(&question.intent(), Depth::Nobody, &|_| true)),
        Depth::Healthy => HEALTHY_WITHIN,
        Depth::Full => FULL_WITHIN,
    };
    let turn = tokio::time::timeout(TURN_WITHIN, ONE_AT_A_TIME.acquire()).await.map_err(|_| busy())?;
    let told = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let within = |share| began.elapsed() < limit.mul_f64(share);
        forecast(&question.intent(), question.depth, &within)
    });
    let told = told.await.map_err(|_| busy());
    drop(turn);
    told
}

impl Question {
    fn intent(&self) -> Intent<'_> {
        let Self { rollout, bundle_bytes, view, now, .. } = self;
        let mut seed = [0; 8];
        seed.copy_from_slice(&rollout.bundle.sha256.as_bytes()[..8]);
        Intent {
            model: &rollout.model,
            slot: &rollout.slot,
            bundle: &rollout.bundle,
            bundle_bytes: *bundle_bytes,
            plan: &rollout.plan,
            view,
            now: *now,
            // The same question has the same draw, and another bundle another.
            seed: u64::from_be_bytes(seed),
        }
    }
}

impl ForecastView {
    pub(super) fn of(forecast: &Forecast, lived: Option<&Rollout>) -> Self {
        let began = lived.and_then(|rollout| rollout.stages.first()?.opened);
        let since = |at: Timestamp| began.map(|began| at.since(began).as_secs());
        let passed = |at: usize| match lived.and_then(|rollout| rollout.stages.get(at)?.closed.as_ref()) {
            Some(StageEnd::Passed { at } | StageEnd::Promoted { at, .. }) => since(*at),
            Some(StageEnd::Failed { .. }) | None => None,
        };
        let actual_s = lived.and_then(|rollout| match rollout.phase {
            Phase::Completed { at } => since(at),
            Phase::Proposed { .. }
            | Phase::Scheduled { .. }
            | Phase::Running { .. }
            | Phase::Paused { .. }
            | Phase::Held { .. }
            | Phase::RollingBack { .. }
            | Phase::RolledBack { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Superseded { .. } => None,
        });
        let stages = forecast.stages.iter().enumerate().map(|(at, stage)| {
            let Spread { p10_s, p50_s, p90_s } = stage.passed;
            StageView { name: stage.name.clone(), p10_s, p50_s, p90_s, actual_s: passed(at) }
        });
        let sites = forecast.sites.iter().map(|site| SiteView {
            site: site.site.to_string(),
            devices: site.devices,
            bytes: site.bytes,
        });
        let bugs = forecast.bugs.iter().map(|bug| BugView {
            share: bug.share,
            at: match bug.at {
                BugAt::Install => "install",
                BugAt::Later => "later",
            },
            sentence: bug.sentence.clone(),
            stopped_share: bug.stopped_share,
            first_stage_power: bug.first_stage_power,
            exposed_p50: bug.exposed_p50,
            exposed_p90: bug.exposed_p90,
            device_hours_p50: bug.device_hours_p50,
            stopped_after_p50_s: bug.stopped_after_p50_s,
        });
        Self {
            finish: SpreadView::of(forecast.finish),
            stages: stages.collect(),
            sites: sites.collect(),
            bugs: bugs.collect(),
            warnings: forecast.warnings.clone(),
            basis: forecast.basis.clone(),
            cohort: forecast.cohort,
            simulated: forecast.simulated,
            runs: forecast.runs,
            actual_s,
        }
    }
}

impl SpreadView {
    pub(super) fn of(spread: Spread) -> Self {
        let Spread { p10_s, p50_s, p90_s } = spread;
        Self { p10_s, p50_s, p90_s }
    }
}

//! When a model's owner wants it trained again.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::ModelName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, IfMatch, Json, Query};
use super::page::{List, Paging};
use super::plan::{StageBody, plan};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use crate::retrain::{
    Approval, Guards, LabelPolicy, Policy, PolicyError, RolloutPolicy, Schedule, ScheduleError,
};
use crate::rollout::calendar::{CalendarError, Hours, Window, Zone};
use crate::store::log::{self, NewEntry};
use crate::store::{Saved, policies};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put))
}

/// All spans are seconds of world time.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Policy)]
struct PolicyBody {
    #[schema(value_type = String)]
    model: ModelName,
    enabled: bool,
    trigger: TriggerBody,
    /// Least time between two runs.
    cooldown_s: u64,
    /// How much of the new world must have been seen before training on it.
    min_data_s: u64,
    max_runs_per_week: u32,
    /// A day, and only a person is told, if absent.
    #[serde(default)]
    labels: LabelsBody,
    /// A floor under the triggers that look at data; it is skipped when nothing new was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleBody>,
    /// So many labels that came in since the last run ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<u64>,
    /// What holds back a run that no person asked for.
    #[serde(default)]
    guards: GuardsBody,
    #[serde(default)]
    approval: ApprovalBody,
    rollout: RolloutBody,
    /// Which clock the spans are of; always the same word.
    #[serde(default)]
    on: Clock,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = PolicyTrigger)]
enum TriggerBody {
    Drift {
        /// Share of a bundle's monitored streams that must drift, above 0 and up to 1.
        share_of_streams: f64,
    },
}

/// How the model's own outcomes are looked at.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PolicyLabels)]
struct LabelsBody {
    /// Time after a prediction at which its label is in.
    horizon_s: u64,
    /// Whether answers that do not come true ask for retraining.
    retrain: bool,
}

impl From<LabelPolicy> for LabelsBody {
    fn from(labels: LabelPolicy) -> Self {
        Self { horizon_s: labels.horizon_s, retrain: labels.retrain }
    }
}

impl Default for LabelsBody {
    fn default() -> Self {
        LabelPolicy::default().into()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PolicySchedule)]
struct ScheduleBody {
    /// Minute, hour, day, month and weekday, such as `0 3 * * mon`.
    #[schema(max_length = 100)]
    cron: String,
    /// An IANA name, such as `Europe/Berlin`; UTC if absent.
    #[serde(default = "utc")]
    zone: String,
    /// The model's own share of so many seconds comes on top, so that not all models are trained at once.
    #[serde(default)]
    jitter_s: u64,
}

fn utc() -> String {
    Zone::default().name().to_owned()
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = PolicyGuards)]
struct GuardsBody {
    /// Rows that must have been seen since the onset.
    min_new_rows: u64,
    /// Weekly windows in which no run begins by itself, such as `mon-fri 07:00-19:00`.
    #[schema(max_items = 32)]
    blackout: Vec<String>,
    /// Of the blackout: an IANA name.
    zone: String,
    /// Whether a run may begin while a rollout of the model is under way.
    during_rollout: bool,
}

impl Default for GuardsBody {
    fn default() -> Self {
        Guards::default().into()
    }
}

impl From<Guards> for GuardsBody {
    fn from(guards: Guards) -> Self {
        Self {
            min_new_rows: guards.min_new_rows,
            blackout: guards.blackout.windows.into_iter().map(String::from).collect(),
            zone: guards.zone.name().to_owned(),
            during_rollout: guards.during_rollout,
        }
    }
}

impl TryFrom<GuardsBody> for Guards {
    type Error = Problem;

    fn try_from(body: GuardsBody) -> Result<Self, Problem> {
        let wrong = |at: &str, error: &CalendarError| Problem::invalid(at, error.to_string());
        let windows: Result<Vec<Window>, CalendarError> =
            body.blackout.iter().map(|window| window.parse()).collect();
        Ok(Self {
            min_new_rows: body.min_new_rows,
            blackout: Hours { windows: windows.map_err(|error| wrong("/guards/blackout", &error))? },
            zone: body.zone.parse().map_err(|error| wrong("/guards/zone", &error))?,
            during_rollout: body.during_rollout,
        })
    }
}

impl TryFrom<ScheduleBody> for Schedule {
    type Error = Problem;

    fn try_from(body: ScheduleBody) -> Result<Self, Problem> {
        let zone = body.zone.parse();
        let zone =
            zone.map_err(|error: CalendarError| Problem::invalid("/schedule/zone", error.to_string()))?;
        Self::new(&body.cron, zone, body.jitter_s).map_err(|error| {
            let pointer = match &error {
                ScheduleError::Cron(_) => "/schedule/cron",
                ScheduleError::Jitter => "/schedule/jitter_s",
            };
            Problem::invalid(pointer, error.to_string())
        })
    }
}

/// Who must agree before what a run published is rolled out.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = PolicyApproval)]
enum ApprovalBody {
    /// Nobody.
    #[default]
    None,
    /// Nobody if every gate was measured and passed, else one person.
    IfGatesPass,
    /// So many people, none of whom asked for the run.
    Required {
        #[schema(minimum = 1, maximum = 10)]
        people: u8,
    },
}

impl From<ApprovalBody> for Approval {
    fn from(body: ApprovalBody) -> Self {
        match body {
            ApprovalBody::None => Self::None,
            ApprovalBody::IfGatesPass => Self::IfGatesPass,
            ApprovalBody::Required { people } => Self::Required { people },
        }
    }
}

impl From<Approval> for ApprovalBody {
    fn from(approval: Approval) -> Self {
        match approval {
            Approval::None => Self::None,
            Approval::IfGatesPass => Self::IfGatesPass,
            Approval::Required { people } => Self::Required { people },
        }
    }
}

/// What happens with a bundle that a run published.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PolicyRollout)]
struct RolloutBody {
    /// Otherwise it waits for a person.
    automatic: bool,
    /// One device first, then everybody, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stages: Option<Vec<StageBody>>,
    /// Devices that may be fetching or switching at the same moment; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_flight_max: Option<u32>,
    /// Reachable time in open windows that a device has to fetch, test and activate it, seconds; 6 hours if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    install_deadline_s: Option<u64>,
}

impl RolloutBody {
    fn policy(self) -> Answer<RolloutPolicy> {
        let Self { automatic, stages, in_flight_max, install_deadline_s } = self;
        if !automatic {
            return Ok(RolloutPolicy::Manual);
        }
        Ok(RolloutPolicy::Automatic { plan: plan(stages, in_flight_max, install_deadline_s)? })
    }
}

impl From<&RolloutPolicy> for RolloutBody {
    fn from(policy: &RolloutPolicy) -> Self {
        match policy {
            RolloutPolicy::Manual => {
                Self { automatic: false, stages: None, in_flight_max: None, install_deadline_s: None }
            }
            RolloutPolicy::Automatic { plan } => Self {
                automatic: true,
                stages: Some(plan.stages.iter().map(StageBody::from).collect()),
                in_flight_max: Some(plan.in_flight_max),
                install_deadline_s: Some(plan.install_deadline_s),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
enum Clock {
    #[default]
    #[serde(rename = "world clock")]
    World,
}

impl TryFrom<PolicyBody> for Policy {
    type Error = Problem;

    fn try_from(body: PolicyBody) -> Result<Self, Problem> {
        let PolicyBody {
            model,
            enabled,
            trigger,
            cooldown_s,
            min_data_s,
            max_runs_per_week,
            labels,
            schedule,
            volume,
            guards,
            approval,
            rollout,
            on: _,
        } = body;
        let TriggerBody::Drift { share_of_streams } = trigger;
        let policy = Self {
            model,
            enabled,
            drift_share: share_of_streams,
            cooldown_s,
            min_data_s,
            runs_per_week_max: max_runs_per_week,
            labels: LabelPolicy { horizon_s: labels.horizon_s, retrain: labels.retrain },
            schedule: schedule.map(Schedule::try_from).transpose()?,
            volume,
            guards: guards.try_into()?,
            approval: approval.into(),
            rollout: rollout.policy()?,
        };
        policy.check()?;
        Ok(policy)
    }
}

impl From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        let pointer = match &error {
            PolicyError::Share => "/trigger/drift/share_of_streams",
            PolicyError::Cooldown => "/cooldown_s",
            PolicyError::Runs => "/max_runs_per_week",
            PolicyError::Horizon => "/labels/horizon_s",
            PolicyError::Volume => "/volume",
            PolicyError::Blackout => "/guards/blackout",
            PolicyError::People => "/approval/required/people",
            PolicyError::Plan(source) => return Self::invalid("/rollout/stages", source.to_string()),
        };
        Self::invalid(pointer, error.to_string())
    }
}

impl From<Policy> for PolicyBody {
    fn from(policy: Policy) -> Self {
        let rollout = RolloutBody::from(&policy.rollout);
        Self {
            model: policy.model,
            enabled: policy.enabled,
            trigger: TriggerBody::Drift { share_of_streams: policy.drift_share },
            cooldown_s: policy.cooldown_s,
            min_data_s: policy.min_data_s,
            max_runs_per_week: policy.runs_per_week_max,
            labels: policy.labels.into(),
            schedule: policy.schedule.map(|schedule| ScheduleBody {
                cron: schedule.cron().to_owned(),
                zone: schedule.zone().name().to_owned(),
                jitter_s: schedule.jitter_s(),
            }),
            volume: policy.volume,
            guards: policy.guards.into(),
            approval: policy.approval.into(),
            rollout,
            on: Clock::World,
        }
    }
}

/// Policies, by model
#[utoipa::path(get, path = "/policies", tag = "retraining", operation_id = "list_policies", params(Paging),
    responses((status = 200, body = List<PolicyBody>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<PolicyBody>>> {
    let mut db = app.fleet.store.read().await?;
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = policies::list::<Policy>(&mut db, page).await?;
        filling.add(read, |(model, _)| model.clone(), |(model, _)| sight.model(model));
    }
    let (shown, next) = filling.cut(|(model, _)| model.clone());
    Ok(Json(List { items: shown.into_iter().map(|(_, policy)| policy.document.into()).collect(), next }))
}

/// A model's policy
#[utoipa::path(get, path = "/policies/{model}", tag = "retraining", operation_id = "get_policy",
    params(("model" = String, Path)),
    responses((status = 200, body = PolicyBody, headers(("etag" = String, description = "Its revision"))),
        (status = 404, description = "The model has none", body = ProblemBody)))]
async fn get(State(app): State<App>, Id(model): Id<ModelName>) -> Answer<Response> {
    let found = policies::get::<Policy>(&mut app.fleet.store.read().await?, &model).await?;
    let found = found.ok_or_else(|| Problem::not_found("policy of", &model))?;
    Ok(with_revision(found.document, found.revision))
}

/// Sets a model's policy
#[utoipa::path(put, path = "/policies/{model}", tag = "retraining", operation_id = "put_policy",
    params(("model" = String, Path), ("if-match" = Option<String>, Header, description = "The revision you saw")),
    request_body = PolicyBody,
    responses((status = 200, body = PolicyBody), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn put(
    State(app): State<App>,
    Id(model): Id<ModelName>,
    seen: IfMatch,
    acting: Acting,
    Json(body): Json<PolicyBody>,
) -> Answer<Response> {
    if body.model != model {
        let detail = format!("the policy is of {}, the address of {model}", body.model);
        return Err(Problem::invalid("/model", detail));
    }
    let policy = Policy::try_from(body)?;
    let mut tx = app.fleet.store.write().await?;
    let before = policies::get::<Policy>(&mut tx, &model).await?.map_or(0, |before| before.revision);
    seen.check(before)?;
    let revision = match policies::save(&mut tx, &model, before, &policy).await? {
        Saved::Saved { revision } => revision,
        Saved::Stale => {
            return Err(Problem::new(Code::Stale, "somebody was faster").next("look again, then repeat"));
        }
    };
    let on = if policy.enabled { "enabled" } else { "disabled" };
    let entry = NewEntry {
        when: app.fleet.clocks.moment(),
        kind: "policy.set",
        subject: model.to_string(),
        sentence: format!("set the retrain policy of {model} ({on})").into(),
        actor: acting.for_log(),
    };
    log::append(&mut tx, &entry).await?;
    tx.commit().await?;
    Ok(with_revision(policy, revision))
}

fn with_revision(policy: Policy, revision: u64) -> Response {
    let mut response = Json(PolicyBody::from(policy)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(edit: impl FnOnce(&mut Value)) -> Result<Policy, String> {
        let mut body = json!({"model": "er", "enabled": true, "trigger": {"drift": {"share_of_streams": 0.2}},
            "cooldown_s": 86400, "min_data_s": 86400, "max_runs_per_week": 7, "rollout": {"automatic": true},
            "on": "world clock"});
        edit(&mut body);
        let body: PolicyBody = serde_json::from_value(body).map_err(|error| error.to_string())?;
        Policy::try_from(body).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn policies_come_back_as_they_were_written() {
        let plain = with(|_| ()).unwrap();
        assert_eq!((plain.guards, plain.approval, plain.schedule), (Guards::default(), Approval::None, None));
        let policy = with(|p| {
            p["schedule"] = json!({"cron": "0 3 * * mon", "zone": "Europe/Berlin", "jitter_s": 600});
            p["guards"] = json!({"blackout": ["mon-fri 07:00-19:00"], "min_new_rows": 1000});
            p["approval"] = json!({"required": {"people": 2}});
            p["rollout"] = json!({"automatic": true, "in_flight_max": 400, "install_deadline_s": 90});
        })
        .unwrap();
        assert_eq!(policy.approval, Approval::Required { people: 2 });
        assert!(matches!(&policy.rollout, RolloutPolicy::Automatic { plan } if plan.stages.len() == 2));
        let written = serde_json::to_value(PolicyBody::from(policy.clone())).unwrap();
        let back = Policy::try_from(serde_json::from_value::<PolicyBody>(written).unwrap()).unwrap();
        assert_eq!(back, policy);
    }

    #[test]
    fn wrong_policies_are_refused() {
        let check = |edit: fn(&mut Value), part: &str| {
            let refused = with(edit).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        };
        check(|p| p["trigger"]["drift"]["share_of_streams"] = 0.into(), "share");
        check(|p| p["cooldown_s"] = 1.into(), "cooldown");
        check(|p| p["max_runs_per_week"] = 0.into(), "disable the policy");
        check(|p| p["labels"] = json!({"horizon_s": 181 * 86_400, "retrain": true}), "180 days");
        check(|p| p["on"] = "wall clock".into(), "world clock");
        check(|p| p["trigger"] = json!({"moon": {}}), "unknown variant");
        check(|p| p["rollout"]["stages"] = json!([]), "stages");
        check(|p| p["schedule"] = json!({"cron": "noon"}), "no crontab");
        check(|p| p["schedule"] = json!({"cron": "0 3 * * *", "zone": "Moon/Base"}), "/schedule/zone");
        check(|p| p["volume"] = 0.into(), "/volume");
        check(|p| p["guards"] = json!({"blackout": ["always"]}), "/guards/blackout");
        check(|p| p["approval"] = json!({"required": {"people": 0}}), "/approval");
        check(|p| p["colour"] = "blue".into(), "unknown field");
    }
}

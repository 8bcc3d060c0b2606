//! What people do to a rollout: the mind decides whether it may, we save what it says.

use axum::extract::State;
use axum::response::Response;
use muster_protocol::ids::RolloutId;

use super::super::App;
use super::super::extract::{Acting, Id, IfMatch, Json};
use super::super::parts::{WhyBody, because};
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::{RolloutView, load, show};
use crate::rollout::{Actor, Refused, Verb};
use crate::store::log::{self, NewEntry};
use crate::store::{Saved, rollouts};

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::State { .. }
            | Refused::GateFails(_)
            | Refused::NotAPerson
            | Refused::OwnProposal(_)
            | Refused::ApprovedTwice(_) => Self::new(Code::State, refused.to_string()),
            Refused::NoReason => Self::invalid("/reason", refused.to_string()),
        }
    }
}

macro_rules! verb {
    ($(#[$doc:meta])* $name:ident, $verb:expr) => {
        $(#[$doc])*
        #[utoipa::path(post, path = concat!("/rollouts/{id}/", stringify!($name)), tag = "rollouts",
            operation_id = concat!(stringify!($name), "_rollout"),
            params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "The revision you saw")),
            request_body = WhyBody,
            responses((status = 200, body = RolloutView), (status = 404, body = ProblemBody),
                (status = 409, description = "Its state does not allow this", body = ProblemBody),
                (status = 412, description = "It changed since you looked", body = ProblemBody)))]
        pub(super) async fn $name(
            State(app): State<App>,
            Id(id): Id<RolloutId>,
            seen: IfMatch,
            acting: Acting,
            Json(why): Json<WhyBody>,
        ) -> Answer<Response> {
            act(&app, &id, $verb, (seen, &acting), &why).await
        }
    };
}

verb!(
    /// Hands out to nobody else until resumed
    pause,
    Verb::Pause
);
verb!(
    /// Goes on where it was paused or held; the gate is asked again
    resume,
    Verb::Resume
);
verb!(
    /// Stops for good; everybody keeps what they have
    abort,
    Verb::Abort
);
verb!(
    /// Stops for good; everybody who was told goes back
    rollback,
    Verb::Rollback
);
verb!(
    /// Opens the next stage without the gate's pass
    promote,
    Verb::Promote
);

async fn act(
    app: &App,
    id: &RolloutId,
    verb: Verb,
    (seen, acting): (IfMatch, &Acting),
    why: &WhyBody,
) -> Answer<Response> {
    let reason = why.reason()?;
    // One writer at a time: nobody can save between our load and our save.
    let mut tx = app.fleet.store.write().await?;
    let mut rollout = load(&mut tx, id).await?;
    seen.check(rollout.revision)?;
    let moment = app.fleet.clocks.moment();
    rollout.document.act(verb, Actor::Person { name: acting.0.clone() }, reason, moment.world_at)?;
    let phase = rollout.document.phase.name();
    match rollouts::save(&mut tx, id, rollout.revision, phase, &rollout.document).await? {
        Saved::Saved { .. } => {}
        Saved::Stale => {
            return Err(Problem::new(Code::Stale, "somebody was faster").next("look again, then repeat"));
        }
    }
    let (kind, did) = said(verb);
    let version = rollout.document.bundle.path.version();
    let sentence = format!("{did} {} {version}{}", rollout.document.model, because(reason));
    let entry = NewEntry {
        when: moment,
        kind,
        subject: id.to_string(),
        sentence: sentence.into(),
        actor: acting.for_log(),
    };
    log::append(&mut tx, &entry).await?;
    tx.commit().await?;
    show(app, id).await
}

fn said(verb: Verb) -> (&'static str, &'static str) {
    match verb {
        Verb::Approve => ("rollout.approved", "approved the rollout of"),
        Verb::Retry => ("rollout.retried", "asked those again that failed to install"),
        Verb::Pause => ("rollout.paused", "paused the rollout of"),
        Verb::Resume => ("rollout.resumed", "resumed the rollout of"),
        Verb::Promote => ("rollout.promoted", "opened the next stage by hand for"),
        Verb::Abort => ("rollout.aborted", "aborted the rollout of"),
        Verb::Rollback => ("rollout.rollback", "asked everybody to go back from"),
    }
}

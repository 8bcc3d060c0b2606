//! Who may use which route. A route that does not stand here is refused to everybody.

use super::{At, Kind, Need, Reach, Rule, Thing};
use crate::identity::Permission::{self, Administer, Approve, Build, Fetch, Look, Operate};
use Need::{Nothing, Somebody};
use Reach::{All, Each, Fleet};

/// Where the handler refuses a request that names nothing.
const NOTHING_ELSE: Reach = Each;

/// Of what the address names.
macro_rules! of {
    ($kind:ident) => {
        Reach::Named(&[Thing { at: At::Path, kind: Kind::$kind }], &NOTHING_ELSE)
    };
}

/// Of what a query or a body names, and otherwise as said.
macro_rules! named {
    ($($at:ident $name:literal $kind:ident),+; $otherwise:expr) => {
        Reach::Named(&[$(Thing { at: At::$at($name), kind: Kind::$kind }),+], &$otherwise)
    };
}

/// What a run is trained on is the builder's to use as well.
const RUN_DATASETS: Reach = Reach::Named(
    &[Thing { at: At::Path, kind: Kind::Run }, Thing { at: At::Body("datasets"), kind: Kind::Dataset }],
    &NOTHING_ELSE,
);

const fn may(method: &'static str, path: &'static str, permission: Permission, reach: Reach) -> Rule {
    Rule { method, path, need: Need::May(permission, reach) }
}

const fn anyone(method: &'static str, path: &'static str, need: Need) -> Rule {
    Rule { method, path, need }
}

#[rustfmt::skip]
pub(super) const TABLE: &[Rule] = &[
    // For machines that watch the server, and for whoever wants to know how to ask.
    anyone("GET", "/healthz", Nothing),
    anyone("GET", "/readyz", Nothing),
    anyone("GET", "/api/v1/openapi.json", Nothing),
    may("GET", "/metrics", Look, All),

    // Coming in. Everything about oneself needs to be somebody, and no more.
    anyone("GET", "/api/v1/login", Nothing),
    anyone("POST", "/api/v1/login", Nothing),
    anyone("POST", "/api/v1/setup", Nothing),
    anyone("GET", "/api/v1/login/oidc", Nothing),
    anyone("GET", "/api/v1/login/oidc/callback", Nothing),
    anyone("POST", "/api/v1/logout", Nothing),
    anyone("GET", "/api/v1/me", Somebody),
    anyone("PUT", "/api/v1/me/password", Somebody),
    anyone("GET", "/api/v1/sessions", Somebody),
    anyone("POST", "/api/v1/sessions/{id}/revoke", Somebody),
    anyone("GET", "/api/v1/tokens", Somebody),
    anyone("POST", "/api/v1/tokens", Somebody),
    anyone("POST", "/api/v1/tokens/{id}/revoke", Somebody),
    may("GET", "/api/v1/people", Administer, Fleet),
    may("POST", "/api/v1/people", Administer, Fleet),
    may("GET", "/api/v1/people/{name}", Administer, Fleet),
    may("PUT", "/api/v1/people/{name}", Administer, Fleet),
    may("GET", "/api/v1/projects", Look, Each),
    may("POST", "/api/v1/projects", Administer, Fleet),
    may("POST", "/api/v1/projects/{name}/assign", Administer, Fleet),

    may("GET", "/api/v1/overview", Look, Each),
    may("GET", "/api/v1/events", Look, Each),
    may("GET", "/api/v1/doctor", Look, All),
    may("GET", "/api/v1/log", Look, Each),
    may("GET", "/api/v1/telemetry", Look, Each),
    // They are told of every project.
    may("GET", "/api/v1/webhooks", Administer, Fleet),
    may("GET", "/api/v1/webhooks/{name}/undelivered", Administer, Fleet),
    may("POST", "/api/v1/webhooks/{name}/undelivered/{entry}/retry", Administer, Fleet),
    may("GET", "/api/v1/mail", Administer, Fleet),
    may("POST", "/api/v1/mail/test", Administer, Fleet),

    // Boxes are of the project of their site.
    may("GET", "/api/v1/devices", Look, Each),
    may("GET", "/api/v1/devices/count", Look, Each),
    may("GET", "/api/v1/devices/{id}", Look, of!(Device)),
    may("GET", "/api/v1/devices/{id}/tags", Look, of!(Device)),
    may("PUT", "/api/v1/devices/{id}/tags", Operate, of!(Device)),
    may("GET", "/api/v1/devices/{id}/telemetry", Look, of!(Device)),
    may("GET", "/api/v1/devices/{id}/lineage", Look, of!(Device)),
    may("POST", "/api/v1/tags", Operate, Each),
    may("GET", "/api/v1/identities", Look, Each),
    may("GET", "/api/v1/identities/{id}", Look, of!(Device)),
    may("POST", "/api/v1/identities/{id}/accept", Administer, of!(Device)),
    may("POST", "/api/v1/identities/{id}/reject", Administer, of!(Device)),
    may("POST", "/api/v1/identities/{id}/revoke", Administer, of!(Device)),
    // What an emergency needs, and what undoes it.
    may("POST", "/api/v1/identities/{id}/quarantine", Operate, of!(Device)),
    may("POST", "/api/v1/identities/{id}/release", Operate, of!(Device)),
    may("POST", "/api/v1/identities/{id}/dismiss", Operate, of!(Device)),
    may("GET", "/api/v1/enrolments", Administer, Each),
    may("POST", "/api/v1/enrolments", Administer, named!(Body "site" Site; Fleet)),
    may("POST", "/api/v1/enrolments/{id}/cancel", Administer, of!(Enrolment)),

    // Saved questions are the fleet's, their answers are of each project.
    may("GET", "/api/v1/cohorts", Look, Each),
    may("GET", "/api/v1/cohorts/{name}", Look, Each),
    may("PUT", "/api/v1/cohorts/{name}", Operate, Fleet),
    may("POST", "/api/v1/cohorts/{name}/remove", Operate, Fleet),

    may("GET", "/api/v1/sites", Look, Each),
    may("GET", "/api/v1/sites/{site}", Look, of!(Site)),
    may("PUT", "/api/v1/sites/{site}", Operate, of!(Site)),
    may("GET", "/api/v1/leases", Look, Each),
    may("POST", "/api/v1/leases", Operate, named!(Body "site" Site, Body "device" Device; NOTHING_ELSE)),
    may("POST", "/api/v1/leases/{id}/release", Operate, of!(Lease)),
    may("GET", "/api/v1/freezes", Look, Each),
    may("POST", "/api/v1/freezes", Operate, named!(Body "site" Site; Fleet)),
    may("POST", "/api/v1/freezes/thaw", Operate, named!(Body "site" Site; Fleet)),
    may("GET", "/api/v1/captures", Look, Each),
    may("POST", "/api/v1/captures", Operate, named!(Body "bundle" Bundle, Body "site" Site, Body "devices" Device; NOTHING_ELSE)),
    may("GET", "/api/v1/captures/{id}", Look, of!(Capture)),
    may("POST", "/api/v1/captures/{id}/cancel", Operate, of!(Capture)),

    // Everything else is of the project of its model.
    may("GET", "/api/v1/bundles", Fetch, Each),
    may("GET", "/api/v1/bundles/{sha256}", Fetch, of!(Bundle)),
    may("GET", "/api/v1/blobs/{sha256}", Fetch, of!(Blob)),
    may("PUT", "/api/v1/blobs/{sha256}", Build, Each),
    // There is one catalogue, and every box reads it.
    may("GET", "/api/v1/trust", Fetch, Each),
    may("GET", "/api/v1/trust/{name}", Fetch, Each),
    may("PUT", "/api/v1/trust/{name}", Build, of!(TrustFile)),
    may("GET", "/tuf/metadata/{name}", Fetch, Each),
    may("GET", "/tuf/targets/{*name}", Fetch, of!(Target)),
    may("GET", "/tuf/blobs/{sha256}", Fetch, of!(Blob)),

    may("GET", "/api/v1/models", Look, Each),
    may("GET", "/api/v1/models/{model}", Look, of!(Model)),
    may("GET", "/api/v1/models/{model}/versions/{version}", Look, of!(Model)),
    may("GET", "/api/v1/models/{model}/versions/{version}/lineage", Look, of!(Model)),
    may("PUT", "/api/v1/models/{model}/versions/{version}/notes", Operate, of!(Model)),
    may("PUT", "/api/v1/models/{model}/aliases/{alias}", Operate, of!(Model)),
    may("POST", "/api/v1/models/{model}/aliases/{alias}/remove", Operate, of!(Model)),
    may("GET", "/api/v1/lineage/events", Look, All),

    // Datasets are assigned like models: trainers need them before there is a model.
    may("GET", "/api/v1/datasets", Fetch, Each),
    may("GET", "/api/v1/datasets/compare", Fetch, named!(Query "a" Dataset, Query "b" Dataset; NOTHING_ELSE)),
    may("GET", "/api/v1/datasets/{name}/versions", Fetch, of!(Dataset)),
    may("POST", "/api/v1/datasets/{name}/versions", Build, of!(Dataset)),
    may("GET", "/api/v1/datasets/{name}/versions/{version}", Fetch, of!(Dataset)),
    may("GET", "/api/v1/datasets/{name}/versions/{version}/profile", Fetch, of!(Dataset)),
    may("GET", "/api/v1/dataset-blobs/{sha256}", Fetch, of!(DatasetBlob)),
    may("PUT", "/api/v1/dataset-blobs/{sha256}", Build, Each),

    may("GET", "/api/v1/rollouts", Look, Each),
    may("POST", "/api/v1/rollouts", Operate, named!(Body "model" Model, Body "bundle" Bundle; NOTHING_ELSE)),
    may("GET", "/api/v1/rollouts/{id}", Look, of!(Rollout)),
    may("GET", "/api/v1/rollouts/{id}/devices", Look, of!(Rollout)),
    may("GET", "/api/v1/rollouts/{id}/evidence", Look, of!(Rollout)),
    may("GET", "/api/v1/rollouts/{id}/journal", Look, of!(Rollout)),
    may("POST", "/api/v1/rollouts/{id}/pause", Operate, of!(Rollout)),
    may("POST", "/api/v1/rollouts/{id}/resume", Operate, of!(Rollout)),
    may("POST", "/api/v1/rollouts/{id}/retry", Operate, of!(Rollout)),
    may("POST", "/api/v1/rollouts/{id}/abort", Operate, of!(Rollout)),
    may("POST", "/api/v1/rollouts/{id}/rollback", Operate, of!(Rollout)),
    may("POST", "/api/v1/rollouts/{id}/approve", Approve, of!(Rollout)),
    // Past a gate that has not passed.
    may("POST", "/api/v1/rollouts/{id}/promote", Approve, of!(Rollout)),

    may("GET", "/api/v1/drift", Look, named!(Query "model" Model, Query "device" Device; NOTHING_ELSE)),
    may("GET", "/api/v1/drift/heatmap", Look, named!(Query "model" Model, Query "site" Site; NOTHING_ELSE)),
    may("GET", "/api/v1/drift/histogram", Look, named!(Query "bundle" Bundle, Query "device" Device; NOTHING_ELSE)),
    may("GET", "/api/v1/drift/performance", Look, named!(Query "model" Model; NOTHING_ELSE)),
    may("GET", "/api/v1/incidents", Look, Each),
    may("GET", "/api/v1/incidents/{id}", Look, of!(Incident)),
    may("POST", "/api/v1/incidents/{id}/acknowledge", Operate, of!(Incident)),
    may("POST", "/api/v1/incidents/{id}/close", Operate, of!(Incident)),

    may("GET", "/api/v1/policies", Look, Each),
    may("GET", "/api/v1/policies/{model}", Look, of!(Model)),
    may("PUT", "/api/v1/policies/{model}", Operate, of!(Model)),
    may("GET", "/api/v1/triggers", Look, Each),
    may("GET", "/api/v1/runs", Look, Each),
    may("POST", "/api/v1/runs", Operate, named!(Body "model" Model; NOTHING_ELSE)),
    may("GET", "/api/v1/runs/{id}", Look, of!(Run)),
    may("POST", "/api/v1/runs/{id}/cancel", Operate, of!(Run)),
    may("POST", "/api/v1/runs/{id}/approve", Approve, of!(Run)),
    may("POST", "/api/v1/runs/{id}/reject", Approve, of!(Run)),
    may("GET", "/api/v1/runs/{id}/datasets", Fetch, of!(Run)),
    may("POST", "/api/v1/runs/claim", Build, named!(Body "models" Model; NOTHING_ELSE)),
    may("POST", "/api/v1/runs/{id}/heartbeat", Build, of!(Run)),
    may("POST", "/api/v1/runs/{id}/finish", Build, of!(Run)),
    may("POST", "/api/v1/runs/{id}/datasets", Build, RUN_DATASETS),
    may("POST", "/api/v1/runs/{id}/result/token", Build, of!(Run)),
    may("GET", "/api/v1/runs/{id}/result", Build, of!(Run)),
    // MLflow shows who it is by its signature, which the handler asks for.
    anyone("POST", "/api/v1/hooks/mlflow", Nothing),
    // A trainer elsewhere shows the token of its one attempt, which the handler asks for.
    anyone("POST", "/api/v1/runs/{id}/result", Nothing),
    anyone("POST", "/api/v1/runs/{id}/result/progress", Nothing),
    anyone("PUT", "/api/v1/runs/{id}/result/files/{sha256}", Nothing),
];

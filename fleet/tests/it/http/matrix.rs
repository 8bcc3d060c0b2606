//! Every route × every kind of caller × things of their own project and of another. What is expected is written down here,
//! by hand; nothing of it is taken from the code.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{Method, header};
use muster_fleet::http;
use muster_fleet::identity::Role;
use muster_fleet::rollout::evidence::Pack;
use serde_json::{Map, Value, json};

use super::people::{Town, town};
use super::{Answer, request};

/// Callers by letter: **n**obody, **v**iewer, **o**perator, **a**pprover and a**d**min of the project `er`, a **b**uilder of
/// its model, an e**x**pired token of the fleet's administrator, and the **f**leet's administrator.
const CALLERS: &str = "voadbxfn";

const LOOK: &str = "voadf";
const FETCH: &str = "voadbf";
const BUILD: &str = "oadbf";
const OPERATE: &str = "oadf";
const APPROVE: &str = "adf";
const ADMIN: &str = "df";
const FLEET: &str = "f";
const SELF: &str = "voadbf";
const ANYBODY: &str = "voadbxfn";

/// Method, path, who is let in, and what of a project the request names: `where:kind`, or `field=kind` in query and body.
#[rustfmt::skip]
const EXPECTED: &[(&str, &str, &str, &str)] = &[
    ("GET", "/healthz", ANYBODY, ""),
    ("GET", "/readyz", ANYBODY, ""),
    ("GET", "/metrics", FLEET, ""),
    ("GET", "/api/v1/openapi.json", ANYBODY, ""),
    ("GET", "/api/v1/login", ANYBODY, ""),
    ("POST", "/api/v1/login", ANYBODY, ""),
    ("POST", "/api/v1/setup", ANYBODY, ""),
    ("GET", "/api/v1/login/oidc", ANYBODY, "absent:"),
    ("GET", "/api/v1/login/oidc/callback", ANYBODY, "absent:"),
    ("POST", "/api/v1/logout", ANYBODY, ""),
    ("GET", "/api/v1/me", SELF, ""),
    ("PUT", "/api/v1/me/password", SELF, ""),
    ("GET", "/api/v1/sessions", SELF, ""),
    ("POST", "/api/v1/sessions/{id}/revoke", SELF, "absent:0000"),
    ("GET", "/api/v1/tokens", SELF, ""),
    ("POST", "/api/v1/tokens", SELF, ""),
    ("POST", "/api/v1/tokens/{id}/revoke", SELF, "absent:0000"),
    ("GET", "/api/v1/people", FLEET, ""),
    ("POST", "/api/v1/people", FLEET, ""),
    ("GET", "/api/v1/people/{name}", FLEET, "fill:viewer"),
    ("PUT", "/api/v1/people/{name}", FLEET, "fill:viewer"),
    ("GET", "/api/v1/projects", LOOK, ""),
    ("POST", "/api/v1/projects", FLEET, ""),
    ("POST", "/api/v1/projects/{name}/assign", FLEET, "fill:er"),
    ("GET", "/api/v1/overview", LOOK, ""),
    ("GET", "/api/v1/events", LOOK, ""),
    ("GET", "/api/v1/doctor", FLEET, ""),
    ("GET", "/api/v1/log", LOOK, ""),
    ("GET", "/api/v1/telemetry", LOOK, ""),
    ("GET", "/api/v1/devices", LOOK, ""),
    ("GET", "/api/v1/devices/count", LOOK, ""),
    ("GET", "/api/v1/devices/{id}", LOOK, "path:device"),
    ("GET", "/api/v1/devices/{id}/tags", LOOK, "path:device"),
    ("PUT", "/api/v1/devices/{id}/tags", OPERATE, "path:device"),
    ("GET", "/api/v1/devices/{id}/telemetry", LOOK, "path:device"),
    ("GET", "/api/v1/devices/{id}/lineage", LOOK, "path:device"),
    ("POST", "/api/v1/tags", OPERATE, ""),
    ("GET", "/api/v1/identities", LOOK, ""),
    ("GET", "/api/v1/identities/{id}", LOOK, "path:device"),
    ("POST", "/api/v1/identities/{id}/accept", ADMIN, "path:device"),
    ("POST", "/api/v1/identities/{id}/reject", ADMIN, "path:device"),
    ("POST", "/api/v1/identities/{id}/revoke", ADMIN, "path:device"),
    ("POST", "/api/v1/identities/{id}/quarantine", OPERATE, "path:device"),
    ("POST", "/api/v1/identities/{id}/release", OPERATE, "path:device"),
    ("POST", "/api/v1/identities/{id}/dismiss", OPERATE, "path:device"),
    ("GET", "/api/v1/enrolments", ADMIN, ""),
    ("POST", "/api/v1/enrolments", ADMIN, "body:site=site"),
    ("POST", "/api/v1/enrolments/{id}/cancel", ADMIN, "path:enrolment"),
    ("GET", "/api/v1/webhooks", FLEET, ""),
    ("GET", "/api/v1/webhooks/{name}/undelivered", FLEET, "absent:1"),
    ("POST", "/api/v1/webhooks/{name}/undelivered/{entry}/retry", FLEET, "fill:on-call"),
    ("GET", "/api/v1/mail", FLEET, ""),
    ("POST", "/api/v1/mail/test", FLEET, ""),
    ("GET", "/api/v1/cohorts", LOOK, ""),
    ("GET", "/api/v1/cohorts/{name}", LOOK, "fill:night"),
    ("PUT", "/api/v1/cohorts/{name}", FLEET, "fill:night"),
    ("POST", "/api/v1/cohorts/{name}/remove", FLEET, "fill:night"),
    ("GET", "/api/v1/sites", LOOK, ""),
    ("GET", "/api/v1/sites/{site}", LOOK, "path:site"),
    ("PUT", "/api/v1/sites/{site}", OPERATE, "path:site"),
    ("GET", "/api/v1/leases", LOOK, ""),
    ("POST", "/api/v1/leases", OPERATE, "body:site=site"),
    ("POST", "/api/v1/leases", OPERATE, "body:device=device"),
    ("POST", "/api/v1/leases/{id}/release", OPERATE, "path:lease"),
    ("GET", "/api/v1/freezes", LOOK, ""),
    ("POST", "/api/v1/freezes", FLEET, ""),
    ("POST", "/api/v1/freezes", OPERATE, "body:site=site"),
    ("POST", "/api/v1/freezes/thaw", FLEET, ""),
    ("POST", "/api/v1/freezes/thaw", OPERATE, "body:site=site"),
    ("GET", "/api/v1/captures", LOOK, ""),
    ("POST", "/api/v1/captures", OPERATE, "body:bundle=bundle,site=site,devices=device"),
    ("GET", "/api/v1/captures/{id}", LOOK, "path:capture"),
    ("POST", "/api/v1/captures/{id}/cancel", OPERATE, "path:capture"),
    ("GET", "/api/v1/bundles", FETCH, ""),
    ("GET", "/api/v1/bundles/{sha256}", FETCH, "path:bundle"),
    ("GET", "/api/v1/blobs/{sha256}", FETCH, "path:blob"),
    ("HEAD", "/api/v1/blobs/{sha256}", FETCH, "path:blob"),
    ("PUT", "/api/v1/blobs/{sha256}", BUILD, "fill:1111111111111111111111111111111111111111111111111111111111111111"),
    ("GET", "/api/v1/trust", FETCH, ""),
    ("GET", "/api/v1/trust/{name}", FETCH, "fill:1.root.json"),
    ("PUT", "/api/v1/trust/{name}", BUILD, "path:auto"),
    ("GET", "/tuf/metadata/{name}", FETCH, "fill:timestamp.json"),
    ("GET", "/tuf/targets/{*name}", FETCH, "path:target"),
    ("GET", "/tuf/blobs/{sha256}", FETCH, "path:blob"),
    ("GET", "/api/v1/models", LOOK, ""),
    ("GET", "/api/v1/models/{model}", LOOK, "path:model"),
    ("GET", "/api/v1/models/{model}/versions/{version}", LOOK, "path:model"),
    ("GET", "/api/v1/models/{model}/versions/{version}/lineage", LOOK, "path:model"),
    ("PUT", "/api/v1/models/{model}/versions/{version}/notes", OPERATE, "path:model"),
    ("PUT", "/api/v1/models/{model}/aliases/{alias}", OPERATE, "path:model"),
    ("POST", "/api/v1/models/{model}/aliases/{alias}/remove", OPERATE, "path:model"),
    ("GET", "/api/v1/lineage/events", FLEET, ""),
    ("GET", "/api/v1/datasets", FETCH, ""),
    ("GET", "/api/v1/datasets/compare", FETCH, "query:a=dataset,b=dataset"),
    ("GET", "/api/v1/datasets/{name}/versions", FETCH, "path:dataset"),
    ("POST", "/api/v1/datasets/{name}/versions", BUILD, "path:dataset"),
    ("GET", "/api/v1/datasets/{name}/versions/{version}", FETCH, "path:dataset"),
    ("GET", "/api/v1/datasets/{name}/versions/{version}/profile", FETCH, "path:dataset"),
    ("GET", "/api/v1/dataset-blobs/{sha256}", FETCH, "path:rows"),
    ("HEAD", "/api/v1/dataset-blobs/{sha256}", FETCH, "path:rows"),
    ("PUT", "/api/v1/dataset-blobs/{sha256}", BUILD, "fill:1111111111111111111111111111111111111111111111111111111111111111"),
    ("GET", "/api/v1/rollouts", LOOK, ""),
    ("POST", "/api/v1/rollouts", OPERATE, "body:model=model,bundle=bundle"),
    ("GET", "/api/v1/rollouts/{id}", LOOK, "path:rollout"),
    ("GET", "/api/v1/rollouts/{id}/devices", LOOK, "path:rollout"),
    ("GET", "/api/v1/rollouts/{id}/evidence", LOOK, "path:rollout"),
    ("GET", "/api/v1/rollouts/{id}/journal", LOOK, "path:rollout"),
    ("POST", "/api/v1/rollouts/{id}/pause", OPERATE, "path:rollout"),
    ("POST", "/api/v1/rollouts/{id}/resume", OPERATE, "path:rollout"),
    ("POST", "/api/v1/rollouts/{id}/retry", OPERATE, "path:rollout"),
    ("POST", "/api/v1/rollouts/{id}/abort", OPERATE, "path:rollout"),
    ("POST", "/api/v1/rollouts/{id}/rollback", OPERATE, "path:rollout"),
    ("POST", "/api/v1/rollouts/{id}/approve", APPROVE, "path:rollout"),
    ("POST", "/api/v1/rollouts/{id}/promote", APPROVE, "path:rollout"),
    ("GET", "/api/v1/drift", LOOK, "query:model=model,device=device"),
    ("GET", "/api/v1/drift/heatmap", LOOK, "query:model=model,site=site"),
    ("GET", "/api/v1/drift/histogram", LOOK, "query:bundle=bundle,device=device"),
    ("GET", "/api/v1/drift/performance", LOOK, "query:model=model"),
    ("GET", "/api/v1/incidents", LOOK, ""),
    ("GET", "/api/v1/incidents/{id}", LOOK, "path:incident"),
    ("POST", "/api/v1/incidents/{id}/acknowledge", OPERATE, "path:incident"),
    ("POST", "/api/v1/incidents/{id}/close", OPERATE, "path:incident"),
    ("GET", "/api/v1/policies", LOOK, ""),
    ("GET", "/api/v1/policies/{model}", LOOK, "path:model"),
    ("PUT", "/api/v1/policies/{model}", OPERATE, "path:model"),
    ("GET", "/api/v1/triggers", LOOK, ""),
    ("GET", "/api/v1/runs", LOOK, ""),
    ("POST", "/api/v1/runs", OPERATE, "body:model=model"),
    ("GET", "/api/v1/runs/{id}", LOOK, "path:run"),
    ("POST", "/api/v1/runs/{id}/cancel", OPERATE, "path:run"),
    ("POST", "/api/v1/runs/{id}/approve", APPROVE, "path:run"),
    ("POST", "/api/v1/runs/{id}/reject", APPROVE, "path:run"),
    ("GET", "/api/v1/runs/{id}/datasets", FETCH, "path:run"),
    ("POST", "/api/v1/runs/{id}/datasets", BUILD, "path:run"),
    ("POST", "/api/v1/runs/claim", BUILD, "body:models=model"),
    ("POST", "/api/v1/runs/{id}/heartbeat", BUILD, "path:run"),
    ("POST", "/api/v1/runs/{id}/finish", BUILD, "path:run"),
    ("POST", "/api/v1/runs/{id}/result/token", BUILD, "path:run"),
    ("GET", "/api/v1/runs/{id}/result", BUILD, "path:run"),
    // Whoever holds the run's own token, which the handler asks for.
    ("POST", "/api/v1/hooks/mlflow", ANYBODY, "absent:"),
    ("POST", "/api/v1/runs/{id}/result", ANYBODY, "fill:0000"),
    ("POST", "/api/v1/runs/{id}/result/progress", ANYBODY, "fill:0000"),
    ("PUT", "/api/v1/runs/{id}/result/files/{sha256}", ANYBODY, "fill:0000"),
];

#[test]
fn every_route_stands_in_the_matrix() {
    let document: Value = serde_json::from_str(&http::openapi()).unwrap();
    let mut routes: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        routes
            .extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let beside = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/openapi.json",
        "/tuf/metadata/{name}",
        "/tuf/targets/{*name}",
        "/tuf/blobs/{sha256}",
    ];
    routes.extend(beside.map(|path| ("GET".to_owned(), path.to_owned())));
    let expected: BTreeSet<(String, String)> =
        EXPECTED.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    let missing: Vec<_> = routes.symmetric_difference(&expected).collect();
    assert!(missing.is_empty(), "say in the matrix who may: {missing:?}");
}

#[tokio::test]
async fn each_caller_gets_where_the_matrix_says_and_nowhere_else() {
    let town = town().await;
    let mut wrong = Vec::new();
    for &(method, path, who, names) in EXPECTED {
        for caller in CALLERS.chars() {
            let answer = ask(&town, caller, method, path, names, &|kind| town.own(kind)).await;
            let expect = match caller {
                _ if who.contains(caller) && names.starts_with("absent:") => "404",
                _ if who.contains(caller) => "in",
                'n' | 'x' => "401",
                // To a builder what is not its business is as good as not there, or refused.
                _ => "403",
            };
            let got = match answer.status.as_u16() {
                401 => "401",
                403 => "403",
                404 => "404",
                500.. => "5xx",
                _ => "in",
            };
            if got != expect {
                wrong.push(format!(
                    "{caller} {method} {path} {names}: {expect} expected, {} {}",
                    answer.status,
                    answer.text()
                ));
            }
            if got == "401" || got == "403" {
                assert_eq!(
                    answer.headers[header::CONTENT_TYPE],
                    "application/problem+json",
                    "{method} {path}"
                );
                assert_eq!(
                    answer.headers.contains_key(header::WWW_AUTHENTICATE),
                    got == "401",
                    "{method} {path}"
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{} of the matrix are wrong:\n{}", wrong.len(), wrong.join("\n"));
    town.api.stop().await;
}

/// Things of another project are as if they were not: to every role, for every method, and word for word.
#[tokio::test]
async fn what_is_foreign_does_not_exist() {
    let town = town().await;
    let mut asked = 0;
    let mut wrong = Vec::new();
    for &(method, path, who, names) in EXPECTED {
        for kind in kinds(names) {
            for caller in "voadb".chars() {
                let with = |value: String| {
                    let town = &town;
                    async move {
                        let one =
                            move |asked: &str| if asked == kind { value.clone() } else { town.own(asked) };
                        ask(town, caller, method, path, names, &one).await
                    }
                };
                let (foreign, unknown) = (town.foreign(kind), Town::unknown(kind));
                let told = with(foreign.clone()).await;
                let absent = with(unknown.clone()).await;
                let same = told.text().replace(&foreign, "X") == absent.text().replace(&unknown, "X");
                if told.status != 404 || absent.status != 404 || !same {
                    wrong.push(format!(
                        "{caller} {method} {path} {kind}: {} {} / {} {}",
                        told.status,
                        told.text(),
                        absent.status,
                        absent.text()
                    ));
                }
                asked += 1;
            }
            // The administrator of all reaches both.
            let town = &town;
            let one = |asked: &str| if asked == kind { town.foreign(asked) } else { town.own(asked) };
            let answer = ask(town, 'f', method, path, names, &one).await;
            if who.contains('f') && answer.status == 404 {
                wrong.push(format!("f {method} {path} {kind}: {}", answer.text()));
            }
        }
    }
    assert!(asked > 200, "{asked}");
    assert!(wrong.is_empty(), "{} answers tell of others:\n{}", wrong.len(), wrong.join("\n"));
    town.api.stop().await;
}

/// Whatever a member of one project can list, nothing of the other is in it; and their own is.
#[tokio::test]
async fn lists_show_what_is_ones_own() {
    let town = town().await;
    let secrets: Vec<String> = town.names_of_foreign();
    for &(method, path, who, names) in EXPECTED {
        // There is one catalogue for all boxes; what it names is no secret among the members of a fleet.
        let shared = path.starts_with("/api/v1/trust")
            || path.starts_with("/tuf/metadata")
            || path.ends_with("/events");
        if method != "GET" || shared || !who.contains('v') {
            continue;
        }
        for caller in "vd".chars() {
            let answer = ask(&town, caller, method, path, names, &|kind| town.own(kind)).await;
            for secret in &secrets {
                assert!(
                    !answer.text().contains(secret.as_str()),
                    "{caller} {path} tells of {secret}: {}",
                    answer.text()
                );
            }
        }
    }
    for (path, kind) in [
        ("devices", "device"),
        ("identities", "device"),
        ("rollouts", "rollout"),
        ("runs", "run"),
        ("incidents", "incident"),
        ("captures", "capture"),
        ("leases", "lease"),
        ("bundles", "bundle"),
        ("log?limit=500", "rollout"),
        ("overview", "incident"),
        ("sites", "site"),
        ("policies", "model"),
        ("triggers", "model"),
        ("models", "model"),
        ("datasets", "dataset"),
        ("projects", "site"),
        ("freezes", "site"),
    ] {
        for caller in "vf".chars() {
            let answer =
                ask(&town, caller, "GET", &format!("/api/v1/{path}"), "", &|kind| town.own(kind)).await;
            assert!(answer.text().contains(&town.own(kind)), "{caller} {path}: {}", answer.text());
            let all = answer.text().contains(&town.foreign(kind));
            assert_eq!(all, caller == 'f', "{caller} {path}: {}", answer.text());
        }
    }
    town.api.stop().await;
}

/// The engine sees all boxes; what a member of one project gets of its records names their own, and still holds.
#[tokio::test]
async fn evidence_holds_without_the_boxes_of_others() {
    let town = town().await;
    let get = |caller: char, path: &str| {
        let request = request(Method::GET, &format!("/api/v1/rollouts/{}/{path}", town.own("rollout")))
            .header(header::AUTHORIZATION, format!("Bearer {}", town.token(caller).unwrap()));
        town.api.send(request.body(Body::empty()).unwrap())
    };
    let told = async {
        while !get('f', "journal?limit=500").await.text().contains("box-2") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::server::PATIENCE, told).await.expect("the engine does not look");
    for path in ["journal?limit=500", "evidence"] {
        let theirs = get('v', path).await;
        assert_eq!(theirs.status, 200, "{}", theirs.text());
        assert!(theirs.text().contains("box-1"), "{path}: {}", theirs.text());
        for secret in town.names_of_foreign() {
            assert!(!theirs.text().contains(&secret), "{path} tells of {secret}: {}", theirs.text());
        }
    }
    let sealed = get('v', "evidence").await.json();
    let pack: Pack = serde_json::from_str(sealed["signed"]["record"].as_str().unwrap()).unwrap();
    assert!(pack.journal.is_some());
    let found = pack.verify();
    assert!(found.differs.is_empty() && !found.checked.is_empty(), "{found:?}");
    town.api.stop().await;
}

/// What the catalogue's own keys sign is of all projects, and not a builder's.
#[tokio::test]
async fn a_builder_signs_for_its_model_alone() {
    let town = town().await;
    for (name, builder, operator, fleet) in [
        ("auto-er-beds.json", 422, 422, 422),
        ("3.auto-er-beds.json", 422, 422, 422),
        ("auto-sepsis.json", 404, 404, 422),
        ("targets.json", 404, 404, 422),
        ("2.root.json", 404, 404, 422),
        ("vendor.json", 404, 404, 422),
    ] {
        for (caller, expect) in [('b', builder), ('o', operator), ('f', fleet)] {
            let path = format!("/api/v1/trust/{name}");
            let answer = ask(&town, caller, "PUT", &path, "", &|kind| town.own(kind)).await;
            assert_eq!(answer.status.as_u16(), expect, "{caller} {name}: {}", answer.text());
        }
    }
    town.api.stop().await;
}

/// A rollout reaches the boxes of its model's project and no others, whatever it asks for.
#[tokio::test]
async fn rollouts_stay_in_their_project() {
    let town = town().await;
    // A rehearsal of what stands still is played to the end of its patience.
    for site in ["er", "icu"] {
        let thawed = send(&town, 'f', "/api/v1/freezes/thaw", json!({"site": site, "reason": "x"})).await;
        assert_eq!(thawed.status, 200, "{}", thawed.text());
    }
    let body = json!({"model": "er-beds", "bundle": town.own("bundle"), "reason": "x", "slot": "other",
        "selector": {"filter": "site in (er, icu)"}});
    let post = |caller: char, body: Value| {
        let request = request(Method::POST, "/api/v1/rollouts?dry_run=true")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", town.token(caller).unwrap()));
        town.api.send(request.body(Body::from(body.to_string())).unwrap())
    };
    for caller in "of".chars() {
        let rehearsed = post(caller, body.clone()).await;
        assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
        assert_eq!(rehearsed.json()["cohort"], 1, "{}", rehearsed.text());
    }
    let foreign = json!({"selector": {"sites": ["icu"]}, "model": "er-beds", "bundle": town.own("bundle"),
        "reason": "x", "slot": "other"});
    post('o', foreign).await.is_problem(422, "empty_cohort");
    town.api.stop().await;
}

/// Who proved who they are is who they are: no header and no body makes them another, and nobody approves their own.
#[tokio::test]
async fn an_author_approves_nothing_of_their_own_by_any_name() {
    let town = town().await;
    let mut body = json!({"model": "er-beds", "bundle": town.own("bundle"), "reason": "x", "slot": "other",
        "approvals_min": 1, "started_by": {"kind": "person", "name": "somebody-else"}});
    for kind in ["person", "policy"] {
        body["started_by"]["kind"] = json!(kind);
        body["slot"] = json!(format!("slot-{kind}"));
        let made = send(&town, 'd', "/api/v1/rollouts", body.clone()).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json();
        assert_eq!(made["started_by"]["name"], "admin", "{made}");
        let path = format!("/api/v1/rollouts/{}/approve", made["id"].as_str().unwrap());
        send(&town, 'd', &path, json!({"reason": "fine"})).await.is_problem(409, "state");
        let approved = send(&town, 'a', &path, json!({"reason": "fine"})).await;
        assert_eq!(approved.status, 200, "{}", approved.text());
        assert_ne!(approved.json()["phase"], "proposed", "{}", approved.text());
    }
    town.api.stop().await;
}

/// As with rollouts: whoever asked for a run does not agree to what came of it, whatever they call themselves.
#[tokio::test]
async fn an_author_approves_no_run_of_their_own_by_any_name() {
    let town = town().await;
    let path = claimed(&town, 'd', json!({"required": {"people": 1}})).await;
    let bundle = json!({"path": "bundles/er-beds/1.json", "sha256": town.own("bundle")});
    let finish =
        json!({"builder": "b", "outcome": {"published": {"bundle": bundle, "evaluation": {}, "gates": []}}});
    let finished = send(&town, 'b', &format!("{path}/finish"), finish).await;
    assert_eq!(finished.json()["state"], "candidate", "{}", finished.text());
    let path = format!("{path}/approve");
    send(&town, 'd', &path, json!({"reason": "fine"})).await.is_problem(409, "state");
    send(&town, 'o', &path, json!({"reason": "fine"})).await.is_problem(403, "forbidden");
    let approved = send(&town, 'a', &path, json!({"reason": "fine"})).await;
    assert_eq!(approved.json()["state"], "succeeded", "{}", approved.text());
    town.api.stop().await;
}

/// A trainer elsewhere is nobody here: the token of its one attempt opens that run's result, and no other token does.
#[tokio::test]
async fn a_trainer_needs_the_token_of_its_run_and_nothing_else() {
    let town = town().await;
    let path = claimed(&town, 'o', json!("none")).await;
    let foreign =
        json!({"builder": "b", "datasets": [{"name": town.foreign("dataset"), "sha256": "1".repeat(64)}]});
    send(&town, 'b', &format!("{path}/datasets"), foreign).await.is_problem(404, "not_found");
    let made =
        send(&town, 'b', &format!("{path}/result/token"), json!({"builder": "b", "seconds": 600})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let said = json!({"log": ["epoch 1"]});
    let say = |token: &str| {
        let request = request(Method::POST, &format!("{path}/result/progress"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        town.api.send(request.body(Body::from(said.to_string())).unwrap())
    };
    assert_eq!(say(made["token"].as_str().unwrap()).await.status, 204);
    for token in ["mrt_0", town.token('f').unwrap(), town.token('b').unwrap()] {
        say(token).await.is_problem(404, "not_found");
    }
    // It opens nothing else.
    let elsewhere = request(Method::GET, "/api/v1/runs")
        .header(header::AUTHORIZATION, format!("Bearer {}", made["token"].as_str().unwrap()));
    town.api.send(elsewhere.body(Body::empty()).unwrap()).await.is_problem(401, "unauthenticated");
    town.api.stop().await;
}

/// A bundle of another project is none, by whatever name it is asked for.
#[tokio::test]
async fn a_rollout_tells_nothing_of_bundles_of_others() {
    let town = town().await;
    for (foreign, unknown) in [
        (town.foreign("bundle"), "9".repeat(64)),
        ("bundles/sepsis/1.json".to_owned(), "bundles/nothing/1.json".to_owned()),
        ("sepsis@champion".to_owned(), "nothing@champion".to_owned()),
    ] {
        let body = |bundle: &str| json!({"model": "er-beds", "bundle": bundle, "reason": "x"});
        let told = send(&town, 'o', "/api/v1/rollouts", body(&foreign)).await;
        let absent = send(&town, 'o', "/api/v1/rollouts", body(&unknown)).await;
        told.is_problem(404, "not_found");
        assert_eq!(told.text().replace(&foreign, "X"), absent.text().replace(&unknown, "X"));
    }
    town.api.stop().await;
}

/// A run of `er` that `asker` asked for and the builder holds.
async fn claimed(town: &Town, asker: char, approval: Value) -> String {
    let cancelled = format!("/api/v1/runs/{}/cancel", town.own("run"));
    assert_eq!(send(town, 'o', &cancelled, json!({"reason": "x"})).await.status, 200);
    let policy = json!({"model": "er-beds", "enabled": true, "trigger": {"drift": {"share_of_streams": 0.5}},
        "cooldown_s": 3600, "min_data_s": 0, "max_runs_per_week": 7, "approval": approval, "rollout": {"automatic": false}});
    let put = request(Method::PUT, "/api/v1/policies/er-beds")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", town.token('d').unwrap()));
    let set = town.api.send(put.body(Body::from(policy.to_string())).unwrap()).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let run = send(town, asker, "/api/v1/runs", json!({"model": "er-beds", "reason": "x"})).await;
    assert_eq!(run.status, 201, "{}", run.text());
    let claim = send(town, 'b', "/api/v1/runs/claim", json!({"builder": "b", "models": ["er-beds"]})).await;
    assert_eq!(claim.status, 200, "{}", claim.text());
    assert_eq!(claim.json()["run"]["id"], run.json()["id"]);
    format!("/api/v1/runs/{}", run.json()["id"].as_str().unwrap())
}

/// A POST of somebody who says to be another.
async fn send(town: &Town, caller: char, path: &str, body: Value) -> Answer {
    let request = request(Method::POST, path)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-muster-actor", "operator")
        .header(header::AUTHORIZATION, format!("Bearer {}", town.token(caller).unwrap()));
    town.api.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// Kinds that a line of the matrix names.
fn kinds(names: &str) -> Vec<&str> {
    match names.split_once(':') {
        Some(("path", kind)) => vec![kind],
        Some(("query" | "body", list)) => {
            list.split(',').filter_map(|pair| pair.split_once('=')).map(|(_, kind)| kind).collect()
        }
        _ => Vec::new(),
    }
}

/// Asks as the line says, with a body that no handler takes: whoever is let in changes nothing.
async fn ask(
    town: &Town,
    caller: char,
    method: &str,
    path: &str,
    names: &str,
    value: &(dyn Fn(&str) -> String + Sync),
) -> Answer {
    let (at, what) = names.split_once(':').unwrap_or(("", ""));
    let mut path = path.to_owned();
    let mut body = Map::from_iter([("zzz".to_owned(), json!(1))]);
    if let Some(begin) = path.find('{') {
        let end = path.find('}').unwrap();
        let text = if at == "path" { value(what) } else { what.to_owned() };
        path.replace_range(begin..=end, &text);
        // Further names belong to the first.
        path =
            path.replace("{version}", "1").replace("{alias}", "winter").replace("{sha256}", &"1".repeat(64));
    }
    let pairs: BTreeMap<&str, String> = what
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(field, kind)| (field, value(kind)))
        .collect();
    if at == "query" {
        let pairs: Vec<String> = pairs.iter().map(|(field, value)| format!("{field}={value}")).collect();
        path = format!("{path}?{}", pairs.join("&"));
    } else if at == "body" {
        for (field, value) in pairs {
            let value = if field.ends_with('s') { json!([value]) } else { json!(value) };
            body.insert(field.to_owned(), value);
        }
    }
    let mut request =
        request(method.parse().unwrap(), &path).header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = town.token(caller) {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = if method == "GET" || method == "HEAD" {
        Body::empty()
    } else {
        Body::from(Value::from(body).to_string())
    };
    let response = town.api.open(request.body(body).unwrap()).await;
    let (parts, body) = response.into_parts();
    let endless = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    let body =
        if endless { Vec::new().into() } else { axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap() };
    Answer { status: parts.status, headers: parts.headers, body }
}

/// The roles that the letters mean.
pub(super) const ROLES: [(char, &str, Role); 4] = [
    ('v', "viewer", Role::Viewer),
    ('o', "operator", Role::Operator),
    ('a', "approver", Role::Approver),
    ('d', "admin", Role::Admin),
];

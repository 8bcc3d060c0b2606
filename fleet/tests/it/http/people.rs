//! A fleet of two projects and their people; what comes in, what is refused, and what ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, header};
use muster_fleet::config::{IdentityConfig, Mode};
use muster_fleet::drift::{Finding, Incident, Kind};
use muster_fleet::fleet::Fleet;
use muster_fleet::identity::{Grant, ProjectName, Role, TokenScope};
use muster_fleet::store::captures::{self, Capture};
use muster_fleet::store::incidents::{self, IncidentColumns};
use muster_fleet::store::people::{self, Person};
use muster_fleet::store::projects::{self, Of, Project};
use muster_fleet::store::tokens::{self, Token};
use muster_protocol::capture::{CaptureReason, CaptureRequest, Sampling};
use muster_protocol::ids::{CaptureId, DeviceId, Digest, EnrolmentId, IncidentId, LeaseId, RolloutId, RunId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::matrix::ROLES;
use super::{Answer, Api, enrol, request};
use crate::publisher::{Bundle, Publisher};
use crate::server::config;

const HOUR: Duration = Duration::from_hours(1);

/// Two projects, `er` and `icu`, each with one of everything; members of `er`, and the fleet's administrator.
pub(super) struct Town {
    pub(super) api: Api,
    tokens: BTreeMap<char, String>,
    er: BTreeMap<&'static str, String>,
    icu: BTreeMap<&'static str, String>,
}

impl Town {
    pub(super) fn token(&self, caller: char) -> Option<&str> {
        self.tokens.get(&caller).map(String::as_str)
    }

    pub(super) fn own(&self, kind: &str) -> String {
        self.er.get(kind).unwrap_or_else(|| panic!("no {kind}")).clone()
    }

    pub(super) fn foreign(&self, kind: &str) -> String {
        self.icu.get(kind).unwrap_or_else(|| panic!("no {kind}")).clone()
    }

    /// What a member of `icu` alone may know.
    pub(super) fn names_of_foreign(&self) -> Vec<String> {
        let shared = ["site", "blob", "target", "auto"];
        let of = self.icu.iter().filter(|(kind, _)| !shared.contains(*kind)).map(|(_, name)| name.clone());
        of.chain(["box-2".to_owned(), "\"icu\"".to_owned()]).collect()
    }

    /// Something of the kind that nobody has.
    pub(super) fn unknown(kind: &str) -> String {
        match kind {
            "site" => "nowhere".to_owned(),
            "model" | "dataset" => "nothing".to_owned(),
            "device" => DeviceId::mint([99; 16]).to_string(),
            "rollout" => RolloutId::mint([99; 16]).to_string(),
            "run" => RunId::mint([99; 16]).to_string(),
            "incident" => IncidentId::mint([99; 16]).to_string(),
            "capture" => CaptureId::mint([99; 16]).to_string(),
            "lease" => LeaseId::mint([99; 16]).to_string(),
            "enrolment" => EnrolmentId::mint([99; 16]).to_string(),
            "bundle" | "blob" | "rows" => "9".repeat(64),
            "target" => format!("bundles/nothing/{}.1.json", "9".repeat(64)),
            "auto" => "auto-nothing.json".to_owned(),
            other => panic!("no {other}"),
        }
    }

    async fn as_who(&self, caller: char, method: Method, path: &str, body: &Value) -> Answer {
        let request = request(method, path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.tokens[&caller]));
        self.api.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn made(&self, path: &str, body: &Value) -> Value {
        let answer = self.as_who('f', Method::POST, path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        answer.json()
    }
}

pub(super) async fn required() -> Api {
    let data = tempfile::tempdir().unwrap();
    let identity = IdentityConfig { mode: Mode::Required, ..IdentityConfig::default() };
    let config = muster_fleet::config::Config { identity, ..config(data.path()) };
    Api::start_with(data, config).await
}

pub(super) async fn town() -> Town {
    let api = required().await;
    let bundles =
        [Bundle::make("bundles/er-beds/1.json", b"er"), Bundle::make("bundles/sepsis/1.json", b"icu")];
    Publisher::begin(api.fleet(), &[&bundles[0], &bundles[1]]).await;
    let mut tokens = BTreeMap::new();
    let fleet = api.fleet();
    let now = fleet.clocks.trust.now();
    let mut tx = fleet.store.write().await.unwrap();
    for (name, site, model) in [("er", "er", "er-beds"), ("icu", "icu", "sepsis")] {
        let name: ProjectName = name.parse().unwrap();
        let project = Project { name: name.clone(), made: now, made_by: "test".to_owned() };
        assert!(projects::add(&mut tx, &project).await.unwrap());
        projects::assign(&mut tx, &Of::Site(site.parse().unwrap()), &name).await.unwrap();
        projects::assign(&mut tx, &Of::Model(model.parse().unwrap()), &name).await.unwrap();
        let rows = Of::Dataset(format!("{name}-rows").parse().unwrap());
        projects::assign(&mut tx, &rows, &name).await.unwrap();
    }
    tx.commit().await.unwrap();
    for (letter, name, role) in ROLES {
        person(fleet, name, "er", role).await;
        tokens.insert(letter, token(fleet, name, None, Grant::Role(Role::Admin), HOUR).await);
    }
    person(fleet, "root", "default", Role::Admin).await;
    tokens.insert('f', token(fleet, "root", None, Grant::Role(Role::Admin), HOUR).await);
    tokens.insert('x', token(fleet, "root", None, Grant::Role(Role::Admin), Duration::ZERO).await);
    let builder = Grant::Builder(["er-beds".parse().unwrap()].into());
    tokens.insert('b', token(fleet, "operator", Some("er"), builder, HOUR).await);

    let mut town = Town { api, tokens, er: BTreeMap::new(), icu: BTreeMap::new() };
    town.er = things(&town, 1, "er", "er-beds", &bundles[0]).await;
    town.icu = things(&town, 2, "icu", "sepsis", &bundles[1]).await;
    town.as_who('f', Method::PUT, "/api/v1/cohorts/night", &json!({"filter": "site in (er, icu)"})).await;
    town
}

/// One of everything.
async fn things(
    town: &Town,
    n: u8,
    site: &str,
    model: &str,
    bundle: &Bundle,
) -> BTreeMap<&'static str, String> {
    let fleet = town.api.fleet();
    let running = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() };
    let device = enrol(fleet, n, Some(&running)).await;
    let now = fleet.clocks.moment();
    let incident = incident(n, &device, site, model, bundle, now.world_at);
    let capture = CaptureRequest {
        id: CaptureId::mint([n; 16]),
        slot: "er-beds".parse().unwrap(),
        bundle: bundle.sha256(),
        why: CaptureReason::Review,
        rows: 50,
        sample: Sampling::Every(1),
        until: now.at.plus(HOUR),
    };
    let capture_id = capture.id.to_string();
    let mut tx = fleet.store.write().await.unwrap();
    let columns = IncidentColumns {
        model: &incident.model,
        bundle: &incident.bundle,
        state: incident.state.name(),
        opened: incident.opened,
    };
    incidents::create(&mut tx, &incident.id, columns, &incident).await.unwrap();
    let capture =
        Capture { request: capture, asked: now.at, reason: "x".into(), by: "root".into(), cancelled: None };
    captures::add(&mut tx, &capture, std::slice::from_ref(&device)).await.unwrap();
    tx.commit().await.unwrap();
    let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
    let rollout = town
        .made("/api/v1/rollouts", &json!({"model": model, "bundle": bundle.sha256(), "reason": "x"}))
        .await;
    let run = town.made("/api/v1/runs", &json!({"model": model, "reason": "x"})).await;
    let lease = town.made("/api/v1/leases", &json!({"site": site, "reason": "x", "for_s": 3600})).await;
    let enrolment = town.made("/api/v1/enrolments", &json!({"site": site})).await;
    town.made("/api/v1/freezes", &json!({"site": site, "reason": "x"})).await;
    let set = town.as_who('f', Method::PUT, &format!("/api/v1/sites/{site}"), &json!({})).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let policy = json!({"model": model, "enabled": false, "trigger": {"drift": {"share_of_streams": 0.5}},
        "cooldown_s": 3600, "min_data_s": 3600, "max_runs_per_week": 7, "rollout": {"automatic": false}});
    let set = town.as_who('f', Method::PUT, &format!("/api/v1/policies/{model}"), &policy).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let rows = dataset(town, &format!("{site}-rows")).await;
    let version = bundle.path.version();
    BTreeMap::from([
        ("site", site.to_owned()),
        ("model", model.to_owned()),
        ("device", device.to_string()),
        ("rollout", id(&rollout)),
        ("run", id(&run)),
        ("incident", incident.id.to_string()),
        ("capture", capture_id),
        ("lease", id(&lease)),
        ("enrolment", id(&enrolment["enrolment"])),
        ("bundle", bundle.sha256().to_string()),
        ("blob", Digest::of(&bundle.files["model.onnx"]).to_string()),
        ("target", format!("bundles/{model}/{}.{version}.json", bundle.sha256())),
        ("auto", format!("auto-{model}.json")),
        ("dataset", format!("{site}-rows")),
        ("rows", rows.to_string()),
    ])
}

/// A version of a dataset; says the digest of its one file.
async fn dataset(town: &Town, name: &str) -> Digest {
    let content = format!("rows of {name}").into_bytes();
    let file = Digest::of(&content);
    let (manifest, profile) = super::datasets::described(&content);
    let profile_digest = Digest::of(&profile);
    for bytes in [content, profile] {
        let put = request(Method::PUT, &format!("/api/v1/dataset-blobs/{}", Digest::of(&bytes)))
            .header(header::AUTHORIZATION, format!("Bearer {}", town.tokens[&'f']));
        let put = town.api.send(put.body(Body::from(bytes)).unwrap()).await;
        assert!(put.status.is_success(), "{}", put.text());
    }
    let version = json!({"manifest": manifest, "profile": profile_digest});
    town.made(&format!("/api/v1/datasets/{name}/versions"), &version).await;
    file
}

fn incident(n: u8, device: &DeviceId, site: &str, model: &str, bundle: &Bundle, now: Timestamp) -> Incident {
    let finding = Finding {
        kind: Kind::NewRegime,
        onset: now.minus(HOUR),
        devices: BTreeSet::from([device.clone()]),
        sites: BTreeSet::from([site.parse().unwrap()]),
        streams: Vec::new(),
        reason: "1 of 1 sites changed together".to_owned(),
    };
    Incident::open(IncidentId::mint([n; 16]), model.parse().unwrap(), bundle.sha256(), finding, now)
}

pub(crate) async fn person(fleet: &Fleet, name: &str, project: &str, role: Role) {
    let mut tx = fleet.store.write().await.unwrap();
    let person = Person {
        name: name.parse().unwrap(),
        display: name.to_owned(),
        disabled: false,
        provided: false,
        made: fleet.clocks.trust.now(),
        made_by: "test".to_owned(),
    };
    assert!(people::add(&mut tx, &person, None, None).await.unwrap());
    people::set_memberships(&mut tx, &person.name, &[(project.parse().unwrap(), role)].into()).await.unwrap();
    tx.commit().await.unwrap();
}

pub(crate) async fn token(
    fleet: &Fleet,
    person: &str,
    project: Option<&str>,
    grant: Grant,
    life: Duration,
) -> String {
    let now = fleet.clocks.trust.now();
    let (id, secret) = (hex::encode(muster_fleet::mint::random().unwrap()), "s".repeat(64));
    let token = Token {
        id: id.clone(),
        person: person.parse().unwrap(),
        label: format!("{person}-token"),
        scope: TokenScope { project: project.map(|project| project.parse().unwrap()), grant },
        made: now,
        expires: now.plus(life),
        used: None,
        revoked: None,
    };
    let mut tx = fleet.store.write().await.unwrap();
    assert!(tokens::add(&mut tx, &token, &Digest::of(secret.as_bytes())).await.unwrap());
    tx.commit().await.unwrap();
    format!("mst_{id}_{secret}")
}

async fn admin(api: &Api) -> (String, String) {
    person(api.fleet(), "root", "default", Role::Admin).await;
    let token = token(api.fleet(), "root", None, Grant::Role(Role::Admin), HOUR).await;
    ("root".to_owned(), token)
}

/// With a bearer token or a cookie, whichever it looks like.
async fn send(api: &Api, method: Method, path: &str, proof: &str, body: &Value) -> Answer {
    let name = if proof.starts_with("mst_") { header::AUTHORIZATION } else { header::COOKIE };
    let value = if proof.starts_with("mst_") { format!("Bearer {proof}") } else { proof.to_owned() };
    let request = request(method, path).header(header::CONTENT_TYPE, "application/json").header(name, value);
    api.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// The cookie as a browser would send it back.
fn cookie(answer: &Answer) -> String {
    let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/"), "{set}");
    set.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn whoever_reaches_an_open_fleet_is_the_operator_and_is_told_so() {
    let api = Api::start().await;
    let me = api.see("/api/v1/me").await;
    assert_eq!(
        (&me["mode"], &me["administrator"], &me["by"]),
        (&json!("open"), &json!(true), &json!("address"))
    );
    assert_eq!(api.see("/api/v1/login").await, json!({"mode": "open", "setup": false}));
    api.post("/api/v1/login", &json!({"name": "a", "password": "b"})).await.is_problem(409, "state");
    api.post("/api/v1/tokens", &json!({"label": "x", "role": "viewer"})).await.is_problem(409, "state");
    api.stop().await;
}

#[tokio::test]
async fn the_first_administrator_comes_by_a_link_that_works_once() {
    let api = required().await;
    assert_eq!(api.see("/api/v1/login").await, json!({"mode": "required", "setup": true}));
    let link = |url: &'static str| {
        let fleet = api.fleet().clone();
        async move { muster_fleet::setup::link(&fleet.store, url, fleet.clocks.trust.now()).await.unwrap() }
    };
    let former = link("http://x").await.unwrap();
    let link_now = link("http://127.0.0.1:8480").await.unwrap();
    let token = |link: &str| link.split_once("/setup#").unwrap().1.to_owned();
    let body = |token: &str, password: &str| json!({"token": token, "name": "ada", "display": "Ada L.", "password": password});
    let good = "correct horse battery";
    for wrong in [token(&former), "0".repeat(64)] {
        api.post("/api/v1/setup", &body(&wrong, good)).await.is_problem(401, "unauthenticated");
    }
    api.post("/api/v1/setup", &body(&token(&link_now), "short")).await.is_problem(422, "invalid");
    let made = api.post("/api/v1/setup", &body(&token(&link_now), good)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let session = cookie(&made);
    let me = send(&api, Method::GET, "/api/v1/me", &session, &json!({})).await.json();
    assert_eq!(
        (&me["name"], &me["administrator"], &me["by"]),
        (&json!("ada"), &json!(true), &json!("session"))
    );
    // Neither the link nor another of its kind is good any more.
    api.post("/api/v1/setup", &body(&token(&link_now), good)).await.is_problem(401, "unauthenticated");
    assert_eq!(link("http://x").await, None);
    assert_eq!(api.see("/api/v1/login").await["setup"], false);
    // The log says so, and no secret is in it.
    let log = send(&api, Method::GET, "/api/v1/log", &session, &json!({})).await.text();
    assert!(log.contains("ada is the first administrator") && !log.contains(good), "{log}");
    assert!(!log.contains(session.split('=').nth(1).unwrap()), "{log}");
    api.stop().await;
}

#[tokio::test]
async fn sessions_begin_with_a_password_and_end_when_told() {
    let api = required().await;
    let (_, root) = admin(&api).await;
    let ada = json!({"name": "ada", "display": "Ada", "password": "correct horse battery", "roles": {"default": "viewer"}});
    assert_eq!(send(&api, Method::POST, "/api/v1/people", &root, &ada).await.status, 201);
    let login = |name: &str, password: &str| {
        let body = json!({"name": name, "password": password});
        let api = &api;
        async move { api.post("/api/v1/login", &body).await }
    };
    // A wrong password, an unknown name and a name that is none: one answer.
    let wrong = login("ada", "wrong horse battery").await;
    wrong.is_problem(401, "unauthenticated");
    for (name, password) in [("bob", "correct horse battery"), ("A B", "x")] {
        assert_eq!(login(name, password).await.body, wrong.body);
    }
    let one = cookie(&login("ada", "correct horse battery").await);
    let two = cookie(&login("ada", "correct horse battery").await);
    assert_ne!(one, two);
    let me = |proof: String| {
        let api = &api;
        async move { send(api, Method::GET, "/api/v1/me", &proof, &json!({})).await }
    };
    assert_eq!(me(one.clone()).await.json()["roles"], json!([{"project": "default", "role": "viewer"}]));
    let sessions = send(&api, Method::GET, "/api/v1/sessions", &one, &json!({})).await.json();
    let items = sessions["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{sessions}");
    let other = items.iter().find(|session| session["this"] == false).unwrap()["id"].as_str().unwrap();
    let path = format!("/api/v1/sessions/{other}/revoke");
    assert_eq!(send(&api, Method::POST, &path, &root, &json!({})).await.status, 404, "it is not theirs");
    assert_eq!(send(&api, Method::POST, &path, &one, &json!({})).await.status, 204);
    me(two).await.is_problem(401, "unauthenticated");
    // A post of another site's page with the cookie is refused before anybody asks whose it is.
    let cross = request(Method::POST, "/api/v1/logout")
        .header(header::COOKIE, &one)
        .header("sec-fetch-site", "cross-site");
    api.send(cross.body(Body::empty()).unwrap()).await.is_problem(403, "cross_site");
    assert_eq!(me(one.clone()).await.status, 200);
    let out = send(&api, Method::POST, "/api/v1/logout", &one, &json!({})).await;
    assert_eq!(out.status, 204);
    assert!(out.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    me(one).await.is_problem(401, "unauthenticated");
    api.stop().await;
}

/// Whoever knows the old password may try it at the very moment in which it is taken from them.
#[tokio::test]
async fn a_password_that_is_changed_while_it_is_checked_begins_no_session() {
    let api = required().await;
    let (_, root) = admin(&api).await;
    let old = "correct horse battery";
    let new = muster_fleet::password::hash("another horse battery").unwrap();
    for (name, disabled) in [("ada", false), ("bob", true)] {
        let person = json!({"name": name, "display": name, "password": old, "roles": {"default": "viewer"}});
        assert_eq!(send(&api, Method::POST, "/api/v1/people", &root, &person).await.status, 201);
        let body = json!({"name": name, "password": old});
        let mut tx = api.fleet().store.write().await.unwrap();
        let mut login = std::pin::pin!(api.post("/api/v1/login", &body));
        // By then it was found right, and waits for its turn to write; if not, the answer is the same.
        assert!(tokio::time::timeout(Duration::from_secs(1), login.as_mut()).await.is_err());
        let name = name.parse().unwrap();
        if disabled {
            assert!(people::set_disabled(&mut tx, &name, true).await.unwrap());
        } else {
            assert!(people::set_password(&mut tx, &name, &new).await.unwrap());
        }
        tx.commit().await.unwrap();
        login.await.is_problem(401, "unauthenticated");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_person_who_is_let_in_no_more_is_out_at_once() {
    let api = required().await;
    let (_, root) = admin(&api).await;
    person(api.fleet(), "ada", "default", Role::Operator).await;
    let ada = token(api.fleet(), "ada", None, Grant::Role(Role::Admin), HOUR).await;
    let put = |name: &str, body: Value| {
        let (api, root, path) = (&api, root.clone(), format!("/api/v1/people/{name}"));
        async move { send(api, Method::PUT, &path, &root, &body).await }
    };
    let tag = async || {
        send(&api, Method::POST, "/api/v1/tags", &ada, &json!({"filter": "", "set": {"a": "b"}})).await.status
    };
    assert_eq!(tag().await, 200);
    assert_eq!(put("ada", json!({"roles": {"default": "viewer"}})).await.status, 200);
    assert_eq!(tag().await, 403, "a token does not keep what its owner lost");
    assert_eq!(put("ada", json!({"disabled": true})).await.status, 200);
    assert_eq!(tag().await, 401);
    assert_eq!(put("ada", json!({"disabled": false})).await.status, 200);
    assert_eq!(tag().await, 403);
    put("root", json!({"disabled": true})).await.is_problem(409, "state");
    put("root", json!({"roles": {"default": "viewer"}})).await.is_problem(409, "state");
    put("ada", json!({"roles": {"nowhere": "viewer"}})).await.is_problem(422, "invalid");
    put("nobody", json!({})).await.is_problem(404, "not_found");
    assert_eq!(send(&api, Method::GET, "/api/v1/me", &root, &json!({})).await.status, 200);
    api.stop().await;
}

#[tokio::test]
async fn tokens_are_shown_once_used_and_taken_back() {
    let api = required().await;
    let (_, root) = admin(&api).await;
    person(api.fleet(), "ada", "default", Role::Operator).await;
    let ada = token(api.fleet(), "ada", None, Grant::Role(Role::Operator), HOUR).await;
    let new = |proof: &str, body: Value| {
        let (api, proof) = (&api, proof.to_owned());
        async move { send(api, Method::POST, "/api/v1/tokens", &proof, &body).await }
    };
    let made = new(&ada, json!({"label": "ci", "role": "viewer", "project": "default", "for_s": 60})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("mst_"), "{secret}");
    let me = send(&api, Method::GET, "/api/v1/me", secret, &json!({})).await.json();
    assert_eq!((&me["name"], &me["roles"][0]["role"]), (&json!("ada"), &json!("viewer")));
    new(&ada, json!({"label": "more", "role": "admin"})).await.is_problem(403, "forbidden");
    new(&ada, json!({"label": "x", "role": "viewer", "project": "icu"})).await.is_problem(404, "not_found");
    new(&ada, json!({"label": "x", "role": "viewer", "models": ["er-beds"]}))
        .await
        .is_problem(422, "invalid");
    let listed = send(&api, Method::GET, "/api/v1/tokens", &ada, &json!({})).await;
    let used = listed.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["label"] == "ci")
        .unwrap()
        .clone();
    assert!(
        used["used"].is_string() && !listed.text().contains(secret.rsplit('_').next().unwrap()),
        "{used}"
    );
    // Nobody but its owner and the fleet's administrators know of it.
    person(api.fleet(), "eve", "default", Role::Approver).await;
    let eve = token(api.fleet(), "eve", None, Grant::Role(Role::Admin), HOUR).await;
    let path = format!("/api/v1/tokens/{}/revoke", used["id"].as_str().unwrap());
    send(&api, Method::POST, &path, &eve, &json!({})).await.is_problem(404, "not_found");
    assert_eq!(send(&api, Method::POST, &path, &root, &json!({})).await.json()["state"], "revoked");
    send(&api, Method::GET, "/api/v1/me", secret, &json!({})).await.is_problem(401, "unauthenticated");
    let mangled = format!("{}x", &ada[..ada.len() - 1]);
    for wrong in [mangled.as_str(), "mst_", "mst__", "mst_a_b", "mst_a"] {
        send(&api, Method::GET, "/api/v1/me", wrong, &json!({})).await.is_problem(401, "unauthenticated");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_post_with_a_key_is_done_once_and_answered_as_often_as_it_is_sent() {
    let town = town().await;
    let post = |caller: char, key: &str, path: &str, body: Value| {
        let request = request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .header(header::AUTHORIZATION, format!("Bearer {}", town.token(caller).unwrap()));
        town.api.send(request.body(Body::from(body.to_string())).unwrap())
    };
    let lease = json!({"site": "er", "reason": "MRI", "for_s": 60});
    let first = post('o', "k1", "/api/v1/leases", lease.clone()).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let again = post('o', "k1", "/api/v1/leases", lease.clone()).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.headers[header::CONTENT_TYPE], "application/json");
    // Another body, another caller, another answer.
    let other = json!({"site": "er", "reason": "CT", "for_s": 60});
    post('o', "k1", "/api/v1/leases", other).await.is_problem(422, "key_reused");
    post('o', "k1", "/api/v1/freezes", lease.clone()).await.is_problem(422, "key_reused");
    assert_ne!(post('a', "k1", "/api/v1/leases", lease.clone()).await.body, first.body);
    // Who may not, may not with a key that was good for another.
    post('v', "k1", "/api/v1/leases", lease.clone()).await.is_problem(403, "forbidden");
    // A refusal is kept as well; a secret is not.
    let wrong = json!({"site": "er", "reason": "", "for_s": 60});
    for _ in 0..2 {
        post('o', "k2", "/api/v1/leases", wrong.clone()).await.is_problem(422, "invalid");
    }
    let token = json!({"label": "once", "role": "viewer"});
    let made = post('o', "k3", "/api/v1/tokens", token.clone()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    post('o', "k3", "/api/v1/tokens", token).await.is_problem(409, "state");
    let long = "k".repeat(129);
    for key in ["", long.as_str()] {
        post('o', key, "/api/v1/leases", lease.clone()).await.is_problem(400, "bad_header");
    }
    let leases = town.as_who('o', Method::GET, "/api/v1/leases?limit=500", &json!({})).await.json();
    let mri = leases["items"].as_array().unwrap().iter().filter(|lease| lease["reason"] == "MRI").count();
    assert_eq!(mri, 2, "one of the operator, one of the approver: {leases}");
    town.api.stop().await;
}

#[tokio::test]
async fn passwords_are_tried_a_few_times_and_no_more() {
    let api = required().await;
    let body = |name: &str| json!({"name": name, "password": "wrong horse battery"});
    for _ in 0..10 {
        api.post("/api/v1/login", &body("ada")).await.is_problem(401, "unauthenticated");
    }
    let last = api.post("/api/v1/login", &body("ada")).await;
    last.is_problem(429, "too_fast");
    assert!(last.headers[header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    api.post("/api/v1/login", &body("eve")).await.is_problem(401, "unauthenticated");
    api.stop().await;
}

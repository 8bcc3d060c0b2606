//! Logging in with a real identity provider: the npm package `oidc-provider`, on a loopback port, told to misbehave where
//! a real one would not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use axum::body::Body;
use axum::http::{Method, header};
use muster_fleet::config::{Config, GroupRole, IdentityConfig, Mode, OidcConfig};
use muster_fleet::identity::Role;
use muster_fleet::store::people;
use reqwest::Url;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{Answer, Api, request};
use crate::server::config;

const URL: &str = "http://127.0.0.1:8480";

struct Provider {
    _process: Child,
    /// It goes on talking, and ends if nobody listens.
    _said: Lines<BufReader<ChildStdout>>,
    url: String,
    http: reqwest::Client,
}

impl Provider {
    async fn start() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/oidc");
        assert!(dir.join("provider.mjs").exists(), "the identity provider is missing: scripts/oidc-env.sh");
        let mut process = Command::new(dir.join("node/node"))
            .arg("provider.mjs")
            .arg(format!("{URL}/api/v1/login/oidc/callback"))
            .current_dir(&dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let up = tokio::time::timeout(crate::server::PATIENCE, lines.next_line());
        let port = up.await.expect("the provider does not start").unwrap().expect("the provider ended");
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { _process: process, _said: lines, url: format!("http://127.0.0.1:{port}"), http }
    }

    async fn told(&self, what: &str) {
        let answer = self.http.get(format!("{}/{what}", self.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{what}");
    }

    /// What a browser does there: follows, keeps cookies, and comes back with a code.
    async fn visit(&self, begin: &str) -> Url {
        let mut cookies: BTreeMap<String, String> = BTreeMap::new();
        let mut url: Url = begin.parse().unwrap();
        for _ in 0..10 {
            let jar: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let answer = self.http.get(url.clone()).header("cookie", jar.join("; ")).send().await.unwrap();
            assert!(
                answer.status().is_redirection(),
                "{url}: {} {}",
                answer.status(),
                answer.text().await.unwrap()
            );
            for set in answer.headers().get_all("set-cookie") {
                let pair = set.to_str().unwrap().split(';').next().unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                cookies.insert(name.to_owned(), value.to_owned());
            }
            url = url.join(answer.headers()["location"].to_str().unwrap()).unwrap();
            if url.as_str().starts_with(URL) {
                return url;
            }
        }
        panic!("the provider sends us around in circles");
    }
}

struct Scene {
    provider: Provider,
    api: Api,
    _secret: TempDir,
}

/// One way to the provider and back.
struct Trip {
    cookie: String,
    back: Url,
}

impl Scene {
    async fn start() -> Self {
        let provider = Provider::start().await;
        let secret = tempfile::tempdir().unwrap();
        let file: PathBuf = secret.path().join("secret");
        std::fs::write(&file, "a-secret-of-the-test\n").unwrap();
        let rule = |group: &str, role| GroupRole {
            group: group.to_owned(),
            project: "default".parse().unwrap(),
            role,
        };
        let oidc = OidcConfig {
            name: "Hospital login".to_owned(),
            issuer: provider.url.clone(),
            client_id: "muster".to_owned(),
            client_secret_file: Some(file),
            scopes: Vec::new(),
            groups_claim: "groups".to_owned(),
            roles: vec![rule("ml-operators", Role::Operator), rule("staff", Role::Viewer)],
        };
        let data = tempfile::tempdir().unwrap();
        let identity = IdentityConfig { mode: Mode::Required, url: Some(URL.to_owned()), oidc: Some(oidc) };
        let config = Config { identity, ..config(data.path()) };
        let api = Api::start_with(data, config).await;
        Self { provider, api, _secret: secret }
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        let request = request(Method::GET, path).header(header::COOKIE, cookie);
        self.api.send(request.body(Body::empty()).unwrap()).await
    }

    /// Up to the moment at which the browser is sent back here.
    async fn trip(&self) -> Trip {
        let begun = self.get("/api/v1/login/oidc", "").await;
        assert_eq!(begun.status, 303, "{}", begun.text());
        let set = begun.headers[header::SET_COOKIE].to_str().unwrap();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        let place = begun.headers[header::LOCATION].to_str().unwrap();
        assert!(place.contains("code_challenge_method=S256") && place.contains("nonce="), "{place}");
        let back = self.provider.visit(place).await;
        Trip { cookie: set.split(';').next().unwrap().to_owned(), back }
    }

    async fn back(&self, trip: &Trip) -> Answer {
        self.get(&trip.back.as_str()[URL.len()..], &trip.cookie).await
    }

    /// Comes back, and is somebody: the session.
    async fn lets_in(&self, trip: &Trip) -> String {
        let answer = self.back(trip).await;
        assert_eq!((answer.status.as_u16(), answer.headers[header::LOCATION].to_str().unwrap()), (303, "/"));
        session(&answer).expect("a session")
    }

    async fn refuses(&self, trip: &Trip, why: &str) {
        let answer = self.back(trip).await;
        let place = answer.headers.get(header::LOCATION).and_then(|place| place.to_str().ok());
        assert_eq!(
            (answer.status.as_u16(), place),
            (303, Some("/login?failed=oidc")),
            "{why}: {}",
            answer.text()
        );
        assert_eq!(session(&answer), None, "{why}");
    }

    async fn me(&self, session: &str) -> Value {
        self.get("/api/v1/me", session).await.json()
    }
}

fn session(answer: &Answer) -> Option<String> {
    let all = answer.headers.get_all(header::SET_COOKIE).iter().filter_map(|set| set.to_str().ok());
    all.filter_map(|set| set.split(';').next()).find(|pair| pair.starts_with("muster=")).map(str::to_owned)
}

#[tokio::test]
async fn the_provider_says_who_comes_and_its_groups_what_they_are() {
    let scene = Scene::start().await;
    assert_eq!(scene.api.see("/api/v1/login").await["provider"], "Hospital login");
    let one = scene.lets_in(&scene.trip().await).await;
    let me = scene.me(&one).await;
    assert_eq!((&me["name"], &me["display"]), (&json!("ada"), &json!("Ada Lovelace")));
    assert_eq!(me["roles"], json!([{"project": "default", "role": "operator"}]));
    // Other groups, another role, the same person; and what they were before ends with it.
    scene.provider.told("groups/staff").await;
    let two = scene.lets_in(&scene.trip().await).await;
    assert_eq!(scene.me(&two).await["roles"][0]["role"], "viewer");
    assert_eq!(scene.me(&one).await["roles"][0]["role"], "viewer");
    scene.provider.told("groups/visitors").await;
    scene.refuses(&scene.trip().await, "no group of theirs has a role").await;
    scene.provider.told("groups/staff").await;
    let mut tx = scene.api.fleet().store.write().await.unwrap();
    people::set_disabled(&mut tx, &"ada".parse().unwrap(), true).await.unwrap();
    tx.commit().await.unwrap();
    scene.refuses(&scene.trip().await, "they are let in no more").await;
    // They have no password that could be guessed.
    let login = json!({"name": "ada", "password": ""});
    scene.api.post("/api/v1/login", &login).await.is_problem(401, "unauthenticated");
    scene.api.stop().await;
}

#[tokio::test]
async fn answers_that_prove_nothing_let_nobody_in() {
    let scene = Scene::start().await;
    for how in ["nonce", "audience", "expired", "old", "stranger"] {
        let trip = scene.trip().await;
        scene.provider.told(&format!("misbehave/{how}")).await;
        scene.refuses(&trip, how).await;
    }
    // The same answer twice, and a code that was used in another login.
    let first = scene.trip().await;
    scene.lets_in(&first).await;
    scene.refuses(&first, "it came back twice").await;
    let mut second = scene.trip().await;
    let state =
        |trip: &Trip| trip.back.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let code = first.back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let own = state(&second);
    second.back.query_pairs_mut().clear().append_pair("code", &code).append_pair("state", &own);
    scene.refuses(&second, "the code was used").await;
    // An answer to what another browser asked, or to nothing.
    let (mine, theirs) = (scene.trip().await, scene.trip().await);
    scene.refuses(&Trip { cookie: mine.cookie.clone(), back: theirs.back.clone() }, "another's state").await;
    scene
        .refuses(&Trip { cookie: "x=y".to_owned(), back: theirs.back.clone() }, "no login of this browser")
        .await;
    scene.refuses(&mine, "its login is spent").await;
    let mut denied = scene.trip().await;
    let own = state(&denied);
    denied.back.query_pairs_mut().clear().append_pair("error", "access_denied").append_pair("state", &own);
    scene.refuses(&denied, "the provider refused").await;
    // And after all that, whoever comes honestly is let in.
    scene.lets_in(&scene.trip().await).await;
    scene.api.stop().await;
}

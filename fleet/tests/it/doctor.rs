//! `muster doctor` against a real server: nothing on one that is well, and each trouble by its name, with what to do next and
//! the exit code that says how bad it is.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use muster_fleet::client::Client;
use muster_fleet::config::{Config, IdentityConfig, Mode};
use muster_protocol::checkup::{Checkup, Condition, Finding};
use serde_json::json;

use crate::fake_fleet::FakeFleet;
use crate::publisher::{Bundle, Publisher};
use crate::server::{Server, config};

struct Examined {
    code: Option<i32>,
    checkup: Checkup,
}

async fn doctor(server: &str, args: &[&str], token: Option<&str>) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["--server", server, "doctor"]).args(args).kill_on_drop(true).stdin(Stdio::null());
    // Whoever runs the tests may keep contexts of their own.
    command.env("HOME", "/nonexistent").env_remove("MUSTER_CONTEXT").env_remove("MUSTER_TOKEN");
    if let Some(token) = token {
        command.env("MUSTER_TOKEN", token);
    }
    tokio::time::timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap()
}

async fn examined(server: &str, token: Option<&str>) -> Examined {
    let output = doctor(server, &["-o", "json"], token).await;
    let checkup =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    Examined { code: output.status.code(), checkup }
}

impl Examined {
    fn of(&self, check: &str) -> &Finding {
        let found = self.checkup.checks.iter().find(|found| found.check == check);
        found.unwrap_or_else(|| panic!("nobody looked at {check}:\n{}", self.checkup.picture()))
    }

    fn names(&self, check: &str, state: Condition, says: &str, next: &str) {
        let found = self.of(check);
        assert!(found.state == state && found.says.contains(says), "{found:?}");
        assert!(found.do_next.as_deref().unwrap().contains(next), "{found:?}");
    }

    /// This alone is not well, and it says so and what to do.
    fn only(&self, check: &str, state: Condition, says: &str, next: &str) {
        let troubled: Vec<&str> = self.checkup.troubles().map(|found| found.check.as_str()).collect();
        assert_eq!(troubled, [check], "\n{}", self.checkup.picture());
        self.names(check, state, says, next);
        assert_eq!(self.code, Some(i32::from(state.exit_code())));
    }
}

/// A server with a root and a catalogue.
async fn server(data: &Path, edit: impl FnOnce(&mut Config)) -> Server {
    let mut config = config(data);
    edit(&mut config);
    let server = Server::start_with(config).await;
    Publisher::begin(&server.fleet, &[&Bundle::make("bundles/er-beds/1.json", b"er")]).await;
    server
}

#[tokio::test]
async fn a_server_that_is_well_passes() {
    let data = tempfile::tempdir().unwrap();
    let server = server(data.path(), |_| ()).await;
    let url = server.fleet.addresses.http.clone();
    let examined = examined(&url, None).await;
    assert_eq!(
        (examined.code, examined.checkup.state),
        (Some(0), Condition::Ok),
        "\n{}",
        examined.checkup.picture()
    );
    for check in [
        "context",
        "server",
        "tls",
        "clock",
        "version",
        "token",
        "database",
        "telemetry",
        "retention",
        "disk",
        "broker",
        "signer",
        "trust.root",
        "trust.targets",
        "trust.snapshot",
        "trust.timestamp",
        "ca.device",
        "ca.server",
        "ca.client",
        "certificate",
        "blobs",
        "datasets",
        "outbox",
        "boxes",
        "builders",
        "access",
    ] {
        assert_eq!(examined.of(check).state, Condition::Ok, "{check}");
    }
    assert!(examined.of("broker").says.contains(&server.fleet.addresses.mqtt));
    // In words, for people: the same, and its last line counts.
    let output = doctor(&url, &[], None).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("ok       context") && !text.contains("next:"), "{text}");
    assert_eq!(text.lines().last().unwrap(), format!("{0} checks: {0} ok", examined.checkup.checks.len()));
    assert_eq!(doctor(&url, &["-o", "name"], None).await.stdout, b"");
    server.stop().await;
}

#[tokio::test]
async fn nobody_there_is_exit_code_4_and_one_line() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let examined = examined(&format!("http://127.0.0.1:{port}"), None).await;
    assert_eq!(examined.code, Some(4));
    examined.names("server", Condition::Fail, "no fleet server answers", "muster-fleet serve");
    assert_eq!(examined.checkup.troubles().count(), 1);
}

#[tokio::test]
async fn a_certificate_of_nobody_that_this_machine_trusts_is_told_from_an_empty_port() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    // The door speaks TLS, by an authority of the fleet's own.
    let untrusted = examined(&server.fleet.addresses.door, None).await;
    untrusted.only("tls", Condition::Fail, "certificate", "let this machine trust that");
    server.stop().await;
}

#[tokio::test]
async fn what_the_server_lacks_is_named_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let bare = Server::start(data.path()).await;
    let url = bare.fleet.addresses.http.clone();
    examined(&url, None).await.only("signer", Condition::Warn, "nothing is published yet", "muster root new");
    std::fs::rename(data.path().join("blobs"), data.path().join("moved")).unwrap();
    let lost = examined(&url, None).await;
    assert_eq!(lost.code, Some(11));
    lost.names("blobs", Condition::Fail, "is gone", "restore it from a backup");
    bare.stop().await;
    let data = tempfile::tempdir().unwrap();
    let full = server(data.path(), |config| config.disk.warn_below_mb = 1_000_000_000_000).await;
    let examined = examined(&full.fleet.addresses.http, None).await;
    examined.only("disk", Condition::Warn, "less than the", "warn_below_mb");
    full.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_named() {
    let data = tempfile::tempdir().unwrap();
    let server = server(data.path(), |config| {
        config.mqtt.broker = Some("mqtts://127.0.0.1:9".parse().unwrap());
        config.mqtt.public = Some("mqtts://127.0.0.1:9".parse().unwrap());
    })
    .await;
    let examined = examined(&server.fleet.addresses.http, None).await;
    examined.only("broker", Condition::Fail, "not connected to mqtts://127.0.0.1:9", "is it running");
    server.stop().await;
}

#[tokio::test]
async fn runs_that_wait_for_a_builder_are_named_until_one_asks() {
    let data = tempfile::tempdir().unwrap();
    let server = server(data.path(), |_| ()).await;
    let url = server.fleet.addresses.http.clone();
    let client = Client::new(&url).unwrap();
    client.post("/api/v1/runs", &[], &json!({"model": "er-beds", "reason": "try"})).await.unwrap();
    let waiting = examined(&url, None).await;
    waiting.only("builders", Condition::Warn, "1 runs wait", "muster builder run");
    let asks = json!({"builder": "b1", "models": ["another"]});
    assert!(
        client.post("/api/v1/runs/claim", &[], &asks).await.unwrap().is_null(),
        "there is nothing for it"
    );
    let examined = examined(&url, None).await;
    assert!(examined.of("builders").says.starts_with("b1 asked for work"), "{:?}", examined.of("builders"));
    server.stop().await;
}

#[tokio::test]
async fn whoever_did_not_show_who_they_are_is_told_how() {
    let data = tempfile::tempdir().unwrap();
    let server = server(data.path(), |config| {
        config.identity = IdentityConfig { mode: Mode::Required, ..IdentityConfig::default() };
    })
    .await;
    let url = server.fleet.addresses.http.clone();
    let nobody = examined(&url, None).await;
    assert_eq!(nobody.code, Some(11));
    nobody.names("token", Condition::Fail, "say who you are", "MUSTER_TOKEN");
    nobody.names("fleet", Condition::Unknown, "nothing of itself", "mend the token");
    let (good, ended) = tokens(&server).await;
    let expired = examined(&url, Some(&ended)).await;
    assert_eq!(expired.code, Some(11));
    expired.names("token", Condition::Fail, "has ended", "log in, or send a token");
    let known = examined(&url, Some(&good)).await;
    known.only(
        "token",
        Condition::Warn,
        "you are root, admin of default; your token is good for",
        "muster token new",
    );
    assert_eq!(known.of("database").state, Condition::Ok, "who may look everywhere is told all");
    server.stop().await;
}

/// One that is good for an hour, and one that ended.
async fn tokens(server: &Server) -> (String, String) {
    use muster_fleet::identity::{Grant, Role};
    let fleet = &server.fleet;
    crate::http::person(fleet, "root", "default", Role::Admin).await;
    let grant = || Grant::Role(Role::Admin);
    let good = crate::http::token(fleet, "root", None, grant(), Duration::from_hours(1)).await;
    (good, crate::http::token(fleet, "root", None, grant(), Duration::ZERO).await)
}

#[tokio::test]
async fn servers_of_other_versions_are_told_apart() {
    let fleet = FakeFleet::start().await;
    fleet.answer("GET /healthz", 200, json!({"status": "ok", "version": "99.0.0"}));
    fleet.answer("GET /api/v1/me", 200, json!({"mode": "open"}));
    let newer = examined(&fleet.url, None).await;
    assert_eq!(newer.code, Some(10));
    newer.names(
        "version",
        Condition::Warn,
        "older than the server, which is 99.0.0",
        "install muster 99.0.0 here",
    );
    newer.names("fleet", Condition::Unknown, "does not know how", "update it");
    fleet.with(|asked| asked.answers.remove("GET /healthz"));
    fleet.answer("GET /healthz", 200, json!({"status": "ok", "version": "0.0.1"}));
    fleet.answer("GET /api/v1/doctor", 403, json!({"detail": "no", "status": 403}));
    let older = examined(&fleet.url, None).await;
    older.names("version", Condition::Warn, "the server is 0.0.1, older", "update the server");
    older.names("fleet", Condition::Unknown, "may look everywhere", "administrator");
}

#[tokio::test]
async fn a_file_of_contexts_that_others_may_read_is_found_and_no_server_asked() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("contexts.toml");
    std::fs::write(&file, "[contexts]\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let fleet = FakeFleet::start().await;
    let output = doctor(&fleet.url, &["-o", "json", "--contexts", file.to_str().unwrap()], None).await;
    let checkup: Checkup = serde_json::from_slice(&output.stdout).unwrap();
    let examined = Examined { code: output.status.code(), checkup };
    examined.only("context", Condition::Fail, "others may read the tokens", "chmod 600");
    assert!(fleet.with(|asked| asked.requests.is_empty()));
}

//! The program `muster` against the contract: what is printed where, and with which exit code it ends.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_fleet::FakeFleet;

async fn muster(server: &str, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["--server", server, "--as", "nadia"]).args(args);
    command.env_remove("MUSTER_SERVER").stdin(std::process::Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn device(name: &str) -> Value {
    json!({"id": format!("d-{name}"), "name": name, "site": "ward\u{1b}[2J", "presence": "online",
        "slots": [{"slot": "er", "phase": {"is": "running"}, "current": {"version": "7", "provider": "openvino"}}]})
}

#[tokio::test]
async fn lists_are_followed_page_by_page_and_printed_without_control_characters() {
    let fleet = FakeFleet::start().await;
    let first = json!({"items": [device("er-1")], "next": "c2"});
    let second = json!({"items": [device("er-2")]});
    fleet.answer("GET /api/v1/devices", 200, first).answer("GET /api/v1/devices", 200, second);
    let listed = muster(&fleet.url, &["device", "list", "--presence", "online"]).await;
    assert!(listed.status.success(), "{}", err(&listed));
    let text = out(&listed);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("er 7") && text.contains("openvino") && !text.contains('\u{1b}'), "{text}");
    let asked = fleet.with(|asked| asked.requests.iter().map(|r| r.1.clone()).collect::<Vec<_>>());
    assert_eq!(asked, ["/api/v1/devices?presence=online", "/api/v1/devices?presence=online&cursor=c2"]);
}

#[tokio::test]
async fn names_and_json_are_for_programs() {
    let fleet = FakeFleet::start().await;
    fleet.answer("GET /api/v1/devices", 200, json!({"items": [device("er-1")]}));
    assert_eq!(out(&muster(&fleet.url, &["device", "ls", "-o", "name"]).await), "d-er-1\n");
    let listed = muster(&fleet.url, &["-o", "json", "device", "list"]).await;
    assert_eq!(serde_json::from_slice::<Value>(&listed.stdout).unwrap()["items"][0], device("er-1"));
}

#[tokio::test]
async fn refusals_are_a_sentence_and_a_next_step() {
    let fleet = FakeFleet::start().await;
    let problem =
        json!({"detail": "no rollout ro-x", "status": 404, "next": "look at `muster rollout list`"});
    fleet.answer("GET /api/v1/rollouts/ro-x", 404, problem);
    let shown = muster(&fleet.url, &["rollout", "show", "ro-x"]).await;
    assert_eq!(shown.status.code(), Some(1));
    assert_eq!(
        err(&shown),
        "error: the fleet server refused (404): no rollout ro-x\n  next: look at `muster rollout list`\n"
    );
    assert_eq!(out(&shown), "");
}

#[tokio::test]
async fn nobody_there_is_exit_code_4_and_a_wrong_line_2() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gone = format!("http://127.0.0.1:{port}");
    let listed = muster(&gone, &["device", "list"]).await;
    assert_eq!(listed.status.code(), Some(4));
    assert!(err(&listed).contains("no fleet server answers") && err(&listed).contains("muster-fleet serve"));
    assert_eq!(muster(&gone, &["device", "lost"]).await.status.code(), Some(2));
    assert_eq!(muster("nonsense", &["device", "list"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn destructive_acts_want_a_reason_and_consent_and_say_numbers() {
    let fleet = FakeFleet::start().await;
    let rollout = json!({"id": "ro-1", "bundle": {"version": "8"}, "phase": {"is": "running"},
        "stages": [{"name": "canary", "target_devices": 3, "activated": 1, "handed": 1}]});
    fleet.answer("GET /api/v1/rollouts/ro-1", 200, rollout.clone());
    fleet.answer("POST /api/v1/rollouts/ro-1/rollback", 200, rollout);
    assert_eq!(muster(&fleet.url, &["rollout", "rollback", "ro-1"]).await.status.code(), Some(2));
    let unsaid = muster(&fleet.url, &["rollout", "rollback", "ro-1", "--reason", "bad"]).await;
    assert_eq!(unsaid.status.code(), Some(2));
    assert!(
        err(&unsaid).contains("1 of 3 devices back from 8") && err(&unsaid).contains("--yes"),
        "{}",
        err(&unsaid)
    );
    let posts = |asked: &mut crate::fake_fleet::Asked| {
        asked.requests.iter().filter(|request| request.0 == "POST").cloned().collect::<Vec<_>>()
    };
    assert!(fleet.with(posts).is_empty());
    let done = muster(&fleet.url, &["rollout", "rollback", "ro-1", "--reason", "bad", "--yes"]).await;
    assert!(done.status.success(), "{}", err(&done));
    let (_, path, actor, body) = fleet.with(posts).remove(0);
    assert_eq!((path.as_str(), actor.as_str()), ("/api/v1/rollouts/ro-1/rollback", "nadia"));
    assert_eq!(body, json!({"reason": "bad"}));
}

#[tokio::test]
async fn a_rollout_is_created_as_typed() {
    let fleet = FakeFleet::start().await;
    fleet.answer("POST /api/v1/rollouts", 201, json!({"id": "ro-1"}));
    let args = [
        "rollout",
        "create",
        "--model",
        "er",
        "--bundle",
        "bundles/er/1.json",
        "--reason",
        "winter",
        "--stage",
        "canary=1,bake=1d",
        "--stage",
        "all=100%,quorum=90",
        "--site",
        "er-1",
        "--yes",
        "-o",
        "name",
    ];
    assert_eq!(out(&muster(&fleet.url, &args).await), "ro-1\n");
    let body = fleet.with(|asked| asked.requests[0].3.clone());
    assert_eq!(
        body,
        json!({"model": "er", "bundle": "bundles/er/1.json", "reason": "winter",
            "started_by": {"kind": "person", "name": "nadia"}, "selector": {"sites": ["er-1"]},
            "stages": [
                {"name": "canary", "size": {"count": 1}, "quorum_percent": 100, "bake_s": 86400, "deadline_s": 86400},
                {"name": "all", "size": {"percent": 100.0}, "quorum_percent": 90.0, "bake_s": 3600, "deadline_s": 86400}]})
    );
}

#[tokio::test]
async fn watching_ends_with_what_became_of_it() {
    let rollout = |phase: &str, active: u64| {
        json!({"id": "ro-1", "phase": {"is": phase, "reason": {"sentence": "worse on patients"}},
            "stages": [{"name": "canary", "target_devices": 2, "activated": active, "failed": 0, "state": "baking"}]})
    };
    for (end, code) in [("completed", 0), ("rolled_back", 3), ("aborted", 3)] {
        let fleet = FakeFleet::start().await;
        fleet.answer("GET /api/v1/rollouts/ro-1", 200, rollout("running", 1));
        fleet.answer("GET /api/v1/rollouts/ro-1", 200, rollout(end, 2));
        let watched = muster(&fleet.url, &["rollout", "watch", "ro-1"]).await;
        assert_eq!(watched.status.code(), Some(code), "{end}");
        let text = out(&watched);
        assert!(
            text.contains("stage canary: 1/2 baking\n") && text.contains("stage canary: 2/2 baking\n"),
            "{text}"
        );
    }
    let fleet = FakeFleet::start().await;
    fleet.answer("GET /api/v1/rollouts/ro-1", 200, rollout("running", 1));
    let watched = muster(&fleet.url, &["rollout", "watch", "ro-1", "--timeout", "0s"]).await;
    assert_eq!(watched.status.code(), Some(124));
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let fleet = FakeFleet::start().await;
    let many: Vec<Value> = (0..20_000).map(|i| device(&format!("er-{i}"))).collect();
    fleet.answer("GET /api/v1/devices", 200, json!({ "items": many }));
    let line = format!(
        "{} --server {} device list -o json | head -1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_muster"),
        fleet.url
    );
    let output = tokio::process::Command::new("bash").args(["-c", &line]).output().await.unwrap();
    assert_eq!((output.status.code(), err(&output)), (Some(0), String::new()));
}

#[tokio::test]
async fn creating_says_what_would_happen_and_starts_nothing_unasked() {
    let fleet = FakeFleet::start().await;
    fleet.answer(
        "POST /api/v1/rollouts",
        200,
        json!({"bundle": {"path": "bundles/er/1.json"}, "cohort": 7, "stages": [{}, {}]}),
    );
    let args =
        ["rollout", "create", "--model", "er", "--bundle", "bundles/er/1.json", "--reason", "winter model"];
    let unsaid = muster(&fleet.url, &args).await;
    assert_eq!(unsaid.status.code(), Some(2));
    let told = err(&unsaid);
    assert!(told.contains("out to 7 devices in 2 stages"), "{told}");
    assert!(told.contains("--reason 'winter model' --yes"), "it says the command to go on with: {told}");
    let asked = fleet.with(|asked| asked.requests.clone());
    assert_eq!(asked.len(), 1, "only the rehearsal was asked for: {asked:?}");
    assert!(asked[0].1.contains("dry_run=true"), "{asked:?}");
}

#[tokio::test]
async fn a_plan_file_is_applied_as_written_and_refused_with_its_line() {
    let fleet = FakeFleet::start().await;
    fleet.answer("POST /api/v1/rollouts", 201, json!({"id": "ro-1"}));
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/plans/winter-model.yaml");
    assert_eq!(
        out(&muster(&fleet.url, &["rollout", "apply", example, "--yes", "-o", "name"]).await),
        "ro-1\n"
    );
    let body = fleet.with(|asked| asked.requests[0].3.clone());
    assert_eq!((&body["approvals_min"], &body["stages"][0]["bake_s"]), (&json!(1), &json!(86_400)));
    let refusing = FakeFleet::start().await;
    refusing.answer("POST /api/v1/rollouts", 422, json!({"detail": "no such bundle", "code": "invalid", "errors": [{"pointer": "/bundle", "detail": "no such bundle"}]}));
    let refused = muster(&refusing.url, &["rollout", "plan", example]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        err(&refused)
            .contains("winter-model.yaml: line 6: bundle: the fleet server refused (422): no such bundle"),
        "{}",
        err(&refused)
    );
}

//! People at the command line, against a real server.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Duration;

use muster_protocol::enrol::EnrolmentFile;

use super::ward::{Newcomer, Ward};

async fn muster(ward: &Ward, line: &str) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["--server", &ward.server.fleet.addresses.http, "--as", "nadia"]).args(line.split(' '));
    command.current_dir(ward.data.path()).env_remove("MUSTER_SERVER");
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap()
}

async fn says(ward: &Ward, line: &str) -> String {
    let output = muster(ward, line).await;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{line}: {text}");
    text
}

async fn refuses(ward: &Ward, line: &str, part: &str) {
    let output = muster(ward, line).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains(part), "{line}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_made_carried_used_and_its_box_accepted() {
    let ward = Ward::open().await;
    let made = says(&ward, "enrol new --site er-2 --ttl 4h").await;
    assert!(made.contains("muster-agent enrol er-2.enrol") && !made.contains("fle_"), "{made}");
    let path = ward.data.path().join("er-2.enrol");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    refuses(&ward, "enrol new --site er-2", "is not overwritten").await;
    let listed = says(&ward, "enrol list").await;
    assert!(listed.contains("1 of 1") && listed.contains("manual") && listed.contains("nadia"), "{listed}");

    let file = EnrolmentFile::from_json(&std::fs::read(&path).unwrap()).unwrap();
    let newcomer = Newcomer::new("er-2-1");
    let waits = newcomer.enrol(&file).await.enrolled(202);
    let (id, fingerprint) = (waits.device.clone(), waits.fingerprint.to_string());
    let pending = says(&ward, "device pending").await;
    assert!(pending.contains(&fingerprint) && pending.contains("er-2-1"), "{pending}");
    refuses(&ward, &format!("device accept {id}"), "--yes").await;
    refuses(&ward, &format!("device accept {id} --fingerprint 0000-1111"), "fingerprint").await;
    let accepted = says(&ward, &format!("device accept {id} --fingerprint {fingerprint}")).await;
    assert!(accepted.contains("er-2-1 is active"), "{accepted}");
    newcomer.enrol(&file).await.enrolled(200);

    refuses(&ward, &format!("device revoke {id} --reason stolen"), "--yes").await;
    refuses(&ward, &format!("device dismiss {id} --reason x --yes"), "nothing speaks against").await;
    says(&ward, &format!("device quarantine {id} --reason odd --yes")).await;
    says(&ward, &format!("device release {id} --reason looked --yes")).await;
    let revoked = says(&ward, &format!("device revoke {id} --reason stolen --yes")).await;
    assert!(revoked.contains("for good") && revoked.contains("er-2-1 is revoked"), "{revoked}");
    refuses(&ward, &format!("device accept {id} --yes"), "cannot be accepted").await;
    let log = says(&ward, "log").await;
    for part in [
        "a file for a box at er-2 was made",
        "was accepted",
        "was quarantined: odd",
        "revoked, for good: stolen",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    ward.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_given_a_file_before_there_is_a_root() {
    let ward = Ward::bare().await;
    refuses(&ward, "enrol new --site er-2", "muster root new").await;
    assert!(!ward.data.path().join("er-2.enrol").exists());
    ward.close().await;
}

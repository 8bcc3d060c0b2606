//! From a file to a member of the fleet, with the real program at a real HTTPS door.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use muster_agent::identity::Identity;
use muster_protocol::enrol::ENROL_PATH;

use super::broker::Broker;
use super::door::{Door, Mood};
use super::fleet::Fleet;
use super::pki::{Authority, Clients, now_and_for, pki};
use super::process::{AGENT, Agent, configure};
use super::{HOUR, until};

fn enrol(dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(AGENT);
    command.args(["enrol", "er-1.enrol", "--config", "agent.toml", "--name", "er-1-left"]).args(more);
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end while the door, in this process, goes on.
async fn enrolled(dir: &Path, more: &[&str]) -> (i32, String) {
    let mut child = enrol(dir, more).spawn().unwrap();
    until("the enrolment to end", || child.try_wait().unwrap()).await;
    said(child)
}

fn said(child: Child) -> (i32, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap_or(-1), text)
}

fn key_of(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("state/enrolling/key.pem")).unwrap()
}

#[tokio::test]
async fn a_box_waits_to_be_accepted_and_then_belongs_to_the_fleet() {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let door = Door::open(&broker.mqtts()).await;
    door.inner().mood = Mood::Pending;
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    let file = door.file(dir.path());
    let mut child = enrol(dir.path(), &["--wait", "5m"]).spawn().unwrap();
    until("the box to ask again", || (door.asked(ENROL_PATH) > 1).then_some(())).await;
    assert!(!dir.path().join("state/identity").exists(), "it is not enrolled before it is accepted");
    door.inner().mood = Mood::Accepts;
    until("the enrolment to end", || child.try_wait().unwrap()).await;
    let (code, text) = said(child);
    assert_eq!(code, 0, "{text}");

    let identity = Identity::open(&dir.path().join("state")).unwrap().unwrap();
    let enrolment = identity.enrolment().unwrap();
    let fingerprint = identity.key().unwrap().fingerprint();
    assert!(
        text.contains(&format!("muster device accept {} --fingerprint {fingerprint}", enrolment.device)),
        "{text}"
    );
    assert!(!text.contains("fle_"), "the secret is not shown: {text}");
    for file in ["key.pem", "certificate.pem", "root.json", "enrolment.json"] {
        let mode = fs::metadata(dir.path().join("state/identity").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    {
        let inner = door.inner();
        assert!(inner.asked.iter().all(|(_, key, shown)| *key == fingerprint && shown.is_none()));
        let request = &inner.requests[0];
        assert_eq!(request.name, "er-1-left");
        assert!(!request.facts.arch.is_empty() && !request.facts.cpu_model.is_empty());
    }

    // The file is not needed any more, and the box is who the fleet says it is.
    fs::remove_file(file).unwrap();
    let agent = Agent::start(dir.path());
    let hello = until("the hello", || fleet.inner().hellos.first().cloned()).await;
    assert_eq!((hello.name.as_str(), hello.site.as_str(), hello.root), ("er-1-left", "er-1", Some(1)));
    let certificate = identity.certificate().unwrap().unwrap();
    assert_eq!(hello.certificate_expires, Some(certificate.expires));
    assert_eq!(hello.facts, Some(door.inner().requests[0].facts.clone()));
    assert_eq!(broker.front.state().came, std::slice::from_ref(&certificate.serial));
    let shown = Command::new(AGENT)
        .args(["identity", "--config"])
        .arg(dir.path().join("agent.toml"))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for word in
        [enrolment.device.as_str(), &fingerprint.to_string(), &door.url(), &broker.mqtts(), "good until"]
    {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert!(agent.terminate().await.success());
}

#[tokio::test]
async fn whatever_interrupts_it_the_same_command_goes_on_with_the_same_key() {
    let door = Door::open("mqtts://127.0.0.1:9").await;
    door.inner().mood = Mood::Pending;
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    door.file(dir.path());
    let mut killed = enrol(dir.path(), &[]).spawn().unwrap();
    until("the box to ask", || (door.asked(ENROL_PATH) > 0).then_some(())).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let key = key_of(dir.path());
    let (code, text) = enrolled(dir.path(), &["--wait", "0s"]).await;
    assert!(code == 7 && text.contains("run the same command again"), "exit {code}: {text}");
    assert_eq!(key_of(dir.path()), key);
    door.inner().mood = Mood::Accepts;
    let (code, text) = enrolled(dir.path(), &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(!dir.path().join("state/enrolling").exists());
    let inner = door.inner();
    assert_eq!(inner.keys.len(), 1, "one box, one key: {:?}", inner.asked);
}

#[tokio::test]
async fn what_the_fleet_refuses_is_said_with_what_to_do() {
    let door = Door::open("mqtts://127.0.0.1:9").await;
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    door.file(dir.path());
    let cases = [
        (403, "token_used_up", "somebody else may have enrolled"),
        (403, "token_expired", "muster enrol new"),
        (401, "token_unknown", "muster enrol new"),
        (403, "rejected", "rejected this box"),
        (403, "some_code", "a reason (some_code)"),
    ];
    for (status, code, says) in cases {
        door.inner().mood = Mood::Refuses(status, code, "a reason");
        let (exit, text) = enrolled(dir.path(), &[]).await;
        assert!(exit == 8 && text.contains(says), "exit {exit}: {text}");
        assert!(!dir.path().join("state/identity").exists());
        let kept = dir.path().join("state/enrolling/key.pem").exists();
        assert_eq!(kept, code != "rejected", "a key that a person rejected is not offered again");
    }
    let keys: std::collections::BTreeSet<_> = door.inner().asked.iter().map(|(_, key, _)| *key).collect();
    assert_eq!(keys.len(), 2);
    // Busy is not no, but it is no answer either.
    door.inner().mood = Mood::Refuses(503, "busy", "later");
    let (exit, text) = enrolled(dir.path(), &[]).await;
    assert!(exit == 9 && text.contains("busy"), "exit {exit}: {text}");
}

#[tokio::test]
async fn servers_and_roots_that_are_not_the_fleet_s_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    // Another fleet's authority, and the right one with a certificate that is not good any more.
    let stranger = Authority::new("stranger");
    let now = now_and_for(HOUR);
    let expired = (now.0.minus(48 * HOUR), now.0);
    let cases = [
        (pki().server_by(&stranger, Clients::MayShow, now), "trusted root names"),
        (pki().server_by(&pki().server_authority, Clients::MayShow, expired), "clock"),
    ];
    for (tls, says) in cases {
        let door = Door::open_with("mqtts://127.0.0.1:9", tls).await;
        door.file(dir.path());
        let (exit, text) = enrolled(dir.path(), &[]).await;
        assert!(exit == 9 && text.contains(says), "exit {exit}: {text}");
        assert_eq!(door.inner().asked.len(), 0, "nothing was said to it, the token least of all");
    }
    let door = Door::open("mqtts://127.0.0.1:9").await;
    let file = door.file(dir.path());
    let good = fs::read_to_string(&file).unwrap();
    let check = |text: String, exit: i32, says: &str| {
        fs::write(&file, text).unwrap();
        let (found, text) = said(enrol(dir.path(), &[]).spawn().unwrap());
        assert!(found == exit && text.contains(says), "exit {found}: {text}");
        assert!(!dir.path().join("state/identity").exists());
    };
    check(good.replace("\"version\": 1", "\"version\": 2"), 5, "root");
    check("{}".to_owned(), 2, "not an enrolment file");
    check(good.replace("https://", "http://"), 2, "https://");
    check(good.replace("fle_", "flx_"), 2, "not an enrolment file");
    check(good.replace(&door.address.port().to_string(), "9"), 9, "cannot be reached");
    assert_eq!(door.inner().asked.len(), 0);
}

#[tokio::test]
async fn an_enrolled_box_is_enrolled_again_only_on_purpose() {
    let door = Door::open("mqtts://127.0.0.1:9").await;
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    let file = door.file(dir.path());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, text) = enrolled(dir.path(), &[]).await;
    assert!(exit == 0 && text.contains("can be read by others"), "exit {exit}: {text}");
    let state = dir.path().join("state");
    let enrolment = || Identity::open(&state).unwrap().unwrap().enrolment().unwrap();
    let first = enrolment();
    let (exit, text) = enrolled(dir.path(), &[]).await;
    assert!(
        exit == 1 && text.contains("--again") && text.contains(first.device.as_str()),
        "exit {exit}: {text}"
    );
    assert_eq!(enrolment(), first);
    // The same box, the same device: the broker has moved.
    door.inner().mqtt = "mqtts://127.0.0.1:10".to_owned();
    let (exit, text) = enrolled(dir.path(), &["--again"]).await;
    assert_eq!(exit, 0, "{text}");
    let second = enrolment();
    assert_eq!((&second.device, second.fingerprint), (&first.device, first.fingerprint));
    assert_eq!(second.mqtt, "mqtts://127.0.0.1:10");
    assert!(state.join("identity.before/enrolment.json").exists());
    // With a new key it is another device to the fleet, which needs a file of its own for it.
    let (exit, text) = enrolled(dir.path(), &["--again", "--new-key"]).await;
    assert!(exit == 8 && text.contains("token_used_up"), "exit {exit}: {text}");
    assert_eq!(enrolment(), second, "what was is not lost by an attempt");
}

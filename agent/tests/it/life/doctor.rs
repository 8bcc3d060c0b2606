//! What `muster-agent doctor` finds: nothing on a box that is well, and each trouble by its name, with what to do next and
//! the exit code that says how bad it is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use muster_agent::clock::TrustClock;
use muster_agent::identity::Identity;
use muster_protocol::checkup::{Checkup, Condition, Finding};
use muster_protocol::ids::DeviceId;
use serde_json::Value;

use super::activation::{ROW, SCORE};
use super::broker::Broker;
use super::bundle::logistic;
use super::door::{Door, Mood};
use super::fleet::{Fleet, root_spec, signed_root};
use super::pki::Authority;
use super::process::{AGENT, Agent, Setup};
use super::{HOUR, until};
use crate::hardware::is_intel;

/// A box, and all that it needs around it.
struct Ward {
    broker: Broker,
    fleet: Fleet,
    door: Door,
    dir: tempfile::TempDir,
}

impl Ward {
    async fn open(setup: impl FnOnce(Setup) -> Setup) -> Self {
        let broker = Broker::start().await;
        let fleet = Fleet::start(broker.address);
        let door = Door::open(&broker.mqtts()).await;
        let dir = tempfile::tempdir().unwrap();
        let device = setup(Setup { server: door.url(), ..Setup::new(&broker.mqtts()) }).write(dir.path());
        let identity = Identity::open(&dir.path().join("state")).unwrap().unwrap();
        door.inner().keys.insert(identity.key().unwrap().fingerprint(), device);
        Self { broker, fleet, door, dir }
    }

    /// With a bundle that runs.
    async fn running(&self) -> (Agent, DeviceId) {
        let agent = Agent::start(self.dir.path());
        let device = agent.device().await;
        let bundle = logistic("1");
        self.fleet.publish(&[&bundle]);
        self.fleet.order(&device, 1, &[("m", &bundle)]);
        agent.scores(ROW, SCORE).await;
        (agent, device)
    }

    fn state(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("state").join(path)
    }

    fn configure(&self, more: &str) {
        let path = self.dir.path().join("agent.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{text}{more}")).unwrap();
    }

    async fn examined(&self) -> Examined {
        examined(self.dir.path()).await
    }
}

struct Examined {
    code: i32,
    checkup: Checkup,
}

/// As a technician types it, while door and front go on working.
async fn examined(dir: &Path) -> Examined {
    let mut command = Command::new(AGENT);
    command.args(["doctor", "--json", "--config"]).arg(dir.join("agent.toml"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let checkup =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    Examined { code: output.status.code().unwrap(), checkup }
}

impl Examined {
    fn of(&self, check: &str) -> &Finding {
        let found = self.checkup.checks.iter().find(|found| found.check == check);
        found.unwrap_or_else(|| panic!("nobody looked at {check}:\n{}", self.checkup.picture()))
    }

    /// This alone is not well, and it says so and what to do.
    fn only(&self, check: &str, state: Condition, says: &str, next: &str) {
        let troubled: Vec<&str> = self.checkup.troubles().map(|found| found.check.as_str()).collect();
        assert_eq!(troubled, [check], "\n{}", self.checkup.picture());
        self.names(check, state, says, next);
        assert_eq!(self.code, i32::from(state.exit_code()));
    }

    fn names(&self, check: &str, state: Condition, says: &str, next: &str) {
        let found = self.of(check);
        assert_eq!(found.state, state, "{found:?}");
        assert!(found.says.contains(says), "{found:?}");
        assert!(found.do_next.as_deref().unwrap().contains(next), "{found:?}");
        assert!(self.code == 11 || state < Condition::Fail, "exit {}: {found:?}", self.code);
    }
}

#[tokio::test]
async fn a_box_that_is_well_passes_and_its_agent_does_not_notice() {
    let ward = Ward::open(|setup| setup).await;
    let (agent, device) = ward.running().await;
    ward.fleet.state("the order's state", |state| state.observed_generation == 1).await;
    let watch = agent.watch(ROW, SCORE).await;
    let (hellos, statuses) = {
        let inner = ward.fleet.inner();
        (inner.hellos.len(), inner.statuses.len())
    };
    let examined = ward.examined().await;
    assert_eq!(
        (examined.code, examined.checkup.state),
        (0, Condition::Ok),
        "\n{}",
        examined.checkup.picture()
    );
    for check in [
        "configuration",
        "state",
        "disk",
        "enrolment",
        "key",
        "certificate",
        "trust",
        "trust.root",
        "trust.targets",
    ] {
        assert_eq!(examined.of(check).state, Condition::Ok);
    }
    assert!(examined.of("enrolment").says.contains(device.as_str()));
    let sees = if is_intel() { "OpenVINO sees CPU" } else { "ONNX Runtime's own kernels" };
    assert!(examined.of("runtime").says.contains(sees));
    assert!(examined.of("broker").says.contains(&ward.broker.mqtts()));
    assert!(examined.of("door").says.contains(&ward.door.url()));
    assert!(examined.of("agent").says.contains(&agent.pid().to_string()));
    assert!(examined.of("spool").says.contains("events"));
    // Its connection is the one that it had, and it has gone on answering.
    watch.unbroken().await;
    let inner = ward.fleet.inner();
    assert_eq!((inner.hellos.len(), inner.statuses.len()), (hellos, statuses), "the agent lost its session");
}

#[tokio::test]
async fn words_for_people_end_with_the_same_code() {
    let dir = tempfile::tempdir().unwrap();
    super::process::configure(dir.path());
    let output = Command::new(AGENT)
        .arg("doctor")
        .arg("--config")
        .arg(dir.path().join("agent.toml"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(11), "{text}");
    assert!(
        text.contains("FAIL     enrolment") && text.contains("next: on the fleet server 'muster enrol new"),
        "{text}"
    );
    assert!(text.lines().last().unwrap().contains(" fail"), "{text}");
    assert!(!dir.path().join("state").exists(), "it only looks");
}

#[tokio::test]
async fn what_one_may_not_use_is_named_with_what_to_do() {
    let ward = Ward::open(|setup| setup).await;
    let (agent, _) = ward.running().await;
    let mode =
        |path: &str, mode| fs::set_permissions(ward.state(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("identity/key.pem", 0o644);
    let examined = ward.examined().await;
    let says = "can be read by others (mode 644)";
    examined.names("key", Condition::Fail, says, "chmod 600");
    examined.names("certificate", Condition::Unknown, "without the key", "mend the key");
    examined.names("broker", Condition::Unknown, "nothing to show", "mend 'key'");
    mode("identity/key.pem", 0o600);
    mode("", 0o755);
    ward.examined().await.only("state", Condition::Warn, "mode 755", "chmod 700");
    mode("", 0o700);
    ward.configure("[disk]\nwarn_below_mb = 1000000000000\n");
    ward.examined().await.only("disk", Condition::Warn, "less than the", "warn_below_mb");
    ward.configure("fail_below_mb = 1000000000000\n");
    ward.examined().await.only("disk", Condition::Fail, "stops working", "fail_below_mb");
    ward.configure("typo = 1\n");
    ward.examined().await.only("configuration", Condition::Fail, "not understood", "correct it");
    drop(agent);
}

#[tokio::test]
async fn a_certificate_that_nobody_renews_is_told_before_it_ends() {
    let now = TrustClock::system().now();
    let ward = Ward::open(|setup| Setup { life: (now.minus(90 * HOUR), now.plus(10 * HOUR)), ..setup }).await;
    ward.door.inner().mood = Mood::Refuses(503, "busy", "later");
    let (agent, _) = ward.running().await;
    let examined = ward.examined().await;
    assert_eq!(examined.code, 10, "\n{}", examined.checkup.picture());
    examined.names("certificate", Condition::Warn, "good for", "renews it by itself");
    drop(agent);
    let ward = Ward::open(|setup| Setup { life: (now.minus(90 * HOUR), now.minus(HOUR)), ..setup }).await;
    let examined = ward.examined().await;
    examined.names("certificate", Condition::Fail, "expired", "renews it by itself");
    fs::remove_file(ward.state("identity/certificate.pem")).unwrap();
    ward.examined().await.names("certificate", Condition::Warn, "no certificate", "asks the fleet's door");
}

#[tokio::test]
async fn a_runtime_that_is_missing_is_named_with_the_command() {
    let ward = Ward::open(|setup| setup).await;
    let path = ward.dir.path().join("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once("[runtime]").unwrap();
    fs::write(path, format!("{before}[runtime]\ndir = \"nowhere\"\n")).unwrap();
    let examined = ward.examined().await;
    examined.names("runtime", Condition::Fail, "nowhere", "get-runtime.sh");
    examined.names("agent", Condition::Fail, "no agent answers", "systemctl start");
    examined.names("trust", Condition::Warn, "not run yet", "start the agent");
    assert_eq!(examined.of("broker").state, Condition::Ok, "it looks on");
}

#[tokio::test]
async fn servers_that_are_away_or_do_not_want_this_box_are_told_apart() {
    let mut ward = Ward::open(|setup| setup).await;
    let (agent, device) = ward.running().await;
    let serial = agent.identity().certificate().unwrap().unwrap().serial;
    ward.broker.front.state().barred.insert(serial);
    let next = format!("muster device show {device}");
    ward.examined().await.names("broker", Condition::Fail, "as soon as it knows this box", &next);
    ward.broker.front.state().barred.clear();
    // Another fleet's server, or a proxy that opens TLS.
    let other = Authority::new("others");
    ward.broker.front.state().tls =
        super::pki::pki().server_by(&other, super::pki::Clients::MustShow, super::pki::now_and_for(HOUR));
    ward.examined().await.names("broker", Condition::Fail, "trusted root names", "muster doctor");
    drop(agent);
    // Nobody there at all.
    let gone = tempfile::tempdir().unwrap();
    Setup::new("mqtts://127.0.0.1:9").write(gone.path());
    let examined = examined(gone.path()).await;
    examined.names("broker", Condition::Fail, "cannot be reached", "nc -vz 127.0.0.1 9");
    examined.names("door", Condition::Warn, "cannot be reached", "nc -vz 127.0.0.1 9");
    ward.broker.kill();
}

#[tokio::test]
async fn trust_files_and_a_clock_that_fell_behind_are_told() {
    let ward = Ward::open(|setup| setup).await;
    let (agent, _) = ward.running().await;
    until("the floor", || ward.state("trust/floor.json").exists().then_some(())).await;
    assert!(agent.terminate().await.success());
    // What was signed is from next year; the machine's clock is not.
    let path = ward.state("trust/floor.json");
    let mut floor: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let later = TrustClock::system().now().plus(400 * 24 * HOUR + HOUR);
    floor["time"] = later.to_string().into();
    fs::write(&path, floor.to_string()).unwrap();
    let examined = ward.examined().await;
    examined.names("clock", Condition::Fail, "400 days behind", "timedatectl");
    examined.names("trust.targets", Condition::Fail, "expired", "key holders");
    examined.names("trust.timestamp", Condition::Fail, "expired", "muster doctor");
    // Altered at rest.
    fs::write(ward.state("trust/timestamp.json"), "{}").unwrap();
    let examined = ward.examined().await;
    examined.names("trust", Condition::Fail, "timestamp.json", "A lost key");
    examined.names("broker", Condition::Unknown, "which servers", "mend 'trust'");
}

/// A root that soon ends is told while there is time to sign the next.
#[tokio::test]
async fn a_root_that_ends_soon_is_told() {
    let mut spec = root_spec(1);
    spec.expires = TrustClock::system().now().plus(Duration::from_hours(20 * 24));
    let root = signed_root(&spec, &[1]);
    let ward = Ward::open(|setup| Setup { root, ..setup }).await;
    let (agent, _) = ward.running().await;
    ward.examined().await.only(
        "trust.root",
        Condition::Warn,
        "root.json is good for 19 days",
        "Renewing what expires",
    );
    drop(agent);
}

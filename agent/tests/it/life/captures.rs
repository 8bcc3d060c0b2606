//! Rows for the site: where its own file and an order agree they are in a file that it alone can read, and nowhere else;
//! where they do not, there are none, the box says why, and what was ordered runs all the same.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_agent::clock::TrustClock;
use muster_protocol::capture::{
    CaptureReason, CaptureRequest, CaptureStanding, CaptureState, Sampling, ScoreBand,
};
use muster_protocol::ids::{CaptureId, DeviceId};
use muster_protocol::message::{EventKind, Phase};
use reqwest::Method;
use serde_json::{Value, json};

use super::HOUR;
use super::broker::Broker;
use super::bundle::{Bundle, build, fixture, logistic_b};
use super::fleet::Fleet;
use super::process::{Agent, set_up};
use super::until;
use crate::age::{Identity, open};

const CONFIG: &str = "[capture]\npolicy = \"capture.toml\"\n";
/// What no capture is allowed, in a value that nobody else has.
const SECRET: f32 = 0.123_456_79;
const SECRET_TEXT: &str = "0.12345679";
const NAME: &str = "mrn-00042-Lovelace";

struct Scene {
    _broker: Broker,
    fleet: Fleet,
    dir: tempfile::TempDir,
    device: DeviceId,
    bundle: Bundle,
    site: Identity,
}

impl Scene {
    /// A box that answers, without a policy.
    async fn start(config: &str) -> (Self, Agent) {
        let broker = Broker::start().await;
        let fleet = Fleet::start(broker.address);
        let dir = tempfile::tempdir().unwrap();
        let device = set_up(dir.path(), &broker);
        let path = dir.path().join("agent.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap() + config).unwrap();
        let agent = Agent::start(dir.path());
        let bundle = build("1", fixture("logistic.onnx"), &[0.524_979_19, 0.586_617_6], &[], |manifest| {
            manifest["signature"]["inputs"][0]["features"] = json!(["age", "genome", "heart_rate", "ward"]);
        });
        fleet.publish(&[&bundle]);
        let scene = Self { _broker: broker, fleet, dir, device, bundle, site: Identity::of([9; 32]) };
        (scene, agent)
    }

    fn allow(&self, columns: &[&str], rows_per_day: u32) {
        self.policy(&format!("[slots.m]\ncolumns = {columns:?}\nrows_per_day = {rows_per_day}\n"));
    }

    fn policy(&self, slots: &str) {
        let policy = format!(
            "recipients = [\"{}\"]\nuntil = \"2099-01-01T00:00:00Z\"\nbytes = 1048576\n{slots}",
            self.site.recipient()
        );
        fs::write(self.policy_path(), policy).unwrap();
        fs::set_permissions(self.policy_path(), fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn policy_path(&self) -> PathBuf {
        self.dir.path().join("capture.toml")
    }

    fn request(&self, rows: u32) -> CaptureRequest {
        CaptureRequest {
            id: CaptureId::mint([rows.to_le_bytes()[0]; 16]),
            slot: "m".parse().unwrap(),
            bundle: self.bundle.reference().sha256,
            why: CaptureReason::Review,
            rows,
            until: TrustClock::system().now().plus(HOUR),
            sample: Sampling::Every(1),
        }
    }

    fn order(&self, version: u64, capture: Vec<CaptureRequest>) {
        self.fleet.inner().capture = capture;
        self.fleet.order(&self.device, version, &[("m", &self.bundle)]);
    }

    /// Waits until the box says so of its only request, and that its order is followed.
    async fn stands(&self, wanted: CaptureStanding, rows: u64) -> CaptureState {
        let state = self
            .fleet
            .state(&format!("{wanted:?} of {rows} rows"), |state| {
                let running = state.slots.iter().any(|slot| matches!(slot.phase, Phase::Running { .. }));
                let stands =
                    matches!(state.captures.as_slice(), [one] if one.standing == wanted && one.rows == rows);
                running && stands
            })
            .await;
        assert_eq!(state.refusal, None);
        let said =
            |kind: &EventKind| matches!(kind, EventKind::Capture { standing, .. } if *standing == wanted);
        self.fleet.event("the event", said).await;
        state.captures[0].clone()
    }

    async fn running(&self, version: u64) {
        let running = |phase: &Phase| matches!(phase, Phase::Running { .. });
        self.fleet
            .state("the order followed", |state| {
                state.observed_generation == version && state.slots.iter().any(|slot| running(&slot.phase))
            })
            .await;
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.dir.path().join("state/captures"), &mut files);
        files.retain(|file| file.extension().is_some_and(|kind| kind == "age" || kind == "part"));
        files.sort();
        files
    }

    /// A file as the site reads it, line by line.
    fn read(&self, file: &Path) -> Vec<Value> {
        let plain = open(&self.site, &fs::read(file).unwrap()).unwrap();
        let text = String::from_utf8(plain).unwrap();
        assert!(!text.contains(SECRET_TEXT), "a column that is not allowed was captured");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Nothing of these patients in any byte that left the box, nor in any that it wrote.
    fn nothing_in_plain(&self) {
        let markers = [
            NAME.as_bytes(),
            SECRET_TEXT.as_bytes(),
            &SECRET.to_le_bytes(),
            b"8731.25",
            &8731.25_f32.to_le_bytes(),
        ];
        let holds = |bytes: &[u8]| {
            markers.iter().find(|marker| bytes.windows(marker.len()).any(|part| part == **marker)).copied()
        };
        let inner = self.fleet.inner();
        assert!(inner.heard.len() > 5);
        for bytes in &inner.heard {
            assert_eq!(holds(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
        let mut files = Vec::new();
        collect(self.dir.path(), &mut files);
        assert!(files.len() > 10, "{files:?}");
        for file in files {
            // The agent goes on meanwhile: a file that it was writing may have its name by now.
            let Ok(bytes) = fs::read(&file) else { continue };
            assert_eq!(holds(&bytes), None, "{}", file.display());
        }
        assert!(holds(format!("x{NAME}x").as_bytes()).is_some(), "the search finds what is there");
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// One patient asks, under the name that nobody else has.
async fn ask(agent: &Agent, row: [f32; 4]) {
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": row });
    let body = json!({ "id": NAME, "inputs": [input] });
    let (status, answer) = agent.send(Method::POST, "/v2/models/m/infer", None, body).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn rows_that_site_and_order_agree_on_are_in_a_file_that_only_the_site_reads() {
    let (scene, agent) = Scene::start(CONFIG).await;
    scene.allow(&["heart_rate", "age", "no_such_column"], 100);
    let request = scene.request(7);
    scene.order(1, vec![request.clone()]);
    scene.stands(CaptureStanding::Capturing, 0).await;
    for _ in 0..9 {
        ask(&agent, [8731.25, SECRET, 61.0, 3.0]).await;
    }
    // Told in steps of five, and the size in steps too.
    let told = scene.stands(CaptureStanding::Done, 5).await;
    assert_eq!((told.files, told.bytes, told.dropped), (1, 65_536, 0));
    let files = scene.files();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = scene.read(file);
    let (header, rows) = lines.split_first().unwrap();
    assert_eq!(
        (header["slot"].as_str(), header["columns"].clone()),
        (Some("m"), json!(["age", "heart_rate"]))
    );
    assert_eq!(header["request"], json!(request.id));
    assert_eq!((&header["bundle"], &header["sample"]), (&json!(request.bundle), &json!({ "every": 1 })));
    assert_eq!(rows.len(), 7);
    for row in rows {
        assert_eq!((&row["id"], &row["inputs"]), (&json!(NAME), &json!([8731.25, 61.0])));
        assert!(row["outputs"]["score"][0].as_f64().unwrap() > 0.9 && row["at"].is_string(), "{row}");
        assert_eq!(row.as_object().unwrap().len(), 5, "{row}");
    }
    scene.nothing_in_plain();

    let listed = agent.command(&["captures", "list"]).unwrap();
    assert!(listed.contains("done: as many rows") && listed.contains(".age"), "{listed}");
    let taken = scene.dir.path().join("taken");
    let said = agent.command(&["captures", "export", taken.to_str().unwrap()]).unwrap();
    assert!(said.contains("1 files"), "{said}");
    assert_eq!(scene.files(), Vec::<PathBuf>::new());
    assert_eq!(scene.read(&taken.join(file.file_name().unwrap())), lines);
    assert!(agent.command(&["captures", "list"]).unwrap().contains("no files wait here"));
}

#[tokio::test]
async fn without_either_half_there_are_no_rows_and_the_box_says_why() {
    let (scene, agent) = Scene::start(CONFIG).await;
    // The site's half alone.
    scene.allow(&["age"], 100);
    scene.order(1, Vec::new());
    scene.running(1).await;
    ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
    assert!(scene.fleet.inner().states.iter().all(|state| state.captures.is_empty()));
    assert!(!scene.dir.path().join("state/captures").exists());

    // The fleet's half alone.
    fs::remove_file(scene.policy_path()).unwrap();
    scene.order(2, vec![scene.request(50)]);
    scene.stands(CaptureStanding::NoSitePolicy, 0).await;
    ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
    // A policy that somebody else could have written, and one that nobody can read, are none.
    scene.allow(&["age"], 100);
    fs::set_permissions(scene.policy_path(), fs::Permissions::from_mode(0o666)).unwrap();
    scene.stands(CaptureStanding::UnsafeSitePolicy, 0).await;
    ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
    assert!(agent.log().contains("chmod go-w"), "{}", agent.log());
    scene.policy("[slots.m]\nrows = \"all\"\n");
    scene.stands(CaptureStanding::UnreadableSitePolicy, 0).await;
    // What it does not allow.
    scene.policy("[slots.other]\ncolumns = [\"age\"]\nrows_per_day = 50\n");
    scene.stands(CaptureStanding::SlotNotAllowed, 0).await;
    ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
    scene.allow(&["income"], 100);
    scene.stands(CaptureStanding::NoColumns, 0).await;
    // What was asked wrongly.
    scene.allow(&["age"], 100);
    let over = TrustClock::system().now().minus(Duration::from_secs(1));
    scene.order(3, vec![CaptureRequest { until: over, ..scene.request(51) }]);
    scene.stands(CaptureStanding::Over, 0).await;
    let bundle = logistic_b("2").reference().sha256;
    scene.order(4, vec![CaptureRequest { bundle, ..scene.request(52) }]);
    scene.stands(CaptureStanding::OtherBundle, 0).await;
    scene.order(5, vec![scene.request(4)]);
    scene.stands(CaptureStanding::TooFewRows, 0).await;
    ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
    assert_eq!(scene.files(), Vec::<PathBuf>::new());
    scene.nothing_in_plain();

    // And both halves at last; the site takes its own back, and what was captured till then is its.
    scene.order(6, vec![scene.request(53)]);
    scene.stands(CaptureStanding::Capturing, 0).await;
    for _ in 0..5 {
        ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
    }
    fs::remove_file(scene.policy_path()).unwrap();
    scene.stands(CaptureStanding::NoSitePolicy, 5).await;
    ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
    let files = scene.files();
    assert_eq!(files.iter().map(|file| scene.read(file).len()).collect::<Vec<_>>(), [6]);
    scene.nothing_in_plain();
}

#[tokio::test]
async fn a_box_without_a_policy_in_its_configuration_captures_nothing() {
    let (scene, agent) = Scene::start("").await;
    scene.allow(&["age"], 100);
    scene.order(1, vec![scene.request(50)]);
    scene.stands(CaptureStanding::NoSitePolicy, 0).await;
    ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
    assert!(
        agent
            .command(&["captures", "list"])
            .unwrap()
            .contains("no-site-policy: the site has no capture policy")
    );
    assert_eq!(scene.files(), Vec::<PathBuf>::new());
    scene.nothing_in_plain();
}

#[tokio::test]
async fn a_day_s_bound_outlives_a_kill_and_only_scores_in_the_band_are_kept() {
    let (scene, agent) = Scene::start(CONFIG).await;
    scene.allow(&["age"], 10);
    let band = ScoreBand { low_milli: 500, high_milli: 600 };
    scene.order(1, vec![CaptureRequest { sample: Sampling::Score(band), ..scene.request(50) }]);
    scene.stands(CaptureStanding::Capturing, 0).await;
    for _ in 0..7 {
        ask(&agent, [8731.25, SECRET, 0.0, 0.0]).await;
        ask(&agent, [0.0; 4]).await;
    }
    // Killed while a file is open: what it holds is lost, and not to be read either.
    until("an open file", || {
        scene.files().into_iter().find(|file| file.extension().is_some_and(|k| k == "part"))
    })
    .await;
    agent.kill();
    scene.nothing_in_plain();
    scene.fleet.inner().states.clear();
    let agent = Agent::start(scene.dir.path());
    agent.scores([0.0; 4], 0.524_979_19).await;
    scene.stands(CaptureStanding::Capturing, 0).await;
    for _ in 0..14 {
        ask(&agent, [0.0; 4]).await;
    }
    scene.stands(CaptureStanding::DayFull, 10).await;
    agent.kill();
    scene.fleet.inner().states.clear();
    let agent = Agent::start(scene.dir.path());
    agent.scores([0.0; 4], 0.524_979_19).await;
    scene.stands(CaptureStanding::DayFull, 10).await;
    for _ in 0..6 {
        ask(&agent, [0.0; 4]).await;
    }
    assert_eq!(agent.terminate().await.code(), Some(0));
    let rows: Vec<Value> = scene.files().iter().flat_map(|file| scene.read(file).split_off(1)).collect();
    assert_eq!(rows.len(), 10);
    assert!(
        rows.iter().all(|row| (row["outputs"]["score"][0].as_f64().unwrap() - 0.525).abs() < 0.001),
        "{rows:?}"
    );
}

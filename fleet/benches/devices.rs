//! What an operator of 100,000 boxes waits for: the real server on a database of so many, asked over loopback, and the
//! device list in a real browser. `make bench-devices`.
//!
//! Every goal is printed last as `goal NAME: VALUE UNIT, wanted <= LIMIT: met|missed`.

#![expect(clippy::disallowed_methods, reason = "a stopwatch asks the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on stops and says where"
)]

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use muster_fleet::enrolment::{Boots, Identity, Key, Standing, Suspicion};
use muster_fleet::store::{Store, devices, identities};
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::{BootId, DeviceId, Digest, SlotName};
use muster_protocol::message::up::{BundleRef, Phase, ProviderUse, Running, SlotState, State};
use muster_protocol::message::{Capabilities, Hello, Provider, VERSION};
use muster_protocol::time::Timestamp;
use serde::Deserialize;

const SITES: usize = 500;
/// One box in so many runs the newer version, and one in so many has failed to.
const NEWER_ONE_IN: usize = 1000;
const FAILED_ONE_IN: usize = 10_000;
const ASKED: usize = 30;
/// Counts that run while the list is asked for.
const COUNTS: usize = 4;

const ROWS_MS_MAX: f64 = 200.0;
const PAGE_MS_MAX: f64 = 1000.0;
const NODES_MAX: f64 = 1500.0;
const HEAP_MB_MAX: f64 = 60.0;

/// What the browser measured (`fleet/dashboard/tests/crowd.mjs`).
#[derive(Debug, Deserialize)]
struct Seen {
    interactive: f64,
    first: u32,
    most: f64,
    heap: f64,
    slowest: u32,
}

struct Server {
    child: Child,
    base: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // There may be one already; any will do.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let size = std::env::args().find_map(|size| size.parse().ok()).unwrap_or(100_000);
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    populate(dir.path(), size).await;
    println!("{size} boxes at {SITES} sites, written in {:.0} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let server = start(dir.path()).await;
    println!("the server answers after {:.1} s", began.elapsed().as_secs_f64());

    let base = &server.base;
    let newer = bundle(2).sha256;
    let mut slowest_list = 0.0_f64;
    println!("\n  {:<44}{:>10}{:>10}", "asked", "p50", "most");
    for (what, path) in [
        ("the first 200", "/devices?limit=200".to_owned()),
        ("of a site", "/devices?limit=200&site=site-250".to_owned()),
        ("by part of a name that ten have", "/devices?limit=200&q=-9999".to_owned()),
        ("by a name that none has", "/devices?limit=200&q=nobody".to_owned()),
        ("offline", "/devices?limit=200&presence=offline".to_owned()),
        ("failed, ten of them", "/devices?limit=200&phase=failed".to_owned()),
        ("that run the newer version, a hundred", format!("/devices?limit=200&bundle={newer}")),
    ] {
        slowest_list = slowest_list.max(row(what, &ask(base, &path, ASKED).await));
    }
    for (what, path) in [
        ("how many there are", "/devices/count".to_owned()),
        ("how many run the newer version", format!("/devices/count?bundle={newer}")),
        ("how many have a part in their name", "/devices/count?q=9".to_owned()),
        ("the overview", "/overview".to_owned()),
        ("models", "/models".to_owned()),
    ] {
        row(what, &ask(base, &path, ASKED).await);
    }
    let counting: Vec<_> = (0..COUNTS)
        .map(|n| {
            let base = base.clone();
            tokio::spawn(async move { ask(&base, &format!("/devices/count?q={n}"), 1000).await })
        })
        .collect();
    let beside = row("the first 200, beside four that count", &ask(base, "/devices?limit=200", ASKED).await);
    counting.iter().for_each(tokio::task::JoinHandle::abort);

    let seen = browse(base);
    println!(
        "\nthe browser: {} ms until there are rows; {} elements at first; the slowest jump of 100 rows {} ms",
        seen.interactive, seen.first, seen.slowest
    );
    let goals = [
        ("devices_first_rows", slowest_list, "ms", ROWS_MS_MAX),
        ("devices_first_rows_while_counting", beside, "ms", ROWS_MS_MAX),
        ("devices_page_interactive", seen.interactive, "ms", PAGE_MS_MAX),
        ("devices_page_elements", seen.most, "elements", NODES_MAX),
        ("devices_page_heap", seen.heap / 1e6, "MB", HEAP_MB_MAX),
    ];
    for (name, value, unit, limit) in goals {
        let word = if value <= limit { "met" } else { "missed" };
        println!("goal {name}: {value:.1} {unit}, wanted <= {limit}: {word}");
    }
    if goals.iter().all(|(_, value, _, limit)| value <= limit) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a line of the table, and returns its median.
fn row(what: &str, took: &[f64]) -> f64 {
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!("  {what:<44}{median:>7.1} ms{most:>7.1} ms");
    median
}

/// Milliseconds of each answer with its body, sorted.
async fn ask(base: &str, path: &str, times: usize) -> Vec<f64> {
    let http = reqwest::Client::new();
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        let answer = http.get(format!("{base}/api/v1{path}")).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let _body = answer.bytes().await.unwrap();
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    took
}

fn browse(base: &str) -> Seen {
    let dashboard = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard");
    let node = std::env::var("NODE").unwrap_or_else(|_| "node".to_owned());
    let ran = Command::new(node)
        .args(["tests/crowd.mjs", base])
        .current_dir(dashboard)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(ran.status.success(), "the browser's measurement failed: run `make packages ui` first");
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn start(data: &Path) -> Server {
    let config = data.join("fleet.toml");
    let listen = |part: &str| format!("\n[{part}]\nlisten = \"127.0.0.1:0\"\n");
    let text =
        format!("data = \"{}\"\n{}{}{}", data.display(), listen("http"), listen("mqtt"), listen("door"));
    std::fs::write(&config, text).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_muster-fleet"))
        .args(["serve", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server { child, base: String::new() };
    let http = reqwest::Client::new();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_mins(2), "the server does not answer");
        assert!(server.child.try_wait().unwrap().is_none(), "the server ended at once");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Ok(addresses) = std::fs::read(data.join("addresses.json")) else { continue };
        let Ok(addresses) = serde_json::from_slice::<serde_json::Value>(&addresses) else { continue };
        let Some(base) = addresses.get("http").and_then(serde_json::Value::as_str) else { continue };
        if http.get(format!("{base}/healthz")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            server.base = base.to_owned();
            return server;
        }
    }
}

fn bundle(version: u32) -> BundleRef {
    let path = format!("bundles/er-beds/{version}.json").parse().unwrap();
    BundleRef { path, sha256: Digest::of(format!("version {version}").as_bytes()) }
}

async fn populate(dir: &Path, size: usize) {
    let store = Store::open(dir).await.unwrap();
    let at = Timestamp::from_seconds(1_790_000_000);
    let slot: SlotName = "er-beds".parse().unwrap();
    let mut tx = store.write().await.unwrap();
    for n in 0..size {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        let (device, boot) = (DeviceId::mint(random), BootId::mint(random));
        let (name, site) = (format!("box-{n:06}"), format!("site-{:03}", n % SITES));
        let capabilities = Capabilities {
            arch: "x86_64".to_owned(),
            cpu_model: "Intel(R) Core(TM) Ultra 7 155H".to_owned(),
            cores: 16,
            memory_bytes: 32 << 30,
            cpu_flags: ["avx2", "avx_vnni", "f16c", "fma", "sse4_2"].map(str::to_owned).to_vec(),
            devices: ["CPU", "GPU", "NPU"].map(str::to_owned).to_vec(),
            runtime: "openvino 2026.1.0".to_owned(),
        };
        let facts = Facts {
            machine: None,
            board: None,
            arch: capabilities.arch.clone(),
            cpu_model: capabilities.cpu_model.clone(),
        };
        let spki = n.to_be_bytes().to_vec();
        let identity = Identity {
            device: device.clone(),
            name: name.clone(),
            site: site.parse().unwrap(),
            key: Key { fingerprint: Fingerprint::of(&spki), spki },
            former: None,
            standing: Standing::Active,
            since: at,
            facts,
            enrolment: None,
            enrolled: at,
            boots: Boots::default(),
            suspicion: Suspicion::default(),
        };
        identities::save(&mut tx, &identity).await.unwrap();
        let hello = Hello {
            v: VERSION,
            boot: boot.clone(),
            connection: 1,
            name,
            site: site.parse().unwrap(),
            agent_version: "0.3.0".to_owned(),
            capabilities,
            order_version: 0,
            root: None,
            certificate_expires: None,
            facts: None,
            key: None,
        };
        devices::hello(&mut tx, &device, &hello, at).await.unwrap();
        devices::state(&mut tx, &device, &state(n, boot, &slot, at)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

fn state(n: usize, boot: BootId, slot: &SlotName, at: Timestamp) -> State {
    let runs = bundle(if n.is_multiple_of(NEWER_ONE_IN) { 2 } else { 1 });
    let phase = if n % FAILED_ONE_IN == 1 {
        let sentence = "golden output 3 differs by 0.2".to_owned().into();
        Phase::Failed { bundle: bundle(2), code: "self_test".to_owned(), sentence, again: None }
    } else {
        Phase::Running { bundle: runs.clone() }
    };
    let current = Running {
        bundle: runs,
        variant: "cpu-int8".to_owned(),
        provider: ProviderUse { provider: Provider::OpenVino, reason: None },
        numerics: None,
        passed_over: None,
        since: at,
    };
    let slots = vec![SlotState {
        slot: slot.clone(),
        phase,
        current: Some(current),
        previous: Some(bundle(0)),
        notice: None,
    }];
    State {
        v: VERSION,
        boot,
        sequence: 1,
        at,
        observed_generation: 0,
        catalogue: 1,
        refusal: None,
        notices: Vec::new(),
        leases: Vec::new(),
        captures: Vec::new(),
        slots,
    }
}

//! Many boxes in one process, for what can only be seen with many: `make bench-loop`.
//!
//! ```text
//!   cargo run -p muster-agent --example swarm -- --file north.enrol --file south.enrol --each 500 --state DIR
//!                                                --clock '{"wall_start": …, "world_start": …, "factor": …}' --wrong FILE
//! ```
//! Each is a member of its own: it enrols with its own key, holds its own connection with its own certificate, checks the
//! signature of every order against the catalogue, and moves by the agent's real mind (`muster_agent::reconcile`). What
//! it has not got is a model: its hands take their time and do nothing, and its patients are sums. Every fourth box is of
//! another hardware class; bundles named in FILE are wrong there and nowhere else.
//!
//! It must never be counted as a box that infers.

mod device;
mod mind;
mod outbox;
mod patients;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use muster_agent::address::Address;
use muster_agent::clock::TrustClock;
use muster_agent::door::Door;
use muster_agent::identity::{Enrolling, Enrolment, Identity, KeyChoice, StateDir};
use muster_agent::trust::TrustStore;
use muster_agent::{identity, link, tls};
use muster_protocol::enrol::{EnrolRequest, EnrolState, EnrolmentFile, Facts, VERSION};
use muster_protocol::ids::Digest;
use muster_protocol::time::WorldScale;
use muster_protocol::trust::TrustedSet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use device::{Device, Facets};

pub(crate) type Fault = Box<dyn Error + Send + Sync>;

/// Enrolments and connections that are under way at once: the door turns away whoever comes with more.
const AT_ONCE: usize = 24;
const ENROL_ATTEMPTS: u32 = 20;

#[derive(Debug, Parser)]
struct Args {
    /// What `muster enrol new --approve auto` wrote; one for each site
    #[arg(long = "file", required = true)]
    files: Vec<PathBuf>,
    /// Boxes for each file
    #[arg(long, default_value_t = 100)]
    each: usize,
    /// Where their identities are kept; emptied by whoever started this
    #[arg(long)]
    state: PathBuf,
    #[arg(long, value_parser = scale)]
    clock: WorldScale,
    /// Paths of bundles, one a line, that are wrong on one hardware class; read whenever one is activated
    #[arg(long)]
    wrong: PathBuf,
    /// Real seconds between two reports of a box
    #[arg(long, default_value_t = 15.0)]
    report_s: f64,
}

fn scale(text: &str) -> Result<WorldScale, serde_json::Error> {
    serde_json::from_str(text)
}

/// What all boxes share: they trust the same root, so its files are read once.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) trust: Mutex<Trust>,
    pub(crate) clock: TrustClock,
    pub(crate) scale: WorldScale,
    pub(crate) wrong: PathBuf,
    pub(crate) report_every: Duration,
}

#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) store: TrustStore,
    /// A file has come since it was refreshed.
    pub(crate) is_behind: bool,
}

fn main() -> Result<(), Fault> {
    tracing_subscriber::fmt()
        .with_env_filter("warn,swarm=info")
        .with_writer(io::stdout)
        .with_ansi(false)
        .init();
    let _provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(live(args));
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

async fn live(args: Args) -> Result<(), Fault> {
    let mut files = Vec::new();
    for path in &args.files {
        files.push(EnrolmentFile::from_json(&std::fs::read(path)?)?);
    }
    let root = serde_json::to_vec(&files.first().ok_or("no enrolment file")?.root)?;
    let store = TrustStore::open(&args.state.join("trust"), &root)?;
    let (_authorities, trusted) = watch::channel(store.trusted().muster().tls_roots.clone());
    let shared = Arc::new(Shared {
        trust: Mutex::new(Trust { store, is_behind: false }),
        clock: TrustClock::system(),
        scale: args.clock,
        wrong: args.wrong.clone(),
        report_every: Duration::from_secs_f64(args.report_s),
    });
    let members = enrol_all(&args, files, &shared).await?;
    tracing::info!("{} boxes are enrolled", members.len());

    let mut tasks = JoinSet::new();
    for (number, (identity, facets)) in members.into_iter().enumerate() {
        let (boot, device) = (identity::boot()?, identity.enrolment()?.device);
        let config = link::LinkConfig {
            identity,
            device: device.clone(),
            boot: boot.clone(),
            clock: shared.clock.clone(),
            authorities: trusted.clone(),
        };
        let (link, heard) = link::start(config, &mut tasks);
        let device = Device::new(number, (device, boot), facets, link, Arc::clone(&shared));
        tasks.spawn(device.live(heard));
        if number % AT_ONCE == AT_ONCE - 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    tracing::info!("all boxes connect");
    signal(SignalKind::terminate())?.recv().await;
    tasks.shutdown().await;
    Ok(())
}

type Member = (Identity, Facets);

async fn enrol_all(
    args: &Args,
    files: Vec<EnrolmentFile>,
    shared: &Arc<Shared>,
) -> Result<Vec<Member>, Fault> {
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    let mut joining: JoinSet<Result<Member, Fault>> = JoinSet::new();
    for (site, file) in files.into_iter().enumerate() {
        let file = Arc::new(file);
        for n in 0..args.each {
            let number = site * args.each + n;
            let (seats, file, shared) = (Arc::clone(&seats), Arc::clone(&file), Arc::clone(shared));
            let folder = args.state.join(format!("box-{number}"));
            joining.spawn(async move {
                let _seat = seats.acquire().await?;
                enrol(number, &file, &folder, &shared.clock).await
            });
        }
    }
    let mut members = Vec::new();
    while let Some(joined) = joining.join_next().await {
        members.push(joined??);
    }
    Ok(members)
}

/// As `muster-agent enrol` does it.
async fn enrol(
    number: usize,
    file: &EnrolmentFile,
    folder: &Path,
    clock: &TrustClock,
) -> Result<Member, Fault> {
    let root = serde_json::to_vec(&file.root)?;
    let trusted = TrustedSet::from_root(&root)?;
    let tls = tls::client(&trusted.muster().tls_roots, None, clock)?;
    let door = Door::new(Address::https(&file.server)?, tls);
    let held = StateDir::open(folder)?;
    let enrolling = Enrolling::begin(&held, KeyChoice::Kept)?;
    let facets = Facets::of(number, file.site.clone());
    let facts = facets.facts.clone();
    let request = EnrolRequest { v: VERSION, name: facets.name.clone(), csr: enrolling.key().csr()?, facts };
    let mut attempts = 0;
    let answer = loop {
        attempts += 1;
        match door.enrol(&file.token, &request).await {
            Ok(answer) => break answer,
            Err(error) if error.is_transient() && attempts < ENROL_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let EnrolState::Active { certificate, mqtt } = answer.state else {
        return Err(
            "the enrolment file must let its boxes in by itself: muster enrol new --approve auto".into()
        );
    };
    let enrolment = Enrolment {
        v: VERSION,
        device: answer.device,
        name: facets.name.clone(),
        site: file.site.clone(),
        server: file.server.clone(),
        mqtt,
        fingerprint: enrolling.key().fingerprint(),
        enrolled: clock.now(),
    };
    Ok((enrolling.finish(&enrolment, &root, &certificate)?, facets))
}

/// Facts of a machine that is none; each its own.
pub(crate) fn facts(name: &str, cpu_model: &str) -> Facts {
    Facts {
        machine: Some(Digest::of(format!("machine {name}").as_bytes())),
        board: Some(Digest::of(format!("board {name}").as_bytes())),
        arch: "x86_64".to_owned(),
        cpu_model: cpu_model.to_owned(),
    }
}

//! The door: builds every part once, then carries what happens to the one loop until the agent is told to stop.
//!
//! ```text
//!   link ─▶ ┐                               ┌─▶ link          wants, state, events, reports
//!   download ▶ │  one Event ─▶ Agent ─▶ plan │─▶ download      what to fetch
//!   hands ─▶ │   (never waits)               │─▶ hands         verify, self-test, load: each in a task of its own
//!   renew ─▶ │                               │─▶ renew         a broker that does not like our certificate
//!   serve ─▶ │                               │                 leases and consent of people and applications at the box
//!   time ──▶ ┘                               └─▶ serve         what answers applications
//! ```
//! The loop never waits for a part that may be waiting for the loop: it hands over what fits and repeats the rest.

mod agent;
mod beside;
mod bundles;
mod captures;
mod deeds;
mod event;
mod house;
mod member;
mod orders;
mod outbox;
mod withdraw;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::enrol::Facts;
use muster_protocol::ids::{BootId, SlotName};
use muster_protocol::message::EventKind;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::activate::{Workbench, this_program};
use crate::blobs::Blobs;
use crate::capabilities;
use crate::clock::{TrustClock, WorldClock};
use crate::config::{self, Config, ConfigError, Environment};
use crate::disk::{self, DiskError};
use crate::download::{self, Slowest};
use crate::engine::{Engine, EngineError};
use crate::facts;
use crate::identity::{self, Enrolment, Identity, IdentityError, StateDir};
use crate::ledger::{Ledger, Recovered, SlotFiles, SlotRecord};
use crate::link::{self, LinkConfig};
use crate::renew::{self, RenewConfig};
use crate::serve::{self, Desk, ServeConfig, ServeError, ServeHandle, SlotLimits, Slots};
use crate::spool::{Bounds, Spool, SpoolError};
use crate::trust::{StoreError, TrustStore};
use agent::{Agent, Parts};
use event::Event;

/// Results of hands waiting for the loop.
const QUEUE: usize = 64;
/// The inference runtime narrates its start; what goes wrong there we say ourselves.
const LOG_DEFAULT: &str = "info,ort=warn";
/// How long the parts may take to stop, each.
const STOP: Duration = Duration::from_millis(400);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the configuration is wrong")]
    Config(#[from] ConfigError),
    #[error("MUSTER_LOG is not understood; write for instance 'debug' or 'muster_agent=debug,info'")]
    Log(#[source] tracing_subscriber::filter::ParseError),
    #[error("the inference runtime cannot be used; run 'make runtime' or 'scripts/get-runtime.sh {}'", dir.display())]
    Runtime {
        dir: PathBuf,
        #[source]
        source: EngineError,
    },
    #[error("this box's identity cannot be established")]
    Identity(#[from] IdentityError),
    #[error(
        "this box is not enrolled; on the fleet server 'muster enrol new --site SITE', then here \
         'muster-agent enrol FILE --state-dir {}'",
        .0.display()
    )]
    NotEnrolled(PathBuf),
    #[error("the agent's state is not usable")]
    State(#[from] DiskError),
    #[error("the agent's outbox is not usable")]
    Spool(#[from] SpoolError),
    #[error("the trust store cannot be opened")]
    Trust(#[source] StoreError),
    #[error("applications cannot be served")]
    Serve(#[source] ServeError),
    #[error("the system does not give the agent what it needs")]
    System(#[source] std::io::Error),
}

impl RunError {
    /// Documented in `--help`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Log(_) => 2,
            Self::Runtime { .. } => 3,
            Self::Identity(_) | Self::State(_) | Self::Spool(_) => 4,
            Self::Trust(_) => 5,
            Self::NotEnrolled(_) => 6,
            Self::Serve { .. } | Self::System(_) => 1,
        }
    }
}

/// Runs the agent until SIGTERM or Ctrl-C.
pub fn run(config: &Path) -> Result<(), RunError> {
    let environment = Environment::read();
    let filter =
        EnvFilter::try_new(environment.log.as_deref().unwrap_or(LOG_DEFAULT)).map_err(RunError::Log)?;
    // Fails only if a logger is set already, which then serves.
    let _logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    // More than one provider may be linked in; without a choice made here the first use of TLS would panic.
    let _provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Config::load(config, &environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(RunError::System)?;
    let result = runtime.block_on(live(config));
    runtime.shutdown_timeout(STOP);
    result
}

/// From opened files to the last word.
async fn live(config: Config) -> Result<(), RunError> {
    let clock = TrustClock::system();
    let world = WorldClock::new(clock.clone(), config.scale);
    let missing = |source| RunError::Runtime { dir: config.runtime_dir.clone(), source };
    let installed = Engine::inspect(&config.runtime_dir).map_err(missing)?;
    let opened = Opened::open(&config, &clock)?;
    let engine = Engine::open(&config.runtime_dir).map_err(missing)?;
    let capabilities = capabilities::look(&installed);
    let fitness = capabilities::fitness(&capabilities);
    let exe = this_program().map_err(RunError::System)?;
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(terminate), Ok(interrupt)] = &mut signals else {
        return Err(RunError::System(std::io::Error::other("signals cannot be caught")));
    };

    let stop = CancellationToken::new();
    let (state, shown) = watch::channel(serde_json::Value::Null);
    let slots = slots(world.clone(), &config);
    let key = identity::secret()?;
    // Anew with every start: who was given it long ago is asked again for a reason.
    disk::write(&config.state_dir.join(serve::CONSENT_KEY), format!("{key}\n").as_bytes())?;
    let (desk, mut house) = Desk::new(&key);
    let serving = serve::start(serve_config(&config.serve), slots.clone(), shown, desk, stop.clone());
    let serving = serving.await.map_err(RunError::Serve)?;
    let address = write_addresses(&config, &serving)?;

    let mut tasks = JoinSet::new();
    let device = opened.enrolment.device.clone();
    let (authorities, trusted) = watch::channel(opened.trust.trusted().muster().tls_roots.clone());
    let link_config = LinkConfig {
        identity: opened.identity.clone(),
        device: device.clone(),
        boot: opened.boot.clone(),
        clock: clock.clone(),
        authorities: trusted.clone(),
    };
    let (link, mut heard) = link::start(link_config, &mut tasks);
    let renew_config =
        RenewConfig { identity: opened.identity.clone(), device, clock: clock.clone(), authorities: trusted };
    let (renewer, mut membership) = renew::start(renew_config, &mut tasks);
    let (tell, mut told) = mpsc::channel(QUEUE);
    let slowest = Slowest { bytes_per_s: config.slowest.0, over: config.slowest.1 };
    let downloader =
        download::start(opened.blobs.clone(), link.clone(), slowest, tell).map_err(RunError::System)?;
    let (done, mut deeds) = mpsc::channel(QUEUE);
    tracing::info!(
        device.id = %opened.enrolment.device,
        name = opened.name,
        oip = address,
        runtime = engine.runtime_version(),
        "the agent runs"
    );
    let workbench = Workbench {
        blobs: opened.blobs.clone(),
        engine,
        runtime_dir: config.runtime_dir.clone(),
        exe,
        has: Arc::new(capabilities.clone()),
        waiting_max: config.serve.waiting,
    };
    let parts = Parts {
        config,
        clock,
        world,
        capabilities,
        fitness,
        slots,
        workbench,
        link: link.clone(),
        authorities,
        renewer,
        downloader,
        done,
        state,
    };
    let mut agent = Agent::new(parts, opened);
    agent.begin();
    loop {
        let wake = Instant::from_std(agent.next_wake());
        let event = tokio::select! {
            Some(heard) = heard.recv() => Event::from_link(heard),
            Some(told) = told.recv() => Event::from_download(told),
            Some(done) = deeds.recv() => done,
            Some(said) = membership.recv() => Event::Membership(said),
            Some(said) = house.recv() => Event::Said(said),
            () = tokio::time::sleep_until(wake) => Event::Time,
            () = caught(terminate, interrupt) => break,
        };
        agent.handle(event);
    }
    tracing::info!("the agent stops");
    agent.end();
    // The receiver is still here, so the link can hand over what it has and come to the farewell.
    let drain = async { while heard.recv().await.is_some() {} };
    tokio::select! {
        () = link.close() => {}
        () = drain => {}
    }
    stop.cancel();
    if tokio::time::timeout(STOP, serving.stopped()).await.is_err() {
        tracing::warn!("applications still had requests open when the agent stopped");
    }
    Ok(())
}

fn serve_config(serve: &config::Serve) -> ServeConfig {
    const MIB: usize = 1024 * 1024;
    ServeConfig {
        listen: serve.listen,
        grpc: serve.grpc,
        unix: serve.unix.clone(),
        request_bytes_max: serve.request_mb.saturating_mul(MIB),
        requests_bytes_max: serve.requests_mb.saturating_mul(MIB),
    }
}

/// Where applications find the box, for its own commands and people; the answer is the address of REST.
fn write_addresses(config: &Config, serving: &ServeHandle) -> Result<String, RunError> {
    let address = format!("http://{}", serving.addr);
    let addresses = serde_json::json!({ "oip": address, "grpc": serving.grpc, "unix": config.serve.unix });
    disk::write_json(&config.state_dir.join("addresses.json"), &addresses)?;
    Ok(address)
}

fn slots(world: WorldClock, config: &Config) -> Slots {
    let limits = SlotLimits { floor: config.floor, ..SlotLimits::default() };
    Slots::new(Arc::new(move || world.now()), limits)
}

async fn caught(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Everything that is kept on disk, opened.
#[derive(Debug)]
struct Opened {
    held: StateDir,
    identity: Identity,
    enrolment: Enrolment,
    /// What people call the box.
    name: String,
    facts: Facts,
    boot: BootId,
    blobs: Blobs,
    ledger: Ledger,
    files: SlotFiles,
    records: BTreeMap<SlotName, SlotRecord>,
    spool: Spool,
    trust: TrustStore,
}

impl Opened {
    fn open(config: &Config, clock: &TrustClock) -> Result<Self, RunError> {
        let held = StateDir::open(&config.state_dir)?;
        let identity =
            Identity::open(held.path())?.ok_or_else(|| RunError::NotEnrolled(held.path().to_owned()))?;
        let (enrolment, boot) = (identity.enrolment()?, identity::boot()?);
        let name = config.name.clone().unwrap_or_else(|| enrolment.name.clone());
        let trust =
            TrustStore::open(&held.path().join("trust"), &identity.root()?).map_err(RunError::Trust)?;
        // From here on this box knows at least what time it was when it was last told.
        clock.raise(trust.floor());
        let blobs = Blobs::open(held.path())?;
        let mut ledger = Ledger::open(held.path())?;
        let (files, recovered) = SlotFiles::open(held.path())?;
        for what in recovered {
            match what {
                Recovered::Finished { slot, bundle } => {
                    tracing::info!(%slot, bundle = %bundle.path, "finished the activation that was interrupted");
                }
                Recovered::Undone { slot, bundle } => {
                    tracing::warn!(%slot, bundle = %bundle.path, "undid the activation that was interrupted");
                    ledger.interrupted(bundle.sha256)?;
                }
            }
        }
        let records = files.all()?;
        let mut spool = Spool::open(&held.path().join("spool"), boot.clone(), Bounds::default())?;
        let agent_version = env!("CARGO_PKG_VERSION").to_owned();
        spool.event(clock.now(), EventKind::Started { agent_version })?;
        let facts = facts::look();
        Ok(Self { held, identity, enrolment, name, facts, boot, blobs, ledger, files, records, spool, trust })
    }
}

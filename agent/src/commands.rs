//! What people type on the box: `enrol`, `rekey`, `identity`, `consent`, `lease`, `captures`, `doctor`. Each says what it did
//! and what to do next, and ends with the exit code that `--help` documents.

pub mod captures;
pub mod consent;
pub mod doctor;
pub mod enrol;
pub mod identity;
pub mod lease;
mod local;
pub mod rekey;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use muster_protocol::enrol::EnrolError;
use muster_protocol::ids::DeviceId;
use muster_protocol::trust::TrustError;

use crate::address::AddressError;
use crate::config::{Config, ConfigError, Environment};
use crate::disk::DiskError;
use crate::door::{DoorError, Refused};
use crate::identity::{Identity, IdentityError, KeyError};
use crate::renew::RenewError;
use crate::tls::TlsError;

/// Where this box keeps its state.
#[derive(Debug, Args)]
pub struct Place {
    /// The configuration file, which names the state folder
    #[arg(long, default_value = "/etc/muster/agent.toml", conflicts_with = "state_dir")]
    config: PathBuf,
    /// The state folder itself, where there is no configuration file yet
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("the configuration is wrong; without one, give the state folder with --state-dir")]
    Config(#[from] ConfigError),
    #[error("this box's identity is not usable")]
    Identity(#[from] IdentityError),
    #[error("the state folder is not usable")]
    Disk(#[from] DiskError),
    #[error("the key cannot be used")]
    Key(#[from] KeyError),
    #[error("cannot read the enrolment file {}; 'muster enrol new' makes one, once for each box", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not an enrolment file; 'muster enrol new' makes one", path.display())]
    NoEnrolment {
        path: PathBuf,
        #[source]
        source: EnrolError,
    },
    #[error("the root in the enrolment file is not one to trust; make a new file on the fleet server")]
    Root(#[source] TrustError),
    #[error("the address in the enrolment is wrong; make a new file on the fleet server")]
    Address(#[from] AddressError),
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    #[error(
        "this box is enrolled already, as {device} with {server}; to enrol it anew, add --again (it stays the same device) \
         or --again --new-key (it becomes another)"
    )]
    Enrolled { device: DeviceId, server: String },
    #[error(
        "this box trusts another fleet's root; to change whom it trusts, first: \
         muster-agent trust reset --root NEW.root.json"
    )]
    OtherFleet(#[source] Box<crate::trust::StoreError>),
    #[error("what this box believes cannot be read")]
    Trust(#[source] Box<crate::trust::StoreError>),
    #[error(
        "this box is not enrolled; on the fleet server 'muster enrol new', then here 'muster-agent enrol FILE'"
    )]
    NotEnrolled,
    #[error(
        "this box waits to be accepted: compare the fingerprint and accept it on the fleet server, then run the same \
         command again"
    )]
    Waiting,
    #[error("{advice}")]
    Refused {
        advice: String,
        #[source]
        source: Refused,
    },
    #[error("no answer from the fleet")]
    Door(#[source] DoorError),
    #[error("the fleet's answer cannot be used")]
    Answer(#[source] RenewError),
    #[error("this box has no certificate that is good; 'muster-agent run' renews it, then try again")]
    NoCertificate,
    #[error(transparent)]
    Local(#[from] local::LocalError),
    #[error("the system does not give what is needed")]
    System(#[source] io::Error),
}

impl CommandError {
    /// Documented in `--help`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::File { .. } | Self::NoEnrolment { .. } => 2,
            Self::Identity(_) | Self::Disk(_) | Self::Key(_) => 4,
            Self::Root(_) | Self::OtherFleet(_) | Self::Trust(_) => 5,
            Self::NotEnrolled => 6,
            Self::Waiting => 7,
            Self::Refused { .. } => 8,
            Self::Door(_) | Self::Tls(_) => 9,
            Self::Enrolled { .. }
            | Self::Address(_)
            | Self::Answer(_)
            | Self::Local(_)
            | Self::NoCertificate
            | Self::System(_) => 1,
        }
    }
}

impl Place {
    /// The state folder, and the name that the configuration gives the box.
    fn find(&self) -> Result<(PathBuf, Option<String>), CommandError> {
        if let Some(dir) = &self.state_dir {
            return Ok((dir.clone(), None));
        }
        let config = Config::load(&self.config, &Environment::read())?;
        Ok((config.state_dir, config.name))
    }
}

fn enrolled(state_dir: &Path) -> Result<Identity, CommandError> {
    Identity::open(state_dir)?.ok_or(CommandError::NotEnrolled)
}

/// Prints for a person. If nobody listens any more, what is done is done all the same.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).unwrap_or(());
}

/// Commands talk to one server, once.
fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    // Fails only if a provider is installed already, which then serves.
    let _provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::System)?;
    runtime.block_on(work)
}

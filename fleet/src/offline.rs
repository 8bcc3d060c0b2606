//! Work on the data folder without a server: certificate authorities, and certificates for what is not a box.
//!
//! What changes authorities takes the folder's lock, so it waits for no running server and no running server misses it:
//! stop the server, run the command, start the server. What only issues and shows is safe beside one.

mod broker_config;
mod ca;
mod observer;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::addresses::DataDirError;
use crate::clock::TrustClock;
use crate::config::{Config, ConfigError};
use crate::pki::{Pki, PkiError};
pub use broker_config::BrokerConfig;
pub use ca::CaVerb;
pub use observer::ObserverCertificate;

const DAY: Duration = Duration::from_hours(24);

/// Which data folder.
#[derive(Args, Debug)]
pub struct Folder {
    /// The server's configuration, to find its data folder.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The server's data folder [default: ./.muster/fleet].
    #[arg(long)]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Offline {
    /// The certificate authorities: shows and replaces them.
    #[command(subcommand)]
    Ca(CaVerb),
    /// Writes a configuration for Mosquitto in the place of the embedded broker.
    ///
    /// Writes the folder anew each time: run it again before the broker's certificate ends and after each `ca` command.
    #[command(after_help = "\
Example:
  muster-fleet broker-config --data /var/lib/muster/fleet --name broker.hospital.example --out /etc/mosquitto/muster")]
    BrokerConfig(BrokerConfig),
    /// Makes a certificate for somebody who watches the broker, with `mosquitto_sub` for example.
    ///
    /// Who has it reads orders, states, presence and events of all devices, and can write nothing. It cannot be revoked;
    /// keep its life short.
    #[command(after_help = "Example:\n  muster-fleet observer-certificate night-shift --out ./night-shift")]
    ObserverCertificate(ObserverCertificate),
}

#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    #[error("the data folder cannot be used")]
    Data(#[from] DataDirError),
    #[error("the certificates cannot be used")]
    Pki(#[from] PkiError),
    #[error("{} cannot be named in a configuration: it holds a quote or a control character", path.display())]
    Path { path: PathBuf },
    #[error("{} cannot be made", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the answer cannot be written")]
    Print(#[source] std::io::Error),
}

impl Folder {
    fn data(&self) -> Result<PathBuf, OfflineError> {
        Ok(Config::load(self.config.as_deref(), self.data.clone())?.data)
    }

    /// Beside a running server: nothing is written into the folder.
    fn look(&self) -> Result<Pki, OfflineError> {
        Ok(Pki::load(&std::path::absolute(self.data()?).unwrap_or_default().join("pki"))?)
    }
}

impl Offline {
    pub fn run(self) -> Result<(), OfflineError> {
        let now = TrustClock.now();
        match self {
            Self::Ca(verb) => verb.run(now),
            Self::BrokerConfig(wish) => wish.run(now),
            Self::ObserverCertificate(wish) => wish.run(now),
        }
    }
}

fn say(text: &str) -> Result<(), OfflineError> {
    writeln!(std::io::stdout(), "{text}").map_err(OfflineError::Print)
}

/// The path as it will be written into files that others read.
fn nameable(path: &Path) -> Result<PathBuf, OfflineError> {
    let path =
        std::path::absolute(path).map_err(|source| OfflineError::Folder { path: path.to_owned(), source })?;
    let good =
        path.to_str().is_some_and(|text| !text.chars().any(|c| c.is_control() || "'\"`$\\".contains(c)));
    if good { Ok(path) } else { Err(OfflineError::Path { path }) }
}

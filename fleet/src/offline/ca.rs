//! `muster-fleet ca`: the certificate authorities.

use clap::Subcommand;
use muster_protocol::time::Timestamp;

use super::{Folder, OfflineError, say};
use crate::addresses::DataLock;
use crate::pki::{AuthorityView, Pki};

#[derive(Debug, Subcommand)]
pub enum CaVerb {
    /// Shows the authorities, which of them sign, and until when; safe while the server runs.
    #[command(after_help = "Example:\n  muster-fleet ca show --data /var/lib/muster/fleet")]
    Show(Folder),
    /// Lets a new authority sign devices. Those before stay trusted until their last certificate has ended, 90 days later,
    /// and are forgotten then. Stop the server first.
    #[command(after_help = "\
Example:
  systemctl stop muster-fleet
  sudo -u muster muster-fleet ca rotate-device --data /var/lib/muster/fleet
  systemctl start muster-fleet")]
    RotateDevice(Folder),
    /// Makes the authority that will sign this server, and prints it for the next root. Stop the server first.
    ///
    /// Then publish a root that names both (muster root edit --add-tls-root DATA/pki/server-ca.pem), wait until all boxes
    /// have it, and run `ca switch-server`.
    #[command(after_help = "\
Example:
  sudo -u muster muster-fleet ca prepare-server --data /var/lib/muster/fleet
  muster root edit --add-tls-root server-ca.pem")]
    PrepareServer(Folder),
    /// Lets the prepared authority sign this server. Boxes whose root does not name it can come back no more until they get
    /// the root in another way. Stop the server first.
    #[command(
        after_help = "Example:\n  sudo -u muster muster-fleet ca switch-server --data /var/lib/muster/fleet"
    )]
    SwitchServer(Folder),
}

impl CaVerb {
    pub(super) fn run(self, now: Timestamp) -> Result<(), OfflineError> {
        match self {
            Self::Show(folder) => show(&folder.look()?),
            Self::RotateDevice(folder) => alone(&folder, |pki| {
                pki.rotate_device_ca(now)?;
                show(pki)
            }),
            Self::PrepareServer(folder) => alone(&folder, |pki| {
                pki.prepare_server_ca(now)?;
                let path = pki.server_bundle_path();
                say(&format!(
                    "{} holds the authority of now and the next one; name both in the next root",
                    path.display()
                ))
            }),
            Self::SwitchServer(folder) => alone(&folder, |pki| {
                pki.switch_server_ca(now)?;
                show(pki)
            }),
        }
    }
}

/// With the folder's lock, so that no server serves what is no longer so.
fn alone(folder: &Folder, work: impl FnOnce(&Pki) -> Result<(), OfflineError>) -> Result<(), OfflineError> {
    let _lock = DataLock::take(&folder.data()?)?;
    work(&folder.look()?)
}

fn show(pki: &Pki) -> Result<(), OfflineError> {
    let view = pki.view();
    let line = |one: &AuthorityView| {
        let signs = if one.signs { "signs" } else { "is trusted" };
        format!("{:<26} {signs:<10} until {}", one.name, one.expires)
    };
    for one in view.device.iter().chain(&view.server).chain([&view.client]) {
        say(&line(one))?;
    }
    say(&format!("this server is {}   until {}", view.names.join(", "), view.server_expires))
}

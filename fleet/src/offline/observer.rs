//! `muster-fleet observer-certificate`.

use std::path::PathBuf;

use clap::Args;
use muster_protocol::time::Timestamp;

use super::{DAY, Folder, OfflineError, say};
use crate::pki::files;

#[derive(Args, Debug)]
pub struct ObserverCertificate {
    /// Who watches: 1 to 48 of a-z, 0-9 and '-'. The client id is o-NAME.
    name: String,
    /// The folder for ca.pem, client.pem and client.key; made if absent.
    #[arg(long)]
    out: PathBuf,
    /// How long it is good.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    #[command(flatten)]
    folder: Folder,
}

impl ObserverCertificate {
    pub(super) fn run(self, now: Timestamp) -> Result<(), OfflineError> {
        let Self { name, out, days, folder } = self;
        let pki = folder.look()?;
        let made = pki.issue_observer(&name, DAY * days, now)?;
        std::fs::create_dir_all(&out).map_err(|source| OfflineError::Folder { path: out.clone(), source })?;
        files::write_private(&out.join("client.key"), &made.key)?;
        files::write(&out.join("client.pem"), &made.certificate)?;
        files::write(&out.join("ca.pem"), &pki.tls_roots().concat())?;
        let out = out.display();
        say(&format!(
            "good until {}; for example:\n  mosquitto_sub -V 5 -h HOST -p PORT -i o-{name} --cafile {out}/ca.pem --cert \
             {out}/client.pem --key {out}/client.key -t 'muster/1/d/+/up/state' -v",
            made.expires
        ))
    }
}

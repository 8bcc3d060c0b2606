//! `muster-agent rekey`: a new key, shown to be the box's own by the old one. Works while the agent runs, which notices.

use std::path::Path;

use clap::Args;
use muster_protocol::trust::{FileName, Files, TrustedSet};

use super::{CommandError, Place, block_on, enrolled, say};
use crate::address::Address;
use crate::clock::TrustClock;
use crate::disk;
use crate::door::{Door, DoorError};
use crate::identity::Identity;
use crate::renew::certified;
use crate::tls::{self, Shown};

#[derive(Debug, Args)]
#[command(after_help = "The old key and certificate are kept until the new ones have connected once.\n\
    If the command is interrupted, run it again: it offers the same new key.\n\n\
    Example:\n  muster-agent rekey --config /etc/muster/agent.toml")]
pub struct RekeyArgs {
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &RekeyArgs) -> Result<(), CommandError> {
    let (state_dir, _) = args.place.find()?;
    let identity = enrolled(&state_dir)?;
    let enrolment = identity.enrolment()?;
    let authorities = authorities(&state_dir, &identity)?;
    let credential = identity.credentials()?.into_iter().next().ok_or(CommandError::NoCertificate)?;
    let key = credential.key.pem();
    let shown = Shown { chain: &credential.certificate.pem, key: &key };
    let tls = tls::client(&authorities, Some(shown), &TrustClock::system())?;
    let door = Door::new(Address::https(&enrolment.server)?, tls);
    let csr = identity.next_key()?.csr()?;
    let answer = block_on(async {
        door.rekey(csr).await.map_err(|error| {
            if let DoorError::Refused(source) = error {
                CommandError::Refused { advice: "the fleet does not take the new key".to_owned(), source }
            } else {
                CommandError::Door(error)
            }
        })
    })?;
    let (pem, mqtt) = certified(answer, &enrolment.device).map_err(CommandError::Answer)?;
    let certificate = identity.keep_rekeyed(&pem, &mqtt)?;
    say(&format!(
        "{} has a new key:\n\n        {}\n\nCertificate good until {}. The old key goes when the new one has connected once.",
        enrolment.device,
        identity.key()?.fingerprint(),
        certificate.expires
    ));
    Ok(())
}

/// The TLS authorities of the newest root that is stored. Only reads: the agent may be at work in the folder.
fn authorities(state_dir: &Path, identity: &Identity) -> Result<Vec<String>, CommandError> {
    let mut trusted = TrustedSet::from_root(&identity.root()?).map_err(CommandError::Root)?;
    let mut roots = Files::new();
    for path in disk::list(&state_dir.join("trust"))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if matches!(name.parse(), Ok(FileName::Root(_)))
            && let Some(bytes) = disk::read(&path)?
        {
            roots.insert(name.to_owned(), bytes);
        }
    }
    while !trusted.update_roots(&roots).adopted.is_empty() {}
    Ok(trusted.muster().tls_roots.clone())
}

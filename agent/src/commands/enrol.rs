//! `muster-agent enrol FILE`: from a one-use file to a member of the fleet.
//!
//! ```text
//!   file ─▶ root signed by itself? ─▶ key on disk ─▶ POST /v1/enrol ──202──▶ show the fingerprint, ask again, ever later
//!                                                        │ 200                      until accepted, rejected or --wait
//!                                                        ▼
//!                                                 certificate ─▶ identity/
//! ```
//! Whatever interrupts it: the same command again goes on with the same key, and the fleet gives the same answer.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use muster_protocol::enrol::{EnrolRequest, EnrolState, Enrolled, EnrolmentFile, Fingerprint, VERSION};
use muster_protocol::limits::ENROLMENT_BYTES_MAX;
use muster_protocol::trust::{FileName, TrustedSet};
use tokio::time::Instant;

use super::{CommandError, Place, block_on, say};
use crate::address::Address;
use crate::back_off::BackOff;
use crate::clock::TrustClock;
use crate::door::{Door, DoorError, Refused};
use crate::identity::{Enrolling, Enrolment, Identity, KeyChoice, StateDir, jitter};
use crate::trust::{StoreError, TrustStore};
use crate::{capabilities, chain, disk, facts, tls};

const NAME_BYTES_MAX: usize = 64;

#[derive(Debug, Args)]
#[command(
    after_help = "The file is read, never changed. Once this box is accepted it is worthless and may be deleted.\n\
    If the command is interrupted or stops waiting, run it again: it goes on with the same key.\n\n\
    Examples:\n  \
    muster-agent enrol /media/usb/er-2.enrol\n  \
    muster-agent enrol er-2.enrol --name er-2-left --wait 8h\n  \
    muster-agent enrol new.enrol --again              # the server moved; stays the same device\n  \
    muster-agent enrol new.enrol --again --new-key    # the key may be known to others"
)]
pub struct EnrolArgs {
    /// The file that 'muster enrol new' made on the fleet server
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// What people call this box; else the configuration's name, else the host name
    #[arg(long)]
    name: Option<String>,
    /// How long to wait to be accepted, such as 30s, 15m or 8h
    #[arg(long, default_value = "1h")]
    wait: Wait,
    /// Enrol a box that is enrolled already
    #[arg(long)]
    again: bool,
    /// Make a new key, and so another device, instead of keeping this box's
    #[arg(long, requires = "again")]
    new_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait(Duration);

impl FromStr for Wait {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "write a number and s, m or h, such as 30s, 15m or 8h";
        let unit = text.chars().last().ok_or(form)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(form),
        };
        let count: u32 = text[..text.len() - 1].parse().map_err(|_| form)?;
        Ok(Self(Duration::from_secs(u64::from(count) * seconds)))
    }
}

pub fn run(args: &EnrolArgs) -> Result<(), CommandError> {
    let (state_dir, configured) = args.place.find()?;
    let file = read(&args.file)?;
    let root = serde_json::to_vec(&file.root).map_err(|source| CommandError::NoEnrolment {
        path: args.file.clone(),
        source: muster_protocol::enrol::EnrolError::Json(source),
    })?;
    let trusted = TrustedSet::from_root(&root).map_err(CommandError::Root)?;
    let address = Address::https(&file.server)?;
    let clock = TrustClock::system();
    let tls = tls::client(&trusted.muster().tls_roots, None, &clock)?;
    let held = StateDir::open(&state_dir)?;
    let root = root_to_pin(args, &state_dir, root, trusted.versions().root)?;
    let enrolling = Enrolling::begin(&held, if args.new_key { KeyChoice::New } else { KeyChoice::Kept })?;
    let name = name(args, configured);
    let request =
        EnrolRequest { v: VERSION, name: name.clone(), csr: enrolling.key().csr()?, facts: facts::look() };
    let fingerprint = enrolling.key().fingerprint();
    say(&format!("This box '{name}' made its key. Its fingerprint:\n\n        {fingerprint}\n"));
    let back_off = if address.is_local() {
        BackOff { shortest: Duration::from_millis(200), longest: Duration::from_secs(2) }
    } else {
        BackOff { shortest: Duration::from_secs(2), longest: Duration::from_secs(30) }
    };
    let asking = Asking {
        door: Door::new(address, tls),
        file: &file,
        request,
        fingerprint,
        back_off,
        wait: args.wait.0,
    };
    let (answer, certificate, mqtt) = match block_on(asking.until_accepted()) {
        Ok(accepted) => accepted,
        Err(error) => {
            if is_rejection(&error) {
                enrolling.discard()?;
            }
            return Err(error);
        }
    };
    let enrolment = Enrolment {
        v: VERSION,
        device: answer.device,
        name,
        site: file.site.clone(),
        server: file.server.clone(),
        mqtt,
        fingerprint,
        enrolled: clock.now(),
    };
    let identity = enrolling.finish(&enrolment, &root, &certificate)?;
    let expires =
        identity.certificate()?.map(|certificate| certificate.expires.to_string()).unwrap_or_default();
    say(&format!(
        "Enrolled as {} at {}. Certificate good until {expires}; it renews itself.\n\
         The file {} is used up and may be deleted. Next: muster-agent run (or start the service).",
        enrolment.device,
        enrolment.site,
        args.file.display()
    ));
    Ok(())
}

/// Whoever holds the file may enrol one box with it, so others should not be able to read it. But it comes on USB sticks,
/// whose file systems know no owners, and is worthless in a moment: so this is said and not refused.
fn read(path: &Path) -> Result<EnrolmentFile, CommandError> {
    let wrong = |source| CommandError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(wrong)?;
    let mode = file.metadata().map_err(wrong)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        say(&format!(
            "Note: {} can be read by others (mode {mode:o}). It is a secret until it is used.",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.take(ENROLMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    EnrolmentFile::from_json(&bytes)
        .map_err(|source| CommandError::NoEnrolment { path: path.to_owned(), source })
}

/// Whether this box may be enrolled with this root, and the root's bytes as it knows them.
fn root_to_pin(
    args: &EnrolArgs,
    state_dir: &Path,
    root: Vec<u8>,
    version: u64,
) -> Result<Vec<u8>, CommandError> {
    if !args.again {
        return match Identity::open(state_dir)? {
            None => Ok(root),
            Some(identity) => {
                let Enrolment { device, server, .. } = identity.enrolment()?;
                Err(CommandError::Enrolled { device, server })
            }
        };
    }
    // What it believes of the catalogue stays, so the new root must be of the same fleet.
    let trust = state_dir.join("trust");
    let document = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let root = match disk::read(&trust.join(FileName::Root(version).wire()))? {
        // The same document; only its spaces may differ.
        Some(stored) if document(&stored) == document(&root) => stored,
        Some(_) | None => root,
    };
    if trust.exists() {
        TrustStore::open(&trust, &root).map_err(|error| {
            let other_root = matches!(error, StoreError::OtherRoot { .. });
            let error = Box::new(error);
            if other_root { CommandError::OtherFleet(error) } else { CommandError::Trust(error) }
        })?;
    }
    Ok(root)
}

fn name(args: &EnrolArgs, configured: Option<String>) -> String {
    let name = args.name.clone().or(configured).unwrap_or_else(capabilities::host_name);
    let mut name: String = name.trim().chars().filter(|letter| !letter.is_control()).collect();
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    if name.is_empty() { capabilities::host_name() } else { name }
}

struct Asking<'a> {
    door: Door,
    file: &'a EnrolmentFile,
    request: EnrolRequest,
    fingerprint: Fingerprint,
    back_off: BackOff,
    wait: Duration,
}

impl Asking<'_> {
    async fn until_accepted(&self) -> Result<(Enrolled, String, String), CommandError> {
        let began = Instant::now();
        let mut told: Option<Instant> = None;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.door.enrol(&self.file.token, &self.request).await {
                Ok(answer) => match answer.state.clone() {
                    EnrolState::Active { certificate, mqtt } => return Ok((answer, certificate, mqtt)),
                    EnrolState::Pending if told.is_none() => {
                        self.explain(&answer);
                        told = Some(Instant::now());
                    }
                    EnrolState::Pending => {}
                },
                Err(DoorError::Refused(refused)) if refused.status != 429 && refused.status < 500 => {
                    return Err(CommandError::Refused { advice: advice(&refused), source: refused });
                }
                // Once the fleet has answered, a network that comes and goes is only a reason to wait.
                Err(error) if error.is_transient() && told.is_some() => {
                    say(&format!("  … {}; trying again", chain(&error)));
                }
                Err(error) => return Err(CommandError::Door(error)),
            }
            let waited = began.elapsed();
            if waited >= self.wait {
                return Err(CommandError::Waiting);
            }
            if let Some(at) = told
                && at.elapsed() >= Duration::from_mins(1)
            {
                say(&format!("  … still waiting to be accepted ({} min)", waited.as_secs() / 60));
                told = Some(Instant::now());
            }
            let pause = self.back_off.wait(attempts, jitter()).min(self.wait.saturating_sub(waited));
            tokio::time::sleep(pause).await;
        }
    }

    fn explain(&self, answer: &Enrolled) {
        say(&format!(
            "{server} knows it as {device}, and somebody there must accept it.\n\
             Compare the fingerprint above with the one shown there, then accept, on the dashboard or with:\n\n        \
             muster device accept {device} --fingerprint {fingerprint}\n\n\
             Waiting …",
            server = self.file.server,
            device = answer.device,
            fingerprint = self.fingerprint,
        ));
    }
}

/// A person said no to this very key.
fn is_rejection(error: &CommandError) -> bool {
    matches!(error, CommandError::Refused { source, .. } if matches!(source.code.as_str(), "rejected" | "revoked"))
}

/// What to do, by the fleet's code.
fn advice(refused: &Refused) -> String {
    match refused.code.as_str() {
        "token_used_up" => {
            "another box has used up this file. If that was not you, tell whoever runs the fleet: somebody else may have \
             enrolled with it ('muster device pending' shows who waits). A new file: 'muster enrol new'"
        }
        "token_expired" => "the file is too old; make a new one: 'muster enrol new'",
        "token_unknown" | "token_cancelled" => {
            "the fleet does not know this file, or it was cancelled there; make a new one: 'muster enrol new'"
        }
        "rejected" => {
            "the fleet rejected this box; if that was a mistake, make a new file there ('muster enrol new') and enrol again"
        }
        "revoked" => {
            "the fleet has revoked this box's key for good; with a new file, add --again --new-key to become a new device"
        }
        _ => "the fleet does not enrol this box",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_understood() {
        let check = |text: &str, wanted: Option<u64>| {
            assert_eq!(text.parse::<Wait>().ok().map(|wait| wait.0.as_secs()), wanted, "{text}");
        };
        check("0s", Some(0));
        check("15m", Some(900));
        check("8h", Some(28_800));
        for wrong in ["", "s", "5", "5 m", "-1s", "1d", "99999999999h", "1ü"] {
            check(wrong, None);
        }
    }
}

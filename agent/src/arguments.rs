//! The command line of `muster-agent`: everything that can be typed, and the exit code that every end has.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::CommandError;
use crate::commands::captures::{self, CapturesCommand};
use crate::commands::consent::{self, ConsentCommand};
use crate::commands::doctor::{self, DoctorArgs};
use crate::commands::enrol::{self, EnrolArgs};
use crate::commands::identity::{self, IdentityArgs};
use crate::commands::lease::{self, LeaseCommand};
use crate::commands::rekey::{self, RekeyArgs};
use crate::trust_command::{self, TrustCommandError};
use crate::{chain, eval, quiet, runtime};

const EXIT_CODES: &str = "Exit codes:
  0   done, or stopped by SIGTERM or Ctrl-C
  1   something else failed; the message says what
  2   the command line or the configuration is wrong
  3   the inference runtime is missing or unusable
  4   the state folder is corrupt, held by another agent, or not writable
  5   the pinned root or the stored trust files are not usable
  6   this box is not enrolled: 'muster-agent enrol FILE'
  7   enrol: the box waits to be accepted; accept it, then run the same command again
  8   the fleet refused; the message says what to do
  9   the fleet server cannot be reached, or is not trusted
  10  doctor: something wants attention, or could not be looked at
  11  doctor: something is broken

MUSTER_LOG sets what is logged, for instance 'debug' or 'muster_agent=debug,info'.

Examples:
  muster-agent enrol /media/usb/er-2.enrol
  muster-agent run
  sudo -u muster muster-agent doctor";

#[derive(Debug, Parser)]
#[command(name = "muster-agent", version, about = "Runs signed model bundles on this box", after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connects to the fleet, keeps the models it orders running, reports
    #[command(after_help = "\
Examples:
  muster-agent run
  MUSTER_LOG=debug muster-agent run --config agent.toml")]
    Run {
        /// The configuration file
        #[arg(long, default_value = "/etc/muster/agent.toml")]
        config: PathBuf,
    },
    /// Makes this box a member of a fleet, with the file that 'muster enrol new' made there
    Enrol(EnrolArgs),
    /// Looks at everything this box needs, and says what to do about what is not well; changes nothing
    Doctor(DoctorArgs),
    /// Shows who this box is: device, key fingerprint, certificate, fleet; works while the agent runs
    Identity(IdentityArgs),
    /// Gives this box a new key; works while the agent runs
    Rekey(RekeyArgs),
    /// People at this box say yes to a bundle that waits for it, or take that back
    #[command(subcommand)]
    Consent(ConsentCommand),
    /// An application at this box says "not now", for a while
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// The site's person looks at the rows that were captured for the site, and takes them
    #[command(subcommand)]
    Captures(CapturesCommand),
    /// Answers inference requests from standard input with one model, within limits
    #[command(after_help = eval::EXAMPLES)]
    Eval(eval::EvalArgs),
    /// Shows whom this box trusts, and lets its owner begin anew
    #[command(subcommand)]
    Trust(trust_command::TrustCommand),
    /// Prints the version
    #[command(after_help = "Example:\n  muster-agent version")]
    Version,
}

impl Command {
    fn loads_the_runtime(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Doctor(_) | Self::Eval(_))
    }
}

/// Does what was typed; the exit code.
pub fn main() -> u8 {
    let command = Cli::parse().command;
    if command.loads_the_runtime()
        && let Err(error) = quiet::ensure()
    {
        let (name, value) = quiet::NO_REPORTS;
        writeln!(
            io::stderr(),
            "muster-agent: cannot start itself with {name}={value}: {error}; set it and start again"
        )
        .unwrap_or(());
        return 1;
    }
    match command {
        Command::Eval(args) => eval::run(&args),
        Command::Version => match writeln!(io::stdout(), "muster-agent {}", env!("CARGO_PKG_VERSION")) {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Command::Run { config } => ended(runtime::run(&config), runtime::RunError::exit_code),
        Command::Doctor(args) => doctor::run(&args).exit_code(),
        Command::Enrol(args) => ended(enrol::run(&args), CommandError::exit_code),
        Command::Identity(args) => ended(identity::run(&args), CommandError::exit_code),
        Command::Trust(command) => ended(trust_command::run(command), TrustCommandError::exit_code),
        Command::Consent(command) => ended(consent::run(&command), CommandError::exit_code),
        Command::Captures(command) => ended(captures::run(&command), CommandError::exit_code),
        Command::Lease(command) => ended(lease::run(&command), CommandError::exit_code),
        Command::Rekey(args) => ended(rekey::run(&args), CommandError::exit_code),
    }
}

fn ended<E: Error>(result: Result<(), E>, code: fn(&E) -> u8) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            writeln!(io::stderr(), "muster-agent: {}", chain(&error)).unwrap_or(());
            code(&error)
        }
    }
}

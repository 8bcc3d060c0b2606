//! `muster-agent`: reads the command line, builds everything once, turns the end into an exit code.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use muster_agent::{chain, eval, runtime, trust_command};

const EXIT_CODES: &str = "Exit codes:
  0  done, or stopped by SIGTERM or Ctrl-C
  1  something else failed; the message says what
  2  the command line or the configuration is wrong
  3  the inference runtime is missing or unusable
  4  the state folder is corrupt, held by another agent, or not writable
  5  the pinned root or the stored trust files are not usable

MUSTER_LOG sets what is logged, for instance 'debug' or 'muster_agent=debug,info'.";

#[derive(Parser)]
#[command(name = "muster-agent", version, about = "Runs signed model bundles on this box", after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Connects to the fleet, keeps the models it orders running, reports
    Run {
        /// The configuration file
        #[arg(long, default_value = "/etc/muster/agent.toml")]
        config: PathBuf,
    },
    /// Answers inference requests from standard input with one model, within limits
    Eval(eval::EvalArgs),
    /// Shows whom this box trusts, and lets its owner begin anew
    #[command(subcommand)]
    Trust(trust_command::TrustCommand),
    /// Prints the version
    Version,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Eval(args) => eval::run(&args),
        Command::Version => match writeln!(io::stdout(), "muster-agent {}", env!("CARGO_PKG_VERSION")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Command::Trust(command) => match trust_command::run(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                writeln!(io::stderr(), "muster-agent: {}", chain(&error)).unwrap_or(());
                ExitCode::from(error.exit_code())
            }
        },
        Command::Run { config } => match runtime::run(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                writeln!(io::stderr(), "muster-agent: {}", chain(&error)).unwrap_or(());
                ExitCode::from(error.exit_code())
            }
        },
    }
}

//! `muster-agent doctor`: looks at everything that this box needs, and says of whatever is not well what to do next.
//!
//! ```text
//!   configuration ─▶ folder, disk ─▶ who this box is ─▶ whom it believes, and its clock ─▶ broker and door
//!                                └─▶ runtime · spool · the agent that runs, and its slots
//! ```
//! It only reads, and a running agent does not notice it. So it goes as far as TLS with the broker and not to MQTT, where
//! it would take the agent's session over.

mod belief;
mod house;
mod member;
mod reach;
mod work;

use clap::Args;
use muster_protocol::checkup::{Checkup, Condition, Finding};
use muster_protocol::time::Timestamp;

use super::{Place, say};
use crate::chain;
use crate::clock::TrustClock;
use crate::config::{Config, ConfigError, Environment};
use crate::identity::Identity;

const HELP: &str = "\
Run it as the agent's user or as root: others cannot look into the state folder. It changes nothing and does not disturb an
agent that runs.

Exit codes:
  0   all is well
  10  something wants attention, or could not be looked at
  11  something is broken

Examples:
  sudo -u muster muster-agent doctor
  muster-agent doctor --config /etc/muster/agent.toml --json | jq '.checks[] | select(.state != \"ok\")'";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DoctorArgs {
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what it finds; the worst of it.
pub fn run(args: &DoctorArgs) -> Condition {
    // Fails only if a provider is installed already, which then serves.
    let _provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let checkup = Checkup::from(look(&args.place));
    if args.json {
        // Strings and lists of ours can be written.
        say(&serde_json::to_string(&checkup).unwrap_or_default());
    } else {
        say(&checkup.picture());
    }
    checkup.state
}

fn look(place: &Place) -> Vec<Finding> {
    let config = match configured(place) {
        Ok(config) => config,
        Err(error) => {
            let next = "correct it; nothing else was looked at, because it names what to look at";
            return vec![Finding::fail("configuration", chain(&error), next)];
        }
    };
    let clock = TrustClock::system();
    let mut found = vec![said(place), house::folder(&config.state_dir), house::disk(&config)];
    found.extend(house::policy(&config, clock.machine()));
    match Identity::at(&config.state_dir) {
        Some(identity) => found.extend(enrolled(&config, &identity, &clock)),
        None => found.push(Finding::fail(
            "enrolment",
            "this box is not enrolled",
            "on the fleet server 'muster enrol new --site SITE', then here 'muster-agent enrol FILE'",
        )),
    }
    found.push(work::runtime(&config.runtime_dir));
    found.push(work::spool(&config.state_dir));
    found.extend(work::agent(&config));
    found
}

fn configured(place: &Place) -> Result<Config, ConfigError> {
    let environment = Environment::read();
    match &place.state_dir {
        Some(dir) => Config::bare(dir, &environment),
        None => Config::load(&place.config, &environment),
    }
}

fn said(place: &Place) -> Finding {
    let says = match &place.state_dir {
        Some(_) => "none was read; all is looked at as if it said nothing".to_owned(),
        None => format!("{} is understood", place.config.display()),
    };
    Finding::ok("configuration", says)
}

fn enrolled(config: &Config, identity: &Identity, clock: &TrustClock) -> Vec<Finding> {
    let mut found = member::look(identity, clock.machine());
    let (belief, authorities) = belief::look(&config.state_dir, identity, clock.machine());
    found.extend(belief);
    found.extend(reach::look(identity, authorities.as_deref(), clock));
    found
}

/// Where nothing was believed yet, the machine's clock is all there is to go by.
fn latest(machine: Timestamp, floor: Timestamp) -> Timestamp {
    machine.max(floor)
}

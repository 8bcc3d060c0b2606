//! `muster site`, `muster lease`, `muster freeze`, `muster thaw`: when boxes may be touched.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::act::reason;
use super::output::{Column, text};
use super::{CliError, Context, completing, duration};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists sites that have rules.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster site list")]
    List,
    /// Shows what a site allows.
    #[command(after_help = "Example:\n  muster site show er-2")]
    Show {
        #[arg(add = completing::of(&completing::SITES))]
        site: String,
    },
    /// Replaces a site's rules; what you leave out allows everything.
    #[command(after_help = "\
Examples:
  muster site set er-2 --zone Europe/Berlin --activate 'daily 22:00-05:00'
  muster site set icu --zone Europe/Berlin --download 'mon-fri 18:00-07:00' --activate 'sat 02:00-06:00' --consent ask
  muster site set er-2 --in-flight 5")]
    Set(Set),
}

#[derive(Debug, Args)]
pub(super) struct Set {
    #[arg(add = completing::of(&completing::SITES))]
    site: String,
    /// The IANA zone that the windows are written in.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// When boxes may fetch and test; may be given several times. Always, without any.
    #[arg(long = "download", value_name = "WINDOW")]
    downloads: Vec<String>,
    /// When boxes may switch; may be given several times. Always, without any.
    #[arg(long = "activate", value_name = "WINDOW")]
    activations: Vec<String>,
    /// Boxes that may fetch or switch at the same moment.
    #[arg(long, value_name = "N")]
    in_flight: Option<u32>,
    /// Whether somebody at the box must say yes before it switches.
    #[arg(long, value_parser = ["ask", "not-needed"], default_value = "not-needed")]
    consent: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum LeaseVerb {
    /// Lists leases that hold now.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster lease list")]
    List,
    /// Says "not now" for a box or a whole site, for a while.
    #[command(after_help = "\
Examples:
  muster lease take --site er-2 --reason 'MRI running' --for 2h
  muster lease take --device d-… --owner 'Dr. Weber' --reason 'study in progress' --for 30m")]
    Take(Take),
    /// Gives a lease up before it runs out.
    #[command(after_help = "Example:\n  muster lease release le-… --reason 'the examination is over'")]
    Release {
        /// Its id, as `muster lease list` has it.
        #[arg(add = completing::of(&completing::LEASES))]
        id: String,
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("of").required(true))]
pub(super) struct Take {
    #[arg(long, group = "of", add = completing::of(&completing::SITES))]
    site: Option<String>,
    /// The box's id, as `muster device list` has it.
    #[arg(long, group = "of", add = completing::of(&completing::DEVICES))]
    device: Option<String>,
    /// Who holds it; you, without it.
    #[arg(long)]
    owner: Option<String>,
    #[arg(long)]
    reason: String,
    /// For how long, such as 30m or 2h. It ends by itself.
    #[arg(long = "for", value_parser = duration::some, value_name = "SPAN")]
    span: Duration,
}

/// Hands nothing out, in the whole fleet or at one site, until you thaw it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster freeze --reason 'flu wave: no changes this week'
  muster freeze --site er-2 --reason 'network works'
  muster freeze --list")]
pub(super) struct Freeze {
    /// Only this site.
    #[arg(long)]
    site: Option<String>,
    /// Why; others read it wherever they wonder why nothing moves.
    #[arg(long, required_unless_present = "list")]
    reason: Option<String>,
    /// Only shows what is frozen.
    #[arg(long, conflicts_with_all = ["site", "reason"])]
    list: bool,
}

/// Ends a freeze. That of the whole fleet, without `--site`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster thaw --reason 'the wave is over'
  muster thaw --site er-2")]
pub(super) struct Thaw {
    #[arg(long, add = completing::of(&completing::SITES))]
    site: Option<String>,
    #[arg(long, default_value = "")]
    reason: String,
}

const SITES: &[Column] = &[
    Column { title: "SITE", cell: |s| text(s, "/site") },
    Column { title: "ZONE", cell: |s| text(s, "/zone") },
    Column { title: "DOWNLOAD", cell: |s| hours(s, "/download/windows") },
    Column { title: "ACTIVATE", cell: |s| hours(s, "/activation/windows") },
    Column { title: "AT ONCE", cell: |s| text(s, "/in_flight_max") },
    Column { title: "CONSENT", cell: |s| text(s, "/consent") },
];

const LEASES: &[Column] = &[
    Column { title: "OF", cell: |l| format!("{}{}", text(l, "/site"), text(l, "/device")) },
    Column { title: "OWNER", cell: |l| text(l, "/owner") },
    Column { title: "UNTIL", cell: |l| text(l, "/expires") },
    Column { title: "REASON", cell: |l| text(l, "/reason") },
    Column { title: "ID", cell: |l| text(l, "/id") },
];

const FREEZES: &[Column] = &[
    Column {
        title: "WHAT",
        cell: |f| {
            let site = text(f, "/site");
            if site.is_empty() { "the fleet".to_owned() } else { site }
        },
    },
    Column { title: "SINCE", cell: |f| text(f, "/since") },
    Column { title: "BY", cell: |f| text(f, "/by") },
    Column { title: "REASON", cell: |f| text(f, "/reason") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::List => {
            let answer = client.list("/api/v1/sites", &[]).await?;
            context.output.list(&answer, "/site", SITES)
        }
        Verb::Show { site } => {
            let answer = client.get(&format!("/api/v1/sites/{site}"), &[]).await?;
            context.output.show(&answer, "/site", SITES)
        }
        Verb::Set(set) => {
            let mut rules = json!({
                "zone": set.zone,
                "download": { "windows": set.downloads },
                "activation": { "windows": set.activations },
                "consent": set.consent.replace('-', "_"),
            });
            if let (Some(max), Some(fields)) = (set.in_flight, rules.as_object_mut()) {
                fields.insert("in_flight_max".to_owned(), max.into());
            }
            let answer = client.put(&format!("/api/v1/sites/{}", set.site), &rules).await?;
            context.output.show(&answer, "/site", SITES)
        }
    }
}

pub(super) async fn lease(context: &mut Context, verb: LeaseVerb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        LeaseVerb::List => {
            let answer = client.list("/api/v1/leases", &[]).await?;
            context.output.list(&answer, "/id", LEASES)
        }
        LeaseVerb::Take(take) => {
            let body = json!({
                "site": take.site,
                "device": take.device,
                "owner": take.owner,
                "reason": reason(&take.reason)?,
                "for_s": take.span.as_secs(),
            });
            let answer = client.post("/api/v1/leases", &[], &body).await?;
            context.output.show(&answer, "/id", LEASES)
        }
        LeaseVerb::Release { id, reason } => {
            let body = json!({ "reason": reason });
            let answer = client.post(&format!("/api/v1/leases/{id}/release"), &[], &body).await?;
            context.output.show(&answer, "/id", LEASES)
        }
    }
}

pub(super) async fn freeze(context: &mut Context, freeze: Freeze) -> Result<(), CliError> {
    let client = context.client()?;
    let answer = match &freeze.reason {
        None => client.get("/api/v1/freezes", &[]).await?,
        Some(why) => {
            let body = json!({ "site": freeze.site, "reason": reason(why)? });
            client.post("/api/v1/freezes", &[], &body).await?
        }
    };
    context.output.list(&answer, "/site", FREEZES)
}

pub(super) async fn thaw(context: &mut Context, thaw: Thaw) -> Result<(), CliError> {
    let body = json!({ "site": thaw.site, "reason": thaw.reason });
    let answer = context.client()?.post("/api/v1/freezes/thaw", &[], &body).await?;
    context.output.list(&answer, "/site", FREEZES)
}

fn hours(site: &Value, pointer: &str) -> String {
    let windows = text(site, pointer);
    if windows.is_empty() { "always".to_owned() } else { windows }
}

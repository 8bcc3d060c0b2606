//! `muster completions`: a shell asks this program what the next word may be. Words come from the command line's own tree,
//! ids from the server, names of contexts from their file.
//!
//! ```text
//!   TAB ─▶ the shell's function ─▶ MUSTER_COMPLETE=bash muster -- WORDS ─▶ candidates, one a line
//! ```
//! It must be quick and quiet: a server that does not answer in a moment is not waited for, and nothing that goes wrong is
//! told, because it would be written into the line that somebody types.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;
use serde_json::Value;

use super::output::{Output, plain, text};
use super::{Cli, CliError, Whom};

pub(super) const HELP: &str = "\
Ids of boxes, rollouts, runs, models and so on are asked of the fleet that the line means. Run it anew with each version:

Examples:
  muster completions bash > ~/.local/share/bash-completion/completions/muster
  muster completions zsh > ~/.zfunc/_muster              # with fpath+=~/.zfunc before compinit
  muster completions fish > ~/.config/fish/completions/muster.fish";

/// By which a shell says that it asks, and which shell it is.
const VARIABLE: &str = "MUSTER_COMPLETE";
const PROGRAM: &str = "muster";
/// A file that zsh loads at the first TAB is that TAB's answer too, and not only that of those after it.
const ZSH_AUTOLOADED: &str =
    "if [ \"${funcstack[1]-}\" = _muster ]; then _clap_dynamic_completer_muster \"$@\"; fi\n";
/// How long a person waits for a word.
const PATIENCE: Duration = Duration::from_millis(800);
/// More is no help in choosing.
const SHOWN: usize = 100;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Elvish => "elvish",
            Self::Powershell => "powershell",
        }
    }
}

/// What the server has a list of.
#[derive(Debug)]
pub(super) struct Kind {
    path: &'static str,
    /// The parameter by which the list is narrowed to what was typed.
    narrow: Option<&'static str>,
    /// Where an item's name is.
    name: &'static str,
    /// What tells it from the others.
    about: &'static [&'static str],
}

pub(super) static DEVICES: Kind =
    Kind { path: "/api/v1/devices", narrow: Some("q"), name: "/id", about: &["/name", "/site", "/presence"] };
/// Where a name will do as well.
pub(super) static DEVICE_NAMES: Kind =
    Kind { path: "/api/v1/devices", narrow: Some("q"), name: "/name", about: &["/id", "/site", "/presence"] };
pub(super) static PENDING: Kind =
    Kind { name: "/device", about: &["/name", "/site", "/state"], ..list("/api/v1/identities") };
pub(super) static ROLLOUTS: Kind =
    Kind { about: &["/model", "/bundle/version", "/phase/is"], ..list("/api/v1/rollouts") };
pub(super) static RUNS: Kind = Kind { about: &["/model", "/state"], ..list("/api/v1/runs") };
pub(super) static MODELS: Kind = Kind { name: "/model", about: &["/newest"], ..list("/api/v1/models") };
pub(super) static BUNDLES: Kind = Kind { name: "/sha256", about: &["/path"], ..list("/api/v1/bundles") };
pub(super) static INCIDENTS: Kind =
    Kind { about: &["/model", "/kind", "/state"], ..list("/api/v1/incidents") };
pub(super) static CAPTURES: Kind = Kind { about: &["/slot", "/reason"], ..list("/api/v1/captures") };
pub(super) static LEASES: Kind = Kind { about: &["/owner", "/reason"], ..list("/api/v1/leases") };
pub(super) static ENROLMENTS: Kind = Kind { about: &["/site", "/state"], ..list("/api/v1/enrolments") };
pub(super) static COHORTS: Kind = Kind { name: "/name", about: &["/filter"], ..list("/api/v1/cohorts") };
pub(super) static DATASETS: Kind = Kind { name: "/name", about: &[], ..list("/api/v1/datasets") };
pub(super) static SITES: Kind = Kind { name: "/site", about: &["/zone"], ..list("/api/v1/sites") };
pub(super) static WEBHOOKS: Kind = Kind { name: "/name", about: &["/url"], ..list("/api/v1/webhooks") };
pub(super) static TOKENS: Kind = Kind { about: &["/label", "/role", "/state"], ..list("/api/v1/tokens") };

const fn list(path: &'static str) -> Kind {
    Kind { path, narrow: None, name: "/id", about: &[] }
}

/// For `#[arg(add = …)]`.
pub(super) fn of(kind: &'static Kind) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| candidates(kind, typed))
}

pub(super) fn print(output: &mut Output, shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    completions(shell.name(), &mut script)?;
    output.raw(&script)
}

/// The shell's half. It calls the program that is on the path.
pub fn completions(shell: &str, script: &mut Vec<u8>) -> io::Result<()> {
    let shells = Shells::builtins();
    let completer =
        shells.completer(shell).ok_or_else(|| io::Error::other(format!("'{shell}' is no shell")))?;
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, script)?;
    if completer.name() == "zsh" {
        script.extend_from_slice(ZSH_AUTOLOADED.as_bytes());
    }
    Ok(())
}

/// Answers a shell, if it is one that asks.
pub(super) fn answered() -> Option<ExitCode> {
    let here = std::env::current_dir().ok();
    let complete = CompleteEnv::with_factory(Cli::command).var(VARIABLE).bin(PROGRAM);
    match complete.try_complete(std::env::args_os(), here.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// Names of the contexts that are kept.
pub(super) fn contexts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let file = meant(typed_words()).and_then(|whom| whom.contexts());
    let names = file.map(|file| super::context::names(&file)).unwrap_or_default();
    let typed = typed.to_str().unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(typed)).map(CompletionCandidate::new).collect()
}

fn candidates(kind: &Kind, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_str().unwrap_or_default();
    let items = asked(kind, typed).unwrap_or_default();
    let named = items.iter().filter_map(|item| {
        let name = text(item, kind.name);
        (name.starts_with(typed) && is_plain(&name)).then(|| {
            let about: Vec<String> =
                kind.about.iter().map(|at| text(item, at)).filter(|text| !text.is_empty()).collect();
            let about = plain(&about.join(", "), ' ');
            CompletionCandidate::new(name).help((!about.is_empty()).then(|| about.into()))
        })
    });
    named.take(SHOWN).collect()
}

/// The first page of the list, if it comes in time.
fn asked(kind: &Kind, typed: &str) -> Option<Vec<Value>> {
    let whom = meant(typed_words())?;
    let client = whom.client(&whom.choose().ok()?).ok()?;
    let query: Vec<(&str, String)> =
        kind.narrow.filter(|_| !typed.is_empty()).map(|name| (name, typed.to_owned())).into_iter().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asking = async { tokio::time::timeout(PATIENCE, client.get(kind.path, &query)).await };
    let mut answer = runtime.block_on(asking).ok()?.ok()?;
    let Value::Array(items) = answer.get_mut("items").map(Value::take)? else { return None };
    Some(items)
}

/// The line as far as it is typed.
fn typed_words() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1)
}

/// Which fleet a line means that is not finished: options that say so may stand anywhere in it.
fn meant(words: impl Iterator<Item = OsString>) -> Option<Whom> {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    Whom::from_arg_matches(&matches).ok()
}

/// A word that a shell takes as it stands. Names come from the network, and this one goes into a line that is run next.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_finished_says_which_fleet_is_meant() {
        let check = |line: &str, server: Option<&str>, context: Option<&str>| {
            let whom = meant(line.split(' ').map(OsString::from)).unwrap();
            assert_eq!((whom.server.as_deref(), whom.context.as_deref()), (server, context), "{line}");
        };
        check("muster --server http://a rollout watch ", Some("http://a"), None);
        check("muster rollout watch --server http://a ", Some("http://a"), None);
        check("muster rollout watch --context er ro-", None, Some("er"));
        check("muster rollout watch --timeout 10m --context er --", None, Some("er"));
    }

    #[test]
    fn no_name_from_the_network_does_anything_in_a_shell() {
        let check = |name: &str, plain: bool| assert_eq!(is_plain(name), plain, "{name}");
        check("ro-0123abc", true);
        check("er-2.left_side", true);
        for wrong in ["", "a b", "$(reboot)", "`x`", "a;b", "a\nb", "a'b", "~", "ü"] {
            check(wrong, false);
        }
    }
}

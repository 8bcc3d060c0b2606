//! Changes of the catalogue's draft, each with what boxes will do once it is published.

use clap::{Args, ValueEnum};
use muster_protocol::ids::{BundlePath, ModelName};
use muster_protocol::limits::SENTENCE_BYTES_MAX;
use muster_protocol::trust::{FileName, Revocation, RevocationAction};

use super::super::{CliError, Context, act};
use crate::publisher::{Workspace, changes};

const NEXT: &str = "drafted; next: muster release publish --key NAME";

const EXAMPLES: &str = "\
Whether stopping helps or harms patients is a clinical question, so there is no default:
  stop     boxes that run it stop answering from that slot, and say why
  retain   boxes that run it run on until something replaces it

Either way no box activates it again, a local rollback neither. A bundle that a delegated role lists can be revoked too.

Examples:
  muster release revoke bundles/chest-xray/1.3.9.json --reason 'miscalibrated on portable AP films' --action stop
  muster release publish --key release";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Revoke {
    path: BundlePath,
    /// Why, for the people who find a box stopped.
    #[arg(long)]
    reason: String,
    /// What boxes do that run it.
    #[arg(long, value_enum)]
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// The slot stops answering and says why.
    Stop,
    /// It runs on until something replaces it.
    Retain,
}

pub(super) fn revoke(context: &mut Context, workspace: &Workspace, revoke: Revoke) -> Result<(), CliError> {
    let Revoke { path, reason, action } = revoke;
    let reason = act::reason(&reason)?.to_owned();
    if reason.len() > SENTENCE_BYTES_MAX {
        return Err(CliError::Usage(format!("error: a reason has at most {SENTENCE_BYTES_MAX} bytes")));
    }
    let action = match action {
        Action::Stop => RevocationAction::Stop,
        Action::Retain => RevocationAction::Retain,
    };
    workspace.revoke(&path, Revocation { reason, action }).map_err(CliError::other)?;
    context.output.say(&format!("{path} is revoked. {}", changes::effect(action)))?;
    context.output.say(NEXT)?;
    context.output.line(&path.to_string())
}

pub(super) fn yank(
    context: &mut Context,
    workspace: &Workspace,
    list: &FileName,
    path: &BundlePath,
) -> Result<(), CliError> {
    workspace.remove_bundle(list, path).map_err(CliError::other)?;
    context.output.say(&format!(
        "{path} leaves the catalogue: no box activates it any more, a local rollback neither; where it runs, it runs on"
    ))?;
    context.output.say(NEXT)?;
    context.output.line(&path.to_string())
}

pub(super) fn reinstate(
    context: &mut Context,
    workspace: &Workspace,
    path: &BundlePath,
) -> Result<(), CliError> {
    workspace.reinstate(path).map_err(CliError::other)?;
    context.output.say(&format!(
        "{path} is no longer revoked. Boxes may run it again once it is catalogued: if no delegated role lists it, put it back by `muster bundle add`"
    ))?;
    context.output.say(NEXT)?;
    context.output.line(&path.to_string())
}

pub(super) fn prune(
    context: &mut Context,
    workspace: &Workspace,
    list: &FileName,
    keep: usize,
    model: Option<&ModelName>,
) -> Result<(), CliError> {
    let left = workspace.prune(list, keep, model).map_err(CliError::other)?;
    if left.is_empty() {
        return context.output.say(&format!("no model has more than {keep}; nothing was changed"));
    }
    context.output.say(&format!(
        "{} leave the catalogue: no box can go back to them any more; where one runs, it runs on",
        left.len()
    ))?;
    context.output.say(NEXT)?;
    left.iter().try_for_each(|path| context.output.line(&path.to_string()))
}

pub(super) fn word(action: RevocationAction) -> &'static str {
    match action {
        RevocationAction::Stop => "stop",
        RevocationAction::Retain => "retain",
    }
}

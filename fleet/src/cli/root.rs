//! `muster root`: whom every box trusts. Drafted here, signed by its key holders wherever they are, finished here.

mod drafting;
mod show;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_protocol::trust::{Envelope, FileName};

use super::output::text;
use super::signers::{Signers, borrowed};
use super::{CliError, Context, now};
use crate::publisher::{Draft, Progress, Workspace, changes};
use drafting::{EDIT_EXAMPLES, EditRoot, NEW_EXAMPLES, NewRoot};

const SIGN_EXAMPLES: &str = "\
Examples:
  muster root sign --key ada                                       # in the workspace
  muster root sign --file root.json --key ben                      # on Ben's machine, with the draft carried there
  muster root collect root-signed-by-ben.json                      # in the workspace, with what came back
  muster root sign --sign-with 'hsm-sign eve' --public eve.pub";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Drafts the first root.
    #[command(after_help = NEW_EXAMPLES)]
    New(NewRoot),
    /// Drafts the next root: the newest one with changes.
    #[command(after_help = EDIT_EXAMPLES)]
    Edit(Box<EditRoot>),
    /// Signs the draft; with enough signatures it is finished.
    #[command(after_help = SIGN_EXAMPLES)]
    Sign {
        #[command(flatten)]
        signers: Signers,
        /// A draft that was carried here, signed in place; take it back and `muster root collect` it.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Takes signatures over from copies of the draft that were signed elsewhere.
    #[command(after_help = "Example:\n  muster root collect root-signed-by-ben.json")]
    Collect {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Shows the newest root, and the draft of the next one.
    #[command(after_help = "Example:\n  muster root show")]
    Show,
    /// Gives the draft up.
    #[command(after_help = "Example:\n  muster root discard")]
    Discard,
}

pub(super) fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let workspace = Workspace::at(&context.workspace);
    match verb {
        Verb::New(new) => {
            let request = new.request(&workspace)?;
            let draft = workspace.new_root(&request).map_err(CliError::other)?;
            drafted(context, &workspace, &draft)
        }
        Verb::Edit(edit) => {
            let change = edit.change(&workspace)?;
            let draft = workspace.edit_root(&change, now().plus(edit.expires)).map_err(CliError::other)?;
            drafted(context, &workspace, &draft)
        }
        Verb::Sign { signers, file: Some(file) } => {
            let draft = sign_carried(context, &workspace, &signers, &file)?;
            said(context, &draft.progress())?;
            context.output.say("carry it back; there: muster root collect FILE")?;
            context.output.line(&file.display().to_string())
        }
        Verb::Sign { signers, file: None } => {
            let draft = workspace.root_draft().map_err(CliError::other)?;
            summary(context, &workspace, &draft)?;
            let signers = signers.open(context, &workspace)?;
            let progress = workspace.sign_root(&borrowed(&signers)).map_err(CliError::other)?;
            ended(context, &workspace, &draft, &progress)
        }
        Verb::Collect { files } => {
            let draft = workspace.root_draft().map_err(CliError::other)?;
            let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
            let (added, progress) = workspace.collect_root(&files).map_err(CliError::other)?;
            context.output.say(&format!("{added} new signatures"))?;
            ended(context, &workspace, &draft, &progress)
        }
        Verb::Show => show::show(context, &workspace),
        Verb::Discard => {
            let was = workspace.discard_root().map_err(CliError::other)?;
            context.output.say(if was { "the draft is gone" } else { "there was no draft" })
        }
    }
}

/// Signs a draft far from its workspace. Everything that matters is in the file.
pub(super) fn sign_carried(
    context: &mut Context,
    workspace: &Workspace,
    signers: &Signers,
    file: &Path,
) -> Result<Draft, CliError> {
    let mut draft = Draft::read(file).map_err(CliError::other)?;
    context.output.say(&format!("signing {}", draft.title()))?;
    summary(context, workspace, &draft)?;
    for signer in signers.open(context, workspace)? {
        draft.sign(signer.as_ref()).map_err(CliError::other)?;
    }
    draft.save(file).map_err(CliError::other)?;
    Ok(draft)
}

/// Who has signed and who still must.
pub(super) fn said(context: &mut Context, progress: &Progress) -> Result<(), CliError> {
    progress.rounds.iter().try_for_each(|round| context.output.say(&round.to_string()))
}

fn drafted(context: &mut Context, workspace: &Workspace, draft: &Draft) -> Result<(), CliError> {
    summary(context, workspace, draft)?;
    said(context, &draft.progress())?;
    context.output.say("next: muster root sign --key NAME, or carry the draft to its key holders")?;
    context.output.line(&workspace.signing_path(draft.file()).display().to_string())
}

fn ended(
    context: &mut Context,
    workspace: &Workspace,
    draft: &Draft,
    progress: &Progress,
) -> Result<(), CliError> {
    said(context, progress)?;
    // The workspace knows: what the draft says of itself is signed by nobody.
    if workspace.signing(draft.file()).map_err(CliError::other)?.is_none() {
        let path = workspace.metadata(&draft.file().wire());
        context.output.say("finished; next: muster release publish, or muster release push")?;
        return context.output.line(&path.display().to_string());
    }
    context.output.say("not finished yet; let another key holder sign")
}

/// What a draft says, from the part that is signed: what a key holder should read before signing.
pub(super) fn summary(context: &mut Context, workspace: &Workspace, draft: &Draft) -> Result<(), CliError> {
    let signed = draft.envelope().signed();
    let expires = text(signed, "/expires");
    context.output.say(&format!("{} expires {expires}", draft.title()))?;
    let sentences = match draft.file() {
        FileName::Root(_) => {
            let before = workspace.root().map_err(CliError::other)?;
            let before = before.as_ref().map(|root| Envelope::parse(root.root_bytes()));
            let before = before.transpose().map_err(CliError::other)?;
            changes::of_root(before.as_ref().map(Envelope::signed), signed)
        }
        list @ (FileName::Targets | FileName::Delegated(_)) => {
            super::release::sentences(workspace, list, draft)?
        }
        FileName::Timestamp | FileName::Snapshot => Vec::new(),
    };
    sentences.iter().try_for_each(|sentence| context.output.say(&format!("  {sentence}")))
}

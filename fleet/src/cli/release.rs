//! `muster release`: the catalogue, from what changed in the draft to what is signed and on the server.
//!
//! Everything is drafted and signed here; the server checks it again. A list is the catalogue itself, or with --role
//! what a delegated role lists.

mod edit;
mod exchange;
mod export;
mod show;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use muster_protocol::ids::{BundlePath, ModelName};
use muster_protocol::trust::FileName;

use super::signers::{Signers, borrowed};
use super::{CliError, Context, duration, now, root};
use crate::publisher::{Release, Workspace};
pub(super) use show::sentences;
use show::{diff, show, tell_changes};

const PUBLISH_EXAMPLES: &str = "\
Examples:
  muster release publish --key release                             # one targets key
  muster release publish --key release-a --key release-b           # a threshold of two, both keys here
  muster release publish --sign-with 'hsm-sign release' --public release.pub
  muster release publish --role radiology-vendor --key vendor      # a vendor, for the paths delegated to it

Key holders on different machines sign one after the other: `muster release sign`.";

const SIGN_EXAMPLES: &str = "\
The first signature fixes the draft as the next version: nothing in it changes any more, expiry included.

Examples:
  muster release sign --key release-a                              # in the workspace
  muster release sign --file targets.signing.json --key release-b  # on the other machine, with the draft carried there
  muster release collect targets.signing.json                      # in the workspace, with what came back
  muster release push";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Signs the draft and uploads it, with the roots that the server lacks.
    #[command(after_help = PUBLISH_EXAMPLES)]
    Publish {
        #[command(flatten)]
        signers: Signers,
        #[command(flatten)]
        list: ListArg,
        /// How long it allows change.
        #[arg(long, default_value = "90d", value_parser = duration::some)]
        expires: Duration,
        /// Sign only; upload later with `muster release push`.
        #[arg(long)]
        offline: bool,
    },
    /// Adds one key holder's signature; with enough of them the release is finished.
    #[command(after_help = SIGN_EXAMPLES)]
    Sign {
        #[command(flatten)]
        signers: Signers,
        #[command(flatten)]
        list: ListArg,
        /// How long it allows change; said by who signs first.
        #[arg(long, default_value = "90d", value_parser = duration::some)]
        expires: Duration,
        /// A draft that was carried here, signed in place; take it back and `muster release collect` it.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Takes signatures over from copies of the draft that were signed elsewhere.
    #[command(after_help = "Example:\n  muster release collect targets-signed-by-emil.json")]
    Collect {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        list: ListArg,
    },
    /// Uploads what was signed before: roots, then the catalogue.
    #[command(after_help = "\
Examples:
  muster release push
  muster release push --role radiology-vendor")]
    Push {
        #[command(flatten)]
        list: ListArg,
    },
    /// Takes over what the fleet has published, each file verified by the one before.
    #[command(after_help = "\
Examples:
  muster release pull
  muster release pull --root 1.root.json               # an empty workspace begins to trust here")]
    Pull {
        /// A root that was brought here by hand: where an empty workspace begins to trust.
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
    },
    /// Shows the list as it would be published now.
    #[command(after_help = "Examples:\n  muster release show\n  muster release show --role radiology-vendor")]
    Show {
        #[command(flatten)]
        list: ListArg,
    },
    /// Says what the draft changes, and what boxes will do about it.
    #[command(after_help = "Example:\n  muster release diff")]
    Diff {
        #[command(flatten)]
        list: ListArg,
    },
    /// Takes all but the newest bundles of each model out of the draft: what is catalogued is what a stolen server can
    /// still order.
    #[command(after_help = "\
Examples:
  muster release prune --keep 3
  muster release prune --keep 1 --model er-beds")]
    Prune {
        /// Bundles of each model that stay.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        keep: u16,
        #[arg(long)]
        model: Option<ModelName>,
        #[command(flatten)]
        list: ListArg,
    },
    /// Says that a bundle must not run any more, and why.
    Revoke(edit::Revoke),
    /// Takes a bundle out of the draft: no box activates it any more, and where it runs, it runs on.
    #[command(after_help = "\
Examples:
  muster release yank bundles/er-beds/7.json
  muster release publish --key release")]
    Yank {
        path: BundlePath,
        #[command(flatten)]
        list: ListArg,
    },
    /// Takes a revocation back.
    #[command(after_help = "\
Examples:
  muster release reinstate bundles/er-beds/7.json
  muster release publish --key release")]
    Reinstate { path: BundlePath },
    /// Gives the draft up.
    #[command(after_help = "Example:\n  muster release discard")]
    Discard {
        #[command(flatten)]
        list: ListArg,
    },
    /// Writes what the fleet has published as a standard TUF repository, for mirrors and across air gaps.
    #[command(after_help = "\
Examples:
  muster release export /media/usb/mirror
  muster release export ./mirror --metadata-only")]
    Export {
        /// A folder; made if absent, brought up to date if it is an export.
        dir: PathBuf,
        /// Only the signed files and the manifests, without the models.
        #[arg(long)]
        metadata_only: bool,
    },
}

/// Which list is meant.
#[derive(Clone, Debug, Args)]
pub(super) struct ListArg {
    /// The delegated role whose list is meant, instead of the catalogue itself.
    #[arg(long)]
    role: Option<String>,
}

impl ListArg {
    pub(super) fn file(&self) -> Result<FileName, CliError> {
        match &self.role {
            None => Ok(FileName::Targets),
            Some(role) => FileName::delegated(role).map_err(|_| {
                CliError::Usage(format!(
                    "error: '{role}' is no name of a delegated role; use a-z, 0-9 and '-'"
                ))
            }),
        }
    }
}

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let workspace = Workspace::at(&context.workspace);
    match verb {
        Verb::Publish { signers, list, expires, offline } => {
            let list = list.file()?;
            publish(context, &workspace, (&list, &signers), expires, offline).await
        }
        Verb::Sign { signers, file: Some(file), .. } => {
            let draft = root::sign_carried(context, &workspace, &signers, &file)?;
            root::said(context, &draft.progress())?;
            context.output.say("carry it back; there: muster release collect FILE")?;
            context.output.line(&file.display().to_string())
        }
        Verb::Sign { signers, list, expires, file: None } => {
            sign(context, &workspace, (&list.file()?, &signers), expires)
        }
        Verb::Collect { files, list } => {
            let list = list.file()?;
            let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
            let (added, progress, release) =
                workspace.collect_release(&list, &files).map_err(CliError::other)?;
            context.output.say(&format!("{added} new signatures"))?;
            root::said(context, &progress)?;
            signed(context, &workspace, &list, release.as_ref())
        }
        Verb::Push { list } => {
            let list = list.file()?;
            exchange::check(&context.client()?, &workspace, &list).await?;
            exchange::push(context, &workspace, &list).await
        }
        Verb::Pull { root } => exchange::pull(context, &workspace, root.as_deref()).await,
        Verb::Show { list } => show(context, &workspace, &list.file()?),
        Verb::Diff { list } => diff(context, &workspace, &list.file()?),
        Verb::Prune { keep, model, list } => {
            edit::prune(context, &workspace, &list.file()?, usize::from(keep), model.as_ref())
        }
        Verb::Revoke(revoke) => edit::revoke(context, &workspace, revoke),
        Verb::Yank { path, list } => edit::yank(context, &workspace, &list.file()?, &path),
        Verb::Reinstate { path } => edit::reinstate(context, &workspace, &path),
        Verb::Discard { list } => {
            let was = workspace.discard(&list.file()?).map_err(CliError::other)?;
            context.output.say(if was { "the draft is gone" } else { "there was no draft" })
        }
        Verb::Export { dir, metadata_only } => export::run(context, &workspace, &dir, metadata_only).await,
    }
}

async fn publish(
    context: &mut Context,
    workspace: &Workspace,
    (list, signers): (&FileName, &Signers),
    expires: Duration,
    offline: bool,
) -> Result<(), CliError> {
    if !offline {
        // A vendor's rights stand in the fleet's catalogue: look what they are now.
        if matches!(list, FileName::Delegated(_)) {
            exchange::pull(context, workspace, None).await?;
        }
        exchange::check(&context.client()?, workspace, list).await?;
    }
    let release = release(context, workspace, (list, signers), expires)?;
    context.output.say(&format!(
        "signed {list} version {} as {}",
        release.version,
        release.path.display()
    ))?;
    if offline {
        return context.output.line(&release.path.display().to_string());
    }
    exchange::push(context, workspace, list).await
}

fn release(
    context: &mut Context,
    workspace: &Workspace,
    (list, signers): (&FileName, &Signers),
    expires: Duration,
) -> Result<Release, CliError> {
    tell_changes(context, workspace, list)?;
    let signers = signers.open(context, workspace)?;
    let now = now();
    workspace.publish(list, &borrowed(&signers), now.plus(expires), now).map_err(CliError::other)
}

fn sign(
    context: &mut Context,
    workspace: &Workspace,
    (list, signers): (&FileName, &Signers),
    expires: Duration,
) -> Result<(), CliError> {
    match workspace.signing(list).map_err(CliError::other)? {
        Some(draft) => root::summary(context, workspace, &draft)?,
        None => tell_changes(context, workspace, list)?,
    }
    let signers = signers.open(context, workspace)?;
    let now = now();
    let (progress, release) =
        workspace.sign_release(list, &borrowed(&signers), now.plus(expires), now).map_err(CliError::other)?;
    root::said(context, &progress)?;
    signed(context, workspace, list, release.as_ref())
}

fn signed(
    context: &mut Context,
    workspace: &Workspace,
    list: &FileName,
    release: Option<&Release>,
) -> Result<(), CliError> {
    if let Some(release) = release {
        context.output.say("finished; next: muster release push")?;
        return context.output.line(&release.path.display().to_string());
    }
    context.output.say("not finished yet; carry the draft to another key holder")?;
    context.output.line(&workspace.signing_path(list).display().to_string())
}

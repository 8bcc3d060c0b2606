//! `muster release`: signs the catalogue here, then brings it to the server, which checks everything again.

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use muster_protocol::trust::Sign;

use super::keys::secret;
use super::{CliError, Context, duration, now};
use crate::client::Client;
use crate::publisher::Workspace;

/// Roots looked for in the workspace.
const ROOTS_MAX: u64 = 10_000;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Signs the draft of the catalogue and uploads it, with the roots that the server lacks.
    Publish {
        /// A targets key of the workspace by name, or a key file. Repeatable.
        #[arg(long, required = true)]
        key: Vec<String>,
        /// How long the catalogue allows change.
        #[arg(long, default_value = "90d", value_parser = duration::parse)]
        expires: Duration,
        /// Sign only; upload later with `muster release push`.
        #[arg(long)]
        offline: bool,
    },
    /// Uploads the roots and the catalogue that were signed before.
    Push,
}

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let workspace = Workspace::at(&context.workspace);
    if let Verb::Publish { key, expires, offline } = verb {
        let signers = key.iter().map(|name| secret(&workspace, name)).collect::<Result<Vec<_>, _>>()?;
        let signers: Vec<&dyn Sign> = signers.iter().map(|signer| signer as &dyn Sign).collect();
        let release = workspace.publish(&signers, now().plus(expires)).map_err(CliError::other)?;
        context.output.say(&format!("signed catalogue {} as {}", release.version, release.path.display()))?;
        if offline {
            return context.output.line(&release.path.display().to_string());
        }
    }
    push(context).await
}

/// Roots first: they say whose catalogue it is.
async fn push(context: &mut Context) -> Result<(), CliError> {
    let client = context.client()?;
    let metadata = context.workspace.join("metadata");
    for version in 1..=ROOTS_MAX {
        let name = format!("{version}.root.json");
        let path = metadata.join(&name);
        if !path.is_file() {
            break;
        }
        if upload(&client, &name, &path).await? {
            context.output.say(&format!("uploaded {name}"))?;
        }
    }
    if upload(&client, "targets.json", &metadata.join("targets.json")).await? {
        context.output.say("uploaded targets.json")?;
    }
    context.output.line("targets.json")
}

/// Whether the server did not have it yet.
async fn upload(client: &Client, name: &str, path: &Path) -> Result<bool, CliError> {
    let bytes = std::fs::read(path).map_err(|error| {
        CliError::failed(
            format!("{}: {error}", path.display()),
            "sign first: `muster root sign`, `muster release publish`",
        )
    })?;
    if client.trust_file(name).await?.is_some_and(|present| present == bytes) {
        return Ok(false);
    }
    client.put_trust_file(name, bytes).await?;
    Ok(true)
}

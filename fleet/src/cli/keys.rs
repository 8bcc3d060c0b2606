//! `muster key` and `muster root`: made, signed and kept in the publisher's folder; nothing here speaks to a server.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use muster_protocol::ids::ModelName;
use muster_protocol::trust::author::Keys;
use muster_protocol::trust::{PublicKey, SecretKey};

use super::{CliError, Context, duration, now};
use crate::publisher::{RootRequest, Workspace, keys};

#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// Makes a signing key: NAME.key stays with you, NAME.pub goes into the root.
    New {
        /// Letters, digits and '-'.
        name: String,
        /// What it is for: written into the file for people.
        #[arg(long, default_value = "any")]
        role: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum RootVerb {
    /// Drafts the first root or the next one.
    New(NewRoot),
    /// Signs the draft; with enough signatures it is finished.
    Sign {
        /// A key of the workspace by name, or a key file. Repeatable.
        #[arg(long, required = true)]
        key: Vec<String>,
    },
}

/// Keys are names in the workspace, files, or 64 hexadecimal digits.
#[derive(Debug, Args)]
pub(super) struct NewRoot {
    /// Signs roots. Repeatable.
    #[arg(long, required = true, value_name = "KEY")]
    root_key: Vec<String>,
    #[arg(long, default_value_t = 1)]
    root_threshold: usize,
    /// Signs the catalogue. Repeatable.
    #[arg(long, required = true, value_name = "KEY")]
    targets_key: Vec<String>,
    #[arg(long, default_value_t = 1)]
    targets_threshold: usize,
    /// The server's key for snapshot and timestamp: its online.pub.
    #[arg(long, value_name = "KEY")]
    online: String,
    /// The server's key for orders: its order.pub.
    #[arg(long, value_name = "KEY")]
    order: String,
    /// Lets a builder sign a model's retrained bundles: MODEL=KEY. Repeatable.
    #[arg(long, value_name = "MODEL=KEY", value_parser = delegation)]
    delegate: Vec<(ModelName, String)>,
    /// How long the root allows change.
    #[arg(long, default_value = "365d", value_parser = duration::parse)]
    expires: Duration,
}

pub(super) fn key(context: &mut Context, verb: KeyVerb) -> Result<(), CliError> {
    let KeyVerb::New { name, role } = verb;
    let workspace = Workspace::at(&context.workspace);
    let public = workspace.new_key(&name, &role).map_err(CliError::other)?;
    context.output.say(&format!("made {}; keep it safe and offline", workspace.key_path(&name).display()))?;
    context.output.line(&public.to_string())
}

pub(super) fn root(context: &mut Context, verb: RootVerb) -> Result<(), CliError> {
    let workspace = Workspace::at(&context.workspace);
    match verb {
        RootVerb::New(new) => {
            let request = new.request(&workspace)?;
            workspace.new_root(&request).map_err(CliError::other)?;
            context.output.say("drafted; next: muster root sign --key NAME")
        }
        RootVerb::Sign { key } => {
            let mut finished = None;
            for name in key {
                let signer = secret(&workspace, &name)?;
                let progress = workspace.sign_root(&signer).map_err(CliError::other)?;
                context.output.say(&format!("{} of {} signatures", progress.found, progress.needed))?;
                finished = progress.finished;
                if finished.is_some() {
                    break;
                }
            }
            match finished {
                Some(path) => context.output.line(&path.display().to_string()),
                None => context.output.say("not finished yet; let another key holder sign"),
            }
        }
    }
}

impl NewRoot {
    fn request(&self, workspace: &Workspace) -> Result<RootRequest, CliError> {
        let all = |names: &[String]| {
            names.iter().map(|name| public(workspace, name)).collect::<Result<Vec<_>, _>>()
        };
        let mut delegate = Vec::with_capacity(self.delegate.len());
        for (model, key) in &self.delegate {
            delegate.push((model.clone(), public(workspace, key)?));
        }
        Ok(RootRequest {
            root: Keys { keys: all(&self.root_key)?, threshold: self.root_threshold },
            targets: Keys { keys: all(&self.targets_key)?, threshold: self.targets_threshold },
            online: public(workspace, &self.online)?,
            order: public(workspace, &self.order)?,
            delegate,
            tls_roots: Vec::new(),
            expires: now().plus(self.expires),
        })
    }
}

/// A public key by its name in the workspace, its file, or itself.
fn public(workspace: &Workspace, text: &str) -> Result<PublicKey, CliError> {
    let own = workspace.key_path(text).with_extension("pub");
    let found = if own.is_file() { own.display().to_string() } else { text.to_owned() };
    keys::load_public(&found).map_err(CliError::other)
}

/// A private key by its name in the workspace or its file.
pub(super) fn secret(workspace: &Workspace, text: &str) -> Result<SecretKey, CliError> {
    let own = workspace.key_path(text);
    let path = if own.is_file() { own } else { PathBuf::from(text) };
    keys::load(&path).map_err(CliError::other)
}

fn delegation(text: &str) -> Result<(ModelName, String), String> {
    let (model, key) = text.split_once('=').ok_or("write MODEL=KEY")?;
    Ok((model.parse().map_err(|error| format!("{error}"))?, key.to_owned()))
}

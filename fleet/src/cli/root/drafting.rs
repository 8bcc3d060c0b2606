//! What `muster root new` and `muster root edit` are told, turned into what the ceremony takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use muster_protocol::ids::{Digest, ModelName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::Keys;

use super::super::keys::public_keys;
use super::super::{CliError, duration, now};
use crate::publisher::tls::TlsRoot;
use crate::publisher::{RoleChange, RootChange, RootRequest, Workspace};

pub(super) const NEW_EXAMPLES: &str = "\
Keys are names in the workspace, .pub files of other holders, or 64 hexadecimal digits.

For a start, one person and a spare key in a safe:
  muster root new --root-key ada --root-key safe --targets-key release --online online.pub --order order.pub

For a hospital, 2 of 3 key holders for roots and 2 of 2 for releases, so that no single person or stolen laptop can put
a model on a box:
  muster root new --root-key ada.pub --root-key ben.pub --root-key eve.pub --root-threshold 2 \\
      --targets-key release-a.pub --targets-key release-b.pub --targets-threshold 2 \\
      --online online.pub --order order.pub --tls-root hospital-ca.pem

online.pub and order.pub are made by the server when it first starts: DATA/keys/.";

pub(super) const EDIT_EXAMPLES: &str = "\
The draft must be signed by enough keys of the root before and of the new one. Boxes walk from root to root, so the
old keys are needed once more even if they leave.

Examples:
  muster root edit --remove-root-key eve --add-root-key dan.pub    # a key holder leaves
  muster root edit --online online-new.pub                         # the server's key may have been stolen
  muster root edit --add-tls-root next-ca.pem                      # first both, later --remove-tls-root
  muster root edit --expires 365d                                  # a year has passed, nothing else";

#[derive(Debug, Args)]
pub(in crate::cli) struct NewRoot {
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
    /// PEM file of an authority that boxes accept servers from. Repeatable.
    #[arg(long, value_name = "FILE")]
    tls_root: Vec<PathBuf>,
    /// How long the root allows change.
    #[arg(long, default_value = "365d", value_parser = duration::some)]
    pub(super) expires: Duration,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EditRoot {
    #[arg(long, value_name = "KEY")]
    add_root_key: Vec<String>,
    /// A key, or the beginning of its id.
    #[arg(long, value_name = "KEY")]
    remove_root_key: Vec<String>,
    #[arg(long)]
    root_threshold: Option<usize>,
    #[arg(long, value_name = "KEY")]
    add_targets_key: Vec<String>,
    /// A key, or the beginning of its id.
    #[arg(long, value_name = "KEY")]
    remove_targets_key: Vec<String>,
    #[arg(long)]
    targets_threshold: Option<usize>,
    /// The server's new key for snapshot and timestamp.
    #[arg(long, value_name = "KEY")]
    online: Option<String>,
    /// The server's new key for orders.
    #[arg(long, value_name = "KEY")]
    order: Option<String>,
    /// PEM file of one more authority that boxes accept servers from.
    #[arg(long, value_name = "FILE")]
    add_tls_root: Vec<PathBuf>,
    /// The PEM file of one to distrust, or the fingerprint that `muster root show` prints.
    #[arg(long, value_name = "FILE")]
    remove_tls_root: Vec<String>,
    /// How long the new root allows change.
    #[arg(long, default_value = "365d", value_parser = duration::some)]
    pub(super) expires: Duration,
}

impl NewRoot {
    pub(super) fn request(&self, workspace: &Workspace) -> Result<RootRequest, CliError> {
        let mut delegate = Vec::with_capacity(self.delegate.len());
        for (model, key) in &self.delegate {
            delegate.push((model.clone(), workspace.public_key(key).map_err(CliError::other)?));
        }
        let one = |key: &str| workspace.public_key(key).map_err(CliError::other);
        Ok(RootRequest {
            root: Keys { keys: public_keys(workspace, &self.root_key)?, threshold: self.root_threshold },
            targets: Keys {
                keys: public_keys(workspace, &self.targets_key)?,
                threshold: self.targets_threshold,
            },
            online: one(&self.online)?,
            order: one(&self.order)?,
            delegate,
            tls_roots: certificates(&self.tls_root)?.into_iter().map(|root| root.pem).collect(),
            expires: now().plus(self.expires),
        })
    }
}

impl EditRoot {
    pub(super) fn change(&self, workspace: &Workspace) -> Result<RootChange, CliError> {
        let one = |key: &Option<String>| {
            key.as_ref().map(|key| workspace.public_key(key).map_err(CliError::other)).transpose()
        };
        Ok(RootChange {
            root: RoleChange {
                add: public_keys(workspace, &self.add_root_key)?,
                remove: self.remove_root_key.clone(),
                threshold: self.root_threshold,
            },
            targets: RoleChange {
                add: public_keys(workspace, &self.add_targets_key)?,
                remove: self.remove_targets_key.clone(),
                threshold: self.targets_threshold,
            },
            online: one(&self.online)?,
            order: one(&self.order)?,
            add_tls: certificates(&self.add_tls_root)?,
            remove_tls: self
                .remove_tls_root
                .iter()
                .map(|text| fingerprints(text))
                .collect::<Result<Vec<_>, _>>()?
                .concat(),
        })
    }
}

fn certificates(files: &[PathBuf]) -> Result<Vec<TlsRoot>, CliError> {
    let read = |file: &PathBuf| TlsRoot::read(file, now()).map_err(CliError::other);
    Ok(files.iter().map(read).collect::<Result<Vec<_>, _>>()?.concat())
}

/// Of a certificate file, or typed. What is to be distrusted may have expired.
fn fingerprints(text: &str) -> Result<Vec<Digest>, CliError> {
    if let Ok(digest) = text.replace(':', "").to_ascii_lowercase().parse() {
        return Ok(vec![digest]);
    }
    let roots = TlsRoot::read(Path::new(text), Timestamp::default());
    Ok(roots.map_err(CliError::other)?.iter().map(|root| root.fingerprint).collect())
}

fn delegation(text: &str) -> Result<(ModelName, String), String> {
    let (model, key) = text.split_once('=').ok_or("write MODEL=KEY")?;
    Ok((model.parse().map_err(|error| format!("{error}"))?, key.to_owned()))
}

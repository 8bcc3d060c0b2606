//! `muster root`: whom every box trusts. Drafted here, signed by its key holders wherever they are, finished here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use muster_protocol::ids::{Digest, ModelName};
use muster_protocol::trust::author::Keys;
use muster_protocol::trust::{Envelope, FileName, KeyId, Role, TrustedSet};
use serde_json::{Value, json};

use super::keys::public_keys;
use super::output::{Column, text};
use super::signers::{Signers, borrowed};
use super::{CliError, Context, duration, now};
use crate::publisher::tls::TlsRoot;
use crate::publisher::{Draft, Progress, RoleChange, RootChange, RootRequest, Workspace, changes};

const NEW_EXAMPLES: &str = "\
Keys are names in the workspace, .pub files of other holders, or 64 hexadecimal digits.

For a start, one person and a spare key in a safe:
  muster root new --root-key ada --root-key safe --targets-key release --online online.pub --order order.pub

For a hospital, 2 of 3 key holders for roots and 2 of 2 for releases, so that no single person or stolen laptop can put
a model on a box:
  muster root new --root-key ada.pub --root-key ben.pub --root-key eve.pub --root-threshold 2 \\
      --targets-key release-a.pub --targets-key release-b.pub --targets-threshold 2 \\
      --online online.pub --order order.pub --tls-root hospital-ca.pem

online.pub and order.pub are made by the server when it first starts: DATA/keys/.";

const EDIT_EXAMPLES: &str = "\
The draft must be signed by enough keys of the root before and of the new one. Boxes walk from root to root, so the
old keys are needed once more even if they leave.

Examples:
  muster root edit --remove-root-key eve --add-root-key dan.pub    # a key holder leaves
  muster root edit --online online-new.pub                         # the server's key may have been stolen
  muster root edit --add-tls-root next-ca.pem                      # first both, later --remove-tls-root
  muster root edit --expires 365d                                  # a year has passed, nothing else";

const SIGN_EXAMPLES: &str = "\
Examples:
  muster root sign --key ada                                       # in the workspace
  muster root sign --file root.json --key ben                      # on Ben's machine, with the draft carried there
  muster root collect root-signed-by-ben.json                      # in the workspace, with what came back
  muster root sign --sign-with 'ykman-sign slot-9c' --public eve.pub";

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
    Collect {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Shows the newest root, and the draft of the next one.
    Show,
    /// Gives the draft up.
    Discard,
}

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
    /// PEM file of an authority that boxes accept servers from. Repeatable.
    #[arg(long, value_name = "FILE")]
    tls_root: Vec<PathBuf>,
    /// How long the root allows change.
    #[arg(long, default_value = "365d", value_parser = duration::some)]
    expires: Duration,
}

#[derive(Debug, Args)]
pub(super) struct EditRoot {
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
    expires: Duration,
}

const FIELDS: &[Column] = &[
    Column { title: "Version", cell: |root| text(root, "/version") },
    Column { title: "Expires", cell: |root| text(root, "/expires") },
    Column { title: "Root", cell: |root| role(root, "root") },
    Column { title: "Targets", cell: |root| role(root, "targets") },
    Column { title: "Snapshot", cell: |root| role(root, "snapshot") },
    Column { title: "Timestamp", cell: |root| role(root, "timestamp") },
    Column { title: "Order", cell: |root| role(root, "order") },
    Column { title: "TLS roots", cell: |root| tls(root) },
];

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
        Verb::Show => show(context, &workspace),
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

impl NewRoot {
    fn request(&self, workspace: &Workspace) -> Result<RootRequest, CliError> {
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
    fn change(&self, workspace: &Workspace) -> Result<RootChange, CliError> {
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
    let roots = TlsRoot::read(Path::new(text), muster_protocol::time::Timestamp::default());
    Ok(roots.map_err(CliError::other)?.iter().map(|root| root.fingerprint).collect())
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
    if progress.is_complete() {
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

fn show(context: &mut Context, workspace: &Workspace) -> Result<(), CliError> {
    match workspace.root().map_err(CliError::other)? {
        None => context.output.say("there is no finished root yet")?,
        Some(root) => context.output.show(&told(workspace, &root)?, "/version", FIELDS)?,
    }
    if workspace.signing(&FileName::Root(1)).map_err(CliError::other)?.is_some() {
        let draft = workspace.root_draft().map_err(CliError::other)?;
        context.output.say("a draft waits for signatures:")?;
        summary(context, workspace, &draft)?;
        said(context, &draft.progress())?;
    }
    Ok(())
}

fn told(workspace: &Workspace, root: &TrustedSet) -> Result<Value, CliError> {
    let names = workspace.names().map_err(CliError::other)?;
    let envelope = Envelope::parse(root.root_bytes()).map_err(CliError::other)?;
    let key = |id: &KeyId| json!({ "key_id": id, "name": names.get(id) });
    let role = |role: Role| {
        let keys: Vec<Value> = root.keys(role).keys().map(key).collect();
        json!({ "threshold": root.count(role, &envelope).needed, "keys": keys })
    };
    let tls_roots = root.muster().tls_roots.iter().map(|pem| match TlsRoot::parse(pem) {
        Ok(root) => json!({
            "subject": root.subject, "fingerprint": root.fingerprint, "expires": root.expires.to_string(),
        }),
        Err(error) => json!({ "subject": error.to_string() }),
    });
    Ok(json!({
        "version": root.versions().root,
        "expires": root.expiries().get("root.json").map(ToString::to_string),
        "root": role(Role::Root),
        "targets": role(Role::Targets),
        "snapshot": role(Role::Snapshot),
        "timestamp": role(Role::Timestamp),
        "order": role(Role::Order),
        "tls_roots": tls_roots.collect::<Vec<_>>(),
    }))
}

fn role(root: &Value, name: &str) -> String {
    let keys = root.pointer(&format!("/{name}/keys")).and_then(Value::as_array);
    let told = keys.into_iter().flatten().map(|key| {
        let id: String = text(key, "/key_id").chars().take(12).collect();
        match text(key, "/name") {
            name if name.is_empty() => id,
            name => format!("{name} ({id})"),
        }
    });
    let told: Vec<String> = told.collect();
    format!("{} of {}", text(root, &format!("/{name}/threshold")), told.join(", "))
}

fn tls(root: &Value) -> String {
    let roots = root.pointer("/tls_roots").and_then(Value::as_array);
    let told = roots.into_iter().flatten().map(|root| {
        format!(
            "{} until {} ({})",
            text(root, "/subject"),
            text(root, "/expires"),
            text(root, "/fingerprint")
        )
    });
    told.collect::<Vec<_>>().join("; ")
}

pub(super) fn delegation(text: &str) -> Result<(ModelName, String), String> {
    let (model, key) = text.split_once('=').ok_or("write MODEL=KEY")?;
    Ok((model.parse().map_err(|error| format!("{error}"))?, key.to_owned()))
}

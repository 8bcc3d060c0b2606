//! `muster key`: signing keys, made and kept in the publisher's folder; nothing here speaks to a server.

use clap::Subcommand;
use muster_protocol::trust::PublicKey;
use serde_json::{Value, json};

use super::output::{Column, text};
use super::signers::PassphraseFile;
use super::{CliError, Context};
use crate::publisher::{KnownKey, Workspace};

const NEW_EXAMPLES: &str = "\
The private key goes to keys/NAME.key of the workspace, with mode 0600: PKCS#8, encrypted by scrypt and AES-256, so that
`openssl pkey -in NAME.key` reads it too. Its passphrase is asked for twice. The public half goes to keys/NAME.pub.

Examples:
  muster key new ada --role root
  muster key new release --role targets --passphrase-file /run/keys/release
  muster key new builder-1 --role builder --no-passphrase";

#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// Makes a signing key: NAME.key stays with you, NAME.pub goes into the root.
    #[command(after_help = NEW_EXAMPLES)]
    New {
        /// Letters, digits and '-'.
        name: String,
        /// What it is for: root, targets, builder, vendor; written into the file for people.
        #[arg(long, default_value = "any")]
        role: String,
        /// Protect it by the file's mode only: for a machine that must sign without a person.
        #[arg(long, conflicts_with = "passphrase_file")]
        no_passphrase: bool,
        #[command(flatten)]
        passphrase: PassphraseFile,
    },
    /// Shows which key this is, without opening it.
    #[command(after_help = "Example:\n  muster key show ada")]
    Show { name: String },
    /// Lists the keys of the workspace, those of other holders too.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster key list")]
    List,
}

const COLUMNS: &[Column] = &[
    Column { title: "NAME", cell: |key| text(key, "/name") },
    Column { title: "KEY", cell: |key| text(key, "/key_id").chars().take(12).collect() },
    Column { title: "ROLE", cell: |key| text(key, "/role") },
    Column { title: "PROTECTED BY", cell: |key| text(key, "/protected_by") },
];

const FIELDS: &[Column] = &[
    Column { title: "Name", cell: |key| text(key, "/name") },
    Column { title: "Key id", cell: |key| text(key, "/key_id") },
    Column { title: "Public key", cell: |key| text(key, "/public") },
    Column { title: "Role", cell: |key| text(key, "/role") },
    Column { title: "Protected by", cell: |key| text(key, "/protected_by") },
];

pub(super) fn run(context: &mut Context, verb: KeyVerb) -> Result<(), CliError> {
    let workspace = Workspace::at(&context.workspace);
    match verb {
        KeyVerb::New { name, role, no_passphrase, passphrase } => {
            // Asked for last: nobody types a passphrase for a name that is taken.
            workspace.check_new_key(&name).map_err(CliError::other)?;
            let passphrase = if no_passphrase { None } else { Some(passphrase.choose(context, &name)?) };
            let public = workspace.new_key(&name, &role, passphrase.as_ref()).map_err(CliError::other)?;
            let path = workspace.key_path(&name);
            let advice = if no_passphrase {
                "only its file mode protects it"
            } else {
                "keep it and its passphrase apart, and offline"
            };
            context.output.say(&format!("made {}; {advice}", path.display()))?;
            context.output.line(&public.to_string())
        }
        KeyVerb::Show { name } => {
            let key = workspace.key(&name).map_err(CliError::other)?;
            context.output.show(&told(&key), "/key_id", FIELDS)
        }
        KeyVerb::List => {
            let keys: Vec<Value> = workspace.keys().map_err(CliError::other)?.iter().map(told).collect();
            context.output.list(&json!({ "items": keys }), "/name", COLUMNS)
        }
    }
}

fn told(key: &KnownKey) -> Value {
    let private = key.private.as_ref();
    json!({
        "name": key.name,
        "key_id": key.public.key_id(),
        "public": key.public,
        "role": private.and_then(|private| private.role.as_deref()),
        "encrypted": private.map(|private| private.encrypted),
        "protected_by": match private.map(|private| private.encrypted) {
            Some(true) => "passphrase",
            Some(false) => "file mode",
            None => "its holder (only the public half is here)",
        },
    })
}

/// Several public keys as they were typed.
pub(super) fn public_keys(workspace: &Workspace, texts: &[String]) -> Result<Vec<PublicKey>, CliError> {
    texts.iter().map(|text| workspace.public_key(text).map_err(CliError::other)).collect()
}

//! `muster delegation`: who else may list bundles. Drafted with the catalogue, in force once that is published.

use clap::Subcommand;
use muster_protocol::ids::ModelName;
use muster_protocol::trust::author::{Delegation, Keys, auto_role};
use muster_protocol::trust::{FileName, KeyId};
use serde_json::{Value, json};

use super::keys::public_keys;
use super::output::{Column, text};
use super::{CliError, Context, completing};
use crate::publisher::{PublisherError, Workspace};

const ADD_EXAMPLES: &str = "\
A second vendor publishes its models with its own keys, from its own workspace, without yours:
  muster delegation add radiology-vendor --key vendor.pub --path 'bundles/radiology/*'
  muster release publish --key release
  # at the vendor:
  muster release pull --root root.json
  muster bundle add ./bundle --role radiology-vendor
  muster release publish --role radiology-vendor --key vendor

'*' stays between two slashes. Your own catalogue is asked before any delegation, and delegations in the order of
`muster delegation list`.";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lets the holders of other keys list bundles under these paths. Replaces an earlier delegation of this name.
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        /// Name of the role: a-z, 0-9 and '-'.
        role: String,
        /// A public key. Repeatable.
        #[arg(long, required = true)]
        key: Vec<String>,
        /// How many of the keys must sign.
        #[arg(long, default_value_t = 1)]
        threshold: usize,
        /// Which bundles, such as 'bundles/radiology/*'. Repeatable.
        #[arg(long, required = true)]
        path: Vec<String>,
        /// Nobody after it is asked about these paths.
        #[arg(long)]
        terminating: bool,
    },
    /// Lets a builder list what it retrains of one model: bundles/MODEL/auto/*.
    #[command(after_help = "\
Examples:
  muster delegation auto deterioration --key builder-1.pub
  muster release publish --key release")]
    Auto {
        #[arg(add = completing::of(&completing::MODELS))]
        model: ModelName,
        /// The builder's public key. Repeatable; any one of them signs.
        #[arg(long, required = true)]
        key: Vec<String>,
    },
    /// Lists the delegations.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster delegation list")]
    List,
    /// Ends a delegation: all that its role lists leaves the catalogue.
    #[command(after_help = "\
Examples:
  muster delegation remove auto-deterioration
  muster release publish --key release")]
    Remove { role: String },
}

const COLUMNS: &[Column] = &[
    Column { title: "ROLE", cell: |item| text(item, "/role") },
    Column { title: "PATHS", cell: |item| text(item, "/paths") },
    Column { title: "KEYS", cell: |item| format!("{} of {}", text(item, "/threshold"), text(item, "/keys")) },
    Column { title: "TERMINATING", cell: |item| text(item, "/terminating") },
];

pub(super) fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let workspace = Workspace::at(&context.workspace);
    let role = match verb {
        Verb::List => return list(context, &workspace),
        Verb::Add { role, key, threshold, path, terminating } => {
            let keys = Keys { keys: public_keys(&workspace, &key)?, threshold };
            workspace.delegate(&role, path, &keys, terminating).map_err(CliError::other)?;
            role
        }
        Verb::Auto { model, key } => {
            let keys = Keys { keys: public_keys(&workspace, &key)?, threshold: 1 };
            let path = vec![format!("bundles/{model}/auto/*")];
            workspace.delegate(&auto_role(&model), path, &keys, true).map_err(CliError::other)?;
            auto_role(&model)
        }
        Verb::Remove { role } => {
            let change = |spec: &mut muster_protocol::trust::author::TargetsSpec| {
                if spec.undelegate_role(&role) {
                    Ok(())
                } else {
                    Err(PublisherError::DelegationAbsent(role.clone()))
                }
            };
            workspace.edit_delegations(change).map_err(CliError::other)?;
            context.output.say(&format!(
                "once this is published, no box activates what {role} lists; where it runs, it runs on"
            ))?;
            role
        }
    };
    context.output.say("drafted; next: muster release publish --key NAME")?;
    context.output.line(&role)
}

fn list(context: &mut Context, workspace: &Workspace) -> Result<(), CliError> {
    let names = workspace.names().map_err(CliError::other)?;
    let called = |id: KeyId| names.get(&id).cloned().unwrap_or_else(|| id.short());
    let told = |delegation: &Delegation| -> Value {
        let keys: Vec<String> = delegation.keys.keys.iter().map(|key| called(key.key_id())).collect();
        json!({
            "role": delegation.role,
            "paths": delegation.patterns,
            "keys": keys,
            "threshold": delegation.keys.threshold,
            "terminating": delegation.terminating,
        })
    };
    let spec = workspace.catalogue(&FileName::Targets).map_err(CliError::other)?;
    let items: Vec<Value> = spec.delegations().iter().map(told).collect();
    context.output.list(&json!({ "items": items }), "/role", COLUMNS)
}

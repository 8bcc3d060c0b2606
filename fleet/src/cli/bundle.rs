//! `muster bundle`: build one from a trainer's output, look at those of the fleet, put one into the catalogue.

mod build;
mod oci;
mod oms;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_protocol::ids::{BundlePath, BundleSigner, HardwareClass};
use muster_protocol::trust::{AgentVersion, Demands, FileName, author};
use serde_json::Value;

use super::output::{Column, text};
use super::release::ListArg;
use super::{CliError, Context, completing};
use crate::builder::bundle::BundleFolder;
use crate::builder::publish::{DEFAULT_HARDWARE, custom, upload};
use crate::publisher::Workspace;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists the bundles that the fleet knows.
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  muster bundle list
  muster -o name bundle list --model er-beds           # digests, the newest first"
    )]
    List {
        #[arg(long, add = completing::of(&completing::MODELS))]
        model: Option<String>,
    },
    /// Shows one bundle.
    #[command(
        after_help = "Example:\n  muster bundle show $(muster -o name bundle list --model er-beds | head -n 1)"
    )]
    Show {
        /// SHA-256 of its manifest.
        #[arg(add = completing::of(&completing::BUNDLES))]
        sha256: String,
    },
    /// Makes a bundle from a trainer's output or from a model: variants, golden outputs, limits, drift reference.
    #[command(after_help = build::EXAMPLES)]
    Build(Box<build::Args>),
    /// Uploads a bundle's files and adds it to the draft of the catalogue; `muster release publish` signs it.
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        /// The bundle's folder.
        folder: PathBuf,
        #[command(flatten)]
        demands: DemandArgs,
        #[command(flatten)]
        list: ListArg,
        /// Only add to the draft; upload later with `muster bundle push`.
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        gate: oms::Gate,
    },
    /// Uploads a bundle's files.
    #[command(after_help = "\
Examples:
  muster bundle add ./bundle --offline                # on the machine with the draft
  muster bundle push ./bundle                         # on the machine with a network")]
    Push {
        /// The bundle's folder.
        folder: PathBuf,
    },
    /// Writes a bundle as an OCI layout, for any registry.
    #[command(after_help = oci::EXPORT_EXAMPLES)]
    Export {
        /// The bundle's folder.
        folder: PathBuf,
        #[command(flatten)]
        to: oci::Place,
    },
    /// Reads a bundle out of an OCI layout, with every digest checked.
    #[command(after_help = oci::IMPORT_EXAMPLES)]
    Import {
        #[command(flatten)]
        from: oci::Place,
        /// The bundle's new folder.
        #[arg(long)]
        out: PathBuf,
    },
    /// Signs and checks models as OpenSSF Model Signing does, for data-science teams and auditors.
    #[command(subcommand)]
    Oms(oms::Verb),
}

const ADD_EXAMPLES: &str = "\
What a box must be is signed beside the bundle's digest; a box that is not refuses before it downloads anything, whatever
the server orders. Classes are the architecture with what executes the model: x86_64-cpu, x86_64-openvino,
x86_64-openvino-gpu, x86_64-openvino-npu.

Examples:
  muster bundle add ./bundle
  muster bundle add ./bundle --hardware x86_64-openvino-gpu --hardware x86_64-cpu --min-agent 0.3.0";

/// What the publisher demands of a box.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DemandArgs {
    /// A class of hardware that it runs on; one of them suffices. Repeatable.
    #[arg(long, value_name = "CLASS", default_value = DEFAULT_HARDWARE)]
    hardware: Vec<HardwareClass>,
    /// Older agents must not run it.
    #[arg(long, value_name = "X.Y.Z")]
    min_agent: Option<AgentVersion>,
}

const COLUMNS: &[Column] = &[
    Column { title: "PATH", cell: |b| text(b, "/path") },
    Column { title: "SHA256", cell: |b| text(b, "/sha256").chars().take(12).collect() },
    Column { title: "SIGNER", cell: |b| text(b, "/signer") },
    Column { title: "CREATED", cell: |b| text(b, "/created") },
    Column { title: "DEVICES", cell: |b| text(b, "/devices_running") },
    Column { title: "CATALOGUED", cell: state },
];

const FIELDS: &[Column] = &[
    Column { title: "Path", cell: |b| text(b, "/path") },
    Column { title: "SHA-256", cell: |b| text(b, "/sha256") },
    Column { title: "Description", cell: |b| text(b, "/description") },
    Column { title: "Signer", cell: |b| text(b, "/signer") },
    Column { title: "Created", cell: |b| text(b, "/created") },
    Column { title: "Accepted", cell: |b| text(b, "/accepted") },
    Column { title: "Bytes", cell: |b| text(b, "/size_bytes") },
    Column { title: "Devices", cell: |b| text(b, "/devices_running") },
    Column { title: "Catalogued", cell: state },
    Column { title: "Revoked", cell: |b| text(b, "/revoked/reason") },
    Column { title: "Figures", cell: figures },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    match verb {
        Verb::List { model } => {
            let query: Vec<_> = model.into_iter().map(|model| ("model", model)).collect();
            let answer = context.client()?.list("/api/v1/bundles", &query).await?;
            context.output.list(&answer, "/sha256", COLUMNS)
        }
        Verb::Show { sha256 } => {
            let answer = context.client()?.get(&format!("/api/v1/bundles/{sha256}"), &[]).await?;
            context.output.show(&answer, "/sha256", FIELDS)
        }
        Verb::Build(args) => build::run(context, *args).await,
        Verb::Add { folder, demands, list, offline, gate } => {
            let demands =
                Demands { hardware: demands.hardware.into_iter().collect(), min_agent: demands.min_agent };
            add(context, &folder, &demands, (&list.file()?, offline), &gate).await
        }
        Verb::Push { folder } => {
            let bundle = BundleFolder::open(&folder).map_err(CliError::other)?;
            push(context, &bundle).await?;
            context.output.line(&bundle.sha256.to_string())
        }
        Verb::Export { folder, to } => oci::export(context, &folder, &to),
        Verb::Import { from, out } => oci::import(context, &from, &out),
        Verb::Oms(verb) => oms::run(context, &verb),
    }
}

async fn add(
    context: &mut Context,
    folder: &Path,
    demands: &Demands,
    (list, offline): (&FileName, bool),
    gate: &oms::Gate,
) -> Result<(), CliError> {
    let bundle = BundleFolder::open(folder).map_err(CliError::other)?;
    gate.bundle(context, &bundle)?;
    if !offline {
        push(context, &bundle).await?;
    }
    let (model, version) = (&bundle.manifest.model, &bundle.manifest.version);
    let path = BundlePath::new(model.clone(), version.clone(), BundleSigner::Human);
    let custom = custom(model, version, demands).map_err(CliError::other)?;
    let target = author::target(path.clone(), &bundle.manifest_bytes, custom);
    Workspace::at(&context.workspace).add_bundle(list, target).map_err(CliError::other)?;
    context
        .output
        .say(&format!("{path} is in the draft of {list}; next: muster release publish --key NAME"))?;
    context.output.line(&path.to_string())
}

async fn push(context: &mut Context, bundle: &BundleFolder) -> Result<(), CliError> {
    let client = context.client()?;
    upload(&client, bundle, |_| ()).await?;
    let files = bundle.manifest.files.len() + 1;
    context.output.say(&format!("{files} files of {} are on {}", bundle.sha256.short(), client.server()))
}

pub(super) fn state(bundle: &Value) -> String {
    match text(bundle, "/revoked/action") {
        action if action.is_empty() => text(bundle, "/catalogued"),
        action => format!("revoked ({action})"),
    }
}

pub(super) fn figures(bundle: &Value) -> String {
    let sets = bundle.pointer("/evaluation/sets").and_then(Value::as_array);
    let metric = text(bundle, "/evaluation/metric");
    let one = |set: &Value| {
        let champion = text(set, "/champion");
        let against = if champion.is_empty() { String::new() } else { format!(" (champion {champion})") };
        format!("{} {metric} {}{against}", text(set, "/name"), text(set, "/challenger"))
    };
    sets.into_iter().flatten().map(one).collect::<Vec<_>>().join("; ")
}

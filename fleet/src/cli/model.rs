//! `muster model`: versions of models, what they are called, where they run and where they come from.

use clap::Subcommand;
use muster_protocol::ids::{AliasName, ModelName};
use serde_json::{Value, json};

use super::output::{Column, Format, text};
use super::{CliError, Context, completing, lineage};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists models.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster model list")]
    List,
    /// Shows a model's versions, the newest first, or one version of it.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        #[arg(add = completing::of(&completing::MODELS))]
        model: ModelName,
        /// A version, a SHA-256, or @ and an alias.
        version: Option<String>,
    },
    /// Gives a version a name, moves the name, or takes it away.
    #[command(after_help = ALIAS_EXAMPLES)]
    Alias {
        #[arg(add = completing::of(&completing::MODELS))]
        model: ModelName,
        alias: AliasName,
        /// The version that it is to name: a version, a SHA-256, or @ and another alias.
        #[arg(required_unless_present = "remove", conflicts_with = "remove")]
        version: Option<String>,
        /// Take the name away.
        #[arg(long)]
        remove: bool,
        /// Why; recorded in the log.
        #[arg(long, default_value = "")]
        reason: String,
        /// Only if the name was not moved since: its revision, as `muster -o json model show` has it.
        #[arg(long, value_name = "REVISION", conflicts_with = "remove")]
        if_revision: Option<u64>,
    },
    /// Where a version comes from, and who let it go where.
    #[command(after_help = LINEAGE_EXAMPLES)]
    Lineage {
        #[arg(add = completing::of(&completing::MODELS))]
        model: ModelName,
        /// A version, a SHA-256, or @ and an alias.
        #[arg(default_value = "@champion")]
        version: String,
    },
}

const SHOW_EXAMPLES: &str = "\
Examples:
  muster model show er-beds
  muster model show er-beds @champion
  muster -o name model show er-beds        # digests, the newest first";

const ALIAS_EXAMPLES: &str = "\
'champion' and 'challenger' are the fleet's own: the bundle of the newest rollout that passed every stage, and the newest
that waits to be rolled out. Every move is in the log, with who and why.

Examples:
  muster model alias er-beds winter 2026.11.23-1 --reason 'for the flu season'
  muster model alias er-beds winter @champion
  muster model alias er-beds winter --remove
  muster rollout create --model er-beds --bundle er-beds@winter --reason 'the season begins'";

const LINEAGE_EXAMPLES: &str = "\
Examples:
  muster model lineage er-beds
  muster model lineage er-beds 2026.11.23-1
  muster -o json model lineage er-beds @challenger | jq '.edges[].sentence'
  muster device why d-…                    # the same from a box's side";

const MODELS: &[Column] = &[
    Column { title: "MODEL", cell: |m| text(m, "/model") },
    Column { title: "VERSIONS", cell: |m| text(m, "/versions") },
    Column { title: "NEWEST", cell: |m| text(m, "/newest") },
    Column { title: "CHAMPION", cell: |m| called(m, "champion") },
    Column { title: "CHALLENGER", cell: |m| called(m, "challenger") },
    Column { title: "DEVICES", cell: |m| text(m, "/devices_running") },
];

const VERSIONS: &[Column] = &[
    Column { title: "VERSION", cell: |v| text(v, "/version") },
    Column { title: "CALLED", cell: |v| text(v, "/aliases") },
    Column { title: "SHA256", cell: |v| text(v, "/sha256").chars().take(12).collect() },
    Column { title: "SIGNER", cell: |v| text(v, "/signer") },
    Column { title: "ACCEPTED", cell: |v| text(v, "/accepted") },
    Column { title: "BYTES", cell: |v| text(v, "/size_bytes") },
    Column { title: "DEVICES", cell: |v| text(v, "/runs_on/devices") },
    Column { title: "RUN", cell: |v| text(v, "/lineage/run") },
    Column { title: "CATALOGUED", cell: super::bundle::state },
];

const VERSION: &[Column] = &[
    Column { title: "Model", cell: |v| text(v, "/model") },
    Column { title: "Version", cell: |v| text(v, "/version") },
    Column { title: "Called", cell: |v| text(v, "/aliases") },
    Column { title: "SHA-256", cell: |v| text(v, "/sha256") },
    Column { title: "Signer", cell: |v| text(v, "/signer") },
    Column { title: "Created", cell: |v| text(v, "/created") },
    Column { title: "Accepted", cell: |v| text(v, "/accepted") },
    Column { title: "Catalogued", cell: super::bundle::state },
    Column { title: "Revoked", cell: |v| text(v, "/revoked/reason") },
    Column { title: "Figures", cell: super::bundle::figures },
    Column { title: "Bytes", cell: |v| text(v, "/size_bytes") },
    Column { title: "Variants", cell: variants },
    Column { title: "Runs on", cell: places },
    Column { title: "Run", cell: |v| text(v, "/lineage/run") },
    Column { title: "Trigger", cell: |v| text(v, "/lineage/trigger") },
    Column { title: "Description", cell: |v| text(v, "/description") },
    Column { title: "Notes", cell: |v| text(v, "/notes/description") },
];

const ALIAS: &[Column] = &[
    Column { title: "Alias", cell: |a| text(a, "/name") },
    Column { title: "Version", cell: |a| text(a, "/version") },
    Column { title: "SHA-256", cell: |a| text(a, "/bundle") },
    Column { title: "Since", cell: |a| text(a, "/since") },
    Column { title: "By", cell: |a| text(a, "/by/name") },
    Column { title: "Reason", cell: |a| text(a, "/reason") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::List => {
            let answer = client.list("/api/v1/models", &[]).await?;
            context.output.list(&answer, "/model", MODELS)
        }
        Verb::Show { model, version: None } => {
            let answer = client.get(&format!("/api/v1/models/{model}"), &[]).await?;
            if context.output.format() == Format::Json {
                return context.output.json(&answer);
            }
            let versions = json!({ "items": answer.get("versions") });
            context.output.list(&versions, "/sha256", VERSIONS)?;
            match answer.get("next") {
                Some(_) => context.output.say("there are older ones: muster bundle list --model"),
                None => Ok(()),
            }
        }
        Verb::Show { model, version: Some(version) } => {
            let answer = client.get(&format!("/api/v1/models/{model}/versions/{version}"), &[]).await?;
            context.output.show(&answer, "/sha256", VERSION)
        }
        Verb::Alias { model, alias, version: Some(version), reason, if_revision, .. } => {
            let body = json!({ "version": version, "reason": reason });
            let path = format!("/api/v1/models/{model}/aliases/{alias}");
            let answer = client.put_if(&path, if_revision, &body).await?;
            context.output.show(&answer, "/name", ALIAS)
        }
        Verb::Alias { model, alias, version: None, reason, .. } => {
            let path = format!("/api/v1/models/{model}/aliases/{alias}/remove");
            client.post(&path, &[], &json!({ "reason": reason })).await?;
            context.output.say(&format!("{model} has no {alias} any more"))
        }
        Verb::Lineage { model, version } => {
            let path = format!("/api/v1/models/{model}/versions/{version}/lineage");
            let graph = client.get(&path, &[]).await?;
            lineage::show(context, &graph)
        }
    }
}

fn called(model: &Value, name: &str) -> String {
    let aliases = model.get("aliases").and_then(Value::as_array);
    let found = aliases.into_iter().flatten().find(|alias| text(alias, "/name") == name);
    found.map(|alias| text(alias, "/version")).unwrap_or_default()
}

fn variants(version: &Value) -> String {
    let one = |variant: &Value| {
        format!(
            "{} ({} {} on {}, {} bytes)",
            text(variant, "/id"),
            text(variant, "/format"),
            text(variant, "/precision"),
            text(variant, "/device"),
            text(variant, "/size_bytes")
        )
    };
    let variants = version.get("variants").and_then(Value::as_array);
    variants.into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

fn places(version: &Value) -> String {
    let one = |site: &Value| format!("{} at {}", text(site, "/devices"), text(site, "/site"));
    let sites = version.pointer("/runs_on/sites").and_then(Value::as_array);
    let sites: Vec<String> = sites.into_iter().flatten().map(one).collect();
    if sites.is_empty() { "no box".to_owned() } else { sites.join(", ") }
}

//! `muster policy`: when a model is retrained without anybody asking.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_protocol::ids::ModelName;
use serde_json::Value;

use super::output::{Column, Format, text};
use super::{CliError, Context, completing};

/// Longest policy file, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows a model's policy.
    #[command(after_help = "Example:\n  muster policy show er-beds")]
    Show {
        #[arg(add = completing::of(&completing::MODELS))]
        model: ModelName,
    },
    /// Replaces a model's policy by the one in a TOML or JSON file.
    #[command(after_help = "\
Examples:
  muster -o json policy show er-beds > policy.json
  muster policy set er-beds policy.json")]
    Set {
        #[arg(add = completing::of(&completing::MODELS))]
        model: ModelName,
        file: PathBuf,
    },
}

const FIELDS: &[Column] = &[
    Column { title: "Model", cell: |p| text(p, "/model") },
    Column { title: "Enabled", cell: |p| text(p, "/enabled") },
    Column { title: "Drift on share of streams", cell: |p| text(p, "/trigger/drift/share_of_streams") },
    Column { title: "Cooldown (world s)", cell: |p| text(p, "/cooldown_s") },
    Column { title: "Data after onset (world s)", cell: |p| text(p, "/min_data_s") },
    Column { title: "Runs a week at most", cell: |p| text(p, "/max_runs_per_week") },
    Column { title: "Schedule", cell: |p| text(p, "/schedule/cron") },
    Column { title: "After new labels", cell: |p| text(p, "/volume") },
    Column { title: "Blackout", cell: |p| text(p, "/guards/blackout") },
    Column { title: "Approval", cell: |p| text(p, "/approval") },
    Column { title: "Rollout by itself", cell: |p| text(p, "/rollout/automatic") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    let answer = match verb {
        Verb::Show { model } => client.get(&format!("/api/v1/policies/{model}"), &[]).await?,
        Verb::Set { model, file } => {
            let mut policy = read(&file)?;
            if let Some(fields) = policy.as_object_mut() {
                // The file may be shared by models; the command says which one is meant.
                fields.insert("model".to_owned(), model.to_string().into());
            }
            let answer = client.put(&format!("/api/v1/policies/{model}"), &policy).await?;
            // Some servers answer a replacement with nothing.
            if answer.is_null() { policy } else { answer }
        }
    };
    if context.output.format() == Format::Name {
        return context.output.line(&text(&answer, "/model"));
    }
    context.output.show(&answer, "/model", FIELDS)
}

/// Reads a file as JSON if its name says so, else as TOML.
pub(super) fn read(file: &Path) -> Result<Value, CliError> {
    let shown = file.display();
    let wrong = |what: String| CliError::failed(format!("{shown}: {what}"), "correct the file and repeat");
    let length = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(format!("is {length} bytes long; the limit is {FILE_BYTES_MAX}")));
    }
    let content = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let is_json = file.extension().is_some_and(|end| end == "json");
    let value = if is_json {
        serde_json::from_str::<Value>(&content).map_err(|error| wrong(error.to_string()))?
    } else {
        toml::from_str::<Value>(&content).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?
    };
    if value.is_object() { Ok(value) } else { Err(wrong("holds no object".to_owned())) }
}

//! `muster label`: captured rows to Label Studio as tasks, and what people answered back as labels.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::capture::{Band, Samples, band};
use super::output::Format;
use super::{CliError, Context};
use crate::dataset::join::Sample;
use crate::label_studio::{LabelStudio, Pulled, Pushed};

const TOKEN_BYTES_MAX: u64 = 16 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes a task of each captured row that has none yet.
    #[command(after_help = EXAMPLES)]
    Push {
        /// Decrypted capture files; - is stdin.
        #[arg(required = true)]
        samples: Vec<PathBuf>,
        #[command(flatten)]
        project: Project,
        /// Only rows whose score lies in this band, such as 0.4..0.6: the first value of the only output.
        #[arg(long, value_parser = band, value_name = "LOW..HIGH")]
        score: Option<Band>,
    },
    /// Writes what people answered as labels, for 'muster capture export'.
    #[command(after_help = EXAMPLES)]
    Pull {
        #[command(flatten)]
        project: Project,
        /// The CSV file to make.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The control tag whose answer counts, as the labelling interface names it; any, without it.
        #[arg(long, value_name = "NAME")]
        control: Option<String>,
    },
}

const EXAMPLES: &str = "\
Run it at the site: rows go from here to the site's own Label Studio, and the fleet sees none of it. A task's data has the
row's columns under their names, sample (ours) and output:NAME.

Examples:
  muster label push may/*.jsonl --studio http://127.0.0.1:8080 --project 3 --token-file token --score 0.4..0.6
  muster label pull --studio http://127.0.0.1:8080 --project 3 --token-file token --out labels.csv";

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "they are the options' names")]
pub(super) struct Project {
    /// Address of Label Studio.
    #[arg(long, value_name = "URL")]
    studio: String,
    /// The number in the project's address.
    #[arg(long)]
    project: u64,
    /// A file with the token of Account & Settings: legacy, or a personal access token.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    match verb {
        Verb::Push { samples, project, score } => {
            let read = tokio::task::spawn_blocking(move || Samples::read(&samples)).await;
            let Samples { headers, rows } = read.map_err(CliError::other)??;
            let rows: Vec<(Sample, Vec<String>)> = rows
                .into_iter()
                .filter(|(_, sample)| score.is_none_or(|band| holds(band, sample)))
                .map(|(at, sample)| (sample, headers[at].columns.clone()))
                .collect();
            let Pushed { new, there } =
                connect(&project).await?.push(&rows).await.map_err(CliError::other)?;
            match context.output.format() {
                Format::Json => context.output.json(&json!({ "new": new, "there": there })),
                Format::Table | Format::Name => {
                    context.output.line(&format!("{new} tasks made, {there} were there"))
                }
            }
        }
        Verb::Pull { project, out, control } => {
            let pulled = connect(&project).await?.pull(control.as_deref()).await.map_err(CliError::other)?;
            let Pulled { labels, foreign, open, disputed } = &pulled;
            let mut writer = csv::Writer::from_path(&out).map_err(CliError::other)?;
            writer.write_record(["id", "label", "at"]).map_err(CliError::other)?;
            for label in labels {
                let at = label.at.to_string();
                writer.write_record([&label.id, &label.label, &at]).map_err(CliError::other)?;
            }
            writer.flush()?;
            match context.output.format() {
                Format::Json => context.output.json(&json!({
                    "out": out, "labels": labels.len(), "open": open, "disputed": disputed, "foreign": foreign,
                })),
                Format::Name => context.output.line(&out.display().to_string()),
                Format::Table => context.output.line(&format!(
                    "{}: {} labels; {open} tasks are open, {disputed} disputed, {foreign} not ours",
                    out.display(),
                    labels.len()
                )),
            }
        }
    }
}

async fn connect(project: &Project) -> Result<LabelStudio, CliError> {
    let token = token(&project.token_file)?;
    LabelStudio::connect(&project.studio, project.project, &token).await.map_err(CliError::other)
}

fn token(path: &Path) -> Result<String, CliError> {
    let wrong = |what: String| {
        CliError::failed(format!("{}: {what}", path.display()), "put the token into it, and nothing else")
    };
    if path.metadata().map_err(|error| wrong(error.to_string()))?.len() > TOKEN_BYTES_MAX {
        return Err(wrong("is too long for a token".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    match text.trim() {
        "" => Err(wrong("is empty".to_owned())),
        token => Ok(token.to_owned()),
    }
}

fn holds(band: Band, sample: &Sample) -> bool {
    let mut outputs = sample.line.outputs.values();
    match (outputs.next().and_then(|values| values.first()?.as_f64()), outputs.next()) {
        (Some(score), None) => band.holds(score),
        (Some(_) | None, _) => false,
    }
}

//! `muster capture export`: a site's captured rows and what became of them, as a table to learn from.

use std::path::{Path, PathBuf};

use muster_protocol::ids::DatasetName;
use serde_json::json;

use super::samples::Samples;
use crate::cli::dataset::{How, put};
use crate::cli::output::Format;
use crate::cli::{CliError, Context, act, now};
use crate::dataset::Source;
use crate::dataset::join::{Counts, Header, Label, join};
use crate::table::write;

pub(super) const EXAMPLES: &str = "\
Run it at the site, where the key is: the rows are read decrypted and stay here unless --add sends them to the fleet.
Labels are a CSV file with the columns id, label and at: id is the application's name of the request (with /ROW where a
request had several rows), or the sample's own, as 'muster label pull' writes it. Labels for predictions that nobody
captured, from the future, or from before their prediction are left out and counted.

Examples:
  age --decrypt --identity site.key 17641….age | muster capture export - --labels labels.csv --out beds.parquet
  muster capture export may/*.jsonl --labels labels.csv --out beds.parquet --add er-beds --time-column at --yes";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Decrypted capture files; - is stdin.
    #[arg(required = true)]
    samples: Vec<PathBuf>,
    /// What became of the predictions: a CSV file with the columns id, label and at.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The Parquet file to make.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also send it to the fleet, as a version of this dataset.
    #[arg(long, value_name = "DATASET")]
    add: Option<DatasetName>,
    /// Do not ask before rows are sent.
    #[arg(short, long, requires = "add")]
    yes: bool,
    #[command(flatten)]
    how: How,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Result<(), CliError> {
    let Args { samples, labels, out, add, yes, how } = args;
    let read = tokio::task::spawn_blocking(move || {
        Ok::<_, CliError>((Samples::read(&samples)?, labelled(&labels)?))
    });
    let (samples, labels) = read.await.map_err(CliError::other)??;
    let Samples { headers, rows } = samples;
    let rows = rows.into_iter().map(|(_, sample)| sample).collect();
    let (table, counts) = join(&headers, rows, labels, now()).map_err(CliError::other)?;
    write(&out, &table).map_err(CliError::other)?;
    say(context, &out, &counts)?;
    let (Some(name), Some(source)) = (add, source(&headers)) else { return Ok(()) };
    let what = format!(
        "{} rows of the site go to the fleet's store of datasets, as a version of {name}.",
        counts.joined
    );
    act::confirm(context, yes, &what)?;
    let file = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    put(context, &name, vec![(out, file)], source, &how).await
}

fn source(headers: &[Header]) -> Option<Source> {
    let first = headers.first()?;
    let mut captures: Vec<_> = headers.iter().map(|header| header.request.clone()).collect();
    captures.sort();
    captures.dedup();
    Some(Source::Captures { slot: first.slot.clone(), bundle: first.bundle, captures })
}

fn labelled(path: &Path) -> Result<Vec<Label>, CliError> {
    let wrong = |error: csv::Error| {
        let next = "write the columns id, label and at, the time as 2026-11-24T02:00:00Z";
        CliError::failed(format!("{}: {error}", path.display()), next)
    };
    let mut reader = csv::Reader::from_path(path).map_err(wrong)?;
    reader.deserialize().collect::<Result<_, _>>().map_err(wrong)
}

fn say(context: &mut Context, out: &Path, counts: &Counts) -> Result<(), CliError> {
    let Counts { joined, without_label, unknown, future, early, replaced, repeated } = counts;
    match context.output.format() {
        Format::Json => context.output.json(&json!({ "out": out, "counts": counts })),
        Format::Name => context.output.line(&out.display().to_string()),
        Format::Table => {
            context.output.line(&format!("{}: {joined} rows with a label", out.display()))?;
            for (count, what) in [
                (without_label, "rows have no label yet"),
                (unknown, "labels refused: for predictions that nobody captured"),
                (future, "labels refused: from the future"),
                (early, "labels refused: from before their prediction"),
                (replaced, "labels replaced by another of the same prediction"),
                (repeated, "rows were there twice"),
            ] {
                if *count > 0 {
                    context.output.say(&format!("{count} {what}"))?;
                }
            }
            Ok(())
        }
    }
}

//! Files here become a version there.

use std::path::{Path, PathBuf};

use muster_protocol::ids::DatasetName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::output::{Column, Format, text};
use super::super::policy::read;
use super::super::{CliError, Context, now};
use super::{bar, show};
use crate::client::{NewVersion, Shelf};
use crate::dataset::rules::{RULES_MAX, broken};
use crate::dataset::{Checked, External, Rule, Source, check};
use crate::table::{Beat, Survey, Surveyed};

pub(super) const EXAMPLES: &str = "\
The files are read here, once: digests, columns, nulls, quantiles, frequent values. The same files are the same version,
however often they are added. A version that breaks a rule is not added. Rules are a TOML or JSON file:

  [[rules]]
  rows = { min = 1000 }
  [[rules]]
  not_null = { column = \"age\" }
  [[rules]]
  null_share = { column = \"lactate\", max = 0.4 }
  [[rules]]
  range = { column = \"age\", min = 0, max = 120 }
  [[rules]]
  one_of = { column = \"ward\", values = [\"er\", \"icu\"] }
  [[rules]]
  unique = { column = \"sample\" }
  [[rules]]
  fresh = { column = \"charted_at\", max_age_s = 604800 }

Examples:
  muster dataset add er-beds warehouse/ --time-column charted_at --rules rules.toml
  muster dataset add er-beds may.parquet --external lakefs:wards@4f3c2b1a --note 'May, after the new monitors'
  muster dataset add er-beds warehouse/ --rules rules.toml --dry-run";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    name: DatasetName,
    /// Parquet files, or folders of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) how: How,
}

/// What is said of a version beside its files.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct How {
    /// The column that says when a row was.
    #[arg(long, value_name = "COLUMN")]
    time_column: Option<String>,
    /// Rules that the version must keep.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// What another system calls it: dvc:…, lakefs:…, artivc:…, mlflow:…, s3:… Repeatable.
    #[arg(long, value_name = "REFERENCE")]
    pub(super) external: Vec<External>,
    /// For people.
    #[arg(long, default_value = "")]
    pub(super) note: String,
    /// Read and judge, and change nothing at the server.
    #[arg(long)]
    dry_run: bool,
}

pub(super) const CHECKS: &[Column] = &[
    Column { title: "RULE", cell: |check| rule(check) },
    Column { title: "MEASURED", cell: |check| text(check, "/measured") },
    Column { title: "LIMIT", cell: |check| text(check, "/limit") },
    Column { title: "HELD", cell: |check| text(check, "/held") },
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    rules: Vec<Rule>,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Result<(), CliError> {
    let files = files(&args.paths)?;
    put(context, &args.name, files, Source::Files, &args.how).await
}

/// Adds a version of files, each with its name in the version.
pub(in crate::cli) async fn put(
    context: &mut Context,
    name: &DatasetName,
    files: Vec<(PathBuf, String)>,
    source: Source,
    how: &How,
) -> Result<(), CliError> {
    let rules = how.rules.as_deref().map(rules).transpose()?.unwrap_or_default();
    let survey = Survey { files, time_column: how.time_column.clone(), rules, source };
    let surveyed = surveyed(context, survey.clone()).await?;
    let checks = check(&survey.rules, &surveyed.profile, &surveyed.watched, now());
    obeyed(context, &checks)?;
    let manifest = surveyed.manifest;
    manifest.check().map_err(CliError::other)?;
    let sha256 = manifest.digest().map_err(CliError::other)?;
    if how.dry_run {
        let (rows, count) = (manifest.rows(), manifest.files.len());
        context.output.say(&format!("would add {name} as {rows} rows in {count} files, {sha256}"))?;
        return match context.output.format() {
            Format::Json => context.output.json(&json!({
                "name": name, "sha256": sha256, "manifest": manifest, "profile": surveyed.profile, "checks": checks,
            })),
            Format::Name | Format::Table => Ok(()),
        };
    }
    let client = context.client()?;
    let sending = bar(context, manifest.bytes(), "uploading");
    for (file, (path, _)) in manifest.files.iter().zip(&survey.files) {
        let beat = sending.clone();
        client.put_file(Shelf::Datasets, &file.sha256, path, move |bytes| beat.inc(bytes)).await?;
    }
    sending.finish_and_clear();
    let profile = serde_json::to_vec(&surveyed.profile).map_err(CliError::other)?;
    let profile = client.put_bytes(Shelf::Datasets, profile).await?;
    let (external, note) = (how.external.clone(), how.note.clone());
    let new = NewVersion { manifest, profile, checks, external, note };
    let answer = client.post(&format!("/api/v1/datasets/{name}/versions"), &[], &new).await?;
    show(context, &answer)
}

/// Reads the files on a thread of their own.
pub(super) async fn surveyed(context: &Context, survey: Survey) -> Result<Surveyed, CliError> {
    let bytes = survey.files.iter().filter_map(|(path, _)| path.metadata().ok()).map(|meta| meta.len()).sum();
    let reading = bar(context, bytes, "reading");
    let beat = reading.clone();
    let run = move || {
        survey.run(&mut |done| match done {
            Beat::Bytes(bytes) => beat.inc(bytes),
            Beat::Rows(_) => {}
        })
    };
    let surveyed = tokio::task::spawn_blocking(run).await.map_err(CliError::other)?;
    reading.finish_and_clear();
    surveyed.map_err(CliError::other)
}

/// The files of these paths with their names in a version: a folder's are named from it.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, CliError> {
    let mut found = Vec::new();
    for path in paths {
        let unreadable =
            |error| CliError::failed(format!("{}: {error}", path.display()), "name a file or a folder");
        if path.metadata().map_err(unreadable)?.is_dir() {
            inside(path, path, &mut found).map_err(unreadable)?;
        } else {
            let name = path.file_name().unwrap_or_default();
            found.push((path.clone(), name.to_string_lossy().into_owned()));
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    if found.is_empty() {
        return Err(CliError::failed(
            "there are no .parquet files",
            "name files, or a folder that holds some",
        ));
    }
    Ok(found)
}

fn inside(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, String)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            inside(root, &path, found)?;
        } else if path.extension().is_some_and(|end| end == "parquet") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.push((path, name));
        }
    }
    Ok(())
}

fn rules(path: &Path) -> Result<Vec<Rule>, CliError> {
    let wrong =
        |what: &str| CliError::failed(format!("{}: {what}", path.display()), "correct the file and repeat");
    let RulesFile { rules } =
        serde_json::from_value(read(path)?).map_err(|error| wrong(&error.to_string()))?;
    if rules.len() > RULES_MAX {
        return Err(wrong("there are more than 1000 rules"));
    }
    match rules.iter().find_map(Rule::fault) {
        Some(fault) => Err(wrong(fault)),
        None => Ok(rules),
    }
}

fn obeyed(context: &mut Context, checks: &[Checked]) -> Result<(), CliError> {
    let broken = broken(checks);
    if broken.is_empty() {
        return Ok(());
    }
    for sentence in &broken {
        context.output.say(sentence)?;
    }
    let what = format!("{} of {} rules are broken; nothing was added", broken.len(), checks.len());
    Err(CliError::failed(what, "look at the data, or correct the rules, and repeat"))
}

fn rule(check: &Value) -> String {
    let Some(rule) = check.get("rule").and_then(Value::as_object) else { return String::new() };
    let name = rule.keys().next().cloned().unwrap_or_default();
    match rule.get(&name).map(|rule| text(rule, "/column")) {
        Some(column) if !column.is_empty() => format!("{name} {column}"),
        Some(_) | None => name,
    }
}

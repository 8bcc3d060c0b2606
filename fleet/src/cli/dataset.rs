//! `muster dataset`: versions of the data that models learn from: add, look, hold against rules, compare, bring back.

mod add;
mod import;
mod look;

use std::path::PathBuf;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use muster_protocol::ids::DatasetName;

use super::output::{Column, Format, text};
use super::{CliError, Context, completing};
use crate::builder::datasets::pull;
use crate::dataset::DatasetRef;

pub(super) use add::{How, put};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists datasets, or the versions of one.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  muster dataset list\n  muster dataset list er-beds"
    )]
    List {
        #[arg(add = completing::of(&completing::DATASETS))]
        name: Option<DatasetName>,
    },
    /// Shows a version: its files, its rules with what was measured, the runs that were trained on it.
    #[command(after_help = "Examples:\n  muster dataset show er-beds\n  muster dataset show er-beds@3")]
    Show {
        /// NAME or NAME@VERSION; the version is a number, a digest, or latest.
        #[arg(add = completing::of(&completing::DATASETS))]
        dataset: DatasetRef,
    },
    /// Adds Parquet files as a version: hashes and profiles them here, holds them to rules, uploads what is new.
    #[command(after_help = add::EXAMPLES)]
    Add(Box<add::Args>),
    /// Shows what is in the columns: of a version, or of files here.
    #[command(
        after_help = "Examples:\n  muster dataset profile er-beds@latest\n  muster dataset profile ./june.parquet"
    )]
    Profile {
        /// NAME@VERSION, or the path of a file or folder.
        target: look::Target,
    },
    /// Shows what changed from one version to another, or to files here.
    #[command(after_help = look::EXAMPLES)]
    Compare(look::Compare),
    /// Brings a version's files here and checks every digest.
    #[command(after_help = "\
Examples:
  muster dataset pull er-beds@3 --out ./er-beds
  muster dataset pull er-beds --out ./er-beds --dry-run")]
    Pull {
        #[arg(add = completing::of(&completing::DATASETS))]
        dataset: DatasetRef,
        /// Where to; files that are there and right are kept.
        #[arg(long)]
        out: PathBuf,
        /// Only say what would be fetched.
        #[arg(long)]
        dry_run: bool,
    },
    /// Adds a commit of an `ArtiVC` repository, or what a .dvc file names, as a version.
    #[command(after_help = import::EXAMPLES)]
    Import(Box<import::Args>),
}

pub(super) const VERSIONS: &[Column] = &[
    Column { title: "DATASET", cell: |v| format!("{}@{}", text(v, "/name"), text(v, "/number")) },
    Column { title: "ROWS", cell: |v| text(v, "/rows") },
    Column { title: "COLUMNS", cell: |v| text(v, "/columns") },
    Column { title: "BYTES", cell: |v| text(v, "/bytes") },
    Column { title: "FROM", cell: |v| text(v, "/from") },
    Column { title: "TO", cell: |v| text(v, "/to") },
    Column { title: "ADDED", cell: |v| text(v, "/added") },
    Column { title: "EXTERNAL", cell: |v| text(v, "/external") },
    Column { title: "SHA256", cell: |v| text(v, "/sha256") },
];

const FILES: &[Column] = &[
    Column { title: "FILE", cell: |f| text(f, "/path") },
    Column { title: "ROWS", cell: |f| text(f, "/rows") },
    Column { title: "BYTES", cell: |f| text(f, "/bytes") },
    Column { title: "SHA256", cell: |f| text(f, "/sha256") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    match verb {
        Verb::List { name } => {
            let path = match name {
                Some(name) => format!("/api/v1/datasets/{name}/versions"),
                None => "/api/v1/datasets".to_owned(),
            };
            let answer = context.client()?.list(&path, &[]).await?;
            match context.output.format() {
                Format::Name => names(context, &answer),
                Format::Table | Format::Json => context.output.list(&answer, "/name", VERSIONS),
            }
        }
        Verb::Show { dataset } => {
            let path = format!("/api/v1/datasets/{}/versions/{}", dataset.name, dataset.version);
            let answer = context.client()?.get(&path, &[]).await?;
            show(context, &answer)
        }
        Verb::Add(args) => add::run(context, *args).await,
        Verb::Profile { target } => look::profile(context, &target).await,
        Verb::Compare(compare) => look::compare(context, &compare).await,
        Verb::Pull { dataset, out, dry_run } => fetch(context, &dataset, out, dry_run).await,
        Verb::Import(args) => import::run(context, *args).await,
    }
}

/// NAME@NUMBER, a line each.
fn names(context: &mut Context, answer: &serde_json::Value) -> Result<(), CliError> {
    let items = answer.get("items").and_then(serde_json::Value::as_array);
    items.into_iter().flatten().try_for_each(|item| context.output.line(&(VERSIONS[0].cell)(item)))
}

pub(super) fn show(context: &mut Context, answer: &serde_json::Value) -> Result<(), CliError> {
    match context.output.format() {
        Format::Json => context.output.json(answer),
        Format::Name => context.output.line(&(VERSIONS[0].cell)(answer)),
        Format::Table => {
            context.output.fields(answer, VERSIONS)?;
            let runs = text(answer, "/runs");
            if !runs.is_empty() {
                context.output.line(&format!("trained on by: {runs}"))?;
            }
            let part = |pointer: &str| answer.pointer(pointer).and_then(serde_json::Value::as_array);
            if let Some(files) = part("/manifest/files") {
                context.output.table(files, FILES)?;
            }
            match part("/checks") {
                Some(checks) if !checks.is_empty() => context.output.table(checks, add::CHECKS),
                Some(_) | None => Ok(()),
            }
        }
    }
}

async fn fetch(
    context: &mut Context,
    dataset: &DatasetRef,
    out: PathBuf,
    dry_run: bool,
) -> Result<(), CliError> {
    let client = context.client()?;
    let version = client.dataset(dataset).await?;
    let (files, bytes) = (version.manifest.files.len(), version.manifest.bytes());
    let name = format!("{}@{}", version.name, version.number);
    if dry_run {
        return context
            .output
            .say(&format!("would bring {files} files of {bytes} bytes of {name} to {}", out.display()));
    }
    let bar = bar(context, bytes, "fetching");
    let pulled = pull(&client, &version, &out, |bytes| bar.inc(bytes)).await;
    bar.finish_and_clear();
    pulled.map_err(CliError::other)?;
    match context.output.format() {
        Format::Json => context.output.json(&serde_json::json!({
            "name": version.name, "number": version.number, "sha256": version.sha256, "out": out, "manifest": version.manifest,
        })),
        Format::Name => context.output.line(&name),
        Format::Table => context.output.line(&format!("{name}: {files} files of {bytes} bytes are in {}", out.display())),
    }
}

/// A bar of bytes where somebody looks at it, else none.
fn bar(context: &Context, bytes: u64, what: &'static str) -> ProgressBar {
    if !context.output.is_interactive() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes).with_message(what);
    // The template is ours and fixed: a fault in it shows the default bar.
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

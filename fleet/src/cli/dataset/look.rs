//! Profiles and comparisons, of versions there and of files here.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::super::output::{Column, Format, text};
use super::super::{CliError, Context};
use super::add::{files, surveyed};
use crate::dataset::compare::Verdict;
use crate::dataset::profile::{ColumnProfile, Values};
use crate::dataset::reference::ReferenceError;
use crate::dataset::report::{html, value};
use crate::dataset::{Comparison, DatasetRef, Profile, Source, compare as compared};
use crate::table::Survey;

pub(super) const EXAMPLES: &str = "\
A column changed if its population stability index is above what chance alone makes of so many rows and columns; 0.1 is
moderate, 0.25 major.

Examples:
  muster dataset compare er-beds@1 er-beds@2
  muster dataset compare er-beds@latest ./june.parquet --fail-on moderate
  muster dataset compare er-beds@1 er-beds@2 --html changes.html";

/// A version at the server, or files here.
#[derive(Clone, Debug)]
pub(in crate::cli) enum Target {
    Version(DatasetRef),
    Path(PathBuf),
}

impl FromStr for Target {
    type Err = ReferenceError;

    /// What is there as a file is one; `./er` is never a dataset's name.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(['/', '.']) || PathBuf::from(text).exists() {
            return Ok(Self::Path(text.into()));
        }
        text.parse().map(Self::Version)
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Compare {
    /// NAME@VERSION, or the path of a file or folder.
    before: Target,
    now: Target,
    /// Also write the comparison as a page of its own.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// End with 3 if a column changed that much, or came, went or changed its type.
    #[arg(long, value_enum)]
    fail_on: Option<Much>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Much {
    Small,
    Moderate,
    Major,
}

const COLUMNS: &[Column] = &[
    Column { title: "COLUMN", cell: |c| text(c, "/column") },
    Column { title: "KIND", cell: |c| text(c, "/kind") },
    Column { title: "NO VALUE", cell: |c| text(c, "/nulls") },
    Column { title: "DIFFERENT", cell: |c| text(c, "/different") },
    Column { title: "MIN", cell: |c| text(c, "/min") },
    Column { title: "MEDIAN", cell: |c| text(c, "/median") },
    Column { title: "MAX", cell: |c| text(c, "/max") },
    Column { title: "MEAN", cell: |c| text(c, "/mean") },
    Column { title: "FREQUENT", cell: |c| text(c, "/top") },
];

const CHANGES: &[Column] = &[
    Column { title: "COLUMN", cell: |c| text(c, "/column") },
    Column { title: "CHANGE", cell: |c| text(c, "/change") },
    Column { title: "PSI", cell: |c| text(c, "/psi") },
    Column { title: "BY CHANCE", cell: |c| text(c, "/critical") },
    Column { title: "NO VALUE", cell: |c| text(c, "/nulls") },
    Column { title: "MEAN", cell: |c| text(c, "/mean") },
];

pub(super) async fn profile(context: &mut Context, target: &Target) -> Result<(), CliError> {
    let profile = profiled(context, target).await?;
    match context.output.format() {
        Format::Json => context.output.json(&json!(profile)),
        Format::Name => {
            profile.columns.iter().try_for_each(|column| context.output.line(&column.column.name))
        }
        Format::Table => {
            context.output.say(&format!("{} rows", profile.rows))?;
            let lines: Vec<Value> = profile.columns.iter().map(line).collect();
            context.output.table(&lines, COLUMNS)
        }
    }
}

pub(super) async fn compare(context: &mut Context, args: &Compare) -> Result<(), CliError> {
    let (before, now) = (profiled(context, &args.before).await?, profiled(context, &args.now).await?);
    let comparison = compared(&before, &now);
    if let Some(path) = &args.html {
        let page = html(&shown(&args.before), &shown(&args.now), &comparison);
        std::fs::write(path, page)?;
    }
    say(context, &comparison)?;
    match args.fail_on {
        Some(much) if is_much(&comparison, much) => {
            Err(CliError::EndedBadly("the versions differ by more than was allowed".to_owned()))
        }
        Some(_) | None => Ok(()),
    }
}

fn say(context: &mut Context, comparison: &Comparison) -> Result<(), CliError> {
    let Comparison { rows, added, removed, columns } = comparison;
    match context.output.format() {
        Format::Json => context.output.json(&json!(comparison)),
        Format::Name => {
            let changed = columns.iter().filter(|column| column.verdict > Verdict::Same);
            changed.into_iter().try_for_each(|column| context.output.line(&column.name))
        }
        Format::Table => {
            context.output.say(&format!("{} rows before, {} now", rows.0, rows.1))?;
            for (what, columns) in [("new", added), ("gone", removed)] {
                for column in columns {
                    context.output.line(&format!("{what}: {} ({})", column.name, column.stored))?;
                }
            }
            let lines: Vec<Value> = columns
                .iter()
                .map(|column| {
                    let (nulls, kind) = (column.null_share, column.kind);
                    let pair =
                        |(before, now): (f64, f64)| format!("{} → {}", value(kind, before), value(kind, now));
                    json!({
                        "column": column.name,
                        "change": column.verdict.to_string(),
                        "psi": column.psi.map(|psi| format!("{:.4}", psi.psi)),
                        "critical": column.psi.map(|psi| format!("{:.4}", psi.critical)),
                        "nulls": format!("{:.1} → {:.1} %", nulls.0 * 100.0, nulls.1 * 100.0),
                        "mean": column.mean.map(pair),
                    })
                })
                .collect();
            context.output.table(&lines, CHANGES)
        }
    }
}

fn is_much(comparison: &Comparison, much: Much) -> bool {
    let limit = match much {
        Much::Small => Verdict::Small,
        Much::Moderate => Verdict::Moderate,
        Much::Major => Verdict::Major,
    };
    let columns = comparison.columns.iter().any(|column| column.verdict >= limit);
    columns || !comparison.added.is_empty() || !comparison.removed.is_empty()
}

async fn profiled(context: &Context, target: &Target) -> Result<Profile, CliError> {
    match target {
        Target::Version(version) => Ok(context.client()?.dataset_profile(version).await?),
        Target::Path(path) => {
            let files = files(std::slice::from_ref(path))?;
            let survey = Survey { files, time_column: None, rules: Vec::new(), source: Source::Files };
            Ok(surveyed(context, survey).await?.profile)
        }
    }
}

fn shown(target: &Target) -> String {
    match target {
        Target::Version(version) => version.to_string(),
        Target::Path(path) => path.display().to_string(),
    }
}

fn line(profile: &ColumnProfile) -> Value {
    let ColumnProfile { column, nulls, values } = profile;
    let mut line = json!({ "column": column.name, "kind": column.kind, "nulls": nulls });
    match values {
        Values::Numeric(numeric) => {
            let read = |number: f64| value(column.kind, number);
            let median = numeric.quantiles.iter().find(|quantile| (quantile.share - 0.5).abs() < 1e-9);
            line["min"] = json!(numeric.min.map(read));
            line["median"] = json!(median.map(|quantile| read(quantile.value)));
            line["max"] = json!(numeric.max.map(read));
            line["mean"] = json!(numeric.mean.map(read));
            line["different"] = json!(about(numeric.distinct.count, numeric.distinct.exact));
        }
        Values::Text(own) => {
            let top = own.top.iter().take(3).map(|(value, rows)| format!("{value} ({rows})"));
            line["different"] = json!(about(own.distinct.count, own.distinct.exact));
            line["top"] = json!(top.collect::<Vec<_>>().join(", "));
        }
        Values::Opaque => {}
    }
    line
}

fn about(count: u64, exact: bool) -> String {
    if exact { count.to_string() } else { format!("≈ {count}") }
}

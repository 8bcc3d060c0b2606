//! `muster bundle build`: the builder's own work, at a person's desk.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use muster_protocol::ids::{BundleVersion, ModelName};
use muster_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::builder::bundle::{self, Built, Recipe};
use crate::builder::config::inherited;
use crate::builder::eval::Evaluator;
use crate::cli::output::Format;
use crate::cli::{CliError, Context, duration, now};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The trainer's output folder: model.onnx, trainer.json, reference.csv, holdouts, metrics.json.
    #[arg(long)]
    from: PathBuf,
    #[arg(long)]
    model: ModelName,
    #[arg(long)]
    version: BundleVersion,
    /// The bundle's folder: absent or empty.
    #[arg(long)]
    out: PathBuf,
    /// The bundle to compare with: its folder or its manifest.json.
    #[arg(long)]
    champion: Option<PathBuf>,
    /// The program muster-agent, which runs the models.
    #[arg(long, env = "MUSTER_AGENT", default_value = "muster-agent")]
    agent: PathBuf,
    /// The folder with the inference runtime; `make runtime` makes it.
    #[arg(long, env = "MUSTER_RUNTIME", default_value = ".muster/runtime")]
    runtime: PathBuf,
    #[arg(long, default_value = "auto", value_parser = ["auto", "openvino", "onnx-cpu"])]
    provider: String,
    /// Length of a pane, world seconds; the champion's or 600 if not given.
    #[arg(long)]
    pane_s: Option<u64>,
    /// When it was made, RFC 3339; now if not given. Given, the same input makes the same bytes.
    #[arg(long)]
    created: Option<Timestamp>,
    /// Address space of one evaluation, MiB.
    #[arg(long, default_value_t = 8192)]
    memory_mb: u64,
    /// Longest time of one evaluation.
    #[arg(long, default_value = "5m", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    gate: super::oms::Gate,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Result<(), CliError> {
    let source = args.gate.source(context, &args.from, &args.out)?;
    let evaluator = Evaluator {
        agent: beside_us(args.agent),
        runtime: args.runtime,
        provider: args.provider,
        memory_mb: args.memory_mb,
        wall: args.timeout,
        env: inherited(),
    };
    let recipe = Recipe {
        from: source.path().to_owned(),
        model: args.model,
        version: args.version,
        created: args.created.unwrap_or_else(now),
        out: args.out,
        champion: args.champion,
        pane_s: args.pane_s,
        run: None,
        trigger: None,
    };
    let built = with_progress(context, &recipe, &evaluator).await?;
    say(context, &recipe, &built)
}

async fn with_progress(
    context: &mut Context,
    recipe: &Recipe,
    evaluator: &Evaluator,
) -> Result<Built, CliError> {
    let cancel = CancellationToken::new();
    let result = if context.output.is_interactive() {
        let bar = ProgressBar::new(100);
        // The template is ours and fixed: a fault in it shows the default bar.
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let progress = |fraction: f64, what: &str| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
            bar.set_position((fraction.clamp(0.0, 1.0) * 100.0) as u64);
            bar.set_message(what.to_owned());
        };
        let result = bundle::build(recipe, evaluator, &cancel, &progress).await;
        bar.finish_and_clear();
        result
    } else {
        let output = Mutex::new(&mut context.output);
        let progress = |_: f64, what: &str| {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            // Progress is a courtesy; the result will tell whether stderr is gone.
            output.say(what).ok();
        };
        bundle::build(recipe, evaluator, &cancel, &progress).await
    };
    result.map_err(CliError::other)
}

fn say(context: &mut Context, recipe: &Recipe, built: &Built) -> Result<(), CliError> {
    if context.output.format() == Format::Json {
        return context.output.json(&serde_json::json!({
            "sha256": built.sha256, "folder": recipe.out, "manifest": built.manifest,
            "provider": built.report.provider, "measured": built.measured,
        }));
    }
    if let Some(evaluation) = &built.manifest.evaluation {
        for set in &evaluation.sets {
            let champion = set.champion.map(|value| format!(", champion {value:.4}")).unwrap_or_default();
            let (name, metric, rows) = (&set.name, &evaluation.metric, set.rows);
            context.output.say(&format!("{name}: {metric} {:.4}{champion} ({rows} rows)", set.challenger))?;
        }
    }
    let provider = &built.report.provider;
    context.output.say(&format!("built {} (answers by {provider})", recipe.out.display()))?;
    context.output.line(&built.sha256.to_string())
}

/// A bare program name means the one that was installed beside this one.
fn beside_us(agent: PathBuf) -> PathBuf {
    let bare = agent.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(&agent)));
    own.filter(|path| bare && path.is_file()).unwrap_or(agent)
}

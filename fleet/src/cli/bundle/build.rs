//! `muster bundle build`: the builder's own work, at a person's desk.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use muster_protocol::ids::{BundleVersion, ModelName};
use muster_protocol::manifest::{InferencePrecision, Precision, Task};
use muster_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::builder::bundle::{self, Built, Recipe, VariantReport};
use crate::builder::config::inherited;
use crate::builder::convert::Converter;
use crate::builder::eval::Evaluator;
use crate::cli::output::Format;
use crate::cli::{CliError, Context, duration, now};

pub(super) const EXAMPLES: &str = "\
Every variant is asked the golden request on this machine, by the agent's own code: what it answers is what boxes must
answer, within a tolerance for each way of computing (f32, bf16, f16, INT8). Limits on load time, memory and latency are
what was measured here, with headroom. A box takes the best variant that fits it and passes its self-test there.

An ONNX model stays ONNX and runs on every box. OpenVINO IR and TensorFlow SavedModels become OpenVINO IR, which runs on
OpenVINO only. INT8 needs rows that the model is usually asked: a trainer's reference rows, or --calibration.
Everything but a plain ONNX file of a trainer is converted by Python tools; `make convert` installs them.

Examples:
  muster bundle build --from trained/ --model er --version 2 --out er-2
  muster bundle build --from trained/ --model er --version 2 --out er-2 --variants fp32,fp16,int8
  muster bundle build --from resnet50.onnx --model eye --version 1 --out eye-1 --variants fp32,int8 --calibration rows.npz
  muster bundle build --from saved_model/ --model eye --version 1 --out eye-1 --task classification";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The trainer's output folder (model, trainer.json, reference.csv, holdouts, metrics.json), or a model alone: a
    /// .onnx file, a .xml file with its .bin, or a folder with TensorFlow's `saved_model.pb`.
    #[arg(long)]
    from: PathBuf,
    /// What to make of it, the most digits first: fp32, fp16, int8.
    #[arg(long, value_delimiter = ',', default_value = "fp32", value_parser = precision)]
    variants: Vec<Precision>,
    /// What boxes compute in: f32 is the same everywhere; default is each box's fastest, such as bfloat16.
    #[arg(long, default_value = "f32", value_parser = inference)]
    inference_precision: InferencePrecision,
    /// Rows that the model is usually asked: .npz with an array for each input, .csv, or .jsonl of requests.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// What a model alone answers: regression, binary or classification.
    #[arg(long, default_value = "regression", value_parser = task)]
    task: Task,
    /// The Python with the conversion tools; `make convert` makes it.
    #[arg(long, env = "MUSTER_CONVERT_PYTHON", default_value = ".muster/convert/bin/python")]
    python: PathBuf,
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
    /// What runs the model here: OpenVINO where it can, or one of the two.
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
    let mut variants = args.variants;
    variants.sort_unstable();
    variants.dedup();
    let converter = Converter {
        python: args.python,
        // OpenVINO and NumPy reserve far more than they touch.
        memory_mb: args.memory_mb.saturating_mul(4),
        wall: args.timeout,
        env: inherited(),
    };
    let form = bundle::Form {
        variants,
        inference_precision: args.inference_precision,
        calibration: args.calibration,
        task: args.task,
        converter: Some(converter),
    };
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
        form,
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
        let result = Box::pin(bundle::build(recipe, evaluator, &cancel, &progress)).await;
        bar.finish_and_clear();
        result
    } else {
        let output = Mutex::new(&mut context.output);
        let progress = |_: f64, what: &str| {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            // Progress is a courtesy; the result will tell whether stderr is gone.
            output.say(what).ok();
        };
        Box::pin(bundle::build(recipe, evaluator, &cancel, &progress)).await
    };
    result.map_err(CliError::other)
}

fn say(context: &mut Context, recipe: &Recipe, built: &Built) -> Result<(), CliError> {
    if context.output.format() == Format::Json {
        return context.output.json(&serde_json::json!({
            "sha256": built.sha256, "folder": recipe.out, "manifest": built.manifest,
            "provider": built.report.provider, "measured": built.measured, "variants": built.variants,
        }));
    }
    if let Some(evaluation) = &built.manifest.evaluation {
        for set in &evaluation.sets {
            let champion = set.champion.map(|value| format!(", champion {value:.4}")).unwrap_or_default();
            let (name, metric, rows) = (&set.name, &evaluation.metric, set.rows);
            context.output.say(&format!("{name}: {metric} {:.4}{champion} ({rows} rows)", set.challenger))?;
        }
    }
    if built.variants.len() > 1 {
        for variant in &built.variants {
            let VariantReport { id, bytes, load_ms, p95_us, differs_max, differs_mean, .. } = variant;
            let (kib, p95_ms) = (bytes.div_ceil(1024), p95_us / 1e3);
            context.output.say(&format!(
                "{id}: {kib} KiB, loads in {load_ms:.0} ms, p95 {p95_ms:.2} ms; differs from the first by {differs_mean:.2e}, at most {differs_max:.2e}"
            ))?;
        }
    }
    let provider = &built.report.provider;
    context.output.say(&format!("built {} (answers by {provider})", recipe.out.display()))?;
    context.output.line(&built.sha256.to_string())
}

fn precision(text: &str) -> Result<Precision, String> {
    let all = [Precision::Fp32, Precision::Fp16, Precision::Int8];
    let found = all.into_iter().find(|precision| precision.as_str() == text);
    found.ok_or_else(|| format!("'{text}' is not a variant; use fp32, fp16 or int8"))
}

fn inference(text: &str) -> Result<InferencePrecision, String> {
    use InferencePrecision::{Bf16, Default, F16, F32};
    let found = [F32, F16, Bf16, Default].into_iter().find(|precision| precision.as_str() == text);
    found.ok_or_else(|| format!("'{text}' is not a precision; use f32, f16, bf16 or default"))
}

fn task(text: &str) -> Result<Task, String> {
    match text {
        "regression" => Ok(Task::Regression),
        "binary" => Ok(Task::Binary),
        "classification" => Ok(Task::Classification),
        other => Err(format!("'{other}' is not a task; use regression, binary or classification")),
    }
}

/// A bare program name means the one that was installed beside this one.
fn beside_us(agent: PathBuf) -> PathBuf {
    let bare = agent.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(&agent)));
    own.filter(|path| bare && path.is_file()).unwrap_or(agent)
}

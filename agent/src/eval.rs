//! `muster-agent eval`: answers inference requests from standard input, one JSON body a line, and measures itself.
//!
//! The agent runs it as a child before a model may answer anybody; `muster bundle build` runs it to make golden outputs
//! and to score. It is the place where an untrusted model runs first, so it limits itself *before* it reads the file: a
//! model that hangs, grows or crashes takes this process with it and nothing else. It never talks to a network, never
//! writes a file and never reads the agent's state.
//!
//! ```text
//!   stdin   {"inputs":[…]}⏎ …          stdout  {"outputs":[…]}⏎ …
//!   stderr  last line: {"provider":"openvino","reason":null,"load_ms":…,"p50_us":…,"p95_us":…,"rss_bytes":…}
//!           or, with exit code 2: {"error":"…","code":"…"}
//! ```

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use muster_protocol::manifest::InferencePrecision;
use muster_protocol::message::{Provider, Sentence};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Beat, Engine, EngineError, InferError, LoadSpec, ProviderChoice};
use crate::oip;
use crate::stopwatch::{micros, millis, processor_time};

/// One request, as `muster bundle build` asks.
pub const EXAMPLES: &str = "\
Each line of standard input is one request of the Open Inference Protocol; each answer is one line. The last line of standard
error says what it measured.

Example:
  muster-agent eval --model model.onnx --memory-mb 4096 --cpu-s 60 < requests.jsonl";

/// Longest request line.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Exit code of a model or request that is refused.
pub(crate) const REFUSED: u8 = 2;

#[derive(Clone, Debug, clap::Args)]
pub struct EvalArgs {
    /// The ONNX file; it may name files beside it and no others.
    #[arg(long)]
    pub model: PathBuf,
    /// Folder of the inference runtime.
    #[arg(long = "runtime", env = "MUSTER_RUNTIME", default_value = ".muster/runtime")]
    pub runtime_dir: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    pub provider: ProviderChoice,
    /// f32, f16 or bf16; default is what the device takes by itself.
    #[arg(long, default_value = "f32", value_parser = precision)]
    pub precision: InferencePrecision,
    /// Address space that this process allows itself, in MiB.
    #[arg(long)]
    pub memory_mb: Option<u64>,
    /// CPU time that this process allows itself, in seconds.
    #[arg(long)]
    pub cpu_s: Option<u64>,
    /// What this process gets of a processor that others want as well.
    #[arg(long, value_enum, default_value_t)]
    pub priority: Priority,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Priority {
    #[default]
    Normal,
    /// About a tenth.
    Low,
    /// Nothing.
    Idle,
}

/// The last line on standard error. Times are of the processor, not of the wall: the model is judged, not what else the box
/// does meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalSummary {
    pub provider: Provider,
    pub reason: Option<Sentence>,
    pub load_ms: u64,
    pub p50_us: u64,
    pub p95_us: u64,
    /// Peak resident memory of the whole process.
    pub rss_bytes: u64,
}

/// The last line on standard error when the model or a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvalRefusal {
    pub error: String,
    pub code: String,
}

#[derive(Debug, thiserror::Error)]
enum EvalError {
    #[error("the limit on {what} cannot be set: {source}")]
    Limit { what: &'static str, source: rustix::io::Errno },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("line {line} of the input: {source}")]
    Request { line: u64, source: oip::Malformed },
    #[error("line {line} of the input is longer than {LINE_BYTES_MAX} bytes")]
    LongLine { line: u64 },
    #[error("line {line} of the input: {source}")]
    Infer { line: u64, source: InferError },
    #[error("standard input or output failed: {0}")]
    Io(#[from] io::Error),
}

impl EvalError {
    fn code(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "limit_unusable",
            Self::Engine(error) => error.code(),
            Self::Request { .. } | Self::LongLine { .. } => "request_refused",
            Self::Infer { .. } => "inference_failed",
            Self::Io(_) => "io",
        }
    }
}

/// The code of a refusal as one of our own words: what a child prints is never passed on.
pub(crate) fn known_code(code: &str) -> &'static str {
    const CODES: [&str; 10] = [
        "runtime_missing",
        "runtime_unusable",
        "openvino_unusable",
        "model_unreadable",
        "model_unsupported",
        "load_aborted",
        "limit_unusable",
        "request_refused",
        "inference_failed",
        "io",
    ];
    CODES.into_iter().find(|known| *known == code).unwrap_or("model_refused")
}

/// Runs the subcommand from limits to exit code; call it before any other thread is started.
pub fn run(args: &EvalArgs) -> u8 {
    let answer = || answer(args, io::stdin().lock(), io::stdout().lock());
    let outcome = limit(args).and_then(|beat| match beat {
        Some(beat) => beat.during(answer),
        None => answer(),
    });
    let (line, code) = match outcome {
        Ok(summary) => (serde_json::to_string(&summary), 0),
        Err(error) => {
            let refusal = EvalRefusal { error: error.to_string(), code: error.code().to_owned() };
            (serde_json::to_string(&refusal), REFUSED)
        }
    };
    // Without a reader on standard error nobody would learn more from another message.
    drop(writeln!(io::stderr(), "{}", line.unwrap_or_default()));
    code
}

fn limit(args: &EvalArgs) -> Result<Option<Beat>, EvalError> {
    let set = |what, resource, limit: u64| {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|source| EvalError::Limit { what, source })
    };
    if let Some(memory_mb) = args.memory_mb {
        set("memory", Resource::As, memory_mb.saturating_mul(1024 * 1024))?;
    }
    if let Some(cpu_s) = args.cpu_s {
        set("CPU time", Resource::Cpu, cpu_s)?;
    }
    set("core dumps", Resource::Core, 0)?;
    Ok(match args.priority {
        Priority::Normal => None,
        Priority::Low => {
            engine::take_little();
            None
        }
        Priority::Idle => Some(engine::give_way()),
    })
}

fn answer(
    args: &EvalArgs,
    mut requests: impl BufRead,
    mut responses: impl Write,
) -> Result<EvalSummary, EvalError> {
    let engine = Engine::open(&args.runtime_dir)?;
    let spec = LoadSpec { want: args.provider, sessions: 1, ..LoadSpec::new(&args.model, args.precision) };
    let before = processor_time(ClockId::ProcessCPUTime);
    let model = engine.load(&spec)?;
    let load = processor_time(ClockId::ProcessCPUTime).saturating_sub(before);
    let name = args.model.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut took_us = Vec::new();
    let mut body = Vec::new();
    for line in 1_u64.. {
        body.clear();
        let read = requests.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut body)?;
        if read == 0 {
            break;
        }
        if body.len() as u64 > LINE_BYTES_MAX {
            return Err(EvalError::LongLine { line });
        }
        if body.trim_ascii().is_empty() {
            continue;
        }
        let request = oip::parse(oip::Body::of(&body, None), model.signature())
            .map_err(|source| EvalError::Request { line, source })?;
        let before = processor_time(ClockId::ProcessCPUTime);
        let outputs =
            model.infer_blocking(request.inputs).map_err(|source| EvalError::Infer { line, source })?;
        took_us.push(micros(processor_time(ClockId::ProcessCPUTime).saturating_sub(before)));
        let response = oip::write(&name, "", request.id.as_deref(), outputs, &request.outputs);
        responses.write_all(&response.json)?;
        responses.write_all(b"\n")?;
    }
    responses.flush()?;
    took_us.sort_unstable();
    let provider = model.provider().clone();
    Ok(EvalSummary {
        provider: provider.provider,
        reason: provider.reason,
        load_ms: millis(load),
        p50_us: percentile(&took_us, 50),
        p95_us: percentile(&took_us, 95),
        rss_bytes: peak_rss_bytes(),
    })
}

/// The nearest rank; zero of nothing.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<u64> = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
    kib.unwrap_or(0) * 1024
}

fn precision(text: &str) -> Result<InferencePrecision, String> {
    match text {
        "f32" => Ok(InferencePrecision::F32),
        "f16" => Ok(InferencePrecision::F16),
        "bf16" => Ok(InferencePrecision::Bf16),
        "default" => Ok(InferencePrecision::Default),
        other => Err(format!("'{other}' is not a precision; use f32, f16, bf16 or default")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let check =
            |sorted: &[u64], percent, expect| assert_eq!(percentile(sorted, percent), expect, "{sorted:?}");
        check(&[], 50, 0);
        check(&[7], 95, 7);
        check(&[1, 2, 3, 4], 50, 2);
        let hundred: Vec<u64> = (1..=100).collect();
        check(&hundred, 95, 95);
        assert!(peak_rss_bytes() > 1024 * 1024);
    }

    #[test]
    fn precisions() {
        assert_eq!(precision("bf16"), Ok(InferencePrecision::Bf16));
        assert!(precision("int8").is_err());
    }
}

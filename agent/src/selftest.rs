//! Proves a model on this very box before it may answer anybody: `muster-agent eval` as a limited child, its answers
//! compared with the bundle's golden ones.
//!
//! The child limits its own memory and CPU time and runs at low priority; here stands the wall deadline. A child that
//! hangs, dies, or prints anything but answers is a failed test with a code, never a hung or dead agent. Nothing is
//! retried here, and nothing is loaded into this process.

mod compare;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::limits::{GOLDEN_ANSWERS_BYTES_MAX, GOLDEN_RUNS, SELF_TEST_CPU_S_MAX};
use muster_protocol::manifest::{Numerics, Variant, VariantLimits};
use muster_protocol::message::{Capabilities, ProviderUse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::engine::ProviderChoice;
use crate::eval::{self, EvalRefusal, EvalSummary, REFUSED};
use crate::quiet;
use crate::stopwatch::Stopwatch;

pub use compare::Mismatch;

/// How long a test waits for an idle moment of the box.
const IDLE_MAX: Duration = Duration::from_secs(45);

#[derive(Clone, Debug)]
pub struct SelfTestSpec {
    pub model: PathBuf,
    /// What the bundle says of it: how to compute, what to allow.
    pub variant: Variant,
    pub has: Arc<Capabilities>,
    pub provider: ProviderChoice,
    pub runtime_dir: PathBuf,
    pub golden: Option<GoldenPair>,
    /// Wall time for everything, once it waits no longer for idle moments.
    pub deadline: Duration,
    /// Address space of the child. OpenVINO reserves far more than it touches, so this is a fence, not a measure.
    pub memory_mb: u64,
    pub cpu_s: u64,
}

impl SelfTestSpec {
    pub fn new(model: PathBuf, variant: Variant, has: Arc<Capabilities>, runtime_dir: PathBuf) -> Self {
        Self {
            model,
            variant,
            has,
            provider: ProviderChoice::Auto,
            runtime_dir,
            golden: None,
            deadline: Duration::from_mins(5),
            memory_mb: 4096,
            cpu_s: SELF_TEST_CPU_S_MAX,
        }
    }
}

/// The bundle's golden files, as bytes.
#[derive(Clone, Debug)]
pub struct GoldenPair {
    pub request: Vec<u8>,
    pub response: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SelfTestReport {
    pub provider: ProviderUse,
    pub numerics: Numerics,
    pub load_ms: u64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub rss_bytes: u64,
    pub elapsed_ms: u64,
    /// Largest difference from the golden response, which is within its tolerance.
    pub worst_difference: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    #[error("the self-test could not be started from {}", exe.display())]
    Start {
        exe: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the self-test did not end within {} ms and was stopped: the model hangs or is too slow for this box", .0.as_millis())]
    TimedOut(Duration),
    #[error(
        "the self-test was ended by signal {signal}: the model crashed, or took more than {cpu_s} s of CPU time or {memory_mb} MiB"
    )]
    Killed { signal: i32, cpu_s: u64, memory_mb: u64 },
    #[error("{error}")]
    Refused { code: &'static str, error: String },
    #[error("the self-test answered with something else than answers: {0}")]
    Garbled(String),
    #[error("the bundle's golden request is not a request of the Open Inference Protocol on one line: {0}")]
    GoldenRequest(serde_json::Error),
    #[error("the bundle's golden response cannot be read: {0}")]
    GoldenResponse(crate::oip::ReadError),
    #[error("the answer is not the golden one, within what {} allows: {mismatch}", numerics.as_str())]
    Mismatch { numerics: Numerics, mismatch: Mismatch },
    #[error("loading took {measured_ms} ms of the processor; the bundle allows {limit_ms} ms")]
    SlowLoad { measured_ms: u64, limit_ms: u64 },
    #[error(
        "the slowest twentieth of the answers took {measured_ms:.3} ms of the processor and more; the bundle allows {limit_ms} ms"
    )]
    SlowAnswers { measured_ms: f64, limit_ms: f64 },
    #[error("the self-test used {measured} bytes of memory; the bundle allows {limit}")]
    Memory { measured: u64, limit: u64 },
}

impl SelfTestError {
    /// Whether another form of the model may do better; otherwise the box had a bad moment.
    pub fn is_the_models(&self) -> bool {
        !matches!(self, Self::Start { .. })
    }

    /// Stable word for events and states.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start_failed",
            Self::TimedOut(_) => "timed_out",
            Self::Killed { .. } => "killed",
            Self::Refused { code, .. } => code,
            Self::Garbled(_) => "garbled",
            Self::GoldenRequest(_) | Self::GoldenResponse(_) => "golden_unreadable",
            Self::Mismatch { mismatch: Mismatch::Element { .. }, .. } => "golden_mismatch",
            Self::Mismatch { .. } => "golden_shape",
            Self::SlowLoad { .. } => "limit_load",
            Self::SlowAnswers { .. } => "limit_latency",
            Self::Memory { .. } => "limit_memory",
        }
    }
}

/// Runs the test with the agent's own binary `exe`. Dropping the future ends the child.
///
/// First in the box's idle moments, so that nobody notices. What does not end there may be a model that hangs, or a box that
/// is never idle: the second time it gets its share.
pub async fn run(exe: &Path, spec: &SelfTestSpec) -> Result<SelfTestReport, SelfTestError> {
    match once(exe, spec, "idle", IDLE_MAX.min(spec.deadline)).await {
        Err(SelfTestError::TimedOut(_)) => once(exe, spec, "low", spec.deadline).await,
        ended => ended,
    }
}

async fn once(
    exe: &Path,
    spec: &SelfTestSpec,
    priority: &str,
    deadline: Duration,
) -> Result<SelfTestReport, SelfTestError> {
    let watch = Stopwatch::start();
    let input = input(spec)?;
    let start_failed = |source| SelfTestError::Start { exe: exe.to_owned(), source };
    let mut command = command(exe, spec).map_err(start_failed)?;
    let mut child = command.args(["--priority", priority]).spawn().map_err(start_failed)?;
    let ended = tokio::time::timeout(deadline, converse(&mut child, &input)).await;
    let Ok(ended) = ended else {
        // Killed and reaped here, so that no child outlives its test.
        drop(child.kill().await);
        return Err(SelfTestError::TimedOut(deadline));
    };
    let (status, stdout, stderr) = ended.map_err(|error| SelfTestError::Garbled(error.to_string()))?;
    let summary = summary(spec, status, &stderr)?;
    let numerics = Numerics::of(&spec.variant, summary.provider, &spec.has);
    let worst_difference = match &spec.golden {
        Some(golden) => compare_all(golden, &stdout, input.runs, &spec.variant, numerics)?,
        None => 0.0,
    };
    check_limits(&spec.variant.limits, &summary)?;
    Ok(SelfTestReport {
        provider: ProviderUse { provider: summary.provider, reason: summary.reason },
        numerics,
        load_ms: summary.load_ms,
        p50_us: summary.p50_us,
        p95_us: summary.p95_us,
        rss_bytes: summary.rss_bytes,
        elapsed_ms: watch.millis(),
        worst_difference,
    })
}

struct Input {
    bytes: Vec<u8>,
    runs: usize,
}

/// The golden request on one line, as often as needed.
fn input(spec: &SelfTestSpec) -> Result<Input, SelfTestError> {
    let Some(golden) = &spec.golden else { return Ok(Input { bytes: Vec::new(), runs: 0 }) };
    // Through a parser: the file may be laid out over many lines.
    let request: serde_json::Value =
        serde_json::from_slice(&golden.request).map_err(SelfTestError::GoldenRequest)?;
    let line = format!("{request}\n");
    let runs = if spec.variant.limits.p95_ms_max > 0.0 { GOLDEN_RUNS } else { 1 };
    Ok(Input { bytes: line.repeat(runs).into_bytes(), runs })
}

fn command(exe: &Path, spec: &SelfTestSpec) -> std::io::Result<Command> {
    let provider = match spec.provider {
        ProviderChoice::Auto => "auto",
        ProviderChoice::OpenVino => "openvino",
        ProviderChoice::OnnxCpu => "onnx-cpu",
    };
    let mut command = Command::new(std::path::absolute(exe)?);
    command
        .arg("eval")
        .arg("--model")
        .arg(std::path::absolute(&spec.model)?)
        .arg("--runtime")
        .arg(std::path::absolute(&spec.runtime_dir)?)
        .args(["--provider", provider, "--precision", spec.variant.inference_precision.as_str()])
        .args(["--memory-mb", &spec.memory_mb.to_string(), "--cpu-s", &spec.cpu_s.to_string()])
        // OpenVINO looks for plugins in the working directory too; nobody can plant one in the root folder.
        .current_dir("/")
        .env_clear()
        .env(quiet::NO_REPORTS.0, quiet::NO_REPORTS.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// Writes, reads both streams and waits, all at once: a child may block on any of them.
async fn converse(child: &mut Child, input: &Input) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async move {
        if let Some(mut stdin) = stdin {
            // A child that refuses its model ends without reading; its own words are on standard error.
            drop(stdin.write_all(&input.bytes).await);
        }
    };
    let (status, stdout, stderr, ()) = tokio::join!(child.wait(), read(stdout), read(stderr), write);
    Ok((status?, stdout?, stderr?))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(GOLDEN_ANSWERS_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > GOLDEN_ANSWERS_BYTES_MAX {
        return Err(std::io::Error::other(format!("it printed more than {GOLDEN_ANSWERS_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn summary(spec: &SelfTestSpec, status: ExitStatus, stderr: &[u8]) -> Result<EvalSummary, SelfTestError> {
    use std::os::unix::process::ExitStatusExt;

    if let Some(signal) = status.signal() {
        return Err(SelfTestError::Killed { signal, cpu_s: spec.cpu_s, memory_mb: spec.memory_mb });
    }
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let garbled = || {
        let shown: String = last.chars().filter(|c| !c.is_control()).take(200).collect();
        SelfTestError::Garbled(format!("exit code {:?}, last words '{shown}'", status.code()))
    };
    if status.success() {
        return serde_json::from_str(last).map_err(|_| garbled());
    }
    match serde_json::from_str::<EvalRefusal>(last) {
        Ok(EvalRefusal { error, code }) if status.code() == Some(i32::from(REFUSED)) => {
            Err(SelfTestError::Refused { code: eval::known_code(&code), error })
        }
        Ok(_) | Err(_) => Err(garbled()),
    }
}

fn compare_all(
    golden: &GoldenPair,
    stdout: &[u8],
    runs: usize,
    variant: &Variant,
    numerics: Numerics,
) -> Result<f64, SelfTestError> {
    let tolerance = variant.golden.as_ref().map_or(0.0, |golden| golden.tolerance(numerics));
    let expected = crate::oip::read(&golden.response).map_err(SelfTestError::GoldenResponse)?;
    let answers: Vec<&[u8]> = stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    if answers.len() != runs {
        return Err(SelfTestError::Garbled(format!("{} answers to {runs} requests", answers.len())));
    }
    let mut worst: f64 = 0.0;
    for answer in answers {
        let found = crate::oip::read(answer).map_err(|error| SelfTestError::Garbled(error.to_string()))?;
        let difference = compare::compare(&expected, &found, tolerance)
            .map_err(|mismatch| SelfTestError::Mismatch { numerics, mismatch })?;
        worst = worst.max(difference);
    }
    Ok(worst)
}

fn check_limits(limits: &VariantLimits, summary: &EvalSummary) -> Result<(), SelfTestError> {
    let VariantLimits { load_ms_max, memory_bytes_max, p95_ms_max } = *limits;
    if load_ms_max > 0 && summary.load_ms > load_ms_max {
        return Err(SelfTestError::SlowLoad { measured_ms: summary.load_ms, limit_ms: load_ms_max });
    }
    let p95_ms = Duration::from_micros(summary.p95_us).as_secs_f64() * 1e3;
    if p95_ms_max > 0.0 && p95_ms > p95_ms_max {
        return Err(SelfTestError::SlowAnswers { measured_ms: p95_ms, limit_ms: p95_ms_max });
    }
    if memory_bytes_max > 0 && summary.rss_bytes > memory_bytes_max {
        return Err(SelfTestError::Memory { measured: summary.rss_bytes, limit: memory_bytes_max });
    }
    Ok(())
}

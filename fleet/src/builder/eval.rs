//! Asks a model for its answers by way of `muster-agent eval`: the same code that will answer on the boxes, in a child
//! with limits, because the model file was written by somebody else's program.
//!
//! ```text
//!   batches of rows ──stdin──▶ muster-agent eval --model FILE ──stdout──▶ one answer a line
//!                                                             └─stderr──▶ last line: provider and times, or the error
//! ```
//!
//! Requests are written and answers read at the same time: neither side can block the other.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::limits::{GOLDEN_ANSWERS_BYTES_MAX, SELF_TEST_CPU_S_MAX};
use muster_protocol::manifest::{InferencePrecision, Signature};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::child::{self, ChildError, Group, Limits, Spec};
use super::infer::{AnswerError, InferRequest, InferResponse, tables};
use super::rows::Rows;

/// Rows of one request.
const BATCH_ROWS: usize = 512;
/// Longest answer to one request, bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What is kept of the child's last words, bytes.
const STDERR_BYTES_MAX: u64 = 64 * 1024;

/// Exit code of `muster-agent eval` when it says why on stderr.
const REFUSED: i32 = 2;
/// Refusals that are the model's fault; all others are this machine's.
const MODEL_CODES: [&str; 4] = ["model_refused", "model_unreadable", "model_unsupported", "load_aborted"];

/// How to start `muster-agent eval`.
#[derive(Clone, Debug)]
pub struct Evaluator {
    pub agent: PathBuf,
    /// The folder with the inference runtime.
    pub runtime: PathBuf,
    /// `auto`, `openvino` or `onnx-cpu`.
    pub provider: String,
    pub memory_mb: u64,
    pub wall: Duration,
    pub env: Vec<(OsString, OsString)>,
}

/// What the child said of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvalReport {
    pub provider: String,
    pub reason: Option<String>,
    pub load_ms: f64,
    pub p95_us: f64,
    /// Peak resident memory of the whole child.
    pub rss_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error("muster-agent is not at {path}; build it with `cargo build -p muster-agent` or set the path")]
    NoAgent { path: String },
    #[error("the inference runtime is not at {path}; get it with `make runtime`")]
    NoRuntime { path: String },
    #[error("muster-agent eval did not run")]
    Child(#[source] ChildError),
    #[error("the pipe to muster-agent eval broke")]
    Pipe(#[source] std::io::Error),
    #[error("the model cannot be run: {said}")]
    Model { said: String },
    #[error("the model failed at an answer: {said}")]
    Inference { said: String },
    #[error("muster-agent eval ended early ({status}): {said}")]
    Ended { status: String, said: String },
    #[error("the model did not finish within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("stopped while the model was asked")]
    Cancelled,
    #[error(
        "the answers to the golden request are longer than the {GOLDEN_ANSWERS_BYTES_MAX} bytes in all that a box reads in its self-test ({times} of them); give fewer rows to take it from"
    )]
    Large { times: usize },
    #[error(
        "muster-agent eval was ended by {status}: the model crashed, or took more than the {cpu_s} s of the processor that it has"
    )]
    Killed { status: String, cpu_s: u64 },
    #[error("an answer is longer than {ANSWER_BYTES_MAX} bytes or not JSON: {0}")]
    Garbage(String),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl EvalError {
    /// Stable, for programs: is it the model, or is it us?
    pub fn code(&self) -> &'static str {
        match self {
            Self::Model { .. } | Self::Large { .. } => "model_invalid",
            Self::Answer(_) | Self::Inference { .. } => "model_answers",
            Self::TimedOut(_) => "model_timeout",
            Self::Cancelled => "cancelled",
            Self::NoAgent { .. }
            | Self::NoRuntime { .. }
            | Self::Child(_)
            | Self::Pipe(_)
            | Self::Ended { .. }
            | Self::Killed { .. }
            | Self::Garbage(_) => "eval_failed",
        }
    }
}

impl Evaluator {
    /// The model's answers to each set of rows: one table per output of the signature.
    pub async fn answers(
        &self,
        model: &Path,
        signature: &Signature,
        sets: &[&Rows],
        cancel: &CancellationToken,
    ) -> Result<(Vec<Vec<Rows>>, EvalReport), EvalError> {
        let cpu_s = self.wall.as_secs().max(1);
        let mut child = self.start(model, InferencePrecision::F32, cpu_s)?;
        let write = write_requests(child.stdin.take(), signature, sets);
        let read = read_answers(child.stdout.take(), signature, sets);
        self.converse(child, cpu_s, write, read, cancel).await
    }

    /// The model's answer to one request line, which is asked `times` times, within what a box grants a self-test.
    pub async fn ask(
        &self,
        model: &Path,
        precision: InferencePrecision,
        line: &str,
        times: usize,
        cancel: &CancellationToken,
    ) -> Result<(serde_json::Value, EvalReport), EvalError> {
        let mut child = self.start(model, precision, SELF_TEST_CPU_S_MAX)?;
        let write = write_line(child.stdin.take(), line, times);
        let read = read_first(child.stdout.take(), times);
        self.converse(child, SELF_TEST_CPU_S_MAX, write, read, cancel).await
    }

    fn start(&self, model: &Path, precision: InferencePrecision, cpu_s: u64) -> Result<Child, EvalError> {
        self.command(model, precision, cpu_s)?.spawn().map_err(|source| {
            EvalError::Child(ChildError::Start { program: self.agent.display().to_string(), source })
        })
    }

    async fn converse<T>(
        &self,
        mut child: Child,
        cpu_s: u64,
        write: impl Future<Output = Result<(), EvalError>> + Send,
        read: impl Future<Output = Result<T, EvalError>> + Send,
        cancel: &CancellationToken,
    ) -> Result<(T, EvalReport), EvalError> {
        // Ends with everything in it when this function is left, whichever way.
        let group = Group::of(&child);
        let stderr = child.stderr.take();
        let talk = async {
            let (wrote, answers, said) = tokio::join!(write, read, read_tail(stderr));
            (wrote, answers, said, child.wait().await)
        };
        let (wrote, answers, said, status) = tokio::select! {
            talked = talk => talked,
            () = tokio::time::sleep(self.wall) => return Err(EvalError::TimedOut(self.wall)),
            () = cancel.cancelled() => return Err(EvalError::Cancelled),
        };
        drop(group);
        let status = status.map_err(EvalError::Pipe)?;
        if status.code() == Some(REFUSED) {
            // A pipe that broke because we stopped reading says nothing; why we stopped does.
            return Err(match (refusal(&said), answers) {
                (EvalError::Ended { .. }, Err(ours)) if !matches!(ours, EvalError::Ended { .. }) => ours,
                (theirs, _) => theirs,
            });
        }
        if status.signal().is_some() && !matches!(answers, Err(EvalError::Large { .. })) {
            return Err(EvalError::Killed { status: status.to_string(), cpu_s });
        }
        let answers = match answers {
            // The child's own words say more than the pipe's.
            Err(EvalError::Ended { .. }) | Ok(_) if !status.success() => {
                return Err(EvalError::Ended { status: status.to_string(), said: last_words(&said) });
            }
            other => other?,
        };
        wrote?;
        let report = said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        Ok((answers, report))
    }

    fn command(&self, model: &Path, precision: InferencePrecision, cpu_s: u64) -> Result<Command, EvalError> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let shown = |path: &Path| absolute(path).display().to_string();
        if !self.agent.is_file() {
            return Err(EvalError::NoAgent { path: shown(&self.agent) });
        }
        if !self.runtime.is_dir() {
            return Err(EvalError::NoRuntime { path: shown(&self.runtime) });
        }
        let mut command = vec![shown(&self.agent), "eval".to_owned(), "--model".to_owned(), shown(model)];
        command.extend([
            "--runtime".to_owned(),
            shown(&self.runtime),
            "--provider".to_owned(),
            self.provider.clone(),
        ]);
        command.extend(["--precision".to_owned(), precision.as_str().to_owned(), "--memory-mb".to_owned()]);
        command.extend([self.memory_mb.to_string(), "--cpu-s".to_owned(), cpu_s.to_string()]);
        let spec = Spec {
            command,
            // OpenVINO looks for plugins in the current folder: one that nobody drops files into.
            cwd: PathBuf::from("/"),
            env: self.env.clone(),
            // The agent limits its own memory, after it has loaded what it needs to say why it fails.
            limits: Limits { wall: self.wall, memory_bytes: None, nice: 10 },
        };
        let mut command = child::command(&spec).map_err(EvalError::Child)?;
        command.stdin(std::process::Stdio::piped());
        Ok(command)
    }
}

async fn write_requests(
    stdin: Option<ChildStdin>,
    signature: &Signature,
    sets: &[&Rows],
) -> Result<(), EvalError> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    let batches = sets.iter().flat_map(|rows| rows.batches(BATCH_ROWS));
    for (id, batch) in batches.enumerate() {
        let request = InferRequest::of(id, &signature.inputs, batch);
        let mut line = serde_json::to_vec(&request).map_err(|error| EvalError::Garbage(error.to_string()))?;
        line.push(b'\n');
        if stdin.write_all(&line).await.is_err() {
            // It ended early; what it said on stderr says why.
            return Ok(());
        }
    }
    stdin.shutdown().await.ok();
    Ok(())
}

async fn write_line(stdin: Option<ChildStdin>, line: &str, times: usize) -> Result<(), EvalError> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    for _ in 0..times {
        let wrote = async {
            stdin.write_all(line.as_bytes()).await?;
            stdin.write_all(b"\n").await
        };
        if wrote.await.is_err() {
            // It ended early; what it said on stderr says why.
            return Ok(());
        }
    }
    stdin.shutdown().await.ok();
    Ok(())
}

/// The first of the answers; all must come.
async fn read_first(stdout: Option<ChildStdout>, times: usize) -> Result<serde_json::Value, EvalError> {
    let early = || EvalError::Ended { status: "no answer".to_owned(), said: String::new() };
    let mut lines = BufReader::new(stdout.ok_or_else(early)?);
    let mut first = None;
    let mut left = GOLDEN_ANSWERS_BYTES_MAX;
    for _ in 0..times {
        let mut line = Vec::new();
        let read = (&mut lines).take(left).read_until(b'\n', &mut line).await.map_err(EvalError::Pipe)?;
        left -= read as u64;
        match line.last() {
            Some(b'\n') => first.get_or_insert(line),
            _ if left == 0 => return Err(EvalError::Large { times }),
            _ => return Err(early()),
        };
    }
    let line = first.ok_or_else(early)?;
    serde_json::from_slice(&line).map_err(|error| EvalError::Garbage(error.to_string()))
}

async fn read_answers(
    stdout: Option<ChildStdout>,
    signature: &Signature,
    sets: &[&Rows],
) -> Result<Vec<Vec<Rows>>, EvalError> {
    let early = || EvalError::Ended { status: "no answer".to_owned(), said: String::new() };
    let mut lines = BufReader::new(stdout.ok_or_else(early)?);
    let mut line = Vec::new();
    let mut all = Vec::with_capacity(sets.len());
    for rows in sets {
        let mut into = tables(signature);
        for batch in rows.batches(BATCH_ROWS) {
            line.clear();
            let read = (&mut lines).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line).await;
            if read.map_err(EvalError::Pipe)? == 0 {
                return Err(early());
            }
            let response: InferResponse =
                serde_json::from_slice(&line).map_err(|error| EvalError::Garbage(error.to_string()))?;
            response.collect(&signature.outputs, batch.len() / rows.width().max(1), &mut into)?;
        }
        all.push(into);
    }
    Ok(all)
}

/// Reads everything and keeps the end.
async fn read_tail(pipe: Option<impl AsyncRead + Unpin + Send>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut tail = Vec::new();
    let mut buffer = vec![0_u8; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        let extra = tail.len().saturating_sub(usize::try_from(STDERR_BYTES_MAX).unwrap_or(usize::MAX));
        tail.drain(..extra);
    }
    String::from_utf8_lossy(&tail).into_owned()
}

fn refusal(said: &str) -> EvalError {
    let code =
        said_json(said).and_then(|value| Some(value.get("code")?.as_str()?.to_owned())).unwrap_or_default();
    let said = last_words(said);
    match code.as_str() {
        "inference_failed" => EvalError::Inference { said },
        code if MODEL_CODES.contains(&code) => EvalError::Model { said },
        _ => EvalError::Ended { status: "it refused".to_owned(), said },
    }
}

/// The child's `{"error": …}`, or else its last line.
fn last_words(said: &str) -> String {
    let error = said_json(said).and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
    super::feed::clean(error.as_deref().or_else(|| last_line(said)).unwrap_or("it said nothing"), 400)
}

fn said_json(said: &str) -> Option<serde_json::Value> {
    serde_json::from_str(last_line(said)?).ok()
}

fn last_line(said: &str) -> Option<&str> {
    said.lines().rfind(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use muster_protocol::manifest::{Datatype, Tensor};

    use super::*;

    /// A program in place of the agent, to see what becomes of an agent that misbehaves.
    async fn ask(script: &str, wall: Duration) -> Result<(Vec<Vec<Rows>>, EvalReport), EvalError> {
        let tensor = |name: &str| Tensor {
            name: name.to_owned(),
            datatype: Datatype::Fp32,
            shape: vec![-1, 1],
            features: Vec::new(),
        };
        let signature = Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")] };
        let mut rows = Rows::new(1);
        rows.extend([1.0, 2.0]);
        let (evaluator, _folder) = evaluator(script, wall);
        evaluator.answers(Path::new("/tmp/m.onnx"), &signature, &[&rows], &CancellationToken::new()).await
    }

    fn evaluator(script: &str, wall: Duration) -> (Evaluator, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        std::fs::write(&agent, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let evaluator = Evaluator {
            agent,
            runtime: folder.path().to_owned(),
            provider: "auto".to_owned(),
            memory_mb: 512,
            wall,
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        };
        (evaluator, folder)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn answers_and_the_report_are_read() {
        let script = r#"cat >/dev/null; echo '{"outputs":[{"name":"y","shape":[2,1],"data":[0.5,0.25]}]}'
            echo '{"provider":"openvino","reason":null,"load_ms":12}' >&2"#;
        let (answers, report) = ask(script, LONG).await.unwrap();
        assert_eq!(answers[0][0].column(0).collect::<Vec<_>>(), [0.5, 0.25]);
        assert_eq!(report.provider, "openvino");
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_code() {
        for (script, code, says) in [
            (
                r#"echo '{"error":"not an ONNX file","code":"model_unreadable"}' >&2; exit 2"#,
                "model_invalid",
                "not an ONNX file",
            ),
            (
                r#"echo '{"error":"no runtime","code":"runtime_missing"}' >&2; exit 2"#,
                "eval_failed",
                "it refused): no runtime",
            ),
            ("echo oops >&2; exit 1", "eval_failed", "oops"),
            ("cat >/dev/null; echo nonsense", "eval_failed", "not JSON"),
            ("cat >/dev/null", "eval_failed", "ended early"),
            ("cat >/dev/null; kill -9 $$", "eval_failed", "signal: 9"),
            (
                r#"cat >/dev/null; echo '{"outputs":[{"name":"y","shape":[2,1],"data":[1,null]}]}'"#,
                "model_answers",
                "row 1",
            ),
        ] {
            let error = ask(script, LONG).await.unwrap_err();
            assert_eq!(error.code(), code, "{script}");
            assert!(error.to_string().contains(says), "{script}: {error}");
        }
        let error = ask("exec sleep 300", Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(error.code(), "model_timeout");
    }

    #[tokio::test]
    async fn what_no_box_would_take_is_refused_where_it_is_built() {
        let ask = async |script: &str| {
            let (evaluator, _folder) = evaluator(script, LONG);
            let (model, cancel) = (Path::new("/tmp/m.onnx"), CancellationToken::new());
            evaluator.ask(model, InferencePrecision::F32, "{}", 20, &cancel).await
        };
        // Each answer is 4 MB, which is little for one.
        let large = "cat >/dev/null; head -c 4000000 /dev/zero | tr '\\0' ' ' > $0.line; echo '{}' >> $0.line
            for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat $0.line; done";
        let error = ask(large).await.unwrap_err();
        assert!(matches!(error, EvalError::Large { times: 20 }), "{error}");
        assert_eq!(error.code(), "model_invalid");
        // It is told the limit of the box's own self-test, and ends as the kernel would have it end.
        let slow = "while [ $1 != --cpu-s ]; do shift; done; [ $2 = 60 ] && kill -9 $$";
        assert!(matches!(ask(slow).await.unwrap_err(), EvalError::Killed { cpu_s: 60, .. }));
    }
}

//! Runs the trainer's command: a child with limits, told what to do by three variables, heard by its lines.
//!
//! ```text
//!   MUSTER_REQUEST  the run's request, a file        stdout  "progress 0.40 fitting", anything else is log
//!   MUSTER_DATA     where its data is                stderr  log; the last lines explain a failure
//!   MUSTER_OUT      an empty folder to fill          exit 0  it is filled
//! ```

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{SHARE, Training};
use crate::builder::child::{self, Ended, Limits, Spec, Stream};
use crate::builder::config::{Model, inherited};
use crate::builder::feed::parse_progress;
use crate::builder::job::Failure;
use crate::builder::workdir::RunDir;

/// Lines of stderr that explain a failure.
const LAST_LINES: usize = 5;
/// Longest log that is kept on disk, bytes.
const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
const NICE: u8 = 10;

pub(super) async fn train(training: &Training<'_>) -> Result<(), Failure> {
    let Training { model, dir, feed, stop, .. } = training;
    let failed = |error: std::io::Error| Failure::because("workdir_failed", &error);
    let log = Log::create(dir).map_err(failed)?;
    let spec = spec(model, dir);
    let heard = |stream: Stream, line: &str| {
        log.line(stream, line);
        match (stream, parse_progress(line)) {
            (Stream::Out, Some((fraction, message))) => feed.progress(fraction * SHARE, message),
            (Stream::Out | Stream::Err, _) => feed.line(line),
        }
    };
    let ended =
        child::run(&spec, stop, heard).await.map_err(|error| Failure::because("trainer_start", &error))?;
    verdict(ended, model, &log.last_words())
}

fn spec(model: &Model, dir: &RunDir) -> Spec {
    let mut env = inherited();
    env.extend(model.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    env.retain(|(name, _)| name != "TMPDIR");
    env.extend([
        ("TMPDIR".into(), dir.tmp().into_os_string()),
        ("MUSTER_REQUEST".into(), dir.request().into_os_string()),
        ("MUSTER_OUT".into(), dir.out().into_os_string()),
        ("MUSTER_DATA".into(), model.data.clone().into_os_string()),
    ]);
    Spec {
        command: model.command.clone(),
        cwd: model.cwd.clone(),
        env,
        limits: Limits {
            wall: Duration::from_secs(model.timeout_s),
            memory_bytes: Some(model.memory_mb.saturating_mul(1024 * 1024)),
            nice: NICE,
        },
    }
}

fn verdict(ended: Ended, model: &Model, last_words: &str) -> Result<(), Failure> {
    let said =
        if last_words.is_empty() { "it said nothing".to_owned() } else { format!("it said: {last_words}") };
    let out_of_memory = ["MemoryError", "bad_alloc", "Cannot allocate memory", "memory allocation"];
    let (code, what) = match ended {
        Ended::Exit(0) => return Ok(()),
        Ended::Cancelled => return Err(Failure::new("cancelled", "the trainer was stopped")),
        Ended::TimedOut => {
            ("trainer_timeout", format!("did not finish within {} s and was stopped", model.timeout_s))
        }
        Ended::Exit(126 | 127) => ("trainer_start", format!("'{}' could not be started", model.command[0])),
        Ended::Exit(_) | Ended::Signal(_) if out_of_memory.iter().any(|sign| last_words.contains(sign)) => {
            ("trainer_memory", format!("ran out of the {} MiB it may use", model.memory_mb))
        }
        Ended::Exit(code) => ("trainer_exit", format!("exited with {code}")),
        Ended::Signal(signal) => ("trainer_signal", format!("was ended by signal {signal}")),
    };
    Err(Failure::new(code, format!("the trainer {what}; {said}")))
}

/// The run's log on disk, and the last lines of stderr in memory.
struct Log {
    inner: Mutex<LogInner>,
}

struct LogInner {
    file: std::fs::File,
    left: usize,
    last: VecDeque<String>,
}

impl Log {
    fn create(dir: &RunDir) -> std::io::Result<Self> {
        let file = std::fs::File::create(dir.log())?;
        Ok(Self { inner: Mutex::new(LogInner { file, left: LOG_BYTES_MAX, last: VecDeque::new() }) })
    }

    fn line(&self, stream: Stream, line: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = inner.left.checked_sub(line.len() + 1) {
            inner.left = left;
            // The log is a convenience: a full disk will be told by what the run itself writes.
            writeln!(inner.file, "{line}").ok();
        }
        if stream == Stream::Err && !line.trim().is_empty() {
            if inner.last.len() == LAST_LINES {
                inner.last.pop_front();
            }
            inner.last.push_back(crate::builder::feed::clean(line.trim(), 160));
        }
    }

    fn last_words(&self) -> String {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::ids::RunId;
    use tokio_util::sync::CancellationToken;

    use crate::builder::feed::Feed;
    use crate::builder::workdir::Workdir;
    use crate::client::Client;

    struct Trained {
        result: Result<(), Failure>,
        feed: Feed,
        log: String,
    }

    async fn with(script: &str, timeout_s: u64, memory_mb: u64) -> Trained {
        let folder = tempfile::tempdir().unwrap();
        let dir = Workdir::open(folder.path()).unwrap().run(&RunId::mint([1; 16])).unwrap();
        let model: Model = toml::from_str(&format!(
            "model = 'er'\ncommand = ['sh', '-c', '''{script}''']\ncwd = '/'\ndata = '/data'\ntimeout_s = {timeout_s}\nmemory_mb = {memory_mb}\n"
        ))
        .unwrap();
        let feed = Feed::default();
        let stop = CancellationToken::new();
        let request = serde_json::json!({"schema": "muster-run/1"});
        let client = Client::new("http://127.0.0.1:9").unwrap();
        let training = Training {
            model: &model,
            run: &RunId::mint([1; 16]),
            attempt: 1,
            request: &request,
            builder: "b1",
            client: &client,
            fleet: client.server(),
            dir: &dir,
            feed: &feed,
            stop: &stop,
        };
        let result = super::super::train(&training).await;
        let log = std::fs::read_to_string(dir.log()).unwrap();
        Trained { result, feed, log }
    }

    #[tokio::test]
    async fn a_trainer_is_told_and_heard() {
        let script = r#"echo "progress 0.50 fitting"; echo "$MUSTER_DATA"; grep -c muster-run/1 "$MUSTER_REQUEST"; ls -A "$MUSTER_OUT" | wc -l"#;
        let trained = with(script, 30, 1024).await;
        assert_eq!(trained.result, Ok(()));
        let news = trained.feed.take();
        assert_eq!((news.progress, news.message.as_str()), (0.5 * SHARE, "fitting"));
        assert_eq!(news.lines, ["/data", "1", "0"]);
        assert!(trained.log.contains("progress 0.50 fitting"));
    }

    #[tokio::test]
    async fn each_end_has_its_code_and_its_words() {
        for (script, timeout_s, code, says) in [
            ("echo no data >&2; exit 3", 30, "trainer_exit", "exited with 3; it said: no data"),
            ("sleep 300", 1, "trainer_timeout", "did not finish within 1 s"),
            ("kill -SEGV $$", 30, "trainer_signal", "signal 11"),
            ("exec /no/such/program", 30, "trainer_start", "could not be started"),
            (r#"python3 -c "bytearray(1 << 31)""#, 30, "trainer_memory", "ran out of the 512 MiB"),
        ] {
            let failure = with(script, timeout_s, 512).await.result.unwrap_err();
            assert_eq!(failure.code, code, "{failure:?}");
            assert!(failure.sentence.contains(says), "{failure:?}");
        }
    }
}

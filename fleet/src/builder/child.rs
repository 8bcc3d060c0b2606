//! A child process with limits: its own process group, bounded memory, bounded time, bounded output.
//!
//! ```text
//!   prlimit --as=N  nice -n 10  COMMAND…     one after the other by exec: one process, its id is the group's id
//!     ends by itself · wall limit · cancelled ──▶ SIGTERM to the group ──5 s──▶ SIGKILL to the group
//! ```
//!
//! It must never leave a process of the group behind, and never wait on a pipe that a runaway grandchild holds open.
//! The limits are set by `prlimit` and not between fork and exec, because that needs unsafe code.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a group may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long output may keep coming after the group has ended: only what was in the pipes.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// Longest line kept of a child's output; the rest of such a line is skipped.
const LINE_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub struct Spec {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    pub cwd: PathBuf,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub wall: Duration,
    /// Address space of each process.
    pub memory_bytes: Option<u64>,
    pub nice: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exit(i32),
    Signal(i32),
    TimedOut,
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("no command to start")]
    Empty,
    #[error("'{program}' could not be started; is util-linux (prlimit) installed?")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the child could not be waited for")]
    Wait(#[source] std::io::Error),
}

/// Runs the child to its end, whatever end that is. Each line of its output goes to `line`.
pub async fn run(
    spec: &Spec,
    cancel: &CancellationToken,
    line: impl Fn(Stream, &str) + Send + Sync,
) -> Result<Ended, ChildError> {
    let mut child = command(spec)?
        .stdin(Stdio::null())
        .spawn()
        .map_err(|source| ChildError::Start { program: spec.command.join(" "), source })?;
    let group = Group::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = async {
        tokio::join!(
            read_lines(out, |text| line(Stream::Out, text)),
            read_lines(err, |text| line(Stream::Err, text))
        )
    };
    let wait = async {
        let ended = wait(&mut child, &group, spec.limits.wall, cancel).await;
        group.kill();
        ended
    };
    tokio::pin!(read, wait);
    let mut reading = true;
    let ended = loop {
        tokio::select! {
            ended = &mut wait => break ended?,
            _ = &mut read, if reading => reading = false,
        }
    };
    if reading {
        // A process that left the group may still hold the pipes: nobody waits for it.
        timeout(DRAIN_GRACE, read).await.ok();
    }
    Ok(ended)
}

/// The command with its limits, ready for pipes; kept private so that every child has the same fences.
pub(super) fn command(spec: &Spec) -> Result<Command, ChildError> {
    if spec.command.is_empty() {
        return Err(ChildError::Empty);
    }
    let mut command = Command::new("prlimit");
    // No core dumps: they hold the data that the child read.
    command.arg("--core=0");
    if let Some(bytes) = spec.limits.memory_bytes {
        command.arg(format!("--as={bytes}"));
    }
    command.args(["--", "nice", "-n", &spec.limits.nice.to_string(), "--"]).args(&spec.command);
    command.current_dir(&spec.cwd).env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.process_group(0).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// A process group that is killed when nobody holds it any more.
#[derive(Debug)]
pub(super) struct Group(AtomicI32);

impl Group {
    pub(super) fn of(child: &Child) -> Self {
        Self(AtomicI32::new(child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0)))
    }

    fn terminate(&self) {
        signal(self.0.load(Ordering::Relaxed), Signal::TERM);
    }

    /// Only the first call does anything: later the number may belong to somebody else.
    pub(super) fn kill(&self) {
        signal(self.0.swap(0, Ordering::Relaxed), Signal::KILL);
    }
}

fn signal(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        // Fails only where the group has ended, which is what we want.
        kill_process_group(group, signal).ok();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn wait(
    child: &mut Child,
    group: &Group,
    wall: Duration,
    cancel: &CancellationToken,
) -> Result<Ended, ChildError> {
    let early = tokio::select! {
        status = child.wait() => return Ok(ended(status.map_err(ChildError::Wait)?)),
        () = tokio::time::sleep(wall) => Ended::TimedOut,
        () = cancel.cancelled() => Ended::Cancelled,
    };
    group.terminate();
    let in_time = timeout(TERM_GRACE, child.wait()).await;
    group.kill();
    if in_time.is_err() {
        child.wait().await.map_err(ChildError::Wait)?;
    }
    Ok(early)
}

fn ended(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exit(code),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    }
}

/// Splits output into lines without ever holding more than one bounded line.
async fn read_lines(pipe: Option<impl AsyncRead + Unpin + Send>, line: impl Fn(&str) + Send) {
    let Some(mut pipe) = pipe else { return };
    // On the heap: it would make every future around it as large.
    let mut buffer = vec![0_u8; 8192];
    let mut current: Vec<u8> = Vec::new();
    let mut skipping = false;
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        for &byte in &buffer[..read] {
            if byte == b'\n' {
                if !skipping {
                    line(String::from_utf8_lossy(&current).trim_end_matches('\r'));
                }
                current.clear();
                skipping = false;
            } else if current.len() < LINE_BYTES_MAX {
                current.push(byte);
            } else if !skipping {
                skipping = true;
                line(&format!("{}…", String::from_utf8_lossy(&current)));
            }
        }
    }
    if !current.is_empty() && !skipping {
        line(&String::from_utf8_lossy(&current));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Ran {
        ended: Ended,
        lines: Vec<(Stream, String)>,
    }

    async fn shell(script: &str, wall: Duration, memory_mb: Option<u64>, cancel: &CancellationToken) -> Ran {
        let lines = Mutex::new(Vec::new());
        let spec = Spec {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            cwd: "/".into(),
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            limits: Limits { wall, memory_bytes: memory_mb.map(|mb| mb << 20), nice: 1 },
        };
        let ended =
            run(&spec, cancel, |stream, text| lines.lock().unwrap().push((stream, text.to_owned()))).await;
        Ran { ended: ended.unwrap(), lines: lines.into_inner().unwrap() }
    }

    const LONG: Duration = Duration::from_secs(30);

    /// Waits until the process is gone, or a zombie that waits for its reaper.
    async fn dies(pid: &str) -> bool {
        let dead = async {
            let stat = format!("/proc/{}/stat", pid.trim());
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), dead).await.is_ok()
    }

    #[tokio::test]
    async fn exit_codes_and_lines() {
        let ran = shell("echo one; echo two >&2; exit 3", LONG, None, &CancellationToken::new()).await;
        assert_eq!(ran.ended, Ended::Exit(3));
        assert!(ran.lines.contains(&(Stream::Out, "one".to_owned())));
        assert!(ran.lines.contains(&(Stream::Err, "two".to_owned())));
    }

    #[tokio::test]
    async fn the_environment_is_only_what_was_given() {
        let ran =
            shell("env | cut -d= -f1 | sort | tr '\\n' ' '", LONG, None, &CancellationToken::new()).await;
        let names = &ran.lines[0].1;
        assert!(
            names.split_whitespace().all(|name| ["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name)),
            "{names}"
        );
    }

    #[tokio::test]
    async fn a_hang_ends_with_its_whole_family() {
        let script = "sleep 300 & echo $!; wait";
        let ran = shell(script, Duration::from_millis(300), None, &CancellationToken::new()).await;
        assert_eq!(ran.ended, Ended::TimedOut);
        assert!(dies(&ran.lines[0].1).await);
    }

    #[tokio::test]
    async fn a_child_left_behind_is_killed_when_its_parent_exits() {
        let ran = shell("sleep 300 & echo $!; exit 0", LONG, None, &CancellationToken::new()).await;
        assert_eq!(ran.ended, Ended::Exit(0));
        assert!(dies(&ran.lines[0].1).await);
    }

    #[tokio::test]
    async fn cancelled() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(shell("sleep 300", LONG, None, &cancel).await.ended, Ended::Cancelled);
    }

    #[tokio::test]
    async fn memory_is_limited() {
        let script = "python3 -c 'x = bytearray(1 << 30)'";
        let ran = shell(script, LONG, Some(256), &CancellationToken::new()).await;
        assert_eq!(ran.ended, Ended::Exit(1));
        assert!(ran.lines.iter().any(|(_, line)| line.contains("MemoryError")), "{:?}", ran.lines);
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let ran = shell(
            "head -c 200000 /dev/zero | tr '\\0' x; echo; echo end",
            LONG,
            None,
            &CancellationToken::new(),
        )
        .await;
        assert_eq!(ran.lines.len(), 2);
        assert!(ran.lines[0].1.len() <= LINE_BYTES_MAX + 4);
        assert_eq!(ran.lines[1].1, "end");
    }

    #[tokio::test]
    async fn what_cannot_start_says_so_by_its_exit_code() {
        let spec = Spec {
            command: vec!["/no/such/trainer".to_owned()],
            cwd: "/".into(),
            env: Vec::new(),
            limits: Limits { wall: LONG, memory_bytes: None, nice: 0 },
        };
        let ended = run(&spec, &CancellationToken::new(), |_, _| ()).await.unwrap();
        assert_eq!(ended, Ended::Exit(127));
    }
}

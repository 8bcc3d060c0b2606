//! A signer outside this program: a hardware module, a key service, a smart card, behind any command.
//!
//! ```text
//!   sh -c CMD     stdin: the bytes to sign     stdout: the signature, 128 hexadecimal digits     stderr: shown if it fails
//! ```
//!
//! What comes back is verified with the public key that was named before anybody uses it, so a broken or swapped module
//! is found here and not by the boxes. The command runs in a process group of its own, which is gone when we return.

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use muster_protocol::trust::{PublicKey, Sign, SignError};
use rustix::process::{Pid, Signal, kill_process_group};

/// A person may have to find and touch a token.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long output may keep coming after the command has ended: only what was in the pipes.
const DRAIN: Duration = Duration::from_secs(2);
/// A signature and its line's end, with room to see that there is more.
const OUT_BYTES_MAX: u64 = 4096;
/// What is kept of its complaints.
const ERR_BYTES_MAX: u64 = 2048;

#[derive(Clone, Debug)]
pub struct ExternalSigner {
    command: String,
    public: PublicKey,
    patience: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    #[error("'{command}' could not be started")]
    Start {
        command: String,
        #[source]
        source: std::io::Error,
    },
    #[error("'{command}' did not answer within {} s and was ended", patience.as_secs())]
    TimedOut { command: String, patience: Duration },
    #[error("'{command}' failed ({status}){stderr}")]
    Failed { command: String, status: String, stderr: String },
    #[error(
        "'{command}' printed what is no signature; it must print 128 hexadecimal digits and nothing else{stderr}"
    )]
    NoSignature { command: String, stderr: String },
    #[error("'{command}' signed with another key than {public}; give the public key that belongs to it")]
    WrongKey { command: String, public: String },
}

impl ExternalSigner {
    pub fn new(command: impl Into<String>, public: PublicKey) -> Self {
        Self { command: command.into(), public, patience: PATIENCE }
    }

    /// Waits no longer than this.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn ask(&self, bytes: &[u8]) -> Result<[u8; 64], ExternalError> {
        let command = self.command.clone();
        let started = |source| ExternalError::Start { command: command.clone(), source };
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(started)?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let out = listen(child.stdout.take(), OUT_BYTES_MAX).map_err(started)?;
        let err = listen(child.stderr.take(), ERR_BYTES_MAX).map_err(started)?;
        say(&mut child, bytes.to_vec()).map_err(started)?;
        let ended = wait(child).map_err(started)?.recv_timeout(self.patience);
        if let Some(group) = group {
            // Nobody there any more is what we want.
            kill_process_group(group, Signal::KILL).ok();
        }
        let Ok(status) = ended else {
            return Err(ExternalError::TimedOut { command, patience: self.patience });
        };
        let stderr = err.recv_timeout(DRAIN).unwrap_or_default();
        let stderr = match String::from_utf8_lossy(&stderr).trim() {
            "" => String::new(),
            text => format!("; it says: {text}"),
        };
        let status = status.map_err(started)?;
        if !status.success() {
            return Err(ExternalError::Failed { command, status: status.to_string(), stderr });
        }
        let out = out.recv_timeout(DRAIN).unwrap_or_default();
        let mut signature = [0; 64];
        match hex::decode_to_slice(out.trim_ascii(), &mut signature) {
            Err(_) => Err(ExternalError::NoSignature { command, stderr }),
            Ok(()) if !self.public.verifies(bytes, &signature) => {
                Err(ExternalError::WrongKey { command, public: self.public.to_string() })
            }
            Ok(()) => Ok(signature),
        }
    }
}

impl Sign for ExternalSigner {
    fn key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], SignError> {
        self.ask(bytes).map_err(|error| SignError { key: self.public.key_id(), source: Box::new(error) })
    }
}

/// Keeps the first bytes of a pipe and reads the rest away, so that who writes too much is not stopped by it.
fn listen(pipe: Option<impl Read + Send + 'static>, keep: u64) -> std::io::Result<Receiver<Vec<u8>>> {
    let (heard, hear) = sync_channel(1);
    std::thread::Builder::new().name("signer-output".to_owned()).spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.by_ref().take(keep).read_to_end(&mut kept).ok();
            heard.send(kept).ok();
            std::io::copy(&mut pipe, &mut std::io::sink()).ok();
        }
    })?;
    Ok(hear)
}

/// A pipe holds less than a root may be long, so the bytes are written beside the waiting.
fn say(child: &mut Child, bytes: Vec<u8>) -> std::io::Result<()> {
    let Some(mut pipe) = child.stdin.take() else { return Ok(()) };
    // A signer that hangs up early says why on stderr, or by its status.
    let write = move || pipe.write_all(&bytes).unwrap_or_default();
    std::thread::Builder::new().name("signer-input".to_owned()).spawn(write).map(drop)
}

/// The command's end, whenever it comes.
fn wait(mut child: Child) -> std::io::Result<Receiver<std::io::Result<ExitStatus>>> {
    let (ended, end) = sync_channel(1);
    let waiting = move || ended.send(child.wait()).unwrap_or_default();
    std::thread::Builder::new().name("signer-wait".to_owned()).spawn(waiting)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use muster_protocol::trust::SecretKey;

    use super::*;

    /// What a command makes of a message; the message is longer than a pipe holds.
    fn check(command: &str, expect: &str) {
        let public = SecretKey::from_seed([1; 32]).key();
        let signer = ExternalSigner::new(command, public).within(Duration::from_millis(700));
        let error = signer.sign(&vec![b'x'; 300_000]).unwrap_err().source.to_string();
        assert!(error.contains(expect), "{command}: {error}");
    }

    #[test]
    fn what_does_not_sign_is_named() {
        check(
            "cat >/dev/null; echo 'no token in the slot' >&2; exit 3",
            "exit status: 3); it says: no token in the slot",
        );
        check("exit 1", "failed (exit status: 1)");
        check("no-such-program-at-all", "not found");
        check("cat >/dev/null", "is no signature");
        check("cat >/dev/null; echo 00ff", "is no signature");
        check("cat", "is no signature");
        check("cat >/dev/null; printf '%0128d' 0", "signed with another key");
        check("sleep 60", "did not answer within 0 s and was ended");
        check("sleep 60 & echo started; wait", "did not answer");
        check("yes", "did not answer");
        check("kill -9 $$", "signal: 9");
    }

    #[test]
    fn nothing_is_left_running() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        check(&format!("sleep 600 & echo $! > {}; exit 4", pid.display()), "exit status: 4");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        // Killed, it dies in its own time, and is reaped by whoever adopts orphans: until then it is a zombie.
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let is_gone = || state().is_empty() || state().contains(") Z ");
        let (_open, nothing) = sync_channel::<()>(1);
        let gone = (0..1000).any(|_| {
            nothing.recv_timeout(Duration::from_millis(10)).unwrap_or_default();
            is_gone()
        });
        assert!(gone, "{}", state());
    }
}

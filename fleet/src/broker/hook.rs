//! Tells an external broker that the list of revoked certificates changed: runs the operator's command, and says in the
//! log if that failed. It is never a reason to revoke later: the server's own table refuses a revoked device at once.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long the command may take before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Several revocations in a row are one reason to run it.
const GATHER: Duration = Duration::from_millis(200);

/// Runs the command at the start, as the list may have changed unseen, and after each change. Empty: never.
pub async fn run(command: Vec<String>, mut written: watch::Receiver<u64>, stop: CancellationToken) {
    if command.is_empty() {
        return stop.cancelled().await;
    }
    loop {
        written.mark_unchanged();
        tokio::select! {
            () = stop.cancelled() => return,
            () = once(&command) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = written.changed() => if changed.is_err() {
                return stop.cancelled().await;
            },
        }
        tokio::time::sleep(GATHER).await;
    }
}

async fn once(command: &[String]) {
    let [program, arguments @ ..] = command else { return };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(program, %error, "[mqtt] on_crl cannot be run: the broker does not know what is revoked");
            return;
        }
    };
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(Ok(status)) if status.success() => tracing::info!(program, "the broker was told what is revoked"),
        Ok(Ok(status)) => {
            tracing::error!(program, %status, "[mqtt] on_crl failed: the broker may not know what is revoked");
        }
        Ok(Err(error)) => tracing::error!(program, %error, "[mqtt] on_crl was lost sight of"),
        Err(_) => {
            tracing::error!(
                program,
                patience_s = PATIENCE.as_secs(),
                "[mqtt] on_crl took too long and is killed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the hook with a shell command until `done` lines stand in the file.
    async fn lines(script: &str, changes: usize) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told");
        let command = ["sh", "-c", script, "hook", file.to_str().unwrap()].map(str::to_owned).to_vec();
        let (told, written) = watch::channel(0);
        let stop = CancellationToken::new();
        let count = || std::fs::read_to_string(&file).map_or(0, |text| text.lines().count());
        let changing = async {
            for change in 0..=changes {
                while count() <= change {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                if change < changes {
                    told.send_modify(|n| *n += 1);
                }
            }
            stop.cancel();
        };
        let both = async { tokio::join!(run(command, written, stop.clone()), changing) };
        tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        count()
    }

    #[tokio::test]
    async fn it_runs_at_the_start_and_after_each_change() {
        assert_eq!(lines("echo told >> \"$1\"", 2).await, 3);
        assert_eq!(lines("echo told >> \"$1\"; exit 1", 1).await, 2, "one that fails is run again");
    }
}

//! A PostgreSQL server of one's own: a cluster in a temporary folder, reached over a socket in it, stopped with its owner.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster_fleet::config::PostgresUrl;
use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep};

/// No cluster takes longer to come up, nor to go.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Postgres {
    server: Option<Child>,
    dir: tempfile::TempDir,
    bin: PathBuf,
}

impl Postgres {
    pub(crate) async fn start() -> Self {
        let bin = programs();
        let dir = tempfile::Builder::new().prefix("muster-pg-").tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(dir.path()));
        }
        run(as_user(&bin.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=muster", "-D"])
            .arg(dir.path().join("data")));
        let mut postgres = Self { server: None, dir, bin };
        postgres.go().await;
        postgres
    }

    /// Starts it, again if it was stopped.
    pub(crate) async fn go(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let server = as_user(&self.bin.join("postgres"))
            .arg("-D")
            .arg(self.dir.path().join("data"))
            .arg("-k")
            .arg(self.dir.path())
            // The socket stands in our folder, so no port has to be free.
            .args(["-c", "listen_addresses="])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = self.server.insert(server);
        let began = Instant::now();
        loop {
            let ended = server.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "PostgreSQL does not start: {}",
                log_in(self.dir.path())
            );
            if is_up(&self.bin, self.dir.path()) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends connections and shuts down in order.
    pub(crate) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // It is the server itself, not a shell before it.
        let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
        if pid.is_some_and(|pid| rustix::process::kill_process(pid, Signal::INT).is_ok()) {
            server.wait().ok();
        }
    }

    /// A new, empty database.
    pub(crate) fn database(&self, name: &str) -> PostgresUrl {
        let mut create = as_user(&self.bin.join("createdb"));
        run(create.arg("-h").arg(self.dir.path()).args(["-U", "muster", name]));
        format!("postgres://muster@localhost/{name}?host={}", self.dir.path().display()).parse().unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_up(bin: &Path, dir: &Path) -> bool {
    as_user(&bin.join("pg_isready")).args(["-q", "-U", "muster", "-h"]).arg(dir).status().unwrap().success()
}

fn log_in(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}

fn programs() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = found.map(|version| version.path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").is_file());
    found.sort();
    found.pop().expect("PostgreSQL is missing: scripts/packages.sh, or apt-get install postgresql")
}

/// PostgreSQL refuses to run as root; its package brings a user.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    } else {
        command = Command::new(program);
    }
    command.stdin(Stdio::null()).current_dir("/");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

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
    server: Child,
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
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let server = as_user(&bin.join("postgres"))
            .arg("-D")
            .arg(dir.path().join("data"))
            .arg("-k")
            .arg(dir.path())
            // The socket stands in our folder, so no port has to be free.
            .args(["-c", "listen_addresses="])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut postgres = Self { server, dir, bin };
        let began = Instant::now();
        while !postgres.is_up() {
            let ended = postgres.server.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "PostgreSQL does not start: {}",
                postgres.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
        postgres
    }

    /// A new, empty database.
    pub(crate) fn database(&self, name: &str) -> PostgresUrl {
        let mut create = as_user(&self.bin.join("createdb"));
        run(create.arg("-h").arg(self.dir.path()).args(["-U", "muster", name]));
        format!("postgres://muster@localhost/{name}?host={}", self.dir.path().display()).parse().unwrap()
    }

    fn is_up(&self) -> bool {
        let mut ask = as_user(&self.bin.join("pg_isready"));
        ask.args(["-q", "-U", "muster", "-h"]).arg(self.dir.path());
        ask.status().unwrap().success()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT ends connections and shuts down in order; it is the server itself, not a shell before it.
        let pid = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw);
        if pid.is_some_and(|pid| rustix::process::kill_process(pid, Signal::INT).is_ok()) {
            self.server.wait().ok();
        }
    }
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

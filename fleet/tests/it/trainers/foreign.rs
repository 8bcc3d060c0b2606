//! Programs of other people that a test starts: from their own environments, in folders of their own, on free ports; and
//! ended with everything that they started, by id.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// They start a dozen Python processes each, on a machine that tests everything else too.
pub(super) const UP_WITHIN: Duration = Duration::from_mins(4);
/// How long one may take to end in its own way.
const END_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The Python of an environment that `make` installs.
pub(super) fn python(environment: &str, lock: &str) -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../.muster/{environment}/bin/python"));
    let python = std::path::absolute(python).unwrap();
    assert!(
        python.is_file(),
        "{} is missing: scripts/python-env.sh .muster/{environment} fleet/tests/interop/{lock}-requirements.lock",
        python.display()
    );
    python
}

/// Free a moment ago. Whoever is told of it binds it in a moment.
pub(super) fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(super) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    pub(super) fn start(name: &'static str, command: &mut Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = std::fs::File::create(&log).unwrap();
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(out.try_clone().unwrap()).stderr(out);
        Self { name, child: command.spawn().unwrap(), log }
    }

    /// Asks until it is up.
    pub(super) async fn until<T>(&mut self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < UP_WITHIN,
                "{}: waited in vain until {what}; its log ends with\n{}",
                self.name,
                self.tail()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Program {
    /// Politely, for it may have others to end; and then each of those that are still there.
    fn drop(&mut self) {
        // Before it ends: whoever it leaves behind has another parent then.
        let mut all = descendants(&BTreeSet::from([self.child.id()]));
        let began = Instant::now();
        signal("-TERM", [self.child.id()]);
        while began.elapsed() < END_WITHIN && all.iter().any(|id| is_alive(*id)) {
            all.extend(descendants(&all));
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        signal("-KILL", all.into_iter().filter(|id| is_alive(*id)));
        self.child.wait().ok();
    }
}

fn signal(which: &str, ids: impl IntoIterator<Item = u32>) {
    for id in ids {
        Command::new("kill").args([which, &id.to_string()]).stderr(Stdio::null()).status().ok();
    }
}

/// Neither gone nor waiting for its parent to look.
fn is_alive(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Everybody whose parent, or whose parent's parent, is among them.
fn descendants(of: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The program's name is in brackets and may hold anything.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parents.extend(parent.map(|parent: u32| (id, parent)));
    }
    let mut found = of.clone();
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(id, parent)| found.contains(parent) && !found.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

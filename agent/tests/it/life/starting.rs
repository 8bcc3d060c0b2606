//! What must be right before the agent runs, each with its exit code and a sentence.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::fleet::root;
use super::process::{AGENT, Agent, set_up};

fn refused(dir: &Path) -> (i32, String) {
    let Output { status, stderr, .. } =
        Command::new(AGENT).args(["run", "--config"]).arg(dir.join("agent.toml")).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

fn box_with(edit: impl FnOnce(&Path, String) -> String) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there: the agent must refuse before it looks for a broker.
    set_up(dir.path(), ([127, 0, 0, 1], 9).into(), &root());
    let path = dir.path().join("agent.toml");
    let text = edit(dir.path(), fs::read_to_string(&path).unwrap());
    fs::write(path, text).unwrap();
    dir
}

#[test]
fn mistakes_end_the_start_with_their_own_exit_code() {
    let check = |dir: tempfile::TempDir, code: i32, says: &str| {
        let (found, message) = refused(dir.path());
        assert!(found == code && message.contains(says), "exit {found}: {message}");
    };
    check(box_with(|_, text| format!("colour = 1\n{text}")), 2, "colour");
    check(box_with(|_, text| text.replace("mqtt://127.0.0.1:9", "mqtt://192.0.2.1:9")), 2, "loopback");
    let no_runtime = box_with(|_, text| {
        let lines =
            text.lines().map(|line| if line.starts_with("dir =") { "dir = \"nowhere\"" } else { line });
        lines.collect::<Vec<_>>().join("\n")
    });
    check(no_runtime, 3, "make runtime");
    check(box_with(|_, text| text.replace("\"root.json\"", "\"other.json\"")), 5, "other.json");
    let damaged = |name: &'static str| {
        box_with(move |dir, text| {
            fs::create_dir_all(dir.join("state")).unwrap();
            fs::write(dir.join("state").join(name), "{").unwrap();
            text
        })
    };
    check(damaged("ledger.json"), 4, "ledger.json");
    check(damaged("device-id"), 4, "device-id");
    let (code, message) = refused(Path::new("/nowhere"));
    assert!(code == 2 && message.contains("--config"), "{message}");
}

#[tokio::test]
async fn a_second_agent_on_the_same_state_is_refused() {
    let dir = box_with(|_, text| text);
    let agent = Agent::start(dir.path());
    agent.get("/muster/v1/state").await;
    let (code, message) = refused(dir.path());
    assert!(code == 4 && message.contains("another agent"), "exit {code}: {message}");
    assert!(agent.terminate().await.success());
}

#[test]
fn the_version_and_the_exit_codes_are_told() {
    let output = |argument| Command::new(AGENT).arg(argument).output().unwrap().stdout;
    assert_eq!(output("version"), format!("muster-agent {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    assert!(String::from_utf8(output("--help")).unwrap().contains("3  the inference runtime is missing"));
}

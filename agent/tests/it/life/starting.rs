//! What must be right before the agent runs, each with its exit code and a sentence.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::process::{AGENT, Agent, Setup, configure};

fn refused(dir: &Path) -> (i32, String) {
    let Output { status, stderr, .. } =
        Command::new(AGENT).args(["run", "--config"]).arg(dir.join("agent.toml")).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

fn box_with(edit: impl FnOnce(&Path, String) -> String) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there: the agent must refuse before it looks for a broker.
    Setup::new("mqtts://127.0.0.1:9").write(dir.path());
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
    check(box_with(|_, text| format!("{text}[fleet]\nmqtt = \"mqtt://127.0.0.1:9\"\n")), 2, "fleet");
    let no_runtime = box_with(|_, text| {
        let lines =
            text.lines().map(|line| if line.starts_with("dir =") { "dir = \"nowhere\"" } else { line });
        lines.collect::<Vec<_>>().join("\n")
    });
    check(no_runtime, 3, "make runtime");
    let damaged = |name: &'static str| {
        box_with(move |dir, text| {
            fs::create_dir_all(dir.join("state")).unwrap();
            fs::write(dir.join("state").join(name), "{").unwrap();
            text
        })
    };
    check(damaged("ledger.json"), 4, "ledger.json");
    let (code, message) = refused(Path::new("/nowhere"));
    assert!(code == 2 && message.contains("--config"), "{message}");
}

#[test]
fn a_box_that_is_not_enrolled_says_how() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    let (code, message) = refused(dir.path());
    assert!(code == 6 && message.contains("muster-agent enrol FILE"), "exit {code}: {message}");
    assert!(!dir.path().join("state/identity").exists(), "nothing is made up in its place");
    for command in ["identity", "rekey"] {
        let output = Command::new(AGENT)
            .args([command, "--state-dir"])
            .arg(dir.path().join("state"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(6), "{command}");
    }
}

/// Whatever is damaged is named, is left as it is, and is never replaced by a new identity.
#[test]
fn damaged_identity_files_are_named_and_stay() {
    let check = |file: &str, bytes: Option<&[u8]>, code: i32, says: &str| {
        let dir = box_with(|_, text| text);
        let identity = dir.path().join("state/identity");
        let before = fs::read(identity.join("enrolment.json")).unwrap();
        let path = identity.join(file);
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let (found, message) = refused(dir.path());
        assert!(found == code && message.contains(file) && message.contains(says), "exit {found}: {message}");
        assert_eq!(fs::read(&path).ok().as_deref(), bytes, "{file} was touched");
        if file != "enrolment.json" {
            assert_eq!(fs::read(identity.join("enrolment.json")).unwrap(), before);
        }
        assert!(!dir.path().join("state/enrolling").exists());
    };
    check("enrolment.json", Some(b"{"), 4, "--again");
    check("enrolment.json", Some(br#"{"v":9}"#), 4, "--again");
    check("enrolment.json", None, 4, "--again");
    check("key.pem", Some(b"-----BEGIN"), 4, "--new-key");
    check("key.pem", None, 4, "--again");
    check("certificate.pem", Some(b"\xff\xfe"), 4, "fresh one for the same key");
    check("root.json", None, 4, "--again");
    let exposed = box_with(|dir, text| {
        let path = dir.join("state/identity/key.pem");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        text
    });
    let (code, message) = refused(exposed.path());
    assert!(code == 4 && message.contains("can be read by others (mode 644)"), "exit {code}: {message}");
    let root = box_with(|dir, text| {
        fs::write(dir.join("state/identity/root.json"), "{}").unwrap();
        text
    });
    let (code, message) = refused(root.path());
    assert!(code == 5 && message.contains("root"), "exit {code}: {message}");
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
    assert!(String::from_utf8(output("--help")).unwrap().contains("3   the inference runtime is missing"));
}

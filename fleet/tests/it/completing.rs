//! Completion in real shells: what is offered where, with the script that `muster completions` prints and the program itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::fake_fleet::FakeFleet;

/// The folder with `muster` in it, which the script looks for on the path.
fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_muster")).parent().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the shell needs a path to find other programs by")]
fn path() -> String {
    format!("{}:{}", programs().display(), std::env::var("PATH").unwrap())
}

fn shell(name: &str) -> PathBuf {
    let found = path().split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing; `make packages`, or: apt-get install {name}"))
}

/// Runs a script in a shell, in an empty home.
async fn run(name: &str, args: &[&str], script: &str, server: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(shell(name));
    command.args(args).arg(script).current_dir(home.path()).kill_on_drop(true);
    command.env("PATH", path()).env("HOME", home.path()).env("TERM", "xterm").env_remove("MUSTER_SERVER");
    if !server.is_empty() {
        command.env("MUSTER_SERVER", server);
    }
    let output = tokio::time::timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    assert!(output.status.success(), "{name}: {}{}", text(output.stdout), text(output.stderr));
    text(output.stdout)
}

/// What bash offers after these words, the last of which may be begun.
async fn bash(words: &[&str], server: &str) -> BTreeSet<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source <(muster completions bash)
         read -ra registered <<<\"$(complete -p muster)\"
         for ((i = 0; i < ${{#registered[@]}}; i++)); do [ \"${{registered[i]}}\" = -F ] && offer=${{registered[i+1]}}; done
         COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; COMP_KEY=9
         COMP_LINE=\"${{COMP_WORDS[*]}}\"; COMP_POINT=${{#COMP_LINE}}
         \"$offer\" muster \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" "),
        words.len() - 1
    );
    let offered = run("bash", &["--norc", "--noprofile", "-c"], &script, server).await;
    offered.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn rollouts(fleet: &FakeFleet) {
    let one = |id: &str, model: &str| json!({"id": id, "model": model, "bundle": {"version": "7"}, "phase": {"is": "running"}});
    let evil = json!({"id": "ro-$(touch evil)", "model": "er"});
    fleet.answer(
        "GET /api/v1/rollouts",
        200,
        json!({"items": [one("ro-aaa1", "er"), one("ro-bbb2", "icu"), evil]}),
    );
}

#[tokio::test]
async fn bash_offers_commands_options_and_the_ids_of_the_fleet() {
    let fleet = FakeFleet::start().await;
    rollouts(&fleet);
    let offered = bash(&["muster", "rollout", ""], &fleet.url).await;
    for word in ["watch", "create", "why"] {
        assert!(offered.contains(word), "{offered:?}");
    }
    assert_eq!(bash(&["muster", "rollout", "wat"], &fleet.url).await, ["watch".to_owned()].into());
    assert_eq!(
        bash(&["muster", "ro", "wat"], &fleet.url).await,
        ["watch".to_owned()].into(),
        "aliases lead there too"
    );
    assert!(fleet.with(|asked| asked.requests.is_empty()), "words need no server");
    let ids = bash(&["muster", "rollout", "watch", "ro-"], &fleet.url).await;
    assert_eq!(ids, ["ro-aaa1".to_owned(), "ro-bbb2".to_owned()].into());
    assert_eq!(
        bash(&["muster", "rollout", "watch", "ro-b"], &fleet.url).await,
        ["ro-bbb2".to_owned()].into()
    );
    assert!(bash(&["muster", "rollout", "watch", "ro-b", "--t"], &fleet.url).await.contains("--timeout"));
    assert!(bash(&["muster", "-o", ""], &fleet.url).await.contains("json"));
}

#[tokio::test]
async fn the_fleet_that_the_line_names_is_asked_as_far_as_it_can_be() {
    let fleet = FakeFleet::start().await;
    fleet.answer("GET /api/v1/devices", 200, json!({"items": [{"id": "d-1", "name": "er-1", "site": "er"}]}));
    let nobody = "http://127.0.0.1:9";
    let contexts = tempfile::tempdir().unwrap();
    let file = contexts.path().join("contexts.toml");
    std::fs::write(&file, format!("[contexts.er]\nserver = \"{}\"\n", fleet.url)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let line = ["muster", "--contexts", file.to_str().unwrap(), "--context", "er", "device", "show", "d-"];
    assert_eq!(bash(&line, "").await, ["d-1".to_owned()].into());
    let asked = fleet.with(|asked| asked.requests[0].1.clone());
    assert_eq!(asked, "/api/v1/devices?q=d-", "the server narrows it down");
    // Nobody there, and somebody who refuses: nothing is offered, and nothing is said.
    assert!(bash(&["muster", "device", "show", "d-"], nobody).await.is_empty());
    let refusing = FakeFleet::start().await;
    assert!(bash(&["muster", "device", "show", "d-"], &refusing.url).await.is_empty());
}

#[tokio::test]
async fn contexts_come_from_their_file() {
    let fleet = FakeFleet::start().await;
    let script = "muster context add er --server http://127.0.0.1:9 --token-stdin </dev/null 2>/dev/null
        muster context add icu --server http://127.0.0.1:9 --token-stdin </dev/null 2>/dev/null
        MUSTER_COMPLETE=bash _CLAP_IFS=$'\\n' _CLAP_COMPLETE_INDEX=3 _CLAP_COMPLETE_COMP_TYPE=9 _CLAP_COMPLETE_SPACE=false \
        muster -- muster context use ''";
    let offered = run("bash", &["--norc", "--noprofile", "-c"], script, &fleet.url).await;
    let offered: Vec<&str> = offered.lines().collect();
    assert!(offered.contains(&"er") && offered.contains(&"icu"), "{offered:?}");
}

#[tokio::test]
async fn fish_offers_the_same_with_what_it_is() {
    let fleet = FakeFleet::start().await;
    rollouts(&fleet);
    let ask = |line: &str| format!("muster completions fish | source; complete -C '{line}'");
    let offered = run("fish", &["--no-config", "-c"], &ask("muster rollout wat"), &fleet.url).await;
    assert!(offered.starts_with("watch\tFollows a rollout to its end"), "{offered}");
    let offered = run("fish", &["--no-config", "-c"], &ask("muster rollout watch ro-"), &fleet.url).await;
    assert!(offered.contains("ro-aaa1\ter, 7, running") && !offered.contains("evil"), "{offered}");
}

#[tokio::test]
async fn zsh_offers_the_same() {
    let fleet = FakeFleet::start().await;
    rollouts(&fleet);
    // A shell in a terminal of its own, as a person has it: what TAB makes of a line is read off its screen.
    let script = r#"
        mkdir functions; muster completions zsh > functions/_muster
        zmodload zsh/zpty
        zpty terminal "PATH='$PATH' HOME='$HOME' MUSTER_SERVER='$MUSTER_SERVER' zsh -f -i"
        screen() { local text piece; while zpty -r -m terminal piece "*$1*"; do text+=$piece; [[ $text = *$1* ]] && return 0; done; return 1 }
        zpty -w terminal "PS1='' ; fpath=(\$PWD/functions \$fpath); autoload -U compinit; compinit -u; print rea''dy"
        screen ready
        zpty -w -n terminal "muster rollout wat"$'\t'
        screen "muster rollout watch" && print words
        zpty -w -n terminal "ro-b"$'\t'
        screen "ro-bbb2" && print ids
        zpty -d terminal
    "#;
    let seen = run("zsh", &["-f", "-c"], script, &fleet.url).await;
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["words", "ids"], "{seen}");
}

#[tokio::test]
async fn every_shell_has_its_half_and_others_are_refused() {
    let muster = |shell: &'static str| async move {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(["completions", shell]).output().await.unwrap()
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = muster(shell).await;
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("MUSTER_COMPLETE"), "{shell}: {script}");
    }
    assert_eq!(muster("tcsh").await.status.code(), Some(2));
}

//! The manual pages of all three programs, read by a strict formatter.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use muster_fleet::cli::{self, pages};

fn written(dir: &Path) -> Vec<PathBuf> {
    let programs = [
        cli::Cli::command(),
        muster_fleet::arguments::Arguments::command(),
        muster_agent::arguments::Cli::command(),
    ];
    let pages = programs.into_iter().flat_map(|program| pages(program).unwrap());
    let write = |(name, page): (String, Vec<u8>)| {
        let path = dir.join(name);
        std::fs::write(&path, page).unwrap();
        path
    };
    pages.map(write).collect()
}

fn mandoc(args: &[&str], pages: &[PathBuf]) -> (bool, String) {
    let output = Command::new("mandoc").args(args).args(pages).output();
    let output =
        output.unwrap_or_else(|error| panic!("mandoc: {error}; `make packages`, or: apt-get install mandoc"));
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_strict_formatter_has_nothing_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let pages = written(dir.path());
    assert!(pages.len() > 150, "only {} pages", pages.len());
    let (clean, said) = mandoc(&["-Tlint", "-Wwarning"], &pages);
    assert!(clean && said.is_empty(), "{said}");
}

#[test]
fn a_page_says_what_the_help_says() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let (clean, text) =
        mandoc(&["-Tascii", "-O", "width=200"], &[dir.path().join("muster-rollout-rollback.1")]);
    // Without the overstrikes that make letters bold.
    let text: String =
        text.split('\u{8}').map(|part| part.strip_suffix(|_: char| true).unwrap_or(part)).collect();
    assert!(clean, "{text}");
    for words in ["EXAMPLES", "muster rollout rollback ro-", "--reason 'scores are wrong on ward 3' --yes"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (_, text) = mandoc(&["-Tascii", "-O", "width=200"], &[dir.path().join("muster-agent-doctor.1")]);
    assert!(text.contains("something is broken"), "{text}");
}

#[test]
fn a_page_is_as_old_as_the_release() {
    let released = muster_agent::clock::released().to_string();
    assert!(released.starts_with(cli::RELEASED), "{released}: raise cli::RELEASED with the agent's");
}

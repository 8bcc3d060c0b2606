//! Writes what packages put below /usr/share for all three programs: manual pages, and completions for bash, zsh and fish.
//!
//! ```sh
//! make pages                       # into .muster/share
//! ```
//! `muster` asks itself while it completes, because it knows ids; the other two have words alone, and scripts that say them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

fn main() -> anyhow::Result<()> {
    let share = std::env::args_os().nth(1).map(PathBuf::from).context("say where to: pages DIR")?;
    let all = [
        muster_fleet::cli::Cli::command(),
        muster_fleet::arguments::Arguments::command(),
        muster_agent::arguments::Cli::command(),
    ];
    for mut program in all {
        for (name, page) in muster_fleet::cli::pages(program.clone())? {
            write(&share.join("man/man1").join(name), &page)?;
        }
        complete(&mut program, &share)?;
    }
    Ok(())
}

fn complete(program: &mut Command, share: &Path) -> anyhow::Result<()> {
    let name = program.get_name().to_owned();
    for (shell, place) in [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Zsh, format!("zsh/site-functions/_{name}")),
        (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish")),
    ] {
        let mut script = Vec::new();
        if name == "muster" {
            muster_fleet::cli::completions(&shell.to_string(), &mut script)?;
        } else {
            clap_complete::generate(shell, program, &name, &mut script);
        }
        write(&share.join(place), &script)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let dir = path.parent().context("a file has a folder")?;
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

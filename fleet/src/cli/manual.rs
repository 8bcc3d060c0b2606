//! `muster man`: the manual pages, made of the same words as `--help`. One page a command: `muster-rollout-watch(1)`.
//!
//! What stands below a command's help is put into sections by its own headings, and its examples are set as they are typed.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::output::Output;
use super::{Cli, CliError};

pub(super) const HELP: &str = "\
Packages put them into /usr/share/man/man1.

Examples:
  muster man | man -l -
  muster man ~/.local/share/man/man1 && man muster-rollout-watch";

/// The month of this release, as the agent has it too: a page says when it was written, and the same source makes the same
/// page.
pub const RELEASED: &str = "2026-11-01";
/// What an apostrophe is, for the formatters that there are.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
const MANUAL: &str = "Muster";
/// Headings below a command's help that have a name of their own in a manual.
const HEADINGS: [(&str, &str); 3] =
    [("Example:", "EXAMPLES"), ("Examples:", "EXAMPLES"), ("Exit codes:", "EXIT STATUS")];

pub(super) fn run(output: &mut Output, dir: Option<&Path>) -> Result<(), CliError> {
    let pages = pages(Cli::command())?;
    let Some(dir) = dir else {
        return pages.last().map_or(Ok(()), |(_, page)| output.raw(page));
    };
    std::fs::create_dir_all(dir)?;
    for (name, page) in &pages {
        std::fs::write(dir.join(name), page)?;
    }
    output.say(&format!("{} pages are in {}", pages.len(), dir.display()))
}

/// File names and pages of a program and all its commands, its own the last.
pub fn pages(program: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
    let mut pages = Vec::new();
    add(&program, &source, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, source: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below, source, pages)?;
    }
    let man = Man::new(command.clone()).source(source).date(RELEASED).manual(MANUAL);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        below(&text.to_string()).to_writer(&mut page)?;
    }
    pages.push((man.get_filename(), tidied(&page)));
    Ok(())
}

/// Each section was made as if it were a page; and where nothing stands before a line break, formatters complain.
fn tidied(page: &[u8]) -> Vec<u8> {
    let page = String::from_utf8_lossy(page).replace(PREAMBLE, "");
    let page = page.replace("\n.br\n\n.br\n", "\n.sp\n").replace("\n\n.br\n", "\n");
    format!("{PREAMBLE}{page}").into_bytes()
}

/// What stands below the help.
fn below(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut section = Section::default();
    for line in text.lines() {
        let heading = HEADINGS.iter().find(|(heading, _)| *heading == line.trim_end());
        if let Some((_, heading)) = heading {
            section.begin(&mut roff, heading);
        } else {
            section.line(&mut roff, line);
        }
    }
    section.end(&mut roff);
    roff
}

/// How far a section is.
#[derive(Default)]
struct Section {
    is_open: bool,
    /// Lines as they stand: what is indented.
    is_set: bool,
    paragraph: Paragraph,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Paragraph {
    /// Nothing is written yet.
    #[default]
    First,
    Begun,
    /// An empty line came: what follows is another one.
    Next,
}

impl Section {
    fn begin(&mut self, roff: &mut Roff, heading: &str) {
        self.end(roff);
        roff.control("SH", [heading]);
        *self = Self { is_open: true, ..Self::default() };
    }

    fn line(&mut self, roff: &mut Roff, line: &str) {
        if line.trim().is_empty() {
            if self.paragraph == Paragraph::Begun {
                self.paragraph = Paragraph::Next;
            }
            return;
        }
        if !self.is_open {
            self.begin(roff, "NOTES");
        }
        let is_set = line.starts_with("  ");
        if self.is_set && !is_set {
            self.end(roff);
        }
        if self.paragraph == Paragraph::Next && !self.is_set {
            roff.control("PP", []);
        }
        if is_set && !self.is_set {
            roff.control("nf", []);
            self.is_set = true;
        }
        roff.text([roman(if is_set { line.get(2..).unwrap_or_default() } else { line })]);
        self.paragraph = Paragraph::Begun;
    }

    fn end(&mut self, roff: &mut Roff) {
        if std::mem::take(&mut self.is_set) {
            roff.control("fi", []);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_set_as_they_are_typed() {
        let text =
            "Read this\nfirst.\n\nExamples:\n  muster a\n      --b\n\nThen that.\nExit codes:\n  0  done";
        let roff = String::from_utf8(tidied(below(text).to_roff().as_bytes())).unwrap();
        let lines = [
            ".SH NOTES",
            "Read this",
            "first.",
            ".SH EXAMPLES",
            ".nf",
            "muster a",
            "    \\-\\-b",
            ".fi",
            ".PP",
            "Then that.",
            ".SH \"EXIT STATUS\"",
            ".nf",
            "0  done",
            ".fi",
        ];
        let found = roff.strip_prefix(PREAMBLE).unwrap();
        let found: Vec<&str> = found.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(found, lines, "{roff}");
    }

    #[test]
    fn every_command_has_a_page_under_its_whole_name() {
        let pages = pages(Cli::command()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"muster-rollout-watch.1") && names.last() == Some(&"muster.1"), "{names:?}");
        assert!(names.iter().all(|name| !name.contains("help")), "{names:?}");
    }
}

//! Every command of all three programs shows in its help how it is typed, and what it shows can be typed.

use std::collections::BTreeMap;

use clap::{Command, CommandFactory as _};
use muster_agent::arguments::Cli as Agent;
use muster_fleet::arguments::Arguments as Fleet;
use muster_fleet::cli::Cli as Muster;

fn programs() -> BTreeMap<String, Command> {
    let all = [Muster::command(), Fleet::command(), Agent::command()];
    all.map(|program| (program.get_name().to_owned(), program)).into()
}

/// Each command with its whole name, the leaves only.
fn leaves(command: &Command, above: &[String]) -> Vec<(Vec<String>, Command)> {
    let name: Vec<String> = above.iter().cloned().chain([command.get_name().to_owned()]).collect();
    if !command.has_subcommands() {
        return vec![(name, command.clone())];
    }
    command.get_subcommands().flat_map(|below| leaves(below, &name)).collect()
}

fn help(command: &Command) -> String {
    command
        .get_after_long_help()
        .or_else(|| command.get_after_help())
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The lines below a help that are typed: indented, and naming one of the programs first in some command of theirs.
fn typed(help: &str, names: &[&str]) -> Vec<Vec<String>> {
    let joined = help.replace("\\\n", " ");
    let names_one = |line: &&str| line.split_whitespace().any(|word| names.contains(&word));
    let lines = joined.lines().filter(|line| line.starts_with("  ")).filter(names_one);
    lines.flat_map(commands).filter(|words| names.contains(&words[0].as_str())).collect()
}

/// The commands of a line as a shell takes them apart, without what is said before them: variables and sudo.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let (mut word, mut quote, mut is_word) = (String::new(), None, false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.push(letter),
            (None, '\'' | '"') => (quote, is_word) = (Some(letter), true),
            // What is run inside is a command of its own; what it answers is a word.
            (None, '$') if letters.peek() == Some(&'(') => {
                let inside: String = letters.by_ref().skip(1).take_while(|letter| *letter != ')').collect();
                all.splice(0..0, commands(&inside));
                (is_word, word) = (true, format!("{word}answer"));
            }
            (None, '#') if !is_word => break,
            (None, ' ' | '|' | '&' | ';' | '>' | '<') => {
                if std::mem::take(&mut is_word) {
                    all.last_mut().unwrap().push(std::mem::take(&mut word));
                }
                match letter {
                    ' ' => {}
                    // What follows is a file's name.
                    '>' | '<' => all.push(vec!["file".to_owned()]),
                    _ => all.push(Vec::new()),
                }
            }
            (None, _) => {
                word.push(letter);
                is_word = true;
            }
        }
    }
    assert!(quote.is_none(), "a quote stays open: {line}");
    if is_word {
        all.last_mut().unwrap().push(word);
    }
    let bare = |mut words: Vec<String>| {
        let before = |word: &String| {
            word.split_once('=')
                .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        };
        words.drain(..words.iter().take_while(|word| before(word)).count());
        if words.first().is_some_and(|word| word == "sudo") {
            assert_eq!(words.get(1).map(String::as_str), Some("-u"), "{line}");
            words.drain(..3);
        }
        words
    };
    all.into_iter().map(bare).filter(|words| !words.is_empty()).collect()
}

/// Which command a line comes to, by its whole name.
fn reached(program: &Command, words: &[String]) -> Vec<String> {
    let parsed = program.clone().try_get_matches_from(words);
    let parsed =
        parsed.unwrap_or_else(|error| panic!("an example cannot be typed: {}\n{error}", words.join(" ")));
    let mut name = vec![program.get_name().to_owned()];
    let mut below = parsed.subcommand();
    while let Some((next, matches)) = below {
        name.push(next.to_owned());
        below = matches.subcommand();
    }
    name
}

#[test]
fn every_command_shows_how_it_is_typed() {
    let programs = programs();
    let names: Vec<&str> = programs.keys().map(String::as_str).collect();
    let mut bare = Vec::new();
    let mut seen = 0;
    for program in programs.values() {
        for (name, leaf) in leaves(program, &[]) {
            seen += 1;
            let examples = typed(&help(&leaf), &names);
            let own =
                |words: &&Vec<String>| words[0] == name[0] && reached(&programs[&words[0]], words) == name;
            if !examples.iter().any(|words| own(&words)) {
                bare.push(name.join(" "));
            }
        }
    }
    assert!(bare.is_empty(), "these have no example of their own in their --help:\n  {}", bare.join("\n  "));
    assert!(seen > 120, "only {seen} commands were found");
}

#[test]
fn every_example_can_be_typed() {
    fn all(command: &Command) -> Vec<Command> {
        let below = command.get_subcommands().flat_map(all);
        [command.clone()].into_iter().chain(below).collect()
    }
    let programs = programs();
    let names: Vec<&str> = programs.keys().map(String::as_str).collect();
    let mut tried = 0;
    for command in programs.values().flat_map(all) {
        for words in typed(&help(&command), &names) {
            reached(&programs[&words[0]], &words);
            tried += 1;
        }
    }
    assert!(tried > 200, "only {tried} examples were found");
}

#[test]
fn lines_are_taken_apart_as_a_shell_does() {
    let check = |line: &str, expect: &[&[&str]]| {
        let found = commands(line);
        let found: Vec<Vec<&str>> =
            found.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
        assert_eq!(found, expect, "{line}");
    };
    check("  a b 'c d' # e", &[&["a", "b", "c d"]]);
    check("a | b -x=1 && c; d > e", &[&["a"], &["b", "-x=1"], &["c"], &["d"], &["file", "e"]]);
    check("X=1 sudo -u muster a --b '' Y=2", &[&["a", "--b", "", "Y=2"]]);
    check("a $(b -c d | head -n 1) e#f", &[&["b", "-c", "d"], &["head", "-n", "1"], &["a", "answer", "e#f"]]);
    assert_eq!(
        typed("Words.\n\n  muster a \\\n      b\n  other c\nmuster d", &["muster"]),
        [["muster", "a", "b"]]
    );
}

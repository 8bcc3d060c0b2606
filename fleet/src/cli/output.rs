//! Where the CLI writes: data on stdout, words on stderr, nothing else anywhere.
//!
//! Owns the formats, the widths and what a broken pipe means (the reader has seen enough: end quietly). It never
//! colours: what matters must be readable in a log too.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde_json::Value;

use super::error::CliError;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Columns, for people.
    #[default]
    Table,
    /// The server's answer, unchanged, for programs.
    Json,
    /// One name a line, for the shell.
    Name,
}

pub(super) struct Output {
    format: Format,
    out: Box<dyn Write + Send + Sync>,
    err: Box<dyn Write + Send + Sync>,
    /// Width of the terminal that stdout is; none if it is none.
    width: Option<u16>,
    interactive: bool,
}

/// A table's column: its title, and where its text is found in an item.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) cell: fn(&Value) -> String,
}

impl Output {
    /// The process's own streams.
    pub(super) fn standard(format: Format) -> Self {
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        let interactive = io::stdin().is_terminal() && io::stderr().is_terminal();
        Self { format, out: Box::new(io::stdout()), err: Box::new(io::stderr()), width, interactive }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// A person sits at the terminal and can be asked.
    pub(super) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Stdout is a terminal that may be redrawn.
    pub(super) fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// A line of data.
    pub(super) fn line(&mut self, line: &str) -> Result<(), CliError> {
        writeln!(self.out, "{}", plain(line, '\t'))?;
        Ok(self.out.flush()?)
    }

    /// What is ours to the last byte, such as a page or a script.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes)?;
        Ok(self.out.flush()?)
    }

    /// A line of words.
    pub(super) fn say(&mut self, line: &str) -> Result<(), CliError> {
        writeln!(self.err, "{}", plain(line, '\n'))?;
        Ok(())
    }

    /// Words without a line's end, for a question.
    pub(super) fn ask(&mut self, question: &str) -> Result<(), CliError> {
        write!(self.err, "{}", plain(question, '\n'))?;
        Ok(self.err.flush()?)
    }

    pub(super) fn json(&mut self, value: &Value) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut self.out, value).map_err(io::Error::from)?;
        writeln!(self.out)?;
        Ok(self.out.flush()?)
    }

    /// A list in the format asked for. `name` is the pointer to what an item is called.
    pub(super) fn list(&mut self, answer: &Value, name: &str, columns: &[Column]) -> Result<(), CliError> {
        let items = answer.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        match self.format {
            Format::Json => self.json(answer),
            Format::Name => items.iter().try_for_each(|item| self.line(&text(item, name))),
            Format::Table if items.is_empty() => self.say("none"),
            Format::Table => self.table(items, columns),
        }
    }

    /// One thing in the format asked for, as lines of a title and a text.
    pub(super) fn show(&mut self, answer: &Value, name: &str, fields: &[Column]) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.json(answer),
            Format::Name => self.line(&text(answer, name)),
            Format::Table => self.fields(answer, fields),
        }
    }

    pub(super) fn fields(&mut self, item: &Value, fields: &[Column]) -> Result<(), CliError> {
        let longest = fields.iter().map(|field| field.title.len()).max().unwrap_or(0);
        for field in fields {
            let cell = (field.cell)(item);
            if !cell.is_empty() {
                self.line(&format!("{:<longest$}  {cell}", field.title))?;
            }
        }
        Ok(())
    }

    pub(super) fn table(&mut self, items: &[Value], columns: &[Column]) -> Result<(), CliError> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(columns.iter().map(|column| column.title));
        match self.width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            // A program that cuts columns must not find a name on two lines.
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        // The look of kubectl: the first column starts at the edge.
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        for item in items {
            table.add_row(columns.iter().map(|column| plain(&(column.cell)(item), ' ')));
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(self.out.flush()?)
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("format", &self.format)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

/// The text at a JSON pointer; empty where there is none.
pub(super) fn text(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Array(items)) => items.iter().map(|item| text(item, "")).collect::<Vec<_>>().join(", "),
        Some(other @ Value::Object(_)) => other.to_string(),
    }
}

/// Without what could steer a terminal; names come from the network.
pub(super) fn plain(text: &str, keep: char) -> String {
    text.chars().map(|c| if c.is_control() && c != keep { ' ' } else { c }).collect()
}

#[cfg(test)]
pub(super) mod capture {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn output(format: Format) -> (Output, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let output = Output {
            format,
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            width: None,
            interactive: false,
        };
        (output, out, err)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column { title: "NAME", cell: |item| text(item, "/name") },
        Column { title: "SITE", cell: |item| text(item, "/site") },
    ];

    #[test]
    fn formats() {
        let answer = json!({"items": [{"name": "er-1", "site": "a"}, {"name": "e\u{1b}[31m", "site": "bb"}]});
        let check = |format, expect: &str| {
            let (mut output, out, _) = capture::output(format);
            output.list(&answer, "/name", COLUMNS).unwrap();
            assert_eq!(out.text(), expect);
        };
        check(Format::Table, "NAME    SITE\ner-1    a\ne [31m  bb\n");
        check(Format::Name, "er-1\ne [31m\n");
        check(Format::Json, &format!("{}\n", serde_json::to_string_pretty(&answer).unwrap()));
    }

    #[test]
    fn an_empty_list_says_so_beside_the_data() {
        let (mut output, out, err) = capture::output(Format::Table);
        output.list(&json!({"items": []}), "/name", COLUMNS).unwrap();
        assert_eq!((out.text().as_str(), err.text().as_str()), ("", "none\n"));
    }

    #[test]
    fn texts() {
        let check = |value: Value, expect: &str| assert_eq!(text(&json!({ "x": value }), "/x"), expect);
        check(json!(null), "");
        check(json!(3), "3");
        check(json!(true), "yes");
        check(json!(["a", "b"]), "a, b");
    }
}

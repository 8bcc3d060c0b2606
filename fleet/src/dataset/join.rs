//! Captured rows and what became of them, put together: a table to learn from.
//!
//! Labels come later and by another way, so some do not fit: for predictions that nobody captured, from the future, or from
//! before their prediction. They are left out and counted, never guessed at.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::{CaptureId, Digest, SlotName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::{Column, Kind};

/// A captured file's first line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    pub request: CaptureId,
    pub slot: SlotName,
    pub bundle: Digest,
    /// Of the inputs that were allowed to be kept.
    pub columns: Vec<String>,
}

/// A captured file's other lines.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Line {
    /// World time.
    pub at: Timestamp,
    /// The application's name of the request.
    #[serde(default)]
    pub id: Option<String>,
    /// Which row of the request.
    pub row: u64,
    pub inputs: Vec<Value>,
    pub outputs: BTreeMap<String, Vec<Value>>,
}

/// A captured row.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub request: CaptureId,
    pub line: Line,
}

/// What became of a prediction: named by the sample or as the application named the request.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Label {
    pub id: String,
    pub label: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Number(f64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub columns: Vec<(Column, Vec<Cell>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows of the table: samples with a label.
    pub joined: u64,
    pub without_label: u64,
    /// Labels that were left out: of predictions that nobody captured …
    pub unknown: u64,
    /// … that say they are from later than now …
    pub future: u64,
    /// … or from before their prediction.
    pub early: u64,
    /// Labels that a later one of the same prediction replaced.
    pub replaced: u64,
    /// The same row in two files.
    pub repeated: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("{0} and {1} are captures of different columns, bundles or slots; export them one by one")]
    Mixed(CaptureId, CaptureId),
    #[error("a row of {request} has {found} inputs and not the {expected} that its file names")]
    Width { request: CaptureId, found: usize, expected: usize },
    #[error("no sample has a label")]
    Nothing,
}

impl Sample {
    /// What the row is called wherever it goes: the same for the same row, and says nothing about it.
    pub fn name(&self) -> String {
        let Line { at, id, row, .. } = &self.line;
        let text = format!("{}\n{}\n{}\n{row}", self.request, at, id.as_deref().unwrap_or_default());
        hex::encode(&Digest::of(text.as_bytes()).as_bytes()[..12])
    }

    /// By which names a label may mean it.
    fn names(&self) -> impl Iterator<Item = String> {
        let row = self.line.row;
        let own = self.line.id.iter().flat_map(move |id| {
            let first = (row == 0).then(|| id.clone());
            first.into_iter().chain([format!("{id}/{row}")])
        });
        own.chain([self.name()])
    }
}

/// The table of all samples that have a label.
pub fn join(
    headers: &[Header],
    samples: Vec<Sample>,
    labels: Vec<Label>,
    now: Timestamp,
) -> Result<(Table, Counts), JoinError> {
    let Some(header) = headers.first() else { return Err(JoinError::Nothing) };
    let alike = |other: &Header| {
        (&other.slot, &other.bundle, &other.columns) == (&header.slot, &header.bundle, &header.columns)
    };
    if let Some(other) = headers.iter().find(|other| !alike(other)) {
        return Err(JoinError::Mixed(header.request.clone(), other.request.clone()));
    }
    let mut counts = Counts::default();
    let mut seen = BTreeSet::new();
    let total = samples.len();
    let mut samples: Vec<Sample> = samples.into_iter().filter(|sample| seen.insert(sample.name())).collect();
    counts.repeated = (total - samples.len()) as u64;
    samples.sort_by_key(|a| (a.line.at, a.name()));
    let found = match_labels(&samples, labels, now, &mut counts);
    let rows: Vec<(&Sample, &Label)> =
        samples.iter().zip(&found).filter_map(|(sample, label)| Some((sample, label.as_ref()?))).collect();
    counts.joined = rows.len() as u64;
    counts.without_label = (samples.len() - rows.len()) as u64;
    if rows.is_empty() {
        return Err(JoinError::Nothing);
    }
    table(header, &rows).map(|table| (table, counts))
}

fn match_labels(
    samples: &[Sample],
    labels: Vec<Label>,
    now: Timestamp,
    counts: &mut Counts,
) -> Vec<Option<Label>> {
    let names: BTreeMap<String, usize> = samples
        .iter()
        .enumerate()
        .flat_map(|(at, sample)| sample.names().map(move |name| (name, at)))
        .collect();
    let mut found: Vec<Option<Label>> = vec![None; samples.len()];
    for label in labels {
        let Some(&at) = names.get(&label.id) else {
            counts.unknown += 1;
            continue;
        };
        if label.at > now {
            counts.future += 1;
        } else if label.at < samples[at].line.at {
            counts.early += 1;
        } else if let Some(known) = &mut found[at] {
            counts.replaced += 1;
            if label.at >= known.at {
                *known = label;
            }
        } else {
            found[at] = Some(label);
        }
    }
    found
}

fn table(header: &Header, rows: &[(&Sample, &Label)]) -> Result<Table, JoinError> {
    let width = header.columns.len();
    if let Some((wrong, _)) = rows.iter().find(|(sample, _)| sample.line.inputs.len() != width) {
        let (request, found) = (wrong.request.clone(), wrong.line.inputs.len());
        return Err(JoinError::Width { request, found, expected: width });
    }
    let outputs: BTreeMap<&str, usize> = rows
        .iter()
        .flat_map(|(sample, _)| {
            sample.line.outputs.iter().map(|(name, values)| (name.as_str(), values.len()))
        })
        .fold(BTreeMap::new(), |mut widths, (name, width)| {
            let known = widths.entry(name).or_default();
            *known = width.max(*known);
            widths
        });
    let mut columns = vec![
        column("sample", rows.iter().map(|(sample, _)| Cell::Text(sample.name())).collect()),
        times("at", rows.iter().map(|(sample, _)| sample.line.at)),
    ];
    for (at, name) in header.columns.iter().enumerate() {
        columns.push(column(name, rows.iter().map(|(sample, _)| cell(&sample.line.inputs[at])).collect()));
    }
    for (name, width) in outputs {
        for at in 0..width {
            let title = if width == 1 { format!("output:{name}") } else { format!("output:{name}[{at}]") };
            let value = |sample: &Sample| {
                sample.line.outputs.get(name).and_then(|values| values.get(at)).map_or(Cell::Null, cell)
            };
            columns.push(column(&title, rows.iter().map(|(sample, _)| value(sample)).collect()));
        }
    }
    let label = |label: &Label| label.label.parse().ok().filter(|number: &f64| number.is_finite());
    let labels = rows
        .iter()
        .map(|(_, found)| label(found).map_or_else(|| Cell::Text(found.label.clone()), Cell::Number));
    columns.push(column("label", labels.collect()));
    columns.push(times("labelled_at", rows.iter().map(|(_, label)| label.at)));
    Ok(Table { columns })
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(yes) => Cell::Number(f64::from(u8::from(*yes))),
        Value::Number(number) => number.as_f64().map_or(Cell::Null, Cell::Number),
        Value::String(text) => Cell::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Cell::Text(value.to_string()),
    }
}

/// Numbers, unless one of them is text.
fn column(name: &str, cells: Vec<Cell>) -> (Column, Vec<Cell>) {
    if !cells.iter().any(|cell| matches!(cell, Cell::Text(_))) {
        return (own(name, Kind::Real), cells);
    }
    let text = |cell: Cell| match cell {
        Cell::Number(number) => Cell::Text(super::profile::shown(number)),
        Cell::Null | Cell::Text(_) => cell,
    };
    (own(name, Kind::Text), cells.into_iter().map(text).collect())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a time that can be shown are below 2^53")]
fn times(name: &str, at: impl Iterator<Item = Timestamp>) -> (Column, Vec<Cell>) {
    (own(name, Kind::Time), at.map(|at| Cell::Number(at.as_millis() as f64)).collect())
}

/// What the writer stores it as is the writer's to say.
fn own(name: &str, kind: Kind) -> Column {
    Column { name: name.to_owned(), kind, stored: String::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(n: u8) -> Header {
        Header {
            request: CaptureId::mint([n; 16]),
            slot: "m".parse().unwrap(),
            bundle: Digest::of(b"b"),
            columns: vec!["age".to_owned(), "ward".to_owned()],
        }
    }

    fn sample(id: &str, at: i64) -> Sample {
        let line = json!({"at": Timestamp::from_seconds(at), "id": id, "row": 0, "inputs": [30, "er"], "outputs": {"risk": [0.5]}});
        Sample { request: header(1).request, line: serde_json::from_value(line).unwrap() }
    }

    fn label(id: &str, label: &str, at: i64) -> Label {
        Label { id: id.to_owned(), label: label.to_owned(), at: Timestamp::from_seconds(at) }
    }

    #[test]
    fn labels_that_do_not_fit_are_counted_and_left_out() {
        let samples =
            vec![sample("a", 10), sample("b", 20), sample("c", 30), sample("c", 30), sample("d", 40)];
        let labels = vec![
            label("a", "1", 50),
            label("b", "0", 101),
            label("c", "0", 29),
            label("d", "0", 60),
            label("d", "1", 70),
            label("d", "0", 65),
            label("who", "1", 50),
        ];
        let (table, counts) = join(&[header(1)], samples, labels, Timestamp::from_seconds(100)).unwrap();
        let expect =
            Counts { joined: 2, without_label: 2, unknown: 1, future: 1, early: 1, replaced: 2, repeated: 1 };
        assert_eq!(counts, expect);
        let (column, cells) = &table.columns[5];
        assert_eq!((column.name.as_str(), cells), ("label", &vec![Cell::Number(1.0), Cell::Number(1.0)]));
        let names: Vec<&str> = table.columns.iter().map(|(column, _)| column.name.as_str()).collect();
        assert_eq!(names, ["sample", "at", "age", "ward", "output:risk", "label", "labelled_at"]);
        assert_eq!(table.columns[3].0.kind, Kind::Text);
    }

    #[test]
    fn a_sample_is_found_by_each_of_its_names() {
        let one = sample("a", 10);
        for name in ["a".to_owned(), "a/0".to_owned(), one.name()] {
            let (_, counts) = join(
                &[header(1)],
                vec![one.clone()],
                vec![label(&name, "yes", 20)],
                Timestamp::from_seconds(30),
            )
            .unwrap();
            assert_eq!(counts.joined, 1, "{name}");
        }
        assert!(!one.name().contains('a') || one.name() != "a");
    }

    #[test]
    fn files_of_different_captures_are_not_mixed() {
        let other = Header { bundle: Digest::of(b"c"), ..header(2) };
        let mixed = join(&[header(1), other.clone()], Vec::new(), Vec::new(), Timestamp::from_seconds(0));
        assert_eq!(mixed.unwrap_err(), JoinError::Mixed(header(1).request, other.request));
        let mut narrow = sample("a", 10);
        narrow.line.inputs.pop();
        let wrong = join(&[header(1)], vec![narrow], vec![label("a", "1", 20)], Timestamp::from_seconds(30));
        assert!(matches!(wrong, Err(JoinError::Width { found: 1, expected: 2, .. })));
        let nothing = join(&[header(1)], vec![sample("a", 10)], Vec::new(), Timestamp::from_seconds(30));
        assert_eq!(nothing.unwrap_err(), JoinError::Nothing);
    }
}

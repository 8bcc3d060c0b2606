//! The drift reference of a bundle: what each monitored stream looked like, and how much it varies from window to
//! window by itself, learnt by replaying the time-ordered rows as a box would have counted them.

use std::collections::BTreeMap;

use muster_protocol::drift::{Counter, Counts, CountsError, Reference, ReferenceError, Rule};
use muster_protocol::ids::StreamName;
use muster_protocol::manifest::reference::REFERENCE_SCHEMA;
use muster_protocol::manifest::{ReferenceFile, Signature, Source, Stream, StreamReference};

use super::output::width;
use super::rows::{ReferenceRows, Rows};

#[derive(Debug, thiserror::Error)]
pub enum DriftError {
    #[error("the stream '{stream}' has no reference")]
    Reference {
        stream: StreamName,
        #[source]
        source: ReferenceError,
    },
    #[error("the stream '{stream}' could not be replayed")]
    Replay {
        stream: StreamName,
        #[source]
        source: CountsError,
    },
    #[error("the stream '{stream}' reads the tensor '{tensor}', which the signature does not have")]
    Tensor { stream: StreamName, tensor: String },
}

/// Makes the reference from input rows and the model's answers to them.
pub fn reference(
    signature: &Signature,
    streams: &[Stream],
    rows: &ReferenceRows,
    answers: &[Rows],
    window_h: u64,
) -> Result<ReferenceFile, DriftError> {
    let windows = windows(rows, window_h);
    let mut made = BTreeMap::new();
    for stream in streams {
        let column = Column::of(signature, stream, &rows.rows, answers)?;
        made.insert(stream.name.clone(), column.learn(&stream.name, &windows)?);
    }
    Ok(ReferenceFile { schema: REFERENCE_SCHEMA.to_owned(), streams: made })
}

/// Row numbers of each window of each group, in time order: what one box would have put into its windows. Windows that
/// follow each other are also replayed together, so a group's windows stay together.
fn windows(rows: &ReferenceRows, window_h: u64) -> Vec<Vec<Vec<usize>>> {
    let mut cut: BTreeMap<usize, BTreeMap<i64, Vec<usize>>> = BTreeMap::new();
    for (row, (&group, &time_h)) in rows.groups.iter().zip(&rows.time_h).enumerate() {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "hours, a few millions"
        )]
        let window = (time_h / window_h.max(1) as f64).floor() as i64;
        cut.entry(group).or_default().entry(window).or_default().push(row);
    }
    cut.into_values().map(|windows| windows.into_values().collect()).collect()
}

/// The values of one stream, in the order of the rows.
enum Column<'a> {
    Numeric(Vec<f32>),
    Categorical(Vec<Option<&'a str>>),
}

impl<'a> Column<'a> {
    fn of(
        signature: &Signature,
        stream: &'a Stream,
        inputs: &Rows,
        answers: &[Rows],
    ) -> Result<Self, DriftError> {
        let unknown =
            || DriftError::Tensor { stream: stream.name.clone(), tensor: stream.source.tensor().to_owned() };
        let (table, from) = locate(signature, stream.source.tensor(), inputs, answers).ok_or_else(unknown)?;
        Ok(match &stream.source {
            Source::Numeric { column, null_when_column, .. } => {
                let value = |row: &[f32]| {
                    let is_null =
                        null_when_column.is_some_and(|flag| row.get(from + flag).is_some_and(|&v| v != 0.0));
                    if is_null { f32::NAN } else { row.get(from + column).copied().unwrap_or(f32::NAN) }
                };
                Self::Numeric(table.iter().map(value).collect())
            }
            Source::OneHot { first_column, categories, .. } => {
                let first = from + first_column;
                let category = |row: &[f32]| {
                    let hot = row.iter().skip(first).take(categories.len()).position(|&v| v > 0.5)?;
                    categories.get(hot).map(String::as_str)
                };
                Self::Categorical(table.iter().map(category).collect())
            }
        })
    }

    fn learn(&self, name: &StreamName, boxes: &[Vec<Vec<usize>>]) -> Result<StreamReference, DriftError> {
        let made = match self {
            Self::Numeric(values) => Reference::numeric(values),
            Self::Categorical(values) => Reference::categorical(values.iter().copied()),
        };
        let reference = made.map_err(|source| DriftError::Reference { stream: name.clone(), source })?;
        let mut counter = Counter::new(&reference);
        let mut count = |windows: &Vec<Vec<usize>>| -> Vec<Counts> {
            windows.iter().map(|rows| self.count(&mut counter, rows)).collect()
        };
        let counted: Vec<Vec<Counts>> = boxes.iter().map(&mut count).collect();
        StreamReference::replay(reference, &counted, &Rule::default())
            .map_err(|source| DriftError::Replay { stream: name.clone(), source })
    }

    fn count(&self, counter: &mut Counter, rows: &[usize]) -> Counts {
        match (self, &mut *counter) {
            (Self::Numeric(values), Counter::Numeric(counter)) => {
                rows.iter().filter_map(|&row| values.get(row)).for_each(|&value| counter.observe(value));
            }
            (Self::Categorical(values), Counter::Categorical(counter)) => {
                rows.iter().filter_map(|&row| values.get(row)).for_each(|&value| counter.observe(value));
            }
            (Self::Numeric(_), Counter::Categorical(_)) | (Self::Categorical(_), Counter::Numeric(_)) => {}
        }
        counter.take()
    }
}

/// The table that holds a tensor, and the tensor's first column in it.
fn locate<'a>(
    signature: &Signature,
    tensor: &str,
    inputs: &'a Rows,
    answers: &'a [Rows],
) -> Option<(&'a Rows, usize)> {
    let mut from = 0;
    for input in &signature.inputs {
        if input.name == tensor {
            return Some((inputs, from));
        }
        from += width(input)?;
    }
    let at = signature.outputs.iter().position(|output| output.name == tensor)?;
    Some((answers.get(at)?, 0))
}

#[cfg(test)]
mod tests {
    use muster_protocol::manifest::{Datatype, Tensor};

    use super::*;

    fn tensor(name: &str, columns: i64) -> Tensor {
        Tensor {
            name: name.to_owned(),
            datatype: Datatype::Fp32,
            shape: vec![-1, columns],
            features: Vec::new(),
        }
    }

    fn stream(json: serde_json::Value) -> Stream {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn streams_find_their_columns() {
        let signature =
            Signature { inputs: vec![tensor("w", 1), tensor("x", 4)], outputs: vec![tensor("y", 1)] };
        let mut inputs = Rows::new(5);
        let mut answers = Rows::new(1);
        let (mut groups, mut time_h) = (Vec::new(), Vec::new());
        for i in 0..480_u16 {
            let missing = f32::from(i % 10 == 0);
            let hot = f32::from(i % 3 == 0);
            inputs.extend([f32::from(i), f32::from(i % 50), missing, hot, 1.0 - hot]);
            answers.extend([f32::from(i) / 480.0]);
            groups.push(usize::from(i % 2));
            time_h.push(f64::from(i));
        }
        let rows = ReferenceRows { rows: inputs, groups, time_h };
        let streams = [
            stream(
                serde_json::json!({"name":"n","kind":"numeric","tensor":"x","column":0,"null_when_column":1}),
            ),
            stream(
                serde_json::json!({"name":"c","kind":"one_hot","tensor":"x","first_column":2,"categories":["p","q"]}),
            ),
            stream(serde_json::json!({"name":"y","kind":"numeric","tensor":"y","column":0})),
        ];
        let file = reference(&signature, &streams, &rows, &[answers], 24).unwrap();
        let of = |name: &str| &file.streams[&name.parse::<StreamName>().unwrap()];
        assert_eq!((of("n").reference.m(), of("n").reference.nulls()), (432, 48));
        assert_eq!(of("c").reference.counts(), [320, 160]);
        assert_eq!(of("y").over_dispersion.windows(), Some(40), "20 days of 2 groups");
        let merged: Vec<_> = of("y").merged.iter().map(|m| (m.size, m.over_dispersion.windows())).collect();
        assert_eq!(merged, [(4, Some(10))], "each group's days four at a time; not enough for sixteen");
        // What is written is what is read.
        let bytes = serde_json::to_vec(&file).unwrap();
        let names: Vec<_> = streams.iter().map(|stream| stream.name.clone()).collect();
        assert_eq!(ReferenceFile::parse(&bytes, &names).unwrap(), file);
    }

    #[test]
    fn a_stream_without_values_is_an_error() {
        let signature = Signature { inputs: vec![tensor("x", 2)], outputs: vec![tensor("y", 1)] };
        let mut inputs = Rows::new(2);
        inputs.extend([1.0, 1.0, 2.0, 1.0]);
        let rows = ReferenceRows { rows: inputs, groups: vec![0, 0], time_h: vec![0.0, 1.0] };
        let all_null = stream(
            serde_json::json!({"name":"n","kind":"numeric","tensor":"x","column":0,"null_when_column":1}),
        );
        let error = reference(&signature, &[all_null], &rows, &[], 24).unwrap_err();
        assert!(matches!(error, DriftError::Reference { .. }));
    }
}

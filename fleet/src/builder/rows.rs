//! Rows of numbers in memory, and how a trainer's CSV files become them.
//!
//! Every complaint names the file, the line and the column. A value that is not a finite number is refused: the
//! runtime hides NaN in its inputs, so it must not get that far.

use std::collections::BTreeMap;
use std::path::Path;

use super::output::OutputError;

/// Rows of one file; beyond it a trainer should sample.
const ROWS_MAX: usize = 2_000_000;
/// Numbers of one file, at four bytes each.
const VALUES_MAX: usize = 256 * 1024 * 1024;

/// A matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    width: usize,
    data: Vec<f32>,
}

/// Rows that no model was trained on, with what really happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Holdout {
    pub rows: Rows,
    pub labels: Vec<f32>,
}

/// Rows of ordinary operation, in time order within each group: what "as usual" looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceRows {
    pub rows: Rows,
    /// Which group each row belongs to, in order of first appearance.
    pub groups: Vec<usize>,
    pub time_h: Vec<f64>,
}

impl Rows {
    /// No rows yet, of this many columns.
    pub fn new(width: usize) -> Self {
        Self { width, data: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.width).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.width.max(1))
    }

    pub fn column(&self, column: usize) -> impl Iterator<Item = f32> {
        self.iter().filter_map(move |row| row.get(column).copied())
    }

    /// At most the first `count` rows.
    #[must_use]
    pub fn head(&self, count: usize) -> Self {
        Self { width: self.width, data: self.data[..self.data.len().min(count * self.width)].to_vec() }
    }

    /// In pieces of at most `count` rows.
    pub fn batches(&self, count: usize) -> impl Iterator<Item = &[f32]> {
        self.data.chunks((count * self.width).max(1))
    }

    pub fn extend(&mut self, values: impl IntoIterator<Item = f32>) {
        self.data.extend(values);
    }
}

impl Holdout {
    /// Reads `<features>,label`.
    pub fn read(path: &Path, features: &[&str]) -> Result<Self, OutputError> {
        let mut csv = Csv::open(path, &[], features, &["label"])?;
        let (mut rows, mut labels) = (Rows::new(features.len()), Vec::new());
        while let Some(line) = csv.next()? {
            for column in 0..features.len() {
                rows.data.push(line.number(column)?);
            }
            labels.push(line.number(features.len())?);
        }
        csv.not_empty(rows.len())?;
        Ok(Self { rows, labels })
    }
}

impl ReferenceRows {
    /// Reads `group,time_h,<features>`.
    pub fn read(path: &Path, features: &[&str]) -> Result<Self, OutputError> {
        let mut csv = Csv::open(path, &["group", "time_h"], features, &[])?;
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut latest: Vec<f64> = Vec::new();
        let mut all = Self { rows: Rows::new(features.len()), groups: Vec::new(), time_h: Vec::new() };
        while let Some(line) = csv.next()? {
            let next = names.len();
            let group = *names.entry(line.text(0)?.to_owned()).or_insert(next);
            let time: f64 = line.parse(1)?;
            match latest.get_mut(group) {
                None => latest.push(time),
                Some(before) if *before <= time => *before = time,
                Some(before) => {
                    let what = format!(
                        "time_h {time} comes after {before} in group '{}'; sort the rows of each group by time",
                        line.text(0)?
                    );
                    return Err(line.wrong(what));
                }
            }
            all.groups.push(group);
            all.time_h.push(time);
            for column in 0..features.len() {
                all.rows.data.push(line.number(column + 2)?);
            }
        }
        csv.not_empty(all.rows.len())?;
        Ok(all)
    }
}

struct Csv {
    file: String,
    header: Vec<String>,
    reader: csv::Reader<std::fs::File>,
    record: csv::StringRecord,
    rows: usize,
}

struct Line<'a> {
    csv: &'a Csv,
    number: u64,
}

impl Csv {
    fn open(path: &Path, head: &[&str], features: &[&str], tail: &[&str]) -> Result<Self, OutputError> {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let opened = std::fs::File::open(path).map_err(|source| OutputError::of(&file, source))?;
        let mut reader = csv::ReaderBuilder::new().from_reader(opened);
        let wrong = |what: String| OutputError::Wrong { file: file.clone(), what };
        let found: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(str::to_owned).collect(),
            Err(error) => return Err(wrong(format!("has no readable header: {error}"))),
        };
        let expect: Vec<&str> = [head, features, tail].concat();
        for (at, name) in expect.iter().enumerate() {
            match found.get(at) {
                Some(have) if have == name => {}
                Some(have) => {
                    let at = at + 1;
                    return Err(wrong(format!("column {at} is called '{have}' where '{name}' is expected")));
                }
                None => return Err(wrong(format!("has {at} columns; the column '{name}' is missing"))),
            }
        }
        if let Some(extra) = found.get(expect.len()) {
            return Err(wrong(format!("has a column '{extra}' that the signature does not know")));
        }
        Ok(Self { file, header: found, reader, record: csv::StringRecord::new(), rows: 0 })
    }

    fn next(&mut self) -> Result<Option<Line<'_>>, OutputError> {
        match self.reader.read_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(self.wrong(format!("is not readable CSV: {error}"))),
        }
        self.rows += 1;
        if self.rows > ROWS_MAX || self.rows.saturating_mul(self.header.len()) > VALUES_MAX {
            return Err(self.wrong(format!("has more than {} rows; let the trainer sample", self.rows - 1)));
        }
        let number = self.record.position().map_or(0, csv::Position::line);
        Ok(Some(Line { csv: self, number }))
    }

    fn not_empty(&self, rows: usize) -> Result<(), OutputError> {
        if rows == 0 { Err(self.wrong("has a header and no rows".to_owned())) } else { Ok(()) }
    }

    fn wrong(&self, what: String) -> OutputError {
        OutputError::Wrong { file: self.file.clone(), what }
    }
}

impl Line<'_> {
    fn text(&self, column: usize) -> Result<&str, OutputError> {
        self.csv.record.get(column).ok_or_else(|| self.wrong(format!("has only {column} columns")))
    }

    fn parse(&self, column: usize) -> Result<f64, OutputError> {
        let text = self.text(column)?;
        match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) | Err(_) => {
                let name = self.csv.header.get(column).map_or("", String::as_str);
                let shown: String = text.chars().take(40).collect();
                Err(self.wrong(format!("'{shown}' in column '{name}' is not a finite number")))
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the model reads f32; what overflows it is refused")]
    fn number(&self, column: usize) -> Result<f32, OutputError> {
        let value = self.parse(column)? as f32;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(self.wrong("holds a number too large for FP32".to_owned()))
        }
    }

    fn wrong(&self, what: impl std::fmt::Display) -> OutputError {
        OutputError::Wrong { file: self.csv.file.clone(), what: format!("line {}: {what}", self.number) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn holdout(text: &str) -> Result<Holdout, String> {
        let file = file(text);
        let name = file.path().file_name().unwrap().to_string_lossy().into_owned();
        Holdout::read(file.path(), &["a", "b"]).map_err(|error| error.to_string().replace(&name, "FILE"))
    }

    fn reference(text: &str) -> Result<ReferenceRows, String> {
        let file = file(text);
        let name = file.path().file_name().unwrap().to_string_lossy().into_owned();
        ReferenceRows::read(file.path(), &["a"]).map_err(|error| error.to_string().replace(&name, "FILE"))
    }

    #[test]
    fn holdouts() {
        let read = holdout("a,b,label\n1,2.5,0\n-3,4,1\n").unwrap();
        assert_eq!(read.rows.iter().collect::<Vec<_>>(), [[1.0, 2.5], [-3.0, 4.0]]);
        assert_eq!(read.labels, [0.0, 1.0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expect: &str| assert_eq!(holdout(text).unwrap_err(), expect);
        check("a,label\n1,0\n", "FILE: column 2 is called 'label' where 'b' is expected");
        check("a,b\n1,0\n", "FILE: has 2 columns; the column 'label' is missing");
        check("a,b,label,c\n", "FILE: has a column 'c' that the signature does not know");
        check("a,b,label\n", "FILE: has a header and no rows");
        check("a,b,label\n1,2,0\n1,nan,0\n", "FILE: line 3: 'nan' in column 'b' is not a finite number");
        check("a,b,label\n1,,0\n", "FILE: line 2: '' in column 'b' is not a finite number");
        check("a,b,label\n1,1e39,0\n", "FILE: line 2: holds a number too large for FP32");
        assert!(holdout("a,b,label\n1,2\n").unwrap_err().starts_with("FILE: is not readable CSV"));
        assert!(holdout("").unwrap_err().contains("the column 'a' is missing") || holdout("").is_err());
    }

    #[test]
    fn reference_rows_are_in_time_order_within_their_group() {
        let read = reference("group,time_h,a\ner-1,0,1\ner-2,0,2\ner-1,5,3\n").unwrap();
        assert_eq!(read.groups, [0, 1, 0]);
        assert_eq!(read.time_h, [0.0, 0.0, 5.0]);
        assert_eq!(
            reference("group,time_h,a\ner-1,5,1\ner-1,4,1\n").unwrap_err(),
            "FILE: line 3: time_h 4 comes after 5 in group 'er-1'; sort the rows of each group by time"
        );
    }
}

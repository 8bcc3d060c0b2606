//! Rows that a site captured for itself, decrypted by whoever holds its key.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::CliError;
use crate::dataset::join::{Header, Line, Sample};

const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const SAMPLES_MAX: usize = 2_000_000;

/// The rows of several files, and what each file says it is.
#[derive(Debug, Default)]
pub(in crate::cli) struct Samples {
    pub(in crate::cli) headers: Vec<Header>,
    /// Each with its file's place among the headers.
    pub(in crate::cli) rows: Vec<(usize, Sample)>,
}

impl Samples {
    /// Reads files of JSON lines as `age --decrypt` writes them; `-` is stdin, where several may follow each other.
    pub(in crate::cli) fn read(paths: &[PathBuf]) -> Result<Self, CliError> {
        let mut samples = Self::default();
        for path in paths {
            let failed = |what: String| {
                let next = "decrypt it first: age --decrypt --identity site.key FILE.age > FILE.jsonl";
                CliError::failed(format!("{}: {what}", path.display()), next)
            };
            let from: Box<dyn Read> = if path == Path::new("-") {
                Box::new(std::io::stdin())
            } else {
                Box::new(File::open(path).map_err(|error| failed(error.to_string()))?)
            };
            samples.take(from).map_err(failed)?;
        }
        Ok(samples)
    }

    fn take(&mut self, from: impl Read) -> Result<(), String> {
        let mut from = BufReader::new(from);
        let mut own = None;
        for number in 1.. {
            let mut line = Vec::new();
            let read = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|error| error.to_string())? == 0 {
                break;
            }
            let wrong = |error: serde_json::Error| format!("line {number}: {error}");
            let value: Value = serde_json::from_slice(&line).map_err(wrong)?;
            if value.get("columns").is_some() {
                own = Some(self.headers.len());
                self.headers.push(serde_json::from_value(value).map_err(wrong)?);
                continue;
            }
            let at =
                own.ok_or_else(|| format!("line {number}: the first line does not say what the file is"))?;
            if self.rows.len() == SAMPLES_MAX {
                return Err(format!("there are more than {SAMPLES_MAX} rows"));
            }
            let line: Line = serde_json::from_value(value).map_err(wrong)?;
            self.rows.push((at, Sample { request: self.headers[at].request.clone(), line }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"v":1,"request":"cap-00000000000000000000000001","slot":"m","bundle":"0000000000000000000000000000000000000000000000000000000000000000","why":"review","sample":{"every":1},"begun":"2026-11-24T02:00:00Z","columns":["age"]}"#;
    const ROW: &str =
        r#"{"at":"2026-11-24T02:00:00Z","id":"a","row":0,"inputs":[30],"outputs":{"risk":[0.5]}}"#;

    #[test]
    fn files_may_follow_each_other() {
        let mut samples = Samples::default();
        samples.take(format!("{HEADER}\n{ROW}\n{HEADER}\n{ROW}\n{ROW}\n").as_bytes()).unwrap();
        assert_eq!((samples.headers.len(), samples.rows.len(), samples.rows[2].0), (2, 3, 1));
    }

    #[test]
    fn what_is_no_capture_is_refused_with_its_line() {
        let check = |text: &str, part: &str| {
            let error = Samples::default().take(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("age-encryption.org/v1\n", "line 1");
        check(ROW, "does not say what the file is");
        check(&format!("{HEADER}\n{{}}\n"), "line 2");
    }
}

//! Is a challenger worse for somebody, while it is better for all? Each part of the recent holdout by itself, paired.
//!
//! A trainer may write `slices_recent.csv`: a column for each way to divide the rows (`site`, `device_class`), a row for
//! each row of the holdout. Both models are held to the metric that decides for all rows too, never to decisions: where
//! a threshold belongs to one of the models, the other one's decisions by it say nothing.

use std::collections::BTreeMap;
use std::path::Path;

use muster_protocol::drift::special::chi2_sf;
use serde::Serialize;

use super::output::OutputError;

pub(super) const SLICES_FILE: &str = "slices_recent.csv";
/// Ways to divide the rows, and parts of all of them together.
const DIVISIONS_MAX: usize = 4;
pub(super) const SLICES_MAX: usize = 64;
/// Fewer rows say nothing.
const ROWS_MIN: usize = 30;

/// Which rows belong together: `site` `er-1` → their places.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slices(BTreeMap<(String, String), Vec<usize>>);

/// How both models do on one part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SliceScore {
    pub by: String,
    pub value: String,
    pub rows: usize,
    /// By how much the challenger's metric is worse, relative to the champion's.
    pub worse: Option<f64>,
    /// How often chance alone would make it look as bad.
    pub p: Option<f64>,
}

impl Slices {
    /// No file is no slices.
    pub fn read(path: &Path, rows: usize) -> Result<Self, OutputError> {
        let wrong = |what: String| OutputError::Wrong { file: SLICES_FILE.to_owned(), what };
        if !path.exists() {
            return Ok(Self::default());
        }
        let opened = std::fs::File::open(path).map_err(|source| OutputError::of(SLICES_FILE, source))?;
        let mut reader = csv::Reader::from_reader(opened);
        let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
        if header.is_empty() || header.len() > DIVISIONS_MAX {
            return Err(wrong(format!("has {} columns; use 1 to {DIVISIONS_MAX}", header.len())));
        }
        let mut parts: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        let mut found = 0;
        for record in reader.records() {
            let record = record.map_err(|error| wrong(error.to_string()))?;
            for (by, value) in header.iter().zip(&record) {
                parts.entry((by.to_owned(), value.to_owned())).or_default().push(found);
            }
            if parts.len() > SLICES_MAX {
                return Err(wrong(format!("divides the rows into more than {SLICES_MAX} parts")));
            }
            found += 1;
            if found > rows {
                break;
            }
        }
        if found != rows {
            return Err(wrong(format!("must have the {rows} rows of holdout_recent.csv")));
        }
        Ok(Self(parts))
    }

    /// Compares both models row by row on every part: how wrong the challenger is, and the champion.
    pub fn compare(&self, challenger: &[f64], champion: &[f64]) -> Vec<SliceScore> {
        let score = |((by, value), places): (&(String, String), &Vec<usize>)| {
            let pairs: Vec<(f64, f64)> = places
                .iter()
                .filter_map(|&place| Some((*challenger.get(place)?, *champion.get(place)?)))
                .collect();
            let judged = (pairs.len() >= ROWS_MIN).then(|| paired(&pairs));
            SliceScore {
                by: by.clone(),
                value: value.clone(),
                rows: pairs.len(),
                worse: judged.map(|(worse, _)| worse),
                p: judged.map(|(_, p)| p),
            }
        };
        self.0.iter().map(score).collect()
    }
}

/// The mean of the paired differences, relative to the second's mean; and the chance of it, by its standard errors.
fn paired(pairs: &[(f64, f64)]) -> (f64, f64) {
    let n = real(pairs.len());
    let mean = pairs.iter().map(|(new, old)| new - old).sum::<f64>() / n;
    let champion = pairs.iter().map(|(_, old)| old).sum::<f64>() / n;
    let squares = pairs.iter().map(|(new, old)| (new - old - mean).powi(2)).sum::<f64>();
    let se = (squares / (n - 1.0) / n).sqrt();
    let z = mean / se.max(f64::MIN_POSITIVE);
    let tail = chi2_sf(z * z, 1.0) / 2.0;
    (mean / champion.max(f64::MIN_POSITIVE), if z > 0.0 { tail } else { 1.0 - tail })
}

#[expect(clippy::cast_precision_loss, reason = "rows are bounded far below 2^52")]
fn real(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(text: &str, rows: usize) -> Result<Slices, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Slices::read(file.path(), rows).map_err(|error| error.to_string())
    }

    #[test]
    fn a_part_that_gets_worse_is_found_while_all_get_better() {
        let text: String = std::iter::once("class\n".to_owned())
            .chain((0..400).map(|row| if row % 4 == 0 { "old\n" } else { "new\n" }.to_owned()))
            .collect();
        let slices = slices(&text, 400).unwrap();
        // The challenger is wrong on the old boxes, the champion on the new ones.
        let wrong = |of_old: f64, of_new: f64| {
            (0..400)
                .map(|row| if row % 4 == 0 { of_old } else { of_new } + f64::from(row % 7) / 100.0)
                .collect()
        };
        let (challenger, champion): (Vec<f64>, Vec<f64>) = (wrong(0.9, 0.1), wrong(0.1, 0.9));
        let found = slices.compare(&challenger, &champion);
        let of = |value: &str| found.iter().find(|slice| slice.value == value).unwrap();
        assert_eq!(of("old").rows, 100);
        assert!(of("old").worse > Some(5.0) && of("old").p.unwrap() < 1e-20);
        assert!(of("new").worse < Some(-0.8) && of("new").p.unwrap() > 0.99);
    }

    #[test]
    fn what_does_not_fit_the_holdout_is_refused() {
        assert!(slices("site\na\n", 2).unwrap_err().contains("must have the 2 rows"));
        assert!(slices("site\na\nb\nc\n", 2).unwrap_err().contains("must have the 2 rows"));
        let many: String = (0..100).map(|n| n.to_string() + "\n").collect();
        assert!(slices(&format!("site\n{many}"), 100).unwrap_err().contains("more than 64"));
        assert_eq!(Slices::read(Path::new("/nowhere"), 2).unwrap(), Slices::default());
    }
}

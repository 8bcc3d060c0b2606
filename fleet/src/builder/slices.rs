//! Is a challenger worse for somebody, while it is better for all? Each part of the recent holdout by itself, paired.
//!
//! A trainer may write `slices_recent.csv`: a column for each way to divide the rows (`site`, `device_class`), a row for
//! each row of the holdout. Decisions are compared by `McNemar`'s exact test, numbers by the mean of paired differences.

use std::collections::BTreeMap;
use std::path::Path;

use muster_protocol::drift::special::{chi2_sf, ln_gamma};
use muster_protocol::manifest::Task;
use serde::Serialize;

use super::output::OutputError;
use super::rows::Rows;

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
    /// By how much the challenger is worse: of wrong decisions the share, of absolute errors relative to the champion's.
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

    /// All rows as one part.
    pub fn whole(rows: usize) -> Self {
        Self(BTreeMap::from([(("all".to_owned(), "rows".to_owned()), (0..rows).collect())]))
    }

    /// Compares both models' first outputs on every part.
    pub fn compare(
        &self,
        task: Task,
        threshold: Option<f64>,
        labels: &[f32],
        challenger: &Rows,
        champion: &Rows,
    ) -> Vec<SliceScore> {
        let losses = |answers: &Rows| losses(task, threshold, labels, answers);
        let (new, old) = (losses(challenger), losses(champion));
        let score = |((by, value), places): (&(String, String), &Vec<usize>)| {
            let pairs: Vec<(f64, f64)> =
                places.iter().filter_map(|&place| Some((*new.get(place)?, *old.get(place)?))).collect();
            let judged = (pairs.len() >= ROWS_MIN).then(|| match task {
                Task::Binary | Task::Classification => decisions(&pairs),
                Task::Regression => numbers(&pairs),
            });
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

/// Of each row: 1 for a wrong decision, or how far off the number is.
fn losses(task: Task, threshold: Option<f64>, labels: &[f32], answers: &Rows) -> Vec<f64> {
    let wrong = |decided: usize, label: f32| {
        let decided = real(decided);
        if (decided - f64::from(label)).abs() < 0.5 { 0.0 } else { 1.0 }
    };
    let loss = |(answer, &label): (&[f32], &f32)| {
        let first = f64::from(answer.first().copied().unwrap_or(f32::NAN));
        match task {
            Task::Regression => (first - f64::from(label)).abs(),
            Task::Binary => wrong(usize::from(first >= threshold.unwrap_or(0.5)), label),
            Task::Classification => {
                let best = answer.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                wrong(best.map_or(0, |(class, _)| class), label)
            }
        }
    };
    answers.iter().zip(labels).map(loss).collect()
}

/// `McNemar`: of the rows that one gets right and the other wrong, are too many the challenger's faults?
fn decisions(pairs: &[(f64, f64)]) -> (f64, f64) {
    let faults = pairs.iter().filter(|(new, old)| new > old).count();
    let repairs = pairs.iter().filter(|(new, old)| new < old).count();
    let worse = (real(faults) - real(repairs)) / real(pairs.len());
    (worse, half_or_more(faults, faults + repairs))
}

/// The chance of at least `k` heads in `n` throws.
fn half_or_more(k: usize, n: usize) -> f64 {
    let ln_choose = |i: usize| ln_gamma(real(n + 1)) - ln_gamma(real(i + 1)) - ln_gamma(real(n - i + 1));
    let all = real(n) * std::f64::consts::LN_2;
    (k..=n).map(|i| (ln_choose(i) - all).exp()).sum::<f64>().min(1.0)
}

/// The mean of the paired differences in its standard errors.
fn numbers(pairs: &[(f64, f64)]) -> (f64, f64) {
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

    fn rows(values: &[f32]) -> Rows {
        let mut rows = Rows::new(1);
        rows.extend(values.iter().copied());
        rows
    }

    fn slices(text: &str, rows: usize) -> Result<Slices, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Slices::read(file.path(), rows).map_err(|error| error.to_string())
    }

    #[test]
    fn the_tail_of_coins_is_scipys() {
        // scipy.stats.binom.sf(k - 1, n, 0.5)
        for (k, n, expect) in [(0, 0, 1.0), (5, 5, 0.03125), (8, 10, 0.054_687_5), (30, 40, 0.001_110_716)] {
            let p = half_or_more(k, n);
            assert!((p - expect).abs() < 1e-8, "{k} of {n}: {p}");
        }
    }

    #[test]
    fn a_part_that_gets_worse_is_found_while_all_get_better() {
        let text: String = std::iter::once("class\n".to_owned())
            .chain((0..400).map(|row| if row % 4 == 0 { "old\n" } else { "new\n" }.to_owned()))
            .collect();
        let slices = slices(&text, 400).unwrap();
        let labels = vec![1.0; 400];
        // The champion is right on the old boxes only; the challenger on the new ones only.
        let answer = |of_old: f32, of_new: f32| {
            rows(&(0..400).map(|row| if row % 4 == 0 { of_old } else { of_new }).collect::<Vec<_>>())
        };
        let found = slices.compare(Task::Binary, None, &labels, &answer(0.1, 0.9), &answer(0.9, 0.1));
        let of = |value: &str| found.iter().find(|slice| slice.value == value).unwrap();
        assert_eq!((of("old").rows, of("old").worse), (100, Some(1.0)));
        assert!(of("old").p.unwrap() < 1e-20);
        assert!(of("new").worse < Some(0.0) && of("new").p.unwrap() > 0.99);
        let off = slices.compare(Task::Regression, None, &labels, &answer(0.1, 0.9), &answer(0.9, 0.1));
        assert!(off.iter().any(|slice| slice.value == "old" && slice.p.unwrap() < 1e-20));
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

//! What is in a version's columns, found in one pass over the rows in bounded memory.

use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::{Column, Kind};
use super::rules::{Rule, Watched};
use super::sketch::{Different, Histogram, Keys, Numbers, Texts, hash, hash_number};

/// Most frequent values that are kept of a text column, and of a numeric one.
const TOP_TEXTS: usize = 256;
const TOP_NUMBERS: usize = 20;
/// A profile as JSON.
pub const PROFILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
const SHARES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub rows: u64,
    pub columns: Vec<ColumnProfile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    pub column: Column,
    /// Rows without a value; NaN is none.
    pub nulls: u64,
    pub values: Values,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    Numeric(Box<Numeric>),
    Text(Text),
    /// Only counted.
    Opaque,
}

/// Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numeric {
    /// Smallest, largest, mean and standard deviation of the finite values; none if there are none.
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub mean: Option<f64>,
    pub sd: Option<f64>,
    pub infinite: u64,
    pub quantiles: Vec<Quantile>,
    pub distinct: Distinct,
    /// The most frequent values, where all were counted.
    pub top: Vec<(f64, u64)>,
    pub histogram: Histogram,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    pub share: f64,
    pub value: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    pub distinct: Distinct,
    /// Characters of the shortest and the longest.
    pub chars_min: u64,
    pub chars_max: u64,
    /// The most frequent values, cut to their first 100 characters.
    pub top: Vec<(String, u64)>,
    /// Rows that any of these may have had more.
    pub missed: u64,
    /// These are all values there are.
    pub whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distinct {
    pub count: u64,
    pub exact: bool,
}

impl Profile {
    pub fn column(&self, name: &str) -> Option<&ColumnProfile> {
        self.columns.iter().find(|found| found.column.name == name)
    }
}

impl ColumnProfile {
    /// First and last time, of a column of times.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        match (&self.values, self.column.kind) {
            (Values::Numeric(numeric), Kind::Time) => Some((time(numeric.min?), time(numeric.max?))),
            (Values::Numeric(_) | Values::Text(_) | Values::Opaque, _) => None,
        }
    }
}

/// A time as columns of times hold it.
#[expect(clippy::cast_possible_truncation, reason = "a time is clamped to what can be shown")]
pub fn time(millis: f64) -> Timestamp {
    Timestamp::from_millis(millis as i64)
}

/// Takes the rows in, column by column.
#[derive(Debug)]
pub struct Profiler {
    columns: Vec<Counting>,
}

/// One column that is being counted.
#[derive(Debug)]
pub struct Counting {
    column: Column,
    rows: u64,
    nulls: u64,
    state: State,
    different: Different,
    /// Where a rule wants no value twice.
    keys: Option<Keys>,
    /// Where a rule lists the values there may be: rows with another, and one of them.
    listed: Option<Vec<String>>,
    unlisted: u64,
    unlisted_value: Option<String>,
}

#[derive(Debug)]
enum State {
    Numeric { numbers: Numbers, moments: Moments },
    Text { texts: Texts, chars_min: u64, chars_max: u64 },
    Opaque,
}

impl Profiler {
    pub fn new(columns: &[Column], rules: &[Rule]) -> Self {
        let columns = columns.iter().map(|column| Counting::new(column, rules)).collect();
        Self { columns }
    }

    pub fn column(&mut self, at: usize) -> Option<&mut Counting> {
        self.columns.get_mut(at)
    }

    /// The profile, and what rules wanted to know besides.
    pub fn finish(self) -> (Profile, Vec<Watched>) {
        let rows = self.columns.first().map_or(0, |column| column.rows);
        let (columns, watched) = self.columns.into_iter().map(Counting::finish).unzip();
        (Profile { rows, columns }, watched)
    }
}

impl Counting {
    fn new(column: &Column, rules: &[Rule]) -> Self {
        let state = match column.kind {
            Kind::Integer | Kind::Real | Kind::Time => {
                State::Numeric { numbers: Numbers::default(), moments: Moments::default() }
            }
            Kind::Boolean | Kind::Text => {
                State::Text { texts: Texts::default(), chars_min: u64::MAX, chars_max: 0 }
            }
            Kind::Opaque => State::Opaque,
        };
        let own = || rules.iter().filter(|rule| rule.column() == Some(&column.name));
        let keys = own().any(|rule| matches!(rule, Rule::Unique { .. })).then(Keys::default);
        let listed = own().find_map(|rule| match rule {
            Rule::OneOf { values, .. } => Some(values.clone()),
            Rule::Rows { .. }
            | Rule::NotNull { .. }
            | Rule::NullShare { .. }
            | Rule::Range { .. }
            | Rule::Unique { .. }
            | Rule::Fresh { .. } => None,
        });
        Self {
            column: column.clone(),
            rows: 0,
            nulls: 0,
            state,
            different: Different::default(),
            keys,
            listed,
            unlisted: 0,
            unlisted_value: None,
        }
    }

    pub fn null(&mut self) {
        self.rows += 1;
        self.nulls += 1;
    }

    /// There is a value, and nobody looks at it.
    pub fn opaque(&mut self) {
        self.rows += 1;
    }

    pub fn number(&mut self, value: f64) {
        if value.is_nan() {
            return self.null();
        }
        self.rows += 1;
        let hash = hash_number(value);
        self.seen(hash, || shown(value));
        if let State::Numeric { numbers, moments } = &mut self.state {
            if value.is_finite() {
                numbers.add(value);
            }
            moments.add(value);
        }
    }

    pub fn text(&mut self, text: &str) {
        self.rows += 1;
        self.seen(hash(text), || text.to_owned());
        if let State::Text { texts, chars_min, chars_max } = &mut self.state {
            let chars = text.chars().count() as u64;
            (*chars_min, *chars_max) = ((*chars_min).min(chars), (*chars_max).max(chars));
            texts.add(text);
        }
    }

    fn seen(&mut self, hash: u64, value: impl FnOnce() -> String) {
        self.different.add(hash);
        if let Some(keys) = &mut self.keys {
            keys.add(hash);
        }
        if let Some(listed) = &self.listed {
            let value = value();
            if !listed.contains(&value) {
                self.unlisted += 1;
                self.unlisted_value.get_or_insert_with(|| value.chars().take(100).collect());
            }
        }
    }

    fn finish(self) -> (ColumnProfile, Watched) {
        let (count, exact) = self.different.finish();
        let distinct = Distinct { count, exact };
        let values = match self.state {
            State::Numeric { numbers, moments } => {
                let Moments { n, mean, squares, min, max, infinite } = moments;
                let histogram = numbers.finish();
                let quantile =
                    |share| Some(Quantile { share, value: histogram.quantile(share)?.clamp(min, max) });
                let quantiles = SHARES.into_iter().filter_map(quantile).collect();
                Values::Numeric(Box::new(Numeric {
                    min: (n > 0.0).then_some(min),
                    max: (n > 0.0).then_some(max),
                    mean: (n > 0.0).then_some(mean).filter(|mean| mean.is_finite()),
                    sd: (n > 1.0).then(|| (squares / (n - 1.0)).sqrt()).filter(|sd| sd.is_finite()),
                    infinite,
                    quantiles,
                    distinct,
                    top: histogram.top(TOP_NUMBERS),
                    histogram: histogram.kept(),
                }))
            }
            State::Text { texts, chars_min, chars_max } => {
                let (top, missed, whole) = texts.finish(TOP_TEXTS);
                Values::Text(Text {
                    distinct,
                    chars_min: chars_min.min(chars_max),
                    chars_max,
                    top,
                    missed,
                    whole,
                })
            }
            State::Opaque => Values::Opaque,
        };
        let watched = Watched {
            column: self.column.name.clone(),
            repeated: self.keys.and_then(Keys::repeated),
            unlisted: self.unlisted,
            unlisted_value: self.unlisted_value,
        };
        (ColumnProfile { column: self.column, nulls: self.nulls, values }, watched)
    }
}

/// A number as rules list it: whole ones without a point.
pub fn shown(value: f64) -> String {
    format!("{value}")
}

/// After Welford: one pass, no cancellation.
#[derive(Debug)]
struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
    infinite: u64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { n: 0.0, mean: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, infinite: 0 }
    }
}

impl Moments {
    fn add(&mut self, value: f64) {
        if !value.is_finite() {
            self.infinite += 1;
            return;
        }
        self.n += 1.0;
        let off = value - self.mean;
        self.mean += off / self.n;
        self.squares += off * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.to_owned(), kind, stored: "test".to_owned() }
    }

    #[test]
    fn numbers_are_described() {
        let mut profiler = Profiler::new(&[column("x", Kind::Real)], &[]);
        let counting = profiler.column(0).unwrap();
        for value in [1.0, 2.0, 2.0, 3.0, f64::NAN, f64::INFINITY] {
            counting.number(value);
        }
        counting.null();
        let (profile, _) = profiler.finish();
        let Values::Numeric(numeric) = &profile.columns[0].values else { panic!("{profile:?}") };
        assert_eq!((profile.rows, profile.columns[0].nulls, numeric.infinite), (7, 2, 1));
        assert_eq!((numeric.min, numeric.max, numeric.mean), (Some(1.0), Some(3.0), Some(2.0)));
        assert!((numeric.sd.unwrap() - 0.816_496_580_927_726).abs() < 1e-12);
        assert_eq!(numeric.top[0], (2.0, 2));
        assert_eq!(numeric.distinct, Distinct { count: 4, exact: true });
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), profile);
    }

    #[test]
    fn columns_without_a_value_are_described_too() {
        let columns = [column("x", Kind::Real), column("t", Kind::Text), column("o", Kind::Opaque)];
        let mut profiler = Profiler::new(&columns, &[]);
        (0..3).for_each(|at| profiler.column(at).unwrap().null());
        let (profile, _) = profiler.finish();
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), profile);
        assert_eq!(profile.columns.iter().map(|column| column.nulls).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn texts_are_described() {
        let mut profiler = Profiler::new(&[column("ward", Kind::Text)], &[]);
        let counting = profiler.column(0).unwrap();
        for text in ["icu", "er", "icu", ""] {
            counting.text(text);
        }
        let (profile, _) = profiler.finish();
        let Values::Text(text) = &profile.columns[0].values else { panic!("{profile:?}") };
        assert_eq!(text.top[0], ("icu".to_owned(), 2));
        assert_eq!((text.whole, text.missed, text.chars_min, text.chars_max), (true, 0, 0, 3));
    }
}

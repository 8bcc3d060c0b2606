//! What changed from one version to another: columns, rows, missing values, where the values lie.
//!
//! Whether two columns differ is told by the population stability index against what it exceeds by chance among so many rows
//! and columns; how much, by the index itself. The chance is for rows that know nothing of each other: rows of one patient
//! do, so a difference near the critical value says little.

use std::fmt;

use muster_protocol::drift::{psi, psi_critical};
use serde::{Deserialize, Serialize};

use super::manifest::{Column, Kind};
use super::profile::{ColumnProfile, Profile, Quantile, Text, Values};
use super::rules::share;

/// Bins of an index.
const GROUPS: u64 = 10;
const CATEGORIES: usize = 20;
/// Chance that any of the columns is called changed though both versions are from one world.
const ALPHA: f64 = 0.01;
/// Indices by their usual names: above these a change is moderate, major.
const MODERATE: f64 = 0.1;
const MAJOR: f64 = 0.25;
const TOP: usize = 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub rows: (u64, u64),
    pub added: Vec<Column>,
    pub removed: Vec<Column>,
    /// In both; what changed most comes first.
    pub columns: Vec<ColumnComparison>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnComparison {
    pub name: String,
    pub verdict: Verdict,
    /// How it is stored, where that is another way now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<(String, String)>,
    pub kind: Kind,
    pub null_share: (f64, f64),
    /// None where there is nothing to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<(f64, f64)>,
    pub quantiles: Vec<Moved>,
    /// The most frequent values of both, with their shares.
    pub top: Vec<Frequent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Psi {
    pub psi: f64,
    /// What the index exceeds by chance alone, seldom: with the chance [`ALPHA`] in any of the columns.
    pub critical: f64,
    pub bins: u64,
    /// Some values were not counted, only the frequent ones.
    pub approximate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    pub share: f64,
    pub before: f64,
    pub now: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frequent {
    pub value: String,
    pub before: f64,
    pub now: f64,
}

/// In order of how much a person should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No more than chance does.
    Same,
    /// More than chance does, and little.
    Small,
    Moderate,
    Major,
    /// It holds something else now.
    Type,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Small => "small",
            Self::Moderate => "moderate",
            Self::Major => "major",
            Self::Type => "type",
        })
    }
}

pub fn compare(before: &Profile, now: &Profile) -> Comparison {
    let missing = |of: &Profile, among: &Profile| {
        let found = of.columns.iter().filter(|column| among.column(&column.column.name).is_none());
        found.map(|column| column.column.clone()).collect::<Vec<_>>()
    };
    let both: Vec<(&ColumnProfile, &ColumnProfile)> =
        before.columns.iter().filter_map(|column| Some((column, now.column(&column.column.name)?))).collect();
    // Two questions a column: is a value there, and which.
    #[expect(clippy::cast_precision_loss, reason = "a few hundred columns")]
    let alpha = ALPHA / (2 * both.len().max(1)) as f64;
    let rows = (before.rows, now.rows);
    let mut columns: Vec<ColumnComparison> =
        both.into_iter().map(|(before, now)| column(before, now, rows, alpha)).collect();
    let size = |column: &ColumnComparison| column.psi.map_or(0.0, |psi| psi.psi);
    columns.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| size(b).total_cmp(&size(a))));
    Comparison { rows, added: missing(now, before), removed: missing(before, now), columns }
}

impl Comparison {
    /// Whether anything but the number of rows is different.
    pub fn differs(&self) -> bool {
        let changed =
            self.columns.iter().any(|column| column.verdict > Verdict::Same || column.stored.is_some());
        changed || !self.added.is_empty() || !self.removed.is_empty()
    }
}

fn column(before: &ColumnProfile, now: &ColumnProfile, rows: (u64, u64), alpha: f64) -> ColumnComparison {
    let stored = (before.column.stored != now.column.stored)
        .then(|| (before.column.stored.clone(), now.column.stored.clone()));
    let nulls = |column: &ColumnProfile, rows: u64| [column.nulls, rows.saturating_sub(column.nulls)];
    let (nulls_before, nulls_now) = (nulls(before, rows.0), nulls(now, rows.1));
    let presence = verdict(psi(&nulls_before, &nulls_now), psi_critical(2, rows.0, rows.1, alpha));
    let mut found = ColumnComparison {
        name: now.column.name.clone(),
        verdict: presence,
        stored,
        kind: now.column.kind,
        null_share: (share(before.nulls, rows.0), share(now.nulls, rows.1)),
        psi: None,
        mean: None,
        quantiles: Vec::new(),
        top: Vec::new(),
    };
    match (&before.values, &now.values) {
        (Values::Numeric(one), Values::Numeric(two)) => {
            found.psi = index(one.histogram.side_by_side(&two.histogram, GROUPS), alpha, false);
            found.mean = one.mean.zip(two.mean);
            found.quantiles = moved(&one.quantiles, &two.quantiles);
            let top: Vec<f64> = one.top.iter().chain(&two.top).map(|(value, _)| *value).collect();
            let named = |top: &[(f64, u64)]| {
                top.iter().map(|(value, rows)| (super::profile::shown(*value), *rows)).collect::<Vec<_>>()
            };
            if !top.is_empty() {
                found.top = frequent(&named(&one.top), rows.0, &named(&two.top), rows.1);
            }
        }
        (Values::Text(one), Values::Text(two)) => {
            found.psi =
                index(categories(one, two, nulls_before[1], nulls_now[1]), alpha, !(one.whole && two.whole));
            found.top = frequent(&one.top, rows.0, &two.top, rows.1);
        }
        (Values::Opaque, Values::Opaque) => {}
        (Values::Numeric(_) | Values::Text(_) | Values::Opaque, _) => found.verdict = Verdict::Type,
    }
    if let Some(psi) = found.psi {
        found.verdict = found.verdict.max(verdict(psi.psi, psi.critical));
    }
    found
}

fn verdict(psi: f64, critical: f64) -> Verdict {
    match psi {
        psi if psi <= critical => Verdict::Same,
        psi if psi < MODERATE => Verdict::Small,
        psi if psi < MAJOR => Verdict::Moderate,
        _more => Verdict::Major,
    }
}

fn index((before, now): (Vec<u64>, Vec<u64>), alpha: f64, approximate: bool) -> Option<Psi> {
    let (m, n) = (before.iter().sum(), now.iter().sum());
    (m > 0 && n > 0).then(|| Psi {
        psi: psi(&before, &now),
        critical: psi_critical(before.len(), m, n, alpha),
        bins: before.len() as u64,
        approximate,
    })
}

/// The most frequent values of both, and all others together.
fn categories(one: &Text, two: &Text, m: u64, n: u64) -> (Vec<u64>, Vec<u64>) {
    let mut values: Vec<&str> = Vec::new();
    for (value, _) in one.top.iter().take(CATEGORIES).chain(two.top.iter().take(CATEGORIES)) {
        if !values.contains(&value.as_str()) {
            values.push(value);
        }
    }
    let rows = |of: &Text, all: u64| {
        let of = |value: &&str| of.top.iter().find(|(text, _)| text == value).map_or(0, |(_, rows)| *rows);
        let mut rows: Vec<u64> = values.iter().map(of).collect();
        rows.push(all.saturating_sub(rows.iter().sum()));
        rows
    };
    let (mut before, mut now) = (rows(one, m), rows(two, n));
    if before.last() == Some(&0) && now.last() == Some(&0) {
        before.pop();
        now.pop();
    }
    (before, now)
}

fn moved(before: &[Quantile], now: &[Quantile]) -> Vec<Moved> {
    let pairs = before.iter().zip(now);
    pairs.map(|(before, now)| Moved { share: before.share, before: before.value, now: now.value }).collect()
}

fn frequent(before: &[(String, u64)], m: u64, now: &[(String, u64)], n: u64) -> Vec<Frequent> {
    let mut values: Vec<&String> = Vec::new();
    for (value, _) in before.iter().take(TOP).chain(now.iter().take(TOP)) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let rows = |of: &[(String, u64)], value: &String| {
        of.iter().find(|(text, _)| text == value).map_or(0, |(_, rows)| *rows)
    };
    let found = values.into_iter().map(|value| Frequent {
        value: value.clone(),
        before: share(rows(before, value), m),
        now: share(rows(now, value), n),
    });
    found.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::profile::Profiler;
    use super::super::profile::tests::column;
    use super::*;

    /// Rows of a number and a ward, from a generator of its own so that they are the same everywhere.
    pub(in super::super) fn profile(seed: u64, rows: u32, shift: f64, wards: &[&str]) -> Profile {
        let columns = [column("x", Kind::Real), column("ward", Kind::Text)];
        let mut profiler = Profiler::new(&columns, &[]);
        let mut state = seed | 1;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u32::try_from(state >> 40).unwrap()
        };
        for _ in 0..rows {
            let sum: f64 = (0..4).map(|_| f64::from(draw())).sum();
            profiler.column(0).unwrap().number(sum / f64::from(1 << 24) + shift);
            profiler.column(1).unwrap().text(wards[draw() as usize % wards.len()]);
        }
        profiler.finish().0
    }

    fn verdicts(before: &Profile, now: &Profile) -> Vec<(String, Verdict)> {
        compare(before, now).columns.into_iter().map(|column| (column.name, column.verdict)).collect()
    }

    #[test]
    fn samples_of_one_world_seldom_differ() {
        let wards = ["er", "icu", "or"];
        let one = profile(1, 4000, 0.0, &wards);
        let called =
            (2..102).filter(|seed| compare(&one, &profile(*seed * 7919, 4000, 0.0, &wards)).differs());
        assert!(called.count() <= 5);
    }

    #[test]
    fn what_changed_comes_first() {
        let one = profile(1, 4000, 0.0, &["er", "icu"]);
        let shifted = profile(5, 4000, 2.0, &["er", "icu"]);
        let (x, ward) = ("x".to_owned(), "ward".to_owned());
        assert_eq!(verdicts(&one, &shifted), [(x.clone(), Verdict::Major), (ward.clone(), Verdict::Same)]);
        let renamed = profile(5, 4000, 0.0, &["er", "ICU"]);
        assert_eq!(verdicts(&one, &renamed), [(ward, Verdict::Major), (x, Verdict::Same)]);
        let comparison = compare(&one, &renamed);
        assert_eq!(comparison.columns[0].top.len(), 3);
        assert!(comparison.columns[0].psi.is_some_and(|psi| psi.bins == 3 && !psi.approximate));
    }

    #[test]
    fn columns_come_and_go_and_change_their_type() {
        let one = profile(1, 100, 0.0, &["er"]);
        let mut two = profile(1, 100, 0.0, &["er"]);
        two.columns[0].column.name = "y".to_owned();
        let comparison = compare(&one, &two);
        assert_eq!((comparison.added[0].name.as_str(), comparison.removed[0].name.as_str()), ("y", "x"));
        let mut three = profile(1, 100, 0.0, &["er"]);
        three.columns[0].values = Values::Opaque;
        assert_eq!(compare(&one, &three).columns[0].verdict, Verdict::Type);
        assert!(!compare(&one, &one).differs());
    }

    #[test]
    fn missing_values_are_a_change() {
        let one = profile(1, 1000, 0.0, &["er"]);
        let mut two = one.clone();
        two.columns[1].nulls = 600;
        let comparison = compare(&one, &two);
        assert_eq!(
            (comparison.columns[0].name.as_str(), comparison.columns[0].verdict),
            ("ward", Verdict::Major)
        );
    }
}

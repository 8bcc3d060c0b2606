//! What a column looked like when its model was trained: fixed bins, their counts and a few moments.
//!
//! A reference travels in the signed bundle and fixes the bins for as long as that bundle runs. It is checked when it
//! is read, so everything that holds a [`Reference`] may rely on its shape. It must never hold a patient's row.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{MAX_ROWS, special::real};

/// Equal-mass bins of a numeric column; fewer where values tie, and never more: a stream that is being counted is four
/// cache lines, whatever the bundle says.
pub const BINS: usize = 20;
/// Named categories at most; the rest of the reference shares one bin, `other`.
pub const MAX_CATEGORIES: usize = 63;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reference {
    Numeric(NumericReference),
    Categorical(CategoricalReference),
}

impl Reference {
    /// Bins a numeric column. NaN and infinities count as nulls.
    ///
    /// The values are f32, as the model sees them: edges chosen at a higher precision would put ties on both sides.
    pub fn numeric(values: &[f32]) -> Result<Self, ReferenceError> {
        NumericReference::from_values(values).map(Self::Numeric)
    }

    /// Counts a categorical column; None is a missing value.
    pub fn categorical<'a>(
        values: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Result<Self, ReferenceError> {
        CategoricalReference::from_values(values).map(Self::Categorical)
    }

    /// Reference rows per bin; the last bin of a categorical reference may be `other`.
    pub fn counts(&self) -> &[u64] {
        match self {
            Self::Numeric(numeric) => &numeric.counts,
            Self::Categorical(categorical) => &categorical.counts,
        }
    }

    /// Reference rows that had a value.
    pub fn m(&self) -> u64 {
        match self {
            Self::Numeric(numeric) => numeric.m,
            Self::Categorical(categorical) => categorical.m,
        }
    }

    pub fn nulls(&self) -> u64 {
        match self {
            Self::Numeric(numeric) => numeric.nulls,
            Self::Categorical(categorical) => categorical.nulls,
        }
    }

    /// The reference's share of each bin.
    pub(super) fn shares(&self) -> Vec<f64> {
        let m = real(self.m());
        self.counts().iter().map(|&count| real(count) / m).collect()
    }
}

/// Bin `k` holds the values with exactly `k` edges at or below them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawNumeric")]
pub struct NumericReference {
    pub(super) edges: Vec<f32>,
    pub(super) counts: Vec<u64>,
    pub(super) m: u64,
    pub(super) nulls: u64,
    pub(super) min: f32,
    pub(super) max: f32,
    pub(super) mean: f64,
    /// Population standard deviation.
    pub(super) sd: f64,
    pub(super) bin_means: Vec<f64>,
    /// Rows outside the range. Only a baseline has them: its range is the bundle's, not its own rows'.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) novel: u64,
}

impl NumericReference {
    fn from_values(values: &[f32]) -> Result<Self, ReferenceError> {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f32::total_cmp);
        let nulls = count(values.len() - sorted.len());
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Err(ReferenceError::without_values(nulls));
        };

        let edges = equal_mass_edges(&sorted, min);
        let bins = split_at_edges(&sorted, &edges);
        let mean = mean(&sorted);
        let squares: f64 = sorted.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum();
        let m = count(sorted.len());
        RawNumeric {
            counts: bins.iter().map(|bin| count(bin.len())).collect(),
            bin_means: bins.iter().map(|bin| self::mean(bin)).collect(),
            edges,
            m,
            nulls,
            min,
            max,
            mean,
            sd: (squares / real(m)).sqrt(),
            novel: 0,
        }
        .try_into()
    }

    pub fn edges(&self) -> &[f32] {
        &self.edges
    }

    pub fn min(&self) -> f32 {
        self.min
    }

    pub fn max(&self) -> f32 {
        self.max
    }

    pub fn mean(&self) -> f64 {
        self.mean
    }

    pub fn sd(&self) -> f64 {
        self.sd
    }

    pub fn bin_means(&self) -> &[f64] {
        &self.bin_means
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCategorical")]
pub struct CategoricalReference {
    /// Most frequent first, equals by name.
    pub(super) categories: Vec<String>,
    /// Whether the last bin gathers everything else. With it, an unseen category is not novel but `other`.
    pub(super) other: bool,
    pub(super) counts: Vec<u64>,
    pub(super) m: u64,
    pub(super) nulls: u64,
    /// Categories seen exactly once: they say how likely the next unseen one is (Good and Turing).
    pub(super) singletons: u64,
}

impl CategoricalReference {
    fn from_values<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Result<Self, ReferenceError> {
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut m, mut nulls) = (0, 0);
        for value in values {
            match value {
                Some(name) => {
                    *seen.entry(name).or_default() += 1;
                    m += 1;
                }
                None => nulls += 1,
            }
        }
        if m == 0 {
            return Err(ReferenceError::without_values(nulls));
        }

        let singletons = count(seen.values().filter(|&&rows| rows == 1).count());
        let mut ranked: Vec<(&str, u64)> = seen.into_iter().collect();
        // A stable sort: equal counts stay in the map's order, by name.
        ranked.sort_by_key(|&(_, rows)| std::cmp::Reverse(rows));
        let rest = ranked.split_off(ranked.len().min(MAX_CATEGORIES));
        let mut counts: Vec<u64> = ranked.iter().map(|&(_, rows)| rows).collect();
        if !rest.is_empty() {
            counts.push(rest.iter().map(|&(_, rows)| rows).sum());
        }
        RawCategorical {
            categories: ranked.into_iter().map(|(name, _)| name.to_owned()).collect(),
            other: !rest.is_empty(),
            counts,
            m,
            nulls,
            singletons,
        }
        .try_into()
    }

    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    pub fn has_other(&self) -> bool {
        self.other
    }

    pub fn singletons(&self) -> u64 {
        self.singletons
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("the reference has no rows: export the training rows of this column in time order")]
    Empty,
    #[error(
        "all {nulls} reference rows are missing or not finite: fix the export or do not monitor this column"
    )]
    AllMissing { nulls: u64 },
    #[error("the reference is malformed: {0}; build the bundle again")]
    Malformed(&'static str),
}

impl ReferenceError {
    fn without_values(nulls: u64) -> Self {
        if nulls == 0 { Self::Empty } else { Self::AllMissing { nulls } }
    }
}

/// The reference as it is written, before it is believed.
#[derive(Deserialize)]
struct RawNumeric {
    edges: Vec<f32>,
    counts: Vec<u64>,
    m: u64,
    nulls: u64,
    min: f32,
    max: f32,
    mean: f64,
    sd: f64,
    bin_means: Vec<f64>,
    #[serde(default)]
    novel: u64,
}

impl TryFrom<RawNumeric> for NumericReference {
    type Error = ReferenceError;

    fn try_from(raw: RawNumeric) -> Result<Self, Self::Error> {
        let RawNumeric { edges, counts, m, nulls, min, max, mean, sd, bin_means, novel } = raw;
        check_counts(&counts, m, nulls)?;
        require(counts.len() <= BINS, "there are more than 20 bins")?;
        require(counts.len() == edges.len() + 1, "the counts are not one more than the edges")?;
        require(bin_means.len() == counts.len(), "the bin means are not as many as the counts")?;
        require(edges.iter().all(|edge| edge.is_finite()), "an edge is not finite")?;
        require(edges.is_sorted_by(|a, b| a < b), "the edges do not strictly increase")?;
        require(min.is_finite() && max.is_finite() && min <= max, "min and max are not a finite range")?;
        require(edges.iter().all(|&edge| min < edge && edge <= max), "an edge is outside (min, max]")?;
        require(mean.is_finite(), "the mean is not finite")?;
        require(sd.is_finite() && sd >= 0.0, "the standard deviation is not a finite, positive number")?;
        require(bin_means.iter().all(|mean| mean.is_finite()), "a bin mean is not finite")?;
        require(bin_means.is_sorted(), "the bin means do not increase")?;
        require(novel <= m, "more rows are outside the range than there are")?;
        Ok(Self { edges, counts, m, nulls, min, max, mean, sd, bin_means, novel })
    }
}

#[derive(Deserialize)]
struct RawCategorical {
    categories: Vec<String>,
    other: bool,
    counts: Vec<u64>,
    m: u64,
    nulls: u64,
    singletons: u64,
}

impl TryFrom<RawCategorical> for CategoricalReference {
    type Error = ReferenceError;

    fn try_from(raw: RawCategorical) -> Result<Self, Self::Error> {
        let RawCategorical { categories, other, counts, m, nulls, singletons } = raw;
        check_counts(&counts, m, nulls)?;
        require(categories.len() <= MAX_CATEGORIES, "there are more than 63 categories")?;
        require(
            counts.len() == categories.len() + usize::from(other),
            "the counts are not as many as the categories and `other`",
        )?;
        let distinct: BTreeSet<&String> = categories.iter().collect();
        require(distinct.len() == categories.len(), "a category stands twice")?;
        require(singletons <= m, "there are more singletons than rows")?;
        Ok(Self { categories, other, counts, m, nulls, singletons })
    }
}

fn check_counts(counts: &[u64], m: u64, nulls: u64) -> Result<(), ReferenceError> {
    let total = counts.iter().try_fold(0u64, |sum, &rows| sum.checked_add(rows));
    require(m > 0, "it has no rows with a value")?;
    require(total == Some(m), "the counts do not add up to m")?;
    require(m.checked_add(nulls).is_some_and(|rows| rows <= MAX_ROWS), "it has more than 2^40 rows")
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), ReferenceError> {
    if holds { Ok(()) } else { Err(ReferenceError::Malformed(otherwise)) }
}

/// The values at ranks `k*m/20`. A tie gives one edge, and none at the minimum, where it would open an empty bin.
fn equal_mass_edges(sorted: &[f32], min: f32) -> Vec<f32> {
    let mut edges: Vec<f32> = Vec::with_capacity(BINS - 1);
    for k in 1..BINS {
        let candidate = sorted[k * sorted.len() / BINS];
        if candidate > *edges.last().unwrap_or(&min) {
            edges.push(candidate);
        }
    }
    edges
}

fn split_at_edges<'a>(sorted: &'a [f32], edges: &[f32]) -> Vec<&'a [f32]> {
    let mut rest = sorted;
    let mut bins = Vec::with_capacity(edges.len() + 1);
    for &edge in edges {
        let (below, above) = rest.split_at(rest.partition_point(|&value| value < edge));
        bins.push(below);
        rest = above;
    }
    bins.push(rest);
    bins
}

/// The mean of at least one value.
fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / real(count(values.len()))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(rows: &u64) -> bool {
    *rows == 0
}

fn count(rows: usize) -> u64 {
    rows as u64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn numeric(values: &[f32]) -> Result<NumericReference, ReferenceError> {
        NumericReference::from_values(values)
    }

    fn malformed(change: impl FnOnce(&mut Value), complaint: &str) -> Result<(), ReferenceError> {
        let mut written = json!(Reference::numeric(&[1.0, 2.0, 3.0, 4.0])?);
        change(&mut written);
        let refusal = serde_json::from_value::<Reference>(written).map_err(|error| error.to_string());
        assert!(refusal.as_ref().is_err_and(|text| text.contains(complaint)), "{refusal:?}");
        Ok(())
    }

    #[test]
    fn a_reference_without_values_is_refused() {
        let nan = f32::NAN;
        assert_eq!(numeric(&[]), Err(ReferenceError::Empty));
        assert_eq!(numeric(&[nan, f32::INFINITY]), Err(ReferenceError::AllMissing { nulls: 2 }));
        assert_eq!(Reference::categorical([]), Err(ReferenceError::Empty));
        assert_eq!(Reference::categorical([None, None]), Err(ReferenceError::AllMissing { nulls: 2 }));
    }

    #[test]
    fn nan_and_infinities_are_nulls() -> Result<(), ReferenceError> {
        let reference = numeric(&[1.0, f32::NAN, 2.0, f32::NEG_INFINITY, f32::INFINITY])?;
        assert_eq!((reference.m, reference.nulls), (2, 3));
        assert_eq!((reference.min, reference.max), (1.0, 2.0));
        Ok(())
    }

    #[test]
    fn ties_share_a_bin() -> Result<(), ReferenceError> {
        let check = |values: &[f32], edges: &[f32], counts: &[u64]| {
            let reference = numeric(values)?;
            assert_eq!((&*reference.edges, &*reference.counts), (edges, counts));
            Ok(())
        };
        check(&[7.0], &[], &[1])?;
        check(&[7.0; 500], &[], &[500])?;
        check(&[0.0, 0.0, 1.0, 1.0], &[1.0], &[2, 2])?;
        check(&[-0.0, 0.0, 0.0], &[], &[3])?;
        check(&[f32::MIN, f32::MAX], &[f32::MAX], &[1, 1])
    }

    #[test]
    fn rare_categories_share_the_other_bin() -> Result<(), ReferenceError> {
        let names: Vec<String> = (0..70).map(|i| format!("c{i:02}")).collect();
        let values = names.iter().chain(&names[..10]).map(|name| Some(name.as_str()));
        let reference = CategoricalReference::from_values(values)?;
        assert_eq!(reference.categories.len(), MAX_CATEGORIES);
        assert_eq!((reference.categories[0].as_str(), reference.counts[0]), ("c00", 2));
        assert_eq!((reference.other, reference.counts[63], reference.singletons), (true, 7, 60));
        Ok(())
    }

    #[test]
    fn json_is_stable_and_reads_back() -> Result<(), Box<dyn std::error::Error>> {
        let text = r#"{"kind":"numeric","edges":[0.25],"counts":[1,1],"m":2,"nulls":1,"min":-0.75,"max":0.25,"mean":-0.25,"sd":0.5,"bin_means":[-0.75,0.25]}"#;
        let reference = Reference::numeric(&[0.25, -0.75, f32::NAN])?;
        assert_eq!(serde_json::to_string(&reference)?, text);
        assert_eq!(serde_json::from_str::<Reference>(text)?, reference);

        let text = r#"{"kind":"categorical","categories":["b","a"],"other":false,"counts":[2,1],"m":3,"nulls":0,"singletons":1}"#;
        let reference = Reference::categorical([Some("b"), Some("a"), Some("b")])?;
        assert_eq!(serde_json::to_string(&reference)?, text);
        assert_eq!(serde_json::from_str::<Reference>(text)?, reference);
        Ok(())
    }

    #[test]
    fn a_malformed_reference_is_refused() -> Result<(), ReferenceError> {
        malformed(|r| r["edges"] = json!([2.0, 2.0, 4.0]), "strictly increase")?;
        malformed(|r| r["edges"] = json!([1.0, 2.0, 3.0]), "outside (min, max]")?;
        malformed(|r| r["edges"] = json!([2.0]), "one more than the edges")?;
        malformed(|r| r["edges"] = json!([2.0, 3.0, 1e300]), "not finite")?;
        malformed(|r| r["counts"] = json!([1, 1, 1, 2]), "add up to m")?;
        malformed(|r| r["counts"] = json!([u64::MAX, 1, 1, 1]), "add up to m")?;
        malformed(|r| r["bin_means"] = json!([1.0]), "as many as the counts")?;
        malformed(|r| r["bin_means"] = json!([1.0, 3.0, 2.0, 4.0]), "do not increase")?;
        malformed(|r| r["min"] = json!(9.0), "not a finite range")?;
        malformed(|r| r["sd"] = json!(-1.0), "standard deviation")?;
        malformed(|r| r["nulls"] = json!(1u64 << 41), "2^40")
    }

    #[test]
    fn a_malformed_categorical_reference_is_refused() {
        let check = |categories: Value, other: bool, counts: Value, complaint: &str| {
            let written = json!({"kind": "categorical", "categories": categories, "other": other,
                "counts": counts, "m": 3, "nulls": 0, "singletons": 1});
            let refusal = serde_json::from_value::<Reference>(written).map_err(|error| error.to_string());
            assert!(refusal.as_ref().is_err_and(|text| text.contains(complaint)), "{refusal:?}");
        };
        check(json!(["a", "a"]), false, json!([2, 1]), "stands twice");
        check(json!(["a", "b"]), true, json!([2, 1]), "as many as the categories");
        check(json!([]), false, json!([]), "add up to m");
    }
}

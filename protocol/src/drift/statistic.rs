//! The drift test: a window's counts against the reference's, as p-values that hold for every window size.
//!
//! ```text
//! bins ──┬─> location, spread ── F(2, R) tail ──┐
//!        └─> remaining chi-square ── gamma tail ┴─ x2 ─> p_dist  ┐
//! missing rows ──────── beta-binomial, two-sided ──────> p_null  ├─ x3 ─> p_feature ── x monitored ─> b
//! novel values ──────── beta-binomial, upper ──────────> p_novel ┘
//! ```
//!
//! Every "x" is Bonferroni's: `b` bounds the chance that any of the monitored columns looks this bad without drift.

use serde::{Deserialize, Serialize};

use super::{
    Counts, CountsError, Effects, OverDispersion, Reference,
    components::{Components, Sample},
    special::{beta_binomial_two_sided, beta_binomial_upper, chi2_sf, f2_sf, heavier, real},
};

/// Every number is finite; every p-value is within 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Rows with a value in a bin. If none had one, only `p_null` and `p_novel` carry evidence.
    pub n: u64,
    /// Rows looked at, with the missing and the unseen.
    pub rows: u64,
    pub x2: f64,
    pub df: u32,
    /// Standardised location and spread contrasts, before over-dispersion; none for categories.
    pub z: Vec<f64>,
    /// The contrasts' squares, each divided by its over-dispersion.
    pub s2: f64,
    pub rest: f64,
    pub df_rest: u32,
    pub p_s: f64,
    pub p_rest: f64,
    pub p_dist: f64,
    pub p_null: f64,
    pub p_novel: f64,
    pub p_feature: f64,
    /// What the alarm rule reads: `p_feature` times the number of monitored columns.
    pub b: f64,
    /// The same from `p_null` and `p_novel` alone. It needs no values, so it also speaks when a sensor has gone dead.
    pub b_presence: f64,
    /// None if the window has no values to compare.
    pub effects: Option<Effects>,
}

/// Tests a window. None if it has no rows at all: that is insufficient, not good.
///
/// `monitored` is the number of columns watched together, the prediction included.
pub fn test(
    reference: &Reference,
    window: &Counts,
    overdispersion: &OverDispersion,
    monitored: u32,
) -> Result<Option<Verdict>, CountsError> {
    window.check_shape(reference)?;
    if window.rows() == 0 {
        return Ok(None);
    }
    let components = Components::of(reference, window, Sample::New);
    let dist = Distribution::of(&components, overdispersion);
    let p_null = p_null(reference, window, &components, overdispersion);
    let p_novel = p_novel(reference, window, overdispersion);
    let presence = p_null.min(p_novel);
    let p_feature = bonferroni(3.0, presence.min(dist.p));
    let columns = f64::from(monitored.max(1));
    Ok(Some(Verdict {
        n: window.n,
        rows: window.rows(),
        x2: components.x2,
        df: components.df,
        s2: dist.s2,
        rest: dist.rest,
        df_rest: dist.df_rest,
        p_s: dist.p_s,
        p_rest: dist.p_rest,
        p_dist: dist.p,
        p_null,
        p_novel,
        p_feature,
        b: bonferroni(columns, p_feature),
        b_presence: bonferroni(columns, bonferroni(3.0, presence)),
        effects: Effects::of(reference, window),
        z: components.z,
    }))
}

struct Distribution {
    s2: f64,
    rest: f64,
    df_rest: u32,
    p_s: f64,
    p_rest: f64,
    p: f64,
}

impl Distribution {
    fn of(components: &Components, overdispersion: &OverDispersion) -> Self {
        let s2 = components.z.iter().zip(overdispersion.v).map(|(z, v)| z * z / v).sum();
        let p_s = f2_sf(s2, overdispersion.tail());

        let (rest, df_rest) = components.rest();
        let rest_counts = df_rest > 0 && overdispersion.use_rest;
        let p_rest = if rest_counts {
            let df = f64::from(df_rest);
            let nu = overdispersion.nu.map_or(df, |nu| nu.min(df));
            heavier(chi2_sf(rest / overdispersion.a, nu), overdispersion.rest_tail())
        } else {
            1.0
        };

        let parts = if rest_counts && !components.z.is_empty() { 2.0 } else { 1.0 };
        Self { s2, rest, df_rest, p_s, p_rest, p: bonferroni(parts, p_s.min(p_rest)) }
    }
}

fn p_null(
    reference: &Reference,
    window: &Counts,
    components: &Components,
    overdispersion: &OverDispersion,
) -> f64 {
    let (missing, present) = (real(reference.nulls()) + 0.5, real(reference.m()) + 0.5);
    let independent = beta_binomial_two_sided(window.nulls, window.rows(), missing, present);
    if overdispersion.v0 > 1.0 {
        let square = components.z_null * components.z_null;
        independent.max(f2_sf(square / overdispersion.v0, overdispersion.tail()))
    } else {
        independent
    }
}

/// Numeric: exact for a continuous column, whose next value is outside the range of m values with chance 2/(m+1); a
/// baseline adds the rows that it had outside the bundle's range itself.
/// Categorical: after Good and Turing, the next row is as likely unseen as a reference row was a singleton. A bin that a
/// site's baseline has no row of is as unseen there as a category without a bin.
fn p_novel(reference: &Reference, window: &Counts, overdispersion: &OverDispersion) -> f64 {
    match reference {
        Reference::Numeric(numeric) => {
            // Under autocorrelation novel values come in clusters: count clusters, by scaling all three alike.
            let cluster = overdispersion.v[0].max(overdispersion.v[1]);
            let novel = whole(real(window.novel) / cluster);
            let trials = whole(real(window.n) / cluster).max(1);
            let outside = real(numeric.novel) / cluster;
            let inside = real(numeric.m - numeric.novel) / cluster;
            beta_binomial_upper(novel, trials, 2.0 + outside, (inside - 1.0).max(1.0))
        }
        Reference::Categorical(categorical) => {
            let pairs = categorical.counts.iter().zip(&window.bins);
            let first: u64 = pairs.filter(|(before, _)| **before == 0).map(|(_, now)| now).sum();
            let unseen = real(categorical.singletons) + 0.5;
            let seen = real(categorical.m - categorical.singletons) + 0.5;
            beta_binomial_upper(window.novel + first, window.n + window.novel, unseen, seen)
        }
    }
}

fn bonferroni(parts: f64, p: f64) -> f64 {
    (parts * p).min(1.0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole clusters of a count")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::Counter;

    fn judge(reference: &[f32], values: &[f32]) -> Result<Option<Verdict>, Box<dyn Error>> {
        let reference = Reference::numeric(reference)?;
        let mut counter = Counter::new(&reference);
        if let Counter::Numeric(numeric) = &mut counter {
            numeric.observe_all(values);
        }
        Ok(test(&reference, &counter.counts(), &OverDispersion::default(), 4)?)
    }

    fn ramp(rows: u16) -> Vec<f32> {
        (0..rows).map(f32::from).collect()
    }

    /// Every number in a verdict, as JSON writes it: NaN and infinities would have become null.
    fn numbers_are_finite(verdict: &Verdict) -> Result<bool, serde_json::Error> {
        let mut written = serde_json::to_value(verdict)?;
        if verdict.effects.is_none() {
            written["effects"] = 0.into();
        }
        if let Some(effects) = written.get_mut("effects").and_then(|effects| effects.as_object_mut()) {
            effects.retain(|name, value| name != "numeric" || !value.is_null());
        }
        Ok(!written.to_string().contains("null,") && !written.to_string().contains(":null"))
    }

    #[test]
    fn no_rows_are_insufficient() -> Result<(), Box<dyn Error>> {
        assert_eq!(judge(&ramp(100), &[])?, None);
        Ok(())
    }

    #[test]
    fn a_dead_sensor_is_evidence_without_a_single_value() -> Result<(), Box<dyn Error>> {
        let verdict = judge(&ramp(1000), &[f32::NAN; 100])?.ok_or("no verdict")?;
        assert_eq!((verdict.n, verdict.rows, verdict.effects), (0, 100, None));
        assert!(verdict.p_dist >= 1.0 && verdict.p_null < 1e-50, "{verdict:?}");
        assert!(verdict.b < 1e-50 && verdict.b_presence <= verdict.b);
        assert!(numbers_are_finite(&verdict)?);
        Ok(())
    }

    #[test]
    fn odd_references_and_windows_give_finite_numbers() -> Result<(), Box<dyn Error>> {
        let references = [vec![1.0], vec![0.0; 50], vec![f32::MIN, f32::MAX], vec![1e-45, 0.0], ramp(200)];
        let windows = [
            vec![1.0],
            vec![f32::MAX, f32::MIN],
            vec![f32::MAX; 90],
            vec![f32::NAN, 3.0],
            vec![f32::NAN],
            vec![-0.0; 70],
        ];
        for reference in &references {
            for window in &windows {
                let verdict = judge(reference, window)?.ok_or("no verdict")?;
                assert!(numbers_are_finite(&verdict)?, "{reference:?} {window:?} {verdict:?}");
                let ps = [verdict.p_s, verdict.p_rest, verdict.p_dist, verdict.p_null, verdict.p_novel];
                assert!(ps.iter().chain([&verdict.b]).all(|p| (0.0..=1.0).contains(p)), "{verdict:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn only_unseen_categories_are_novel_beyond_doubt() -> Result<(), Box<dyn Error>> {
        let reference = Reference::categorical((0..500).map(|i| Some(if i % 3 == 0 { "a" } else { "b" })))?;
        let mut counter = Counter::new(&reference);
        if let Counter::Categorical(categorical) = &mut counter {
            (0..80).for_each(|_| categorical.observe(Some("z")));
        }
        let window = counter.counts();
        let verdict = test(&reference, &window, &OverDispersion::default(), 1)?.ok_or("no verdict")?;
        assert_eq!((verdict.n, verdict.rows, verdict.df), (0, 80, 0));
        assert!(verdict.p_novel < 1e-50 && verdict.effects.is_some_and(|effects| effects.tv > 0.99));
        assert!(numbers_are_finite(&verdict)?);
        Ok(())
    }

    #[test]
    fn counts_of_another_reference_are_refused() -> Result<(), Box<dyn Error>> {
        let reference = Reference::numeric(&ramp(100))?;
        let window = Counts::empty(&Reference::numeric(&[1.0])?);
        let refusal = test(&reference, &window, &OverDispersion::default(), 1);
        assert_eq!(refusal, Err(CountsError::Shape { here: 20, there: 1 }));
        Ok(())
    }
}

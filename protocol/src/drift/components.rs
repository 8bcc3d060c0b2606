//! The parts of the test before they become p-values: chi-square, location and spread contrasts, missing rows.
//!
//! Both the test and the replay of the reference use them, with a different variance: a new window differs from the
//! reference by both their sampling errors, a window cut from the reference only by the part it leaves over.

use super::{Counts, Reference, special::real};

/// Bins with fewer expected rows than this are pooled, or one row in a rare bin would decide.
const MIN_EXPECTED: f64 = 1.0;
/// Below this squared length a contrast is rounding noise: there are too few bins for it.
const MIN_LENGTH: f64 = 1e-12;

/// Where the window's rows came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sample {
    /// Not part of the reference.
    New,
    /// Cut from the reference itself.
    OfReference,
}

impl Sample {
    /// The variance of `window - reference`, in units of the window's own sampling variance.
    fn variance(self, window: u64, reference: u64) -> f64 {
        let share = real(window) / real(reference);
        match self {
            Self::New => 1.0 + share,
            Self::OfReference => (1.0 - share).max(1e-9),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Components {
    pub(super) x2: f64,
    pub(super) df: u32,
    /// Standardised location and spread contrasts of a numeric column, as many as its bins allow.
    pub(super) z: Vec<f64>,
    /// The standardised number of missing rows.
    pub(super) z_null: f64,
}

impl Components {
    pub(super) fn of(reference: &Reference, window: &Counts, sample: Sample) -> Self {
        let n = real(window.n);
        let shares = reference.shares();
        let expected: Vec<f64> = shares.iter().map(|share| n * share).collect();
        let observed: Vec<f64> = window.bins.iter().map(|&rows| real(rows)).collect();
        let variance = sample.variance(window.n, reference.m());
        let (x2, df) = chi_square(&observed, &expected, variance);
        let contrasts = match reference {
            Reference::Numeric(_) if window.n > 0 => contrasts(&shares),
            Reference::Numeric(_) | Reference::Categorical(_) => Vec::new(),
        };
        let excess: Vec<f64> = observed.iter().zip(&expected).map(|(seen, due)| seen - due).collect();
        let z = contrasts.iter().map(|contrast| dot(&excess, contrast) / (n * variance).sqrt()).collect();
        Self { x2, df, z, z_null: z_null(reference, window, sample) }
    }

    /// What the contrasts leave of the chi-square, and its degrees of freedom.
    pub(super) fn rest(&self) -> (f64, u32) {
        let explained: f64 = self.z.iter().map(|z| z * z).sum();
        let contrasts = u32::try_from(self.z.len()).unwrap_or(u32::MAX);
        ((self.x2 - explained).max(0.0), self.df.saturating_sub(contrasts))
    }
}

/// The share of missing rows a reference suggests, with half a row added on each side so that it is never 0 or 1.
fn null_share(reference: &Reference) -> f64 {
    (real(reference.nulls()) + 0.5) / (real(reference.m() + reference.nulls()) + 1.0)
}

fn z_null(reference: &Reference, window: &Counts, sample: Sample) -> f64 {
    let rows = real(window.rows());
    if rows == 0.0 {
        return 0.0;
    }
    let share = null_share(reference);
    let variance = sample.variance(window.rows(), reference.m() + reference.nulls());
    (real(window.nulls) - rows * share) / (rows * share * (1.0 - share) * variance).sqrt()
}

/// Pearson's statistic over the bins with enough expected rows, the small ones pooled into one more.
fn chi_square(observed: &[f64], expected: &[f64], variance: f64) -> (f64, u32) {
    let term = |seen: f64, due: f64| (seen - due).powi(2) / (due * variance);
    let (mut x2, mut bins) = (0.0, 0u32);
    let (mut pooled_seen, mut pooled_due) = (0.0, 0.0);
    for (&seen, &due) in observed.iter().zip(expected) {
        if due < MIN_EXPECTED {
            pooled_seen += seen;
            pooled_due += due;
        } else {
            x2 += term(seen, due);
            bins += 1;
        }
    }
    if pooled_due >= MIN_EXPECTED {
        x2 += term(pooled_seen, pooled_due);
        bins += 1;
    }
    match bins {
        0 | 1 => (0.0, 0),
        bins => (x2, bins - 1),
    }
}

/// Polynomials of degree one and two in the bins' mid-ranks, orthonormal under the reference (Gram and Schmidt).
fn contrasts(shares: &[f64]) -> Vec<Vec<f64>> {
    let mut below = 0.0;
    let ranks: Vec<f64> = shares
        .iter()
        .map(|share| {
            below += share;
            2.0 * (below - share / 2.0) - 1.0
        })
        .collect();
    let squares: Vec<f64> = ranks.iter().map(|rank| rank * rank).collect();

    let weighted = |a: &[f64], b: &[f64]| -> f64 {
        shares.iter().zip(a).zip(b).map(|((share, a), b)| share * a * b).sum()
    };
    let mut found: Vec<Vec<f64>> = Vec::with_capacity(2);
    for mut candidate in [ranks, squares] {
        let mean = dot(shares, &candidate);
        for value in &mut candidate {
            *value -= mean;
        }
        for contrast in &found {
            let overlap = weighted(&candidate, contrast);
            for (value, other) in candidate.iter_mut().zip(contrast) {
                *value -= overlap * other;
            }
        }
        let length = weighted(&candidate, &candidate);
        if length <= MIN_LENGTH {
            break;
        }
        for value in &mut candidate {
            *value /= length.sqrt();
        }
        found.push(candidate);
    }
    found
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_at_most_two_contrasts_and_fewer_for_few_bins() {
        for (shares, expect) in
            [(&[1.0][..], 0), (&[0.5, 0.5], 1), (&[0.2, 0.3, 0.5], 2), (&[0.25; 4], 2), (&[1.0, 0.0], 0)]
        {
            assert_eq!(contrasts(shares).len(), expect, "{shares:?}");
        }
    }

    #[test]
    fn rare_bins_are_pooled_and_left_out_if_still_rare() {
        assert_eq!(chi_square(&[5.0, 5.0], &[5.0, 5.0], 1.0).1, 1);
        assert_eq!(chi_square(&[5.0, 1.0, 1.0], &[6.0, 0.6, 0.6], 1.0).1, 1);
        assert_eq!(chi_square(&[5.0, 9.0], &[5.5, 0.5], 1.0), (0.0, 0));
        assert_eq!(chi_square(&[0.0, 0.0], &[0.0, 0.0], 1.0), (0.0, 0));
    }
}

//! How large a difference is, apart from how certain: the numbers a person compares between columns and sites.
//!
//! No alarm rests on these alone. Their size without drift depends on the window's size, so a fixed threshold means
//! something else in every window; only `psi_adj` has that part taken off, and serves as the alarm's floor.

use serde::{Deserialize, Serialize};

use super::{
    Counts, NumericReference, Reference,
    special::{chi2_quantile, real},
};

/// A spread below this counts as this, so that a constant column's shift stays a number one can read.
const MIN_SD: f64 = 1e-3;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effects {
    /// Population stability index, half a row added to every bin.
    pub psi: f64,
    /// `psi` less what sampling alone would give; 0.1 is moderate, 0.25 major.
    pub psi_adj: f64,
    /// Jensen-Shannon distance: the square root of the divergence, natural logarithm.
    pub js: f64,
    pub hellinger: f64,
    /// Total variation: the share of rows that would have to change bins.
    pub tv: f64,
    pub numeric: Option<NumericEffects>,
}

/// What only an ordered scale has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NumericEffects {
    /// Largest distance of the cumulative shares, at the edges.
    pub ks_bins: f64,
    /// Shift of the mean in reference standard deviations.
    pub mean_shift_sd: f64,
    /// Wasserstein distance in reference standard deviations.
    pub w1_norm: f64,
}

impl Effects {
    /// None if the window has no values to compare.
    pub(super) fn of(reference: &Reference, window: &Counts) -> Option<Self> {
        let mut before: Vec<f64> = reference.counts().iter().map(|&rows| real(rows)).collect();
        let mut now: Vec<f64> = window.bins.iter().map(|&rows| real(rows)).collect();
        if window.values.is_none() && window.novel > 0 {
            // Unseen categories are a bin that was empty before.
            before.push(0.0);
            now.push(real(window.novel));
        }
        let (m, n): (f64, f64) = (before.iter().sum(), now.iter().sum());
        if n == 0.0 {
            return None;
        }

        let psi = index(&before, m, &now, n);
        let noise = (real(now.len() as u64) - 1.0) * (1.0 / n + 1.0 / m);
        let p: Vec<f64> = before.iter().map(|rows| rows / m).collect();
        let q: Vec<f64> = now.iter().map(|rows| rows / n).collect();
        let pairs = || p.iter().zip(&q);
        let overlap: f64 = pairs().map(|(p, q)| (p * q).sqrt()).sum();
        let numeric = match reference {
            Reference::Numeric(numeric) => NumericEffects::of(numeric, &p, &q, window),
            Reference::Categorical(_) => None,
        };
        Some(Self {
            psi,
            psi_adj: (psi - noise).max(0.0),
            js: pairs().map(|(&p, &q)| jensen_shannon(p, q)).sum::<f64>().max(0.0).sqrt(),
            hellinger: (1.0 - overlap).max(0.0).sqrt(),
            tv: pairs().map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0,
            numeric,
        })
    }
}

impl NumericEffects {
    fn of(reference: &NumericReference, p: &[f64], q: &[f64], window: &Counts) -> Option<Self> {
        let (sum, first, last) = (window.sum()?, window.sum_first()?, window.sum_last()?);
        let means = &reference.bin_means;
        let (mut distance, mut ks, mut moved) = (0.0, 0.0f64, 0.0);
        for (bin, step) in means.windows(2).enumerate() {
            distance += q[bin] - p[bin];
            ks = ks.max(f64::abs(distance));
            moved += f64::abs(distance) * (step[1] - step[0]);
        }
        // The outer bins are open: there the window's own centre counts, or a change of scale would be underrated.
        moved += off_centre(q.first(), window.bins.first(), first, means.first());
        if means.len() > 1 {
            moved += off_centre(q.last(), window.bins.last(), last, means.last());
        }
        let shift = sum / real(window.n) - reference.mean;
        let sd = reference.sd.max(MIN_SD);
        Some(Self { ks_bins: ks, mean_shift_sd: shift / sd, w1_norm: shift.abs().max(moved) / sd })
    }
}

/// A bin's share times the distance of its rows' mean from the reference's; nothing for an empty bin.
fn off_centre(share: Option<&f64>, rows: Option<&u64>, sum: f64, mean: Option<&f64>) -> f64 {
    match (share, rows, mean) {
        (Some(share), Some(&rows), Some(mean)) if rows > 0 => share * (sum / real(rows) - mean).abs(),
        _ => 0.0,
    }
}

/// Population stability index of two samples counted over the same bins, half a row added to every bin; 0 if either is empty.
pub fn psi(before: &[u64], now: &[u64]) -> f64 {
    let floats = |rows: &[u64]| rows.iter().map(|&rows| real(rows)).collect::<Vec<_>>();
    let (before, now) = (floats(before), floats(now));
    let (m, n): (f64, f64) = (before.iter().sum(), now.iter().sum());
    if m > 0.0 && n > 0.0 && before.len() == now.len() { index(&before, m, &now, n) } else { 0.0 }
}

/// What the index exceeds with the chance `alpha` when `m` and `n` independent rows come from one world: the index is about
/// a chi-square of one less than `bins` degrees of freedom, times `1/m + 1/n`. 0 where there is nothing to compare.
pub fn psi_critical(bins: usize, m: u64, n: u64, alpha: f64) -> f64 {
    if bins < 2 || m == 0 || n == 0 {
        return 0.0;
    }
    chi2_quantile(alpha, real(bins as u64 - 1)) * (1.0 / real(m) + 1.0 / real(n))
}

fn index(before: &[f64], m: f64, now: &[f64], n: f64) -> f64 {
    let bins = real(now.len() as u64);
    let smooth = |rows: f64, total: f64| (rows + 0.5) / (total + 0.5 * bins);
    let pairs = before.iter().zip(now).map(|(&before, &now)| (smooth(before, m), smooth(now, n)));
    pairs.map(|(p, q)| (q - p) * (q / p).ln()).sum()
}

/// One bin's part of the Jensen-Shannon divergence.
fn jensen_shannon(p: f64, q: f64) -> f64 {
    let middle = f64::midpoint(p, q);
    let side = |share: f64| if share > 0.0 { share * (share / middle).ln() } else { 0.0 };
    f64::midpoint(side(p), side(q))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_samples_of_one_world_exceeds_its_critical_value_as_often_as_was_said() {
        // A small generator of its own, so that the test is the same everywhere.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bin = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 33).unwrap_or(0) % 10
        };
        let mut sample = |rows: u32| {
            let mut counts = [0; 10];
            (0..rows).for_each(|_| counts[bin()] += 1);
            counts
        };
        let critical = psi_critical(10, 2000, 500, 0.05);
        let beyond = (0..2000).filter(|_| psi(&sample(2000), &sample(500)) > critical).count();
        assert!((60..=140).contains(&beyond), "{beyond} of 2000 at a chance of 0.05");
    }

    #[test]
    fn nothing_to_compare_is_no_difference() {
        assert!(psi(&[], &[]).abs() < 1e-12 && psi(&[0, 0], &[1, 2]).abs() < 1e-12);
        assert!(psi_critical(1, 5, 5, 0.01).abs() < 1e-12 && psi_critical(5, 0, 5, 0.01).abs() < 1e-12);
        assert!(psi(&[90, 10], &[10, 90]) > 1.0);
    }
}

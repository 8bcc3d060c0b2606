//! The special functions behind the p-values: log-gamma, chi-square and F(2, R) tails, beta-binomial tails.
//!
//! Tails are summed from the far end wherever they are small, so a p-value of 1e-80 keeps its digits. Every loop has a
//! bound. Must never return NaN for arguments in the stated domain.

use std::f64::consts::PI;

/// Terms of a series or continued fraction; the arguments in use here converge in well under 200.
const MAX_TERMS: u32 = 10_000;
/// Beta-binomial tails are summed term by term; above this many trials both counts are scaled down alike. A window
/// that large is limited by the reference's own error, so the loss of evidence is nil and the result conservative.
const MAX_TRIALS: u64 = 1 << 22;

/// `ln Γ(x)` for `x > 0`, by Stirling's series after shifting the argument up to where it has converged.
pub fn ln_gamma(x: f64) -> f64 {
    const STIRLING: [f64; 7] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
    ];
    let mut shifted = x;
    let mut product = 1.0;
    while shifted < 10.0 {
        product *= shifted;
        shifted += 1.0;
    }
    let square = shifted * shifted;
    let series = STIRLING.iter().rev().fold(0.0, |sum, term| sum / square + term) / shifted;
    (shifted - 0.5) * shifted.ln() - shifted + 0.5 * (2.0 * PI).ln() + series - product.ln()
}

/// The regularised upper incomplete gamma function `Q(a, x)`, `a > 0`.
pub fn gamma_q(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if !x.is_finite() {
        return 0.0;
    }
    let prefix = (a * x.ln() - x - ln_gamma(a)).exp();
    let q = if x < a + 1.0 { 1.0 - prefix * lower_series(a, x) } else { prefix * upper_fraction(a, x) };
    q.clamp(0.0, 1.0)
}

/// `P(X >= x)` for a chi-square variable with `df > 0` degrees of freedom, which need not be whole.
pub fn chi2_sf(x: f64, df: f64) -> f64 {
    gamma_q(df / 2.0, x / 2.0)
}

/// The value that a chi-square variable exceeds with the chance `alpha`, 0 to 1: the other way round of [`chi2_sf`].
pub fn chi2_quantile(alpha: f64, df: f64) -> f64 {
    let alpha = alpha.clamp(1e-300, 1.0);
    let (mut low, mut high) = (0.0, df.max(1.0));
    // Doubled until the tail is thin enough; 1e-300 is reached long before the bound.
    for _ in 0..64 {
        if chi2_sf(high, df) <= alpha {
            break;
        }
        low = high;
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if chi2_sf(middle, df) > alpha { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The tail of twice an F(2, R) variable: a chi-square(2) tail made heavier for a scale that was estimated from only
/// `windows` replayed windows. None means the scale is known.
pub fn f2_sf(s: f64, windows: Option<u32>) -> f64 {
    match windows {
        None => (-s / 2.0).exp(),
        Some(windows) => {
            let windows = f64::from(windows);
            (1.0 + s / windows).powf(-windows / 2.0)
        }
    }
}

/// Any p-value made heavier in the same way: read as the chi-square(2) deviate `-2 ln p`, answered by [`f2_sf`].
pub fn heavier(p: f64, windows: Option<u32>) -> f64 {
    match windows {
        None => p,
        Some(_) => f2_sf(-2.0 * p.max(1e-300).ln(), windows),
    }
}

/// `P(U >= k)` for `U ~ BetaBinomial(n, a, b)`, `a, b > 0`.
pub fn beta_binomial_upper(k: u64, n: u64, a: f64, b: f64) -> f64 {
    let tail = BetaBinomial::scaled(k, n, a, b);
    if tail.k <= 0.0 {
        1.0
    } else if tail.k > tail.n {
        0.0
    } else if tail.k > tail.mean() {
        tail.from(tail.k).min(1.0)
    } else {
        (1.0 - tail.up_to(tail.k - 1.0)).max(0.0)
    }
}

/// `P(U <= k)` for `U ~ BetaBinomial(n, a, b)`; summed directly when small, so not one minus the upper tail.
pub fn beta_binomial_lower(k: u64, n: u64, a: f64, b: f64) -> f64 {
    let tail = BetaBinomial::scaled(k, n, a, b);
    if tail.k >= tail.n {
        1.0
    } else if tail.k + 1.0 > tail.mean() {
        (1.0 - tail.from(tail.k + 1.0)).max(0.0)
    } else {
        tail.up_to(tail.k).min(1.0)
    }
}

/// Twice the smaller tail, at most 1.
pub fn beta_binomial_two_sided(k: u64, n: u64, a: f64, b: f64) -> f64 {
    (2.0 * beta_binomial_upper(k, n, a, b).min(beta_binomial_lower(k, n, a, b))).min(1.0)
}

/// A count as a float; windows are far below 2^53 rows.
#[expect(clippy::cast_precision_loss, reason = "counts are bounded by 2^40, which an f64 holds exactly")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

/// `P(a, x)` without its prefix; converges quickly for `x < a + 1`.
fn lower_series(a: f64, x: f64) -> f64 {
    let mut term = 1.0 / a;
    let mut sum = term;
    for i in 1..MAX_TERMS {
        term *= x / (a + f64::from(i));
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    sum
}

/// `Q(a, x)` without its prefix, by Lentz's method; converges quickly for `x >= a + 1`.
fn upper_fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let mut denominator = x + 1.0 - a;
    let mut ahead = 1.0 / TINY;
    let mut behind = 1.0 / denominator;
    let mut value = behind;
    for term in 1..MAX_TERMS {
        let term = f64::from(term);
        let numerator = term * (a - term);
        denominator += 2.0;
        behind = away_from_zero(numerator * behind + denominator, TINY).recip();
        ahead = away_from_zero(denominator + numerator / ahead, TINY);
        value *= ahead * behind;
        if (ahead * behind - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

fn away_from_zero(x: f64, tiny: f64) -> f64 {
    if x.abs() < tiny { tiny } else { x }
}

struct BetaBinomial {
    k: f64,
    n: f64,
    a: f64,
    b: f64,
}

impl BetaBinomial {
    fn scaled(k: u64, n: u64, a: f64, b: f64) -> Self {
        let shrink = n.div_ceil(MAX_TRIALS).max(1);
        // A count above the trials must stay above them, or an impossible count would look possible.
        let k = if k > n { n / shrink + 1 } else { k / shrink };
        Self { k: real(k), n: real(n / shrink), a, b }
    }

    fn mean(&self) -> f64 {
        self.n * self.a / (self.a + self.b)
    }

    fn probability(&self, k: f64) -> f64 {
        let Self { n, a, b, .. } = *self;
        let ways = ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
        (ways + ln_beta(k + a, n - k + b) - ln_beta(a, b)).exp()
    }

    /// `P(U >= start)`: the first term, then each from the one before by their ratio.
    fn from(&self, start: f64) -> f64 {
        let Self { n, a, b, .. } = *self;
        let (mut i, mut term, mut sum) = (start, self.probability(start), 0.0);
        while i <= n && term > sum * 1e-17 {
            sum += term;
            term *= (n - i) * (i + a) / ((i + 1.0) * (n - i - 1.0 + b)).max(f64::MIN_POSITIVE);
            i += 1.0;
        }
        sum
    }

    /// `P(U <= start)`, downwards.
    fn up_to(&self, start: f64) -> f64 {
        let Self { n, a, b, .. } = *self;
        let (mut i, mut term, mut sum) = (start, self.probability(start), 0.0);
        while i >= 0.0 && term > sum * 1e-17 {
            sum += term;
            term *= i * (n - i + b) / ((n - i + 1.0) * (i - 1.0 + a)).abs().max(f64::MIN_POSITIVE);
            i -= 1.0;
        }
        sum
    }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(got: f64, expect: f64) {
        assert!((got - expect).abs() <= 1e-13 * expect.abs().max(1.0), "{got} is not {expect}");
    }

    #[test]
    fn log_gamma_of_known_arguments() {
        check(ln_gamma(1.0), 0.0);
        check(ln_gamma(2.0), 0.0);
        check(ln_gamma(0.5), 0.5 * PI.ln());
        check(ln_gamma(11.0), 3_628_800f64.ln());
        check(ln_gamma(100.0), 359.134_205_369_575_4);
    }

    #[test]
    fn tails_at_the_edges_of_their_domain() {
        check(gamma_q(1.0, 0.0), 1.0);
        check(gamma_q(1.0, f64::INFINITY), 0.0);
        check(gamma_q(1.0, f64::MAX), 0.0);
        check(chi2_sf(2.0, 2.0), (-1f64).exp());
        check(chi2_quantile(0.05, 1.0), 3.841_458_820_694_124);
        check(chi2_quantile(0.01, 9.0), 21.665_994_333_461_924);
        check(chi2_quantile(1.0, 3.0), 0.0);
        assert!(chi2_quantile(0.0, 5.0).is_finite());
        check(heavier(0.0, None), 0.0);
        check(f2_sf(0.0, Some(12)), 1.0);
        check(beta_binomial_upper(0, 0, 2.0, 1.0), 1.0);
        check(beta_binomial_upper(1, 0, 2.0, 1.0), 0.0);
        check(beta_binomial_lower(0, 0, 2.0, 1.0), 1.0);
        check(beta_binomial_two_sided(0, 0, 0.5, 0.5), 1.0);
    }

    #[test]
    fn the_two_tails_of_a_beta_binomial_complement_each_other() {
        for (n, a, b) in [(10, 1.0, 1.0), (7, 0.5, 0.5), (40, 20.5, 980.5), (25, 30.5, 0.5)] {
            for k in 0..n {
                check(beta_binomial_lower(k, n, a, b) + beta_binomial_upper(k + 1, n, a, b), 1.0);
            }
        }
    }

    #[test]
    fn a_huge_window_is_scaled_down_instead_of_summed_for_minutes() {
        let p = beta_binomial_two_sided(1 << 39, 1 << 40, 50.5, 950.5);
        assert!(p < 1e-100, "{p}");
        check(beta_binomial_upper((1 << 40) + 1, 1 << 40, 2.0, 99.0), 0.0);
    }
}

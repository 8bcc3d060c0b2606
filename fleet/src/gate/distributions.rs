//! The few distributions that the layers need, by their textbook formulas. Determined by their arguments alone: a
//! verdict is recomputed years later.

use super::as_f64;

/// Logarithm of the gamma function (Lanczos, 1964; g = 7, 9 terms), for positive arguments.
pub fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    let mut at = x;
    for term in TERMS {
        at += 1.0;
        sum += term / at;
    }
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Regularised incomplete beta function by its continued fraction (Lentz, 1976).
pub fn beta_inc(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges fast on this side of the mean; the other side is its mirror.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let keep = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut above = 1.0;
    let mut below = 1.0 / keep(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = below;
    for step in 1..5000_u32 {
        let m = f64::from(step);
        for term in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            below = 1.0 / keep(1.0 + term * below);
            above = keep(1.0 + term / above);
            fraction *= below * above;
        }
        if (below * above - 1.0).abs() < 1e-14 {
            break;
        }
    }
    fraction
}

/// Chance of at most `k` of `n` at a share of `p`.
pub fn binomial_at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n { 1.0 } else { beta_inc(as_f64(n - k), as_f64(k) + 1.0, 1.0 - p) }
}

/// Chance of at least `k` events where `mean` are expected.
pub fn poisson_at_least(k: u64, mean: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if mean <= 0.0 {
        return 0.0;
    }
    let below: f64 = (0..k).map(|i| (as_f64(i) * mean.ln() - mean - ln_gamma(as_f64(i) + 1.0)).exp()).sum();
    (1.0 - below).clamp(0.0, 1.0)
}

/// Chance that a standard normal value is below `z` (Marsaglia's series, 2004).
pub fn normal_below(z: f64) -> f64 {
    if z.abs() > 8.0 {
        return if z > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum) = (z, z);
    let mut i = 1.0;
    while term.abs() > 1e-17 * sum.abs() {
        i += 2.0;
        term *= z * z / i;
        sum += term;
    }
    (0.5 + sum * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()).clamp(0.0, 1.0)
}

/// The value that a standard normal one exceeds with a chance of `alpha`.
pub fn normal_above(alpha: f64) -> f64 {
    bisect(-8.0, 8.0, |z| 1.0 - normal_below(z) > alpha)
}

/// The value that Student's t with `freedom` degrees exceeds with a chance of `alpha` (below one half).
pub fn student_above(alpha: f64, freedom: f64) -> f64 {
    let tail = |t: f64| 0.5 * beta_inc(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    bisect(0.0, 1e6, |t| tail(t) > alpha)
}

/// How many of the smallest of `m · n` pairwise differences lie below the true shift with a chance of at most `alpha`
/// (Mann–Whitney's exact distribution, 1947): the difference of this rank is a lower bound. `None` where so few values
/// cannot say.
pub fn mann_whitney_rank(m: usize, n: usize, alpha: f64) -> Option<usize> {
    if m == 0 || n == 0 {
        return None;
    }
    let (m, n) = (m.min(n), m.max(n));
    // Coefficients of the Gaussian binomial: in how many arrangements the statistic is u.
    let mut ways = vec![0.0_f64; m * n / 2 + 1];
    ways[0] = 1.0;
    for i in 1..=m {
        for u in (n + i..ways.len()).rev() {
            ways[u] -= ways[u - n - i];
        }
        for u in i..ways.len() {
            ways[u] += ways[u - i];
        }
    }
    let (a, b) = (as_f64(m as u64), as_f64(n as u64));
    let all = (ln_gamma(a + b + 1.0) - ln_gamma(a + 1.0) - ln_gamma(b + 1.0)).exp();
    let mut seen = 0.0;
    let rank = ways.iter().take_while(|&&count| {
        seen += count;
        seen / all <= alpha * (1.0 + 1e-9) // one in twenty is five in a hundred
    });
    Some(rank.count()).filter(|&rank| rank > 0)
}

/// The border between where `low` holds and where it does not.
pub(crate) fn bisect(mut from: f64, mut to: f64, low: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..100 {
        let middle = f64::midpoint(from, to);
        if low(middle) { from = middle } else { to = middle }
    }
    f64::midpoint(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expect: f64) {
        assert!((value - expect).abs() < 1e-6 * expect.abs().max(1.0), "{value} is not {expect}");
    }

    /// Values of the printed tables.
    #[test]
    fn the_tables_agree() {
        near(ln_gamma(5.0), 24.0_f64.ln());
        near(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln());
        near(beta_inc(2.0, 3.0, 0.4), 0.5248);
        near(binomial_at_most(2, 10, 0.25), 0.525_592_8);
        near(binomial_at_most(10, 10, 0.25), 1.0);
        near(poisson_at_least(2, 1.0), 1.0 - 2.0 / std::f64::consts::E);
        near(poisson_at_least(0, 0.0), 1.0);
        near(normal_below(1.959_964), 0.975);
        near(normal_above(0.05), 1.644_854);
        near(student_above(0.05, 4.0), 2.131_847);
        near(student_above(0.025, 30.0), 2.042_272);
    }

    /// The critical values of Mann and Whitney's table, one-sided.
    #[test]
    fn ranks() {
        let check = |m, n, alpha, expect| assert_eq!(mann_whitney_rank(m, n, alpha), expect, "{m} {n}");
        check(3, 3, 0.05, Some(1)); // P(U = 0) = 1/20
        check(3, 3, 0.04, None);
        check(5, 5, 0.05, Some(5)); // U of 4 or less
        check(5, 5, 0.025, Some(3));
        check(10, 10, 0.05, Some(28)); // U of 27 or less
        check(20, 20, 0.05, Some(139));
        check(1, 19, 0.05, Some(1));
        check(1, 18, 0.05, None);
        check(0, 5, 0.05, None);
    }
}

//! How much more a column varies from window to window than independent rows would.
//!
//! Rows of one day resemble each other, and so do nights and Sundays. A test that assumes independence alarms on that.
//! So the time-ordered reference is cut into windows of the size used in production and tested against itself; what
//! the windows vary more than they should divides every later statistic (after Rao and Scott). A reference that is
//! shuffled, or longer windows than are used later, teach nothing: the bundle keeps the rows' time order.

use serde::{Deserialize, Serialize};

use super::{
    Counts, CountsError, Reference,
    components::{Components, Sample},
    special::real,
};

/// Fewer replayed windows say too little; the independent default then stands.
pub const MIN_REPLAY_WINDOWS: u32 = 10;
/// If windows vary this much more than expected even apart from location and spread, they are too short for the
/// column's memory, and only location and spread can still be trusted.
const MAX_REST_INFLATION: f64 = 1.5;

/// The default assumes independent rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawOverDispersion")]
pub struct OverDispersion {
    /// Variance of the location and of the spread contrast; 1 for independent rows.
    pub(super) v: [f64; 2],
    /// Scale and degrees of freedom of the remaining chi-square; None leaves the degrees as they are.
    pub(super) a: f64,
    pub(super) nu: Option<f64>,
    /// Variance of the number of missing rows.
    pub(super) v0: f64,
    /// Windows replayed: the fewer, the heavier the tails. None: nothing was estimated.
    pub(super) windows: Option<u32>,
    /// Where the contrasts' own tails are heavier than so many windows tell. The remaining chi-square has no part in
    /// it: how far a winter moves the mean says nothing about a value that sticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tail: Option<u32>,
    /// Where the remaining chi-square's tail is lighter: if its replayed values are no more, and no more spread, than
    /// those of independent rows, each window tells of its scale by all its degrees of freedom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rest_tail: Option<u32>,
    /// Whether the remaining chi-square counts as evidence.
    pub(super) use_rest: bool,
}

/// How heavy the tails are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tails {
    /// As the number of windows tells, for all of them alike.
    Windows,
    /// As the windows themselves tell, for each statistic by itself.
    Own,
}

impl Default for OverDispersion {
    fn default() -> Self {
        Self {
            v: [1.0; 2],
            a: 1.0,
            nu: None,
            v0: 1.0,
            windows: None,
            tail: None,
            rest_tail: None,
            use_rest: true,
        }
    }
}

impl OverDispersion {
    /// Learns from consecutive windows of the reference itself, each of the size tested later (a merged size has a
    /// replay of its own). Windows with fewer than two values are skipped; from 30 windows on it is good.
    pub fn replay(reference: &Reference, windows: &[Counts]) -> Result<Self, CountsError> {
        Self::learn(reference, windows, Tails::Windows)
    }

    /// The same with tails as heavy as the windows' own. A winter is rare and far out, which the number of windows alone
    /// does not tell: what counts is how many of them say how far out it gets.
    pub(super) fn replay_with_tails(reference: &Reference, windows: &[Counts]) -> Result<Self, CountsError> {
        Self::learn(reference, windows, Tails::Own)
    }

    fn learn(reference: &Reference, windows: &[Counts], tails: Tails) -> Result<Self, CountsError> {
        for window in windows {
            window.check_shape(reference)?;
        }
        let replayed: Vec<Components> = windows
            .iter()
            .filter(|window| window.n >= 2)
            .map(|window| Components::of(reference, window, Sample::OfReference))
            .collect();
        let count = u32::try_from(replayed.len()).unwrap_or(u32::MAX);
        if count < MIN_REPLAY_WINDOWS {
            return Ok(Self::default());
        }

        let contrasts = replayed.iter().map(|components| components.z.len()).min().unwrap_or(0);
        let mut v = [1.0; 2];
        let mut known = u32::MAX;
        for (j, variance) in v.iter_mut().take(contrasts).enumerate() {
            let z: Vec<f64> = replayed.iter().map(|components| components.z[j]).collect();
            known = known.min(student(&z).max(MIN_REPLAY_WINDOWS));
            *variance = inflation(z.into_iter());
        }
        let v0 = inflation(replayed.iter().map(|components| components.z_null));

        let (rest, df): (Vec<f64>, Vec<f64>) =
            replayed.iter().map(Components::rest).map(|(rest, df)| (rest, f64::from(df))).unzip();
        let (raw, expected) = (mean(&rest), mean(&df));
        let level = raw.max(expected);
        let most = if expected > 0.0 { expected } else { 1.0 };
        let matched = 2.0 * level * level / sample_variance(&rest).max(1e-12);
        let nu = matched.min(most).max(0.5);
        let use_rest = contrasts == 0 || (expected > 0.0 && raw <= MAX_REST_INFLATION * expected);
        let (tail, rest_tail) = match tails {
            Tails::Windows => (None, None),
            Tails::Own => {
                let ordinary = is_ordinary(raw, matched, expected, count);
                ((known < count).then_some(known), ordinary.then(|| times(count, nu)))
            }
        };
        let (a, nu, windows) = ((level / nu).max(1.0), Some(nu), Some(count));
        Ok(Self { v, a, nu, v0, windows, tail, rest_tail, use_rest })
    }

    /// The same with no variance above `most`.
    pub(super) fn capped(&self, most: f64) -> Self {
        Self { v: self.v.map(|v| v.min(most)), v0: self.v0.min(most), ..self.clone() }
    }

    pub fn v(&self) -> [f64; 2] {
        self.v
    }

    pub fn a(&self) -> f64 {
        self.a
    }

    pub fn nu(&self) -> Option<f64> {
        self.nu
    }

    pub fn v0(&self) -> f64 {
        self.v0
    }

    pub fn windows(&self) -> Option<u32> {
        self.windows
    }

    /// Degrees of freedom of the tails of location, spread and missing rows.
    pub fn tail(&self) -> Option<u32> {
        self.tail.or(self.windows)
    }

    /// Degrees of freedom of the remaining chi-square's tail.
    pub fn rest_tail(&self) -> Option<u32> {
        self.rest_tail.or(self.windows)
    }

    pub fn uses_rest(&self) -> bool {
        self.use_rest
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the over-dispersion is malformed: {0}; replay the reference again")]
pub struct OverDispersionError(&'static str);

#[derive(Deserialize)]
struct RawOverDispersion {
    v: [f64; 2],
    a: f64,
    nu: Option<f64>,
    v0: f64,
    windows: Option<u32>,
    #[serde(default)]
    tail: Option<u32>,
    #[serde(default)]
    rest_tail: Option<u32>,
    use_rest: bool,
}

impl TryFrom<RawOverDispersion> for OverDispersion {
    type Error = OverDispersionError;

    fn try_from(raw: RawOverDispersion) -> Result<Self, Self::Error> {
        let RawOverDispersion { v, a, nu, v0, windows, tail, rest_tail, use_rest } = raw;
        let inflates = |factor: f64| factor.is_finite() && factor >= 1.0;
        if !v.into_iter().chain([a, v0]).all(inflates) {
            return Err(OverDispersionError("a variance is not a finite number of at least 1"));
        }
        if nu.is_some_and(|nu| !nu.is_finite() || nu < 0.5) {
            return Err(OverDispersionError(
                "the degrees of freedom are not a finite number of at least 0.5",
            ));
        }
        if [windows, tail, rest_tail].into_iter().flatten().any(|windows| windows < MIN_REPLAY_WINDOWS) {
            return Err(OverDispersionError("fewer than 10 windows were replayed"));
        }
        Ok(Self { v, a, nu, v0, windows, tail, rest_tail, use_rest })
    }
}

/// The mean square of standardised values, never below the 1 that independent rows would give.
fn inflation(z: impl Iterator<Item = f64>) -> f64 {
    mean(&z.map(|z| z * z).collect::<Vec<_>>()).max(1.0)
}

/// Whether the remaining chi-squares are such as independent rows give, within two standard errors: in their mean, and
/// in the degrees of freedom that their spread suggests.
fn is_ordinary(mean: f64, matched: f64, expected: f64, windows: u32) -> bool {
    let chance = |of: f64| 2.0 * (2.0 / of).sqrt();
    let windows = f64::from(windows);
    expected > 0.0
        && mean <= expected * (1.0 + chance(windows * expected))
        && matched * (1.0 + chance(windows)) >= expected
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and float casts saturate"
)]
fn times(windows: u32, nu: f64) -> u32 {
    (f64::from(windows) * nu.max(1.0)) as u32
}

/// Degrees of freedom of the Student distribution with the values' kurtosis; unbounded where that may be a normal one's.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at least 4, and float casts saturate"
)]
fn student(values: &[f64]) -> u32 {
    let power = |k: i32| mean(&values.iter().map(|value| value.powi(k)).collect::<Vec<_>>());
    let excess = power(4) / power(2).powi(2).max(f64::MIN_POSITIVE) - 3.0;
    let chance = 2.0 * (24.0 / real(values.len() as u64)).sqrt();
    if excess > chance { (4.0 + 6.0 / excess) as u32 } else { u32::MAX }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / real(values.len() as u64)
}

fn sample_variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / real(values.len() as u64 - 1)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::Counter;

    fn windows(reference: &Reference, values: &[f32], size: usize) -> Vec<Counts> {
        let mut counter = Counter::new(reference);
        let mut closed = Vec::new();
        for chunk in values.chunks(size) {
            if let Counter::Numeric(numeric) = &mut counter {
                numeric.observe_all(chunk);
            }
            closed.push(counter.take());
        }
        closed
    }

    fn stepped(rows: u16) -> Vec<f32> {
        (0..rows).map(|i| f32::from(i / 50)).collect()
    }

    #[test]
    fn too_few_windows_leave_the_default() -> Result<(), Box<dyn Error>> {
        let values = stepped(450);
        let reference = Reference::numeric(&values)?;
        let replayed = OverDispersion::replay(&reference, &windows(&reference, &values, 50))?;
        assert_eq!(replayed, OverDispersion::default());
        Ok(())
    }

    #[test]
    fn a_column_that_wanders_is_over_dispersed() -> Result<(), Box<dyn Error>> {
        let values = stepped(1000);
        let reference = Reference::numeric(&values)?;
        let replayed = OverDispersion::replay(&reference, &windows(&reference, &values, 50))?;
        assert_eq!(replayed.windows(), Some(20));
        assert!(replayed.v()[0] > 10.0 && !replayed.uses_rest(), "{replayed:?}");
        let text = serde_json::to_string(&replayed)?;
        assert_eq!(serde_json::from_str::<OverDispersion>(&text)?, replayed);
        Ok(())
    }

    #[test]
    fn rare_windows_far_out_make_heavy_tails() -> Result<(), Box<dyn Error>> {
        // Nine months hardly move, three are far out.
        let season = |window: u32| if window % 48 < 4 { 400.0 } else { 0.0 };
        let values: Vec<f32> = (0..96u32 * 50)
            .map(|row| f32::from(u16::try_from(row * 379 % 1000).unwrap_or(0)) + season(row / 50))
            .collect();
        let reference = Reference::numeric(&values)?;
        let windows = windows(&reference, &values, 50);
        let (plain, heavy) = (
            OverDispersion::replay(&reference, &windows)?,
            OverDispersion::replay_with_tails(&reference, &windows)?,
        );
        assert_eq!((plain.tail(), heavy.tail(), heavy.windows()), (Some(96), Some(10), Some(96)));
        assert_eq!(
            heavy.rest_tail(),
            Some(96),
            "a remaining chi-square that is spread like this is no independent one"
        );
        let text = serde_json::to_string(&heavy)?;
        assert_eq!(serde_json::from_str::<OverDispersion>(&text)?, heavy);
        assert_eq!((plain.v(), plain.a(), plain.uses_rest()), (heavy.v(), heavy.a(), heavy.uses_rest()));
        let even: Vec<f64> = (0..100).map(|i| (f64::from(i) - 49.5) / 30.0).collect();
        assert_eq!(student(&even), u32::MAX);
        Ok(())
    }

    #[test]
    fn windows_of_independent_rows_tell_of_the_rest_by_all_its_degrees_of_freedom()
    -> Result<(), Box<dyn Error>> {
        let values: Vec<f32> = (0..4000u64)
            .map(|row| {
                let mut x = (row + 5_000).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                f32::from(u16::try_from((x ^ (x >> 31)) >> 48).unwrap_or(0))
            })
            .collect();
        let reference = Reference::numeric(&values)?;
        let windows = windows(&reference, &values, 100);
        let own = OverDispersion::replay_with_tails(&reference, &windows)?;
        let plain = OverDispersion::replay(&reference, &windows)?;
        assert_eq!((plain.rest_tail(), own.windows()), (Some(40), Some(40)));
        assert!(own.rest_tail().is_some_and(|df| (40 * 8..=40 * 17).contains(&df)), "{own:?}");
        Ok(())
    }

    #[test]
    fn a_constant_column_stays_finite() -> Result<(), Box<dyn Error>> {
        let reference = Reference::numeric(&[1.0; 300])?;
        let replayed = OverDispersion::replay(&reference, &windows(&reference, &[1.0; 300], 20))?;
        assert_eq!((replayed.v(), replayed.windows()), ([1.0, 1.0], Some(15)));
        assert!(replayed.a().is_finite() && replayed.nu().is_some_and(f64::is_finite));
        Ok(())
    }

    #[test]
    fn windows_of_another_reference_are_refused() -> Result<(), Box<dyn Error>> {
        let reference = Reference::numeric(&[1.0, 2.0])?;
        let other = Reference::numeric(&[1.0, 2.0, 3.0])?;
        assert!(OverDispersion::replay(&reference, &[Counts::empty(&other)]).is_err());
        Ok(())
    }

    #[test]
    fn malformed_over_dispersion_is_refused() {
        let check = |v: &str, nu: &str, windows: &str, complaint: &str| {
            let text =
                format!(r#"{{"v":{v},"a":1.0,"nu":{nu},"v0":1.0,"windows":{windows},"use_rest":true}}"#);
            let refusal = serde_json::from_str::<OverDispersion>(&text).map_err(|error| error.to_string());
            assert!(refusal.as_ref().is_err_and(|text| text.contains(complaint)), "{refusal:?}");
        };
        check("[0.5,1]", "null", "null", "variance");
        check("[1,1]", "0.1", "null", "degrees of freedom");
        check("[1,1]", "null", "9", "fewer than 10");
    }
}

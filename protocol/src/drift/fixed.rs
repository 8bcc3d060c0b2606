//! Exact sums: f32 values on a fixed binary grid, added as integers.
//!
//! Floating-point addition depends on its order, and panes arrive in any order. Integers do not. The grid follows the
//! reference's magnitude, so it is as fine as an f64 of that size. Must never round while adding.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Bits below the reference's leading bit: one grid step is to the reference what the last bit is to an f64.
const FRACTION_BITS: i16 = 52;
/// The effect sizes treat a spread below 0.001 as 0.001, so a grid for smaller magnitudes than about 2^-10 buys nothing
/// and would cost headroom when a column that was all zeros starts to move.
const MIN_EXPONENT: i16 = -10;
/// A value is clamped to 2^86 steps (10^10 times the reference's magnitude): with 2^40 rows a sum still fits an i128.
const LIMIT: i128 = 1 << 86;

/// The spacing of representable sums: `2^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i16", into = "i16")]
pub(super) struct Grid(i16);

impl Grid {
    pub(super) fn of(min: f32, max: f32) -> Self {
        Self(binary_exponent(min.abs().max(max.abs())).max(MIN_EXPONENT) - FRACTION_BITS)
    }

    /// Steps per unit. A power of two, so multiplying by it is exact; put together from its exponent, because it is
    /// needed for every value.
    #[inline]
    pub(super) fn scale(self) -> f64 {
        f64::from_bits(u64::from((1023 - self.0).cast_unsigned()) << 52)
    }

    pub(super) fn value(self, sum: Steps) -> f64 {
        sum.to_f64() * 2f64.powi(i32::from(self.0))
    }
}

impl From<Grid> for i16 {
    fn from(grid: Grid) -> Self {
        grid.0
    }
}

impl TryFrom<i16> for Grid {
    type Error = &'static str;

    fn try_from(exponent: i16) -> Result<Self, Self::Error> {
        let smallest = MIN_EXPONENT - FRACTION_BITS;
        let largest = 127 - FRACTION_BITS;
        if (smallest..=largest).contains(&exponent) {
            Ok(Self(exponent))
        } else {
            Err("the sum's exponent is outside -62..=75")
        }
    }
}

/// A sum in grid steps. Text in JSON, because a JSON number of this size is read back as a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Steps(i128);

impl Steps {
    pub(super) const ZERO: Self = Self(0);

    /// One value in steps; what is finer than a step is cut off. `scale` is [`Grid::scale`].
    #[inline]
    pub(super) fn of(value: f32, scale: f64) -> Self {
        Self(truncate(f64::from(value) * scale))
    }

    /// Does not wrap: each of up to 2^40 rows adds at most [`LIMIT`].
    #[inline]
    pub(super) fn add(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// `rows` rows of this mean, as far as a sum may go.
    pub(super) fn many(mean: f64, rows: u64, grid: Grid) -> Self {
        Self(truncate(mean * grid.scale()).saturating_mul(rows.into()))
    }

    /// The value of each of `rows` rows, if they can be alike.
    pub(super) fn each(self, rows: u64) -> Option<Self> {
        let rows = i128::from(rows);
        (rows > 0 && self.0 % rows == 0).then(|| Self(self.0 / rows))
    }

    /// Sum of `rows` rows whose mean is that of `of` rows with this sum; what is finer than a step is cut off.
    pub(super) fn scaled(self, rows: u64, of: u64) -> Self {
        let (rows, of) = (i128::from(rows), i128::from(of));
        if of == 0 { Self::ZERO } else { Self(self.0 / of * rows + self.0 % of * rows / of) }
    }

    /// Whether `rows` values can have this sum.
    pub(super) fn possible(self, rows: u64) -> bool {
        self.0.unsigned_abs() <= LIMIT.unsigned_abs().saturating_mul(u128::from(rows))
    }

    #[expect(clippy::cast_precision_loss, reason = "the one rounding, after all additions")]
    fn to_f64(self) -> f64 {
        self.0 as f64
    }
}

/// Most values fit an i64, for which the processor has an instruction; the 128-bit conversion is a library call.
#[expect(clippy::cast_possible_truncation, reason = "truncation is the purpose and float casts saturate")]
#[inline]
fn truncate(steps: f64) -> i128 {
    const NARROW: f64 = 4_611_686_018_427_387_904.0;
    if steps.abs() < NARROW { i128::from(steps as i64) } else { (steps as i128).clamp(-LIMIT, LIMIT) }
}

/// `floor(log2(magnitude))` for a finite, non-negative value; subnormals and zero count as the smallest normal.
fn binary_exponent(magnitude: f32) -> i16 {
    let biased = i16::from(magnitude.to_bits().to_be_bytes()[0]) << 1
        | i16::from(magnitude.to_bits().to_be_bytes()[1] >> 7);
    biased.max(1) - 127
}

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            serializer.serialize_i128(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(|_| D::Error::custom("a sum is not a whole number of grid steps"))
        } else {
            i128::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(grid: Grid, values: &[f32]) -> f64 {
        let mut total = Steps::default();
        for &value in values {
            total.add(Steps::of(value, grid.scale()));
        }
        grid.value(total)
    }

    #[test]
    fn the_exponent_is_the_floor_of_the_binary_logarithm() {
        for (magnitude, expect) in
            [(1.0, 0), (1.99, 0), (2.0, 1), (0.5, -1), (3e38, 127), (0.0, -126), (1e-45, -126)]
        {
            assert_eq!(binary_exponent(magnitude), expect, "{magnitude}");
        }
    }

    #[test]
    fn the_scale_is_a_power_of_two() {
        for exponent in [-62, -1, 0, 1, 75] {
            assert_eq!(Grid(exponent).scale().to_bits(), 2f64.powi(-i32::from(exponent)).to_bits());
        }
    }

    #[test]
    fn sums_are_exact_where_floats_are_not() {
        let grid = Grid::of(-1e8, 1e8);
        let values = [1e8, 0.125, -1e8, 0.25];
        assert_eq!(sum(grid, &values).to_bits(), 0.375f64.to_bits());
    }

    #[test]
    fn far_outliers_are_clamped_and_never_overflow() {
        let grid = Grid::of(0.0, 0.0);
        assert!(sum(grid, &[f32::MAX, f32::MAX]).is_finite());
        assert_eq!(sum(grid, &[f32::MAX, f32::MIN]).to_bits(), 0f64.to_bits());
        assert_eq!(sum(grid, &[1e6]).to_bits(), 1e6f64.to_bits());
    }

    #[test]
    fn an_exponent_out_of_range_is_refused() {
        assert!(Grid::try_from(76).is_err());
        assert!(Grid::try_from(-63).is_err());
        assert!(Grid::try_from(i16::from(Grid::of(f32::MIN, f32::MAX))).is_ok());
        assert!(Grid::try_from(i16::from(Grid::of(0.0, 0.0))).is_ok());
    }
}

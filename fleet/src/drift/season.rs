//! Whether a change is one that the same hours and kind of day had before: the last weeks before the drift began.
//!
//! With windows of a day, a Saturday is compared with Saturdays. With shorter ones, the same hours of a working day or
//! of a weekend. The weeks end where the drift begins, or it would soon explain itself.

use std::cmp::Ordering;
use std::time::Duration;

use muster_protocol::drift::{Counts, CountsError, Reading, Rule, Shift, StreamReference, test};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How far before the onset a season is looked for.
pub(super) const LOOKED_BACK: Duration = Duration::from_hours(28 * 24);
/// Windows of the same kind without which there is no season.
const WINDOWS_MIN: usize = 3;
/// The share of a shift that a season may leave unexplained.
const LEFT: f64 = 0.5;

const DAY: Duration = Duration::from_hours(24);

/// A drifting window against its own season.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Season {
    pub b: f64,
    /// What is left of the shift.
    pub shift: Option<Shift>,
    pub explains: bool,
}

impl Season {
    pub fn reading(&self, onset: Timestamp) -> Reading {
        if self.explains { Reading::Calm } else { Reading::Drift { onset, shift: self.shift } }
    }
}

/// The windows of the last weeks before the onset that are of the same kind as the one from `now`.
pub(super) fn alike<'a>(
    windows: impl Iterator<Item = (Timestamp, &'a Counts)>,
    onset: Timestamp,
    now: Timestamp,
    span: Duration,
) -> Vec<Counts> {
    let (first, kind) = (onset.minus(LOOKED_BACK), kind(now, span));
    windows
        .filter(|(from, _)| first <= *from && *from < onset && self::kind(*from, span) == kind)
        .map(|(_, counts)| counts.clone())
        .collect()
}

/// None if there are too few windows or rows to compare with. `peak` is the largest shift since
/// the onset: what is to be explained.
pub(super) fn compare(
    against: &StreamReference,
    alike: &[Counts],
    window: &Counts,
    peak: Option<f64>,
    monitored: u32,
) -> Result<Option<Season>, CountsError> {
    let rule = Rule::default();
    if alike.len() < WINDOWS_MIN || window.rows() < rule.n_min() {
        return Ok(None);
    }
    // A window that does not fit was refused when it was new; there is no season then.
    let Ok(Some(before)) = against.counted_in(alike, &rule) else { return Ok(None) };
    let Some(verdict) = test(&before.reference, window, &before.over_dispersion, monitored)? else {
        return Ok(None);
    };
    let left = Shift::of(&before, window, &verdict);
    // Four weeks are few: that chance can explain the rest is not enough, the season must explain most of it.
    let small = match (peak, left) {
        (Some(peak), Some(left)) => left.sd.abs() <= LEFT * peak,
        (None, _) | (_, None) => true,
    };
    Ok(Some(Season { b: verdict.b, shift: left, explains: verdict.b > rule.clear() && small }))
}

/// The day of the week and hours that a window stands for: equal for windows that are alike.
fn kind(from: Timestamp, span: Duration) -> (i64, i64) {
    let days = from.floor_to(DAY).as_seconds() / 86_400;
    // 1970 began on a Thursday; Monday is 0.
    let weekday = (days + 3).rem_euclid(7);
    match span.cmp(&DAY) {
        Ordering::Greater => {
            // Whole weeks, or nothing that repeats.
            (0, 0)
        }
        Ordering::Equal => (weekday, 0),
        Ordering::Less => {
            (i64::from(weekday >= 5), i64::try_from(from.since(from.floor_to(DAY)).as_secs()).unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64, hour: i64) -> Timestamp {
        Timestamp::from_seconds(day * 86_400 + hour * 3600)
    }

    #[test]
    fn windows_are_compared_with_their_like() {
        let hours = Duration::from_hours;
        // 1970-01-03 was a Saturday.
        assert_eq!(kind(at(2, 0), DAY), (5, 0));
        assert_eq!(kind(at(9, 0), DAY), kind(at(2, 0), DAY));
        assert_ne!(kind(at(3, 0), DAY), kind(at(2, 0), DAY));
        assert_eq!(kind(at(2, 6), hours(6)), kind(at(3, 6), hours(6)), "a weekend is one kind of day");
        assert_ne!(kind(at(2, 6), hours(6)), kind(at(4, 6), hours(6)));
        assert_ne!(kind(at(2, 6), hours(6)), kind(at(2, 12), hours(6)));
        assert_eq!(kind(at(0, 0), hours(7 * 24)), kind(at(7, 0), hours(7 * 24)));
    }
}

//! Whether a change is one that the same hours and kind of day had before: weeks that ended before the drift began.
//!
//! With windows of a day, a Saturday is compared with Saturdays. With shorter ones, the same hours of a working day or
//! of a weekend. What comes gradually has begun before its alarm, so the weeks are the first four of the last six: or it
//! would soon explain itself. And it is judged by all windows since the onset, or it would be a season on Tuesdays.

use std::cmp::Ordering;
use std::time::Duration;

use muster_protocol::drift::{Counts, CountsError, Reading, Rule, Shift, StreamReference, Verdict, test};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(7 * 24);
/// How far before the onset a season is looked for.
pub(super) const LOOKED_BACK: Duration = Duration::from_hours(6 * 7 * 24);
/// How much of that is looked at: the oldest of it.
const LOOKED_AT: Duration = Duration::from_hours(4 * 7 * 24);
/// Windows of the same kind without which there is no season.
const WINDOWS_MIN: usize = 3;
/// The share of a shift that a season may leave unexplained.
const LEFT: f64 = 0.5;

/// The windows since a drift began against their own season. A window weighs half as much when it is a week old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Season {
    /// Start of the drift.
    onset: Timestamp,
    /// Weight of all windows, and of those that the season and chance explain.
    all: f64,
    explained: f64,
    /// Of a least-squares fit of what is left to the shift: sums of their products and of the shift's squares.
    left: f64,
    shifted: f64,
    /// What is left of the newest window's shift.
    pub shift: Option<Shift>,
}

/// What a stream is compared with, and since when it drifts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drifting<'a> {
    pub(super) against: &'a StreamReference,
    pub(super) onset: Timestamp,
    /// Length of a window.
    pub(super) span: Duration,
    pub(super) monitored: u32,
}

impl Season {
    /// Weighs the newest window, or all since the onset if what is known is of another drift. None if there were too few
    /// windows or rows to compare with.
    pub(super) fn weigh<'w>(
        known: Option<Self>,
        drifting: &Drifting<'_>,
        past: &(impl Iterator<Item = (Timestamp, &'w Counts)> + Clone),
        newest: (Timestamp, &'w Counts),
    ) -> Result<Option<Self>, CountsError> {
        let known = known.filter(|known| known.onset == drifting.onset);
        let unread = past.clone().filter(|(from, _)| known.is_none() && *from >= drifting.onset);
        let mut season = known;
        for (from, window) in unread.chain([newest]) {
            let alike = alike(past.clone(), drifting, from);
            if let Some(compared) = compare(drifting, &alike, window)? {
                let known = season.unwrap_or(Self { onset: drifting.onset, ..Self::default() });
                season = Some(known.with(&compared, drifting.span));
            }
        }
        Ok(season)
    }

    fn with(self, compared: &Compared, span: Duration) -> Self {
        let kept = (-span.div_duration_f64(WEEK)).exp2();
        Self {
            onset: self.onset,
            all: self.all * kept + 1.0,
            explained: self.explained * kept + f64::from(u8::from(compared.likely)),
            left: self.left * kept + compared.left * compared.size,
            shifted: self.shifted * kept + compared.size * compared.size,
            shift: compared.shift,
        }
    }

    /// Four weeks are few: that chance can explain the rest of most windows is not enough, the season must explain most of
    /// the shift.
    pub fn explains(&self) -> bool {
        self.explained * 2.0 > self.all && self.left.abs() <= LEFT * self.shifted
    }

    pub fn reading(&self) -> Reading {
        if self.explains() { Reading::Calm } else { Reading::Drift { onset: self.onset, shift: self.shift } }
    }
}

/// One window beside its like.
#[derive(Debug)]
struct Compared {
    /// How far it is from the reference and from the season, in reference standard deviations: the shift of the mean where
    /// it shifted for sure, or the shift that would change the shares as much.
    size: f64,
    left: f64,
    /// Of the mean, from the season's.
    shift: Option<Shift>,
    /// Whether chance explains what is left.
    likely: bool,
}

/// The windows of the weeks before the onset that are of the same kind as the one from `now`.
fn alike<'w>(
    past: impl Iterator<Item = (Timestamp, &'w Counts)> + Clone,
    drifting: &Drifting<'_>,
    now: Timestamp,
) -> Vec<Counts> {
    let (onset, kind) = (drifting.onset, kind(now, drifting.span));
    let looked_back = onset.minus(LOOKED_BACK);
    let before = past.filter(|(from, _)| looked_back <= *from && *from < onset);
    let Some(first) = before.clone().map(|(from, _)| from).min() else { return Vec::new() };
    before
        .filter(|(from, _)| *from < first.plus(LOOKED_AT) && self::kind(*from, drifting.span) == kind)
        .map(|(_, counts)| counts.clone())
        .collect()
}

fn compare(
    drifting: &Drifting<'_>,
    alike: &[Counts],
    window: &Counts,
) -> Result<Option<Compared>, CountsError> {
    let rule = Rule::default();
    if alike.len() < WINDOWS_MIN || window.rows() < rule.n_min() {
        return Ok(None);
    }
    let against = drifting.against;
    // A window that does not fit was refused when it was new; there is no season then.
    let Ok(Some(before)) = against.counted_in(alike, &rule) else { return Ok(None) };
    let tested = |reference: &StreamReference| {
        test(&reference.reference, window, &reference.over_dispersion, drifting.monitored)
    };
    let (Some(changed), Some(rest)) = (tested(against)?, tested(&before)?) else { return Ok(None) };
    let (shift, shift_left) = (Shift::of(against, window, &changed), Shift::of(&before, window, &rest));
    let (size, left) = match (shift, shift_left) {
        (Some(shift), Some(left)) if shift.low > 0.0 || shift.high < 0.0 => (shift.sd, left.sd),
        (Some(_) | None, _) => {
            let moved = |verdict: &Verdict| verdict.effects.map_or(0.0, |effects| effects.psi_adj.sqrt());
            (moved(&changed), moved(&rest))
        }
    };
    Ok(Some(Compared { size, left, shift: shift_left, likely: rest.b > rule.clear() }))
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

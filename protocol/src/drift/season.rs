//! What the same hours of the same kind of day were like in the last weeks.
//!
//! A training set of office hours does not know the night; last week's nights do. The window's own season is the
//! reference that tells a known cycle from a new regime. It follows slow changes, so it never replaces the others: it
//! only explains what they see. Windows that were not calm against their season must be left out of the next ones, or
//! a new regime would explain itself after a few weeks.

use std::time::Duration;

use super::{Counts, CountsError, Rule, StreamReference};
use crate::time::Timestamp;

/// Same-season windows that are looked at, at most; from 10 on there is a reference.
pub const SEASON_WINDOWS_MAX: usize = 30;
/// How far back the last weeks reach.
pub const SEASON_REACH: Duration = Duration::from_hours(8 * 7 * 24);

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;
/// 1 January 1970 was a Thursday; counted from Monday.
const FIRST_WEEKDAY: i64 = 3;

/// The kind of day and the hour in which a window starts, in world time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Season {
    pub weekend: bool,
    pub hour: u8,
}

impl Season {
    pub fn of(start: Timestamp) -> Self {
        let seconds = start.as_seconds();
        let weekday = (seconds.div_euclid(DAY_S) + FIRST_WEEKDAY).rem_euclid(7);
        let hour = u8::try_from(seconds.rem_euclid(DAY_S) / HOUR_S).unwrap_or(0);
        Self { weekend: weekday >= 5, hour }
    }
}

impl StreamReference {
    /// The reference of the season that the window starting at `start` belongs to, from calm windows before it (oldest
    /// first). None while there are fewer than ten of them.
    pub fn seasonal<'a>(
        &self,
        start: Timestamp,
        calm: impl DoubleEndedIterator<Item = (Timestamp, &'a Counts)>,
        rule: &Rule,
    ) -> Result<Option<Self>, CountsError> {
        let season = Season::of(start);
        let mut windows: Vec<Counts> = calm
            .rev()
            .skip_while(|(from, _)| *from >= start)
            .take_while(|(from, _)| start.since(*from) <= SEASON_REACH)
            .filter(|(from, _)| Season::of(*from) == season)
            .take(SEASON_WINDOWS_MAX)
            .map(|(_, window)| window.clone())
            .collect();
        windows.reverse();
        self.baseline(&windows, rule)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::{NumericCounter, OverDispersion, Reference, test};

    #[test]
    fn a_window_belongs_to_its_hour_and_kind_of_day() {
        let check = |text: &str, weekend: bool, hour: u8| {
            let season = text.parse().map(Season::of);
            assert!(season.is_ok_and(|season| season == Season { weekend, hour }), "{text}");
        };
        check("1970-01-01T00:00:00Z", false, 0);
        check("1969-12-28T23:59:00Z", true, 23);
        check("2026-11-27T06:30:00Z", false, 6);
        check("2026-11-28T06:30:00Z", true, 6);
        check("2026-11-30T00:00:00Z", false, 0);
    }

    #[test]
    fn the_night_is_explained_by_other_nights_and_not_by_days() -> Result<(), Box<dyn Error>> {
        // The model was trained by day: values 0..1000. At night they are 800 higher.
        let rows: Vec<f32> = (0..1000u16).map(f32::from).collect();
        let over_dispersion = OverDispersion::default();
        let bundle =
            StreamReference { reference: Reference::numeric(&rows)?, over_dispersion, merged: Vec::new() };
        let Reference::Numeric(numeric) = &bundle.reference else { return Err("not numeric".into()) };
        let monday: i64 = 4 * DAY_S;
        let window = |half_day: i64, plus: f32| -> (Timestamp, Counts) {
            let night = if half_day % 2 == 1 { 800.0 } else { 0.0 };
            let mut counter = NumericCounter::new(numeric);
            (0..100u16).for_each(|row| {
                let step = (u32::from(row) * 379 + u32::try_from(half_day).unwrap_or(0) * 101) % 1000;
                counter.observe(f32::from(u16::try_from(step).unwrap_or(0)) + night + plus);
            });
            (Timestamp::from_seconds(monday + half_day * DAY_S / 2), counter.take())
        };
        let weeks: Vec<(Timestamp, Counts)> = (0..8 * 14).map(|half_day| window(half_day, 0.0)).collect();
        let calm = || weeks.iter().map(|(from, counts)| (*from, counts));
        let b = |half_day: i64, plus: f32| -> Result<Option<f64>, Box<dyn Error>> {
            let (from, counts) = window(half_day, plus);
            let Some(season) = bundle.seasonal(from, calm(), &Rule::default())? else { return Ok(None) };
            let verdict = test(&season.reference, &counts, &season.over_dispersion, 1)?;
            Ok(Some(verdict.ok_or("no verdict")?.b))
        };
        let night = 8 * 14 + 1;
        assert!(b(night, 0.0)?.is_some_and(|b| b > 0.1), "{:?}", b(night, 0.0)?);
        assert!(b(night, 300.0)?.is_some_and(|b| b < 1e-5), "{:?}", b(night, 300.0)?);
        let against_training = test(&bundle.reference, &window(night, 0.0).1, &bundle.over_dispersion, 1)?;
        assert!(against_training.is_some_and(|verdict| verdict.b < 1e-5));
        assert_eq!(b(2 * 14 + 1, 0.0)?.is_some(), true, "ten nights of the week before");
        assert_eq!(b(14 + 1, 0.0)?, None, "five are too few");
        Ok(())
    }
}

//! A floor under the triggers that look at data: a crontab in the owner's own time.

use std::str::FromStr as _;
use std::time::Duration;

use croner::Cron;
use muster_protocol::ids::ModelName;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::rollout::calendar::Zone;

const CRON_CHARS_MAX: usize = 100;
const JITTER_S_MAX: u64 = 86_400;

/// `0 3 * * mon` in `Europe/Berlin`: every Monday at three, summer and winter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Schedule {
    cron: String,
    zone: Zone,
    jitter_s: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    cron: String,
    #[serde(default)]
    zone: Zone,
    #[serde(default)]
    jitter_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("'{0}' is no crontab; write minute, hour, day, month and weekday, such as '0 3 * * mon'")]
    Cron(String),
    #[error("a jitter is at most {JITTER_S_MAX} seconds, a day")]
    Jitter,
}

impl Schedule {
    pub fn new(cron: &str, zone: Zone, jitter_s: u64) -> Result<Self, ScheduleError> {
        let wrong = || ScheduleError::Cron(cron.chars().take(CRON_CHARS_MAX).collect());
        // Seconds and years are another dialect: a model is not trained every second.
        if cron.len() > CRON_CHARS_MAX
            || cron.split_whitespace().count() != 5
            || Cron::from_str(cron).is_err()
        {
            return Err(wrong());
        }
        if jitter_s > JITTER_S_MAX {
            return Err(ScheduleError::Jitter);
        }
        Ok(Self { cron: cron.to_owned(), zone, jitter_s })
    }

    pub fn cron(&self) -> &str {
        &self.cron
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    pub fn jitter_s(&self) -> u64 {
        self.jitter_s
    }

    /// The next time after this one; `None` if the crontab names a day that never comes.
    ///
    /// The jitter is the model's own, so that models of one schedule are not all trained at once, and each keeps its time.
    pub fn next(&self, model: &ModelName, after: Timestamp) -> Option<Timestamp> {
        let jitter = Duration::from_secs(spread(model).checked_rem(self.jitter_s).unwrap_or(0));
        let cron = Cron::from_str(&self.cron).ok()?;
        let next = cron.find_next_occurrence(&self.zone.at(after.minus(jitter)), false).ok()?;
        Some(Timestamp::from_millis(next.timestamp().as_millisecond()).plus(jitter))
    }
}

/// A number that is the model's own.
fn spread(model: &ModelName) -> u64 {
    Sha256::digest(model.as_str()).iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

impl TryFrom<Written> for Schedule {
    type Error = ScheduleError;

    fn try_from(written: Written) -> Result<Self, ScheduleError> {
        Self::new(&written.cron, written.zone, written.jitter_s)
    }
}

impl From<Schedule> for Written {
    fn from(Schedule { cron, zone, jitter_s }: Schedule) -> Self {
        Self { cron, zone, jitter_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn next(cron: &str, zone: &str, after: &str) -> Option<Timestamp> {
        let schedule = Schedule::new(cron, zone.parse().unwrap(), 0).unwrap();
        schedule.next(&"er".parse().unwrap(), at(after))
    }

    #[test]
    fn three_in_the_morning_is_three_in_summer_and_in_winter() {
        let check = |after, expect| assert_eq!(next("0 3 * * *", "Europe/Berlin", after), Some(at(expect)));
        check("2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z");
        check("2026-12-01T00:00:00Z", "2026-12-01T02:00:00Z");
        check("2026-12-01T02:00:00Z", "2026-12-02T02:00:00Z");
    }

    #[test]
    fn days_of_the_week_have_names_and_some_days_never_come() {
        // 24 November 2026 is a Tuesday.
        assert_eq!(next("0 3 * * mon", "UTC", "2026-11-24T00:00:00Z"), Some(at("2026-11-30T03:00:00Z")));
        assert_eq!(next("0 3 30 2 *", "UTC", "2026-11-24T00:00:00Z"), None);
    }

    #[test]
    fn models_of_one_schedule_are_spread_and_keep_their_time() {
        let schedule = Schedule::new("0 3 * * *", Zone::default(), 3600).unwrap();
        let of = |model: &str| schedule.next(&model.parse().unwrap(), at("2026-11-24T05:00:00Z")).unwrap();
        assert_ne!(of("er"), of("beds"));
        let again = schedule.next(&"er".parse().unwrap(), of("er")).unwrap();
        assert_eq!(again, of("er").plus(Duration::from_hours(24)));
        assert!(of("er") >= at("2026-11-25T03:00:00Z") && of("er") < at("2026-11-25T04:00:00Z"));
    }

    #[test]
    fn what_is_no_crontab_is_refused() {
        for cron in ["", "noon", "61 * * * *", "* * * * * *", "0 3 * *"] {
            assert!(Schedule::new(cron, Zone::default(), 0).is_err(), "{cron}");
        }
        assert_eq!(Schedule::new("0 3 * * *", Zone::default(), 100_000), Err(ScheduleError::Jitter));
    }
}

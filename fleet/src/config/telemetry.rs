//! `[telemetry]`: how much of what boxes report is kept, and where figures are sent to.
//!
//! ```toml
//! [telemetry]
//! reports = { bytes = 2_400_000_000, hours = 6 }           # as they came
//! five_minutes = { bytes = 6_000_000_000, days = 14 }      # each box's rollups
//! hours = { bytes = 12_000_000_000, days = 400 }
//! ```
//! Whichever bound is met first; an entry that names one bound keeps the default of the other.

use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::rollup::{Bound, Retention};

#[derive(Clone, Debug, Default)]
pub struct TelemetryConfig {
    pub retention: Retention,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Telemetry {
    reports: Limit,
    five_minutes: Limit,
    hours: Limit,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limit {
    bytes: Option<u64>,
    hours: Option<u32>,
    days: Option<u32>,
}

impl From<Telemetry> for TelemetryConfig {
    fn from(file: Telemetry) -> Self {
        let default = Retention::default();
        let retention = Retention {
            reports: file.reports.or(default.reports),
            five_minutes: file.five_minutes.or(default.five_minutes),
            hours: file.hours.or(default.hours),
        };
        Self { retention }
    }
}

impl Limit {
    fn or(self, default: Bound) -> Bound {
        let hours = match (self.days, self.hours) {
            (None, None) => None,
            (days, hours) => Some(u64::from(days.unwrap_or(0)) * 24 + u64::from(hours.unwrap_or(0))),
        };
        Bound {
            bytes: self.bytes.unwrap_or(default.bytes),
            age: hours.map_or(default.age, Duration::from_hours),
        }
    }
}

impl TelemetryConfig {
    /// A bound beyond which the lists of tables would be long, or below which nothing could be seen.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Retention { reports, five_minutes, hours } = self.retention;
        let days = |n: u64| Duration::from_hours(n * 24);
        for (name, bound, longest) in [
            ("reports", reports, days(31)),
            ("five_minutes", five_minutes, days(400)),
            ("hours", hours, days(4000)),
        ] {
            if bound.bytes == 0 || bound.age.is_zero() || bound.age > longest {
                return Err(ConfigError::Kept { name, days: longest.as_secs() / 86_400 });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_named_one_by_one() {
        let file: Telemetry =
            toml::from_str("reports = { hours = 12 }\nhours = { bytes = 5, days = 3, hours = 1 }").unwrap();
        let config = TelemetryConfig::from(file);
        let default = Retention::default();
        assert_eq!(config.retention.reports, Bound { age: Duration::from_hours(12), ..default.reports });
        assert_eq!(config.retention.five_minutes, default.five_minutes);
        assert_eq!(config.retention.hours, Bound { bytes: 5, age: Duration::from_hours(73) });
        assert!(config.check().is_ok());
        for wrong in ["reports = { bytes = 0 }", "reports = { days = 32 }", "five_minutes = { days = 0 }"] {
            let config = TelemetryConfig::from(toml::from_str::<Telemetry>(wrong).unwrap());
            assert!(config.check().is_err(), "{wrong}");
        }
    }
}

//! `[telemetry]`: how much of what boxes report is kept, and where figures are sent to.
//!
//! ```toml
//! [telemetry]
//! reports = { bytes = 2_400_000_000, hours = 6 }           # as they came
//! five_minutes = { bytes = 6_000_000_000, days = 14 }      # each box's rollups
//! hours = { bytes = 12_000_000_000, days = 400 }
//! otlp = { endpoint = "https://collector.hospital.example:4318/v1/metrics", every_s = 60 }    # else nobody is sent figures
//! database = "postgres://muster@db.hospital.example/muster"     # else a file beside fleet.db
//! ```
//! Whichever bound is met first; an entry that names one bound keeps the default of the other.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::rollup::{Bound, Retention};

const HEADERS_MAX: usize = 16;

#[derive(Clone, Debug, Default)]
pub struct TelemetryConfig {
    pub retention: Retention,
    /// Where telemetry stands, if not in a file.
    pub database: Option<PostgresUrl>,
    /// Who is sent figures, if anybody.
    pub otlp: Option<OtlpConfig>,
}

/// An OpenTelemetry collector that takes metrics over HTTP.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// With its path, such as `/v1/metrics`.
    pub endpoint: String,
    #[serde(default = "every_s")]
    pub every_s: u64,
    /// Sent with every request, such as `authorization`. Not shown.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

fn every_s() -> u64 {
    60
}

impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, every_s, headers } = self;
        let headers: Vec<&String> = headers.keys().collect();
        f.debug_struct("OtlpConfig")
            .field("endpoint", endpoint)
            .field("every_s", every_s)
            .field("headers", &headers)
            .finish()
    }
}

/// `postgres://user@host:port/database?parameters`. One fleet server uses a database at a time. A password belongs into
/// `~/.pgpass` or `PGPASSWORD`; one that stands here is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// With the password, if there is one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PostgresUrl {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        let is_one = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        if is_one { Ok(Self(url.to_owned())) } else { Err(ConfigError::Database) }
    }
}

impl TryFrom<String> for PostgresUrl {
    type Error = ConfigError;

    fn try_from(url: String) -> Result<Self, ConfigError> {
        url.parse()
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.0.split_once("://").map_or("", |(_, place)| place);
        // Parameters may name a password too.
        let place = place.split_once('?').map_or(place, |(place, _)| place);
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        write!(f, "postgres://{place}")
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Telemetry {
    reports: Limit,
    five_minutes: Limit,
    hours: Limit,
    database: Option<PostgresUrl>,
    otlp: Option<OtlpConfig>,
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
        Self { retention, database: file.database, otlp: file.otlp }
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
        if let Some(OtlpConfig { endpoint, every_s, headers }) = &self.otlp {
            let is_http = ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
            if !is_http || !(1..=3600).contains(every_s) || headers.len() > HEADERS_MAX {
                return Err(ConfigError::Otlp);
            }
        }
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
    fn a_database_is_named_without_its_password() {
        let check = |url: &str, shown: &str| {
            let url: PostgresUrl = url.parse().unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        };
        check("postgres://muster:p@ss@db:5432/m", "postgres://db:5432/m");
        check("postgresql:///m?host=/run/pg&password=secret", "postgres:///m");
        let error = "mysql://muster:secret@db/m".parse::<PostgresUrl>().unwrap_err().to_string();
        assert!(error.contains("postgres://") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_collector_is_named_by_its_address_and_its_secrets_are_not_shown() {
        let text = "otlp = { endpoint = 'http://c:4318/v1/metrics', headers = { authorization = 'secret' } }";
        let config = TelemetryConfig::from(toml::from_str::<Telemetry>(text).unwrap());
        assert!(config.check().is_ok());
        let shown = format!("{config:?}");
        assert!(
            shown.contains("every_s: 60") && shown.contains("authorization") && !shown.contains("secret")
        );
        for wrong in ["endpoint = 'c:4318'", "endpoint = 'http://c', every_s = 0"] {
            let text = format!("otlp = {{ {wrong} }}");
            let config = TelemetryConfig::from(toml::from_str::<Telemetry>(&text).unwrap());
            assert!(config.check().is_err(), "{wrong}");
        }
    }

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

//! Rules a version must keep to be taken in, and what was measured for each.
//!
//! ```toml
//! [[rules]]
//! rows = { min = 1000 }
//! [[rules]]
//! not_null = { column = "age" }
//! [[rules]]
//! null_share = { column = "lactate", max = 0.4 }
//! [[rules]]
//! range = { column = "age", min = 0, max = 120 }
//! [[rules]]
//! one_of = { column = "ward", values = ["er", "icu"] }
//! [[rules]]
//! unique = { column = "sample" }
//! [[rules]]
//! fresh = { column = "charted_at", max_age_s = 604800 }
//! ```

use std::fmt::Write as _;

use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::profile::{ColumnProfile, Profile, Values, shown};

pub const RULES_MAX: usize = 1000;
const VALUES_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    Rows {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<u64>,
    },
    NotNull {
        column: String,
    },
    NullShare {
        column: String,
        max: f64,
    },
    Range {
        column: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    OneOf {
        column: String,
        values: Vec<String>,
    },
    Unique {
        column: String,
    },
    /// The newest time is at most so old.
    Fresh {
        column: String,
        max_age_s: u64,
    },
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    pub rule: Rule,
    pub measured: String,
    pub limit: String,
    pub held: bool,
}

/// What the pass over the rows saw for the rules alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    pub column: String,
    /// Rows whose value had been there; none if nobody asked or there were too many rows to tell.
    pub repeated: Option<u64>,
    pub unlisted: u64,
    pub unlisted_value: Option<String>,
}

impl Rule {
    pub fn column(&self) -> Option<&String> {
        match self {
            Self::Rows { .. } => None,
            Self::NotNull { column }
            | Self::NullShare { column, .. }
            | Self::Range { column, .. }
            | Self::OneOf { column, .. }
            | Self::Unique { column }
            | Self::Fresh { column, .. } => Some(column),
        }
    }

    /// Stable, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rows { .. } => "rows",
            Self::NotNull { .. } => "not_null",
            Self::NullShare { .. } => "null_share",
            Self::Range { .. } => "range",
            Self::OneOf { .. } => "one_of",
            Self::Unique { .. } => "unique",
            Self::Fresh { .. } => "fresh",
        }
    }

    /// What is wrong with the rule itself.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Rows { min: None, max: None } => Some("'rows' needs a min or a max"),
            Self::Range { min: None, max: None, .. } => Some("'range' needs a min or a max"),
            Self::Rows { min: Some(min), max: Some(max) } if min > max => Some("min is above max"),
            Self::Range { min: Some(min), max: Some(max), .. } if min > max => Some("min is above max"),
            Self::NullShare { max, .. } if !(0.0..=1.0).contains(max) => Some("a share is 0 to 1"),
            Self::OneOf { values, .. } if values.is_empty() || values.len() > VALUES_MAX => {
                Some("'one_of' lists 1 to 10000 values")
            }
            Self::Rows { .. }
            | Self::NotNull { .. }
            | Self::NullShare { .. }
            | Self::Range { .. }
            | Self::OneOf { .. }
            | Self::Unique { .. }
            | Self::Fresh { .. } => None,
        }
    }
}

/// Holds every rule against what was found. `now` is the time that "fresh" is counted from.
pub fn check(rules: &[Rule], profile: &Profile, watched: &[Watched], now: Timestamp) -> Vec<Checked> {
    let judged = rules.iter().map(|rule| {
        let (measured, limit, held) = judge(rule, profile, watched, now);
        Checked { rule: rule.clone(), measured, limit, held }
    });
    judged.collect()
}

/// The broken rules in one sentence each; none if all are kept.
pub fn broken(checked: &[Checked]) -> Vec<String> {
    let broken = checked.iter().filter(|checked| !checked.held).map(|checked| {
        let of = checked.rule.column().map_or_else(String::new, |column| format!(" of '{column}'"));
        format!("{}{of}: {}, and the limit is {}", checked.rule.name(), checked.measured, checked.limit)
    });
    broken.collect()
}

type Judged = (String, String, bool);

fn judge(rule: &Rule, profile: &Profile, watched: &[Watched], now: Timestamp) -> Judged {
    let Some(name) = rule.column() else { return rows(rule, profile.rows) };
    let Some(column) = profile.column(name) else {
        return ("no such column".to_owned(), "a column of that name".to_owned(), false);
    };
    let watched = watched.iter().find(|watched| watched.column == *name);
    match rule {
        Rule::Rows { .. } => rows(rule, profile.rows),
        Rule::NotNull { .. } => {
            (missing(column.nulls), "0 rows without a value".to_owned(), column.nulls == 0)
        }
        Rule::NullShare { max, .. } => {
            let share = share(column.nulls, profile.rows);
            (format!("{share:.4} of the rows have no value"), format!("{max}"), share <= *max)
        }
        Rule::Range { min, max, .. } => range(column, *min, *max),
        Rule::OneOf { values, .. } => {
            let unlisted = watched.map_or(0, |watched| watched.unlisted);
            let example = watched.and_then(|watched| watched.unlisted_value.as_deref());
            let example = example.map_or_else(String::new, |value| format!(", such as '{value}'"));
            let measured = format!("{unlisted} rows have another value{example}");
            (measured, format!("one of {} values", values.len()), unlisted == 0)
        }
        Rule::Unique { .. } => match watched.and_then(|watched| watched.repeated) {
            Some(repeated) => {
                (format!("{repeated} rows repeat a value"), "0 repeated".to_owned(), repeated == 0)
            }
            None => ("there are too many rows to tell".to_owned(), "0 repeated".to_owned(), false),
        },
        Rule::Fresh { max_age_s, .. } => {
            let limit = format!("at most {max_age_s} s old");
            match column.span() {
                Some((_, newest)) => {
                    let age = now.since(newest).as_secs();
                    (format!("the newest row is {age} s old, of {newest}"), limit, age <= *max_age_s)
                }
                None => ("there is no time".to_owned(), limit, false),
            }
        }
    }
}

fn rows(rule: &Rule, rows: u64) -> Judged {
    let (min, max) = match rule {
        Rule::Rows { min, max } => (*min, *max),
        Rule::NotNull { .. }
        | Rule::NullShare { .. }
        | Rule::Range { .. }
        | Rule::OneOf { .. }
        | Rule::Unique { .. }
        | Rule::Fresh { .. } => (None, None),
    };
    let held = min.is_none_or(|min| rows >= min) && max.is_none_or(|max| rows <= max);
    (format!("{rows} rows"), between(min, max), held)
}

fn range(column: &ColumnProfile, min: Option<f64>, max: Option<f64>) -> Judged {
    let limit = between(min.map(shown), max.map(shown));
    let Values::Numeric(numeric) = &column.values else {
        return ("the column holds no numbers".to_owned(), limit, false);
    };
    let (Some(low), Some(high)) = (numeric.min, numeric.max) else {
        return ("no finite value".to_owned(), limit, numeric.infinite == 0);
    };
    let mut measured = format!("{} to {}", shown(low), shown(high));
    if numeric.infinite > 0 {
        // Writing to a string cannot fail.
        write!(measured, " and {} infinite", numeric.infinite).ok();
    }
    let held = min.is_none_or(|min| low >= min) && max.is_none_or(|max| high <= max) && numeric.infinite == 0;
    (measured, limit, held)
}

fn between<T: std::fmt::Display>(min: Option<T>, max: Option<T>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "anything".to_owned(),
    }
}

fn missing(nulls: u64) -> String {
    format!("{nulls} rows without a value")
}

#[expect(clippy::cast_precision_loss, reason = "a share of fewer than 2^53 rows")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Kind;
    use super::super::profile::Profiler;
    use super::super::profile::tests::column;
    use super::*;

    /// 100 rows: numbers 0 to 99, wards, times 0 s to 99 s, every tenth number missing where `gaps`.
    fn measured(rules: &[Rule]) -> Vec<Checked> {
        let columns = [
            column("x", Kind::Real),
            column("ward", Kind::Text),
            column("at", Kind::Time),
            column("gaps", Kind::Real),
        ];
        let mut profiler = Profiler::new(&columns, rules);
        for row in 0..100 {
            profiler.column(0).unwrap().number(f64::from(row));
            profiler.column(1).unwrap().text(if row % 2 == 0 { "er" } else { "icu" });
            profiler.column(2).unwrap().number(f64::from(row) * 1000.0);
            let gaps = profiler.column(3).unwrap();
            if row % 10 == 0 { gaps.null() } else { gaps.number(1.0) }
        }
        let (profile, watched) = profiler.finish();
        check(rules, &profile, &watched, Timestamp::from_seconds(110))
    }

    #[test]
    fn each_rule_holds_and_breaks() {
        let name = |name: &str| name.to_owned();
        let one = |rule: Rule, held: bool, says: &str| {
            let checked = measured(std::slice::from_ref(&rule)).remove(0);
            assert_eq!(checked.held, held, "{checked:?}");
            assert!(checked.measured.contains(says), "{checked:?}");
            assert_eq!(broken(&[checked]).is_empty(), held);
        };
        one(Rule::Rows { min: Some(100), max: Some(100) }, true, "100 rows");
        one(Rule::Rows { min: Some(101), max: None }, false, "100 rows");
        one(Rule::NotNull { column: name("x") }, true, "0 rows");
        one(Rule::NotNull { column: name("gaps") }, false, "10 rows");
        one(Rule::NullShare { column: name("gaps"), max: 0.1 }, true, "0.1000");
        one(Rule::NullShare { column: name("gaps"), max: 0.09 }, false, "0.1000");
        one(Rule::Range { column: name("x"), min: Some(0.0), max: Some(99.0) }, true, "0 to 99");
        one(Rule::Range { column: name("x"), min: Some(1.0), max: None }, false, "0 to 99");
        one(Rule::Range { column: name("ward"), min: Some(1.0), max: None }, false, "no numbers");
        let wards = |values: &[&str]| Rule::OneOf {
            column: name("ward"),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        };
        one(wards(&["er", "icu"]), true, "0 rows");
        one(wards(&["er"]), false, "50 rows have another value, such as 'icu'");
        one(Rule::Unique { column: name("x") }, true, "0 rows");
        one(Rule::Unique { column: name("ward") }, false, "98 rows");
        one(Rule::Fresh { column: name("at"), max_age_s: 11 }, true, "11 s old");
        one(Rule::Fresh { column: name("at"), max_age_s: 10 }, false, "11 s old");
        one(Rule::Fresh { column: name("x"), max_age_s: 10 }, false, "no time");
        one(Rule::Unique { column: name("absent") }, false, "no such column");
    }

    #[test]
    fn faults_of_rules_themselves_are_found() {
        let column = String::new;
        assert!(Rule::Rows { min: None, max: None }.fault().is_some());
        assert!(Rule::Range { column: column(), min: Some(2.0), max: Some(1.0) }.fault().is_some());
        assert!(Rule::NullShare { column: column(), max: 1.5 }.fault().is_some());
        assert!(Rule::OneOf { column: column(), values: Vec::new() }.fault().is_some());
        assert!(Rule::Unique { column: column() }.fault().is_none());
        let parsed: Rule = serde_json::from_str(r#"{"range": {"column": "x", "min": 0}}"#).unwrap();
        assert_eq!(parsed, Rule::Range { column: "x".to_owned(), min: Some(0.0), max: None });
        assert!(serde_json::from_str::<Rule>(r#"{"range": {"column": "x", "least": 0}}"#).is_err());
    }
}

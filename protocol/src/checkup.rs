//! What a doctor finds: `muster doctor`, the fleet server and `muster-agent doctor` say it in one form, with one picture and
//! one exit code, so that a person reads all three alike and a program needs one parser.
//!
//! Whatever is not well says what to do next: no finding but a good one can be made without that. What is near its end is
//! judged here too, by the same notice everywhere.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::trust::author::{SNAPSHOT_LIFE, TIMESTAMP_LIFE, TIMESTAMP_PERIOD};

/// Something wants a person's attention, or could not be looked at.
pub const EXIT_ATTENTION: u8 = 10;
/// Something is broken.
pub const EXIT_BROKEN: u8 = 11;

const DAY: Duration = Duration::from_hours(24);
/// Key holders must be found, perhaps on holiday.
const ROOT_NOTICE: Duration = DAY.saturating_mul(30);
/// One release holder at a desk.
const TARGETS_NOTICE: Duration = DAY.saturating_mul(7);
const WIDEST: usize = "unknown".len();

/// How something is; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Ok,
    /// Nobody could look.
    Unknown,
    /// It works, and will not for long, or not as well as it should.
    Warn,
    Fail,
}

impl Condition {
    /// As it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unknown | Self::Warn => EXIT_ATTENTION,
            Self::Fail => EXIT_BROKEN,
        }
    }

    /// Seen in a long list without colours.
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: a stable word for programs, such as `trust.root`.
    pub check: String,
    pub state: Condition,
    pub says: String,
    /// What a person can do; of everything that is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub do_next: Option<String>,
}

impl Finding {
    pub fn ok(check: &str, says: impl Into<String>) -> Self {
        Self { check: check.to_owned(), state: Condition::Ok, says: says.into(), do_next: None }
    }

    pub fn unknown(check: &str, says: impl Into<String>, do_next: impl Into<String>) -> Self {
        Self::of(Condition::Unknown, check, says, do_next)
    }

    pub fn warn(check: &str, says: impl Into<String>, do_next: impl Into<String>) -> Self {
        Self::of(Condition::Warn, check, says, do_next)
    }

    pub fn fail(check: &str, says: impl Into<String>, do_next: impl Into<String>) -> Self {
        Self::of(Condition::Fail, check, says, do_next)
    }

    fn of(state: Condition, check: &str, says: impl Into<String>, do_next: impl Into<String>) -> Self {
        Self { check: check.to_owned(), state, says: says.into(), do_next: Some(do_next.into()) }
    }

    /// Whether something is good for long enough. `what` is how the sentence begins, such as `root.json`.
    pub fn expiry(check: &str, what: &str, end: End, do_next: &str) -> Self {
        let End { expires, now, notice } = end;
        if expires <= now {
            let says = format!("{what} expired {} ago, at {expires}", span(now.since(expires)));
            return Self::fail(check, says, do_next);
        }
        let left = expires.since(now);
        let says = format!("{what} is good for {}, until {expires}", span(left));
        if left < notice { Self::warn(check, says, do_next) } else { Self::ok(check, says) }
    }

    /// Whether there is room. `place` is how the sentence goes on, such as `at /var/lib/muster`.
    pub fn room(check: &str, place: &str, free: u64, room: Room, do_next: &str) -> Self {
        let (free_words, warn) = (bytes(free), bytes(room.warn_below));
        if free < room.fail_below {
            let says = format!(
                "{free_words} are free {place}, and below {} it stops working",
                bytes(room.fail_below)
            );
            Self::fail(check, says, do_next)
        } else if free < room.warn_below {
            Self::warn(
                check,
                format!("{free_words} are free {place}, less than the {warn} that are wanted"),
                do_next,
            )
        } else {
            Self::ok(check, format!("{free_words} are free {place}"))
        }
    }
}

/// When something ends, and how early that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub expires: Timestamp,
    pub now: Timestamp,
    pub notice: Duration,
}

/// How much of a disk must be free, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub warn_below: u64,
    pub fail_below: u64,
}

/// All that was looked at, in the order in which one depends on the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkup {
    /// The worst of all.
    pub state: Condition,
    pub checks: Vec<Finding>,
}

impl From<Vec<Finding>> for Checkup {
    fn from(checks: Vec<Finding>) -> Self {
        let state = checks.iter().map(|found| found.state).max().unwrap_or(Condition::Unknown);
        Self { state, checks }
    }
}

impl Checkup {
    /// What is not well.
    pub fn troubles(&self) -> impl Iterator<Item = &Finding> {
        self.checks.iter().filter(|found| found.state != Condition::Ok)
    }

    /// For a person: a line for each, what to do below it, and how many are how.
    pub fn picture(&self) -> String {
        let longest = self.checks.iter().map(|found| found.check.chars().count()).max().unwrap_or(0);
        let mut picture = String::new();
        for Finding { check, state, says, do_next } in &self.checks {
            // Writing to a string cannot fail.
            writeln!(picture, "{:<WIDEST$}  {check:<longest$}  {says}", state.word()).ok();
            if let Some(next) = do_next {
                writeln!(picture, "{:WIDEST$}  {:longest$}  next: {next}", "", "").ok();
            }
        }
        let count = |state| self.checks.iter().filter(|found| found.state == state).count();
        let states = [Condition::Ok, Condition::Unknown, Condition::Warn, Condition::Fail];
        let counts = states.map(|state| (count(state), state.as_str()));
        let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}"));
        write!(picture, "{} checks: {}", self.checks.len(), counts.collect::<Vec<_>>().join(", ")).ok();
        picture
    }
}

/// How early the end of a trust file is said. The server signs `timestamp.json` and `snapshot.json` anew each day, so one that
/// was not for two days says that it does not.
pub fn notice_of(file: &str) -> Duration {
    const LATE: Duration = TIMESTAMP_PERIOD.saturating_mul(2);
    match file {
        "root.json" => ROOT_NOTICE,
        "timestamp.json" => TIMESTAMP_LIFE.saturating_sub(LATE),
        "snapshot.json" => SNAPSHOT_LIFE.saturating_sub(LATE),
        _targets_and_delegated => TARGETS_NOTICE,
    }
}

/// A span as people say it, in the largest unit of which there are two.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [("days", 86_400), ("hours", 3600), ("minutes", 60)];
    let largest = units.iter().find(|(_, length)| seconds >= 2 * length);
    largest
        .map_or_else(|| format!("{seconds} seconds"), |(unit, length)| format!("{} {unit}", seconds / length))
}

/// Bytes as people say them.
pub fn bytes(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000)];
    match units.iter().find(|(_, length)| bytes >= *length) {
        Some((unit, length)) => {
            let tenths = bytes / (length / 10);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{} kB", bytes / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn what_ends_soon_is_said_before_and_what_ended_after() {
        let check = |expires: i64, state: Condition, says: &str| {
            let end = End { expires: at(expires), now: at(1_000_000), notice: DAY };
            let found = Finding::expiry("x", "it", end, "renew it");
            assert_eq!((found.state, found.do_next.is_some()), (state, state != Condition::Ok), "{found:?}");
            assert!(found.says.starts_with(says), "{}", found.says);
        };
        check(1_000_000 + 10 * 86_400, Condition::Ok, "it is good for 10 days");
        check(1_000_000 + 86_400, Condition::Ok, "it is good for 24 hours");
        check(1_000_000 + 86_399, Condition::Warn, "it is good for 23 hours");
        check(1_000_000, Condition::Fail, "it expired 0 seconds ago");
        check(1_000_000 - 7200, Condition::Fail, "it expired 2 hours ago");
    }

    #[test]
    fn room_is_held_to_both_bounds() {
        let check = |free: u64, state: Condition| {
            let room = Room { warn_below: 1000, fail_below: 100 };
            assert_eq!(Finding::room("disk", "at /x", free, room, "free some").state, state, "{free}");
        };
        check(1000, Condition::Ok);
        check(999, Condition::Warn);
        check(100, Condition::Warn);
        check(99, Condition::Fail);
    }

    #[test]
    fn the_worst_finding_decides_and_nothing_looked_at_is_no_good_sign() {
        let ok = || Finding::ok("a", "fine");
        let check = |checks: Vec<Finding>, code: u8| {
            assert_eq!(Checkup::from(checks).state.exit_code(), code);
        };
        check(vec![ok()], 0);
        check(vec![ok(), Finding::unknown("b", "who knows", "ask")], EXIT_ATTENTION);
        check(vec![Finding::warn("b", "soon", "hurry"), ok()], EXIT_ATTENTION);
        check(vec![Finding::fail("b", "gone", "run"), Finding::warn("c", "soon", "hurry")], EXIT_BROKEN);
        check(vec![], EXIT_ATTENTION);
    }

    #[test]
    fn the_picture_is_read_without_colours_and_survives_json() {
        let checkup = Checkup::from(vec![
            Finding::ok("disk", "much is free"),
            Finding::fail("trust.root", "root.json expired", "sign the next"),
        ]);
        let lines = "ok       disk        much is free\n\
                     FAIL     trust.root  root.json expired\n                     next: sign the next\n\
                     2 checks: 1 ok, 1 fail";
        assert_eq!(checkup.picture(), lines);
        let json = serde_json::to_value(&checkup).unwrap();
        assert_eq!(
            json["checks"][0],
            serde_json::json!({"check": "disk", "state": "ok", "says": "much is free"})
        );
        assert_eq!(
            (&json["state"], &json["checks"][1]["do_next"]),
            (&"fail".into(), &"sign the next".into())
        );
        assert_eq!(serde_json::from_value::<Checkup>(json).unwrap(), checkup);
        assert_eq!(checkup.troubles().count(), 1);
    }

    #[test]
    fn spans_and_bytes_are_said_as_people_say_them() {
        let check = |seconds, expect: &str| assert_eq!(span(Duration::from_secs(seconds)), expect);
        check(0, "0 seconds");
        check(119, "119 seconds");
        check(120, "2 minutes");
        check(7200, "2 hours");
        check(172_799, "47 hours");
        check(30 * 86_400, "30 days");
        let check = |n, expect: &str| assert_eq!(bytes(n), expect);
        check(999, "0 kB");
        check(1_500_000, "1.5 MB");
        check(20_400_000_000, "20.4 GB");
    }

    #[test]
    fn what_is_signed_daily_is_noticed_after_two_days_without() {
        assert_eq!(notice_of("timestamp.json"), DAY * 5);
        assert_eq!(notice_of("snapshot.json"), DAY * 12);
        assert_eq!(notice_of("auto-er.json"), notice_of("targets.json"));
        assert!(notice_of("root.json") > notice_of("targets.json"));
    }
}

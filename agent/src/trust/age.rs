//! How old what this box believes is, and whether its clock can be right. Pure; changes nothing, only tells.
//!
//! A withheld timestamp cannot be told from a long cable cut, so age is said and not judged. And a clock that is wrong
//! looks the same from inside as a box that was off for years: the sentence names both.

use std::time::Duration;

use muster_protocol::message::Refusal;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::TrustedSet;
use muster_protocol::trust::author::TIMESTAMP_PERIOD;

const DAY: Duration = Duration::from_hours(24);
/// Clocks of a box and its fleet differ by less.
const SKEW: Duration = Duration::from_hours(1);
const STALE: Duration = TIMESTAMP_PERIOD.saturating_mul(2);

/// What a person should know of a box whose machine says `machine`, and that goes by `now`. Sentences change once a day
/// at most, so that saying them costs nothing.
pub fn notices(trusted: &TrustedSet, machine: Timestamp, now: Timestamp) -> Vec<Refusal> {
    let say =
        |code: &str, sentence: String| vec![Refusal { code: code.to_owned(), sentence: sentence.into() }];
    if is_behind(machine, now) {
        let behind = span(now.since(machine));
        return say(
            "clock_suspect",
            format!(
                "its clock is {behind} behind what was signed, so it goes by that; set the clock of the box"
            ),
        );
    }
    let Some(issued) = trusted.issued() else { return Vec::new() };
    let age = now.since(issued);
    if trusted.expiries().values().all(|expires| *expires < now) {
        return say(
            "clock_suspect",
            format!(
                "by its clock the newest trust files are {} old and all have expired, so nothing is changed; set the \
                 clock of the box, or bring it new trust files if it was off for so long",
                span(age)
            ),
        );
    }
    if age > STALE {
        return say(
            "stale_metadata",
            format!(
                "the newest timestamp it has is {} old; does the fleet server sign, and do its messages arrive?",
                span(age)
            ),
        );
    }
    Vec::new()
}

/// Whether `now` only says how late it is at least: the machine's clock is wrong, and its notice says so.
pub fn is_behind(machine: Timestamp, now: Timestamp) -> bool {
    now.since(machine) > SKEW
}

fn span(span: Duration) -> String {
    match span.as_secs() / DAY.as_secs() {
        0 => "hours".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

//! What numbers mean: pure, so that every bound is tried without a server.

use std::time::Duration;

use muster_protocol::checkup::{Finding, bytes, span};
use muster_protocol::time::Timestamp;

use crate::needs::book::{Refused, Trouble};
use crate::rollup::Bound;
use crate::store::slices::Kept;

/// A server that cannot keep up with what it has to say.
const OUTBOX_MANY: u64 = 1000;
/// Log entries that somebody who listens is behind: more than a busy hour brings.
const BEHIND_MANY: u64 = 1000;
/// A builder asks for work every few seconds.
const BUILDER_GONE: Duration = Duration::from_mins(10);
/// A kind of telemetry is dropped in whole tables, so it is over its bound by one of them.
const OVER: u64 = 2;

pub(super) fn outbox(waiting: u64) -> Finding {
    let says = format!("{waiting} messages wait to leave");
    if waiting < OUTBOX_MANY {
        return Finding::ok("outbox", says);
    }
    Finding::warn(
        "outbox",
        says,
        "is the broker connected ('broker'), and does it acknowledge? The log says why not",
    )
}

/// How many boxes are connected.
pub(super) fn boxes(online: u64, offline: u64) -> Finding {
    let all = online + offline;
    match (online, all) {
        (_, 0) => Finding::ok("boxes", "no box has joined yet"),
        (0, all) => Finding::warn(
            "boxes",
            format!("none of {all} boxes is connected"),
            "look at 'broker' and at the network; on a box: muster-agent doctor",
        ),
        (online, all) => Finding::ok("boxes", format!("{online} of {all} boxes are connected")),
    }
}

/// Whether somebody takes the runs that wait.
pub(super) fn builders(last: Option<(String, Timestamp)>, queued: u64, now: Timestamp) -> Finding {
    let seen = match &last {
        Some((name, at)) => format!("{name} asked for work {} ago", span(now.since(*at))),
        None => "no builder has asked for work since the server started".to_owned(),
    };
    let is_here = last.is_some_and(|(_, at)| now.since(at) < BUILDER_GONE);
    if queued == 0 || is_here {
        return Finding::ok("builders", format!("{seen}; {queued} runs wait"));
    }
    let next = "start one: muster builder run --config builder.toml; look at those there are";
    Finding::warn("builders", format!("{seen}, and {queued} runs wait"), next)
}

/// How far somebody who is told of the log is, and what they would not take.
pub(super) fn told(check: &str, behind: u64, refused: u64, next: &str) -> Finding {
    if refused > 0 {
        return Finding::warn(check, format!("{refused} events were not taken, and are put aside"), next);
    }
    let says = format!("{behind} entries of the log are not told yet");
    if behind < BEHIND_MANY { Finding::ok(check, says) } else { Finding::warn(check, says, next) }
}

/// Whether a list of people gets what needs them.
pub(super) fn mailed(check: &str, trouble: Option<&Trouble>, refused: &[Refused]) -> Finding {
    if let Some(Trouble { tries, why, .. }) = trouble {
        let says = format!("the relay took nothing in {tries} tries: {why}");
        return Finding::fail(
            check,
            says,
            "is the relay up, and do [mail]'s name and password hold? Then: muster mail test",
        );
    }
    match refused {
        [] => Finding::ok(check, "the relay takes what there is to tell"),
        [Refused { to, why, .. }, others @ ..] => {
            let others =
                if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
            let says = format!("the relay will not have {to} ({why}){others}");
            Finding::warn(check, says, "correct the address in [mail]; then: muster mail test")
        }
    }
}

/// Whether retention does what it is told.
pub(super) fn kept(kept: &[(Kept, Bound)]) -> Finding {
    let all: u64 = kept.iter().map(|(kept, _)| kept.bytes).sum();
    let most: u64 = kept.iter().map(|(_, bound)| bound.bytes).sum();
    let early: u64 = kept.iter().map(|(kept, _)| kept.dropped_early).sum();
    let over = kept.iter().find(|(kept, bound)| kept.bytes > bound.bytes.saturating_mul(OVER));
    if let Some((kept, bound)) = over {
        let (kind, held) = (kept.kind.as_str(), bytes(kept.bytes));
        let says = format!("{kind} take {held}, and {} at most are wanted", bytes(bound.bytes));
        return Finding::warn(
            "retention",
            says,
            "the log says why nothing is dropped; the bounds stand in [telemetry]",
        );
    }
    let early = if early == 0 { String::new() } else { format!("; {early} rows went before their age") };
    Finding::ok("retention", format!("telemetry takes {} of {} at most{early}", bytes(all), bytes(most)))
}

#[cfg(test)]
mod tests {
    use muster_protocol::checkup::Condition;

    use super::*;
    use crate::store::slices::Kind;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn boxes_that_are_all_silent_are_a_sign() {
        let check = |online, offline, state| assert_eq!(boxes(online, offline).state, state);
        check(0, 0, Condition::Ok);
        check(0, 3, Condition::Warn);
        check(1, 9999, Condition::Ok);
    }

    #[test]
    fn runs_that_wait_want_a_builder() {
        let check = |last: Option<i64>, queued, state| {
            let last = last.map(|at_s| ("b1".to_owned(), at(at_s)));
            assert_eq!(builders(last, queued, at(1_000_000)).state, state, "{queued}");
        };
        check(None, 0, Condition::Ok);
        check(None, 1, Condition::Warn);
        check(Some(1_000_000 - 5), 1, Condition::Ok);
        check(Some(1_000_000 - 700), 1, Condition::Warn);
        check(Some(1_000_000 - 700), 0, Condition::Ok);
    }

    #[test]
    fn what_is_put_aside_or_long_behind_is_told() {
        let check =
            |behind, refused, state| assert_eq!(told("webhook.x", behind, refused, "look").state, state);
        check(0, 0, Condition::Ok);
        check(999, 0, Condition::Ok);
        check(1000, 0, Condition::Warn);
        check(0, 1, Condition::Warn);
        assert_eq!(outbox(999).state, Condition::Ok);
        assert_eq!(outbox(1000).state, Condition::Warn);
    }

    #[test]
    fn people_who_are_not_told_are_told_of() {
        let check = |trouble: Option<u32>, refused: usize, state, says: &str| {
            let why = "550 no such user".to_owned();
            let trouble =
                trouble.map(|tries| Trouble { since: at(0), tries, retry: at(1), why: why.clone() });
            let refused = vec![Refused { to: "nurse@ward".to_owned(), at: at(0), why }; refused];
            let found = mailed("mail", trouble.as_ref(), &refused);
            assert!(found.state == state && found.says.contains(says), "{found:?}");
        };
        check(None, 0, Condition::Ok, "takes what there is");
        check(None, 3, Condition::Warn, "nurse@ward (550 no such user), and 2 more");
        check(Some(4), 1, Condition::Fail, "nothing in 4 tries");
    }

    #[test]
    fn retention_that_does_not_drop_is_told() {
        let check = |held: u64, early: u64, state: Condition, says: &str| {
            let one = Kept {
                kind: Kind::Reports,
                slices: 1,
                rows: 1,
                bytes: held,
                since: None,
                dropped_rows: early,
                dropped_bytes: 0,
                dropped_early: early,
                dropped_last: None,
            };
            let bound = Bound { bytes: 1_000_000_000, age: Duration::from_hours(6) };
            let found = kept(&[(one, bound)]);
            assert!(found.state == state && found.says.contains(says), "{found:?}");
        };
        check(0, 0, Condition::Ok, "0 kB of 1.0 GB");
        check(2_000_000_000, 0, Condition::Ok, "2.0 GB");
        check(2_000_000_001, 0, Condition::Warn, "reports take");
        check(5, 7, Condition::Ok, "7 rows went before their age");
    }
}

//! Whom this box believes, for how long still, and whether its clock can be right.

use std::path::Path;

use muster_protocol::checkup::{End, Finding, notice_of, span};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::TrustedSet;

use super::latest;
use crate::chain;
use crate::clock::{TrustClock, released};
use crate::identity::Identity;
use crate::trust::{self, Belief, is_behind};

const TRUST: &str = "trust";
const CLOCK: &str = "clock";
const SET_CLOCK: &str = "set the clock of this box, and keep it set: timedatectl set-ntp true";
/// Of a root, and of what its keys list.
const PEOPLE: &str =
    "key holders publish the next one: docs/operations.md, 'Renewing what expires'. What runs, runs on";
/// Of what the server signs daily.
const SERVER: &str = "does the fleet server sign, and do its messages arrive? There 'muster doctor'; here look at 'broker' \
                      below. What runs, runs on";

/// What is found, and the authorities by which servers are judged, if there are any.
pub(super) fn look(
    state_dir: &Path,
    identity: &Identity,
    machine: Timestamp,
) -> (Vec<Finding>, Option<Vec<String>>) {
    let root = match identity.root() {
        Ok(root) => root,
        Err(error) => {
            let next = "restore it from a backup, or enrol again: muster-agent enrol FILE --again";
            return (vec![Finding::fail(TRUST, chain(&error), next), before_any(machine)], None);
        }
    };
    let dir = state_dir.join("trust");
    if !dir.exists() {
        let next = "start the agent: it begins with the root that the enrolment brought";
        let never =
            Finding::warn(TRUST, "the agent has not run yet, so it believes nothing but its root", next);
        let authorities = TrustedSet::from_root(&root).ok().map(|pinned| pinned.muster().tls_roots.clone());
        return (vec![never, before_any(machine)], authorities);
    }
    match trust::look(&dir, &root) {
        Ok(belief) => {
            let authorities = belief.trusted.muster().tls_roots.clone();
            (believed(&belief, machine), Some(authorities))
        }
        Err(error) => {
            let next = "docs/operations.md, 'A lost key', says how 'muster-agent trust reset' begins anew; models run on";
            (vec![Finding::fail(TRUST, chain(&error), next), before_any(machine)], None)
        }
    }
}

fn believed(belief: &Belief, machine: Timestamp) -> Vec<Finding> {
    let Belief { trusted, floor, order } = belief;
    let now = latest(machine, *floor);
    let versions = trusted.versions();
    let number = |version: Option<u64>| version.map_or_else(|| "none yet".to_owned(), |v| v.to_string());
    let signed = trusted.issued().map(|issued| format!(", last signed {} ago", span(now.since(issued))));
    let says = format!(
        "root {}, catalogue {}, order {}{}; it is not before {floor}",
        versions.root,
        number(versions.targets),
        number(order.as_ref().map(|order| order.version)),
        signed.unwrap_or_default()
    );
    let mut found = vec![Finding::ok(TRUST, says)];
    found.extend(trusted.expiries().into_iter().map(|(file, expires)| {
        let check = format!("{TRUST}.{}", file.strip_suffix(".json").unwrap_or(&file));
        let end = End { expires, now, notice: notice_of(&file) };
        let next = if matches!(file.as_str(), "timestamp.json" | "snapshot.json") { SERVER } else { PEOPLE };
        Finding::expiry(&check, &file, end, next)
    }));
    found.push(clock(trusted, machine, now));
    found
}

/// Nothing was signed yet that says how late it is at least, but this program.
fn before_any(machine: Timestamp) -> Finding {
    if machine < released() {
        let says = format!("the clock says {machine}, which is before this program was made");
        return Finding::fail(CLOCK, says, SET_CLOCK);
    }
    let vouched = match TrustClock::system().synchronised() {
        Some(_) => "the system keeps it set",
        None => "nobody says that it is kept set (systemd-timesyncd does not)",
    };
    Finding::ok(CLOCK, format!("it is {machine}; {vouched}"))
}

fn clock(trusted: &TrustedSet, machine: Timestamp, now: Timestamp) -> Finding {
    if is_behind(machine, now) {
        let says = format!(
            "the clock is {} behind what was signed; this box goes by that",
            span(now.since(machine))
        );
        return Finding::fail(CLOCK, says, SET_CLOCK);
    }
    let suspect = trust::notices(trusted, machine, now).into_iter().find(|said| said.code == "clock_suspect");
    match suspect {
        Some(said) => {
            let next = "if the clock is wrong, set it; else bring the box new trust files: let it connect to its fleet";
            Finding::warn(CLOCK, said.sentence.as_str(), next)
        }
        None => before_any(machine),
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::checkup::Condition;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_before_this_program_is_wrong_whatever_else_is_known() {
        let check =
            |machine: Timestamp, condition| assert_eq!(before_any(machine).state, condition, "{machine}");
        check(released(), Condition::Ok);
        check(released().minus(Duration::from_secs(1)), Condition::Fail);
        check(Timestamp::default(), Condition::Fail);
    }
}

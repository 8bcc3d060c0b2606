//! What this server signs with, and how long what is signed is good.

use std::time::Duration;

use muster_protocol::checkup::{End, Finding, notice_of};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::TrustedSet;

use super::chain;
use crate::fleet::Fleet;
use crate::pki::{AuthorityView, PkiView};
use crate::signer::SignerError;

const SIGNER: &str = "signer";
const DAY: Duration = Duration::from_hours(24);
/// Replacing an authority of servers takes as long as the slowest box.
const AUTHORITY_NOTICE: Duration = DAY.saturating_mul(365);
/// The server renews its own certificate with a third of a year left: a week later it did not.
const OWN_NOTICE: Duration = DAY.saturating_mul(365 / 3 - 7);

/// The signer, and each trust file that is published.
pub(super) async fn trust(fleet: &Fleet, now: Timestamp) -> Vec<Finding> {
    let trusted = match fleet.intake.trusted().await {
        Ok(Some(trusted)) => trusted,
        Ok(None) => {
            let says = "nothing is published yet, so no box can be told anything";
            let next =
                "make a root and sign it: muster root new --help; the key ceremony in docs/operations.md";
            return vec![Finding::warn(SIGNER, says, next)];
        }
        Err(error) => {
            let next = "restore the data folder from a backup; boxes obey it again at once";
            return vec![Finding::fail(SIGNER, chain(&error), next)];
        }
    };
    let mut found = vec![signer(fleet, &trusted)];
    found.extend(expiries(&trusted, now));
    found
}

fn signer(fleet: &Fleet, trusted: &TrustedSet) -> Finding {
    match fleet.signer.check(trusted) {
        Ok(()) => Finding::ok(SIGNER, format!("root {} names this server's keys", trusted.versions().root)),
        Err(error) => {
            let next = if matches!(error, SignerError::Offline { .. }) {
                "take it off this server and rotate it away today: docs/operations.md, 'A stolen key'"
            } else {
                "name the keys of DATA/keys in the next root: muster root edit --online online.pub --order order.pub, sign, push"
            };
            Finding::fail(SIGNER, chain(&error), next)
        }
    }
}

fn expiries(trusted: &TrustedSet, now: Timestamp) -> Vec<Finding> {
    let found = trusted.expiries().into_iter().map(|(file, expires)| {
        let role = file.strip_suffix(".json").unwrap_or(&file);
        let next = match role {
            "root" => "root holders sign the next one: muster root edit --expires 365d, then muster root sign; muster release push",
            "targets" => "a release holder signs it anew: muster release publish --key NAME",
            "timestamp" | "snapshot" => "this server signs it daily by itself; its log says why it does not",
            _delegated => "its holder signs it anew: muster release publish --role ROLE --key NAME; a builder does with its next bundle",
        };
        let end = End { expires, now, notice: notice_of(&file) };
        Finding::expiry(&format!("trust.{role}"), &file, end, next)
    });
    found.collect()
}

/// The authorities that sign, and this server's own certificate.
pub(super) fn certificates(view: &PkiView, now: Timestamp) -> Vec<Finding> {
    let PkiView { device, server, client, server_expires, .. } = view;
    let signing = |all: &[AuthorityView]| all.iter().find(|one| one.signs).cloned();
    let authority = |check: &str, one: Option<AuthorityView>, next: &str| {
        one.map(|AuthorityView { name, expires, .. }| {
            let end = End { expires, now, notice: AUTHORITY_NOTICE };
            Finding::expiry(check, &format!("the {name}"), end, next)
        })
    };
    let mut found = Vec::new();
    found.extend(authority(
        "ca.device",
        signing(device),
        "with the server stopped: muster-fleet ca rotate-device",
    ));
    let next = "with the server stopped: muster-fleet ca prepare-server; docs/operations.md, 'Rotating keys', has all steps";
    found.extend(authority("ca.server", signing(server), next));
    let next = "with the server stopped, move pki/client-ca.* and pki/fleet-client.* away: docs/operations.md, 'Rotating keys'";
    found.extend(authority("ca.client", Some(client.clone()), next));
    let end = End { expires: *server_expires, now, notice: OWN_NOTICE };
    let next = "this server renews it by itself; its log says why it does not";
    found.push(Finding::expiry("certificate", "this server's certificate for boxes", end, next));
    found
}

#[cfg(test)]
mod tests {
    use muster_protocol::checkup::Condition;

    use super::*;

    #[test]
    fn authorities_are_told_a_year_ahead_and_only_those_that_sign() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let days = |n: u32| now.plus(DAY * n);
        let one = |name: &str, signs, expires| AuthorityView { name: name.to_owned(), signs, expires };
        let view = PkiView {
            device: vec![one("Device CA", false, days(1)), one("Device CA 2", true, days(3000))],
            server: vec![one("Server CA", true, days(364))],
            client: one("Client CA", true, days(366)),
            names: Vec::new(),
            server_expires: days(120),
        };
        let check = |view: &PkiView, expect: &[(&str, Condition)]| {
            let found = certificates(view, now);
            let found: Vec<_> = found.iter().map(|found| (found.check.as_str(), found.state)).collect();
            assert_eq!(found, expect);
        };
        let (ok, warn, fail) = (Condition::Ok, Condition::Warn, Condition::Fail);
        check(&view, &[("ca.device", ok), ("ca.server", warn), ("ca.client", ok), ("certificate", ok)]);
        let late = PkiView { server_expires: days(100), client: one("Client CA", true, now), ..view };
        check(&late, &[("ca.device", ok), ("ca.server", warn), ("ca.client", fail), ("certificate", warn)]);
    }
}

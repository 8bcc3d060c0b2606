//! Who this box is: what its fleet said of it, its key, its certificate.

use muster_protocol::checkup::{End, Finding};
use muster_protocol::time::Timestamp;

use crate::chain;
use crate::identity::{Certificate, Enrolment, Identity, IdentityError};

const ENROLMENT: &str = "enrolment";
const KEY: &str = "key";
const CERTIFICATE: &str = "certificate";

pub(super) fn look(identity: &Identity, now: Timestamp) -> Vec<Finding> {
    let enrolment = match identity.enrolment() {
        Ok(Enrolment { device, name, site, server, .. }) => {
            Finding::ok(ENROLMENT, format!("{name} ({device}) of site {site}, with {server}"))
        }
        Err(error) => trouble(ENROLMENT, &error),
    };
    let key = match identity.key() {
        Ok(key) => {
            Finding::ok(KEY, format!("nobody else may read it; its fingerprint is {}", key.fingerprint()))
        }
        Err(error) => trouble(KEY, &error),
    };
    let certificate = match identity.certificate() {
        Ok(Some(certificate)) => good(&certificate, now),
        Ok(None) => Finding::warn(
            CERTIFICATE,
            "this box's key has no certificate, so no broker lets it in",
            "the agent asks the fleet's door for one while it runs: start it, and look at 'door' below",
        ),
        // It cannot be told whose it is without the key, and the key has its own line.
        Err(IdentityError::KeyExposed { .. } | IdentityError::Key { .. }) => Finding::unknown(
            CERTIFICATE,
            "whether it is this box's cannot be said without the key",
            "mend the key first",
        ),
        Err(error) => trouble(CERTIFICATE, &error),
    };
    vec![enrolment, key, certificate]
}

fn good(certificate: &Certificate, now: Timestamp) -> Finding {
    // The agent asks for the next one from a third of the life left; a quarter says that it does not get one.
    let notice = certificate.expires.since(certificate.starts) / 4;
    let end = End { expires: certificate.expires, now, notice };
    let next = "the agent renews it by itself: is it running, and does the fleet's door answer ('agent' and 'door' below)? \
                Its log says why it was not renewed";
    Finding::expiry(CERTIFICATE, "this box's certificate", end, next)
}

fn trouble(check: &str, error: &IdentityError) -> Finding {
    let again = "restore it from a backup, or enrol again: muster-agent enrol FILE --again";
    let fresh = "remove it: the agent asks the fleet for a fresh one for the same key";
    let (says, next) = match error {
        IdentityError::KeyExposed { path, mode } => (
            format!(
                "{} can be read by others (mode {mode:o}), and the agent does not start with it",
                path.display()
            ),
            format!(
                "if it surely was not read: chmod 600 {0}; else also 'muster-agent rekey'",
                path.display()
            ),
        ),
        IdentityError::Key { path, source } => {
            (format!("{} is no key that can be used: {source}", path.display()), format!("{again} --new-key"))
        }
        IdentityError::Gone(path) => (format!("{} is gone", path.display()), again.to_owned()),
        IdentityError::Enrolment { path, .. } => {
            (format!("{} is not what 'muster-agent enrol' wrote", path.display()), again.to_owned())
        }
        IdentityError::Certificate { path, source } => {
            (format!("{} is no certificate: {source}", path.display()), fresh.to_owned())
        }
        IdentityError::Foreign { path, device, found } => (
            format!("{} is the certificate of {found}, and this box is {device}", path.display()),
            fresh.to_owned(),
        ),
        IdentityError::Disk(_)
        | IdentityError::Held(_)
        | IdentityError::OtherKey
        | IdentityError::OtherDevice { .. }
        | IdentityError::Randomness(_) => {
            (chain(error), "run this as root, or as the user that the agent runs as".to_owned())
        }
    };
    Finding::fail(check, says, next)
}

//! What the loop knows of this box's membership, and what it does when that changes: show the new certificate, tell the
//! fleet, ask for another when the broker does not like the one there is.

use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::message::Refusal;
use muster_protocol::time::Timestamp;

use super::agent::Agent;
use crate::chain;
use crate::identity::{Enrolment, Identity};
use crate::link::Fault;
use crate::renew::Said;

/// Connections that end before they begin, one after the other, until the certificate is doubted.
const REFUSED_MAX: u32 = 3;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) enrolment: Enrolment,
    /// What people call the box.
    pub(super) name: String,
    pub(super) facts: Facts,
    /// The key that the present connection, or the last one, was made with.
    pub(super) key: Option<Fingerprint>,
    /// Until when the newest certificate is good; none while there is no certificate.
    pub(super) expires: Option<Timestamp>,
    pub(super) trouble: Option<Refusal>,
    refused: u32,
    /// Version of the root whose authorities were told last.
    root: u64,
}

impl Member {
    pub(super) fn new(
        identity: &Identity,
        root: u64,
        enrolment: Enrolment,
        name: String,
        facts: Facts,
    ) -> Self {
        let expires = match identity.certificate() {
            Ok(certificate) => certificate.map(|found| found.expires),
            Err(error) => {
                tracing::error!(error = chain(&error), "this box's certificate cannot be read");
                None
            }
        };
        Self { enrolment, name, facts, key: None, expires, trouble: None, refused: 0, root }
    }

    /// For people on the box.
    pub(super) fn shown(&self) -> serde_json::Value {
        serde_json::json!({
            "site": self.enrolment.site,
            "server": self.enrolment.server,
            "certificate_expires": self.expires,
        })
    }
}

impl Agent {
    pub(super) fn membership(&mut self, said: Said) {
        match said {
            Said::Changed { expires } => {
                self.member.expires = Some(expires);
                self.member.trouble = None;
                // Proven while the old one still is good; the new connection's hello tells of it.
                self.parts.link.reconnect();
            }
            Said::Trouble(trouble) => self.member.trouble = trouble,
        }
    }

    /// A broker that is there and does not want this box may know something of its certificate that the box does not.
    pub(super) fn member_refused(&mut self, fault: Fault) {
        match fault {
            Fault::Network => self.member.refused = 0,
            Fault::Certificate => self.parts.renewer.doubt(),
            Fault::Refused => {
                self.member.refused += 1;
                if self.member.refused >= REFUSED_MAX {
                    self.member.refused = 0;
                    self.parts.renewer.doubt();
                }
            }
        }
    }

    /// Whom a newer root trusts counts from the next connection on, and the fleet learns that this box has that root.
    pub(super) fn tell_authorities(&mut self) {
        let version = self.trust.versions().trusted.root;
        if self.member.root == version {
            return;
        }
        self.member.root = version;
        self.parts.authorities.send_replace(self.trust.trusted().muster().tls_roots.clone());
        self.hello_again();
    }
}

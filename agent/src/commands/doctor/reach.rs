//! Whether the fleet can be reached, and lets this box in: as far as TLS, and not a word further.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::checkup::Finding;
use rustls::ClientConfig;

use crate::address::Address;
use crate::chain;
use crate::clock::TrustClock;
use crate::commands::block_on;
use crate::identity::{Enrolment, Identity};
use crate::knock::{KnockError, Welcome, knock};
use crate::tls::{self, Shown, TlsError};

const BROKER: &str = "broker";
const DOOR: &str = "door";
/// From the look-up of a name to the end of the handshake.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may take to object to this box. The fleet's front waits longer for our first words.
const PATIENCE: Duration = Duration::from_millis(1500);

pub(super) fn look(identity: &Identity, authorities: Option<&[String]>, clock: &TrustClock) -> Vec<Finding> {
    let Some(authorities) = authorities else {
        let unknown = |check| {
            Finding::unknown(check, "nobody says which servers are the fleet's", "mend 'trust' first")
        };
        return vec![unknown(BROKER), unknown(DOOR)];
    };
    let Ok(enrolment) = identity.enrolment() else {
        let unknown = |check| Finding::unknown(check, "nobody says where it is", "mend 'enrolment' first");
        return vec![unknown(BROKER), unknown(DOOR)];
    };
    vec![broker(identity, &enrolment, authorities, clock), door(&enrolment, authorities, clock)]
}

fn broker(identity: &Identity, enrolment: &Enrolment, authorities: &[String], clock: &TrustClock) -> Finding {
    let credential = identity.credentials().ok().and_then(|all| all.into_iter().next());
    let Some(credential) = credential else {
        let next = "mend 'key' and 'certificate' first";
        return Finding::unknown(BROKER, format!("there is nothing to show to {}", enrolment.mqtt), next);
    };
    let key = credential.key.pem();
    let shown = Shown { chain: &credential.certificate.pem, key: &key };
    let asked = visit(Address::mqtts(&enrolment.mqtt).ok(), tls::client(authorities, Some(shown), clock));
    match asked {
        Ok(Welcome::Heard) => {
            Finding::ok(BROKER, format!("{} accepts this box's certificate", enrolment.mqtt))
        }
        Ok(Welcome::TurnedAway) => {
            let says = format!("{} ends the connection as soon as it knows this box", enrolment.mqtt);
            let next = format!("is it a member still? At the fleet: muster device show {}", enrolment.device);
            Finding::fail(BROKER, says, next)
        }
        Err((says, next)) => Finding::fail(BROKER, format!("{}: {says}", enrolment.mqtt), next),
    }
}

/// Only needed to renew the certificate, so its absence is no failure yet.
fn door(enrolment: &Enrolment, authorities: &[String], clock: &TrustClock) -> Finding {
    let asked = visit(Address::https(&enrolment.server).ok(), tls::client(authorities, None, clock));
    match asked {
        Ok(_) => Finding::ok(DOOR, format!("{} answers, and is the fleet's", enrolment.server)),
        Err((says, next)) => Finding::warn(
            DOOR,
            format!("{}: {says}; no certificate can be renewed there", enrolment.server),
            next,
        ),
    }
}

/// Or what is wrong, and what to do.
fn visit(
    address: Option<Address>,
    tls: Result<Arc<ClientConfig>, TlsError>,
) -> Result<Welcome, (String, String)> {
    let address = address.ok_or_else(|| {
        ("this is no address of a server".to_owned(), "enrol this box again: --again".to_owned())
    })?;
    let tls = tls.map_err(|error| {
        (
            chain(&error),
            "the fleet publishes a root whose tls_roots are certificates: muster root edit".to_owned(),
        )
    })?;
    let visited = block_on(async {
        Ok(match knock(&address, tls, DEADLINE).await {
            Ok(knocked) => knocked.settled(PATIENCE).await,
            Err(error) => Err(error),
        })
    });
    let visited =
        visited.map_err(|error| (chain(&error), "does the system give this user sockets?".to_owned()))?;
    visited.map_err(|error| {
        let next = match &error {
            KnockError::Untrusted { .. } => {
                "the sentence names the cause; on the fleet server 'muster doctor' looks at the other side".to_owned()
            }
            KnockError::Unreachable(_) | KnockError::Slow | KnockError::Name { .. } => format!(
                "is the fleet server running, and does the network let this box through? From here: nc -vz {} {}",
                address.host(),
                address.port()
            ),
        };
        (chain(&error), next)
    })
}

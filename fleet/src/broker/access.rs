//! Who may do what on the embedded broker. It hangs on the client id, and the client id on the certificate:
//!
//! | client id | publishes, wills included | subscribes |
//! |---|---|---|
//! | a device id | `d/{id}/up/…` of its own | `d/{id}/down/#`, trust files, the epoch |
//! | the fleet's own, random and with a password that never leaves the process | everything | everything |
//! | an observer's, `o-…` | nothing | everything but bulk and telemetry: orders, states, status, trust |
//! | any other | nothing | nothing |

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use muster_protocol::ids::DeviceId;
use muster_protocol::topic::{self, Down, Topic, Up};

use super::Insider;
use super::guests::Guests;

const OBSERVER: &str = "o-";

/// Answers the broker's questions.
pub(super) struct Access {
    pub(super) insider: Insider,
    pub(super) guests: Guests,
}

/// Whom a client id stands for.
enum Client {
    Fleet,
    Device(DeviceId),
    Observer,
    Nobody,
}

impl Access {
    fn who(&self, client_id: &str) -> Client {
        if client_id == self.insider.client_id {
            return Client::Fleet;
        }
        match client_id.parse() {
            Ok(device) => Client::Device(device),
            Err(_) if client_id.starts_with(OBSERVER) => Client::Observer,
            Err(_) => Client::Nobody,
        }
    }

    /// The client id proves nothing by itself: it must be the name in the certificate that the front has verified, for
    /// exactly this connection. Only the fleet's own client comes without, by its password.
    fn knows(&self, client_id: &str, password: Option<&[u8]>, from: SocketAddr) -> bool {
        match self.who(client_id) {
            // In the same time wherever a guess goes wrong.
            Client::Fleet => password.is_some_and(|guess| {
                verify_slices_are_equal(guess, self.insider.password.as_bytes()).is_ok()
            }),
            Client::Device(_) | Client::Observer => self.guests.is(from, client_id),
            Client::Nobody => false,
        }
    }

    fn may_publish(&self, client_id: &str, topic: &str) -> bool {
        match self.who(client_id) {
            Client::Fleet => true,
            Client::Device(id) => matches!(topic.parse(), Ok(Topic::Up(device, _)) if device == id),
            Client::Observer | Client::Nobody => false,
        }
    }

    fn may_subscribe(&self, client_id: &str, filter: &str) -> bool {
        match self.who(client_id) {
            Client::Fleet => true,
            Client::Device(id) => {
                let own = filter == topic::down_to(&id)
                    || matches!(filter.parse(), Ok(Topic::Down(device, _)) if device == id);
                own || is_public(filter)
            }
            Client::Observer => is_public(filter) || is_observable(filter),
            Client::Nobody => false,
        }
    }
}

fn is_public(filter: &str) -> bool {
    filter == topic::every_trust_file() || matches!(filter.parse(), Ok(Topic::Trust(_) | Topic::Epoch))
}

/// What a person may watch of one device or of all: its order, its state, its presence, its events. Compared as whole
/// filters, so that nothing wider slips through a wildcard or a share.
fn is_observable(filter: &str) -> bool {
    match filter.parse() {
        Ok(Topic::Up(_, Up::Hello | Up::Status | Up::State | Up::Event) | Topic::Down(_, Down::Order)) => {
            true
        }
        Ok(Topic::Up(_, Up::Report | Up::Want) | Topic::Down(..) | Topic::Trust(_) | Topic::Epoch) => false,
        Err(_) => {
            [Up::Hello, Up::Status, Up::State, Up::Event].iter().any(|&up| filter == topic::every_device(up))
                || filter == every_order()
        }
    }
}

pub(super) fn every_order() -> String {
    topic::every_device(Up::State).replace("/up/state", "/down/order")
}

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Access {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Later<'a, mqtt5::error::Result<AuthResult>> {
        let result = if self.knows(&connect.client_id, connect.password.as_deref(), from) {
            AuthResult::success_with_user(connect.client_id.clone())
        } else {
            AuthResult::fail(ReasonCode::NotAuthorized)
        };
        Box::pin(std::future::ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        client_id: &str,
        _: Option<&'a str>,
        topic: &'a str,
    ) -> Later<'a, bool> {
        Box::pin(std::future::ready(self.may_publish(client_id, topic)))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client_id: &str,
        _: Option<&'a str>,
        filter: &'a str,
    ) -> Later<'a, bool> {
        Box::pin(std::future::ready(self.may_subscribe(client_id, filter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            insider: Insider { client_id: "fleet-x".to_owned(), password: "secret".to_owned() },
            guests: Guests::default(),
        }
    }

    fn device() -> DeviceId {
        DeviceId::mint([7; 16])
    }

    #[test]
    fn publishing() {
        let (mine, other) = (device(), DeviceId::mint([8; 16]));
        let check = |client: &str, topic: String, may: bool| {
            assert_eq!(access().may_publish(client, &topic), may, "{client} {topic}");
        };
        check(mine.as_str(), Topic::Up(mine.clone(), Up::State).to_string(), true);
        check(mine.as_str(), Topic::Up(other, Up::State).to_string(), false);
        check(mine.as_str(), Topic::Down(mine.clone(), Down::Order).to_string(), false);
        check(mine.as_str(), Topic::Trust("timestamp.json".to_owned()).to_string(), false);
        check(mine.as_str(), format!("muster/1/d/{mine}/up/state/x"), false);
        check("o-ward", Topic::Up(mine.clone(), Up::State).to_string(), false);
        check("mosq", Topic::Up(mine.clone(), Up::State).to_string(), false);
        check("fleet-x", Topic::Down(mine, Down::Order).to_string(), true);
    }

    #[test]
    fn subscribing() {
        let (mine, other) = (device(), DeviceId::mint([8; 16]));
        let check = |client: &str, filter: &str, may: bool| {
            assert_eq!(access().may_subscribe(client, filter), may, "{client} {filter}");
        };
        check(mine.as_str(), &topic::down_to(&mine), true);
        check(mine.as_str(), &topic::every_trust_file(), true);
        check(mine.as_str(), "muster/1/s/epoch", true);
        for wrong in [
            "#",
            "+/+/#",
            "muster/1/#",
            "muster/1/d/+/down/#",
            &topic::down_to(&other),
            &format!("$share/x/{}", topic::down_to(&mine)),
            &format!("$share/x/{}", topic::down_to(&other)),
            &topic::every_device(Up::State),
            "$SYS/#",
        ] {
            check(mine.as_str(), wrong, false);
        }
        check("o-ward", "muster/1/d/+/down/order", true);
        check("o-ward", "muster/1/d/+/up/state", true);
        check("o-ward", "muster/1/d/+/up/report", false);
        check("o-ward", "#", false);
        check("o-ward", "$share/a/muster/1/d/+/up/state", false);
        check("o-ward", &topic::down_to(&mine), false);
        check("mosq", "muster/1/d/+/up/state", false);
        check("fleet-y", "muster/1/s/epoch", false);
    }

    #[test]
    fn a_client_id_must_be_the_name_in_the_certificate() {
        let (mine, other) = (device(), DeviceId::mint([8; 16]));
        let access = access();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let device = access.guests.admit(address(1), mine.as_str());
        let observer = access.guests.admit(address(2), "o-ward");
        let foreign = access.guests.admit(address(3), "fleet-00");
        let check = |port: u16, client: &str, password: Option<&str>, good: bool| {
            let knows = access.knows(client, password.map(str::as_bytes), address(port));
            assert_eq!(knows, good, "{port} {client}");
        };
        check(1, mine.as_str(), None, true);
        check(1, other.as_str(), None, false);
        check(1, "o-ward", None, false);
        check(1, "", None, false);
        check(2, "o-ward", None, true);
        check(2, mine.as_str(), None, false);
        check(3, "fleet-00", None, false);
        check(9, mine.as_str(), None, false);
        check(1, "fleet-x", None, false);
        for wrong in ["wrong", "", "secre", "secret2", "terces", "SECRET"] {
            check(1, "fleet-x", Some(wrong), false);
        }
        check(9, "fleet-x", Some("secret"), true);
        drop((device, observer, foreign));
        check(1, mine.as_str(), None, false);
    }
}

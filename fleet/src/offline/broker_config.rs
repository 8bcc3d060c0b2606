//! `muster-fleet broker-config`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use muster_protocol::time::Timestamp;

use super::{Folder, OfflineError, nameable, say};
use crate::broker::mosquitto::{self, Setup};

#[derive(Args, Debug)]
pub struct BrokerConfig {
    /// The folder for everything, where it will stay: the configuration names its files there.
    #[arg(long)]
    out: PathBuf,
    /// Where boxes connect: PORT, or ADDRESS:PORT.
    #[arg(long, default_value = "8883", value_parser = address)]
    listen: SocketAddr,
    /// Where the fleet server and observers connect: PORT, or ADDRESS:PORT.
    #[arg(long, default_value = "8884", value_parser = address)]
    fleet_listen: SocketAddr,
    /// What boxes and the fleet server call the broker's machine; repeatable, the best name first [default: the fleet
    /// server's own names].
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// The system's user that Mosquitto runs as.
    #[arg(long, default_value = "mosquitto")]
    user: String,
    #[command(flatten)]
    folder: Folder,
}

impl BrokerConfig {
    pub(super) fn run(self, now: Timestamp) -> Result<(), OfflineError> {
        let pki = self.folder.look()?;
        // The script in the folder names both.
        nameable(pki.dir())?;
        let out = nameable(&self.out)?;
        let names = if self.names.is_empty() { pki.view().names } else { self.names };
        let setup =
            Setup { out, listen: self.listen, fleet_listen: self.fleet_listen, names, user: self.user };
        let expires = mosquitto::write(&pki, &setup, now)?;
        let out = setup.out.display();
        say(&format!(
            "{out}/README.md tells what to do next; the broker's certificate is good until {expires}"
        ))
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    match (text.parse::<u16>(), text.parse()) {
        (Ok(port), _) => Ok(SocketAddr::from(([0, 0, 0, 0], port))),
        (_, Ok(address)) => Ok(address),
        (Err(_), Err(_)) => Err("write a port, or an address and a port: 8883, 10.0.0.7:8883".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ports_or_whole() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(address(text).ok().map(|found| found.to_string()).as_deref(), expect, "{text}");
        };
        check("8883", Some("0.0.0.0:8883"));
        check("10.0.0.7:8883", Some("10.0.0.7:8883"));
        check("[::]:8883", Some("[::]:8883"));
        for wrong in ["", "99999", "localhost:1", "10.0.0.7"] {
            check(wrong, None);
        }
    }
}

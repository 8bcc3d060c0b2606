//! `[door]`: where boxes that have no certificate yet, or an old one, come to get one.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{ConfigError, is_this_machine};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorConfig {
    /// TLS, so any address will do.
    pub listen: SocketAddr,
    /// What boxes are told, where the names and the port do not say it: `https://host:port`.
    pub public: Option<String>,
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8443)), public: None }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Door {
    listen: Option<SocketAddr>,
    public: Option<String>,
}

impl From<Door> for DoorConfig {
    fn from(file: Door) -> Self {
        Self { listen: file.listen.unwrap_or(Self::default().listen), public: file.public }
    }
}

impl DoorConfig {
    /// Where boxes find the door. `port`: where it really listens.
    pub fn public(&self, names: &[String], port: u16) -> String {
        let name = names.first().map_or("", String::as_str);
        match &self.public {
            Some(public) => public.trim_end_matches('/').to_owned(),
            None if name.contains(':') => format!("https://[{name}]:{port}"),
            None => format!("https://{name}:{port}"),
        }
    }

    pub(super) fn check(&self, names: &[String]) -> Result<(), ConfigError> {
        if let Some(public) = &self.public {
            let host = public.strip_prefix("https://").unwrap_or_default();
            return if host.is_empty() || host.len() > 240 || host.trim_end_matches('/').contains('/') {
                Err(ConfigError::Door(public.chars().take(200).collect()))
            } else {
                Ok(())
            };
        }
        let name = names.first().map_or("", String::as_str);
        if !self.listen.ip().is_loopback() && is_this_machine(name) {
            return Err(ConfigError::UnreachableDoor { address: self.listen, name: name.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_told_where_the_door_is() {
        let check = |public: Option<&str>, name: &str, expect: &str| {
            let config = DoorConfig { public: public.map(str::to_owned), ..DoorConfig::default() };
            assert_eq!(config.public(&[name.to_owned()], 4711), expect);
        };
        check(None, "fleet.example", "https://fleet.example:4711");
        check(None, "fd00::1", "https://[fd00::1]:4711");
        check(Some("https://door.example/"), "fleet.example", "https://door.example");
    }

    #[test]
    fn doors_that_no_box_could_find_are_refused() {
        let check = |listen: &str, public: Option<&str>, name: &str, valid: bool| {
            let config = DoorConfig { listen: listen.parse().unwrap(), public: public.map(str::to_owned) };
            assert_eq!(config.check(&[name.to_owned()]).is_ok(), valid, "{config:?} {name}");
        };
        check("127.0.0.1:0", None, "localhost", true);
        check("0.0.0.0:8443", None, "fleet.example", true);
        check("0.0.0.0:8443", None, "localhost", false);
        check("0.0.0.0:8443", Some("https://door.example"), "localhost", true);
        check("127.0.0.1:0", Some("http://door.example"), "localhost", false);
        check("127.0.0.1:0", Some("https://"), "localhost", false);
        check("127.0.0.1:0", Some("https://door.example/path"), "localhost", false);
    }
}

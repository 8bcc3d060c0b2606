//! Where a server is, as written in an enrolment: `https://host:port`, `mqtts://host:port`. Encrypted schemes only.

use std::fmt;
use std::net::IpAddr;

const HOST_BYTES_MAX: usize = 253;

/// A host, by name or by address, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

#[derive(Debug, thiserror::Error)]
#[error("'{text}' is not an address; it is written {form}")]
pub struct AddressError {
    text: String,
    form: &'static str,
}

impl Address {
    /// The fleet's door for devices.
    pub fn https(url: &str) -> Result<Self, AddressError> {
        Self::parse(url, "https://", "https://host:port")
    }

    /// The broker.
    pub fn mqtts(url: &str) -> Result<Self, AddressError> {
        Self::parse(url, "mqtts://", "mqtts://host:port")
    }

    fn parse(url: &str, scheme: &str, form: &'static str) -> Result<Self, AddressError> {
        let wrong = || AddressError { text: url.chars().take(80).collect(), form };
        let rest = url.strip_prefix(scheme).ok_or_else(wrong)?;
        let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').filter(|host| host.contains(':')).ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let valid = host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.bytes().all(named));
        if !valid || host.len() > HOST_BYTES_MAX || port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Without the brackets of an IPv6 address: what a certificate is for.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// On this machine: not protected from a stampede, but awaited.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_addresses_are_understood_and_nothing_else() {
        let check = |url: &str, wanted: Option<&str>| {
            let found = Address::mqtts(url).ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), wanted, "{url}");
        };
        check("mqtts://fleet.example:8883", Some("fleet.example:8883"));
        check("mqtts://10.0.0.7:8883/", Some("10.0.0.7:8883"));
        check("mqtts://[::1]:8883", Some("[::1]:8883"));
        for wrong in [
            "mqtt://fleet.example:1883",
            "mqtts://fleet.example",
            "mqtts://fleet.example:0",
            "mqtts://:8883",
            "mqtts://::1:8883",
            "mqtts://[fleet]:8883",
            "mqtts://user@fleet:8883",
            "mqtts://fleet:8883/path",
            "",
        ] {
            check(wrong, None);
        }
        assert!(Address::https("https://localhost:1").unwrap().is_local());
        assert!(Address::https("https://[::1]:1").unwrap().is_local());
        assert!(!Address::https("https://10.0.0.7:1").unwrap().is_local());
        assert!(Address::https("mqtts://localhost:1").is_err());
    }
}

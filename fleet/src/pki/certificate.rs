//! What is read of a certificate: whose it is, who signed it, which key it names and until when.

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate's facts. Reading it does not verify it: TLS does that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub common_name: String,
    /// Common name of the authority that signed it.
    pub issuer: String,
    /// Hexadecimal, as in [`super::Issued`].
    pub serial: String,
    pub spki_der: Vec<u8>,
    pub starts: Timestamp,
    pub expires: Timestamp,
    /// Alternative names: host names and addresses, as text.
    pub names: Vec<String>,
}

impl Certificate {
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let text = |name: &x509_parser::x509::X509Name<'_>| {
            let mut names = name.iter_common_name();
            // Two names would be one for us and another for a broker that takes the last one.
            let only = names.next()?.as_str().ok()?.to_owned();
            names.next().is_none().then_some(only)
        };
        let names = parsed.subject_alternative_name().ok()?;
        Some(Self {
            common_name: text(parsed.subject())?,
            issuer: text(parsed.issuer())?,
            serial: serial(parsed.raw_serial()),
            spki_der: parsed.public_key().raw.to_vec(),
            starts: Timestamp::from_seconds(parsed.validity().not_before.timestamp()),
            expires: Timestamp::from_seconds(parsed.validity().not_after.timestamp()),
            names: names
                .map(|extension| extension.value.general_names.iter().filter_map(host).collect())
                .unwrap_or_default(),
        })
    }

    /// The device that it speaks for, if its name is one.
    pub fn device(&self) -> Option<DeviceId> {
        self.common_name.parse().ok()
    }
}

/// As wide as those that we give: the encoding drops leading zeros.
pub(super) fn serial(raw: &[u8]) -> String {
    let digits = hex::encode(raw);
    let digits = digits.trim_start_matches('0');
    format!("{digits:0>32}")
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(std::net::IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_have_one_width() {
        let check = |raw: &[u8], expect: &str| assert_eq!(serial(raw), expect);
        check(&[0, 0xff, 1], &format!("{}ff01", "0".repeat(28)));
        check(&[0xab; 16], &"ab".repeat(16));
        check(&[0, 0xab, 0xab], &format!("{}abab", "0".repeat(28)));
    }
}

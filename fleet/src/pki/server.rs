//! This server's own certificate: made when it is missing, renewed when a third of its life is left, when the names
//! change, and when another authority shall sign.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::time::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::authority::{self, Authority, Leaf};
use super::certificate::Certificate;
use super::{Pki, PkiError, files, material};

const STEM: &str = "server";
const LIFE: Duration = Duration::from_hours(24 * 365);

#[derive(Debug)]
pub(super) struct ServerLeaf {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) facts: Certificate,
}

impl ServerLeaf {
    /// Loads it, or makes one. Without any, the oldest authority signs: it is the one that boxes know.
    pub(super) fn open(
        dir: &Path,
        authorities: &[Authority],
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let found = Self::load(dir)?;
        let authority = found.as_ref().and_then(|leaf| leaf.signed_by(authorities));
        match (found, authority) {
            (Some(leaf), Some(_)) if !leaf.is_due(names, now) => Ok(leaf),
            (_, authority) => Self::make(dir, authority.unwrap_or(oldest(authorities)), names, now),
        }
    }

    /// A pair that does not fit, as a crash between its two files leaves it, counts as none.
    fn load(dir: &Path) -> Result<Option<Self>, PkiError> {
        let (path, key_path) = authority::paths(dir, STEM);
        let (Some(pem), Some(key)) = (files::read(&path)?, files::read_private(&key_path)?) else {
            return Ok(None);
        };
        let key = authority::key_pair(&key, &key_path)?;
        let Some(der) = authority::one(&pem) else { return Ok(None) };
        let Some(facts) = Certificate::parse(&der) else { return Ok(None) };
        if facts.spki_der != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Ok(None);
        }
        Ok(Some(Self { certified: certified(der, &key)?, facts }))
    }

    pub(super) fn make(
        dir: &Path,
        authority: &Authority,
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let key = authority::new_key()?;
        let leaf = Leaf {
            common_name: "Muster Fleet Server",
            names: alternative(names)?,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            life: LIFE,
        };
        let signed = authority.sign(&key, leaf, now)?;
        let (path, key_path) = authority::paths(dir, STEM);
        files::write_private(&key_path, &Zeroizing::new(key.serialize_pem()))?;
        files::write(&path, &signed.pem)?;
        let facts = Certificate::parse(&signed.der)
            .ok_or(PkiError::Damaged { path, reason: "it cannot be read back" })?;
        Ok(Self { certified: certified(signed.der, &key)?, facts })
    }

    fn is_due(&self, names: &[String], now: Timestamp) -> bool {
        let mut wanted: Vec<&String> = names.iter().collect();
        let mut held: Vec<&String> = self.facts.names.iter().collect();
        wanted.sort();
        held.sort();
        wanted != held || self.facts.expires.since(now) < LIFE / 3
    }

    fn signed_by<'a>(&self, authorities: &'a [Authority]) -> Option<&'a Authority> {
        authorities.iter().find(|authority| authority.facts.common_name == self.facts.issuer)
    }

    /// Which authority signed it.
    pub(super) fn authority<'a>(&self, authorities: &'a [Authority]) -> &'a Authority {
        self.signed_by(authorities).unwrap_or(oldest(authorities))
    }
}

impl Pki {
    /// Renews this server's certificate if it is due. Returns whether it was.
    pub fn renew_server(&self, now: Timestamp) -> Result<bool, PkiError> {
        let mut state = self.write();
        if !state.leaf.is_due(&self.names, now) {
            return Ok(false);
        }
        let leaf = ServerLeaf::make(&self.dir, state.leaf.authority(&state.server), &self.names, now)?;
        state.leaf = leaf;
        self.live.replace(material(&self.dir, &state)?);
        Ok(true)
    }
}

pub(super) fn check_names(names: &[String]) -> Result<(), PkiError> {
    if names.is_empty() {
        return Err(PkiError::NoNames);
    }
    alternative(names).map(drop)
}

pub(super) fn alternative(names: &[String]) -> Result<Vec<SanType>, PkiError> {
    let one = |name: &String| {
        let wrong = || PkiError::Name(name.chars().take(80).collect());
        match ServerName::try_from(name.as_str()).map_err(|_| wrong())? {
            ServerName::IpAddress(address) => Ok(SanType::IpAddress(std::net::IpAddr::from(address))),
            ServerName::DnsName(dns) => Ok(SanType::DnsName(dns.as_ref().try_into().map_err(|_| wrong())?)),
            _ => Err(wrong()),
        }
    };
    names.iter().map(one).collect()
}

fn certified(
    der: rustls::pki_types::CertificateDer<'static>,
    key: &rcgen::KeyPair,
) -> Result<Arc<CertifiedKey>, PkiError> {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signing = any_ecdsa_type(&key).map_err(PkiError::Tls)?;
    Ok(Arc::new(CertifiedKey::new(vec![der], signing)))
}

/// There is always one: opening makes it and nothing takes the last one away.
fn oldest(authorities: &[Authority]) -> &Authority {
    &authorities[0]
}

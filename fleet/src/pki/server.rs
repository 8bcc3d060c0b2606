//! This server's own certificate: made when it is missing, renewed when a third of its life is left, when the names
//! change, and when another authority shall sign.

use std::path::Path;
use std::time::Duration;

use muster_protocol::time::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use zeroize::Zeroizing;

use super::authority::{self, Authority, Leaf};
use super::own::{LIFE, Own};
use super::{ClientCertificate, Pki, PkiError, tls};

pub(super) const STEM: &str = "server";

/// Loads it, or makes one. Without any, the oldest authority signs: it is the one that boxes know.
pub(super) fn open(
    dir: &Path,
    authorities: &[Authority],
    names: &[String],
    now: Timestamp,
) -> Result<Own, PkiError> {
    let found = Own::load(dir, STEM)?;
    let authority = found.as_ref().and_then(|own| own.signed_by(authorities));
    match (found, authority) {
        (Some(own), Some(_)) if !is_due(&own, names, now) => Ok(own),
        (_, authority) => make(dir, authority.unwrap_or(oldest(authorities)), names, now),
    }
}

pub(super) fn make(
    dir: &Path,
    authority: &Authority,
    names: &[String],
    now: Timestamp,
) -> Result<Own, PkiError> {
    Own::make(dir, STEM, authority, leaf(names, LIFE)?, now)
}

fn leaf(names: &[String], life: Duration) -> Result<Leaf<'static>, PkiError> {
    Ok(Leaf {
        common_name: "Muster Fleet Server",
        names: alternative(names)?,
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        life,
    })
}

fn is_due(own: &Own, names: &[String], now: Timestamp) -> bool {
    let mut wanted: Vec<&String> = names.iter().collect();
    let mut held: Vec<&String> = own.facts.names.iter().collect();
    wanted.sort();
    held.sort();
    wanted != held || own.is_old(now)
}

/// Which authority signed this server.
pub(super) fn signer<'a>(own: &Own, authorities: &'a [Authority]) -> &'a Authority {
    own.signed_by(authorities).unwrap_or(oldest(authorities))
}

impl Pki {
    /// Renews this server's certificate if it is due. Returns whether it was.
    pub fn renew_server(&self, now: Timestamp) -> Result<bool, PkiError> {
        let mut state = self.write();
        if !is_due(&state.leaf, &self.names, now) {
            return Ok(false);
        }
        let leaf = make(&self.dir, signer(&state.leaf, &state.server), &self.names, now)?;
        state.leaf = leaf;
        self.refresh(&state)?;
        Ok(true)
    }

    /// A certificate and key for another machine that boxes shall accept as this fleet's: an external broker.
    pub fn issue_server(
        &self,
        names: &[String],
        life: Duration,
        now: Timestamp,
    ) -> Result<ClientCertificate, PkiError> {
        check_names(names)?;
        let key = authority::new_key()?;
        let state = self.read();
        let signed = signer(&state.leaf, &state.server).sign(&key, leaf(names, life)?, now)?;
        let key = Zeroizing::new(key.serialize_pem());
        Ok(ClientCertificate { certificate: signed.pem, key, expires: signed.expires })
    }

    /// Whether whoever trusts these authorities (PEM) accepts this server's present certificate.
    pub fn leads_here(&self, tls_roots: &[String], now: Timestamp) -> bool {
        let state = self.read();
        let parsed: Result<Vec<_>, _> =
            tls_roots.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes())).collect();
        let Ok(roots) = parsed.map_err(drop).and_then(|roots| tls::store(&roots).map_err(drop)) else {
            return false;
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), tls::provider()).build();
        let name = self.names.first().and_then(|name| ServerName::try_from(name.as_str()).ok());
        let (Ok(verifier), Some(name), Some(leaf)) = (verifier, name, state.leaf.certified.cert.first())
        else {
            return false;
        };
        let seconds = u64::try_from(now.as_seconds()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(leaf, &[], &name, &[], now).is_ok()
    }
}

pub(super) fn check_names(names: &[String]) -> Result<(), PkiError> {
    if names.is_empty() {
        return Err(PkiError::NoNames);
    }
    alternative(names).map(drop)
}

fn alternative(names: &[String]) -> Result<Vec<SanType>, PkiError> {
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

/// There is always one: opening makes it and nothing takes the last one away.
fn oldest(authorities: &[Authority]) -> &Authority {
    &authorities[0]
}

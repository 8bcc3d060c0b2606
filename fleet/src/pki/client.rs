//! Clients of a broker that are not devices: the fleet itself and people who watch. An authority of their own signs them,
//! so no device can ever carry such a name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::time::Timestamp;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::authority::{self, Authority, Leaf};
use super::own::{LIFE, Own};
use super::{CLIENT, ClientCertificate, Pki, PkiError, files, tls};

pub(super) const STEM: &str = "fleet-client";
const FLEET: &str = "fleet-";
const OBSERVER: &str = "o-";
/// Characters after the prefix.
const NAME_MAX: usize = 48;

/// The authority of these clients; `None` if there never was one. It signs the fleet's own client as soon as it is made.
pub(super) fn authority(dir: &Path) -> Result<Option<Authority>, PkiError> {
    let found = Authority::load(dir, CLIENT, 1)?;
    let witness = authority::paths(dir, STEM).0;
    if found.is_none() && files::exists(&witness)? {
        return Err(PkiError::Lost { what: format!("{CLIENT}.pem"), witness });
    }
    Ok(found)
}

/// The fleet's own client. Its name is drawn once, so that two fleets on one broker do not push each other out.
pub(super) fn open(dir: &Path, authority: &Authority, now: Timestamp) -> Result<Own, PkiError> {
    match Own::load(dir, STEM)? {
        Some(own) if !own.is_old(now) && own.facts.issuer == authority.facts.common_name => Ok(own),
        Some(own) => make(dir, authority, &own.facts.common_name, now),
        None => make(dir, authority, &format!("{FLEET}{}", hex::encode(crate::mint::random()?)), now),
    }
}

fn make(dir: &Path, authority: &Authority, common_name: &str, now: Timestamp) -> Result<Own, PkiError> {
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let leaf = Leaf { common_name, names: Vec::new(), usage, life: LIFE };
    Own::make(dir, STEM, authority, leaf, now)
}

impl Pki {
    /// What the fleet's own client of an external broker is called.
    pub fn fleet_client_name(&self) -> String {
        self.read().fleet.facts.common_name.clone()
    }

    /// TLS 1.3 as the fleet's own client. `authorities`: PEM of who signed the broker; without any, this fleet's own.
    pub fn client_config(&self, authorities: Option<&str>) -> Result<Arc<rustls::ClientConfig>, PkiError> {
        let own = self.read().server.iter().map(|one| one.pem.clone()).collect::<String>();
        let roots: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(authorities.unwrap_or(&own).as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|_| PkiError::BrokerAuthority)?;
        if roots.is_empty() {
            return Err(PkiError::BrokerAuthority);
        }
        tls::client_config(&self.live, &roots)
    }

    /// Renews the fleet's own client if it is due. Returns whether it was.
    pub fn renew_client(&self, now: Timestamp) -> Result<bool, PkiError> {
        let mut state = self.write();
        if !state.fleet.is_old(now) {
            return Ok(false);
        }
        let fleet = make(&self.dir, &state.client, &state.fleet.facts.common_name, now)?;
        state.fleet = fleet;
        self.refresh(&state)?;
        Ok(true)
    }

    /// A certificate and key for somebody who watches: `o-` and the name.
    pub fn issue_observer(
        &self,
        name: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<ClientCertificate, PkiError> {
        self.issue_client(&format!("{OBSERVER}{name}"), life, now)
    }

    /// A certificate and key for the fleet's own client (`fleet-…`) or an observer's (`o-…`) of a broker.
    pub fn issue_client(
        &self,
        common_name: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<ClientCertificate, PkiError> {
        let rest = [FLEET, OBSERVER].iter().find_map(|prefix| common_name.strip_prefix(prefix));
        if !rest.is_some_and(is_name) {
            return Err(PkiError::ClientName(common_name.chars().take(80).collect()));
        }
        let key = authority::new_key()?;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let leaf = Leaf { common_name, names: Vec::new(), usage, life };
        let signed = self.read().client.sign(&key, leaf, now)?;
        let key = Zeroizing::new(key.serialize_pem());
        Ok(ClientCertificate { certificate: signed.pem, key, expires: signed.expires })
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

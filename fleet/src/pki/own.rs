//! A certificate that this process shows to others, with its key beside it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::time::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::authority::{self, Authority, Leaf};
use super::certificate::Certificate;
use super::{PkiError, files};

/// How long such a certificate is good; renewed when a third of it is left.
pub(super) const LIFE: Duration = Duration::from_hours(24 * 365);

#[derive(Debug)]
pub(super) struct Own {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) facts: Certificate,
}

impl Own {
    /// Two files that do not belong together, as a crash between their writing leaves them, count as none.
    pub(super) fn load(dir: &Path, stem: &str) -> Result<Option<Self>, PkiError> {
        let (path, key_path) = authority::paths(dir, stem);
        let (Some(pem), Some(key)) = (files::read(&path)?, files::read_private(&key_path)?) else {
            return Ok(None);
        };
        let key = authority::key_pair(&key, &key_path)?;
        let Some(der) = authority::one(&pem) else { return Ok(None) };
        let Some(facts) = Certificate::parse(&der) else { return Ok(None) };
        if facts.spki_der != key.subject_public_key_info() {
            return Ok(None);
        }
        Ok(Some(Self { certified: certified(der, &key)?, facts }))
    }

    /// Makes a key and a certificate and saves both.
    pub(super) fn make(
        dir: &Path,
        stem: &str,
        authority: &Authority,
        leaf: Leaf<'_>,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let key = authority::new_key()?;
        let signed = authority.sign(&key, leaf, now)?;
        let (path, key_path) = authority::paths(dir, stem);
        files::write_private(&key_path, &Zeroizing::new(key.serialize_pem()))?;
        files::write(&path, &signed.pem)?;
        let facts = Certificate::parse(&signed.der)
            .ok_or(PkiError::Damaged { path, reason: "it cannot be read back" })?;
        Ok(Self { certified: certified(signed.der, &key)?, facts })
    }

    pub(super) fn is_old(&self, now: Timestamp) -> bool {
        self.facts.expires.since(now) < LIFE / 3
    }

    pub(super) fn signed_by<'a>(&self, authorities: &'a [Authority]) -> Option<&'a Authority> {
        authorities.iter().find(|authority| authority.facts.common_name == self.facts.issuer)
    }
}

fn certified(der: CertificateDer<'static>, key: &KeyPair) -> Result<Arc<CertifiedKey>, PkiError> {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signing = any_ecdsa_type(&key).map_err(PkiError::Tls)?;
    Ok(Arc::new(CertifiedKey::new(vec![der], signing)))
}

//! One certificate authority: a key that signs, and the certificate that says so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::{PkiError, files};

/// Ten years. An authority ends by rotation, not by surprise.
const LIFE: Duration = Duration::from_hours(24 * 3653);
/// Clocks of boxes run late.
pub(super) const LEEWAY: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(super) struct Authority {
    /// Counts those of one kind; the next one has the next number.
    pub(super) number: u32,
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) facts: Certificate,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// What a certificate to be signed says beside its key.
pub(super) struct Leaf<'a> {
    pub(super) common_name: &'a str,
    pub(super) names: Vec<rcgen::SanType>,
    pub(super) usage: ExtendedKeyUsagePurpose,
    pub(super) life: Duration,
}

pub(super) struct Signed {
    pub(super) serial: String,
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) expires: Timestamp,
}

impl Authority {
    /// Loads `STEM.pem` and `STEM.key`; `None` if there is none yet, or one whose making was interrupted: the certificate
    /// is written last, so such a key has signed nothing.
    pub(super) fn load(dir: &Path, stem: &str, number: u32) -> Result<Option<Self>, PkiError> {
        let (path, key_path) = paths(dir, stem);
        let Some(pem) = files::read(&path)? else { return Ok(None) };
        let damaged = |reason| PkiError::Damaged { path: path.clone(), reason };
        let key = files::read_private(&key_path)?
            .ok_or_else(|| damaged("its key file is missing; restore both from a backup"))?;
        let key = key_pair(&key, &key_path)?;
        let der = one(&pem).ok_or_else(|| damaged("it is not a certificate in PEM"))?;
        let facts = Certificate::parse(&der).ok_or_else(|| damaged("it is not a certificate"))?;
        if facts.spki_der != key.subject_public_key_info() {
            return Err(damaged("it does not belong to its key file"));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(PkiError::sign("an authority"))?;
        Ok(Some(Self { number, pem, der, facts, issuer }))
    }

    /// Makes a new one and saves it.
    pub(super) fn make(
        dir: &Path,
        stem: &str,
        number: u32,
        common_name: &str,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let failed = PkiError::sign("an authority");
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        // What it signs are ends, never authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from_slice(&crate::mint::random()?));
        params.not_before = moment(now.minus(LEEWAY));
        params.not_after = moment(now.plus(LIFE));
        let certificate = params.self_signed(&key).map_err(failed)?;
        let (path, key_path) = paths(dir, stem);
        files::write_private(&key_path, &Zeroizing::new(key.serialize_pem()))?;
        files::write(&path, &certificate.pem())?;
        let gone = || PkiError::Damaged { path: path.clone(), reason: "it vanished while it was made" };
        Self::load(dir, stem, number)?.ok_or_else(gone)
    }

    /// Signs a certificate for the end that holds `key`.
    pub(super) fn sign(
        &self,
        key: &impl PublicKeyData,
        leaf: Leaf<'_>,
        now: Timestamp,
    ) -> Result<Signed, PkiError> {
        let serial = crate::mint::random()?;
        // Certificates count in seconds; what we say must be what they say.
        let expires = Timestamp::from_seconds(now.plus(leaf.life).as_seconds());
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, leaf.common_name);
        params.subject_alt_names = leaf.names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![leaf.usage];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = moment(now.minus(LEEWAY));
        params.not_after = moment(expires);
        let certificate = params.signed_by(key, &self.issuer).map_err(PkiError::sign("a certificate"))?;
        Ok(Signed {
            serial: hex::encode(serial),
            pem: certificate.pem(),
            der: certificate.der().clone(),
            expires,
        })
    }
}

pub(super) fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(PkiError::sign("a new key"))
}

pub(super) fn key_pair(pem: &str, path: &Path) -> Result<KeyPair, PkiError> {
    // The library's error may quote what it read.
    KeyPair::from_pem(pem)
        .map_err(|_| PkiError::Damaged { path: path.to_owned(), reason: "it is not a private key in PEM" })
}

/// The first certificate of a PEM text.
pub(super) fn one(pem: &str) -> Option<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

pub(super) fn paths(dir: &Path, stem: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")))
}

/// Certificates know no time before 1970.
pub(super) fn moment(at: Timestamp) -> time::OffsetDateTime {
    let since = Duration::from_secs(u64::try_from(at.as_seconds()).unwrap_or(0));
    rcgen::date_time_ymd(1970, 1, 1) + since
}

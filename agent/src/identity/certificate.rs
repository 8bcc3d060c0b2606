//! This box's certificate, as far as the box itself must understand it. Whether it is genuine is the broker's question.

use std::path::Path;

use muster_protocol::ids::DeviceId;
use muster_protocol::limits::CERTIFICATE_BYTES_MAX;
use muster_protocol::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::IdentityError;
use crate::disk;

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("it is longer than {CERTIFICATE_BYTES_MAX} bytes")]
    Long,
    #[error("it is not PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("it is not an X.509 certificate")]
    X509,
    #[error("it names nobody")]
    Nameless,
}

/// A chain in PEM, and what its first certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub pem: String,
    /// Its common name: the device's id.
    pub name: String,
    /// DER of its `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
    pub serial: String,
    pub starts: Timestamp,
    pub expires: Timestamp,
}

impl Certificate {
    pub fn parse(pem: &str) -> Result<Self, CertificateError> {
        if pem.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::Long);
        }
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(CertificateError::Pem)?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| CertificateError::X509)?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let validity = certificate.validity();
        Ok(Self {
            pem: pem.to_owned(),
            name: name.ok_or(CertificateError::Nameless)?.to_owned(),
            spki: certificate.public_key().raw.to_vec(),
            serial: certificate.raw_serial_as_string(),
            starts: Timestamp::from_seconds(validity.not_before.timestamp()),
            expires: Timestamp::from_seconds(validity.not_after.timestamp()),
        })
    }

    /// `None` if there is no such file.
    pub(super) fn read(path: &Path, device: &DeviceId) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = disk::read(path)? else { return Ok(None) };
        let certificate = Self::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|source| IdentityError::Certificate { path: path.to_owned(), source })?;
        if certificate.name != device.as_str() {
            let (path, device) = (path.to_owned(), device.clone());
            return Err(IdentityError::Foreign { path, device, found: certificate.name });
        }
        Ok(Some(certificate))
    }

    /// When to ask for the next one: from a third of its life left.
    pub fn renew_from(&self) -> Timestamp {
        self.expires.minus(self.expires.since(self.starts) / 3)
    }
}

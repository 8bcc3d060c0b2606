//! TLS roots: certificates of the authorities that devices accept servers from, as they go into `root.json`.

use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use muster_protocol::limits::CERTIFICATE_BYTES_MAX;
use muster_protocol::time::Timestamp;
use x509_parser::pem::parse_x509_pem;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// One certificate, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRoot {
    pub pem: String,
    /// SHA-256 of its DER form, as other tools print it.
    pub fingerprint: Digest,
    pub subject: String,
    pub expires: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsRootError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} has no '{BEGIN}' in it", path.display())]
    None { path: PathBuf },
    #[error("{} holds something beside certificates ({what}); root.json is public, so give a file of certificates only", path.display())]
    Other { path: PathBuf, what: String },
    #[error("a certificate cannot be understood: {0}")]
    Certificate(String),
    #[error(
        "'{subject}' is no authority (basicConstraints CA is not set): give the certificate that signed the server's"
    )]
    NoAuthority { subject: String },
    #[error("the certificate of '{subject}' expired at {at}")]
    Expired { subject: String, at: Timestamp },
}

impl TlsRoot {
    /// All certificates of a PEM file; each must be an authority that is still good.
    pub fn read(path: &Path, now: Timestamp) -> Result<Vec<Self>, TlsRootError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TlsRootError::Read { path: path.to_owned(), source })?;
        let other = text.lines().find(|line| line.starts_with("-----BEGIN ") && line.trim_end() != BEGIN);
        if let Some(line) = other {
            let what = line.trim_matches(|c: char| c == '-' || c.is_whitespace()).chars().take(40).collect();
            return Err(TlsRootError::Other { path: path.to_owned(), what });
        }
        let mut roots = Vec::new();
        for part in text.split(BEGIN).skip(1) {
            let body = part.split(END).next().unwrap_or_default();
            let root = Self::parse(&format!("{BEGIN}\n{}\n{END}\n", body.trim()))?;
            if root.expires <= now {
                return Err(TlsRootError::Expired { subject: root.subject, at: root.expires });
            }
            roots.push(root);
        }
        if roots.is_empty() { Err(TlsRootError::None { path: path.to_owned() }) } else { Ok(roots) }
    }

    /// One that stands in a root already, or that is to stand there.
    pub fn parse(pem: &str) -> Result<Self, TlsRootError> {
        if pem.len() > CERTIFICATE_BYTES_MAX {
            return Err(TlsRootError::Certificate(format!("longer than {CERTIFICATE_BYTES_MAX} bytes")));
        }
        let unreadable = |error: &dyn std::fmt::Display| TlsRootError::Certificate(error.to_string());
        let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|error| unreadable(&error))?;
        let certificate = block.parse_x509().map_err(|error| unreadable(&error))?;
        let subject = certificate.subject().to_string();
        if !certificate.is_ca() {
            return Err(TlsRootError::NoAuthority { subject });
        }
        let expires = Timestamp::from_seconds(certificate.validity().not_after.timestamp());
        Ok(Self { pem: pem.to_owned(), fingerprint: Digest::of(&block.contents), subject, expires })
    }
}

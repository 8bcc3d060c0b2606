//! TLS as this box speaks it, to its broker and to the fleet's door alike: version 1.3, servers accepted only from the
//! authorities that the trusted root names, and the trust clock's time, so that a box that wakes in 1970 can still
//! connect.
//!
//! It must never look at the machine's own list of authorities: a public certificate for the right name is not ours.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::clock::TrustClock;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "the trusted root names no TLS authority, so no server can be accepted; publish a root with 'tls_roots'"
    )]
    NoAuthority,
    #[error("a TLS authority of the trusted root is not a certificate in PEM")]
    Authority(#[source] rustls::pki_types::pem::Error),
    #[error("a TLS authority of the trusted root cannot be used")]
    AuthorityUnusable(#[source] rustls::Error),
    #[error("this box's certificate cannot be used")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    // No source: what a parser says of a key may quote it.
    #[error("this box's key cannot be used")]
    Key,
    #[error("TLS cannot be set up")]
    Rustls(#[source] rustls::Error),
}

/// What this box shows of itself, in PEM.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub chain: &'a str,
    pub key: &'a str,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

/// A configuration for one connection. `authorities`: the `tls_roots` of the trusted root, PEM.
pub fn client(
    authorities: &[String],
    shown: Option<Shown<'_>>,
    clock: &TrustClock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for pem in authorities {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(TlsError::Authority)?;
            roots.add(certificate).map_err(TlsError::AuthorityUnusable)?;
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoAuthority);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))?;
    let config = ClientConfig::builder_with_details(provider, Arc::new(Time(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Rustls)?
        .with_webpki_verifier(verifier);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some(shown) => {
            let chain = CertificateDer::pem_slice_iter(shown.chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(TlsError::Certificate)?;
            let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).map_err(|_| TlsError::Key)?;
            config.with_client_auth_cert(chain, key).map_err(TlsError::Rustls)?
        }
    };
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Time(TrustClock);

impl rustls::time_provider::TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_seconds()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// What TLS refused inside an input/output error, in the words of somebody who could repair it.
#[expect(clippy::wildcard_enum_match_arm, reason = "these enums may grow; what is new has a sentence too")]
pub fn refusal(error: &io::Error) -> Option<&'static str> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate does not come from an authority that this box's trusted root names: another fleet's \
                 server, a proxy that opens TLS, or a server whose new authority was switched to before this box had \
                 the root that lists it"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired by this box's clock: renew it, or set this box's clock"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet by this box's clock: set this box's clock"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name: put the name or address that boxes use into 'names' of \
                 muster-fleet's configuration"
            }
            _ => "its certificate cannot be accepted",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => "it says that this box's certificate has expired",
            AlertDescription::CertificateRevoked => "it says that this box's certificate is revoked",
            AlertDescription::CertificateRequired => "it wants a certificate and this box showed none",
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => "it does not accept this box's certificate",
            AlertDescription::ProtocolVersion => "it does not speak TLS 1.3",
            _ => "it ended the TLS handshake with an alert",
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: is this the right port?",
        _ => "TLS with it failed",
    })
}

/// Whether the other side said that it is this box's certificate that it does not like.
pub fn doubts_us(error: &io::Error) -> bool {
    let Some(rustls::Error::AlertReceived(alert)) = error.get_ref().and_then(|inner| inner.downcast_ref())
    else {
        return false;
    };
    matches!(
        alert,
        AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::time::Timestamp;
    use rustls::time_provider::TimeProvider as _;

    #[test]
    fn without_an_authority_nobody_is_trusted() {
        let clock = TrustClock::system();
        assert!(matches!(client(&[], None, &clock), Err(TlsError::NoAuthority)));
        assert!(matches!(client(&["no PEM".to_owned()], None, &clock), Err(TlsError::NoAuthority)));
    }

    #[test]
    fn time_is_the_trust_clock_s() {
        let clock = TrustClock::manual(Timestamp::from_seconds(1_800_000_000));
        assert_eq!(Time(clock.clone()).current_time().unwrap().as_secs(), 1_800_000_000);
        clock.set(Timestamp::from_seconds(-5));
        assert_eq!(Time(clock).current_time().unwrap().as_secs(), 0);
    }

    #[test]
    fn refusals_are_told_from_other_failures() {
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let error = io::Error::new(io::ErrorKind::InvalidData, expired);
        assert!(refusal(&error).unwrap().contains("clock"));
        assert_eq!(refusal(&io::Error::other("else")), None);
    }
}

//! TLS as this box speaks it, to its broker and to the fleet's door alike: version 1.3, and servers accepted only from the
//! authorities that the trusted root names.
//!
//! A certificate has expired if it has by the time that is *certain*: the machine's clock, or the release of this program
//! if that is later. Nothing that was signed counts here, else a stolen online key could claim next year and no server
//! would be good any more ([`clock`](crate::clock)). And a certificate that has not begun by that time has begun all the
//! same: an authority that the root names signed it, and knew what time it was. So a box that wakes in 1970 can connect,
//! to servers that are younger than anything it remembers too. The price: without a clock, it accepts a certificate that
//! expired after its release, of whoever kept that key. He learns what boxes report; he can order nothing.
//!
//! It must never look at the machine's own list of authorities: a public certificate for the right name is not ours.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::clock::TrustClock;

/// Certificates of a chain that may have to begin: the server's and two authorities between.
const CHAIN_MAX: usize = 3;

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
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Begun(verifier)));
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
        let seconds = u64::try_from(self.0.certain().as_seconds()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// Judges as webpki does, and a certificate that has not begun as of the moment it begins.
#[derive(Debug)]
struct Begun(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Begun {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = |at| self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at);
        let (mut at, mut judged) = (now, judge(now));
        for _ in 0..CHAIN_MAX {
            let Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) = judged
            else {
                break;
            };
            at = at.max(not_before);
            judged = judge(at);
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
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
    fn time_is_what_is_certain_whatever_was_signed() {
        let clock = TrustClock::manual(Timestamp::from_seconds(1_800_000_000));
        clock.raise(Timestamp::from_seconds(1_900_000_000));
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

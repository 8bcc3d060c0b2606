//! What TLS is done with: this server's certificate, and whose clients it accepts. TLS 1.3 only, aws-lc-rs only.
//!
//! A configuration stays current by itself: it asks for the certificate, the authorities and the list of revoked
//! certificates at each handshake. Sessions are never resumed, as a resumed one would skip that question.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

use super::PkiError;

/// Whose certificates a server asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nobody's.
    None,
    /// A device's.
    Devices,
    /// A device's, if it has one to show.
    OptionalDevice,
    /// A device's, or one of the fleet and its observers.
    DevicesAndClients,
}

/// What the next handshake is done with.
#[derive(Debug)]
pub(super) struct Material {
    server: Arc<CertifiedKey>,
    client: Arc<CertifiedKey>,
    devices: Arc<dyn ClientCertVerifier>,
    everybody: Arc<dyn ClientCertVerifier>,
}

/// The present material, replaced while servers run.
#[derive(Debug)]
pub(super) struct Live(RwLock<Arc<Material>>);

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Material {
    pub(super) fn new(
        (server, client): (Arc<CertifiedKey>, Arc<CertifiedKey>),
        devices: &[CertificateDer<'static>],
        clients: &CertificateDer<'static>,
        revoked: &[CertificateRevocationListDer<'static>],
    ) -> Result<Self, PkiError> {
        let verifier = |authorities: &[CertificateDer<'static>]| {
            WebPkiClientVerifier::builder_with_provider(Arc::new(store(authorities)?), provider())
                .with_crls(revoked.iter().cloned())
                .only_check_end_entity_revocation()
                // The authority of the fleet's own clients has no list.
                .allow_unknown_revocation_status()
                .build()
                .map_err(PkiError::Verifier)
        };
        let everybody: Vec<_> = devices.iter().chain([clients]).cloned().collect();
        Ok(Self { server, client, devices: verifier(devices)?, everybody: verifier(&everybody)? })
    }
}

pub(super) fn store(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(PkiError::Tls)?;
    }
    Ok(roots)
}

impl Live {
    pub(super) fn new(material: Material) -> Self {
        Self(RwLock::new(Arc::new(material)))
    }

    pub(super) fn replace(&self, material: Material) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
    }

    fn now(&self) -> Arc<Material> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().server.clone())
    }
}

impl ResolvesClientCert for Live {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now().client.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Asks the present verifier.
#[derive(Debug)]
struct Clients {
    live: Arc<Live>,
    auth: ClientAuth,
}

impl Clients {
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let now = self.live.now();
        match self.auth {
            ClientAuth::None | ClientAuth::Devices | ClientAuth::OptionalDevice => now.devices.clone(),
            ClientAuth::DevicesAndClients => now.everybody.clone(),
        }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.auth != ClientAuth::OptionalDevice
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints are optional, and they would be those of the moment in which the server started.
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier().verify_client_cert(end, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

pub(super) fn server_config(live: &Arc<Live>, auth: ClientAuth) -> Result<Arc<ServerConfig>, PkiError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(PkiError::Tls)?;
    let builder = match auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Devices | ClientAuth::OptionalDevice | ClientAuth::DevicesAndClients => {
            builder.with_client_cert_verifier(Arc::new(Clients { live: live.clone(), auth }))
        }
    };
    let mut config = builder.with_cert_resolver(live.clone());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

pub(super) fn client_config(
    live: &Arc<Live>,
    roots: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, PkiError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(PkiError::Tls)?
        .with_root_certificates(store(roots)?)
        .with_client_cert_resolver(live.clone());
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

//! The authorities of these tests: one for servers, one for devices, as a fleet has them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_agent::clock::TrustClock;
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

use super::HOUR;

pub(super) struct Pki {
    pub(super) server_authority: Authority,
    pub(super) device_authority: Authority,
}

pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Whether a server wants to see who comes.
#[derive(Clone, Copy)]
pub(super) enum Clients {
    MustShow,
    MayShow,
}

pub(super) fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        // Another test of this binary may have installed it already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        Pki { server_authority: Authority::new("servers"), device_authority: Authority::new("devices") }
    })
}

impl Pki {
    /// What the fleet does with a request: takes its key, and chooses the rest.
    pub(super) fn certify(&self, csr: &str, device: &DeviceId, life: (Timestamp, Timestamp)) -> String {
        let request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let mut params = params(device.as_str(), life);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.device_authority.issue(&params, &request.public_key)
    }

    pub(super) fn server(&self, clients: Clients) -> Arc<ServerConfig> {
        self.server_by(&self.server_authority, clients, now_and_for(24 * HOUR))
    }

    /// A server of 127.0.0.1 with a certificate by this authority.
    pub(super) fn server_by(
        &self,
        authority: &Authority,
        clients: Clients,
        life: (Timestamp, Timestamp),
    ) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = params("server", life);
        params.subject_alt_names = vec![rcgen::SanType::IpAddress([127, 0, 0, 1].into())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let chain = authority.issue(&params, &key);
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut devices = RootCertStore::empty();
        devices.add(CertificateDer::from_pem_slice(self.device_authority.pem().as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(devices));
        let verifier = match clients {
            Clients::MustShow => verifier,
            Clients::MayShow => verifier.allow_unauthenticated(),
        };
        let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let now = TrustClock::system().now();
        let mut params = params(name, (now.minus(1000 * HOUR), now.plus(100_000 * HOUR)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    fn issue(&self, params: &CertificateParams, key: &impl PublicKeyData) -> String {
        format!("{}{}", params.signed_by(key, &self.0).unwrap().pem(), self.pem())
    }
}

pub(super) fn now_and_for(span: Duration) -> (Timestamp, Timestamp) {
    let now = TrustClock::system().now();
    (now.minus(HOUR), now.plus(span))
}

fn params(name: &str, (from, until): (Timestamp, Timestamp)) -> CertificateParams {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let at = |time: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(time.as_seconds()).unwrap())
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(SERIAL.fetch_add(1, Ordering::SeqCst)));
    (params.not_before, params.not_after) = (at(from), at(until));
    params
}

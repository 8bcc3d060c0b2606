//! The fleet's own certificate authorities: who is a device, who is a server, who is the fleet itself.
//!
//! ```text
//!   DATA/pki/   device-ca-N.{pem,key}    sign devices; the newest signs, all of them are trusted   device-ca.pem: all
//!               server-ca-N.{pem,key}    sign this server; boxes know them from root.json          server-ca.pem: all
//!               client-ca.{pem,key}      signs the fleet's and its observers' clients of a broker
//!               server.{pem,key}         this server's certificate, renewed by itself
//!               fleet-client.{pem,key}   the fleet's own client of an external broker, renewed by itself
//!               device.crl.pem           what is revoked, for a broker that looks at nothing else
//! ```
//! Three authorities, not one: a device's certificate can then never be taken for a server's or for the fleet's own. Keys are
//! made private, never leave the folder and never stand in an error. Which device may have a certificate is decided above
//! this file; here it is only signed.

pub mod certificate;
pub mod csr;

mod authority;
mod client;
mod crl;
mod error;
pub mod files;
mod own;
mod rotate;
mod server;
mod succession;
#[cfg(test)]
mod tests;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use muster_protocol::enrol::CERTIFICATE_LIFE_DAYS;
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, SanType, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use zeroize::Zeroizing;

use authority::{Authority, Leaf};
pub use certificate::Certificate;
pub use crl::Revoked;
pub use csr::{CsrError, PublicKeyInfo, csr};
pub use error::PkiError;
use own::Own;
pub use rotate::{AuthorityView, PkiView};
use succession::newest;
pub use tls::ClientAuth;
use tls::{Live, Material};

const CRL_FILE: &str = "device.crl.pem";
const DEVICE: &str = "device";
const SERVER: &str = "server";
const CLIENT: &str = "client-ca";
const DEVICE_LIFE: Duration = Duration::from_hours(24 * CERTIFICATE_LIFE_DAYS as u64);

/// A certificate for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// 128 random bits in hexadecimal.
    pub serial: String,
    /// PEM: the device's, then its authority's.
    pub pem: String,
    pub expires: Timestamp,
}

/// A certificate and its key, made here for somebody else.
#[derive(Debug)]
pub struct ClientCertificate {
    pub certificate: String,
    pub key: Zeroizing<String>,
    pub expires: Timestamp,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Device(DeviceId),
    /// The fleet itself or somebody who watches, by its common name.
    Client(String),
}

/// The authorities of one fleet.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    names: Vec<String>,
    state: RwLock<State>,
    live: Arc<Live>,
    crl: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// Oldest first; never empty.
    device: Vec<Authority>,
    /// Oldest first; never empty.
    server: Vec<Authority>,
    client: Authority,
    /// This server's certificate.
    leaf: Own,
    /// The certificate of the fleet's own client.
    fleet: Own,
    /// What is refused. The file with it is for others; whoever spoils that opens nothing here.
    lists: Vec<crl::List>,
}

impl Pki {
    /// Loads what is in the folder and makes what is missing. `names` are what clients call this server.
    pub fn open(dir: &Path, names: &[String], now: Timestamp) -> Result<Self, PkiError> {
        server::check_names(names)?;
        std::fs::create_dir_all(dir).map_err(|source| PkiError::Write { path: dir.to_owned(), source })?;
        let device = succession::all(dir, DEVICE, "Muster Fleet Device CA", now)?;
        let server = succession::all(dir, SERVER, "Muster Fleet Server CA", now)?;
        let client = match client::authority(dir)? {
            Some(client) => client,
            None => Authority::make(dir, CLIENT, 1, "Muster Fleet Client CA", now)?,
        };
        let leaf = server::open(dir, &server, names, now)?;
        let fleet = client::open(dir, &client, now)?;
        succession::save(dir, DEVICE, &device)?;
        succession::save(dir, SERVER, &server)?;
        let lists = crl::renew(dir, crl::load(dir)?, &device, now)?;
        Self::of(dir, names.to_vec(), State { device, server, client, leaf, fleet, lists })
    }

    /// Loads what a running server has made, and writes nothing: safe beside it.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let absent = || PkiError::Absent { path: dir.to_owned() };
        let (device, server) = (succession::found(dir, DEVICE)?, succession::found(dir, SERVER)?);
        let client = client::authority(dir)?.ok_or_else(absent)?;
        let leaf = Own::load(dir, server::STEM)?.ok_or_else(absent)?;
        let fleet = Own::load(dir, client::STEM)?.ok_or_else(absent)?;
        if device.is_empty() || server.is_empty() {
            return Err(absent());
        }
        let names = leaf.facts.names.clone();
        let lists = crl::load(dir)?;
        Self::of(dir, names, State { device, server, client, leaf, fleet, lists })
    }

    fn of(dir: &Path, names: Vec<String>, state: State) -> Result<Self, PkiError> {
        let live = Arc::new(Live::new(material(&state)?));
        Ok(Self { dir: dir.to_owned(), names, state: RwLock::new(state), live, crl: watch::Sender::new(0) })
    }

    /// A certificate for the holder of `key`, who shall be `device`.
    pub fn issue(&self, device: &DeviceId, key: &PublicKeyInfo, now: Timestamp) -> Result<Issued, PkiError> {
        let failed = PkiError::sign("a device's certificate");
        let key = SubjectPublicKeyInfo::from_der(&key.spki_der).map_err(failed)?;
        let urn = format!("urn:muster:device:{device}").try_into().map_err(failed)?;
        let leaf = Leaf {
            common_name: device.as_str(),
            names: vec![SanType::URI(urn)],
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            life: DEVICE_LIFE,
        };
        let state = self.read();
        let authority = newest(&state.device);
        let signed = authority.sign(&key, leaf, now)?;
        let pem = format!("{}{}", signed.pem, authority.pem);
        Ok(Issued { serial: signed.serial, pem, expires: signed.expires })
    }

    /// Replaces the list of revoked certificates. Handshakes refuse them from now on; live sessions are not cut by it.
    pub fn write_crl(&self, revoked: &[Revoked], now: Timestamp) -> Result<(), PkiError> {
        let mut state = self.write();
        state.lists = crl::write(&self.dir, &state.device, revoked, now)?;
        self.refresh(&state)?;
        self.crl.send_modify(|written| *written += 1);
        Ok(())
    }

    /// What stands on the list of revoked certificates now.
    pub fn listed(&self) -> Vec<Revoked> {
        crl::revoked(&self.read().lists)
    }

    /// Wakes whoever waits on it after the file of revoked certificates changed.
    pub fn crl_written(&self) -> watch::Receiver<u64> {
        self.crl.subscribe()
    }

    pub fn crl_path(&self) -> PathBuf {
        self.dir.join(CRL_FILE)
    }

    /// The list of revoked certificates.
    pub fn crl_pem(&self) -> Result<String, PkiError> {
        Ok(files::read(&self.crl_path())?.unwrap_or_default())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file with all authorities for servers.
    pub fn server_bundle_path(&self) -> PathBuf {
        succession::bundle(&self.dir, SERVER)
    }

    /// TLS 1.3 as this server. Stays current while certificates are renewed and revoked.
    pub fn server_config(&self, clients: ClientAuth) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        tls::server_config(&self.live, clients)
    }

    /// The authority that signed this server's present certificate: what belongs into `tls_roots` of `root.json`.
    pub fn tls_root_pem(&self) -> String {
        let state = self.read();
        server::signer(&state.leaf, &state.server).pem.clone()
    }

    /// All authorities for servers: what belongs into `tls_roots` while one is being replaced.
    pub fn tls_roots(&self) -> Vec<String> {
        self.read().server.iter().map(|authority| authority.pem.clone()).collect()
    }

    /// The authority of the fleet's and its observers' clients.
    pub fn client_ca_pem(&self) -> String {
        self.read().client.pem.clone()
    }

    /// Whose verified certificate this is. The authority counts, not the name alone.
    pub fn peer(&self, certificate: &Certificate) -> Option<Peer> {
        let state = self.read();
        if certificate.issuer == state.client.facts.common_name {
            return Some(Peer::Client(certificate.common_name.clone()));
        }
        let known = state.device.iter().any(|one| one.facts.common_name == certificate.issuer);
        certificate.device().filter(|_| known).map(Peer::Device)
    }

    /// All authorities of devices.
    pub fn device_cas_pem(&self) -> String {
        self.read().device.iter().map(|authority| authority.pem.as_str()).collect()
    }

    /// Lets the next handshake know.
    fn refresh(&self, state: &State) -> Result<(), PkiError> {
        self.live.replace(material(state)?);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn material(state: &State) -> Result<Material, PkiError> {
    let devices: Vec<CertificateDer<'static>> =
        state.device.iter().map(|authority| authority.der.clone()).collect();
    let revoked: Vec<_> = state.lists.iter().map(|list| list.der.clone()).collect();
    let own = (state.leaf.certified.clone(), state.fleet.certified.clone());
    Material::new(own, &devices, &state.client.der, &revoked)
}

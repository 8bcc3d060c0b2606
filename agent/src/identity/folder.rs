//! The folder of a box that is enrolled.
//!
//! A newer key or certificate takes its place beside the one that is known to work:
//!
//! ```text
//!   keep:    previous/ ← key.pem, certificate.pem · key.pem ← new · certificate.pem ← new
//!   proven:  the new pair has connected ─▶ previous/ is removed
//! ```
//!
//! A crash in between leaves a key beside a certificate of another: such a pair is none, the one in `previous/` is used,
//! and the agent asks for a certificate for the key that is here.

use std::fs::File;
use std::path::{Path, PathBuf};

use muster_protocol::enrol::{EnrolError, Fingerprint, VERSION};
use muster_protocol::ids::{DeviceId, SiteName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::steps::{self, Step};
use super::{Certificate, DeviceKey, IdentityError};
use crate::disk::{self, DiskError};

pub(super) const FOLDER: &str = "identity";
pub(super) const ENROLMENT: &str = "enrolment.json";
pub(super) const ROOT: &str = "root.json";
pub(super) const KEY: &str = "key.pem";
pub(super) const CERTIFICATE: &str = "certificate.pem";
const NEXT_KEY: &str = "next-key.pem";
const PREVIOUS: &str = "previous";
const LOCK: &str = "lock";

/// What the fleet said of this box when it took it in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    pub v: u8,
    pub device: DeviceId,
    /// What people call the box.
    pub name: String,
    pub site: SiteName,
    /// `https://host:port`, the fleet's door for devices.
    pub server: String,
    /// `mqtts://host:port`, its broker.
    pub mqtt: String,
    /// Of the key the fleet knows.
    pub fingerprint: Fingerprint,
    pub enrolled: Timestamp,
}

/// A key and a certificate for it.
#[derive(Debug)]
pub struct Credential {
    pub certificate: Certificate,
    pub key: DeviceKey,
}

/// Where the root that came with the enrolment is.
pub fn root_path(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER).join(ROOT)
}

/// The identity of an enrolled box. Every question is answered from the disk: another process may have renewed it.
#[derive(Clone, Debug)]
pub struct Identity {
    folder: PathBuf,
}

impl Identity {
    /// `None` if this box is not enrolled. Everything is looked at, so that what is damaged is found at the start.
    pub fn open(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let folder = state_dir.join(FOLDER);
        if !folder.exists() && !super::enrolling::finish_interrupted(state_dir)? {
            return Ok(None);
        }
        let identity = Self { folder };
        identity.enrolment()?;
        identity.key()?;
        identity.root()?;
        identity.credentials()?;
        Ok(Some(identity))
    }

    /// To be looked at only: nothing is finished and nothing checked. `None` if this box is not enrolled.
    pub fn at(state_dir: &Path) -> Option<Self> {
        let folder = state_dir.join(FOLDER);
        folder.exists().then_some(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn enrolment(&self) -> Result<Enrolment, IdentityError> {
        let path = self.folder.join(ENROLMENT);
        let bytes = disk::read(&path)?.ok_or_else(|| IdentityError::Gone(path.clone()))?;
        let enrolment: Enrolment = serde_json::from_slice(&bytes)
            .map_err(EnrolError::Json)
            .map_err(|source| IdentityError::Enrolment { path: path.clone(), source })?;
        if enrolment.v != VERSION {
            return Err(IdentityError::Enrolment { path, source: EnrolError::Version(enrolment.v) });
        }
        Ok(enrolment)
    }

    /// The root that came with the enrolment.
    pub fn root(&self) -> Result<Vec<u8>, IdentityError> {
        let path = self.folder.join(ROOT);
        disk::read(&path)?.ok_or(IdentityError::Gone(path))
    }

    /// The newest key: the one that certificates are asked for.
    pub fn key(&self) -> Result<DeviceKey, IdentityError> {
        let path = self.folder.join(KEY);
        DeviceKey::read(&path)?.ok_or(IdentityError::Gone(path))
    }

    /// What can be shown to a broker: the newest first, then what is known to work. None after a certificate was removed.
    pub fn credentials(&self) -> Result<Vec<Credential>, IdentityError> {
        let device = self.enrolment()?.device;
        let pair = |folder: &Path| -> Result<Option<Credential>, IdentityError> {
            let certificate = Certificate::read(&folder.join(CERTIFICATE), &device)?;
            let key = DeviceKey::read(&folder.join(KEY))?;
            let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
            Ok((certificate.spki == key.spki()).then_some(Credential { certificate, key }))
        };
        let newest = pair(&self.folder)?;
        let previous = pair(&self.folder.join(PREVIOUS))?;
        Ok([newest, previous].into_iter().flatten().collect())
    }

    /// The certificate that the newest key has, if it has one.
    pub fn certificate(&self) -> Result<Option<Certificate>, IdentityError> {
        let spki = self.key()?.spki();
        let credentials = self.credentials()?;
        Ok(credentials.into_iter().map(|found| found.certificate).find(|found| found.spki == spki))
    }

    /// Keeps a fresh certificate for the newest key, and where the broker is now.
    pub fn keep_renewed(&self, pem: &str, mqtt: &str) -> Result<Certificate, IdentityError> {
        let _changing = self.changing()?;
        let key = self.key()?;
        self.keep(&key, pem, mqtt)
    }

    /// A key to offer to the fleet in place of the present one. The same one until it is certified, so that an offer
    /// that was interrupted can be repeated.
    pub fn next_key(&self) -> Result<DeviceKey, IdentityError> {
        let path = self.folder.join(NEXT_KEY);
        let _changing = self.changing()?;
        if let Some(key) = DeviceKey::read(&path)? {
            return Ok(key);
        }
        let key =
            DeviceKey::generate().map_err(|source| IdentityError::Key { path: path.clone(), source })?;
        disk::write(&path, key.pem().as_bytes())?;
        Ok(key)
    }

    /// Keeps the certificate of the key that was offered; both take the place of those before.
    pub fn keep_rekeyed(&self, pem: &str, mqtt: &str) -> Result<Certificate, IdentityError> {
        let _changing = self.changing()?;
        let path = self.folder.join(NEXT_KEY);
        let key = DeviceKey::read(&path)?.ok_or(IdentityError::Gone(path))?;
        self.keep(&key, pem, mqtt)
    }

    /// This certificate has connected: what was kept in case it could not is not needed any more.
    pub fn proven(&self, proven: &Certificate) -> Result<(), IdentityError> {
        let _changing = self.changing()?;
        let previous = self.folder.join(PREVIOUS);
        if !previous.exists() || self.certificate()?.is_none_or(|newest| newest.serial != proven.serial) {
            return Ok(());
        }
        // The certificate first: without one there is no pair.
        let steps = [Step::Remove(previous.join(CERTIFICATE)), Step::RemoveAll(previous)];
        Ok(steps::run(&steps)?)
    }

    fn keep(&self, key: &DeviceKey, pem: &str, mqtt: &str) -> Result<Certificate, IdentityError> {
        let enrolment = self.enrolment()?;
        let certificate = Certificate::parse(pem)
            .map_err(|source| IdentityError::Certificate { path: self.folder.join(CERTIFICATE), source })?;
        if certificate.spki != key.spki() {
            return Err(IdentityError::OtherKey);
        }
        if certificate.name != enrolment.device.as_str() {
            return Err(IdentityError::OtherDevice { device: enrolment.device, found: certificate.name });
        }
        let next = Enrolment { mqtt: mqtt.to_owned(), fingerprint: key.fingerprint(), ..enrolment.clone() };
        let mut steps = self.keeping(key, &certificate)?;
        if next != enrolment {
            let path = self.folder.join(ENROLMENT);
            let bytes = serde_json::to_vec_pretty(&next).map_err(|source| IdentityError::Enrolment {
                path: path.clone(),
                source: EnrolError::Json(source),
            })?;
            steps.push(Step::write(path, bytes));
        }
        steps::run(&steps)?;
        Ok(certificate)
    }

    /// `previous/` keeps what it has: if the pair before never connected either, that is the one known to work.
    pub(super) fn keeping(
        &self,
        key: &DeviceKey,
        certificate: &Certificate,
    ) -> Result<Vec<Step>, IdentityError> {
        let previous = self.folder.join(PREVIOUS);
        let credentials = self.credentials()?;
        let mut steps = Vec::new();
        if !previous.join(CERTIFICATE).exists()
            && let Some(current) = credentials.first()
        {
            steps.push(Step::write(previous.join(KEY), current.key.pem().as_bytes()));
            steps.push(Step::write(previous.join(CERTIFICATE), current.certificate.pem.as_bytes()));
        }
        if self.key()?.spki() != key.spki() {
            steps.push(Step::write(self.folder.join(KEY), key.pem().as_bytes()));
        }
        steps.push(Step::write(self.folder.join(CERTIFICATE), certificate.pem.as_bytes()));
        steps.push(Step::Remove(self.folder.join(NEXT_KEY)));
        Ok(steps)
    }

    /// Waits for its turn among the processes that change this folder: the agent, and a `rekey` beside it. Held for a
    /// few writes, never while anything is asked over the network.
    fn changing(&self) -> Result<File, IdentityError> {
        let path = self.folder.join(LOCK);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(DiskError::io("create", &path))?;
        file.lock().map_err(DiskError::io("lock", &path))?;
        Ok(file)
    }
}

//! The identity to be. Its key is on the disk before anybody hears of it, so that an enrolment that is interrupted goes
//! on with the same key; all of it counts from one rename on.

use std::path::{Path, PathBuf};

use muster_protocol::enrol::EnrolError;

use super::folder::{CERTIFICATE, ENROLMENT, FOLDER, KEY, ROOT};
use super::steps::{self, Step};
use super::{Certificate, DeviceKey, Enrolment, Identity, IdentityError, StateDir};
use crate::disk;

const ENROLLING: &str = "enrolling";
/// What an enrolment `--again` replaced, kept for whoever regrets it.
const BEFORE: &str = "identity.before";

#[derive(Debug)]
pub struct Enrolling {
    state_dir: PathBuf,
    folder: PathBuf,
    key: DeviceKey,
}

/// Which key an enrolment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The one this box has, from its identity or from an enrolment that was interrupted; else a new one.
    Kept,
    /// A new one: the fleet will see another device.
    New,
}

impl Enrolling {
    pub fn begin(held: &StateDir, choice: KeyChoice) -> Result<Self, IdentityError> {
        let state_dir = held.path().to_owned();
        let folder = state_dir.join(ENROLLING);
        let path = folder.join(KEY);
        let own = || DeviceKey::read(&state_dir.join(FOLDER).join(KEY));
        let begun = DeviceKey::read(&path)?;
        let kept = match (begun, choice) {
            (Some(key), KeyChoice::Kept) => Some(key),
            (None, KeyChoice::Kept) => own()?,
            // Repeating the command must not make yet another key; a present one that is damaged is no obstacle.
            (begun, KeyChoice::New) => {
                let own = own().ok().flatten().map(|key| key.spki());
                begun.filter(|key| own.is_none_or(|own| own != key.spki()))
            }
        };
        let key = match kept {
            Some(key) => key,
            None => {
                DeviceKey::generate().map_err(|source| IdentityError::Key { path: path.clone(), source })?
            }
        };
        // What was there before, but for the key, belongs to an enrolment that did not come to its end.
        steps::run(&[Step::write(path, key.pem().as_bytes()), Step::Remove(folder.join(ENROLMENT))])?;
        Ok(Self { state_dir, folder, key })
    }

    /// The fleet does not want this key: the next enrolment makes another.
    pub fn discard(self) -> Result<(), IdentityError> {
        Ok(steps::run(&[Step::RemoveAll(self.folder)])?)
    }

    pub fn key(&self) -> &DeviceKey {
        &self.key
    }

    /// Makes this box what the fleet says it is.
    pub fn finish(&self, enrolment: &Enrolment, root: &[u8], pem: &str) -> Result<Identity, IdentityError> {
        let certificate = Certificate::parse(pem)
            .map_err(|source| IdentityError::Certificate { path: self.folder.join(CERTIFICATE), source })?;
        if certificate.spki != self.key.spki() {
            return Err(IdentityError::OtherKey);
        }
        if certificate.name != enrolment.device.as_str() {
            return Err(IdentityError::OtherDevice {
                device: enrolment.device.clone(),
                found: certificate.name,
            });
        }
        steps::run(&self.steps(enrolment, root, pem)?)?;
        Identity::open(&self.state_dir)?.ok_or_else(|| IdentityError::Gone(self.state_dir.join(FOLDER)))
    }

    pub(super) fn steps(
        &self,
        enrolment: &Enrolment,
        root: &[u8],
        pem: &str,
    ) -> Result<Vec<Step>, IdentityError> {
        let path = self.folder.join(ENROLMENT);
        let json = serde_json::to_vec_pretty(enrolment).map_err(|source| IdentityError::Enrolment {
            path: path.clone(),
            source: EnrolError::Json(source),
        })?;
        let identity = self.state_dir.join(FOLDER);
        let mut steps = vec![
            Step::write(self.folder.join(ROOT), root),
            Step::write(self.folder.join(CERTIFICATE), pem),
            // The last: from here on a crash is finished by the next start.
            Step::write(path, json),
        ];
        if identity.exists() {
            let before = self.state_dir.join(BEFORE);
            steps.push(Step::RemoveAll(before.clone()));
            steps.push(Step::Rename(identity.clone(), before));
        }
        steps.push(Step::Rename(self.folder.clone(), identity));
        Ok(steps)
    }
}

/// A crash between the last file and the rename: the identity is whole, and becomes what it was to be. Whether there
/// was one.
pub(super) fn finish_interrupted(state_dir: &Path) -> Result<bool, IdentityError> {
    let folder = state_dir.join(ENROLLING);
    if !folder.join(ENROLMENT).exists() {
        return Ok(false);
    }
    disk::rename(&folder, &state_dir.join(FOLDER))?;
    Ok(true)
}

//! This box's key: P-256, made here, kept in one file that nobody else may read.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use muster_protocol::enrol::Fingerprint;
use muster_protocol::limits::CSR_BYTES_MAX;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use zeroize::Zeroizing;

use super::IdentityError;
use crate::disk::DiskError;

/// A key in PEM is a few lines.
const PEM_BYTES_MAX: u64 = 4096;

/// Shows nothing of itself.
pub struct DeviceKey(KeyPair);

// None of these carries what a parser says: it may quote the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no key can be made")]
    Make,
    #[error("it is not a P-256 key in PKCS#8 PEM")]
    Unreadable,
    #[error("no certificate request can be made for it")]
    Request,
}

impl DeviceKey {
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(|_| KeyError::Make)
    }

    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| KeyError::Unreadable)
    }

    pub fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// A request in PEM that proves possession. Its names are empty: the fleet chooses every name.
    pub fn csr(&self) -> Result<String, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let pem =
            params.serialize_request(&self.0).and_then(|csr| csr.pem()).map_err(|_| KeyError::Request)?;
        debug_assert!(pem.len() <= CSR_BYTES_MAX);
        Ok(pem)
    }

    /// DER of its `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.spki())
    }

    /// `None` if there is no such file. One that others may read is refused: who knows who has.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::io("read", path)(error).into()),
        };
        let mode = file.metadata().map_err(DiskError::io("read", path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::KeyExposed { path: path.to_owned(), mode });
        }
        let unreadable = || IdentityError::Key { path: path.to_owned(), source: KeyError::Unreadable };
        let mut pem = Zeroizing::new(String::new());
        file.take(PEM_BYTES_MAX).read_to_string(&mut pem).map_err(|_| unreadable())?;
        Self::from_pem(&pem).map(Some).map_err(|_| unreadable())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk;

    #[test]
    fn a_key_comes_back_and_tells_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        assert!(DeviceKey::read(&path).unwrap().is_none());
        let key = DeviceKey::generate().unwrap();
        disk::write(&path, key.pem().as_bytes()).unwrap();
        let again = DeviceKey::read(&path).unwrap().unwrap();
        assert_eq!(again.fingerprint(), key.fingerprint());
        assert_eq!(format!("{again:?}"), format!("DeviceKey({})", key.fingerprint()));
        let request = rcgen::CertificateSigningRequestParams::from_pem(&key.csr().unwrap()).unwrap();
        assert_eq!(request.public_key.subject_public_key_info(), key.spki());
    }

    #[test]
    fn exposed_and_foreign_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        disk::write(&path, DeviceKey::generate().unwrap().pem().as_bytes()).unwrap();
        for mode in [0o640, 0o604, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(DeviceKey::read(&path), Err(IdentityError::KeyExposed { .. })), "{mode:o}");
        }
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        for wrong in ["", "{", &p384] {
            let error = DeviceKey::from_pem(wrong).unwrap_err();
            assert!(matches!(error, KeyError::Unreadable));
        }
    }
}

//! Keys of model signatures: NIST curves in PEM, as OpenSSL and everybody's key vaults write them.
//!
//! A public key is accepted in one form only, DER of `SubjectPublicKeyInfo` with a named curve and an uncompressed
//! point: then a comparison of its first bytes is the whole parser, and the hint that others compute comes out the same.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use muster_protocol::ids::Digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use zeroize::Zeroizing;

const FILE_BYTES_MAX: u64 = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key {} could not be {what}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("others than its owner may read the private key {}: chmod 600 it, and ask whether it is still one", path.display())]
    Exposed { path: PathBuf },
    #[error(
        "{} holds no public key of the curves P-256, P-384 or P-521 in PEM: openssl pkey -in key.pem -pubout -out key.pub", path.display()
    )]
    Public { path: PathBuf },
    #[error(
        "{} holds no private key of the curves P-256, P-384 or P-521 in PEM: openssl ecparam -name prime256v1 -genkey -noout -out key.pem", path.display()
    )]
    Private { path: PathBuf },
    #[error("{} is encrypted, which is not read here: openssl pkey -in {} writes it in plain, to a file that only you can read", path.display(), path.display())]
    Encrypted { path: PathBuf },
    #[error("{} is there already; a key is never overwritten", path.display())]
    Exists { path: PathBuf },
    #[error("the cryptographic library failed")]
    Library,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

/// `SEQUENCE { SEQUENCE { id-ecPublicKey, curve }, BIT STRING {` and then the point.
const SPKI: [(Curve, &[u8], usize); 3] = [
    (Curve::P256, b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00", 65),
    (Curve::P384, b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00", 97),
    (Curve::P521, b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00", 133),
];

impl Curve {
    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1,
            Self::P521 => &signature::ECDSA_P521_SHA512_ASN1,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            Self::P521 => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        }
    }
}

/// A public key that model signatures are held against.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyKey {
    curve: Curve,
    spki: Vec<u8>,
    point_at: usize,
}

impl VerifyKey {
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let pem = read(File::open(path).map_err(io("read", path))?, path)?;
        SubjectPublicKeyInfoDer::from_pem_slice(&pem)
            .ok()
            .and_then(|der| Self::from_spki(&der))
            .ok_or_else(|| KeyError::Public { path: path.to_owned() })
    }

    fn from_spki(der: &[u8]) -> Option<Self> {
        let (curve, prefix, _) = SPKI.into_iter().find(|(_, prefix, point)| {
            der.len() == prefix.len() + point && der.starts_with(prefix) && der[prefix.len()] == 4
        })?;
        Some(Self { curve, spki: der.to_vec(), point_at: prefix.len() })
    }

    /// Whether this key made the signature (DER, as ECDSA's are).
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(self.curve.verification(), &self.spki[self.point_at..]);
        key.verify(message, signature).is_ok()
    }

    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki).to_string()
    }

    /// What a signature names its key by: SHA-256 of the PEM.
    pub fn hint(&self) -> String {
        Digest::of(self.to_pem().as_bytes()).to_string()
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.curve, self.hint())
    }
}

/// A private key; it shows only its public half.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: VerifyKey,
}

impl SigningKey {
    /// PKCS#8 or SEC 1, unencrypted, readable by its owner only.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = File::open(path).map_err(io("read", path))?;
        // Of the file that is open, not of whatever has its name by now.
        if file.metadata().map_err(io("read", path))?.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned() });
        }
        let pem = read(file, path)?;
        if pem.windows(9).any(|word| word == b"ENCRYPTED") {
            return Err(KeyError::Encrypted { path: path.to_owned() });
        }
        let wrong = || KeyError::Private { path: path.to_owned() };
        let der = Zeroizing::new(PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wrong())?);
        [Curve::P256, Curve::P384, Curve::P521]
            .into_iter()
            .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve.signing(), der.secret_der()).ok())
            .map_or_else(|| Err(wrong()), Self::of)
    }

    /// Makes a P-256 key: the private file at `path` with mode 0600, the public one beside it with the ending `.pub`.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let private = EcdsaKeyPair::generate_pkcs8(Curve::P256.signing(), &SystemRandom::new())
            .map_err(|_| KeyError::Library)?;
        let pair = EcdsaKeyPair::from_pkcs8(Curve::P256.signing(), private.as_ref())
            .map_err(|_| KeyError::Library)?;
        let key = Self::of(pair)?;
        let public_path = path.with_extension("pub");
        if public_path.exists() || public_path == path {
            return Err(KeyError::Exists { path: public_path });
        }
        write_new(path, 0o600, pem("PRIVATE KEY", private.as_ref()).as_bytes())?;
        write_new(&public_path, 0o644, key.public.to_pem().as_bytes())?;
        Ok(key)
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| KeyError::Library)?;
        let public = VerifyKey::from_spki(spki.as_ref()).ok_or(KeyError::Library)?;
        Ok(Self { pair, public })
    }

    pub fn public(&self) -> &VerifyKey {
        &self.public
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Library)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.public, f)
    }
}

/// The text that everybody's tools write: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(BASE64_STANDARD.encode(der));
    // As long as it gets, so that no copy of a secret stays behind in memory given back.
    let mut text = Zeroizing::new(String::with_capacity(body.len() * 2 + 2 * label.len() + 64));
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

fn read(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_BYTES_MAX).unwrap_or_default()));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io("read", path))?;
    Ok(bytes)
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyError> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists { path: path.to_owned() });
        }
        Err(error) => return Err(io("written", path)(error)),
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("written", path))
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> KeyError + 'a {
    move |source| KeyError::Io { what, path: path.to_owned(), source }
}

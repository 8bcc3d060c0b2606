//! Private keys as PKCS#8: plain, or encrypted by PBES2 with scrypt and AES-256.

use std::path::Path;

use muster_protocol::trust::SecretKey;
use pkcs8::der::SecretDocument;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{self, Kdf, Parameters, Salt, ScryptParams};
use pkcs8::{
    AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef,
};
use zeroize::Zeroizing;

use super::{KeyFileError, random, wrong};
use crate::publisher::passphrase::Passphrase;

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// A seed inside its own octet string: tag, length, 32 bytes.
const OCTETS: [u8; 2] = [0x04, 32];
/// 16 MiB five times over: a third of a second for us, ruinous for who must guess. Twice the memory, and `openssl pkey`
/// would no longer read the file.
const SCRYPT_COST: u64 = 1 << 14;
const SCRYPT_BLOCK: u16 = 8;
const SCRYPT_PASSES: u16 = 5;
/// Memory that a file may ask for when it is opened, bytes; OpenSSL's own files take 16 MiB.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;
const PASSES_MAX: u16 = 64;

pub(super) fn is_encrypted(block: &str) -> bool {
    block.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

pub(super) fn encode(secret: &SecretKey) -> Result<Zeroizing<String>, KeyFileError> {
    with_info(secret, |info| SecretDocument::encode_msg(info)?.to_pem(PLAIN, LineEnding::LF))
}

pub(super) fn encrypt(
    secret: &SecretKey,
    passphrase: &Passphrase,
) -> Result<Zeroizing<String>, KeyFileError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    random(&mut salt)?;
    random(&mut iv)?;
    let salt = Salt::new(salt).map_err(|error| KeyFileError::Encode(error.to_string()))?;
    let kdf = Kdf::Scrypt(ScryptParams {
        salt,
        cost_parameter: SCRYPT_COST,
        block_size: SCRYPT_BLOCK,
        parallelization: SCRYPT_PASSES,
        key_length: None,
    });
    let parameters = Parameters { kdf, encryption: pbes2::EncryptionScheme::Aes256Cbc { iv } };
    let sealed = with_info(secret, |info| info.encrypt_with_params(parameters, passphrase.as_bytes()))?;
    sealed.to_pem(ENCRYPTED, LineEnding::LF).map_err(|error| KeyFileError::Encode(error.to_string()))
}

pub(super) fn decode(block: &str, path: &Path) -> Result<SecretKey, KeyFileError> {
    let (label, document) =
        SecretDocument::from_pem(block).map_err(|_| wrong(path, "its PEM block is damaged"))?;
    if label != PLAIN {
        return Err(wrong(path, "its PEM block is no PKCS#8 private key"));
    }
    of_der(document.as_bytes(), path)
}

/// A wrong passphrase shows as bad padding or as rubbish; a damaged file may look the same.
pub(super) fn decrypt(block: &str, passphrase: &Passphrase, path: &Path) -> Result<SecretKey, KeyFileError> {
    let damaged = || wrong(path, "its PEM block is damaged");
    let (label, document) = SecretDocument::from_pem(block).map_err(|_| damaged())?;
    if label != ENCRYPTED {
        return Err(wrong(path, "its PEM block is no encrypted PKCS#8 private key"));
    }
    let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| damaged())?;
    bounded(&sealed.encryption_algorithm, path)?;
    let opened = sealed
        .decrypt(passphrase.as_bytes())
        .map_err(|_| KeyFileError::Passphrase { path: path.to_owned() })?;
    of_der(opened.as_bytes(), path)
}

/// Refuses parameters that would take this machine's memory or an hour.
fn bounded(scheme: &EncryptionScheme, path: &Path) -> Result<(), KeyFileError> {
    let EncryptionScheme::Pbes2(parameters) = scheme else {
        return Err(wrong(path, "it is encrypted in a way that is long broken (PBES1); make a new key"));
    };
    let Some(scrypt) = parameters.kdf.scrypt() else { return Ok(()) };
    let memory = scrypt.cost_parameter.saturating_mul(u64::from(scrypt.block_size)).saturating_mul(128);
    if memory > MEMORY_MAX || scrypt.parallelization > PASSES_MAX {
        return Err(wrong(path, "to open it would take more memory or time than a key file may ask for"));
    }
    Ok(())
}

fn with_info<T, E: std::fmt::Display>(
    secret: &SecretKey,
    write: impl FnOnce(&PrivateKeyInfoRef<'_>) -> Result<T, E>,
) -> Result<T, KeyFileError> {
    let mut octets = Zeroizing::new([0_u8; 34]);
    let (head, seed) = octets.split_at_mut(OCTETS.len());
    head.copy_from_slice(&OCTETS);
    seed.copy_from_slice(secret.seed());
    let failed = |error: &dyn std::fmt::Display| KeyFileError::Encode(error.to_string());
    let octets = OctetStringRef::new(octets.as_slice()).map_err(|error| failed(&error))?;
    // Without the public half: with it the file is version 2, which OpenSSL 3.0 does not read.
    let info = PrivateKeyInfoRef::new(AlgorithmIdentifierRef { oid: ED25519, parameters: None }, octets);
    write(&info).map_err(|error| failed(&error))
}

fn of_der(der: &[u8], path: &Path) -> Result<SecretKey, KeyFileError> {
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| wrong(path, "it holds no PKCS#8 private key"))?;
    if info.algorithm.oid != ED25519 {
        return Err(wrong(path, "its key is not Ed25519; make one with `muster key new`"));
    }
    let octets = info.private_key.as_bytes();
    let seed = octets.strip_prefix(&OCTETS).and_then(|seed| <&[u8; 32]>::try_from(seed).ok());
    seed.map(|seed| SecretKey::from_seed(*seed))
        .ok_or_else(|| wrong(path, "its key is not 32 bytes long, as Ed25519 keys are"))
}

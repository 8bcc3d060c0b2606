//! Writes files that only the site can read: the format of `age-encryption.org/v1` with X25519 recipients, by the one
//! cryptographic library that is here already. It cannot read them: this box holds no key for that.
//!
//! ```text
//!   header   version, the file's key wrapped once for each recipient, a MAC over both
//!   payload  nonce, then chunks of 64 KiB, each sealed with its number; the last one says that it is the last
//! ```
//!
//! The `age` crate writes the same and was not taken: it brings some fifty packages, a second cryptographic library and a
//! library of translations among them. The tests open what is written here with a reader that is held to the format's
//! own test vectors.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

const VERSION: &str = "age-encryption.org/v1";
const CHUNK_BYTES: usize = 64 * 1024;
const KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;

/// Whom a file is for: `age1…`, the public half of an identity of `age-keygen`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no recipient; 'age-keygen' prints one, and it begins with age1")]
pub struct RecipientError(String);

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("age1…")
    }
}

impl FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        // Whoever pastes the secret half here must not find it in a log.
        let shown = || RecipientError(text.chars().take(8).chain(['…']).collect());
        let data = bech32("age", text).ok_or_else(shown)?;
        data.try_into().map(Self).map_err(|_| shown())
    }
}

/// Encrypts what is written to it. Nothing of it is whole before [`Self::finish`].
pub struct Encryptor<W> {
    to: W,
    key: LessSafeKey,
    chunk: Zeroizing<Vec<u8>>,
    sealed: u64,
}

impl<W> fmt::Debug for Encryptor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryptor").field("sealed", &self.sealed).finish_non_exhaustive()
    }
}

impl<W: Write> Encryptor<W> {
    pub fn begin(recipients: &[Recipient], mut to: W) -> io::Result<Self> {
        let key = Zeroizing::new(random::<KEY_BYTES>()?);
        let mut header = format!("{VERSION}\n");
        for recipient in recipients {
            header += &stanza(recipient, &*key)?;
        }
        header += "---";
        let mac_key = derive(&[], &*key, b"header")?;
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*mac_key), header.as_bytes());
        let nonce = random::<NONCE_BYTES>()?;
        writeln!(to, "{header} {}", STANDARD_NO_PAD.encode(mac))?;
        to.write_all(&nonce)?;
        let payload = derive(&nonce, &*key, b"payload")?;
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + CHACHA20_POLY1305.tag_len()));
        Ok(Self { to, key: cipher(&payload)?, chunk, sealed: 0 })
    }

    /// Seals what is left and hands back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(Last::Yes)?;
        Ok(self.to)
    }

    fn seal(&mut self, last: Last) -> io::Result<()> {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.sealed.to_be_bytes());
        nonce[11] = u8::from(last == Last::Yes);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut *self.chunk).map_err(refused)?;
        self.to.write_all(&self.chunk)?;
        self.chunk.clear();
        self.sealed += 1;
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    No,
    Yes,
}

impl<W: Write> Write for Encryptor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for more: only then it is known not to be the last.
        if self.chunk.len() == CHUNK_BYTES && !bytes.is_empty() {
            self.seal(Last::No)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// A chunk cannot be cut short.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file's key, wrapped for one recipient.
fn stanza(recipient: &Recipient, key: &[u8]) -> io::Result<String> {
    let ours = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(refused)?;
    let share = ours.compute_public_key().map_err(refused)?;
    let salt = [share.as_ref(), &recipient.0].concat();
    let theirs = UnparsedPublicKey::new(&X25519, recipient.0);
    let wrap =
        agreement::agree_ephemeral(ours, theirs, io::Error::other("the recipient is no key"), |shared| {
            derive(&salt, shared, b"age-encryption.org/v1/X25519")
        })?;
    let mut wrapped = key.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    cipher(&wrap)?.seal_in_place_append_tag(nonce, Aad::empty(), &mut wrapped).map_err(refused)?;
    Ok(format!("-> X25519 {}\n{}\n", STANDARD_NO_PAD.encode(share), STANDARD_NO_PAD.encode(wrapped)))
}

fn derive(salt: &[u8], secret: &[u8], label: &[u8]) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut derived = Zeroizing::new([0; 32]);
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let labels = [label];
    let filled = secret.expand(&labels, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *derived));
    filled.map_err(refused)?;
    Ok(derived)
}

fn cipher(key: &[u8; 32]) -> io::Result<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new).map_err(refused)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// The library says no more than that.
fn refused(_: aws_lc_rs::error::Unspecified) -> io::Error {
    io::Error::other("the cryptographic library refused")
}

/// Bech32 of BIP 173 without its limit of length, lower case only, as age writes recipients.
fn bech32(prefix: &str, text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const CHECKSUM: usize = 6;
    let data = text.strip_prefix(prefix)?.strip_prefix('1')?;
    let digit =
        |letter: u8| ALPHABET.iter().position(|&other| other == letter).and_then(|at| u8::try_from(at).ok());
    let digits = data.bytes().map(digit).collect::<Option<Vec<u8>>>()?;
    let (high, low) = (prefix.bytes().map(|b| b >> 5), prefix.bytes().map(|b| b & 31));
    if polymod(high.chain([0]).chain(low).chain(digits.iter().copied())) != 1 {
        return None;
    }
    let digits = &digits[..digits.len().checked_sub(CHECKSUM)?];
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0_u32);
    for &digit in digits {
        held = (held << 5 | u32::from(digit)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    // What fills up the last digit is nothing.
    (bits < 5 && held & ((1 << bits) - 1) == 0).then_some(bytes)
}

fn polymod(digits: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    digits.fold(1, |sum, digit| {
        let top = sum >> 25;
        let next = (sum & 0x1ff_ffff) << 5 ^ u32::from(digit);
        GENERATOR.iter().enumerate().filter(|(at, _)| top >> at & 1 == 1).fold(next, |next, (_, g)| next ^ g)
    })
}

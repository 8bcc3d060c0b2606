//! Opens age files as their owner would, written after the format and not after our writer; what it opens and refuses is
//! held to the format's own test vectors (`fixtures/age`, from github.com/C2SP/CCTV).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use muster_agent::capture::age::{Encryptor, Recipient};
use muster_protocol::ids::Digest;

const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// The secret half of a recipient.
pub(crate) struct Identity([u8; 32]);

impl Identity {
    pub(crate) fn of(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// `AGE-SECRET-KEY-1…`, its checksum not looked at.
    fn parse(text: &str) -> Self {
        let data = text.to_lowercase();
        let data = data.strip_prefix("age-secret-key-1").unwrap();
        let digits =
            data[..data.len() - 6].bytes().map(|letter| LETTERS.iter().position(|&l| l == letter).unwrap());
        let bits: Vec<usize> =
            digits.flat_map(|digit| (0..5).rev().map(move |bit| digit >> bit & 1)).collect();
        let bytes = bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit));
        let bytes: Vec<u8> = bytes.map(|byte| u8::try_from(byte).unwrap()).collect();
        Self(bytes.try_into().unwrap())
    }

    fn public(&self) -> [u8; 32] {
        let key = PrivateKey::from_private_key(&X25519, &self.0).unwrap();
        key.compute_public_key().unwrap().as_ref().try_into().unwrap()
    }

    /// `age1…`
    pub(crate) fn recipient(&self) -> String {
        let bits: Vec<u8> =
            self.public().iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
        let digit = |bits: &[u8]| (0..5).fold(0, |all, at| all << 1 | bits.get(at).copied().unwrap_or(0));
        let mut digits: Vec<u8> = bits.chunks(5).map(digit).collect();
        let prefix = [3, 3, 3, 0, 1, 7, 5];
        let sum = checksum(prefix.iter().chain(&digits).chain(&[0; 6])) ^ 1;
        digits.extend((0..6).map(|at| u8::try_from(sum >> (5 * (5 - at)) & 31).unwrap()));
        let letters = digits.iter().map(|&digit| char::from(LETTERS[usize::from(digit)]));
        format!("age1{}", letters.collect::<String>())
    }
}

fn checksum<'a>(digits: impl Iterator<Item = &'a u8>) -> u32 {
    digits.fold(1, |sum, &digit| {
        let top = sum >> 25;
        let mut next = (sum & 0x01ff_ffff) << 5 ^ u32::from(digit);
        for (at, generator) in
            [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3].iter().enumerate()
        {
            if top >> at & 1 == 1 {
                next ^= generator;
            }
        }
        next
    })
}

struct Stanza<'a> {
    kind: &'a str,
    arguments: Vec<&'a str>,
    body: Vec<u8>,
}

/// What is in a file, if it is whole and for this identity.
pub(crate) fn open(identity: &Identity, file: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut rest = file;
    let mut line = || {
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("the header has no end")?;
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        std::str::from_utf8(line).map_err(|_| "the header is no text")
    };
    if line()? != "age-encryption.org/v1" {
        return Err("another version");
    }
    let mut stanzas: Vec<Stanza<'_>> = Vec::new();
    let mac = loop {
        let head = line()?;
        if let Some(mac) = head.strip_prefix("---") {
            break decoded(mac.strip_prefix(' ').ok_or("no MAC")?)?;
        }
        let mut words = head.strip_prefix("-> ").ok_or("no stanza")?.split(' ');
        let visible = |word: &&str| !word.is_empty() && word.bytes().all(|byte| (33..=126).contains(&byte));
        if !words.clone().all(|word| visible(&word)) {
            return Err("a stanza's argument is none");
        }
        let kind = words.next().ok_or("a stanza of no kind")?;
        let (arguments, mut body) = (words.collect(), Vec::new());
        loop {
            let part = line()?;
            if part.len() > 64 {
                return Err("a long line");
            }
            body.extend(decoded(part)?);
            if part.len() < 64 {
                break;
            }
        }
        stanzas.push(Stanza { kind, arguments, body });
    };
    if stanzas.is_empty() {
        return Err("for nobody");
    }
    let key = stanzas
        .iter()
        .find_map(|stanza| unwrapped(identity, stanza).transpose())
        .ok_or("for somebody else")??;
    let header = &file[..file.len() - rest.len()];
    let marked = header.windows(4).rposition(|part| part == b"\n---").ok_or("no MAC")? + 4;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &derived(&[], &key, b"header")), &header[..marked], &mac)
        .map_err(|_| "the header was changed")?;
    let (nonce, payload) = rest.split_at_checked(16).ok_or("no nonce")?;
    stream(&derived(nonce, &key, b"payload"), payload)
}

fn unwrapped(identity: &Identity, stanza: &Stanza<'_>) -> Result<Option<Vec<u8>>, &'static str> {
    if stanza.kind != "X25519" {
        return Ok(None);
    }
    let [share] = stanza.arguments.as_slice() else { return Err("a stanza of more arguments") };
    let share = decoded(share)?;
    if share.len() != 32 || stanza.body.len() != 32 {
        return Err("a stanza of another length");
    }
    let ours = PrivateKey::from_private_key(&X25519, &identity.0).unwrap();
    let salt = [share.as_slice(), &identity.public()].concat();
    let wrap =
        agreement::agree(&ours, UnparsedPublicKey::new(&X25519, &share), "a key of low order", |shared| {
            Ok(derived(&salt, shared, b"age-encryption.org/v1/X25519"))
        })?;
    Ok(unsealed(&wrap, [0; 12], &stanza.body))
}

fn stream(key: &[u8; 32], payload: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut plain = Vec::new();
    let mut chunks = payload.chunks(CHUNK + TAG).enumerate().peekable();
    if chunks.peek().is_none() {
        return Err("no chunk");
    }
    while let Some((number, chunk)) = chunks.next() {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&(number as u64).to_be_bytes());
        nonce[11] = u8::from(chunks.peek().is_none());
        let opened = unsealed(key, nonce, chunk).ok_or("a chunk was changed")?;
        if opened.is_empty() && number > 0 {
            return Err("an empty last chunk");
        }
        plain.extend(opened);
    }
    Ok(plain)
}

fn unsealed(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    let mut bytes = sealed.to_vec();
    let plain = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes).ok()?;
    Some(plain.to_vec())
}

fn derived(salt: &[u8], secret: &[u8], label: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    secret.expand(&[label], hkdf::HKDF_SHA256).unwrap().fill(&mut key).unwrap();
    key
}

fn decoded(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD_NO_PAD.decode(text).map_err(|_| "no base64 of the one spelling")
}

/// The reader above opens what the format's authors say is good, and refuses all that they say is not.
#[test]
fn the_reader_agrees_with_the_formats_own_vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/age");
    let mut answers = [0; 2];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let end = bytes.windows(2).position(|part| part == b"\n\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let identities: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("identity: ")).collect();
        let opened = identities.iter().map(|text| open(&Identity::parse(text), &bytes[end + 2..]));
        let opened: Vec<_> =
            opened.filter_map(Result::ok).map(|plain| Digest::of(&plain).to_string()).collect();
        let good = field("expect") == Some("success");
        assert_eq!(
            opened.first().map(String::as_str),
            field("payload").filter(|_| good),
            "{}",
            path.display()
        );
        answers[usize::from(good)] += 1;
    }
    assert!(answers[0] > 20 && answers[1] > 4, "{answers:?}");
}

fn recipient(identity: &Identity) -> Recipient {
    identity.recipient().parse().unwrap()
}

fn sealed(recipients: &[Recipient], plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encryptor = Encryptor::begin(recipients, Vec::new()).unwrap();
    // In pieces, as lines come.
    plain.chunks(10_007).for_each(|piece| encryptor.write_all(piece).unwrap());
    encryptor.finish().unwrap()
}

#[test]
fn every_recipient_reads_it_and_nobody_else() {
    let [one, two, stranger] = [1, 2, 3].map(|seed| Identity::of([seed; 32]));
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7] {
        let plain: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let file = sealed(&[recipient(&one), recipient(&two)], &plain);
        assert_eq!(open(&one, &file).as_deref(), Ok(plain.as_slice()), "{length}");
        assert_eq!(open(&two, &file).as_deref(), Ok(plain.as_slice()), "{length}");
        assert_eq!(open(&stranger, &file), Err("for somebody else"));
    }
}

#[test]
fn a_cut_or_changed_file_is_not_read() {
    let one = Identity::of([1; 32]);
    let file = sealed(&[recipient(&one)], &vec![7; 2 * CHUNK]);
    assert!(open(&one, &file).is_ok());
    for end in [file.len() - 1, file.len() - CHUNK - TAG] {
        assert!(open(&one, &file[..end]).is_err());
    }
    for at in [30, 150, file.len() / 2, file.len() - 1] {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(open(&one, &changed).is_err(), "{at}");
    }
    assert_ne!(file, sealed(&[recipient(&one)], &vec![7; 2 * CHUNK]), "no two files have one key");
}

#[test]
fn recipients_are_read_and_what_is_none_is_not_shown() {
    // From the format's own description.
    let known = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    known.parse::<Recipient>().unwrap();
    let mistyped = known.replace("ql3z", "ql3q");
    let secret = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";
    for wrong in ["", "age1", "age1qqqq", "age1ü", &mistyped, &known.to_uppercase(), secret] {
        let error = wrong.parse::<Recipient>().unwrap_err().to_string();
        assert!(!error.contains("EGTZ"), "{error}");
    }
}

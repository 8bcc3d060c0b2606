//! How a box becomes a member of a fleet: the file it is given, and what it and the fleet say before and about its
//! certificate. JSON over HTTPS; the server is authenticated by the TLS roots inside the file's `root.json`.
//!
//! ```text
//!   muster enrol new ──▶ er-2.enrol ──▶ muster-agent enrol er-2.enrol
//!                                         makes a P-256 key on the box
//!      POST /v1/enrol  Bearer fle_…  {csr, facts} ─────▶  202 {device, pending} until a person compared fingerprints
//!                                                         200 {device, active: certificate, mqtt}
//!      POST /v1/renew                {csr} ─────────────▶  200 for the registered key of an active device, at any age
//!      POST /v1/rekey  mTLS, old key {csr of a new key} ─▶ 200 and the new key is the registered one
//! ```
//! A certificate for a key that one does not hold is worthless, so renewal needs no secret: expiry never bricks a box.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{DeviceId, Digest, SiteName};
use crate::limits::{CERTIFICATE_BYTES_MAX, CSR_BYTES_MAX, ENROLMENT_BYTES_MAX};

/// Version of the file and of the messages.
pub const VERSION: u8 = 1;

/// Paths on the fleet's door for devices.
pub const ENROL_PATH: &str = "/v1/enrol";
pub const RENEW_PATH: &str = "/v1/renew";
pub const REKEY_PATH: &str = "/v1/rekey";

/// How long a device's certificate is good; renewed from a third of its life left.
pub const CERTIFICATE_LIFE_DAYS: u32 = 90;

const TOKEN_PREFIX: &str = "fle_";
/// 256 bits in base64url without padding.
const TOKEN_CHARS: usize = 43;
/// Longest text in a request that is not a CSR.
const TEXT_BYTES_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("it is not the JSON of this version's enrolment")]
    Json(#[source] serde_json::Error),
    #[error("version {0} is not understood here; update this side")]
    Version(u8),
    #[error("'{field}' {problem}")]
    Field { field: &'static str, problem: String },
}

/// What `muster enrol new` writes: everything a new box needs, and a secret. 0600.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrolmentFile {
    pub v: u8,
    /// `https://host:port`, the fleet's door for devices.
    pub server: String,
    /// The root that the box will trust from now on, as a document.
    pub root: Value,
    pub token: EnrolmentToken,
    pub site: SiteName,
}

/// One-use secret that lets a box ask for a certificate. Shows only its prefix.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnrolmentToken(String);

/// `POST /v1/enrol`, with the token as bearer. The same request again gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    pub v: u8,
    /// What people call the box.
    pub name: String,
    /// PEM. Only its public key is taken; the fleet chooses every name.
    pub csr: String,
    pub facts: Facts,
}

/// What tells one machine from another, without saying what it is called: hashes of what the system keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Of `/etc/machine-id`: a disk image carries it along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Digest>,
    /// Of the board's serial number: a disk image does not carry it along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<Digest>,
    pub arch: String,
    pub cpu_model: String,
}

/// `POST /v1/renew` and `/v1/rekey`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    pub v: u8,
    pub csr: String,
}

/// What the fleet answers. 202 while pending, 200 with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub v: u8,
    pub device: DeviceId,
    pub fingerprint: Fingerprint,
    pub state: EnrolState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum EnrolState {
    /// A person must compare the fingerprint and accept. Ask again.
    Pending,
    Active {
        /// PEM, the device's first, then its authority's.
        certificate: String,
        /// Where its broker is: `mqtts://host:port`.
        mqtt: String,
    },
}

/// SHA-256 of a public key (DER of its `SubjectPublicKeyInfo`). People compare its first half, in eight groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(Digest);

impl EnrolmentToken {
    /// Makes a token out of randomness that the caller brings.
    pub fn mint(random: [u8; 32]) -> Self {
        use base64::Engine as _;
        Self(format!("{TOKEN_PREFIX}{}", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(random)))
    }

    /// The secret itself: for the file and the `Authorization` header, and for nothing else.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What the fleet keeps of it.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl FromStr for EnrolmentToken {
    type Err = EnrolError;

    fn from_str(text: &str) -> Result<Self, EnrolError> {
        let valid = text.strip_prefix(TOKEN_PREFIX).is_some_and(|rest| {
            rest.len() == TOKEN_CHARS
                && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
        // The text is not shown: a mistyped secret is nearly one.
        let problem = || "is not an enrolment token: fle_ and 43 characters".to_owned();
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(EnrolError::Field { field: "token", problem: problem() })
        }
    }
}

impl TryFrom<String> for EnrolmentToken {
    type Error = EnrolError;

    fn try_from(text: String) -> Result<Self, EnrolError> {
        text.parse()
    }
}

impl From<EnrolmentToken> for String {
    fn from(token: EnrolmentToken) -> String {
        token.0
    }
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fle_…")
    }
}

impl Fingerprint {
    /// `spki`: DER of the key's `SubjectPublicKeyInfo`.
    pub fn of(spki: &[u8]) -> Self {
        Self(Digest::of(spki))
    }

    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl From<Digest> for Fingerprint {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl fmt::Display for Fingerprint {
    /// 128 bits: as many as a second preimage must match.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.0.to_string();
        for group in 0..8 {
            let dash = if group == 0 { "" } else { "-" };
            write!(f, "{dash}{}", &hex[group * 4..group * 4 + 4])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl EnrolmentFile {
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnrolError> {
        let file: Self = read(bytes, ENROLMENT_BYTES_MAX)?;
        version(file.v)?;
        if !file.server.starts_with("https://") || file.server.len() > TEXT_BYTES_MAX {
            return wrong("server", "is not an https:// address");
        }
        Ok(file)
    }
}

impl EnrolRequest {
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnrolError> {
        let request: Self = read(bytes, CSR_BYTES_MAX * 2)?;
        version(request.v)?;
        csr(&request.csr)?;
        let name = request.name.trim();
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return wrong("name", "must be 1 to 64 bytes without control characters");
        }
        if request.facts.arch.len() > TEXT_BYTES_MAX || request.facts.cpu_model.len() > TEXT_BYTES_MAX {
            return wrong("facts", "holds a text that is too long");
        }
        Ok(request)
    }
}

impl CertificateRequest {
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnrolError> {
        let request: Self = read(bytes, CSR_BYTES_MAX * 2)?;
        version(request.v)?;
        csr(&request.csr)?;
        Ok(request)
    }
}

impl Enrolled {
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnrolError> {
        let answer: Self = read(bytes, CERTIFICATE_BYTES_MAX * 2)?;
        version(answer.v)?;
        match &answer.state {
            EnrolState::Active { certificate, .. } if certificate.len() > CERTIFICATE_BYTES_MAX => {
                wrong("certificate", "is too long")
            }
            EnrolState::Active { mqtt, .. }
                if !mqtt.starts_with("mqtts://") || mqtt.len() > TEXT_BYTES_MAX =>
            {
                wrong("mqtt", "is not an mqtts:// address")
            }
            EnrolState::Active { .. } | EnrolState::Pending => Ok(answer),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, EnrolError> {
    if bytes.len() > max {
        return wrong("message", &format!("is {} bytes long, more than the {max} allowed", bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(EnrolError::Json)
}

fn version(v: u8) -> Result<(), EnrolError> {
    if v == VERSION { Ok(()) } else { Err(EnrolError::Version(v)) }
}

fn csr(pem: &str) -> Result<(), EnrolError> {
    if pem.len() > CSR_BYTES_MAX {
        wrong("csr", &format!("is longer than {CSR_BYTES_MAX} bytes"))
    } else {
        Ok(())
    }
}

fn wrong<T>(field: &'static str, problem: &str) -> Result<T, EnrolError> {
    Err(EnrolError::Field { field, problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_come_back_and_are_never_shown() {
        let token = EnrolmentToken::mint([7; 32]);
        assert_eq!(token.secret().parse::<EnrolmentToken>().unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.secret()[4..]));
        for wrong in ["", "fle_", "flp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "fle_AAAA AAAA"] {
            let error = wrong.parse::<EnrolmentToken>().unwrap_err();
            assert!(wrong.len() < 8 || !error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn fingerprints_are_eight_groups() {
        let text = Fingerprint::of(b"key").to_string();
        assert_eq!((text.len(), text.split('-').count()), (39, 8), "{text}");
    }

    #[test]
    fn requests_are_bounded() {
        let good = json!({"v": 1, "name": "er-1", "csr": "x", "facts": {"arch": "x86_64", "cpu_model": "y"}});
        let check = |change: fn(&mut Value), valid: bool| {
            let mut request = good.clone();
            change(&mut request);
            assert_eq!(EnrolRequest::from_json(request.to_string().as_bytes()).is_ok(), valid, "{request}");
        };
        check(|_| {}, true);
        check(|r| r["v"] = json!(2), false);
        check(|r| r["name"] = json!(""), false);
        check(|r| r["name"] = json!("a\nb"), false);
        check(|r| r["csr"] = json!("x".repeat(9000)), false);
        check(|r| r["facts"]["machine"] = json!("not a digest"), false);
        check(|r| r["facts"]["cpu_model"] = json!("x".repeat(300)), false);
    }

    #[test]
    fn answers_name_an_encrypted_broker() {
        let answer = |mqtt: &str| {
            let device = DeviceId::mint([1; 16]);
            let state = EnrolState::Active { certificate: "pem".to_owned(), mqtt: mqtt.to_owned() };
            let answer = Enrolled { v: 1, device, fingerprint: Fingerprint::of(b""), state };
            Enrolled::from_json(&serde_json::to_vec(&answer).unwrap())
        };
        assert!(answer("mqtts://fleet.example:8883").is_ok());
        assert!(answer("mqtt://fleet.example:1883").is_err());
    }
}

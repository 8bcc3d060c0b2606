//! What is inside a signature file: a Sigstore bundle around a DSSE envelope around an in-toto statement that lists files.
//!
//! ```text
//!   {mediaType, verificationMaterial: {publicKey: {hint}},
//!    dsseEnvelope: {payloadType, signatures: [{sig}],  ── over "DSSEv1" LEN TYPE LEN payload
//!                   payload: base64 of {_type, subject: [{name, digest}], predicateType,
//!                                       predicate: {resources: [{name, algorithm, digest}], serialization}}}}
//! ```
//!
//! A function of bytes: no file is touched here. Nothing of the payload is looked at before its signature is.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use muster_protocol::ids::Digest;
use muster_protocol::limits::{BUNDLE_FILES_MAX, BUNDLE_PATH_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// A signature file, bytes: as many files as a bundle may have, with their names, twice in base64.
pub const SIGNATURE_BYTES_MAX: u64 = 4 * 1024 * 1024;

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
const METHOD: &str = "files";
const ALGORITHM: &str = "sha256";

/// What the specification leaves out of every signature, at the top of the folder.
pub(super) const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    #[error("it is not the JSON of a model signature")]
    Json(#[source] serde_json::Error),
    #[error("its {what} is '{found}'; only '{expected}' is understood here")]
    Kind { what: &'static str, found: String, expected: &'static str },
    #[error("it was made with a certificate; only signatures of a key are accepted: model_signing sign key")]
    NoKey,
    #[error("it names the key {named}…, and not the one it was held against ({given}…)")]
    OtherKey { named: String, given: String },
    #[error("its {0} is not base64")]
    Base64(&'static str),
    #[error("it holds {0} signatures; exactly one is accepted")]
    Signatures(usize),
    #[error("the key did not make this signature")]
    Signature,
    #[error("it names {0} subjects; a model is one")]
    Subjects(usize),
    #[error("it lists {found} files; a model has 1 to {BUNDLE_FILES_MAX}")]
    Resources { found: usize },
    #[error(
        "it names the file {0:?}: a name is relative, without '..', and no longer than {BUNDLE_PATH_BYTES_MAX} bytes"
    )]
    Name(String),
    #[error("it names {0:?} twice")]
    Twice(String),
    #[error("the digest of {0:?} is not 64 lower-case hexadecimal digits")]
    Digest(String),
    #[error("its files do not add up to the digest of its subject")]
    RootDigest,
}

/// A signature file before anything of it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignatureFile {
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// SHA-256 of the key's PEM; older signers leave it out.
    hint: Option<String>,
}

/// Which files a model has, as somebody signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// Informational: nothing depends on it.
    pub(super) name: String,
    pub(super) files: BTreeMap<String, Digest>,
    /// What the signer left out, relative to the folder.
    pub(super) ignored: Vec<String>,
}

impl SignatureFile {
    pub(super) fn new(payload: Vec<u8>, signature: Vec<u8>, hint: Option<String>) -> Self {
        Self { payload, signature, hint }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let bundle: Bundle = serde_json::from_slice(bytes).map_err(StatementError::Json)?;
        expect("media type", &bundle.media_type, MEDIA_TYPE)?;
        let key = bundle.verification_material.public_key.ok_or(StatementError::NoKey)?;
        let envelope = bundle.dsse_envelope;
        expect("payload type", &envelope.payload_type, PAYLOAD_TYPE)?;
        let [signature] = envelope.signatures.as_slice() else {
            return Err(StatementError::Signatures(envelope.signatures.len()));
        };
        let decode =
            |what, text: &str| BASE64_STANDARD.decode(text).map_err(|_| StatementError::Base64(what));
        Ok(Self {
            payload: decode("payload", &envelope.payload)?,
            signature: decode("signature", &signature.sig)?,
            hint: key.hint,
        })
    }

    /// The statement, if the key whose hint is `hint` made the signature.
    pub(super) fn open(
        self,
        hint: &str,
        verifies: impl FnOnce(&[u8], &[u8]) -> bool,
    ) -> Result<Statement, StatementError> {
        let short = |text: &str| text.chars().take(12).collect::<String>();
        if let Some(named) = self.hint.as_deref().filter(|named| *named != hint) {
            return Err(StatementError::OtherKey { named: short(named), given: short(hint) });
        }
        if !verifies(&signed_bytes(&self.payload), &self.signature) {
            return Err(StatementError::Signature);
        }
        Statement::parse(&self.payload)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bundle = Bundle {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: VerificationMaterial {
                public_key: Some(PublicKey { hint: self.hint.clone() }),
                tlog_entries: Vec::new(),
            },
            dsse_envelope: Dsse {
                payload: BASE64_STANDARD.encode(&self.payload),
                payload_type: PAYLOAD_TYPE.to_owned(),
                signatures: vec![Signature {
                    sig: BASE64_STANDARD.encode(&self.signature),
                    keyid: String::new(),
                }],
            },
        };
        json(&bundle)
    }
}

/// DSSE's pre-authentication encoding: lengths first, so that no two (type, payload) pairs give the same bytes.
pub(super) fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Statement {
    /// `signature` is the signature's own place, where that is inside the folder.
    pub(super) fn new(name: String, files: BTreeMap<String, Digest>, signature: Option<String>) -> Self {
        let ignored = GIT_PATHS.iter().map(|&path| path.to_owned()).chain(signature).collect();
        Self { name, files, ignored }
    }

    pub(super) fn to_payload(&self) -> Vec<u8> {
        let resources = self.files.iter().map(|(name, sha256)| Resource {
            name: name.clone(),
            algorithm: ALGORITHM.to_owned(),
            digest: sha256.to_string(),
        });
        json(&InToto {
            type_: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject {
                name: self.name.clone(),
                digest: SubjectDigest { sha256: root_digest(self.files.values()).to_string() },
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                resources: resources.collect(),
                serialization: Serialization {
                    method: METHOD.to_owned(),
                    hash_type: ALGORITHM.to_owned(),
                    allow_symlinks: false,
                    ignore_paths: self.ignored.clone(),
                },
            },
        })
    }

    /// Whether the signer left out this path, or a folder above it.
    pub(super) fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|path| {
            name.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        let statement: InToto = serde_json::from_slice(payload).map_err(StatementError::Json)?;
        expect("statement type", &statement.type_, STATEMENT_TYPE)?;
        expect("predicate type", &statement.predicate_type, PREDICATE_TYPE)?;
        let Predicate { resources, serialization } = statement.predicate;
        expect("serialization method", &serialization.method, METHOD)?;
        expect("hash type", &serialization.hash_type, ALGORITHM)?;
        let [subject] = statement.subject.as_slice() else {
            return Err(StatementError::Subjects(statement.subject.len()));
        };
        if resources.is_empty() || resources.len() > BUNDLE_FILES_MAX {
            return Err(StatementError::Resources { found: resources.len() });
        }
        let mut files = BTreeMap::new();
        // In the order they are listed, which is the signer's: not everybody sorts alike.
        let mut digests = Vec::with_capacity(resources.len());
        for Resource { name, algorithm, digest } in resources {
            expect("hash type", &algorithm, ALGORITHM)?;
            let Ok(sha256) = digest.parse::<Digest>() else {
                return Err(StatementError::Digest(shown(&name)));
            };
            if !is_plain(&name) {
                return Err(StatementError::Name(shown(&name)));
            }
            if files.contains_key(&name) {
                return Err(StatementError::Twice(name));
            }
            digests.push(sha256);
            files.insert(name, sha256);
        }
        if root_digest(&digests).to_string() != subject.digest.sha256 {
            return Err(StatementError::RootDigest);
        }
        Ok(Self { name: subject.name.clone(), files, ignored: serialization.ignore_paths })
    }
}

/// A path that stays inside its folder and can be shown.
pub(super) fn is_plain(name: &str) -> bool {
    name.len() <= BUNDLE_PATH_BYTES_MAX
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn root_digest<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let all: Vec<u8> = digests.into_iter().flat_map(|digest| *digest.as_bytes()).collect();
    Digest::of(&all)
}

fn expect(what: &'static str, found: &str, expected: &'static str) -> Result<(), StatementError> {
    if found == expected { Ok(()) } else { Err(StatementError::Kind { what, found: shown(found), expected }) }
}

fn shown(text: &str) -> String {
    text.chars().take(BUNDLE_PATH_BYTES_MAX).collect()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Our own structs of strings: writing them as JSON cannot fail, and a verifier would refuse what is empty.
    serde_json::to_vec(value).unwrap_or_default()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: Dsse,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    #[serde(default)]
    public_key: Option<PublicKey>,
    /// A key's signature needs none.
    #[serde(default, skip_deserializing)]
    tlog_entries: Vec<()>,
}

#[derive(Serialize, Deserialize)]
struct PublicKey {
    #[serde(default)]
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    sig: String,
    /// Written empty as others do; which key it was is said by the hint.
    #[serde(default, skip_deserializing)]
    keyid: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InToto {
    #[serde(rename = "_type")]
    type_: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
struct SubjectDigest {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    resources: Vec<Resource>,
    serialization: Serialization,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    /// Written only: whether a link was followed does not matter where links are refused.
    #[serde(default, skip_deserializing)]
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

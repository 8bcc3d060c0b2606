//! A file that is fixed and being signed by several key holders: it can be carried from machine to machine.
//!
//! ```json
//!   { "muster-draft": 1, "file": "2.root.json",
//!     "needs": [ {"who": "root 1", "threshold": 2, "keys": {"986e…": "d75a…"}}, {"who": "root 2", … } ],
//!     "names": {"986e…": "ada"},
//!     "envelope": {"signatures": […], "signed": {…}} }
//! ```
//!
//! Only `envelope` is what will be published. The rest tells a key holder far from the workspace who is still asked; it
//! is signed by nobody, so the workspace counts again by its own files before it believes that a draft is finished.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

use muster_protocol::trust::author::Keys;
use muster_protocol::trust::{Envelope, FileName, KeyId, PublicKey, Sign, Signature};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::PublisherError;
use super::workspace::write;

const VERSION: u32 = 1;
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Names of keys, for people.
pub(super) type Names = BTreeMap<KeyId, String>;

#[derive(Clone, Debug)]
pub struct Draft {
    file: FileName,
    version: u64,
    needs: Vec<Need>,
    names: Names,
    envelope: Envelope,
}

/// Keys of which enough must sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Need {
    who: String,
    threshold: usize,
    keys: BTreeMap<KeyId, PublicKey>,
}

/// How far the signing has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub rounds: Vec<Round>,
}

/// One set of keys, and who of it has not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Such as `root 1`.
    pub who: String,
    pub found: usize,
    pub needed: usize,
    pub missing: Vec<Holder>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub key: KeyId,
    pub name: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(rename = "muster-draft")]
    muster_draft: u32,
    file: String,
    needs: Vec<Need>,
    #[serde(default)]
    names: Names,
    envelope: Value,
}

impl Draft {
    pub(super) fn new(
        file: FileName,
        version: u64,
        envelope: Envelope,
        needs: Vec<Need>,
        names: Names,
    ) -> Self {
        let asked = |id: &KeyId| needs.iter().any(|need| need.keys.contains_key(id));
        let names = names.into_iter().filter(|(id, _)| asked(id)).collect();
        Self { file, version, needs, names, envelope }
    }

    pub fn read(path: &Path) -> Result<Self, PublisherError> {
        let failed = |source| PublisherError::Read {
            path: path.to_owned(),
            hint: "is it the draft that was carried here?",
            source,
        };
        let mut bytes = Vec::new();
        std::fs::File::open(path).map_err(failed)?.take(BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        Self::parse(&bytes).map_err(|reason| PublisherError::Draft { path: path.to_owned(), reason })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Written { muster_draft, file, needs, names, envelope } =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if muster_draft != VERSION {
            return Err(format!("its format is {muster_draft}, and this program knows {VERSION}"));
        }
        let file: FileName = file.parse().map_err(|error| format!("{error}"))?;
        let envelope = Envelope::parse(envelope.to_string().as_bytes()).map_err(|error| error.to_string())?;
        let version = envelope.signed().get("version").and_then(Value::as_u64).unwrap_or(0);
        let kind = envelope.signed().get("_type").and_then(Value::as_str).unwrap_or_default();
        let expected = if matches!(file, FileName::Root(_)) { "root" } else { "targets" };
        if kind != expected || version == 0 || matches!(file, FileName::Root(named) if named != version) {
            return Err(format!("it is called {file}, and inside is a '{kind}' of version {version}"));
        }
        if needs.iter().any(|need| need.keys.iter().any(|(id, key)| key.key_id() != *id)) {
            return Err("it names a key by an id that is not its own".to_owned());
        }
        Ok(Self { file, version, needs, names, envelope })
    }

    /// Puts it at rest, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), PublisherError> {
        write(path, &self.to_bytes())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let signatures = self.envelope.signatures();
        let written = Written {
            muster_draft: VERSION,
            file: self.file.wire(),
            needs: self.needs.clone(),
            names: self.names.clone(),
            envelope: serde_json::json!({ "signatures": signatures, "signed": self.envelope.signed() }),
        };
        // Strings, numbers and maps with strings as keys: there is nothing in it that JSON cannot say.
        serde_json::to_vec_pretty(&written).unwrap_or_default()
    }

    pub fn file(&self) -> &FileName {
        &self.file
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// What it is called among people: `2.root.json`, `7.targets.json`.
    pub fn title(&self) -> String {
        self.file.stored(self.version)
    }

    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Adds a signature that will count; the draft in memory only.
    pub fn sign(&mut self, signer: &dyn Sign) -> Result<(), PublisherError> {
        let public = signer.key();
        let key = public.key_id();
        if !self.needs.iter().any(|need| need.keys.contains_key(&key)) {
            return Err(PublisherError::NotAsked { key, public: public.to_string(), what: self.title() });
        }
        Ok(self.envelope.sign(signer)?)
    }

    /// Takes over the signatures of a copy that was signed elsewhere, those that count. How many are new.
    pub(super) fn collect(&mut self, copy: &Self, path: &Path) -> Result<usize, PublisherError> {
        if copy.envelope.canonical() != self.envelope.canonical() {
            return Err(PublisherError::OtherDraft { path: path.to_owned() });
        }
        let mut signatures: Vec<Signature> = self.envelope.signatures().to_vec();
        let mut added = 0;
        for (id, key) in self.needs.iter().flat_map(|need| &need.keys) {
            if signed_by(&self.envelope, id, key) || !signed_by(&copy.envelope, id, key) {
                continue;
            }
            signatures.retain(|signature| signature.keyid != *id);
            signatures.extend(copy.envelope.signatures().iter().find(|s| s.keyid == *id).cloned());
            added += 1;
            self.envelope = with_signatures(&self.envelope, &signatures, path)?;
        }
        Ok(added)
    }

    pub fn progress(&self) -> Progress {
        let round = |need: &Need| {
            let count = self.envelope.count(&need.keys, need.threshold);
            let unsigned = need.keys.iter().filter(|(id, key)| !signed_by(&self.envelope, id, key));
            let missing =
                unsigned.map(|(id, _)| Holder { key: id.clone(), name: self.names.get(id).cloned() });
            Round {
                who: need.who.clone(),
                found: count.found,
                needed: need.threshold,
                missing: missing.collect(),
            }
        };
        Progress { rounds: self.needs.iter().map(round).collect() }
    }
}

impl Need {
    pub(super) fn new(who: impl Into<String>, keys: BTreeMap<KeyId, PublicKey>, threshold: usize) -> Self {
        Self { who: who.into(), threshold, keys }
    }

    pub(super) fn of(who: impl Into<String>, keys: &Keys) -> Self {
        let named = keys.keys.iter().map(|key| (key.key_id(), *key)).collect();
        Self::new(who, named, keys.threshold)
    }

    /// Whoever satisfies the one satisfies the other.
    pub(super) fn same_keys(&self, other: &Self) -> bool {
        self.keys == other.keys && self.threshold == other.threshold
    }

    pub(super) fn met_by(&self, envelope: &Envelope) -> bool {
        envelope.count(&self.keys, self.threshold).met()
    }
}

impl Progress {
    pub fn is_complete(&self) -> bool {
        self.rounds.iter().all(Round::is_complete)
    }
}

impl Round {
    pub fn is_complete(&self) -> bool {
        self.needed > 0 && self.found >= self.needed
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, round) in self.rounds.iter().enumerate() {
            let gap = if at == 0 { "" } else { "; " };
            write!(f, "{gap}{round}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, found, needed, missing } = self;
        write!(f, "{found} of {needed} keys of {who}")?;
        if self.is_complete() || missing.is_empty() {
            return Ok(());
        }
        let more = needed.saturating_sub(*found);
        let these: Vec<String> = missing.iter().map(Holder::to_string).collect();
        write!(f, ", {more} more of {}", these.join(", "))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.key.short()),
            None => f.write_str(&self.key.short()),
        }
    }
}

fn signed_by(envelope: &Envelope, id: &KeyId, key: &PublicKey) -> bool {
    envelope.count(&BTreeMap::from([(id.clone(), *key)]), 1).met()
}

fn with_signatures(
    envelope: &Envelope,
    signatures: &[Signature],
    path: &Path,
) -> Result<Envelope, PublisherError> {
    let file = serde_json::json!({ "signatures": signatures, "signed": envelope.signed() });
    Envelope::parse(file.to_string().as_bytes())
        .map_err(|source| PublisherError::Envelope { path: path.to_owned(), source })
}

//! Names of things. One type each; [`FromStr`] is the only way in, and every character allowed fits a topic segment, a
//! file name and a URL without quoting.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {what}: {rule}")]
pub struct IdError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

/// What every name is, whatever it is kept in.
macro_rules! text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A name that people or their systems give. Shared by its clones: a fleet's boxes say the same few again and again.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        text!($name);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { what: $what, text: text.chars().take(80).collect(), rule: $rule })
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }
    };
}

/// A name that Muster makes: a prefix and 128 random bits. All are of one length and lie in place, so that a walk over a
/// fleet of a hundred thousand need not fetch each from somewhere else.
macro_rules! minted {
    ($(#[$doc:meta])* $name:ident, $what:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $prefix.len() + RANDOM_CHARS]);

        text!($name);

        impl $name {
            /// Makes an id out of randomness that the caller brings.
            pub fn mint(random: [u8; ID_RANDOM_BYTES]) -> Self {
                let mut bytes = [0; $prefix.len() + RANDOM_CHARS];
                let (prefix, rest) = bytes.split_at_mut($prefix.len());
                prefix.copy_from_slice($prefix.as_bytes());
                rest.copy_from_slice(&crockford(random));
                Self(bytes)
            }

            pub fn as_str(&self) -> &str {
                // All of it is ASCII.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong = || IdError {
                    what: $what,
                    text: text.chars().take(80).collect(),
                    rule: concat!("write ", $prefix, " and 26 characters of lower-case Crockford base 32"),
                };
                if !prefixed(text, $prefix) {
                    return Err(wrong());
                }
                text.as_bytes().try_into().map(Self).map_err(|_| wrong())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }
    };
}

/// Alphabet of Crockford's base 32, lower case: no i, l, o, u.
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Random bytes in an id after its prefix; 26 characters in Crockford's base 32.
pub const ID_RANDOM_BYTES: usize = 16;
const RANDOM_CHARS: usize = 26;

minted!(
    /// One box. Also its certificate's common name and its topic segment.
    DeviceId, "device id", "d-"
);
minted!(RolloutId, "rollout id", "ro-");
minted!(
    /// One retraining run.
    RunId, "run id", "run-"
);
minted!(
    /// Why a retraining was asked for; follows the loop to the last device.
    TriggerId, "trigger id", "trg-"
);
minted!(
    /// One open (or closed) drift alarm.
    IncidentId, "incident id", "inc-"
);
minted!(
    /// A process's life on a box: sequence numbers count within one boot.
    BootId, "boot id", "b-"
);
id!(
    /// What a model is called in its bundles' target paths.
    ModelName, "model name", "use 1 to 64 of a-z, 0-9 and '-', starting with a letter", |t| name(t, 64)
);
id!(
    /// A named place for a model on a device; applications address it as the model's name.
    SlotName, "slot name", "use 1 to 64 of a-z, 0-9 and '-', starting with a letter", |t| name(t, 64)
);
id!(
    /// A ward, a line, a building: what boxes share a network and an owner in.
    SiteName, "site name", "use 1 to 64 of a-z, 0-9 and '-', starting with a letter", |t| name(t, 64)
);
id!(
    /// One monitored column of a model's inputs or outputs.
    StreamName, "stream name", "use 1 to 64 of a-z, 0-9, '_' and '-', starting with a letter", |t| {
        t.len() <= 64 && t.starts_with(|c: char| c.is_ascii_lowercase())
            && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    }
);
id!(
    /// A bundle's version: for people; its identity is the digest.
    BundleVersion, "bundle version", "use 1 to 64 of A-Z, a-z, 0-9, '.', '+', '_' and '-', not starting with '.'", |t| {
        !t.is_empty() && t.len() <= 64 && !t.starts_with('.')
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b".+_-".contains(&b))
    }
);

id!(
    /// What hardware a bundle runs on, such as `x86_64-openvino`.
    HardwareClass, "hardware class", "use 1 to 64 of a-z, 0-9, '_' and '-', starting with a letter", |t| {
        t.len() <= 64 && t.starts_with(|c: char| c.is_ascii_lowercase())
            && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    }
);
id!(
    /// What operators sort their boxes by, such as `ward`.
    TagName, "tag name", "use 1 to 64 of a-z, 0-9, '_' and '-', starting with a letter", |t| {
        t.len() <= 64 && t.starts_with(|c: char| c.is_ascii_lowercase())
            && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    }
);
id!(TagValue, "tag value", "use 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'", |t| {
    !t.is_empty() && t.len() <= 64 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
});
id!(
    /// Which application on a box says "not now".
    LeaseOwner, "lease owner", "use 1 to 64 of a-z, 0-9, '_' and '-', starting with a letter", |t| {
        t.len() <= 64 && t.starts_with(|c: char| c.is_ascii_lowercase())
            && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    }
);
minted!(
    /// One enrolment file: what it allows is kept at the fleet under this name.
    EnrolmentId, "enrolment id", "en-"
);

minted!(
    /// One "not now" that a person took for a box or a site.
    LeaseId, "lease id", "le-"
);
minted!(
    /// One wish of the fleet that a site keep some rows of its own.
    CaptureId, "capture id", "cap-"
);
id!(
    /// What versions of a dataset have in common.
    DatasetName, "dataset name", "use 1 to 64 of a-z, 0-9 and '-', starting with a letter", |t| name(t, 64)
);
id!(
    /// What a saved question about boxes is called.
    CohortName, "cohort name", "use 1 to 64 of a-z, 0-9 and '-', starting with a letter", |t| name(t, 64)
);
id!(
    /// What one version of a model is called among people, such as `champion`.
    AliasName, "alias", "use 1 to 64 of a-z, 0-9 and '-', starting with a letter", |t| name(t, 64)
);

/// SHA-256 of content, 64 lower-case hexadecimal digits. The name of every blob and bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            Ok(Self(<[u8; 32]>::deserialize(deserializer)?))
        }
    }
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 digits, enough to tell bundles apart on a screen.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            what: "SHA-256 digest",
            text: text.chars().take(80).collect(),
            rule: "write 64 lower-case hexadecimal digits",
        };
        if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Where a bundle's manifest stands in the catalogue: `bundles/<model>/<version>.json`, signed by the targets role, or
/// `bundles/<model>/auto/<version>.json`, signed by the builder to which that path is delegated.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BundlePath {
    model: ModelName,
    version: BundleVersion,
    signer: BundleSigner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleSigner {
    /// People, with the targets keys.
    Human,
    /// A builder, with the key to which `bundles/<model>/auto/*` is delegated.
    Builder,
}

impl BundlePath {
    pub fn new(model: ModelName, version: BundleVersion, signer: BundleSigner) -> Self {
        Self { model, version, signer }
    }

    pub fn model(&self) -> &ModelName {
        &self.model
    }

    pub fn version(&self) -> &BundleVersion {
        &self.version
    }

    pub fn signer(&self) -> BundleSigner {
        self.signer
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let auto = match self.signer {
            BundleSigner::Human => "",
            BundleSigner::Builder => "auto/",
        };
        write!(f, "bundles/{}/{auto}{}.json", self.model, self.version)
    }
}

impl fmt::Debug for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BundlePath {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            what: "bundle path",
            text: text.chars().take(80).collect(),
            rule: "write bundles/<model>/<version>.json or bundles/<model>/auto/<version>.json",
        };
        let rest = text.strip_prefix("bundles/").and_then(|t| t.strip_suffix(".json")).ok_or_else(wrong)?;
        let (model, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let (signer, version) = match rest.strip_prefix("auto/") {
            Some(version) => (BundleSigner::Builder, version),
            None => (BundleSigner::Human, rest),
        };
        Ok(Self { model: model.parse()?, version: version.parse()?, signer })
    }
}

impl TryFrom<String> for BundlePath {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BundlePath> for String {
    fn from(path: BundlePath) -> String {
        path.to_string()
    }
}

fn name(text: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn prefixed(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == RANDOM_CHARS && rest.bytes().all(|b| CROCKFORD.contains(&b)))
}

/// 128 bits as 26 characters, most significant first.
fn crockford(random: [u8; ID_RANDOM_BYTES]) -> [u8; RANDOM_CHARS] {
    let mut value = u128::from_be_bytes(random);
    let mut text = [0_u8; RANDOM_CHARS];
    for place in text.iter_mut().rev() {
        *place = CROCKFORD[usize::try_from(value & 31).unwrap_or_default()];
        value >>= 5;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr<Err = IdError> + fmt::Display>(text: &str, valid: bool) {
        match text.parse::<T>() {
            Ok(id) => {
                assert!(valid, "{text} was accepted");
                assert_eq!(id.to_string(), text);
            }
            Err(error) => assert!(!valid, "{error}"),
        }
    }

    #[test]
    fn devices() {
        let id = DeviceId::mint([0xff; 16]);
        check::<DeviceId>(id.as_str(), true);
        check::<DeviceId>("d-7zzzzzzzzzzzzzzzzzzzzzzzzz", true);
        for wrong in [
            "",
            "d-",
            "d-7zzzzzzzzzzzzzzzzzzzzzzzz",
            "d-7zzzzzzzzzzzzzzzzzzzzzzzzU",
            "ro-7zzzzzzzzzzzzzzzzzzzzzzzzz",
        ] {
            check::<DeviceId>(wrong, false);
        }
    }

    #[test]
    fn names() {
        check::<ModelName>("er-beds", true);
        for wrong in ["", "-er", "ER", "a/b", "a+", "#", "a b", &"a".repeat(65)] {
            check::<ModelName>(wrong, false);
        }
        check::<StreamName>("heart_rate", true);
        check::<BundleVersion>("2026.11.23-1", true);
        check::<BundleVersion>("../1", false);
    }

    #[test]
    fn digests() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        check::<Digest>(empty, true);
        check::<Digest>(&empty.to_uppercase(), false);
        check::<Digest>(&empty[1..], false);
    }

    #[test]
    fn bundle_paths() {
        check::<BundlePath>("bundles/er-beds/1.4.0.json", true);
        check::<BundlePath>("bundles/er-beds/auto/7.json", true);
        for wrong in
            ["bundles/er-beds.json", "bundles/er-beds/x/7.json", "bundles/../7.json", "er-beds/7.json"]
        {
            check::<BundlePath>(wrong, false);
        }
        assert_eq!("bundles/b/auto/7.json".parse::<BundlePath>().unwrap().signer(), BundleSigner::Builder);
    }
}

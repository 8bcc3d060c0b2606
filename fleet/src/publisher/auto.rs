//! What a builder publishes by itself: `auto-<model>.json`, signed with nothing but its delegated key.

use std::collections::BTreeMap;

use muster_protocol::ids::{BundleSigner, ModelName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{self, AuthorError, TargetsSpec};
use muster_protocol::trust::{
    Envelope, EnvelopeError, KeyId, PublicKey, Role, Sign, Target, TrustError, TrustedSet,
};
use serde_json::Value;

use super::SINCE;

/// Retrained bundles that stay in the catalogue: as far back as a rollback can reach.
const KEEP: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum AutoError {
    #[error(
        "{path} is not a path that the builder of {model} signs; write bundles/{model}/auto/<version>.json"
    )]
    Path { path: String, model: ModelName },
    #[error(
        "this builder's key is not the one that targets.json delegates bundles/{model}/auto/* to; a publisher must delegate it"
    )]
    NotDelegated { model: ModelName },
    #[error("{path} is revoked; give the bundle another version")]
    Revoked { path: String },
    #[error("{file} from the fleet is not signed as it must be; nothing was signed over it")]
    Forged { file: String },
    #[error("{file} from the fleet cannot be read")]
    Envelope {
        file: String,
        #[source]
        source: EnvelopeError,
    },
    #[error("the root cannot be used")]
    Trust(#[from] TrustError),
    #[error("the file cannot be written")]
    Author(#[from] AuthorError),
}

/// Adds a bundle to what the builder has published (`current`, if anything) and gives the new file. The fleet that
/// handed out `targets` and `current` is not believed: both must be signed as the root says.
pub fn publish(
    root: &[u8],
    targets: &[u8],
    current: Option<&[u8]>,
    model: &ModelName,
    mut target: Target,
    signer: &dyn Sign,
    expires: Timestamp,
) -> Result<Vec<u8>, AutoError> {
    if target.path.signer() != BundleSigner::Builder || target.path.model() != model {
        return Err(AutoError::Path { path: target.path.to_string(), model: model.clone() });
    }
    if !TrustedSet::from_root(root)?.count(Role::Targets, &envelope("targets.json", targets)?).met() {
        return Err(AutoError::Forged { file: "targets.json".to_owned() });
    }
    let catalogue = TargetsSpec::parse(targets)?;
    let delegated = catalogue.delegate_keys(model);
    let revoked = catalogue.revocations()?;
    if revoked.contains_key(&target.path) {
        return Err(AutoError::Revoked { path: target.path.to_string() });
    }
    if !delegated.contains(&signer.key()) {
        return Err(AutoError::NotDelegated { model: model.clone() });
    }
    let mut spec = match current {
        None => TargetsSpec::empty(),
        Some(bytes) => {
            let file = format!("{}.json", author::auto_role(model));
            let keys: BTreeMap<KeyId, PublicKey> = delegated.iter().map(|key| (key.key_id(), *key)).collect();
            if !envelope(&file, bytes)?.count(&keys, 1).met() {
                return Err(AutoError::Forged { file });
            }
            TargetsSpec::parse(bytes)?
        }
    }
    .next(expires);
    if let Value::Object(custom) = &mut target.custom {
        custom.insert(SINCE.to_owned(), spec.version().into());
    } else {
        target.custom = serde_json::json!({ SINCE: spec.version() });
    }
    spec.put(&target);
    for path in revoked.keys() {
        spec.remove(path);
    }
    let mut listed = spec.targets();
    listed.sort_by_key(|target| std::cmp::Reverse(target.custom.get(SINCE).and_then(Value::as_u64)));
    for old in listed.iter().skip(KEEP) {
        spec.remove(&old.path);
    }
    Ok(author::sign(spec.envelope()?, &[signer])?)
}

fn envelope(file: &str, bytes: &[u8]) -> Result<Envelope, AutoError> {
    Envelope::parse(bytes).map_err(|source| AutoError::Envelope { file: file.to_owned(), source })
}

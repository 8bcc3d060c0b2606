//! New ids: the one place of this crate where randomness for names comes from.

use muster_protocol::ids::ID_RANDOM_BYTES;

#[derive(Debug, thiserror::Error)]
#[error("the system gave no randomness for a new id")]
pub struct MintError(#[source] getrandom::Error);

/// Bytes for one id's `mint`.
pub fn random() -> Result<[u8; ID_RANDOM_BYTES], MintError> {
    let mut bytes = [0; ID_RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(MintError)?;
    Ok(bytes)
}

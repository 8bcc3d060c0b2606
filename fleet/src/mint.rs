//! New ids and tokens: the one place of this crate where randomness for names and secrets comes from.

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

/// Bytes for one token: 256 bits, which nobody guesses.
pub fn secret() -> Result<[u8; 32], MintError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(MintError)?;
    Ok(bytes)
}

//! Passwords: hashed by Argon2id with the parameters that OWASP names first (19 MiB, two passes), never kept, never logged.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::mint::{self, MintError};

/// Shorter ones are guessed.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Longer ones only cost us.
pub const PASSWORD_BYTES_MAX: usize = 256;
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// A hash that no password has, so that unknown names take as long as known ones.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2R5$qAD8BTY0rGmtBXhJtbCZ7GsQYBSSBrZKD6hCPWlOZ3M";

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes")]
    Length,
    #[error("no salt for a password")]
    Mint(#[from] MintError),
    #[error("a password could not be hashed: {0}")]
    Hash(String),
}

/// Whether it may be somebody's password.
pub fn check(password: &str) -> Result<(), PasswordError> {
    let long_enough = password.chars().count() >= PASSWORD_CHARS_MIN;
    if long_enough && password.len() <= PASSWORD_BYTES_MAX { Ok(()) } else { Err(PasswordError::Length) }
}

/// Takes a while and much memory, on purpose: not on a thread that others wait for.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    let failed = |error: argon2::password_hash::Error| PasswordError::Hash(error.to_string());
    let salt = SaltString::encode_b64(&mint::random()?).map_err(failed)?;
    Ok(argon()?.hash_password(password.as_bytes(), &salt).map_err(failed)?.to_string())
}

/// As long for a person who is not there as for one who is.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    let Ok(argon) = argon() else { return false };
    let password = if password.len() > PASSWORD_BYTES_MAX { "" } else { password };
    let Ok(parsed) = PasswordHash::new(hash.unwrap_or(NOBODY)) else { return false };
    argon.verify_password(password.as_bytes(), &parsed).is_ok() && hash.is_some()
}

fn argon() -> Result<Argon2<'static>, PasswordError> {
    let params =
        Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_is_taken() {
        let hash = hash("correct horse battery").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify("correct horse battery", Some(&hash)));
        assert!(!verify("correct horse batterx", Some(&hash)));
        assert!(!verify("", Some(&hash)));
        assert!(!verify("correct horse battery", None));
        assert!(
            PasswordHash::new(NOBODY).unwrap().hash.is_some(),
            "else unknown names would be told by time"
        );
    }

    #[test]
    fn lengths() {
        for (password, good) in [("short", false), ("twelve chars", true), (&"x".repeat(257), false)] {
            assert_eq!(check(password).is_ok(), good, "{password}");
        }
    }
}

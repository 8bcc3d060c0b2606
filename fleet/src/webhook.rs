//! Signatures of webhooks, given and taken, as Standard Webhooks (standardwebhooks.com) and `MLflow` write them:
//!
//! ```text
//!   v1,BASE64(HMAC-SHA256(secret, "id.timestamp.body"))        timestamp: seconds, at most five minutes off
//! ```

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use muster_protocol::time::Timestamp;

/// How far a signature's time may be from ours, seconds; older ones may have been recorded by somebody.
pub const WINDOW_S: i64 = 300;
const SECRET_BYTES_MIN: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("what follows whsec_ is no base64")]
    Encoding,
    #[error("a webhook's secret has at least {SECRET_BYTES_MIN} bytes")]
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the webhook's timestamp is no number of seconds")]
    Timestamp,
    #[error("the webhook was signed more than {WINDOW_S} s from now")]
    Window,
    #[error("no signature of the webhook is right")]
    Signature,
}

/// A secret as Standard Webhooks writes it (`whsec_` and base64), or as people do.
pub fn key(secret: &str) -> Result<hmac::Key, SecretError> {
    let bytes = match secret.strip_prefix("whsec_") {
        Some(encoded) => BASE64_STANDARD.decode(encoded).map_err(|_| SecretError::Encoding)?,
        None => secret.as_bytes().to_vec(),
    };
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(SecretError::Short);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

pub fn sign(key: &hmac::Key, id: &str, seconds: i64, body: &[u8]) -> String {
    let tag = hmac::sign(key, &signed(id, &seconds.to_string(), body));
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

/// `signatures` may be several, with spaces between them: of an old and a new secret.
pub fn verify(
    key: &hmac::Key,
    (id, seconds, signatures): (&str, &str, &str),
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignatureError> {
    let at: i64 = seconds.parse().map_err(|_| SignatureError::Timestamp)?;
    if (now.as_millis() / 1000).saturating_sub(at).saturating_abs() > WINDOW_S {
        return Err(SignatureError::Window);
    }
    let message = signed(id, seconds, body);
    let is_right = |signature: &str| {
        let tag = signature.strip_prefix("v1,").and_then(|tag| BASE64_STANDARD.decode(tag).ok());
        // In constant time.
        tag.is_some_and(|tag| hmac::verify(key, &message, &tag).is_ok())
    };
    if signatures.split(' ').take(8).any(is_right) { Ok(()) } else { Err(SignatureError::Signature) }
}

fn signed(id: &str, seconds: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", seconds.as_bytes(), b".", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const AT: i64 = 1_614_265_330;
    /// The example of the Standard Webhooks specification.
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(sign(&key, ID, AT, BODY), SIGNATURE);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let check =
            |id, seconds, signatures, body, now| verify(&key, (id, seconds, signatures), body, at(now));
        assert_eq!(check(ID, "1614265330", SIGNATURE, BODY, AT + 299), Ok(()));
        let two = format!("v1,AAAA {SIGNATURE}");
        assert_eq!(check(ID, "1614265330", &two, BODY, AT), Ok(()));
        assert_eq!(check(ID, "1614265330", SIGNATURE, BODY, AT + 301), Err(SignatureError::Window));
        assert_eq!(check(ID, "1614265331", SIGNATURE, BODY, AT), Err(SignatureError::Signature));
        assert_eq!(check("other", "1614265330", SIGNATURE, BODY, AT), Err(SignatureError::Signature));
        assert_eq!(check(ID, "1614265330", SIGNATURE, b"{}", AT), Err(SignatureError::Signature));
        assert_eq!(check(ID, "1614265330", "v1,", BODY, AT), Err(SignatureError::Signature));
        assert_eq!(check(ID, "soon", SIGNATURE, BODY, AT), Err(SignatureError::Timestamp));
    }

    #[test]
    fn short_secrets_are_none() {
        assert_eq!(key("short").map(drop), Err(SecretError::Short));
        assert_eq!(key("whsec_!").map(drop), Err(SecretError::Encoding));
    }
}

//! Signatures of Standard Webhooks: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, one for each secret.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";
const KEY_BYTES_MIN: usize = 24;
const KEY_BYTES_MAX: usize = 64;

/// A signing secret. Its `Debug` output hides it.
pub(super) struct SigningKey(Zeroizing<Vec<u8>>);

/// What is wrong with the text of a secret. It contains nothing of the text: the decoder's error would quote a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It does not begin with `whsec_`.
    #[error("a secret begins with {PREFIX}")]
    NoPrefix,
    /// The rest is not base64.
    #[error("the text after {PREFIX} is not base64")]
    NotBase64,
    /// It is too short or too long.
    #[error("a secret has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes; this one has {bytes}")]
    WrongLength {
        /// Its length.
        bytes: usize,
    },
}

impl SigningKey {
    /// Parses `whsec_` and base64.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub(super) fn parse(text: &str) -> Result<Self, InvalidKey> {
        let coded = text.strip_prefix(PREFIX).ok_or(InvalidKey::NoPrefix)?;
        let bytes = STANDARD.decode(coded).map_err(|_| InvalidKey::NotBase64)?;
        let bytes = Zeroizing::new(bytes);
        if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(InvalidKey::WrongLength { bytes: bytes.len() })
        }
    }

    fn signature(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        // HMAC accepts keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// The `webhook-signature` header: a signature for each secret, so that secrets can be rotated.
pub(super) fn signature_header(keys: &[SigningKey], id: &str, timestamp_s: u64, body: &[u8]) -> String {
    keys.iter().map(|key| key.signature(id, timestamp_s, body)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_is_signed_as_published() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed =
            signature_header(&[key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_invalid_secret_is_rejected_without_being_quoted() {
        for bad in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***", "whsec_c2hvcnQ="] {
            let why = SigningKey::parse(bad).unwrap_err().to_string();
            assert!(!why.contains("MfKQ") && !why.contains("c2hv"), "{why}");
        }
        assert_eq!(
            format!("{:?}", SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()),
            "SigningKey(…)"
        );
    }
}

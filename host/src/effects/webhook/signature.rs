//! Webhook signatures (HMAC): they show a receiver that a message is ours, complete and recent, as Standard Webhooks
//! specifies: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::time::Timestamp;

const PREFIX: &str = "whsec_";

/// Secret that sender and receiver share.
pub(crate) struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// Parses a secret such as `whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD`; `None` if it is malformed or weak.
    pub(crate) fn parse(secret: &str) -> Option<Self> {
        let bytes = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
        (24..=64).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// Returns the value of the header `webhook-signature`. It also covers the message's id and the time of the
    /// attempt, so that nobody who has an old message can change either.
    pub(crate) fn sign(&self, id: &str, at: Timestamp, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any key length is valid");
        mac.update(format!("{id}.{}.{body}", at.seconds()).as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_matches_other_implementations() {
        let key = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let at = Timestamp::from_millis(1_614_265_330_000).expect("a time");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_its_prefix_and_24_to_64_bytes() {
        let secret = |bytes| format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]));
        assert!([24, 32, 64].iter().all(|&bytes| SigningSecret::parse(&secret(bytes)).is_some()));
        assert!([0, 23, 65].iter().all(|&bytes| SigningSecret::parse(&secret(bytes)).is_none()));
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64 at all, whatever it is"] {
            assert!(SigningSecret::parse(text).is_none(), "{text}");
        }
    }
}

//! Signatures by which a receiver knows that a message is ours, whole and recent, as Standard Webhooks has them:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::time::Timestamp;

const PREFIX: &str = "whsec_";

/// What sender and receiver share.
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Reads a secret such as `whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD`; `None` when it is none, or a weak one.
    pub(super) fn parse(secret: &str) -> Option<Self> {
        let bytes = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
        (24..=64).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The header `webhook-signature`: over the message's id and the time of the attempt as well, so that neither can
    /// be changed by who holds an old message.
    pub(super) fn sign(&self, id: &str, at: Timestamp, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length will do");
        mac.update(format!("{id}.{}.{body}", at.seconds()).as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_that_other_implementations_make() {
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let at = Timestamp::from_millis(1_614_265_330_000).expect("a time");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_its_prefix_and_24_to_64_bytes() {
        let secret = |bytes| format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]));
        assert!([24, 32, 64].iter().all(|&bytes| Key::parse(&secret(bytes)).is_some()));
        assert!([0, 23, 65].iter().all(|&bytes| Key::parse(&secret(bytes)).is_none()));
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64 at all, whatever it is"] {
            assert!(Key::parse(text).is_none(), "{text}");
        }
    }
}

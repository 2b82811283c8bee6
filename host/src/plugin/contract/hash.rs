//! SHA-256 hashes of plugin code, in hexadecimal.
//!
//! A hash also names the file that keeps the code.

use serde::{Deserialize, Deserializer, de};
use sha2::{Digest, Sha256};

pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Deserialises a hash and refuses any other text, because a hash names a file.
pub(crate) fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_hash(&text) {
        return Ok(text);
    }
    Err(de::Error::custom(format_args!("{text:?} is not a hash: expected a SHA-256 in hexadecimal")))
}

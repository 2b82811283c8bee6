//! Sealed cursors for lists: a holder can neither read one nor forge another.
//!
//! A cursor contains the id and the sort value of the item that a page ended with. Its holder may not have been shown
//! that item, and a forged cursor would probe places in a list that nobody was sent to.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{Aead, KeyInit},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Key that seals and opens cursors.
pub struct Cursors(XChaCha20Poly1305);

/// Long enough for a random nonce per cursor.
const NONCE_BYTES: usize = 24;

impl Cursors {
    /// Derives the key from `secret`. Cursors stay valid after a restart and on other nodes that have the same secret.
    pub fn new(secret: &[u8]) -> Self {
        // A derived key, so that the secret can have other uses.
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("any key length is valid");
        mac.update(b"leadwire cursors");
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        Self(XChaCha20Poly1305::new(&key.into()))
    }

    pub(crate) fn seal(&self, content: &[u8]) -> String {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let sealed = self.0.encrypt(&nonce.into(), content).expect("a cursor is far below the cipher's limit");
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())
    }

    /// Returns the sealed content; `None` unless it was sealed with this secret.
    pub(crate) fn open(&self, text: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        self.0.decrypt(&(*nonce).into(), sealed).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_readable_only_with_its_secret() {
        let cursors = Cursors::new(b"one secret");
        let sealed = cursors.seal(b"New roof");
        assert_eq!(Cursors::new(b"one secret").open(&sealed).as_deref(), Some(&b"New roof"[..]));
        assert_eq!(Cursors::new(b"another").open(&sealed), None);
        assert_ne!(cursors.seal(b"New roof"), sealed, "equal places cannot be told to be equal");
    }

    #[test]
    fn a_cursor_is_encrypted_and_authenticated() {
        let cursors = Cursors::new(b"one secret");
        let sealed = cursors.seal(b"New roof");
        let bytes = URL_SAFE_NO_PAD.decode(&sealed).expect("base64");
        assert!(!String::from_utf8_lossy(&bytes).contains("roof"));
        for index in 0..bytes.len() {
            let mut edited = bytes.clone();
            edited[index] ^= 1;
            assert_eq!(cursors.open(&URL_SAFE_NO_PAD.encode(edited)), None, "byte {index}");
        }
        for text in ["", "e30", "no base64!", &sealed[..20], &sealed[..sealed.len() - 4], &format!("{sealed}AAAA")] {
            assert_eq!(cursors.open(text), None, "{text}");
        }
    }
}

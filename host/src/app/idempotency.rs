//! A client may send the same request twice; with a key it is carried out once.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{Error, Result};
use crate::{
    domain::{event::Actor, input::Invalid, time::Timestamp},
    store::{self, Reader, Tx},
};

/// How long a key is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_CHARS: usize = 255;

/// A client's name for one request; keys of two users have nothing to do with each other.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// # Errors
    /// When `key` is empty, longer than 255 characters or not visible ASCII; `field` is where it came from.
    pub fn parse(field: &str, key: &str) -> std::result::Result<Self, Invalid> {
        let fits = (1..=MAX_CHARS).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if fits {
            return Ok(Self(key.into()));
        }
        Err(Invalid::one(field, "invalid_key", format!("{field} must be 1 to {MAX_CHARS} visible ASCII characters")))
    }

    /// Binds the key to what is asked for.
    pub(super) fn for_request(self, request: &impl Serialize) -> KeyedRequest {
        let digest = Sha256::digest(serde_json::to_vec(request).expect("requests are plain JSON"));
        let fingerprint = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        KeyedRequest { key: self.0, fingerprint }
    }
}

/// A key with the request it stands for.
pub(super) struct KeyedRequest {
    key: String,
    fingerprint: String,
}

impl KeyedRequest {
    /// What the request led to, if it was carried out before.
    pub(super) async fn look_up<T: DeserializeOwned>(
        &self,
        reader: &mut Reader,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Option<T>> {
        let Some(done) = reader.done(actor.id, &self.key, now.minus(REMEMBERED)).await? else { return Ok(None) };
        if done.fingerprint != self.fingerprint {
            return Err(Error::KeyReused);
        }
        serde_json::from_value(done.outcome).map(Some).map_err(|error| Error::Internal(error.into()))
    }

    pub(super) async fn remember(
        &self,
        tx: &mut Tx<'_>,
        actor: &Actor,
        outcome: &impl Serialize,
        at: Timestamp,
    ) -> Result<()> {
        let outcome = serde_json::to_value(outcome).expect("outcomes are plain JSON");
        let done = store::idempotency::Done { fingerprint: self.fingerprint.clone(), outcome };
        Ok(tx.save_done(actor.id, &self.key, &done, at, at.minus(REMEMBERED)).await?)
    }
}

//! Idempotency keys: a request that a client sends twice is carried out once.
//!
//! The outcome is stored for 24 hours in the transaction that produced it.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    app::error::{Error, Result},
    domain::{actor::Actor, input::Invalid, time::Timestamp},
    store::{
        self,
        handle::{Reader, Tx},
    },
};

/// Retention of a key.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Idempotency key, scoped to one user.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    pub const MAX_CHARS: usize = 255;

    /// Validates a key; `field` is where it came from.
    ///
    /// # Errors
    /// When `key` is empty, longer than 255 characters or not visible ASCII.
    pub fn parse(field: &str, key: &str) -> std::result::Result<Self, Invalid> {
        let fits = (1..=Self::MAX_CHARS).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if fits {
            return Ok(Self(key.into()));
        }
        let message = format!("{field} must be 1 to {} visible ASCII characters", Self::MAX_CHARS);
        Err(Invalid::one(field, "invalid_key", message))
    }

    /// Binds the key to a fingerprint of the request.
    pub(crate) fn for_request(self, request: &impl Serialize) -> KeyedRequest {
        let digest = Sha256::digest(serde_json::to_vec(request).expect("requests are plain JSON"));
        let fingerprint = hex::encode(digest);
        KeyedRequest { key: self.0, fingerprint }
    }
}

/// Idempotency key with the fingerprint of its request.
pub(crate) struct KeyedRequest {
    key: String,
    fingerprint: String,
}

impl KeyedRequest {
    /// Stored outcome of the request, if it was carried out before.
    pub(crate) async fn look_up<T: DeserializeOwned>(
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

    pub(crate) async fn remember(
        &self,
        tx: &mut Tx<'_>,
        actor: &Actor,
        outcome: &impl Serialize,
        at: Timestamp,
    ) -> Result<()> {
        let outcome = serde_json::to_value(outcome).expect("outcomes are plain JSON");
        let done = store::idempotency::StoredOutcome { fingerprint: self.fingerprint.clone(), outcome };
        Ok(tx.save_done(actor.id, &self.key, &done, at, at.minus(REMEMBERED)).await?)
    }
}

//! Guards that make a command run once: an idempotency key, or the effect that it executes.

use std::sync::Arc;

use crate::{
    app::{
        error::{Error, Result},
        idempotency::KeyedRequest,
    },
    domain::{actor::Cause, time::Timestamp},
    store::handle::Tx,
};

/// Effect that is being executed by a command.
pub(crate) struct EffectGuard {
    pub(crate) id: i64,
    pub(crate) cause: Cause,
}

impl EffectGuard {
    /// Marks the effect as done, provided that the rest of the transaction commits.
    ///
    /// # Errors
    /// When it is done already, or was dropped.
    pub(crate) async fn finish(&self, tx: &mut Tx<'_>, at: Timestamp) -> Result<()> {
        if tx.finish_effect(self.id, at).await? { Ok(()) } else { Err(Error::NotFound("effect")) }
    }
}

/// Mechanism that makes a command run once.
#[derive(Clone)]
pub(crate) enum OnceBy {
    /// None: a repeated request is carried out again.
    No,
    Key(Arc<KeyedRequest>),
    Effect(Arc<EffectGuard>),
}

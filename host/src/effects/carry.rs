//! Does what one plugin wants, one effect after the other in the order in which they were staged.
//!
//! What cannot ever be done is parked at once; what fails for the moment holds up what follows it until it is done,
//! or was tried often enough. Webhooks are sent beside.

use std::sync::Arc;

use tokio::{select, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Shared, Step, wait};
use crate::{app, auth::Principal, store::effect::Effect};

pub(super) struct Carrying {
    shared: Arc<Shared>,
    plugin: String,
    stop: CancellationToken,
}

impl Carrying {
    pub(super) fn new(shared: Arc<Shared>, plugin: String, stop: CancellationToken) -> Self {
        Self { shared, plugin, stop }
    }

    /// Runs until it is stopped. While the plugin is not loaded, what it wants waits.
    pub(super) async fn run(self) {
        let mut staged = self.shared.app.store().staged();
        let mut changed = self.shared.app.plugins().changed();
        while !self.stop.is_cancelled() {
            let (_, _) = (staged.borrow_and_update(), changed.borrow_and_update());
            let outcome = self.step().await;
            let until = match Step::of(outcome, &self.plugin, "do what the plugin wants") {
                Step::Again => continue,
                Step::Gone => return,
                Step::Wait(until) => until,
            };
            select! {
                () = self.stop.cancelled() => {}
                () = wait(until) => {}
                _ = staged.changed() => {}
                _ = changed.changed() => {}
            }
        }
    }

    async fn step(&self) -> app::Result<Step> {
        let app = &self.shared.app;
        if self.shared.generation(&self.plugin).is_none() {
            return Ok(Step::Wait(None));
        }
        let Some(effect) = app.store().read().await?.next_effect(&self.plugin).await? else {
            return Ok(Step::Wait(None));
        };
        let now = app.now();
        if effect.due_at > now {
            return Ok(Step::Wait(Some(Instant::now() + effect.due_at.since(now))));
        }
        match app.plugins().may(&self.plugin, &effect.name) {
            None => return Ok(Step::Wait(None)),
            Some(true) => {}
            Some(false) => {
                self.shared.park_ungranted(&effect).await?;
                return Ok(Step::Again);
            }
        }
        let Some(actor) = app.plugin_actor(&self.plugin).await? else { return Ok(Step::Gone) };
        self.carry_out(&actor, &effect).await?;
        Ok(Step::Again)
    }

    async fn carry_out(&self, actor: &Principal, effect: &Effect) -> app::Result<()> {
        match self.shared.app.carry_out_effect(actor, effect).await {
            Ok(()) => {
                metrics::counter!("leadwire_effects_done_total", "plugin" => self.plugin.clone()).increment(1);
                Ok(())
            }
            // It says nothing about the effect, which is not to use up its tries.
            Err(error) if error.is_outage() => Err(error),
            Err(error) if is_final(&error) => self.shared.fail(effect, &error.to_string(), None).await,
            Err(error) => self.shared.fail(effect, &error.to_string(), self.shared.wait(effect.attempts + 1)).await,
        }
    }
}

/// Whether trying again can do no good.
fn is_final(error: &app::Error) -> bool {
    use app::Error::{
        Busy, Conflict, Contended, DatabaseCorrupt, DatabaseUnavailable, Forbidden, Internal, Invalid, InvalidQuery,
        KeyReused, NotFound, Overloaded, PluginUnavailable, RateLimited, Refused, Unauthenticated,
    };
    match error {
        Unauthenticated { .. } | Forbidden { .. } | NotFound(_) | Invalid(_) | InvalidQuery { .. } => true,
        Conflict { .. } | KeyReused | Refused(_) => true,
        PluginUnavailable(_)
        | RateLimited { .. }
        | Overloaded { .. }
        | Contended
        | Busy(_)
        | DatabaseUnavailable(_) => false,
        DatabaseCorrupt { .. } | Internal(_) => false,
    }
}

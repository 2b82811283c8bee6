//! Executor: executes the effects of one plugin one after the other, in the order in which they were staged.
//!
//! An effect that can never succeed is parked at once. One that fails for the moment holds up those behind it until it
//! is done, or was tried often enough. Webhooks are sent separately, by `deliver`.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, App},
    auth::Principal,
    domain::plugin_name::PluginName,
    effects::{
        context::EffectsContext,
        task::{EffectTask, TaskStep},
    },
    store::effect::StoredEffect,
};

pub(crate) struct ExecuteTask {
    shared: Arc<EffectsContext>,
    plugin: PluginName,
}

impl ExecuteTask {
    pub(crate) fn new(shared: Arc<EffectsContext>, plugin: PluginName) -> Self {
        Self { shared, plugin }
    }

    /// Runs until `stop`. While the plugin is not loaded, its effects wait.
    pub(crate) async fn run(mut self, stop: &CancellationToken) {
        self.run_until(stop).await;
    }

    async fn execute(&self, actor: &Principal, effect: &StoredEffect) -> app::Result<()> {
        match self.shared.app.carry_out_effect(actor, effect).await {
            Ok(()) => {
                metrics::counter!("leadwire_effects_done_total", "plugin" => self.plugin.to_string()).increment(1);
                Ok(())
            }
            // An outage says nothing about the effect, so it does not use up an attempt.
            Err(error) if error.is_outage() => Err(error),
            Err(error) if is_final(&error) => self.shared.fail(effect, &error.to_string(), None).await,
            Err(error) => self.shared.fail(effect, &error.to_string(), self.shared.wait(effect.attempts + 1)).await,
        }
    }
}

impl EffectTask for ExecuteTask {
    const ACTION: &str = "execute the effects of the plugin";

    fn app(&self) -> &App {
        &self.shared.app
    }

    fn plugin(&self) -> &str {
        &self.plugin
    }

    async fn step(&mut self) -> app::Result<TaskStep> {
        let app = &self.shared.app;
        if self.shared.generation(&self.plugin).is_none() {
            return Ok(TaskStep::Wait(None));
        }
        let Some(effect) = app.store().read().await?.next_effect(&self.plugin).await? else {
            return Ok(TaskStep::Wait(None));
        };
        let now = app.now();
        if effect.due_at > now {
            return Ok(TaskStep::Wait(Some(Instant::now() + effect.due_at.since(now))));
        }
        match app.plugins().may(&self.plugin, &effect.name) {
            None => return Ok(TaskStep::Wait(None)),
            Some(true) => {}
            Some(false) => {
                self.shared.park_ungranted(&effect).await?;
                return Ok(TaskStep::Again);
            }
        }
        let Some(actor) = app.plugin_actor(&self.plugin).await? else { return Ok(TaskStep::Gone) };
        self.execute(&actor, &effect).await?;
        Ok(TaskStep::Again)
    }
}

/// Returns true if a retry cannot help.
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

//! Delivery of one plugin's webhooks, several at a time and in no order: a receiver that is slow or down delays no
//! other effect.
//!
//! A webhook is marked as done after it was sent, so a process that ends in between sends it again, under the same id.

use std::{collections::HashMap, future::pending, sync::Arc};

use futures_util::FutureExt;
use serde_json::{Map, Value};
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    app::{self, App},
    domain::{
        field::{Field, FieldKind},
        input::{Input, Invalid},
        plugin_name::PluginName,
    },
    effects::{
        context::{EffectsContext, PAUSE},
        task::{EffectTask, TaskStep},
        webhook::{WebhookMessage, answer::SendError},
    },
    plugin::WebhookGrant,
    store::effect::{StoredEffect, WEBHOOK},
};

const URL: Field = Field::new("url", FieldKind::Text { min: 1, max: 2048 }, "Address of the webhook.").required();
const TYPE: Field = Field::new("type", FieldKind::Text { min: 1, max: 200 }, "Type of the message.").required();

pub(crate) struct DeliverTask {
    shared: Arc<EffectsContext>,
    plugin: PluginName,
    sending: JoinSet<()>,
    /// Effects that are being sent.
    under_way: HashMap<Id, i64>,
}

/// Message that an effect asks to send.
struct WebhookInput {
    url: String,
    kind: String,
    data: Value,
}

impl DeliverTask {
    pub(crate) fn new(shared: Arc<EffectsContext>, plugin: PluginName) -> Self {
        Self { shared, plugin, sending: JoinSet::new(), under_way: HashMap::new() }
    }

    /// Runs until `stop`, then waits for the webhooks in progress.
    pub(crate) async fn run(mut self, stop: &CancellationToken) {
        self.run_until(stop).await;
        while self.sending.join_next().await.is_some() {}
    }
}

impl EffectTask for DeliverTask {
    const ACTION: &str = "send the plugin's webhooks";

    fn app(&self) -> &App {
        &self.shared.app
    }

    fn plugin(&self) -> &str {
        &self.plugin
    }

    /// Starts the webhooks that are due, up to `parallel_webhooks` at a time.
    async fn step(&mut self) -> app::Result<TaskStep> {
        let (app, most) = (&self.shared.app, self.shared.settings.parallel_webhooks);
        let Some(grant) = app.plugins().webhook_grant(&self.plugin) else { return Ok(TaskStep::Wait(None)) };
        if self.under_way.len() >= most {
            return Ok(TaskStep::Wait(None));
        }
        // Webhooks in progress are pending as well.
        let limit = u32::try_from(most.saturating_mul(2)).unwrap_or(u32::MAX);
        let pending = app.store().read().await?.pending_effects(&self.plugin, WEBHOOK, limit).await?;
        let now = app.now();
        for effect in pending {
            if self.under_way.values().any(|id| *id == effect.id) {
                continue;
            }
            if effect.due_at > now {
                return Ok(TaskStep::Wait(Some(Instant::now() + effect.due_at.since(now))));
            }
            if self.under_way.len() >= most {
                break;
            }
            if app.plugins().may(&self.plugin, WEBHOOK) == Some(false) {
                self.shared.park_ungranted(&effect).await?;
                continue;
            }
            let id = effect.id;
            let task = self.sending.spawn(deliver(self.shared.clone(), effect, grant.clone()));
            self.under_way.insert(task.id(), id);
        }
        Ok(TaskStep::Wait(None))
    }

    async fn woken(&mut self) {
        match self.sending.join_next_with_id().await {
            Some(sent) => {
                let id = sent.map_or_else(|broken| broken.id(), |(id, ())| id);
                self.under_way.remove(&id);
            }
            None => pending().await,
        }
    }
}

/// Makes one attempt and records its outcome; retries the recording until it succeeds.
async fn deliver(shared: Arc<EffectsContext>, effect: StoredEffect, grant: WebhookGrant) {
    let sent = send(&shared, &effect, &grant).await;
    let plugin = &effect.plugin;
    while let Err(error) = record(&shared, &effect, &sent).await {
        error!(
            plugin = plugin.as_str(),
            effect = effect.id,
            "cannot record the result of a webhook, retrying: {error}"
        );
        sleep(PAUSE).await;
    }
}

async fn send(shared: &EffectsContext, effect: &StoredEffect, grant: &WebhookGrant) -> Result<(), SendError> {
    let refused = |invalid: Invalid| SendError { reason: invalid.to_string(), retry: false, retry_after: None };
    let WebhookInput { url, kind, data } = WebhookInput::parse(effect.input.clone()).map_err(refused)?;
    // The same id at each attempt. The epoch is in it because effects of another database may have the same number.
    let (plugin, id) = (&effect.plugin, format!("{}_{}", shared.app.store().epoch(), effect.id));
    let message = WebhookMessage { plugin, id: &id, url: &url, kind: &kind, at: effect.happened_at, data: &data };
    shared.sender.send(grant, &message).await
}

async fn record(shared: &EffectsContext, effect: &StoredEffect, sent: &Result<(), SendError>) -> app::Result<()> {
    let error = match sent {
        Ok(()) => {
            let (id, now) = (effect.id, shared.app.now());
            let done = shared.app.store().write_in_group(move |tx| tx.finish_effect(id, now).boxed());
            done.await?;
            metrics::counter!("leadwire_effects_done_total", "plugin" => effect.plugin.to_string()).increment(1);
            return Ok(());
        }
        Err(error) => error,
    };
    let again_in = shared.wait(effect.attempts + 1).filter(|_| error.retry);
    let again_in = again_in.map(|wait| wait.max(error.retry_after.unwrap_or_default()));
    shared.fail(effect, &error.reason, again_in).await
}

impl WebhookInput {
    fn parse(mut input: Map<String, Value>) -> Result<Self, Invalid> {
        let data = input.shift_remove("data").unwrap_or_default();
        Input::parse(input, &[&URL, &TYPE], |input| {
            let (url, kind) = (input.text(&URL), input.text(&TYPE));
            Some(Self { url: url?, kind: kind?, data })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn webhook_input_is_parsed_and_invalid_fields_are_named() {
        let faults = |input: Value| {
            let Value::Object(input) = input else { unreachable!("written as an object") };
            WebhookInput::parse(input)
                .err()
                .map(|Invalid(faults)| faults.into_iter().map(|fault| fault.field).collect::<Vec<_>>())
        };
        let url = "https://hooks.example.com";
        assert_eq!(faults(json!({"url": url, "type": "lead.won", "data": [1]})), None);
        assert_eq!(faults(json!({"url": url, "type": "lead.won"})), None);
        assert_eq!(faults(json!({"type": "lead.won"})), Some(vec!["url".into()]));
        assert_eq!(faults(json!({"url": url, "type": 1, "to": 2})), Some(vec!["type".into(), "to".into()]));
    }
}

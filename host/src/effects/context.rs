//! State that all effect tasks share, and their rules for failures: back-off between attempts, parked effects (dead
//! letters), and the limit of open effects per plugin.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tracing::warn;

use crate::{
    app::{self, App},
    domain::{counter::Generation, plugin_name::PluginName},
    effects::{settings::EffectsConfig, webhook::Sender},
    store::effect::StoredEffect,
};

/// Time that effects in progress get to finish at shutdown.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Pause after a database error, and before a task that broke down is restarted.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
pub(crate) const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// State that all effect tasks share.
pub(crate) struct EffectsContext {
    pub(crate) app: App,
    pub(crate) settings: EffectsConfig,
    pub(crate) sender: Sender,
}

impl EffectsContext {
    /// Returns the generation of the plugin that follows the log at the moment; `None` if it is not loaded or does not
    /// follow the log.
    pub(crate) fn generation(&self, plugin: &PluginName) -> Option<Generation> {
        let follower = self.app.plugins().followers().into_iter().find(|follower| follower.name == *plugin);
        follower.map(|follower| follower.generation)
    }

    /// Returns the delay after that many failed attempts (back-off); `None` if there were enough.
    pub(crate) fn wait(&self, attempts: u32) -> Option<Duration> {
        let EffectsConfig { attempts: most, first_delay, longest_delay, .. } = self.settings;
        if attempts >= most {
            return None;
        }
        // Not `Backoff`: attempts are counted in the database, so that a restart does not begin anew; and there is jitter.
        let delays = ExponentialBuilder::new()
            .with_min_delay(first_delay)
            .with_max_delay(longest_delay)
            .without_max_times()
            .with_jitter();
        delays.build().nth(attempts.saturating_sub(1) as usize)
    }

    /// Returns the maximum number of effects of the plugin that may be pending or parked.
    pub(crate) fn most_open(&self, plugin: &PluginName) -> u64 {
        self.app.plugins().limits(plugin).unwrap_or_default().open_effects
    }

    /// Returns true if there is room for one more effect.
    pub(crate) async fn has_room(&self, plugin: &PluginName) -> app::Result<bool> {
        let most = self.most_open(plugin);
        Ok(self.app.store().read().await?.open_effects(plugin, most).await? < most)
    }

    /// Parks an effect that was granted when the plugin answered, and whose grant was taken back since.
    pub(crate) async fn park_ungranted(&self, effect: &StoredEffect) -> app::Result<()> {
        let StoredEffect { name, plugin, .. } = effect;
        self.fail(effect, &format!("{name} is no longer granted, or {plugin} no longer requests it"), None).await
    }

    /// Records a failed attempt: the effect is retried after `again_in`, or parked if that is `None`.
    pub(crate) async fn fail(
        &self,
        effect: &StoredEffect,
        reason: &str,
        again_in: Option<Duration>,
    ) -> app::Result<()> {
        let (StoredEffect { id, plugin, name, .. }, now) = (effect, self.app.now());
        if again_in.is_none() {
            warn!(plugin = plugin.as_str(), effect = id, "parked {name} of {plugin}: {reason}");
            metrics::counter!("leadwire_effects_parked_total", "plugin" => plugin.to_string()).increment(1);
        }
        let mut tx = self.app.store().write().await?;
        tx.fail_effect(*id, reason, again_in.map(|wait| now.plus(wait)), now).await?;
        Ok(tx.commit().await?)
    }
}

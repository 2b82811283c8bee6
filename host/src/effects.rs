//! Effects: plugins follow the log, each is asked about its lines in log order, and the effects that it wants are
//! executed in its name.
//!
//! Each plugin has its own cursor in the log, kept in the database. `follow` advances it in the transaction that
//! stages the answer; `execute` executes each staged effect in the transaction that marks it as done; `deliver` sends
//! the webhooks. So the process may end at any moment: what it had not yet written is asked or done again, and
//! nothing but a webhook is done twice (at-least-once delivery).

mod context;
mod deliver;
mod execute;
mod follow;
pub mod settings;
mod task;
pub mod webhook;

use std::{collections::HashMap, sync::Arc};

use tokio::{
    select,
    task::{Id, JoinSet},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    app::{self, App},
    domain::plugin_name::PluginName,
    effects::{
        context::{EffectsContext, GRACE, PAUSE, PRUNE_EVERY},
        deliver::DeliverTask,
        execute::ExecuteTask,
        follow::FollowTask,
        webhook::Sender,
    },
};

pub use settings::EffectsConfig;

/// Runs the effects of all plugins until it is stopped.
pub struct Effects {
    shared: Arc<EffectsContext>,
}

impl Effects {
    /// Registers the plugins that follow the log. A plugin that is new to this log is asked about what is appended from
    /// now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(app: App, settings: EffectsConfig) -> app::Result<Self> {
        for follower in app.plugins().followers() {
            app.follow(&follower.name).await?;
        }
        let sender = Sender::new(settings.webhook_timeout, Arc::clone(app.clock()));
        Ok(Self { shared: Arc::new(EffectsContext { app, settings, sender }) })
    }

    /// Runs until `stop`, then gives effects in progress a short time to finish (graceful shutdown).
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = Tasks { shared: self.shared, stop: stop.clone(), set: JoinSet::new(), names: HashMap::new() };
        stop.run_until_cancelled(tasks.look_after()).await;
        let ended = async { while tasks.set.join_next().await.is_some() {} };
        if timeout(GRACE, ended).await.is_err() {
            warn!("aborted effects in progress; they run again after the restart");
        }
    }
}

/// One task per plugin that follows the log.
struct Tasks {
    shared: Arc<EffectsContext>,
    stop: CancellationToken,
    set: JoinSet<()>,
    names: HashMap<Id, PluginName>,
}

impl Tasks {
    async fn look_after(&mut self) {
        let mut changed = self.shared.app.plugins().changed();
        let mut prune = interval(PRUNE_EVERY);
        prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            changed.borrow_and_update();
            let started = self.start_missing().await;
            if let Err(error) = &started {
                error!("cannot start the log followers of plugins, retrying: {error}");
            }
            let retry = async {
                match started {
                    Ok(()) => std::future::pending().await,
                    Err(_) => sleep(PAUSE).await,
                }
            };
            select! {
                // Never fails: the set of plugins lives as long as the app.
                _ = changed.changed() => {}
                () = retry => {}
                Some(ended) = self.set.join_next_with_id(), if !self.set.is_empty() => {
                    let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
                    let plugin = self.names.remove(&id);
                    if let (Err(broken), Some(plugin)) = (ended, plugin) {
                        error!(plugin = plugin.as_str(), "effects task of {plugin} failed, restarting: {broken}");
                    }
                    // A plugin that was removed is still loaded for a moment, and its task must not be restarted.
                    sleep(PAUSE).await;
                }
                _ = prune.tick() => self.prune().await,
            }
        }
    }

    async fn start_missing(&mut self) -> app::Result<()> {
        for follower in self.shared.app.plugins().followers() {
            if self.names.values().any(|name| *name == follower.name) {
                continue;
            }
            self.shared.app.follow(&follower.name).await?;
            let task = follow(self.shared.clone(), follower.name.clone(), self.stop.clone());
            let id = self.set.spawn(task).id();
            self.names.insert(id, follower.name);
        }
        Ok(())
    }

    async fn prune(&self) {
        let EffectsContext { app, settings, .. } = &*self.shared;
        if let Err(error) = app.forget_effects(app.now().minus(settings.keep_done)).await {
            warn!("cannot delete old effects, retrying later: {error}");
        }
    }
}

/// Runs the follower, the executor and the webhook delivery of one plugin, until `stop` or until it is removed.
async fn follow(shared: Arc<EffectsContext>, plugin: PluginName, stop: CancellationToken) {
    let gone = stop.child_token();
    let following = async {
        FollowTask::new(shared.clone(), plugin.clone()).run(&gone).await;
        gone.cancel();
    };
    let executing = ExecuteTask::new(shared.clone(), plugin.clone());
    let delivering = DeliverTask::new(shared.clone(), plugin.clone());
    tokio::join!(following, executing.run(&gone), delivering.run(&gone));
}

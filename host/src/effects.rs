//! What follows from an event: plugins are asked in the order of the log, and what they want is done in their name.
//!
//! Each plugin has a place in the log of its own, kept in the database. `ask` moves it, in the transaction that
//! stages the answer; `carry` does what was staged, each effect in the transaction that marks it as done, and `post`
//! sends the webhooks. So a process may end at any moment: what it had not yet written is asked or done again, and
//! nothing but a webhook twice.

mod ask;
mod carry;
mod post;
pub mod settings;
pub mod webhook;

use std::{collections::HashMap, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{
    select,
    task::{Id, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::{ask::Asking, carry::Carrying, post::Posting, webhook::Sender};
use crate::{
    app::{self, App},
    store::effect::Effect,
};

pub use settings::Settings;

/// How long what is under way may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// The database failed; or a task broke down and is started anew.
const PAUSE: Duration = Duration::from_millis(500);
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Asks plugins and does what they want, until it is told to stop.
pub struct Effects {
    shared: Arc<Shared>,
}

/// What all tasks work with.
struct Shared {
    app: App,
    settings: Settings,
    sender: Sender,
}

/// What came of looking for something to do.
enum Step {
    /// There may be more.
    Again,
    /// Nothing to do before that moment, unless something changes.
    Wait(Option<Instant>),
    /// The plugin was removed.
    Gone,
}

impl Step {
    /// Where the step failed, it is told what could not be done for the plugin, and tried again after a pause.
    fn of(outcome: app::Result<Self>, plugin: &str, what: &str) -> Self {
        outcome.unwrap_or_else(|error| {
            error!(plugin, "cannot {what}, trying again: {error}");
            Self::Wait(Some(Instant::now() + PAUSE))
        })
    }
}

impl Effects {
    /// Plugins that are new to this log are asked about what is appended from here on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(app: App, settings: Settings) -> app::Result<Self> {
        for follower in app.plugins().followers() {
            app.follow(&follower.name).await?;
        }
        let sender = Sender::new(settings.webhook_timeout, Arc::clone(app.clock()));
        Ok(Self { shared: Arc::new(Shared { app, settings, sender }) })
    }

    /// Runs until `stop`, and a moment longer to end what is under way.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = Tasks { shared: self.shared, stop: stop.clone(), set: JoinSet::new(), names: HashMap::new() };
        stop.run_until_cancelled(tasks.look_after()).await;
        let ended = async { while tasks.set.join_next().await.is_some() {} };
        if timeout(GRACE, ended).await.is_err() {
            warn!("effects that are under way are given up; they are done again after the start");
        }
    }
}

/// A task for each plugin that follows the log.
struct Tasks {
    shared: Arc<Shared>,
    stop: CancellationToken,
    set: JoinSet<()>,
    names: HashMap<Id, String>,
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
                error!("cannot let plugins follow the log, trying again: {error}");
            }
            let retry = async {
                match started {
                    Ok(()) => std::future::pending().await,
                    Err(_) => sleep(PAUSE).await,
                }
            };
            select! {
                // The set of plugins lives as long as the app.
                _ = changed.changed() => {}
                () = retry => {}
                Some(ended) = self.set.join_next_with_id(), if !self.set.is_empty() => {
                    let id = ended.as_ref().map_or_else(|broken| broken.id(), |(id, ())| *id);
                    let plugin = self.names.remove(&id).unwrap_or_default();
                    if let Err(broken) = ended {
                        error!(plugin, "the effects of {plugin} broke down and are started anew: {broken}");
                    }
                    // One that was removed is still loaded for a moment, and must not begin anew.
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
        let Shared { app, settings, .. } = &*self.shared;
        if let Err(error) = app.forget_effects(app.now().minus(settings.keep_done)).await {
            warn!("cannot forget old effects, trying again later: {error}");
        }
    }
}

/// Serves one plugin until `stop`, or until it is removed.
async fn follow(shared: Arc<Shared>, plugin: String, stop: CancellationToken) {
    let gone = stop.child_token();
    let asking = async {
        Asking::new(shared.clone(), plugin.clone(), gone.clone()).run().await;
        gone.cancel();
    };
    let carrying = Carrying::new(shared.clone(), plugin.clone(), gone.clone());
    let posting = Posting::new(shared.clone(), plugin.clone(), gone.clone());
    tokio::join!(asking, carrying.run(), posting.run());
}

impl Shared {
    /// Whether the plugin is loaded and follows the log at the moment; and which generation of it does.
    fn generation(&self, plugin: &str) -> Option<u64> {
        let follower = self.app.plugins().followers().into_iter().find(|follower| follower.name == plugin);
        follower.map(|follower| follower.generation)
    }

    /// How long to wait after that many failed attempts; none when there were enough.
    fn wait(&self, attempts: u32) -> Option<Duration> {
        let Settings { attempts: most, first_delay, longest_delay, .. } = self.settings;
        if attempts >= most {
            return None;
        }
        let delays = ExponentialBuilder::new()
            .with_min_delay(first_delay)
            .with_max_delay(longest_delay)
            .without_max_times()
            .with_jitter();
        delays.build().nth(attempts.saturating_sub(1) as usize)
    }

    /// How many effects of the plugin may be pending or parked.
    fn most_open(&self, plugin: &str) -> u64 {
        self.app.plugins().limits(plugin).unwrap_or_default().open_effects
    }

    /// Whether one more may be.
    async fn has_room(&self, plugin: &str) -> app::Result<bool> {
        let most = self.most_open(plugin);
        Ok(self.app.store().read().await?.open_effects(plugin, most).await? < most)
    }

    /// Parks what was granted when the plugin answered, and taken back since.
    async fn park_ungranted(&self, effect: &Effect) -> app::Result<()> {
        let Effect { name, plugin, .. } = effect;
        self.fail(effect, &format!("{name} is not granted any more, or {plugin} no longer asks for it"), None).await
    }

    /// Notes a failed attempt: tried again after `again_in`, parked without.
    async fn fail(&self, effect: &Effect, reason: &str, again_in: Option<Duration>) -> app::Result<()> {
        let (Effect { id, plugin, name, .. }, now) = (effect, self.app.now());
        if again_in.is_none() {
            warn!(plugin, effect = id, "parked {name} of {plugin}: {reason}");
            metrics::counter!("leadwire_effects_parked_total", "plugin" => plugin.clone()).increment(1);
        }
        let mut tx = self.app.store().write().await?;
        tx.fail_effect(*id, reason, again_in.map(|wait| now.plus(wait)), now).await?;
        Ok(tx.commit().await?)
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

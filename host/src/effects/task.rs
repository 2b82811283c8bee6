//! Loop of the tasks of a plugin: a task takes one step after the other, and waits while there is nothing to do.

use tokio::{
    select,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    app::{self, App},
    effects::context::PAUSE,
};

/// Result of one step of an effect task.
pub(crate) enum TaskStep {
    /// There may be more to do.
    Again,
    /// There is nothing to do before that moment, unless something changes.
    Wait(Option<Instant>),
    /// The plugin was removed.
    Gone,
}

/// Task that works for one plugin.
pub(crate) trait EffectTask {
    /// Action of the task, for the log.
    const ACTION: &str;

    fn app(&self) -> &App;

    fn plugin(&self) -> &str;

    async fn step(&mut self) -> app::Result<TaskStep>;

    /// Waits for a change that only this task waits for.
    async fn woken(&mut self) {
        std::future::pending::<()>().await;
    }

    /// Takes steps until `stop`, or until the plugin is removed. After a failed step, the task pauses.
    async fn run_until(&mut self, stop: &CancellationToken) {
        let (mut staged, mut changed) = (self.app().store().staged(), self.app().plugins().changed());
        while !stop.is_cancelled() {
            staged.mark_unchanged();
            changed.mark_unchanged();
            let step = self.step().await.unwrap_or_else(|error| {
                error!(plugin = self.plugin(), "cannot {}, retrying: {error}", Self::ACTION);
                TaskStep::Wait(Some(Instant::now() + PAUSE))
            });
            let until = match step {
                TaskStep::Again => continue,
                TaskStep::Gone => return,
                TaskStep::Wait(until) => until,
            };
            select! {
                () = stop.cancelled() => {}
                () = wait(until) => {}
                // Their senders live as long as the store and the plugins, which outlive every task.
                _ = staged.changed() => {}
                _ = changed.changed() => {}
                () = self.woken() => {}
            }
        }
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

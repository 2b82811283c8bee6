//! Active set: the plugins that are asked now, behind one pointer that a reload swaps.
//!
//! Also the messages to the thread that reloads the plugin directory.

use std::sync::{Arc, OnceLock, mpsc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::{
    domain::{counter::Generation, event::Event},
    plugin::{
        active::{
            rollout::{RolloutCommand, RolloutError},
            set::Set,
        },
        hooks::shadow,
        reload::archive,
    },
    store::generation::shapes_differ,
};

/// Sample that a new plugin is tried on before it is activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriedOn {
    /// This number of the latest events of the log.
    Recent(usize),
    /// This number of leads from all over the table, each as the event `lead:read`.
    Leads(usize),
}

/// Source of the events that a plugin is tried on. Called on the reloader's thread, and in `open` on the caller's; may
/// block.
pub type Recent = Box<dyn Fn(TriedOn) -> Vec<Event> + Send + Sync>;

pub(crate) struct ActiveSet {
    pub(crate) set: ArcSwap<Set>,
    /// Set that will be activated at its position in the log, which may not be reached yet.
    prepared: Mutex<Option<Set>>,
    /// Queue for plugins in shadow mode, started with the first question.
    pub(crate) shadows: OnceLock<shadow::Queue>,
    pub(crate) changed: tokio::sync::watch::Sender<u64>,
    /// Sender to the thread that reloads the directory, if there is one.
    pub(crate) hints: Option<mpsc::Sender<ReloaderMessage>>,
    /// Reason why the contents of the directory cannot be activated at the moment.
    pub(crate) stuck: Mutex<Option<String>>,
}

impl ActiveSet {
    pub(crate) fn new(hints: Option<mpsc::Sender<ReloaderMessage>>) -> Self {
        Self {
            set: ArcSwap::default(),
            prepared: Mutex::default(),
            shadows: OnceLock::new(),
            changed: tokio::sync::watch::Sender::new(0),
            hints,
            stuck: Mutex::default(),
        }
    }

    /// Activates a set and returns the one that was active before.
    pub(crate) fn replace(&self, set: Set) -> Arc<Set> {
        let before = self.set.swap(Arc::new(set));
        self.changed.send_modify(|changes| *changes += 1);
        before
    }

    /// Replaces a set, active or prepared, by one with a newer status of the same plugins.
    pub(crate) fn refresh(&self, set: Set) {
        let mut prepared = self.prepared.lock();
        match &mut *prepared {
            Some(waiting) if waiting.generation == set.generation => *waiting = set,
            _ => drop(self.replace(set)),
        }
    }

    /// Prepares a set for activation; an older prepared one is dropped. Returns true if the set may shape a payload
    /// differently from what is active until then.
    pub(crate) fn stage(&self, set: Set) -> bool {
        let mut prepared = self.prepared.lock();
        let next = archive::members(&set);
        let differs = |other: &Set| shapes_differ(&archive::members(other), &next);
        let differs = differs(&self.set.load()) || prepared.as_ref().is_some_and(differs);
        *prepared = Some(set);
        differs
    }

    /// Activates the prepared set, if it is that generation; returns the one before it.
    pub(crate) fn activate(&self, generation: Generation) -> Option<Arc<Set>> {
        let mut prepared = self.prepared.lock();
        let set = prepared.take_if(|set| set.generation == generation)?;
        Some(self.replace(set))
    }

    /// Records why the contents of the directory cannot be activated; logged once for each reason.
    pub(crate) fn reload_failed(&self, reason: String) {
        let mut stuck = self.stuck.lock();
        if stuck.as_ref() != Some(&reason) {
            tracing::error!("plugin reload failed, keeping the active set and retrying: {reason}");
            *stuck = Some(reason);
        }
    }

    pub(crate) fn reload_worked(&self) {
        if self.stuck.lock().take().is_some() {
            tracing::info!("plugin reload works again");
        }
    }
}

impl Drop for ActiveSet {
    fn drop(&mut self) {
        if let Some(hints) = &self.hints {
            let _ = hints.send(ReloaderMessage::Stop);
        }
    }
}

pub(crate) enum ReloaderMessage {
    Look,
    /// Command of an operator; answered once it is in effect.
    Shift(RolloutRequest),
    Stop,
}

pub(crate) struct RolloutRequest {
    pub(crate) name: String,
    pub(crate) shift: RolloutCommand,
    pub(crate) reply: mpsc::SyncSender<Result<(), RolloutError>>,
}

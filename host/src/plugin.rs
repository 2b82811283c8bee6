//! Plugins: the loaded set of WebAssembly components, and the questions the core may ask it.
//!
//! A plugin answers with values; it cannot call back into the core and does not know that sockets or HTTP
//! exist. Every call runs on the caller's thread, takes microseconds and ends within the plugin's deadline.
//! `pipeline` is how one event is shaped, `watch` how the set is replaced while the server runs.

pub mod before;
mod bindings;
mod engine;
pub mod error;
mod health;
mod host;
mod instance;
mod loaded;
mod manifest;
pub mod pipeline;
mod pointer;
mod records;
mod set;
pub mod settings;
pub mod status;
mod wasi;
mod watch;

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use arc_swap::ArcSwap;
use serde_json::{Map, Value};

pub use before::{Question, Refusal, Ruling};
pub use error::Error;
pub use manifest::check_name;
pub use pipeline::{Decision, Hidden, Shaped, Unavailable};
pub use settings::Settings;
pub use status::{PluginStatus, State};

use crate::domain::{event::Event, role::Role, room::Room, user::User};
use set::Set;

/// Gives that many of the latest events of the log, for a new plugin to be tried on before it may take part.
/// Called on a thread of its own, and in `open` on the caller's; may block.
pub type Recent = Box<dyn Fn(usize) -> Vec<Event> + Send + Sync>;

/// The plugins in force. Clones share one set.
#[derive(Clone)]
pub struct Plugins(Arc<Shared>);

struct Shared {
    set: ArcSwap<Set>,
    changed: tokio::sync::watch::Sender<u64>,
    /// To the thread that looks after the directory, if there is one.
    hints: Option<mpsc::Sender<watch::Hint>>,
}

impl Plugins {
    /// Loads what the directory of `settings` holds, and from then on whatever changes there.
    ///
    /// Blocks while plugins are compiled. A plugin that is refused is no error: `status` tells why.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or the data directory cannot be written.
    pub fn open(settings: Settings, recent: Recent) -> Result<Self, Error> {
        let Some(dir) = settings.dir.clone() else { return Ok(Self::none()) };
        watch::start(dir, settings, recent).map(Self)
    }

    /// No plugins, and none to come.
    pub fn none() -> Self {
        Self(Arc::new(Shared::new(None)))
    }

    /// May this user connect?
    pub fn authorize_connect(&self, user: &User) -> Result<Decision, Unavailable> {
        pipeline::authorize(&self.0.set.load(), user, None, None)
    }

    /// May this user subscribe to this room? `lead` is the lead of a lead's room, if there is one.
    pub fn authorize_subscribe(&self, user: &User, room: &Room, lead: Option<&Value>) -> Result<Decision, Unavailable> {
        pipeline::authorize(&self.0.set.load(), user, Some(room), lead)
    }

    /// Whether some plugin is to be asked before a command of that name runs.
    pub fn guard(&self, command: &str) -> bool {
        self.0.set.load().guards(command).next().is_some()
    }

    /// May this command run, and as it is? `check` says what is wrong with an input as a plugin amended it.
    pub fn before(
        &self,
        question: &Question<'_>,
        check: impl Fn(&Map<String, Value>) -> Result<(), String>,
    ) -> Result<Ruling, Unavailable> {
        before::run(&self.0.set.load(), question, check)
    }

    /// A plugin's amendment turned out wrong only later: the plugin's fault.
    pub fn blame(&self, plugin: &str, reason: &str) -> Unavailable {
        before::blame(&self.0.set.load(), plugin, reason)
    }

    /// What each role gets of a payload that is about to leave under `name`; one entry for each role asked.
    pub fn shape(&self, name: &str, payload: &Value, context: &Value, roles: &[Role]) -> Vec<(Role, Shaped)> {
        pipeline::run(&self.0.set.load(), name, payload, context, roles)
    }

    /// What filters may hide from a role.
    pub fn hidden(&self, role: Role) -> Hidden {
        self.0.set.load().hidden(role).clone()
    }

    /// Every plugin that is loaded, refused, disabled or missed.
    pub fn status(&self) -> Vec<PluginStatus> {
        self.0.set.load().views.iter().map(PluginStatus::of).collect()
    }

    /// Whether every plugin whose failure holds something back is working; if not, why.
    pub fn ready(&self) -> Result<(), String> {
        let failing = |view: &set::View| match &view.plugin {
            Some(plugin) => plugin.holds() && plugin.health.is_resting(),
            None => view.absent.is_some(),
        };
        match self.status_of(failing) {
            Some(PluginStatus { name, reason, .. }) => Err(match reason {
                Some(reason) => format!("plugin {name}: {reason}"),
                None => format!("plugin {name} is failing"),
            }),
            None => Ok(()),
        }
    }

    fn status_of(&self, is_it: impl Fn(&set::View) -> bool) -> Option<PluginStatus> {
        self.0.set.load().views.iter().find(|view| is_it(view)).map(PluginStatus::of)
    }

    /// Grows with every swap of the set.
    pub fn generation(&self) -> u64 {
        self.0.set.load().generation
    }

    /// Told whenever the directory was looked at again and something there had changed; the number only grows.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

impl Shared {
    fn new(hints: Option<mpsc::Sender<watch::Hint>>) -> Self {
        Self { set: ArcSwap::default(), changed: tokio::sync::watch::Sender::new(0), hints }
    }

    fn replace(&self, set: Set) {
        self.set.store(Arc::new(set));
        self.changed.send_modify(|changes| *changes += 1);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(hints) = &self.hints {
            let _ = hints.send(watch::Hint::Stop);
        }
    }
}

/// Lets go of a plugin that is gone for good: what it held back is held back no longer.
///
/// Its file has to be away already. A running server takes note by itself. False when no such plugin was known.
pub fn forget(data_dir: &Path, name: &str) -> Result<bool, Error> {
    watch::forget(data_dir, name)
}

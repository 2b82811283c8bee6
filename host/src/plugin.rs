//! Plugins: the loaded set of WebAssembly components, and the questions the core may ask it.
//!
//! A plugin answers with values; it cannot call back into the core and does not know that sockets or HTTP
//! exist. Every call runs on the caller's thread, takes microseconds and ends within the plugin's deadline.
//! `pipeline` is how one event is shaped, `watch` how the set is replaced while the server runs.

pub mod pipeline;
pub mod settings;
pub mod status;

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

pub use pipeline::{Decision, Hidden, Shaped, Unavailable};
pub use settings::Settings;
pub use status::PluginStatus;

use crate::domain::{event::Event, role::Role, room::Room, user::User};

/// Gives that many of the latest events of the log, for a new plugin to be tried on before it may take part.
/// Called on a thread of its own, and in `open` on the caller's; may block.
pub type Recent = Box<dyn Fn(usize) -> Vec<Event> + Send + Sync>;

/// The plugins in force. Clones share one set.
#[derive(Clone)]
pub struct Plugins(Arc<Shared>);

struct Shared {
    changed: watch::Sender<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot watch the plugin directory {dir}")]
    Directory { dir: String, source: std::io::Error },
}

impl Plugins {
    /// Loads what the directory of `settings` holds, and from then on whatever changes there.
    ///
    /// Blocks while plugins are compiled. A plugin that is refused is no error: `status` tells why.
    pub fn open(settings: Settings, recent: Recent) -> Result<Self, Error> {
        let _ = (settings, recent);
        Ok(Self::none())
    }

    /// No plugins, and none to come.
    pub fn none() -> Self {
        Self(Arc::new(Shared { changed: watch::Sender::new(0) }))
    }

    /// May this user connect?
    pub fn authorize_connect(&self, _user: &User) -> Result<Decision, Unavailable> {
        Ok(Decision::Allow)
    }

    /// May this user subscribe to this room? `lead` is the lead of a lead's room, if there is one.
    pub fn authorize_subscribe(
        &self,
        _user: &User,
        _room: &Room,
        _lead: Option<&Value>,
    ) -> Result<Decision, Unavailable> {
        Ok(Decision::Allow)
    }

    /// What each role gets of a payload that is about to leave under `name`; one entry for each role asked.
    pub fn shape(&self, _name: &str, payload: &Value, _context: &Value, roles: &[Role]) -> Vec<(Role, Shaped)> {
        let payload = Arc::new(payload.clone());
        roles.iter().map(|&role| (role, Shaped::whole(&payload))).collect()
    }

    /// What filters may hide from a role.
    pub fn hidden(&self, _role: Role) -> Hidden {
        Hidden::default()
    }

    /// Every plugin that is loaded, refused, disabled or missed.
    pub fn status(&self) -> Vec<PluginStatus> {
        Vec::new()
    }

    /// Whether every plugin whose failure holds something back is working; if not, why.
    pub fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    /// Grows with every swap of the set.
    pub fn generation(&self) -> u64 {
        0
    }

    /// Told of every swap and every change of `status`; the number only grows.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

//! Plugins: the active set of WebAssembly components, and the hooks that the core may call.
//!
//! A plugin answers with values. It cannot call back into the core and does not know that sockets or HTTP exist.
//! Every call runs on the caller's thread, takes microseconds and ends within the plugin's deadline.
//! `hooks::shape` shapes one event; `reload` replaces the set while the server runs.

mod active;
pub mod contract;
mod hooks;
mod reload;
pub mod report;
pub mod testkit;
mod wasm;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use serde_json::{Map, Value};

use crate::{
    domain::{counter::Generation, event::Event, plugin_name::PluginName, role::Role, room::Room, user::User},
    plugin::{
        active::set::{self, Shadow, WorkingPlugin},
        hooks::{
            after, authorize, before,
            shadow::{self, ShadowQuestion},
            shape,
        },
        reload::{
            active_set::{self, ActiveSet},
            archive, reloader, snapshot, state_file, watch,
        },
        report::status_file,
    },
};

pub use active::{
    counts::Breaker,
    rollout::{PluginState, RolloutCommand, RolloutError},
};
pub use contract::{
    answer::{Decision, Hidden, Ruling, Shaped, Unavailable},
    diff::Comparison,
    effect::{AfterError, AfterOutcome, EffectName, EventFollower, Occasion, REMINDER, RequestedEffect, WebhookGrant},
    error::Error,
    grant::Access,
    limits::Limits,
    question::ProposedCommand,
    refusal::{Refusal, is_own_code},
    settings::PluginsConfig,
};
pub use hooks::trace::{Edited, PluginStep, Said, TraceStep};
pub use reload::{
    active_set::{Recent, TriedOn},
    archive::Archive,
    snapshot::{HistoricalSets, InlinePlugin, PinnedSet},
};
pub use report::status::PluginStatus;

/// Handle to the active set of plugins. Clones share one set.
#[derive(Clone)]
pub struct Plugins(Arc<ActiveSet>);

impl Plugins {
    /// Loads the plugins in the directory of `settings`, and from then on whatever changes there.
    ///
    /// Blocks while plugins are compiled. A refused plugin is not an error: [`Plugins::status`] gives the reason.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or the data directory cannot be written.
    pub fn open(settings: PluginsConfig, recent: Recent) -> Result<Self, Error> {
        Self::open_recorded(settings, recent, Arc::new(archive::Nowhere::default()))
    }

    /// Like [`Plugins::open`], but records each set in `archive` before it is active; the archive numbers the sets.
    ///
    /// # Errors
    ///
    /// Also when the archive cannot be read or written.
    pub fn open_recorded(settings: PluginsConfig, recent: Recent, archive: Arc<dyn Archive>) -> Result<Self, Error> {
        let Some(dir) = settings.dir.clone() else { return Ok(Self::none()) };
        let data_dir = settings.data_dir.clone();
        let shared = watch::start(dir.clone(), settings, recent, archive)?;
        status_file::start(&data_dir, &dir, &shared)?;
        Ok(Self(shared))
    }

    /// Loads exactly these plugins, without a directory to watch: for tools, and for sets of the past.
    ///
    /// Blocks while they are compiled, which `cache_dir` saves the next time. There is no circuit breaker, and their
    /// calls are neither counted nor logged.
    ///
    /// # Errors
    ///
    /// When one of the plugins is refused; the error names it and says why.
    pub fn fixed(files: Vec<InlinePlugin>, cache_dir: &Path) -> Result<Self, Error> {
        let plugins = Self::none();
        drop(plugins.0.replace(snapshot::load(files, cache_dir)?));
        Ok(plugins)
    }

    /// Creates an empty set that stays empty.
    pub fn none() -> Self {
        Self(Arc::new(ActiveSet::new(None)))
    }

    /// Asks the plugins if this user may connect.
    pub fn authorize_connect(&self, user: &User) -> Result<Decision, Unavailable> {
        self.authorize(user, None, None)
    }

    /// Asks the plugins if this user may subscribe to this room. `lead` is the lead of a lead's room, if there is one.
    pub fn authorize_subscribe(&self, user: &User, room: &Room, lead: Option<&Value>) -> Result<Decision, Unavailable> {
        self.authorize(user, Some(room), lead)
    }

    fn authorize(&self, user: &User, room: Option<&Room>, lead: Option<&Value>) -> Result<Decision, Unavailable> {
        let decision = authorize::authorize(&self.0.set.load(), user, room, lead)?;
        if decision == Decision::Allow {
            let entered = || ShadowQuestion::Entered { user: user.clone(), room: room.cloned(), lead: lead.cloned() };
            self.show(Shadow::authorizes, entered);
        }
        Ok(decision)
    }

    /// Queues an event of the log for plugins in shadow mode, as if one user of each role listened. Never blocks.
    pub fn show_event(&self, event: &Event) {
        if !event.rooms.is_empty() {
            self.show(|shadow| shadow.is_about(event), || ShadowQuestion::Event(event.clone()));
        }
    }

    /// Returns true if a plugin in shadow mode observes commands of that name.
    pub fn has_shadow(&self, command: &str) -> bool {
        self.0.set.load().shadows().iter().any(|shadow| shadow.guards(command))
    }

    /// Queues a command that was carried out for plugins in shadow mode. Never blocks.
    pub fn show_command(&self, question: &ProposedCommand<'_>) {
        self.show(|shadow| shadow.guards(question.name), || ShadowQuestion::command(question));
    }

    fn show(&self, is_wanted: impl Fn(&Shadow) -> bool, happened: impl FnOnce() -> ShadowQuestion) {
        let set = self.0.set.load();
        if set.shadows().iter().any(is_wanted) {
            let queue = self.0.shadows.get_or_init(shadow::Queue::start);
            queue.offer(Arc::clone(&set), happened());
        }
    }

    /// Returns true if some plugin has to be asked before a command of that name runs.
    pub fn guard(&self, command: &str) -> bool {
        self.0.set.load().guards(command).next().is_some()
    }

    /// Asks the plugins if this command may run, and with which input. `check` says what is wrong with an input that a
    /// plugin amended.
    pub fn before(
        &self,
        question: &ProposedCommand<'_>,
        check: impl Fn(&Map<String, Value>) -> Result<(), String>,
    ) -> Result<Ruling, Unavailable> {
        before::run(&self.0.set.load(), question, check)
    }

    /// Records a fault of a plugin whose amendment turned out to be invalid only later.
    pub fn blame(&self, plugin: &PluginName, reason: &str) -> Unavailable {
        before::blame(&self.0.set.load(), plugin, reason)
    }

    /// Lists the plugins that follow the event log, in the order in which plugins are asked.
    pub fn followers(&self) -> Vec<EventFollower> {
        let set = self.0.set.load();
        let follower = |working: &set::WorkingPlugin| {
            let WorkingPlugin { plugin, .. } = working;
            let version = plugin.manifest.version.to_string();
            EventFollower { name: plugin.name().to_owned(), version, generation: plugin.generation }
        };
        set.followers().map(follower).collect()
    }

    /// Returns true if `after` of a plugin has to be called for events of that name.
    pub fn follows(&self, plugin: &PluginName, event: &str) -> bool {
        after::wants(&self.0.set.load(), plugin, event)
    }

    /// Returns true if a plugin requests effects of that name, which it does only if they are granted; `None` when no
    /// such plugin follows the log.
    pub fn may(&self, plugin: &PluginName, effect: &str) -> Option<bool> {
        let set = self.0.set.load();
        let working = set.followers().find(|working| working.plugin.name() == plugin)?;
        Some(working.plugin.wants.effects.iter().any(|wanted| wanted.as_str() == effect))
    }

    /// Calls `after` of a plugin for something that happened. Returns `None` when it does not want events of that name.
    ///
    /// # Errors
    ///
    /// `Gone` when no such plugin follows the log, `Unavailable` when it failed or its circuit breaker is open.
    pub fn after(&self, plugin: &PluginName, occasion: &Occasion<'_>) -> Result<Option<AfterOutcome>, AfterError> {
        after::run(&self.0.set.load(), plugin, occasion)
    }

    /// Returns the limits of a plugin; `None` when no such plugin follows the log.
    pub fn limits(&self, plugin: &PluginName) -> Option<Limits> {
        let set = self.0.set.load();
        let working = set.followers().find(|working| working.plugin.name() == plugin)?;
        Some(working.plugin.settings.limits.clone())
    }

    /// Returns what the webhooks of a plugin may reach; `None` when no such plugin follows the log.
    pub fn webhook_grant(&self, plugin: &PluginName) -> Option<WebhookGrant> {
        let set = self.0.set.load();
        let working = set.followers().find(|working| working.plugin.name() == plugin)?;
        Some(working.plugin.webhook_grant())
    }

    /// Shapes a payload that is about to be sent under `name`; returns one entry per role asked.
    ///
    /// Where nobody edits the payload, the payload itself comes back.
    pub fn shape(&self, name: &str, payload: &Arc<Value>, context: &Value, roles: &[Role]) -> Vec<(Role, Shaped)> {
        shape::run(&self.0.set.load(), name, payload, context, roles)
    }

    /// Pins the set that is active now, for a caller that has to know which set answers.
    pub fn pinned(&self) -> PinnedSet {
        PinnedSet(self.0.set.load_full())
    }

    /// Returns true if a filter decides who of a role gets a payload of that name.
    pub fn may_narrow(&self, name: &str, role: Role) -> bool {
        self.0.set.load().filters().any(|member| member.wants(name) && member.roles().contains(role))
    }

    /// Returns the pointers that filters may hide from a role.
    pub fn hidden(&self, role: Role) -> Hidden {
        self.0.set.load().hidden(role).clone()
    }

    /// Returns true if a plugin shapes payloads of that name, or holds them back.
    pub fn may_shape(&self, name: &str) -> bool {
        !self.0.set.load().is_indifferent_to(name)
    }

    /// Reports every plugin that is loaded, refused, disabled or missing.
    pub fn status(&self) -> Vec<PluginStatus> {
        self.0.set.load().views.iter().map(PluginStatus::of).collect()
    }

    /// Checks that every plugin whose failure holds something back is working, and that changes can be activated; the
    /// error gives the reason.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(reason) = &*self.0.stuck.lock() {
            return Err(format!("plugins cannot be reloaded: {reason}"));
        }
        let failing = |view: &set::PluginView| match &view.plugin {
            Some(plugin) => plugin.holds() && plugin.breaker.is_open(),
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

    fn status_of(&self, is_it: impl Fn(&set::PluginView) -> bool) -> Option<PluginStatus> {
        self.0.set.load().views.iter().find(|view| is_it(view)).map(PluginStatus::of)
    }

    /// Changes which generation of a plugin is active, and returns the plugin's new status. Blocks.
    ///
    /// # Errors
    /// Nothing was changed, unless the error is `NotInForce` or `Failed`.
    pub fn shift(&self, name: &str, shift: RolloutCommand) -> Result<PluginStatus, RolloutError> {
        let (reply, replied) = mpsc::sync_channel(1);
        let hint = active_set::ReloaderMessage::Shift(active_set::RolloutRequest { name: name.into(), shift, reply });
        self.0.hints.as_ref().and_then(|hints| hints.send(hint).ok()).ok_or(RolloutError::Unknown)?;
        replied.recv().map_err(|_| RolloutError::Unknown)??;
        self.status_of(|view| view.name == name).ok_or(RolloutError::Unknown)
    }

    /// Number of the active set. It grows with every swap, across restarts too where sets are recorded.
    pub fn generation(&self) -> Generation {
        self.0.set.load().generation
    }

    /// Notifies each time the directory was read again and a set was put in place; the number only grows.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

/// Directory where a server with that data directory keeps compiled code.
pub fn cache_dir(data_dir: &Path) -> PathBuf {
    state_file::directory(data_dir).join("cache")
}

/// Removes a plugin that is gone for good: what it held back is no longer held back.
///
/// Its file has to be deleted already. A running server notices by itself. Returns false when no such plugin was known.
pub fn forget(data_dir: &Path, name: &str) -> Result<bool, Error> {
    reloader::forget(data_dir, name)
}

/// Changes which generation of a plugin is active; a running server notices by itself.
///
/// The plugin is loaded for a moment, as a server would load it at its start.
///
/// # Errors
/// Nothing was changed.
pub fn shift(settings: PluginsConfig, name: &str, shift: &RolloutCommand) -> Result<(), RolloutError> {
    reloader::shift(settings, name, shift)
}

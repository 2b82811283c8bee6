//! Plugins: the loaded set of WebAssembly components, and the questions the core may ask it.
//!
//! A plugin answers with values; it cannot call back into the core and does not know that sockets or HTTP
//! exist. Every call runs on the caller's thread, takes microseconds and ends within the plugin's deadline.
//! `pipeline` is how one event is shaped, `watch` how the set is replaced while the server runs.

pub mod after;
mod archive;
pub mod before;
mod bindings;
pub mod bulletin;
pub mod compare;
mod engine;
pub mod error;
pub mod file;
mod fixed;
pub mod grant;
mod health;
mod host;
mod implied;
mod instance;
pub mod limits;
mod loaded;
mod manifest;
mod meters;
pub mod pipeline;
mod pointer;
mod records;
mod set;
pub mod settings;
pub mod shadow;
mod standing;
mod state_file;
pub mod status;
mod trace;
mod wasi;
mod watch;
pub mod workbench;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, mpsc},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Map, Value};

pub use after::{AfterError, Effect, EffectName, Follower, Occasion, Outcome, REMINDER, WebhookGrant};
pub use archive::Archive;
pub use before::{Question, Refusal, Ruling};
pub use compare::Comparison;
pub use error::Error;
pub use fixed::{FixedPlugin, Past};
pub use grant::Access;
pub use limits::Limits;
pub use manifest::check_name;
pub use pipeline::{Decision, Hidden, Shaped, Unavailable};
pub use settings::Settings;
pub use standing::{Shift, ShiftError};
pub use status::{Breaker, PluginStatus, State};
pub use trace::{Edited, PluginStep, Said, Step};

use crate::{
    domain::{event::Event, role::Role, room::Room, user::User},
    store::generation::shapes_differ,
};
use set::{Set, Working};
use shadow::{Happened, Shadow};

/// What a new plugin is tried on before it may take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriedOn {
    /// So many of the latest events of the log.
    Recent(usize),
    /// So many leads from all over the table, each as the event `lead:read`.
    Leads(usize),
}

/// Gives what a plugin is tried on. Called on a thread of its own, and in `open` on the caller's; may block.
pub type Recent = Box<dyn Fn(TriedOn) -> Vec<Event> + Send + Sync>;

/// The plugins in force. Clones share one set.
#[derive(Clone)]
pub struct Plugins(Arc<Shared>);

struct Shared {
    set: ArcSwap<Set>,
    /// A set that is to take force at its place in the log, which may not be reached yet.
    prepared: Mutex<Option<Set>>,
    /// Started when the first plugin in shadow mode is to be shown something.
    shadows: OnceLock<shadow::Queue>,
    changed: tokio::sync::watch::Sender<u64>,
    /// To the thread that looks after the directory, if there is one.
    hints: Option<mpsc::Sender<watch::Hint>>,
    /// Why what is in the directory cannot take force at the moment.
    stuck: Mutex<Option<String>>,
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
        Self::open_recorded(settings, recent, Arc::new(archive::Nowhere::default()))
    }

    /// As [`Plugins::open`]; each set is recorded in `archive` before it is in force, and numbered by it.
    ///
    /// # Errors
    ///
    /// Also when the archive cannot be read or written.
    pub fn open_recorded(settings: Settings, recent: Recent, archive: Arc<dyn Archive>) -> Result<Self, Error> {
        let Some(dir) = settings.dir.clone() else { return Ok(Self::none()) };
        let data_dir = settings.data_dir.clone();
        let shared = watch::start(dir.clone(), settings, recent, archive)?;
        bulletin::start(&data_dir, &dir, &shared)?;
        Ok(Self(shared))
    }

    /// These plugins and no others, without a directory to look after: for tools, and for what was in force once.
    ///
    /// Blocks while they are compiled, which `cache_dir` spares the next time. No breaker gives a failing one a
    /// rest, and nothing they do is counted or logged.
    ///
    /// # Errors
    ///
    /// When one of the plugins is refused; the error names it and says why.
    pub fn fixed(files: Vec<FixedPlugin>, cache_dir: &Path) -> Result<Self, Error> {
        let plugins = Self::none();
        drop(plugins.0.replace(fixed::load(files, cache_dir)?));
        Ok(plugins)
    }

    /// No plugins, and none to come.
    pub fn none() -> Self {
        Self(Arc::new(Shared::new(None)))
    }

    /// May this user connect?
    pub fn authorize_connect(&self, user: &User) -> Result<Decision, Unavailable> {
        self.authorize(user, None, None)
    }

    /// May this user subscribe to this room? `lead` is the lead of a lead's room, if there is one.
    pub fn authorize_subscribe(&self, user: &User, room: &Room, lead: Option<&Value>) -> Result<Decision, Unavailable> {
        self.authorize(user, Some(room), lead)
    }

    fn authorize(&self, user: &User, room: Option<&Room>, lead: Option<&Value>) -> Result<Decision, Unavailable> {
        let decision = pipeline::authorize(&self.0.set.load(), user, room, lead)?;
        if decision == Decision::Allow {
            let entered = || Happened::Entered { user: user.clone(), room: room.cloned(), lead: lead.cloned() };
            self.show(Shadow::authorizes, entered);
        }
        Ok(decision)
    }

    /// Shows plugins in shadow mode an event of the log, as if one of each role listened. Never waits.
    pub fn show_event(&self, event: &Event) {
        if !event.rooms.is_empty() {
            self.show(|shadow| shadow.is_about(event), || Happened::Event(event.clone()));
        }
    }

    /// Whether a plugin in shadow mode wants to be shown commands of that name.
    pub fn has_shadow(&self, command: &str) -> bool {
        self.0.set.load().shadows().iter().any(|shadow| shadow.guards(command))
    }

    /// Shows plugins in shadow mode a command that was carried out. Never waits.
    pub fn show_command(&self, question: &Question<'_>) {
        self.show(|shadow| shadow.guards(question.name), || Happened::command(question));
    }

    fn show(&self, is_wanted: impl Fn(&Shadow) -> bool, happened: impl FnOnce() -> Happened) {
        let set = self.0.set.load();
        if set.shadows().iter().any(is_wanted) {
            let queue = self.0.shadows.get_or_init(shadow::Queue::start);
            queue.offer(Arc::clone(&set), happened());
        }
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

    /// The plugins that want to be told what happened, in the order in which plugins are asked.
    pub fn followers(&self) -> Vec<Follower> {
        let set = self.0.set.load();
        let follower = |working: &set::Working| {
            let Working { plugin, .. } = working;
            let version = plugin.manifest.version.to_string();
            Follower { name: plugin.name().to_owned(), version, generation: plugin.generation }
        };
        set.followers().map(follower).collect()
    }

    /// Whether a plugin is to be asked what follows from events of that name.
    pub fn follows(&self, plugin: &str, event: &str) -> bool {
        after::wants(&self.0.set.load(), plugin, event)
    }

    /// Whether a plugin asks for effects of that name, which it does only if they are granted; `None` when no such
    /// plugin follows the log.
    pub fn may(&self, plugin: &str, effect: &str) -> Option<bool> {
        let set = self.0.set.load();
        let working = set.followers().find(|working| working.plugin.name() == plugin)?;
        Some(working.plugin.wants.effects.iter().any(|wanted| wanted.as_str() == effect))
    }

    /// What a plugin wants done about something that happened; `None` when it does not want to be told of such.
    ///
    /// # Errors
    ///
    /// `Gone` when no such plugin follows the log, `Unavailable` when it failed or rests after failures.
    pub fn after(&self, plugin: &str, occasion: &Occasion<'_>) -> Result<Option<Outcome>, AfterError> {
        after::run(&self.0.set.load(), plugin, occasion)
    }

    /// The bounds in force for a plugin; `None` when no such plugin follows the log.
    pub fn limits(&self, plugin: &str) -> Option<Limits> {
        let set = self.0.set.load();
        let working = set.followers().find(|working| working.plugin.name() == plugin)?;
        Some(working.plugin.settings.limits.clone())
    }

    /// What the webhooks of a plugin may reach; `None` when no such plugin follows the log.
    pub fn webhook_grant(&self, plugin: &str) -> Option<WebhookGrant> {
        let set = self.0.set.load();
        let working = set.followers().find(|working| working.plugin.name() == plugin)?;
        Some(working.plugin.webhook_grant())
    }

    /// What each role gets of a payload that is about to leave under `name`; one entry for each role asked.
    ///
    /// The payload itself comes back wherever nobody edits it.
    pub fn shape(&self, name: &str, payload: &Arc<Value>, context: &Value, roles: &[Role]) -> Vec<(Role, Shaped)> {
        pipeline::run(&self.0.set.load(), name, payload, context, roles)
    }

    /// The set in force now, for who has to know which one answers.
    pub fn pinned(&self) -> Pinned {
        Pinned(self.0.set.load_full())
    }

    /// Whether a filter is asked who of a role gets a payload of that name.
    pub fn may_narrow(&self, name: &str, role: Role) -> bool {
        self.0.set.load().filters().any(|member| member.wants(name) && member.roles().contain(role))
    }

    /// What filters may hide from a role.
    pub fn hidden(&self, role: Role) -> Hidden {
        self.0.set.load().hidden(role).clone()
    }

    /// Every plugin that is loaded, refused, disabled or missed.
    pub fn status(&self) -> Vec<PluginStatus> {
        self.0.set.load().views.iter().map(PluginStatus::of).collect()
    }

    /// Whether every plugin whose failure holds something back is working, and changes can take force; if not, why.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(reason) = &*self.0.stuck.lock() {
            return Err(format!("plugins cannot be reloaded: {reason}"));
        }
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

    /// Changes which generation of a plugin is in force, and tells how the plugin stands then. Blocks.
    ///
    /// # Errors
    /// Nothing was changed, unless it is `NotInForce` or `Failed`.
    pub fn shift(&self, name: &str, shift: Shift) -> Result<PluginStatus, ShiftError> {
        let (reply, replied) = mpsc::sync_channel(1);
        let hint = watch::Hint::Shift(watch::Order { name: name.into(), shift, reply });
        self.0.hints.as_ref().and_then(|hints| hints.send(hint).ok()).ok_or(ShiftError::Unknown)?;
        replied.recv().map_err(|_| ShiftError::Unknown)??;
        self.status_of(|view| view.name == name).ok_or(ShiftError::Unknown)
    }

    /// The number of the set in force; it grows with every swap, over restarts too where sets are recorded.
    pub fn generation(&self) -> u64 {
        self.0.set.load().generation
    }

    /// Told whenever the directory was looked at again and something there had changed; the number only grows.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

/// One set of plugins, whatever takes force meanwhile.
#[derive(Clone)]
pub struct Pinned(Arc<Set>);

impl Pinned {
    /// The number of the set; 0 where there are no plugins.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The version and the hash of a plugin of the set, also of one that is missing and holds something back.
    pub fn made_of(&self, name: &str) -> Option<(String, String)> {
        let view = self.0.views.iter().find(|view| view.name == name)?;
        let loaded = view.plugin.as_ref().map(|plugin| (plugin.manifest.version.to_string(), plugin.hash.clone()));
        loaded.or_else(|| view.absent.as_ref().map(|record| (record.version.clone(), record.hash.clone())))
    }

    /// Adds to `comparison` what each role would get of a recorded event if `candidate` stood in place of these.
    ///
    /// Both are asked as about a live event, so that failures count and breakers open.
    pub fn compare(&self, candidate: &Self, event: &Event, comparison: &mut Comparison) {
        comparison.try_both(&self.0, &candidate.0, event);
    }

    /// See [`Plugins::shape`].
    pub fn shape(&self, name: &str, payload: &Arc<Value>, context: &Value, roles: &[Role]) -> Vec<(Role, Shaped)> {
        pipeline::run(&self.0, name, payload, context, roles)
    }

    /// What one role gets, and each decision that led to it.
    pub fn explain(
        &self,
        name: &str,
        payload: &Arc<Value>,
        context: &Value,
        role: Role,
    ) -> (Vec<(Role, Shaped)>, Vec<Step>) {
        let mut trace = trace::Trace::of(&self.0);
        let shaped = pipeline::run_observed(&self.0, name, payload, context, &[role], &mut trace);
        (shaped, trace.steps)
    }
}

impl Shared {
    fn new(hints: Option<mpsc::Sender<watch::Hint>>) -> Self {
        Self {
            set: ArcSwap::default(),
            prepared: Mutex::default(),
            shadows: OnceLock::new(),
            changed: tokio::sync::watch::Sender::new(0),
            hints,
            stuck: Mutex::default(),
        }
    }

    /// Returns what was in force before.
    fn replace(&self, set: Set) -> Arc<Set> {
        let before = self.set.swap(Arc::new(set));
        self.changed.send_modify(|changes| *changes += 1);
        before
    }

    /// Replaces a set by one that says more of the same plugins: in force or on its way there.
    fn refresh(&self, set: Set) {
        let mut prepared = self.prepared.lock();
        match &mut *prepared {
            Some(waiting) if waiting.generation == set.generation => *waiting = set,
            _ => drop(self.replace(set)),
        }
    }

    /// Makes a set ready to take force; an older one that waits will not. Tells whether it may make something else of
    /// a payload than what is in force until then.
    fn prepare(&self, set: Set) -> bool {
        let mut prepared = self.prepared.lock();
        let next = archive::members(&set);
        let differs = |other: &Set| shapes_differ(&archive::members(other), &next);
        let differs = differs(&self.set.load()) || prepared.as_ref().is_some_and(differs);
        *prepared = Some(set);
        differs
    }

    /// Puts the set that was made ready in force, if it is that generation; returns the one before it.
    fn take_force(&self, generation: u64) -> Option<Arc<Set>> {
        let mut prepared = self.prepared.lock();
        let set = prepared.take_if(|set| set.generation == generation)?;
        Some(self.replace(set))
    }

    /// Notes why what is in the directory cannot take force; said once for each reason.
    fn reload_failed(&self, reason: String) {
        let mut stuck = self.stuck.lock();
        if stuck.as_ref() != Some(&reason) {
            tracing::error!("plugins stay as they are, trying again: {reason}");
            *stuck = Some(reason);
        }
    }

    fn reload_worked(&self) {
        if self.stuck.lock().take().is_some() {
            tracing::info!("plugins can be reloaded again");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(hints) = &self.hints {
            let _ = hints.send(watch::Hint::Stop);
        }
    }
}

/// Where a server with that data directory keeps compiled code.
pub fn cache_dir(data_dir: &Path) -> PathBuf {
    state_file::directory(data_dir).join("cache")
}

/// Lets go of a plugin that is gone for good: what it held back is held back no longer.
///
/// Its file has to be away already. A running server takes note by itself. False when no such plugin was known.
pub fn forget(data_dir: &Path, name: &str) -> Result<bool, Error> {
    watch::forget(data_dir, name)
}

/// Changes which generation of a plugin is in force: a running server takes note by itself.
///
/// The plugin is loaded for a moment, as a server would at its start.
///
/// # Errors
/// Nothing was changed.
pub fn shift(settings: Settings, name: &str, shift: &Shift) -> Result<(), ShiftError> {
    watch::shift(settings, name, shift)
}

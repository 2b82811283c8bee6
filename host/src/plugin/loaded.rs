//! One plugin in force: what it said of itself, how to ask it, and what a failure of it means.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::Mutex;
use wasmtime::StoreContextMut;

use super::{
    before::Answered,
    bindings::{self, Asked, Event, Exports, Guest, Hides, Hooks, Subject, Verdict},
    engine::Engine,
    error::{Fault, Refused},
    health::Health,
    host::{Identity, State},
    instance::{INIT_LIMIT, Pool, refused_config},
    manifest::{Events, Manifest},
    pipeline::{Decision, Unavailable},
    pointer::Edit,
    settings::{OnFailure, PluginSettings},
};
use crate::domain::role::Role;

pub(super) struct Plugin {
    pub(super) manifest: Manifest,
    pub(super) hooks: Hooks,
    pub(super) hides: Hides,
    /// The commands that `before` is asked about.
    pub(super) commands: Events,
    pub(super) settings: PluginSettings,
    pub(super) hash: String,
    pub(super) generation: u64,
    pub(super) health: Health,
    pool: Pool,
}

impl Plugin {
    /// Compiles a file, lets the plugin describe itself and take its configuration.
    pub(super) fn load(
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        hash: String,
        settings: PluginSettings,
        max_idle: usize,
        generation: u64,
    ) -> Result<Self, Refused> {
        let component = engine.compile(bytes)?;
        let exports = Exports::find(&component).map_err(Refused)?;
        let hooks = exports.hooks();
        let mut pool = Pool {
            engine: engine.clone(),
            component,
            exports,
            identity: Arc::new(Identity::new(name, "?".into(), generation)),
            config: settings.config_json(),
            timeout: settings.timeout(),
            memory_mib: settings.memory_mib,
            max_idle,
            idle: Mutex::default(),
            made: AtomicU64::new(0),
        };
        let manifest = describe(&pool)?;
        check(&manifest, name, &settings)?;
        pool.identity = Arc::new(Identity::new(name, manifest.version.to_string(), generation));
        let (hides, commands) = init(&pool)?;
        Ok(Self { manifest, hooks, hides, commands, settings, hash, generation, health: Health::default(), pool })
    }

    pub(super) fn name(&self) -> &str {
        &self.manifest.name
    }

    pub(super) fn instances(&self) -> u64 {
        self.pool.made.load(Relaxed)
    }

    pub(super) fn counters(&self) -> std::collections::BTreeMap<String, f64> {
        self.pool.identity.counters()
    }

    /// Whether somebody waits, or is denied, while the plugin fails.
    pub(super) fn holds(&self) -> bool {
        match self.settings.on_failure {
            Some(mode) => mode == OnFailure::Closed,
            None => self.hooks.filter || self.hooks.authorize || self.hooks.before,
        }
    }

    /// What a failing `authorize`, `before` or `filter` means.
    pub(super) fn is_closed(&self) -> bool {
        self.settings.on_failure != Some(OnFailure::Open)
    }

    /// What a failing `enrich` means.
    pub(super) fn enrich_is_closed(&self) -> bool {
        self.settings.on_failure == Some(OnFailure::Closed)
    }

    pub(super) fn connect(&self, who: &Subject<'_>) -> Result<Decision, Unavailable> {
        let decide = || self.ask(|guest, store| guest.connect(store, who)).and_then(bindings::check_decision);
        self.guarded("authorize", decide)
    }

    pub(super) fn subscribe(&self, who: &Subject<'_>, room: &str) -> Result<Decision, Unavailable> {
        let decide = || self.ask(|guest, store| guest.subscribe(store, who, room)).and_then(bindings::check_decision);
        self.guarded("authorize", decide)
    }

    /// Asks `before`; `use_it` says what is wrong with the answer, which is the plugin's fault.
    pub(super) fn before<T>(
        &self,
        asked: &Asked<'_>,
        use_it: impl FnOnce(Answered) -> Result<T, String>,
    ) -> Result<T, Unavailable> {
        self.guarded("before", || {
            let ruling = self.ask(|guest, store| guest.before(store, asked)).and_then(bindings::check_ruling)?;
            use_it(ruling).map_err(Fault::Invalid)
        })
    }

    /// Takes note of a fault that came to light after the answer.
    pub(super) fn blame(&self, hook: &'static str, reason: &str) -> Unavailable {
        let fault = self.guarded::<()>(hook, || Err(Fault::Invalid(reason.to_owned())));
        fault.expect_err("it is a fault")
    }

    pub(super) fn enrich(&self, event: Event<'_>) -> Result<Vec<Edit>, Unavailable> {
        self.guarded("enrich", || self.try_enrich(event))
    }

    pub(super) fn filter(&self, event: Event<'_>, roles: &[Role]) -> Result<Vec<Verdict>, Unavailable> {
        self.guarded("filter", || self.try_filter(event, roles))
    }

    /// `enrich` without the breaker, for a trial.
    pub(super) fn try_enrich(&self, event: Event<'_>) -> Result<Vec<Edit>, Fault> {
        self.ask(|guest, store| guest.enrich(store, event)).and_then(bindings::check_edits)
    }

    /// `filter` without the breaker, for a trial.
    pub(super) fn try_filter(&self, event: Event<'_>, roles: &[Role]) -> Result<Vec<Verdict>, Fault> {
        let mut names = [""; Role::ALL.len()];
        let names = &mut names[..roles.len()];
        names.iter_mut().zip(roles).for_each(|(name, role)| *name = role.as_str());
        let verdicts = self.ask(|guest, store| guest.filter(store, event, names))?;
        bindings::check_verdicts(verdicts, roles, &self.hides)
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&Guest, StoreContextMut<'_, State>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, Fault> {
        self.pool.ask(question)?.map_err(|reason| Fault::Failed(super::host::cut(&reason, 1000).to_owned()))
    }

    /// Asks unless the breaker is open, and takes note of how it went.
    fn guarded<T>(&self, hook: &'static str, question: impl FnOnce() -> Result<T, Fault>) -> Result<T, Unavailable> {
        let permit = self.health.permit(Instant::now()).map_err(|reason| self.unavailable(reason))?;
        match question() {
            Ok(answer) => {
                self.health.good(permit);
                Ok(answer)
            }
            Err(fault) => {
                let (plugin, version, generation) = (self.name(), &self.manifest.version, self.generation);
                let opened = self.health.bad(permit, hook, &fault, Instant::now());
                tracing::warn!(plugin, %version, generation, hook, "{plugin}: {hook} {fault}");
                if opened {
                    tracing::error!(plugin, %version, generation, hook, "{plugin} fails again and again and is given a rest");
                }
                Err(self.unavailable(format!("{hook} {fault}")))
            }
        }
    }

    fn unavailable(&self, reason: String) -> Unavailable {
        Unavailable { plugin: self.name().into(), reason }
    }
}

fn describe(pool: &Pool) -> Result<Manifest, Refused> {
    let refused = |fault: Fault| Refused(format!("describe {fault}"));
    let mut instance = pool.instance(pool.identity.clone()).map_err(refused)?;
    let described = instance.call(INIT_LIMIT, |guest, store| guest.describe(store)).map_err(refused)?;
    Manifest::check(described).map_err(|reason| Refused(format!("its manifest is invalid: {reason}")))
}

fn check(manifest: &Manifest, name: &str, settings: &PluginSettings) -> Result<(), Refused> {
    if manifest.name != name {
        let own = &manifest.name;
        return Err(Refused(format!("the plugin calls itself {own:?}: its file must be named {own}.wasm")));
    }
    if manifest.whole_payload && !settings.grant.whole_payload {
        let line = "grant.whole_payload = true";
        return Err(Refused(format!("it asks for whole payloads, which are not granted: add `{line}` to {name}.toml")));
    }
    Ok(())
}

/// Makes the first instance, which stays warm.
fn init(pool: &Pool) -> Result<(Hides, Events), Refused> {
    let refused = |fault: Fault| match fault {
        Fault::Init(_) => Refused(fault.to_string()),
        fault => Refused(format!("init {fault}")),
    };
    let mut instance = pool.instance(pool.identity.clone()).map_err(refused)?;
    let accepted = instance.call(INIT_LIMIT, |guest, store| guest.init(store, &pool.config)).map_err(refused)?;
    accepted.map_err(|reason| refused(refused_config(reason)))?;
    let hidden = instance
        .call(INIT_LIMIT, |guest, store| guest.hides(store))
        .and_then(bindings::check_hides)
        .map_err(|fault| Refused(format!("hides {fault}")))?;
    let commands = instance
        .call(INIT_LIMIT, |guest, store| guest.commands(store))
        .and_then(bindings::check_commands)
        .map_err(|fault| Refused(format!("commands {fault}")))?;
    pool.give_back(instance);
    Ok((hidden, commands))
}

#[cfg(test)]
#[path = "../../tests/it/guest.rs"]
#[allow(dead_code, unreachable_pub)]
mod guest;

#[cfg(test)]
mod tests {
    use super::{guest::Guest, *};

    #[test]
    fn loading_again_and_again_gives_back_all_that_it_took() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::start(dir.path()).expect("starts");
        let bytes = Guest::redactor("guard").build();
        let mut plugin = None;
        // More often than the engine has room for instances at a time.
        for generation in 0..600 {
            let loaded = Plugin::load(&engine, "guard", &bytes, "h".into(), PluginSettings::default(), 8, generation);
            let loaded = loaded.unwrap_or_else(|refused| panic!("generation {generation}: {refused}"));
            loaded
                .try_filter(Event { name: "lead:read", fields: &[], payload: None }, &[Role::Viewer])
                .expect("answers");
            plugin = Some(loaded);
        }
        assert_eq!(plugin.map(|plugin| plugin.instances()), Some(2));
    }
}

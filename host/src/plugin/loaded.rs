//! One plugin in force: what it said of itself, how to ask it, and what a failure of it means.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use parking_lot::Mutex;
use wasmtime::StoreContextMut;

use super::{
    after::{Occasion, Outcome, Wants, WebhookGrant},
    archive::Origin,
    before::Answered,
    bindings::{self, Asked, Exports, Guest, Hides, Hooks, Shown, Subject, Verdict},
    engine::Engine,
    error::{Fault, Refused},
    grant::{Access, Grant},
    health::Health,
    host::{Identity, State},
    instance::{Instances, Pool, refused_config},
    limits::Limits,
    manifest::{Events, Manifest},
    meters::{Meter, Meters},
    pipeline::{Decision, Unavailable},
    pointer::Edit,
    settings::{Mode, OnFailure, PluginSettings},
    shadow::Observed,
    status::{Dropped, InstanceCounts, Trial},
};
use crate::domain::{role::Role, time::Timestamp};

pub(super) struct Plugin {
    pub(super) manifest: Manifest,
    pub(super) hooks: Hooks,
    pub(super) hides: Hides,
    /// The commands that `before` is asked about.
    pub(super) commands: Events,
    /// What `after` is asked about and may answer.
    pub(super) wants: Wants,
    pub(super) settings: PluginSettings,
    pub(super) hash: String,
    pub(super) generation: u64,
    pub(super) health: Health,
    /// What it would have done, if it is in shadow mode.
    pub(super) observed: Mutex<Observed>,
    /// How its trial went, if there was one.
    pub(super) trial: Mutex<Option<Trial>>,
    /// Whether it is part of a set that nobody is served by: its faults are answers, and nothing else.
    pub(super) is_fixed: bool,
    pub(super) origin: Origin,
    meters: Meters,
    pool: Arc<Pool>,
}

/// How far the loading of a plugin has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Compile,
    Describe,
    Init,
    Grant,
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
        Self::load_by_stages(engine, name, bytes, hash, settings, max_idle, generation, &mut Stage::default())
    }

    /// As `load`; of a plugin that is refused, `stage` is the one that it did not pass.
    #[allow(clippy::too_many_arguments, reason = "`load` and what it got to")]
    pub(super) fn load_by_stages(
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        hash: String,
        settings: PluginSettings,
        max_idle: usize,
        generation: u64,
        stage: &mut Stage,
    ) -> Result<Self, Refused> {
        let component = engine.compile(bytes)?;
        let exports = Exports::find(&component).map_err(Refused)?;
        let hooks = exports.hooks();
        let mut pool = Pool {
            engine: engine.clone(),
            component,
            exports,
            identity: Arc::new(Identity::new(name, "?".into(), generation, &settings.limits)),
            config: settings.config_json(),
            limits: settings.limits.clone(),
            max_idle,
            idle: Mutex::default(),
            instances: Instances::default(),
        };
        *stage = Stage::Describe;
        let manifest = describe(&pool)?;
        check_own_name(&manifest, name)?;
        pool.identity = Arc::new(Identity::new(name, manifest.version.to_string(), generation, &settings.limits));
        *stage = Stage::Init;
        let Asks { hides, commands, wants } = init(&pool)?;
        let health = Health::new(&settings.limits);
        let meters = Meters::of(name, &hooks.names());
        let (observed, pool) = (Mutex::new(Observed::new()), Arc::new(pool));
        let plugin = Self {
            manifest,
            hooks,
            hides,
            commands,
            wants,
            settings,
            hash,
            generation,
            health,
            observed,
            trial: Mutex::default(),
            is_fixed: false,
            origin: Origin::default(),
            meters,
            pool,
        };
        *stage = Stage::Grant;
        plugin.asked().check(&plugin.settings.grant, name).map_err(Refused)?;
        Ok(plugin)
    }

    /// The same plugin with a health of its own: what it is asked and how it fails leaves no trace on this one.
    pub(super) fn apart(&self) -> Self {
        Self {
            manifest: self.manifest.clone(),
            hooks: self.hooks,
            hides: self.hides.clone(),
            commands: self.commands.clone(),
            wants: self.wants.clone(),
            settings: self.settings.clone(),
            hash: self.hash.clone(),
            generation: self.generation,
            health: Health::new(&self.settings.limits),
            observed: Mutex::new(Observed::new()),
            trial: Mutex::default(),
            is_fixed: self.is_fixed,
            origin: self.origin.clone(),
            meters: Meters::default(),
            pool: Arc::clone(&self.pool),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.manifest.name
    }

    /// All that it asks for, in `describe` and once it took its configuration.
    pub(super) fn asked(&self) -> Access {
        let Manifest { events, fields, whole_payload, .. } = &self.manifest;
        let mut both = events.patterns().to_vec();
        both.extend(self.wants.events.patterns().iter().filter(|event| !events.patterns().contains(event)).cloned());
        Access {
            hooks: self.hooks.names().into_iter().map(Into::into).collect(),
            events: both,
            commands: self.commands.patterns().to_vec(),
            fields: fields.iter().map(|field| field.pointer().to_owned()).collect(),
            whole_payload: *whole_payload,
            effects: self.wants.effects.clone(),
            webhook_hosts: self.wants.webhook_hosts.clone(),
            webhook_networks: Vec::new(),
        }
    }

    pub(super) fn granted(&self) -> Access {
        self.asked().granted(&self.settings.grant)
    }

    /// Whether it asks for no more than that, and reaches no further.
    pub(super) fn is_within(&self, grant: &Grant) -> bool {
        let reached = &self.settings.grant.webhook_networks;
        let is_granted = |network| grant.webhook_networks.iter().any(|granted| granted.contains(network));
        self.asked().check(grant, self.name()).is_ok() && reached.iter().all(is_granted)
    }

    /// Where its webhooks may go: what it asked for, because that was granted.
    pub(super) fn webhook_grant(&self) -> WebhookGrant {
        WebhookGrant {
            hosts: self.wants.webhook_hosts.clone(),
            networks: self.settings.grant.webhook_networks.clone(),
            secret: self.settings.webhook_secret.as_ref().map(|secret| secret.reveal().to_owned()),
        }
    }

    pub(super) fn instances(&self) -> InstanceCounts {
        self.pool.counts()
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.pool.identity.dropped()
    }

    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// How many of its calls asked for the time or for random numbers.
    pub(super) fn looks_at_clock(&self) -> u64 {
        self.pool.identity.looks.load(Relaxed)
    }

    pub(super) fn counters(&self) -> std::collections::BTreeMap<String, f64> {
        self.pool.identity.counters()
    }

    /// Tells that it is in force from now on.
    pub(super) fn announce(&self) {
        let (plugin, version, generation) = (self.name(), &self.manifest.version, self.generation);
        let (what, hooks) = (if self.is_shadow() { "looks on" } else { "is in force" }, self.hooks.names().join(", "));
        tracing::info!(plugin, %version, generation, "{plugin} {version} {what}: {hooks}");
    }

    /// Whether it only looks on.
    pub(super) fn is_shadow(&self) -> bool {
        self.settings.mode == Mode::Shadow
    }

    /// Whether somebody waits, or is denied, while the plugin fails.
    pub(super) fn holds(&self) -> bool {
        match self.settings.on_failure {
            _ if self.is_shadow() => false,
            Some(mode) => mode == OnFailure::Closed && self.decides(),
            None => self.hooks.filter || self.hooks.authorize || self.hooks.before,
        }
    }

    /// Whether some hook of it has a say in what others do or see. What follows the log is only late.
    fn decides(&self) -> bool {
        self.hooks != Hooks { after: self.hooks.after, ..Hooks::default() }
    }

    /// What a failing `authorize`, `before` or `filter` means. A shadow's faults all show, and hold nobody.
    pub(super) fn is_closed(&self) -> bool {
        self.is_shadow() || self.settings.on_failure != Some(OnFailure::Open)
    }

    /// What a failing `enrich` means.
    pub(super) fn enrich_is_closed(&self) -> bool {
        self.is_shadow() || self.settings.on_failure == Some(OnFailure::Closed)
    }

    pub(super) fn connect(&self, who: &Subject<'_>) -> Result<Decision, Unavailable> {
        self.guarded("authorize", || self.try_connect(who))
    }

    pub(super) fn subscribe(&self, who: &Subject<'_>, room: &str) -> Result<Decision, Unavailable> {
        self.guarded("authorize", || self.try_subscribe(who, room))
    }

    /// Asks `before`; `use_it` says what is wrong with the answer, which is the plugin's fault.
    pub(super) fn before<T>(
        &self,
        asked: &Asked<'_>,
        use_it: impl FnOnce(Answered) -> Result<T, String>,
    ) -> Result<T, Unavailable> {
        self.guarded("before", || {
            let ruling = self.try_before(asked)?;
            use_it(ruling).map_err(Fault::Invalid)
        })
    }

    /// Whether somebody may connect, asked without the breaker, for a trial.
    pub(super) fn try_connect(&self, who: &Subject<'_>) -> Result<Decision, Fault> {
        bindings::check_decision(self.ask(|guest, store| guest.connect(store, who))?, self.limits())
    }

    /// Whether somebody may subscribe, asked without the breaker, for a trial.
    pub(super) fn try_subscribe(&self, who: &Subject<'_>, room: &str) -> Result<Decision, Fault> {
        bindings::check_decision(self.ask(|guest, store| guest.subscribe(store, who, room))?, self.limits())
    }

    /// `before` without the breaker, for a trial.
    pub(super) fn try_before(&self, asked: &Asked<'_>) -> Result<Answered, Fault> {
        bindings::check_ruling(self.ask(|guest, store| guest.before(store, asked))?, self.limits())
    }

    /// Takes note of a fault that came to light after the answer.
    pub(super) fn blame(&self, hook: &'static str, reason: &str) -> Unavailable {
        let fault = self.guarded::<()>(hook, || Err(Fault::Invalid(reason.to_owned())));
        fault.expect_err("it is a fault")
    }

    pub(super) fn enrich(&self, event: &Shown<'_>) -> Result<Vec<Edit>, Unavailable> {
        self.guarded_about(event.lead, "enrich", || self.try_enrich(event))
    }

    pub(super) fn filter(&self, event: &Shown<'_>, roles: &[Role]) -> Result<Vec<Verdict>, Unavailable> {
        self.guarded_about(event.lead, "filter", || self.try_filter(event, roles))
    }

    pub(super) fn after(&self, occasion: &Occasion<'_>, event: &Shown<'_>) -> Result<Outcome, Unavailable> {
        self.guarded("after", || self.try_after(occasion, event))
    }

    /// `after` without the breaker, for a trial.
    pub(super) fn try_after(&self, occasion: &Occasion<'_>, event: &Shown<'_>) -> Result<Outcome, Fault> {
        let outcome = self.ask(|guest, store| guest.after(store, occasion, event))?;
        bindings::check_outcome(outcome, &self.wants, self.limits())
    }

    /// `enrich` without the breaker, for a trial.
    pub(super) fn try_enrich(&self, event: &Shown<'_>) -> Result<Vec<Edit>, Fault> {
        bindings::check_edits(self.ask(|guest, store| guest.enrich(store, event))?, self.limits())
    }

    /// `filter` without the breaker, for a trial.
    pub(super) fn try_filter(&self, event: &Shown<'_>, roles: &[Role]) -> Result<Vec<Verdict>, Fault> {
        let verdicts = self.ask(|guest, store| guest.filter(store, event, roles))?;
        bindings::check_verdicts(verdicts, roles, &self.hides, self.limits())
    }

    /// Lets the plugin's clock stand still.
    pub(super) fn stop_clock(&self, at: Timestamp) {
        self.pool.identity.stop_clock(at);
    }

    /// Lets go of the warm instances, so that a fresh one is asked next.
    pub(super) fn refresh(&self) {
        self.pool.idle.lock().clear();
    }

    /// Calls `describe` on a warm instance: what a call costs when there is hardly anything to do.
    pub(super) fn describe_again(&self) -> Result<(), Fault> {
        self.ask(|guest, store| guest.describe(store).map(Ok)).map(drop)
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&Guest, StoreContextMut<'_, State>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, Fault> {
        self.pool.ask(question)?.map_err(|reason| Fault::Failed(super::host::cut(&reason, 1000).to_owned()))
    }

    fn guarded<T>(&self, hook: &'static str, question: impl FnOnce() -> Result<T, Fault>) -> Result<T, Unavailable> {
        self.guarded_about(None, hook, question)
    }

    /// Asks unless the breaker is open, and takes note of how it went, and with which lead.
    fn guarded_about<T>(
        &self,
        lead: Option<&serde_json::Value>,
        hook: &'static str,
        question: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, Unavailable> {
        if self.is_fixed {
            return question().map_err(|fault| self.unavailable(format!("{hook} {fault}")));
        }
        let meter = self.meters.hook(hook);
        let permit = self.health.permit(Instant::now).map_err(|reason| {
            meter.inspect(|meter| meter.skip());
            self.unavailable(reason)
        })?;
        match Meter::measure(meter, question) {
            Ok(answer) => {
                self.health.good(permit);
                Ok(answer)
            }
            Err(fault) => {
                let (plugin, version, generation) = (self.name(), &self.manifest.version, self.generation);
                let lead = lead.and_then(|lead| lead.get("id")?.as_str()?.parse().ok());
                let opened = self.health.bad(permit, hook, &fault, lead, Instant::now());
                tracing::warn!(plugin, %version, generation, hook, "{plugin}: {hook} {fault}");
                if opened {
                    self.meters.rest();
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
    let described = instance.call(pool.limits.init_timeout(), |guest, store| guest.describe(store)).map_err(refused)?;
    Manifest::check(described).map_err(|reason| Refused(format!("its manifest is invalid: {reason}")))
}

fn check_own_name(manifest: &Manifest, name: &str) -> Result<(), Refused> {
    if manifest.name == name {
        return Ok(());
    }
    let own = &manifest.name;
    Err(Refused(format!("the plugin calls itself {own:?}: its file must be named {own}.wasm")))
}

/// What a plugin asks for once it has its configuration.
struct Asks {
    hides: Hides,
    commands: Events,
    wants: Wants,
}

/// Makes the first instance, which stays warm.
fn init(pool: &Pool) -> Result<Asks, Refused> {
    let refused = |fault: Fault| match fault {
        Fault::Init(_) => Refused(fault.to_string()),
        fault => Refused(format!("init {fault}")),
    };
    let mut instance = pool.instance(pool.identity.clone()).map_err(refused)?;
    let accepted = instance.init(pool).map_err(refused)?;
    accepted.map_err(|reason| refused(refused_config(reason)))?;
    let limit = pool.limits.init_timeout();
    let hides = instance
        .call(limit, |guest, store| guest.hides(store))
        .and_then(bindings::check_hides)
        .map_err(|fault| Refused(format!("hides {fault}")))?;
    let commands = instance
        .call(limit, |guest, store| guest.commands(store))
        .and_then(bindings::check_commands)
        .map_err(|fault| Refused(format!("commands {fault}")))?;
    let wants = instance
        .call(limit, |guest, store| guest.wants(store))
        .and_then(bindings::check_wants)
        .map_err(|fault| Refused(format!("wants {fault}")))?;
    pool.give_back(instance);
    Ok(Asks { hides, commands, wants })
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
                .try_filter(&Shown { name: "lead:read", fields: &[], payload: None, lead: None }, &[Role::Viewer])
                .expect("answers");
            plugin = Some(loaded);
        }
        assert_eq!(plugin.map(|plugin| plugin.instances().made), Some(2));
    }
}

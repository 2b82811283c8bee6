//! One loaded plugin: its manifest and requests, the calls of its hooks, and the meaning of a failure.
//!
//! Calls go through the circuit breaker; the `try_` functions are for trials and go around it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use parking_lot::Mutex;

use crate::{
    domain::{counter::Generation, plugin_name::PluginName, role::Role, time::Timestamp},
    plugin::{
        active::{
            breaker::CircuitBreaker,
            loader::{Asks, LoadStage, check_own_name, describe, init},
            metrics::{HookMetrics, PluginMetrics},
            observed::ShadowObservations,
            rollout::Trial,
        },
        contract::{
            answer::{Answered, Decision, Hides, Unavailable, Verdict},
            effect::{AfterOutcome, Occasion, Wants, WebhookGrant},
            error::{Fault, LoadError},
            grant::{Access, Grant},
            limits::Limits,
            manifest::{Events, Hooks, Manifest},
            pointer::Edit,
            settings::{OnFailure, PluginMode, PluginSettings},
        },
        wasm::{
            bindings::{CommandQuestion, EventQuestion, Exports, Guest, GuestAnswer, UserQuestion},
            check,
            counts::{Dropped, InstanceCounts},
            engine::Engine,
            imports::{GuestContext, GuestIdentity},
            pool::{InstancePool, Instances},
        },
    },
};

/// Code and settings that a plugin was made from, for the archive.
#[derive(Clone, Default)]
pub(crate) struct ArtifactSource {
    pub(crate) bytes: Arc<[u8]>,
    /// Text of the settings, as `reload::archive::settings_of` returns it.
    pub(crate) settings: String,
}

pub(crate) struct Plugin {
    pub(crate) manifest: Manifest,
    pub(crate) hooks: Hooks,
    pub(crate) hides: Hides,
    /// Commands that `before` is asked about.
    pub(crate) commands: Events,
    /// Events that `after` is asked about, and effects that it may answer with.
    pub(crate) wants: Wants,
    pub(crate) settings: PluginSettings,
    pub(crate) hash: String,
    pub(crate) generation: Generation,
    pub(crate) breaker: CircuitBreaker,
    /// Observations, if it is in shadow mode.
    pub(crate) observed: Mutex<ShadowObservations>,
    /// Result of its trial, if there was one.
    pub(crate) trial: Mutex<Option<Trial>>,
    /// Set for a plugin of a set that serves nobody: its faults are only answers, neither counted nor logged.
    pub(crate) is_fixed: bool,
    pub(crate) origin: ArtifactSource,
    meters: PluginMetrics,
    pool: Arc<InstancePool>,
}

impl Plugin {
    /// Compiles a file, reads the plugin's manifest and hands it its configuration.
    pub(crate) fn load(
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        hash: String,
        settings: PluginSettings,
        max_idle: usize,
        generation: Generation,
    ) -> Result<Self, LoadError> {
        Self::load_by_stages(engine, name, bytes, hash, settings, max_idle, generation, &mut LoadStage::default())
    }

    /// Like [`Plugin::load`]. When the plugin is refused, `stage` is the stage that it did not pass.
    #[expect(clippy::too_many_arguments, reason = "the parameters of `load` and the stage it reached")]
    pub(crate) fn load_by_stages(
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        hash: String,
        settings: PluginSettings,
        max_idle: usize,
        generation: Generation,
        stage: &mut LoadStage,
    ) -> Result<Self, LoadError> {
        let component = engine.compile(bytes)?;
        let exports = Exports::find(&component).map_err(LoadError)?;
        let hooks = exports.hooks();
        let mut pool = InstancePool {
            engine: engine.clone(),
            component,
            exports,
            identity: Arc::new(GuestIdentity::new(name, "?".into(), generation, &settings.limits)),
            config: settings.config_json(),
            limits: settings.limits.clone(),
            max_idle,
            idle: Mutex::default(),
            instances: Instances::default(),
        };
        *stage = LoadStage::Describe;
        let manifest = describe(&pool)?;
        check_own_name(&manifest, name)?;
        pool.identity = Arc::new(GuestIdentity::new(name, manifest.version.to_string(), generation, &settings.limits));
        *stage = LoadStage::Init;
        let Asks { hides, commands, wants } = init(&pool)?;
        let health = CircuitBreaker::new(&settings.limits);
        let meters = PluginMetrics::of(name, &hooks.names());
        let (observed, pool) = (Mutex::new(ShadowObservations::new()), Arc::new(pool));
        let plugin = Self {
            manifest,
            hooks,
            hides,
            commands,
            wants,
            settings,
            hash,
            generation,
            breaker: health,
            observed,
            trial: Mutex::default(),
            is_fixed: false,
            origin: ArtifactSource::default(),
            meters,
            pool,
        };
        *stage = LoadStage::Grant;
        plugin.asked().check(&plugin.settings.grant, name).map_err(LoadError)?;
        Ok(plugin)
    }

    /// Copies the plugin, with a circuit breaker of its own: calls and faults of the copy leave no trace on this one.
    pub(crate) fn apart(&self) -> Self {
        Self {
            manifest: self.manifest.clone(),
            hooks: self.hooks,
            hides: self.hides.clone(),
            commands: self.commands.clone(),
            wants: self.wants.clone(),
            settings: self.settings.clone(),
            hash: self.hash.clone(),
            generation: self.generation,
            breaker: CircuitBreaker::new(&self.settings.limits),
            observed: Mutex::new(ShadowObservations::new()),
            trial: Mutex::default(),
            is_fixed: self.is_fixed,
            origin: self.origin.clone(),
            meters: PluginMetrics::default(),
            pool: Arc::clone(&self.pool),
        }
    }

    pub(crate) fn name(&self) -> &PluginName {
        &self.manifest.name
    }

    /// Lists all that it requests, in `describe` and once it took its configuration.
    pub(crate) fn asked(&self) -> Access {
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

    pub(crate) fn granted(&self) -> Access {
        self.asked().granted(&self.settings.grant)
    }

    /// Returns true if it requests no more than `grant` allows, and its webhooks reach no further networks.
    pub(crate) fn is_within(&self, grant: &Grant) -> bool {
        let reached = &self.settings.grant.webhook_networks;
        let is_granted = |network| grant.webhook_networks.iter().any(|granted| granted.contains(network));
        self.asked().check(grant, self.name()).is_ok() && reached.iter().all(is_granted)
    }

    /// Returns where its webhooks may go: the hosts that it requested, because those were granted.
    pub(crate) fn webhook_grant(&self) -> WebhookGrant {
        WebhookGrant {
            hosts: self.wants.webhook_hosts.clone(),
            networks: self.settings.grant.webhook_networks.clone(),
            secret: self.settings.webhook_secret.as_ref().map(|secret| secret.reveal().to_owned()),
        }
    }

    pub(crate) fn instances(&self) -> InstanceCounts {
        self.pool.counts()
    }

    pub(crate) fn dropped(&self) -> Dropped {
        self.pool.identity.dropped()
    }

    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Number of its calls that asked for the time or for random numbers.
    pub(crate) fn looks_at_clock(&self) -> u64 {
        self.pool.identity.looks.load(Relaxed)
    }

    pub(crate) fn counters(&self) -> std::collections::BTreeMap<String, f64> {
        self.pool.identity.counters()
    }

    /// Logs that it is active from now on, or in shadow mode.
    pub(crate) fn announce(&self) {
        let (plugin, version, generation) = (self.name().as_str(), &self.manifest.version, self.generation.0);
        let (what, hooks) =
            (if self.is_shadow() { "is in shadow mode" } else { "is active" }, self.hooks.names().join(", "));
        tracing::info!(plugin, %version, generation, "{plugin} {version} {what}: {hooks}");
    }

    /// Returns true if it only observes.
    pub(crate) fn is_shadow(&self) -> bool {
        self.settings.mode == PluginMode::Shadow
    }

    /// Returns true if somebody waits, or is denied, while the plugin fails.
    pub(crate) fn holds(&self) -> bool {
        match self.settings.on_failure {
            _ if self.is_shadow() => false,
            Some(mode) => mode == OnFailure::Closed && self.decides(),
            None => self.hooks.filter || self.hooks.authorize || self.hooks.before,
        }
    }

    /// Returns true if one of its hooks decides what others do or see. A failing `after` only makes effects late.
    fn decides(&self) -> bool {
        self.hooks != Hooks { after: self.hooks.after, ..Hooks::default() }
    }

    /// Returns true if `authorize`, `before` and `filter` fail closed. In shadow mode they do, so that all faults show;
    /// that holds nobody back.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_shadow() || self.settings.on_failure != Some(OnFailure::Open)
    }

    /// Returns true if `enrich` fails closed.
    pub(crate) fn enrich_is_closed(&self) -> bool {
        self.is_shadow() || self.settings.on_failure == Some(OnFailure::Closed)
    }

    pub(crate) fn connect(&self, who: &UserQuestion<'_>) -> Result<Decision, Unavailable> {
        self.guarded("authorize", || self.try_connect(who))
    }

    pub(crate) fn subscribe(&self, who: &UserQuestion<'_>, room: &str) -> Result<Decision, Unavailable> {
        self.guarded("authorize", || self.try_subscribe(who, room))
    }

    /// Calls `before`; `use_it` says what is wrong with the answer, which is the plugin's fault.
    pub(crate) fn before<T>(
        &self,
        asked: &CommandQuestion<'_>,
        use_it: impl FnOnce(Answered) -> Result<T, String>,
    ) -> Result<T, Unavailable> {
        self.guarded("before", || {
            let ruling = self.try_before(asked)?;
            use_it(ruling).map_err(Fault::Invalid)
        })
    }

    /// Asks if somebody may connect, without the circuit breaker, for a trial.
    pub(crate) fn try_connect(&self, who: &UserQuestion<'_>) -> Result<Decision, Fault> {
        check::check_decision(self.ask(|guest, store| guest.connect(store, who))?, self.limits())
    }

    /// Asks if somebody may subscribe, without the circuit breaker, for a trial.
    pub(crate) fn try_subscribe(&self, who: &UserQuestion<'_>, room: &str) -> Result<Decision, Fault> {
        check::check_decision(self.ask(|guest, store| guest.subscribe(store, who, room))?, self.limits())
    }

    /// Calls `before` without the circuit breaker, for a trial.
    pub(crate) fn try_before(&self, asked: &CommandQuestion<'_>) -> Result<Answered, Fault> {
        check::check_ruling(self.ask(|guest, store| guest.before(store, asked))?, self.limits())
    }

    /// Records a fault that came to light after the answer.
    pub(crate) fn blame(&self, hook: &'static str, reason: &str) -> Unavailable {
        let fault = self.guarded::<()>(hook, || Err(Fault::Invalid(reason.to_owned())));
        fault.expect_err("it is a fault")
    }

    pub(crate) fn enrich(&self, event: &EventQuestion<'_>) -> Result<Vec<Edit>, Unavailable> {
        self.guarded_about(event.lead, "enrich", || self.try_enrich(event))
    }

    pub(crate) fn filter(&self, event: &EventQuestion<'_>, roles: &[Role]) -> Result<Vec<Verdict>, Unavailable> {
        self.guarded_about(event.lead, "filter", || self.try_filter(event, roles))
    }

    pub(crate) fn after(
        &self,
        occasion: &Occasion<'_>,
        event: &EventQuestion<'_>,
    ) -> Result<AfterOutcome, Unavailable> {
        self.guarded("after", || self.try_after(occasion, event))
    }

    /// Calls `after` without the circuit breaker, for a trial.
    pub(crate) fn try_after(&self, occasion: &Occasion<'_>, event: &EventQuestion<'_>) -> Result<AfterOutcome, Fault> {
        let outcome = self.ask(|guest, store| guest.after(store, occasion, event))?;
        check::check_outcome(outcome, &self.wants, self.limits())
    }

    /// Calls `enrich` without the circuit breaker, for a trial.
    pub(crate) fn try_enrich(&self, event: &EventQuestion<'_>) -> Result<Vec<Edit>, Fault> {
        check::check_edits(self.ask(|guest, store| guest.enrich(store, event))?, self.limits())
    }

    /// Calls `filter` without the circuit breaker, for a trial.
    pub(crate) fn try_filter(&self, event: &EventQuestion<'_>, roles: &[Role]) -> Result<Vec<Verdict>, Fault> {
        let verdicts = self.ask(|guest, store| guest.filter(store, event, roles))?;
        check::check_verdicts(verdicts, roles, &self.hides, self.limits())
    }

    /// Freezes the clock that the plugin sees.
    pub(crate) fn stop_clock(&self, at: Timestamp) {
        self.pool.identity.stop_clock(at);
    }

    /// Drops the warm instances, so that a fresh one is called next.
    pub(crate) fn refresh(&self) {
        self.pool.idle.lock().clear();
    }

    /// Calls `describe` on a warm instance, to measure what a call costs when there is hardly anything to do.
    pub(crate) fn describe_again(&self) -> Result<(), Fault> {
        self.ask(|guest, store| guest.describe(store).map(Ok)).map(drop)
    }

    fn ask<T>(&self, question: impl FnOnce(&Guest, GuestContext<'_>) -> GuestAnswer<T>) -> Result<T, Fault> {
        self.pool
            .ask(question)?
            .map_err(|reason| Fault::Failed(crate::plugin::contract::text::cut(&reason, 1000).to_owned()))
    }

    fn guarded<T>(&self, hook: &'static str, question: impl FnOnce() -> Result<T, Fault>) -> Result<T, Unavailable> {
        self.guarded_about(None, hook, question)
    }

    /// Calls the hook through the circuit breaker and records the outcome, with the lead that it was about.
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
        let permit = self.breaker.permit(Instant::now).map_err(|reason| {
            meter.inspect(|meter| meter.skip());
            self.unavailable(reason)
        })?;
        match HookMetrics::measure(meter, question) {
            Ok(answer) => {
                self.breaker.record_success(permit);
                Ok(answer)
            }
            Err(fault) => {
                let (plugin, version, generation) = (self.name().as_str(), &self.manifest.version, self.generation.0);
                let lead = lead.and_then(|lead| lead.get("id")?.as_str()?.parse().ok());
                let opened = self.breaker.record_failure(permit, hook, &fault, lead, Instant::now());
                tracing::warn!(plugin, %version, generation, hook, "{plugin}: {hook} {fault}");
                if opened {
                    self.meters.rest();
                    tracing::error!(plugin, %version, generation, hook, "circuit breaker of {plugin} opened");
                }
                Err(self.unavailable(format!("{hook} {fault}")))
            }
        }
    }

    fn unavailable(&self, reason: String) -> Unavailable {
        Unavailable { plugin: self.name().clone(), reason }
    }
}

#[cfg(test)]
#[path = "../../../tests/it/guest.rs"]
#[expect(dead_code, unreachable_pub, unused_imports, reason = "the integration tests use the rest")]
mod guest;

#[cfg(test)]
mod tests {
    use crate::plugin::active::plugin::{guest::Guest, *};

    #[test]
    fn repeated_loading_releases_all_resources() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::start(dir.path()).expect("starts");
        let bytes = Guest::redactor("guard").build();
        let mut plugin = None;
        // More loads than the engine has room for instances at a time.
        for generation in 0..600 {
            let loaded = Plugin::load(
                &engine,
                "guard",
                &bytes,
                "h".into(),
                PluginSettings::default(),
                8,
                Generation(generation),
            );
            let loaded = loaded.unwrap_or_else(|refused| panic!("generation {generation}: {refused}"));
            loaded
                .try_filter(
                    &EventQuestion { name: "lead:read", fields: &[], payload: None, lead: None },
                    &[Role::Viewer],
                )
                .expect("answers");
            plugin = Some(loaded);
        }
        assert_eq!(plugin.map(|plugin| plugin.instances().made), Some(2));
    }
}

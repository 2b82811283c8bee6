//! Testkit for plugin authors: one plugin by itself, asked hook by hook, without a directory, a circuit breaker or
//! other plugins.
//!
//! `golden` is what it is asked about, `check` judges its answers, `cases` compares them with what an author expects,
//! and `measure` times them. The clock that the plugin sees is frozen, so that one question has one answer.

pub(crate) mod cases;
pub(crate) mod check;
pub(crate) mod difference;
mod fuzz;
mod golden;
pub(crate) mod measure;
mod question;

use std::{path::Path, sync::Arc};

use crate::{
    domain::{counter::Generation, role::Role, time::Timestamp},
    plugin::{
        active::{
            loader::LoadStage,
            plugin::Plugin,
            set::{Set, SetMember, WorkingPlugin},
        },
        contract::{
            answer::Shaped,
            error::{Error, Fault, LoadError},
            hash,
            settings::PluginSettings,
        },
        hooks::shape,
        testkit::question::HookAnswer,
        wasm::engine::Engine,
    },
};

pub use self::{
    cases::Case,
    check::{CheckBudget, CheckReport, CheckResult, CheckStatus},
    difference::{CaseResult, Difference},
    golden::Golden,
    measure::{BenchResult, Figures},
    question::{Probe, ProbeEvent},
};

/// Engine that plugins are compiled and run on.
pub struct Testkit {
    engine: Engine,
}

impl Testkit {
    /// Starts the engine. `cache` keeps compiled code; only the user who runs this may have write access to it.
    ///
    /// # Errors
    ///
    /// When the engine does not start.
    pub fn start(cache: &Path) -> Result<Self, Error> {
        Ok(Self { engine: Engine::start(cache)? })
    }

    /// Loads a plugin as a server would.
    ///
    /// # Errors
    ///
    /// The reason why a server would refuse it.
    pub fn open(&self, name: &str, bytes: &[u8], settings: PluginSettings) -> Result<Specimen, LoadError> {
        self.open_by_stages(name, bytes, settings, &mut LoadStage::default())
    }

    fn open_by_stages(
        &self,
        name: &str,
        bytes: &[u8],
        settings: PluginSettings,
        stage: &mut LoadStage,
    ) -> Result<Specimen, LoadError> {
        let hash = hash::digest(bytes);
        let plugin = Plugin::load_by_stages(&self.engine, name, bytes, hash, settings, 1, Generation(1), stage)?;
        let plugin = Arc::new(plugin);
        plugin.stop_clock(golden::now());
        Ok(Specimen { alone: Set::alone(plugin.clone()), plugin })
    }
}

/// Plugin that was loaded for inspection.
pub struct Specimen {
    plugin: Arc<Plugin>,
    alone: Set,
}

impl Specimen {
    pub fn name(&self) -> &str {
        self.plugin.name()
    }

    pub fn version(&self) -> String {
        self.plugin.manifest.version.to_string()
    }

    pub fn hooks(&self) -> Vec<&'static str> {
        self.plugin.hooks.names()
    }

    /// Makes one call and checks its answer, for measurements.
    ///
    /// # Errors
    ///
    /// The reason why there was no answer, or none that a server could use.
    pub fn call(&self, question: &Probe) -> Result<(), String> {
        self.ask(question).map(drop).map_err(|fault| format!("{}: it {fault}", question.title()))
    }

    fn ask(&self, question: &Probe) -> Result<HookAnswer, Fault> {
        question.put(&self.plugin, &self.alone, self.working())
    }

    /// Returns true if a server would ask the plugin that question.
    fn wants(&self, question: &Probe) -> bool {
        question.is_for(&self.plugin, &self.alone)
    }

    /// Lists the golden questions that a server would ask the plugin.
    fn golden(&self) -> Vec<Probe> {
        let roles: Vec<Role> = self.plugin.manifest.roles.iter().collect();
        let questions = Golden::recorded().questions(&roles);
        questions.into_iter().filter(|question| self.wants(question)).collect()
    }

    /// Shapes an event for each role, as a server would that has this plugin and no other.
    fn shaped(&self, event: &ProbeEvent, roles: &[Role]) -> Vec<(Role, Shaped)> {
        let payload = Arc::new(event.payload.clone());
        shape::run(&self.alone, &event.name, &payload, &event.context, roles)
    }

    fn working(&self) -> &WorkingPlugin {
        let working = self.alone.members().iter().find_map(|member| match member {
            SetMember::Working(working) => Some(working),
            SetMember::Absent(_) => None,
        });
        working.expect("the set contains this plugin")
    }

    fn stop_clock(&self, at: Timestamp) {
        self.plugin.stop_clock(at);
    }
}

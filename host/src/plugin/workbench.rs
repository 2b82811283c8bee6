//! One plugin by itself, for those who write it: asked hook by hook, without a directory, a breaker or neighbours.
//!
//! `golden` is what it is asked about, `check` judges what it answers, `cases` compares that with what an author
//! expects, and `measure` times it. The clock that the plugin sees stands still, so that one question has one answer.

mod cases;
mod check;
mod fuzz;
mod golden;
mod measure;
mod question;

use std::{path::Path, sync::Arc};

pub use cases::{Case, CaseResult, Difference};
pub use check::{Check, Pains, Report, Standing};
pub use golden::Golden;
pub use measure::{Figures, Measured};
pub use question::{Question, Told};

use super::{
    engine::Engine,
    error::{Error, Fault, Refused},
    loaded::{Plugin, Stage},
    pipeline::{self, Shaped},
    set::{Member, Set, Working},
    settings::PluginSettings,
    standing,
};
use crate::domain::{role::Role, time::Timestamp};
use question::Answer;

/// What plugins are compiled and run on.
pub struct Workbench {
    engine: Engine,
}

impl Workbench {
    /// `cache` keeps compiled code, which only the user who runs this may be able to write.
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
    /// Why a server would refuse it.
    pub fn open(&self, name: &str, bytes: &[u8], settings: PluginSettings) -> Result<Specimen, Refused> {
        self.open_by_stages(name, bytes, settings, &mut Stage::default())
    }

    fn open_by_stages(
        &self,
        name: &str,
        bytes: &[u8],
        settings: PluginSettings,
        stage: &mut Stage,
    ) -> Result<Specimen, Refused> {
        let hash = standing::digest(bytes);
        let plugin = Plugin::load_by_stages(&self.engine, name, bytes, hash, settings, 1, 1, stage)?;
        let plugin = Arc::new(plugin);
        plugin.stop_clock(golden::now());
        Ok(Specimen { alone: Set::alone(plugin.clone()), plugin })
    }
}

/// A plugin that was loaded to be looked at.
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

    /// Makes one call and checks its answer, for those who measure what that takes.
    ///
    /// # Errors
    ///
    /// Why there was no answer, or none that a server could use.
    pub fn call(&self, question: &Question) -> Result<(), String> {
        self.ask(question).map(drop).map_err(|fault| format!("{}: it {fault}", question.title()))
    }

    fn ask(&self, question: &Question) -> Result<Answer, Fault> {
        question.put(&self.plugin, &self.alone, self.working())
    }

    /// Whether a server would ask the plugin that.
    fn wants(&self, question: &Question) -> bool {
        question.is_for(&self.plugin, &self.alone)
    }

    /// Everything golden that a server would ask the plugin.
    fn golden(&self) -> Vec<Question> {
        let roles: Vec<Role> = self.plugin.manifest.roles.iter().collect();
        let questions = Golden::recorded().questions(&roles);
        questions.into_iter().filter(|question| self.wants(question)).collect()
    }

    /// What a role would be sent by a server that has this plugin and no other.
    fn shaped(&self, told: &Told, roles: &[Role]) -> Vec<(Role, Shaped)> {
        let payload = Arc::new(told.payload.clone());
        pipeline::run(&self.alone, &told.name, &payload, &told.context, roles)
    }

    fn working(&self) -> &Working {
        let working = self.alone.members().iter().find_map(|member| match member {
            Member::Working(working) => Some(working),
            Member::Absent(_) => None,
        });
        working.expect("the set was made of this plugin")
    }

    fn stop_clock(&self, at: Timestamp) {
        self.plugin.stop_clock(at);
    }
}

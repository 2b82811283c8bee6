//! Loading of one plugin: `describe` returns its manifest, `init` hands it its configuration.
//!
//! [`LoadStage`] records how far the loading came, so that the checks of `testkit` can name the stage that failed.

use crate::plugin::{
    contract::{
        answer::Hides,
        effect::Wants,
        error::{Fault, LoadError},
        manifest::{Events, Manifest},
    },
    wasm::{
        bindings::Guest,
        check,
        pool::{InstancePool, refused_config},
    },
};

/// Stage that the loading of a plugin has reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LoadStage {
    #[default]
    Compile,
    Describe,
    Init,
    Grant,
}

pub(crate) fn describe(pool: &InstancePool) -> Result<Manifest, LoadError> {
    let refused = |fault: Fault| LoadError(format!("describe {fault}"));
    let mut instance = pool.instance(pool.identity.clone()).map_err(refused)?;
    let described = instance.call(pool.limits.init_timeout(), Guest::describe).map_err(refused)?;
    Manifest::check(described).map_err(|reason| LoadError(format!("its manifest is invalid: {reason}")))
}

pub(crate) fn check_own_name(manifest: &Manifest, name: &str) -> Result<(), LoadError> {
    if manifest.name == name {
        return Ok(());
    }
    let own = &manifest.name;
    Err(LoadError(format!("the plugin calls itself {own:?}: its file must be named {own}.wasm")))
}

/// Requests of a plugin once it has its configuration.
pub(crate) struct Asks {
    pub(crate) hides: Hides,
    pub(crate) commands: Events,
    pub(crate) wants: Wants,
}

/// Creates and configures the first instance, which stays warm, and reads the plugin's requests.
pub(crate) fn init(pool: &InstancePool) -> Result<Asks, LoadError> {
    let refused = |fault: Fault| match fault {
        Fault::Init(_) => LoadError(fault.to_string()),
        fault => LoadError(format!("init {fault}")),
    };
    let mut instance = pool.instance(pool.identity.clone()).map_err(refused)?;
    let accepted = instance.init(pool).map_err(refused)?;
    accepted.map_err(|reason| refused(refused_config(reason)))?;
    let limit = pool.limits.init_timeout();
    let hides = instance
        .call(limit, Guest::hides)
        .and_then(check::check_hides)
        .map_err(|fault| LoadError(format!("hides {fault}")))?;
    let commands = instance
        .call(limit, Guest::commands)
        .and_then(check::check_commands)
        .map_err(|fault| LoadError(format!("commands {fault}")))?;
    let wants = instance
        .call(limit, Guest::wants)
        .and_then(check::check_wants)
        .map_err(|fault| LoadError(format!("wants {fault}")))?;
    pool.give_back(instance);
    Ok(Asks { hides, commands, wants })
}

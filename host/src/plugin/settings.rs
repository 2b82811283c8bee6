//! What an operator sets: `[plugins]` of the configuration, and `<name>.toml` beside each `<name>.wasm`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[plugins]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where `<name>.wasm` files are looked for; without it there are no plugins.
    pub dir: Option<PathBuf>,
    /// Where the server keeps what it knows of plugins: the names of active ones, and compiled code.
    #[serde(skip)]
    pub data_dir: PathBuf,
    /// What happens when the file of an active plugin goes away; `<name>.toml` may say otherwise.
    pub on_missing: OnMissing,
    /// Warm instances kept a plugin.
    pub warm_instances: usize,
    /// How many recent events a new plugin is tried on.
    pub dry_run_events: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: None,
            data_dir: PathBuf::from("."),
            on_missing: OnMissing::Fail,
            warm_instances: 8,
            dry_run_events: 50,
        }
    }
}

/// What a missing or refused file means for a plugin that may deny or hide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// The plugin counts as failing: what it would decide is held back.
    #[default]
    Fail,
    /// The plugin is gone, and so is what it hid. For development.
    Unload,
}

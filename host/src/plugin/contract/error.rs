//! Errors of plugins: the set cannot be maintained, a file is refused, a call faults.
//!
//! [`Error`] is for the operator of the server, [`LoadError`] for the person who put the file there, and [`Fault`] is
//! about one call.

use std::{path::PathBuf, time::Duration};

use crate::domain::plugin_name::InvalidPluginName;

/// Error of loading or maintaining the plugins at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the plugin directory {}: {source}", dir.display())]
    Directory { dir: PathBuf, source: std::io::Error },
    #[error("cannot keep plugin data in {}: {source}", dir.display())]
    DataDirectory { dir: PathBuf, source: std::io::Error },
    #[error("cannot read {}: {reason}", file.display())]
    Records { file: PathBuf, reason: String },
    /// The server does not go on without the contents of the file.
    #[error(
        "{} is damaged: {reason}; repair it, restore a copy, or move it away to discard \
         {forgotten}", file.display()
    )]
    Damaged { file: PathBuf, reason: String, forgotten: &'static str },
    #[error("cannot record the active plugins: {0}")]
    Archive(String),
    #[error("the loaded plugins did not become active within {} s; they will once the log is readable again", .0.as_secs())]
    Late(Duration),
    /// A plugin that was requested by name cannot be loaded.
    #[error("plugin {plugin}: {reason}")]
    Refused { plugin: String, reason: String },
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
}

/// Reason why a file is not loaded, for the person who put it there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

impl From<InvalidPluginName> for LoadError {
    fn from(invalid: InvalidPluginName) -> Self {
        Self(invalid.to_string())
    }
}

/// Reason why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("ran past its deadline of {} ms", .0.as_millis())]
    Deadline(Duration),
    #[error("exceeded its memory limit of {0} MiB")]
    Memory(u64),
    #[error("trapped: {0}")]
    Trap(String),
    #[error("answered with an error: {0}")]
    Failed(String),
    #[error("gave an invalid answer: {0}")]
    Invalid(String),
    /// The answer does not have one verdict per role.
    #[error("gave an invalid answer: {0}")]
    Undecided(String),
    /// An edit of a pointer that `hides` does not list.
    #[error("gave an invalid answer: {0}")]
    Unlisted(String),
    #[error("refused its configuration: {0}")]
    Init(String),
}

//! What goes wrong with plugins: a file is refused, a call faults.

use std::{path::PathBuf, time::Duration};

/// The plugins cannot be looked after at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the plugin directory {}: {source}", dir.display())]
    Directory { dir: PathBuf, source: std::io::Error },
    #[error("cannot keep plugin data in {}: {source}", dir.display())]
    DataDirectory { dir: PathBuf, source: std::io::Error },
    #[error("cannot read {}: {reason}", file.display())]
    Records { file: PathBuf, reason: String },
    /// Nobody goes on without what it said.
    #[error(
        "{} is damaged: {reason}; expected what a server wrote there: mend it, put a copy in its place, or move it away \
         to forget {forgotten}", file.display()
    )]
    Damaged { file: PathBuf, reason: String, forgotten: &'static str },
    #[error("cannot record which plugins are in force: {0}")]
    Archive(String),
    #[error("the plugins that were loaded did not take force within {} s; they do once the log is read again", .0.as_secs())]
    Late(Duration),
    /// A plugin that was asked for by name cannot be had.
    #[error("plugin {plugin}: {reason}")]
    Refused { plugin: String, reason: String },
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
}

/// Why a file is not loaded, for the person who put it there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("ran past its deadline of {} ms", .0.as_millis())]
    Deadline(Duration),
    #[error("asked for more than its {0} MiB of memory")]
    Memory(u64),
    #[error("trapped: {0}")]
    Trap(String),
    #[error("answered with an error: {0}")]
    Failed(String),
    #[error("gave an invalid answer: {0}")]
    Invalid(String),
    /// Not one verdict for each role.
    #[error("gave an invalid answer: {0}")]
    Undecided(String),
    /// An edit that `hides` does not announce.
    #[error("gave an invalid answer: {0}")]
    Unlisted(String),
    #[error("refused its configuration: {0}")]
    Init(String),
}

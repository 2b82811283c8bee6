//! Findings of `leadwire doctor`, and the data that its checks examine.

use std::{io, path::PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::{config::Config, store::examine::Examination};

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    /// It works now, but perhaps not for long, or not for everybody.
    Warning,
    /// Something does not work, is lost, or is open to others.
    Problem,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    code: &'static str,
    /// Description of what was found and what it means.
    pub(crate) message: String,
    /// Recommended action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) action: Option<String>,
}

/// Maximum size in bytes of the note about the log, which has a few hundred.
pub(crate) const MAX_NOTE: u64 = 1 << 20;

/// Data that the checks examine.
pub(crate) struct Examined {
    pub(crate) config: Config,
    pub(crate) database: PathBuf,
    pub(crate) data_dir: PathBuf,
    /// Content of `log.json`. It is read before the log, which a server may append to meanwhile.
    pub(crate) note: io::Result<Vec<u8>>,
    /// `None` when there is no database; an error when it cannot be opened.
    pub(crate) examination: Option<Result<Examination, crate::store::Error>>,
}

/// Findings of one check.
pub(crate) struct Findings {
    pub(crate) check: &'static str,
    pub(crate) all: Vec<Finding>,
}

impl Findings {
    pub(crate) fn ok(&mut self, message: impl Into<String>) {
        self.add(Level::Ok, "ok", message.into(), None);
    }

    pub(crate) fn warn(&mut self, code: &'static str, message: impl Into<String>, action: impl Into<String>) {
        self.add(Level::Warning, code, message.into(), Some(action.into()));
    }

    pub(crate) fn problem(&mut self, code: &'static str, message: impl Into<String>, action: impl Into<String>) {
        self.add(Level::Problem, code, message.into(), Some(action.into()));
    }

    fn add(&mut self, level: Level, code: &'static str, message: String, action: Option<String>) {
        self.all.push(Finding { check: self.check, level, code, message, action });
    }
}

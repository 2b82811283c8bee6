//! Rollout of one plugin: its generations, and what the gate or an operator decided about them.
//!
//! This is the content of `generations.json`, the commands that change it (promote, drop, roll back), and the parts of
//! it that a plugin's status reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plugin::contract::{diff::Comparison, error::Error, hash::hash, settings::PluginSettings};

/// Rollout state of one plugin: its generations, and an artifact that was rejected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rollout {
    /// Active artifact, or the one that was active last.
    pub(crate) current: Option<Artifact>,
    pub(crate) previous: Option<Artifact>,
    /// Hash of the code that was active when the generation before it was brought back.
    pub(crate) rolled_back_from: Option<String>,
    /// Artifact in the directory that is rejected.
    pub(crate) aside: Option<Rejected>,
    /// Artifact that an operator let through the gate.
    promoted: Option<Artifact>,
}

/// Artifact that a generation is made from: code and settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Artifact {
    /// SHA-256 of the code.
    #[serde(deserialize_with = "hash")]
    pub(crate) hash: String,
    pub(crate) version: String,
    /// Text of `<name>.toml`.
    pub(crate) settings: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rejected {
    #[serde(flatten)]
    pub(crate) artifact: Artifact,
    pub(crate) why: RejectReason,
    pub(crate) reason: String,
    /// Comparison that the gate made.
    pub(crate) comparison: Option<Comparison>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RejectReason {
    /// Held by the gate until an operator promotes or drops it.
    Held,
    Dropped,
    RolledBack,
}

/// Command of an operator on a plugin's generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutCommand {
    /// Activates the artifact that the gate holds; with a hash, only if that is the one held.
    Promote { hash: Option<String> },
    /// Drops the artifact that the gate holds, until the files change again.
    Drop,
    /// Brings back the generation before the active one; with a hash, only if that is the active one.
    RollBack { from: Option<String> },
}

/// Error of a rollout command.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    #[error("plugin not found")]
    Unknown,
    #[error("no candidate of this plugin is held")]
    NothingHeld,
    #[error("another candidate is held: {0}")]
    OtherHeld(String),
    #[error("there is no previous generation to roll back to")]
    NothingBefore,
    #[error("cannot roll back to the previous generation: {0}")]
    NotStored(String),
    #[error("another generation is active: {0}")]
    OtherInForce(String),
    #[error("it would not become active, so nothing was changed: {0}")]
    Useless(String),
    /// The rehearsal succeeded, but its result no longer held when the set was reloaded.
    #[error("it was recorded, but did not become active: {0}")]
    NotInForce(String),
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Artifact {
    /// Returns true if both make the same plugin. Comments do not count, nor what an operator sets for every
    /// generation: `enabled`, the grant and the webhook secret.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let every = PluginSettings::default();
        let settings = |text| PluginSettings::parse(text).map(|settings| settings.allowed_by(&every));
        self.hash == other.hash
            && (self.settings == other.settings
                || settings(&self.settings).is_ok_and(|own| Ok(own) == settings(&other.settings)))
    }
}

impl Rollout {
    /// Returns true if these files are rejected.
    pub(crate) fn sets_aside(&self, files: &Artifact) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.artifact.is(files))
    }

    /// Returns true if an operator wants these files to be active, whatever they change.
    pub(crate) fn wants(&self, files: &Artifact) -> bool {
        [&self.current, &self.promoted].into_iter().flatten().any(|wanted| wanted.is(files))
    }

    /// Records that the files in the directory are active.
    pub(crate) fn take(&mut self, files: Artifact) {
        let old = self.current.take().filter(|old| !old.is(&files));
        let previous = old.or_else(|| self.previous.take());
        *self = Self { current: Some(files), previous, ..Self::default() };
    }

    /// Holds an artifact that would change more than `max_change` allows.
    pub(crate) fn hold(&mut self, artifact: Artifact, comparison: Comparison, max_change: f64) {
        let Comparison { differing, role_events, .. } = comparison;
        let reason = format!(
            "of {role_events} answers to recent events it would change {differing}, which is more than \
             gate.max_change = {max_change} lets pass: promote it or drop it"
        );
        self.aside = Some(Rejected { artifact, why: RejectReason::Held, reason, comparison: Some(comparison) });
        self.promoted = None;
    }

    /// Applies a command of an operator. Returns the artifact to activate, if any.
    pub(crate) fn shift(&mut self, shift: &RolloutCommand) -> Result<Option<Artifact>, RolloutError> {
        match shift {
            RolloutCommand::Promote { hash } => {
                let held = self.held()?.artifact.clone();
                if hash.as_ref().is_some_and(|hash| *hash != held.hash) {
                    return Err(RolloutError::OtherHeld(held.hash));
                }
                (self.aside, self.promoted) = (None, Some(held));
                Ok(self.promoted.clone())
            }
            RolloutCommand::Drop => {
                let held = self.held()?;
                held.why = RejectReason::Dropped;
                held.reason = "it was dropped; it is reconsidered when it changes".into();
                Ok(None)
            }
            RolloutCommand::RollBack { from } => {
                self.roll_back(from.as_deref())?;
                Ok(self.current.clone())
            }
        }
    }

    fn held(&mut self) -> Result<&mut Rejected, RolloutError> {
        self.aside.as_mut().filter(|aside| aside.why == RejectReason::Held).ok_or(RolloutError::NothingHeld)
    }

    fn roll_back(&mut self, from: Option<&str>) -> Result<(), RolloutError> {
        let (Some(current), Some(previous)) = (&self.current, &self.previous) else {
            return Err(RolloutError::NothingBefore);
        };
        if from.is_some_and(|from| from != current.hash) {
            return Err(RolloutError::OtherInForce(current.hash.clone()));
        }
        // After one rollback, the generation before the active one is the one that was rolled back.
        let from = current.hash.clone();
        self.rolled_back_from = if self.rolled_back_from.is_some() { None } else { Some(from) };
        self.promoted = None;
        self.aside = match self.aside.take() {
            Some(aside) => Some(aside).filter(|aside| !aside.artifact.is(previous)),
            // The directory has the files that were active until now.
            None => Some(Rejected {
                artifact: current.clone(),
                why: RejectReason::RolledBack,
                reason: "it was rolled back; it is reconsidered when it changes, or on another rollback".into(),
                comparison: None,
            }),
        };
        std::mem::swap(&mut self.current, &mut self.previous);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn hashes(&self) -> impl Iterator<Item = &str> {
        [&self.current, &self.previous].into_iter().flatten().map(|artifact| artifact.hash.as_str())
    }
}

/// Result of a trial. For a plugin that failed and is active all the same, also how often and on what first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trial {
    pub events: usize,
    pub leads: usize,
    pub failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    Active,
    /// It observes, and its answers have no effect.
    Shadow,
    /// Loaded, but in quarantine: its circuit breaker opened after faults in a row, and one probe at a time calls it.
    Failing,
    /// The file is refused, and nothing was loaded before.
    Refused,
    Disabled,
    /// The file is gone, and what the plugin decided is held back.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub state: CandidateState,
    pub hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub reason: String,
    /// Changes that it would make, where the gate holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

impl Candidate {
    pub(crate) fn refused(hash: Option<String>, reason: String) -> Self {
        Self { state: CandidateState::Refused, hash, version: None, reason, comparison: None }
    }

    pub(crate) fn of(Rejected { artifact, why, reason, comparison }: &Rejected) -> Self {
        let state = match why {
            RejectReason::Held => CandidateState::Held,
            RejectReason::Dropped => CandidateState::Dropped,
            RejectReason::RolledBack => CandidateState::RolledBack,
        };
        let (hash, version) = (Some(artifact.hash.clone()), Some(artifact.version.clone()));
        Self { state, hash, version, reason: reason.clone(), comparison: comparison.clone() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CandidateState {
    /// It cannot be loaded.
    Refused,
    /// It waits to be promoted or dropped.
    Held,
    Dropped,
    RolledBack,
}

pub(crate) type Rollouts = BTreeMap<String, Rollout>;

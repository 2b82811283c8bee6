//! Observations of a plugin in shadow mode: what it would have done since it was loaded.
//!
//! [`ShadowObservations`] counts while things happen; [`ShadowReport`] is a copy for the status.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    domain::{actor::ActorKind, time::Timestamp},
    plugin::contract::{diff::Comparison, effect::EffectName},
};

/// Report of what a plugin in shadow mode would have done since it was loaded.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowReport {
    pub since: Timestamp,
    /// Number of questions that were dropped because too many were waiting.
    pub dropped: u64,
    /// Differences in events. `held` counts those on which the plugin failed.
    pub events: Comparison,
    /// Answers about commands and users.
    pub questions: Vec<QuestionCount>,
    pub after: AfterCounts,
}

/// Effects that a plugin in shadow mode would have requested for events of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AfterCounts {
    pub asked: u64,
    pub faulted: u64,
    /// Number of requested effects, by name.
    pub effects: BTreeMap<EffectName, u64>,
}

/// Number of times that a plugin in shadow mode was asked one thing about users of one role or about plugins, and its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuestionCount {
    /// Name of a command, `connect` or `subscribe`.
    pub question: String,
    #[serde(rename = "role")]
    pub kind: ActorKind,
    #[serde(flatten)]
    pub answers: AnswerCounts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerCounts {
    pub asked: u64,
    /// Number of commands whose input it would have amended.
    pub changed: u64,
    /// Number of commands that it would have refused.
    pub refused: u64,
    /// Number of users that it would have denied.
    pub denied: u64,
    /// Number of questions that it gave no answer to.
    pub faulted: u64,
}

/// Counts so far, behind a [`ShadowReport`].
pub(crate) struct ShadowObservations {
    since: Timestamp,
    pub(crate) dropped: u64,
    pub(crate) events: Comparison,
    pub(crate) questions: BTreeMap<(String, ActorKind), AnswerCounts>,
    pub(crate) after: AfterCounts,
    /// State that `after` asked to keep, until the plugin is loaded again.
    pub(crate) state: Option<String>,
}

impl ShadowObservations {
    pub(crate) fn new() -> Self {
        let (events, questions, after) = (Comparison::default(), BTreeMap::new(), AfterCounts::default());
        Self { since: Timestamp::now(), dropped: 0, events, questions, after, state: None }
    }

    pub(crate) fn report(&self) -> ShadowReport {
        let questions = self.questions.iter().map(|((question, kind), answers)| QuestionCount {
            question: question.clone(),
            kind: *kind,
            answers: *answers,
        });
        ShadowReport {
            since: self.since,
            dropped: self.dropped,
            events: self.events.clone(),
            questions: questions.collect(),
            after: self.after.clone(),
        }
    }
}

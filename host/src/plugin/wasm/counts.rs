//! Counters of the guest's side of a plugin, as its status reports them.
//!
//! They cover its instances, and the log lines and metrics that were dropped.

use serde::Serialize;

/// Counts of a plugin's instances, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceCounts {
    pub made: u64,
    /// Idle instances, ready to be called.
    pub warm: u64,
    /// Dropped after a trap, a deadline or an answer that could not be read.
    pub broken: u64,
    /// Replaced after the allowed number of calls.
    pub aged: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// Log lines over the limit per second.
    pub log_lines: u64,
    /// Counts under an invalid name or with an invalid number, or under one name too many.
    pub metrics: u64,
}

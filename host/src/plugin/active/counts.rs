//! Call counts, circuit breaker state and last fault of one plugin, as its status reports them.
//!
//! `breaker` fills them in.

use serde::Serialize;

use crate::domain::time::Timestamp;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub calls: u64,
    pub faults: u64,
    /// Number of calls that were skipped because the circuit breaker was open.
    pub skipped: u64,
    /// Number of instances created so far.
    pub instances: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    pub state: Breaker,
    /// Number of faults since the last good answer.
    pub faults_in_a_row: u32,
    /// Length of the open period; `left_ms` is how much of it is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// The plugin is called.
    Closed,
    /// Calls are skipped.
    Open,
    /// The open period is over: the next call is a probe, or a probe is under way.
    HalfOpen,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastFault {
    pub at: Timestamp,
    pub hook: &'static str,
    pub reason: String,
}

//! Results that end a command with an exit code other than 0 although it ran without an error.

/// Negative result: the command succeeded and printed its result. Ends with exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("the check failed")]
pub(crate) struct NegativeResult;

/// Result of an examination that found problems; the field is the exit code and tells how bad they are.
#[derive(Debug, thiserror::Error)]
#[error("the check found problems")]
pub(crate) struct ProblemsFound(pub u8);

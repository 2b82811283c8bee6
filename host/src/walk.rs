//! Steps of one event through the sources, as a trace: target `leadwire::walk`, level `trace`.
//!
//! The table "Follow one event" of `docs/ARCHITECTURE.md` names the same files in the same order;
//! `host/tests/it/ops/walk.rs` compares both.

/// Traces that a step has begun, with the file that calls this.
macro_rules! walk_step {
    ($function:literal $(, $field:ident = $value:expr)*) => {
        tracing::trace!(target: "leadwire::walk", file = file!(), $($field = $value,)* $function)
    };
}

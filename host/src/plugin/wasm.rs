//! WebAssembly runtime of plugins, built on wasmtime.
//!
//! `engine` compiles components, `pool` keeps warm instances and limits each call, `imports` and `wasi` are what a
//! guest may call, `bindings` are the calls into it, and `check` rejects answers that break the contract.

pub(crate) mod bindings;
pub(crate) mod check;
pub(crate) mod counts;
pub(crate) mod engine;
pub(crate) mod imports;
pub(crate) mod pool;
mod wasi;

//! Hot reload: how the set of plugins is made from the plugin directory, recorded, and activated.
//!
//! `watch` notices changes, `reloader` makes the set, `gate` holds what changes too much, `archive` records the set and
//! `active_set` swaps it. `generations` and `tombstones` are kept across restarts. `snapshot` makes sets without a
//! directory.

pub(crate) mod active_set;
pub(crate) mod archive;
pub(crate) mod code_store;
mod entry;
mod gate;
pub(crate) mod generations;
pub(crate) mod reloader;
pub(crate) mod snapshot;
pub(crate) mod state_file;
mod tombstones;
pub(crate) mod watch;

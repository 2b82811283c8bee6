//! Plugins: hooks, hot reload, samples and the author's tools.

mod before;
mod cli;
pub(crate) mod explain;
mod files;
mod first_wit;
mod fixed;
mod generations;
mod golden;
mod hidden;
mod hooks;
mod hostile;
mod hostile_guests;
mod languages;
mod replay;
mod samples;
mod shadow;
mod swaps;
mod tools;
pub(crate) mod withheld;

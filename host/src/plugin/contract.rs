//! Values that cross the boundary between host and plugins: manifests, settings, grants, questions, answers, errors.
//!
//! No module here knows wasmtime, a loaded plugin or the plugin directory.

pub mod answer;
pub mod diff;
pub mod effect;
pub mod error;
pub mod grant;
pub mod hash;
pub mod limits;
pub mod manifest;
pub mod pointer;
pub mod question;
pub mod refusal;
pub mod settings;
pub mod text;

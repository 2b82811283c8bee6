//! The HTTP interface under `/api`: routes beside their handlers, a file a noun.

pub mod settings;

pub use settings::Settings;

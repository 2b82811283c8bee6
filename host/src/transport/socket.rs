//! The Socket.IO interface: who may connect, what a socket may say, and what it is sent.

pub mod settings;

pub use settings::Settings;

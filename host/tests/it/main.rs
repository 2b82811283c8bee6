//! One binary for all integration tests: a file a topic.

mod auth;
mod house;
pub mod support;

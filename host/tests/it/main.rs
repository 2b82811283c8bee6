//! One binary for all integration tests: a file a topic.
#![allow(unreachable_pub, clippy::print_stdout, reason = "tests have no outside, and tell what they measured")]

mod auth;
mod crash;
mod hostile;
mod house;
mod plugin_cli;
mod process;
pub mod support;

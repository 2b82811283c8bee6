//! One binary for all integration tests: five folders with one file per topic.
#![expect(unreachable_pub, clippy::print_stdout, reason = "tests have no outside, and print what they measured")]

mod effects;
mod guest;
mod house;
mod http;
mod ops;
mod plugin;
mod process;
mod socket;
mod socket_client;
pub mod support;

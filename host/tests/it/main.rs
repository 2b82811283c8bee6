//! One binary for all integration tests: a file a topic.
#![allow(unreachable_pub, clippy::print_stdout, reason = "tests have no outside, and tell what they measured")]

mod activities;
mod auth;
mod before;
mod cli;
mod crash;
mod delivery;
mod guest;
mod hostile;
mod house;
mod http;
mod leads;
mod listener;
mod live;
mod plugin_cli;
mod plugin_host;
mod process;
mod socket;
mod socket_client;
pub mod support;
mod users;

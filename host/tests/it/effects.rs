//! Effects of `after` hooks, and webhooks.

mod after_hook;
mod crash;
mod execution;
mod webhook;

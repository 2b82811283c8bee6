//! Effects: what `after` hooks ask for, and webhooks.

mod after_hook;
mod crash;
mod execution;
mod webhook;

//! Business rules: what a valid change is, which event it makes, and who may make or see it.
//!
//! Pure functions of values. No I/O, no clock and no framework in here.

pub mod activity;
pub mod actor;
pub mod audience;
pub mod command;
pub mod counter;
pub mod event;
pub mod event_name;
pub mod folding;
pub mod id;
pub mod input;
pub mod lead;
pub mod number;
pub mod plugin_name;
pub mod policy;
pub mod role;
pub mod room;
pub mod text;
pub mod time;
pub mod user;

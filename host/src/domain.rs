//! Business rules: what a valid change is, which event it makes, and who may make or see it.
//!
//! Pure functions of values. No I/O, no clock and no framework in here.

/// Names of the variants in a constant array, in its order.
macro_rules! names {
    ($all:expr) => {{
        let mut names = [""; $all.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = $all[at].as_str();
            at += 1;
        }
        names
    }};
}

pub mod activity;
pub mod actor;
pub mod audience;
pub mod command;
pub mod counter;
pub mod event;
pub mod event_name;
pub mod field;
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

//! The rules of the trade: no I/O, no clock, no framework in here.

pub mod activity;
pub mod command;
pub mod event;
pub mod folding;
pub mod id;
pub mod input;
pub mod lead;
pub mod number;
pub mod policy;
pub mod role;
pub mod room;
pub mod text;
pub mod time;
pub mod user;

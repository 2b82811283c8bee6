//! Operations: command line, database faults, backup, metrics and retention.

mod backup;
mod cli;
mod crash;
mod doctor;
mod erase;
mod faults;
mod identity;
mod listener;
mod metrics;
mod retention;
mod walk;

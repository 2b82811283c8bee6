//! Status of the plugins, for people, HTTP and the command line.
//!
//! `status` is the snapshot of one plugin, `status_file` the file that a running server keeps up to date.

pub mod status;
pub mod status_file;

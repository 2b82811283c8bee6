//! `leadwire plugin …`: for those who write plugins and those who run them.

mod build;
mod manage;
mod new;
mod toolchain;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::Subcommand;

use super::Options;
use crate::plugin;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Start a plugin: a folder that builds and passes its own test
    New(new::New),
    /// Compile plugins to components that `leadwire serve` loads
    Build(build::Build),
    /// Let a plugin take part again
    Enable(manage::Named),
    /// Keep a plugin's files, but let it take no part
    Disable(manage::Named),
    /// Delete a plugin's files, and let go of what it held back
    Remove(manage::Named),
}

pub(super) fn run(command: Command, options: &Options) -> Result<()> {
    match command {
        Command::New(new) => new::run(&new),
        Command::Build(build) => build::run(&build),
        Command::Enable(named) => manage::enable(&named, options),
        Command::Disable(named) => manage::disable(&named, options),
        Command::Remove(named) => manage::remove(&named, options),
    }
}

/// A plugin's name is that of its files, so it must be no path.
fn check_name(name: &str) -> Result<()> {
    plugin::check_name(name).map_err(anyhow::Error::msg)
}

/// Writes a file so that a watching server sees the whole of it or none.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let name = file.file_name().context("the file has no name")?.to_string_lossy();
    let part = file.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.wasm");
        replace(&file, b"one").expect("written");
        replace(&file, b"two").expect("written");
        assert_eq!(fs::read(&file).expect("there"), b"two");
        assert_eq!(dir.path().read_dir().expect("a folder").count(), 1);
    }
}

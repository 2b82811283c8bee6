//! `leadwire plugin …`: for those who write plugins and those who run them.

mod bench;
mod build;
mod check;
mod confirm;
mod list;
mod manage;
mod new;
mod replay;
mod test;
mod toolchain;
mod watch;

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use super::Options;
use crate::plugin::{self, Limits, settings::PluginSettings, workbench::Workbench};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Start a plugin: a folder that builds and passes its own test
    New(new::New),
    /// Compile plugins to components that `leadwire serve` loads
    Build(build::Build),
    /// Find out whether a server can rely on a component
    Check(check::Check),
    /// Run a plugin's own tests, then its cases against the component
    Test(test::Test),
    /// Measure what a call of each hook costs
    Bench(bench::Bench),
    /// Build, check and drop in a plugin on each save
    Watch(watch::Watch),
    /// Tell what is in the plugin folder, and what a running server makes of it
    List(list::List),
    /// Tell what a plugin would have changed of the events that the log has recorded
    Replay(replay::Replay),
    /// Let a plugin take part again
    Enable(manage::Named),
    /// Keep a plugin's files, but let it take no part
    Disable(manage::Named),
    /// Delete a plugin's files, and let go of what it held back
    Remove(manage::Named),
    /// Put in force what the gate holds
    Promote(manage::Promote),
    /// Forget what the gate holds, until the files change again
    Drop(manage::Named),
    /// Bring back the generation before the one in force; once more, and the later one is back
    Rollback(manage::Rollback),
}

pub(super) fn run(command: Command, options: &Options) -> Result<()> {
    match command {
        Command::New(new) => new::run(&new),
        Command::Build(build) => build::run(&build),
        Command::Check(check) => check::run(&check, options),
        Command::Test(test) => test::run(&test, options),
        Command::Bench(bench) => bench::run(&bench, options),
        Command::Watch(watch) => watch::run(&watch, options),
        Command::List(list) => list::run(&list, options),
        Command::Replay(replay) => replay::run(&replay, options),
        Command::Enable(named) => manage::enable(&named, options),
        Command::Disable(named) => manage::disable(&named, options),
        Command::Remove(named) => manage::remove(&named, options),
        Command::Promote(promote) => manage::promote(promote, options),
        Command::Drop(named) => manage::drop_held(&named, options),
        Command::Rollback(rollback) => manage::roll_back(rollback, options),
    }
}

/// A plugin's name is that of its files, so it must be no path.
fn check_name(name: &str) -> Result<()> {
    plugin::check_name(name).map_err(anyhow::Error::msg)
}

/// A component and its settings, or what is wrong with those.
struct Component {
    name: String,
    bytes: Vec<u8>,
    settings: Result<PluginSettings, String>,
    /// Where its settings are, if it has some.
    settings_file: Option<PathBuf>,
}

impl Component {
    /// `settings` is the file to take them from, in place of `NAME.toml` beside the component; what it leaves open of
    /// the limits is as the server has it.
    fn read(file: &Path, settings: Option<&Path>, limits: &Limits) -> Result<Self> {
        let name = match (file.extension(), file.file_stem().and_then(|stem| stem.to_str())) {
            (Some(extension), Some(stem)) if extension == "wasm" => stem.to_owned(),
            _ => bail!("{} is no plugin's file: expected NAME.wasm", file.display()),
        };
        let unread = |file: &Path| format!("cannot read {}", file.display());
        // Whatever is beside it: settings that cannot be read must not count as none.
        let beside = Some(file.with_extension("toml")).filter(|beside| fs::symlink_metadata(beside).is_ok());
        let settings_file = settings.map(Path::to_owned).or(beside);
        let settings = match &settings_file {
            None => Ok(PluginSettings::within(limits)),
            Some(file) => {
                let text = plugin::file::read_text(file, limits.settings_bytes()).with_context(|| unread(file))?;
                PluginSettings::parse_over(&text, limits).map_err(|why| format!("{}: {why}", file.display()))
            }
        };
        let most = settings.as_ref().map_or(limits, |settings| &settings.limits).file_bytes();
        let bytes = plugin::file::read(file, most).with_context(|| unread(file))?;
        Ok(Self { name, bytes, settings, settings_file })
    }

    /// What says what its limits are; `server` is where those of all plugins come from.
    fn limits_from(&self, server: &str) -> String {
        match &self.settings_file {
            Some(file) => format!("{server}, and {} where it says otherwise", file.display()),
            None => server.into(),
        }
    }
}

fn workbench() -> Result<Workbench> {
    let compiled = cache()?.join("compiled");
    fs::create_dir_all(&compiled).with_context(|| format!("cannot create {}", compiled.display()))?;
    let compiled = compiled.canonicalize().with_context(|| format!("cannot find {}", compiled.display()))?;
    Ok(Workbench::start(&compiled)?)
}

/// Below the user's cache folder.
fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set; a folder is needed for what is kept")?.join("leadwire"))
}

/// Writes a file so that a watching server sees the whole of it or none.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let name = file.file_name().context("the file has no name")?.to_string_lossy();
    let part = file.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = write_new(&part, file, bytes).and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("cannot write {}", file.display()))
}

/// Makes the file `part`, with the mode of the one it will replace: settings may hold secrets.
fn write_new(part: &Path, replaced: &Path, bytes: &[u8]) -> io::Result<()> {
    // Something else of that name, a FIFO even, is not opened.
    let open = || OpenOptions::new().write(true).create_new(true).open(part);
    let mut written = match open() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(part).and_then(|()| open())?,
        opened => opened?,
    };
    if let Ok(old) = fs::metadata(replaced).map(|old| old.permissions()) {
        written.set_permissions(old)?;
    }
    written.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.wasm");
        replace(&file, b"one").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a change of mode");
        replace(&file, b"two").expect("written");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&file).expect("there"), b"two");
        assert_eq!(dir.path().read_dir().expect("a folder").count(), 1);
    }
}

//! `leadwire plugin enable|disable|remove` changes a plugin folder; `promote|drop|rollback` changes a plugin's
//! generations.
//!
//! All are safe beside a running server, which sees each change by itself, as if it had been made by hand. The command
//! waits until the server reports it.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use toml_edit::{DocumentMut, value};

use crate::{
    auth::Principal,
    cli::{
        options::Options,
        plugin::confirm::{Expected, ServerReport, confirm},
        runtime::runtime,
    },
    domain::{plugin_name::PluginName, time::Timestamp},
    files::{self, FileAccess},
    plugin::{self, Limits, RolloutCommand},
    server::claim,
    store::audit::AuditKind,
};

#[derive(Args)]
pub(crate) struct PluginArg {
    /// Name of the plugin: the name of its file, without `.wasm`
    name: String,
}

#[derive(Args)]
pub(crate) struct Promote {
    #[command(flatten)]
    named: PluginArg,
    /// Only if the gate holds the code with this SHA-256
    #[arg(long)]
    hash: Option<String>,
}

#[derive(Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    named: PluginArg,
    /// Only if the code with this SHA-256 is in force
    #[arg(long, value_name = "HASH")]
    from: Option<String>,
}

/// Paths of the two files of a plugin.
struct PluginPaths {
    component: PathBuf,
    settings: PathBuf,
}

impl PluginPaths {
    fn of(name: &str, dir: &Path) -> Self {
        Self { component: dir.join(format!("{name}.wasm")), settings: dir.join(format!("{name}.toml")) }
    }
}

pub(crate) fn enable(named: &PluginArg, options: &Options) -> Result<()> {
    switch(&named.name, &folder(options)?, true)?;
    record(AuditKind::PluginEnabled, &named.name, None, options);
    let is_done = |report: &ServerReport| report.item.is_some() && report.state() != "disabled";
    confirm(&Expected { name: &named.name, done: "enabled", is_done: &is_done }, options)
}

pub(crate) fn disable(named: &PluginArg, options: &Options) -> Result<()> {
    switch(&named.name, &folder(options)?, false)?;
    record(AuditKind::PluginDisabled, &named.name, None, options);
    let is_done = |report: &ServerReport| report.state() == "disabled";
    confirm(&Expected { name: &named.name, done: "disabled", is_done: &is_done }, options)
}

pub(crate) fn remove(named: &PluginArg, options: &Options) -> Result<()> {
    let name = &named.name;
    let plugin: PluginName = name.parse()?;
    let (dir, data_dir) = (folder(options)?, options.load()?.data_dir()?);
    let files = PluginPaths::of(name, &dir);
    // The component first: if the settings vanished before it, the server would load it without settings.
    let component = delete(&files.component)?;
    let settings = delete(&files.settings)?;
    let known =
        plugin::forget(&data_dir, name).with_context(|| format!("cannot remove the tombstone of plugin {name}"))?;
    let followed = forget_effects(&plugin, options).with_context(|| format!("cannot delete the effects of {name}"))?;
    if !(component || settings || known || followed) {
        bail!("there is no plugin {name} in {}", dir.display());
    }
    record(AuditKind::PluginRemoved, name, None, options);
    confirm(&Expected { name, done: "removed", is_done: &|report| report.item.is_none() }, options)
}

pub(crate) fn promote(Promote { named, hash }: Promote, options: &Options) -> Result<()> {
    shift(&named, options, &RolloutCommand::Promote { hash }, "promoted")
}

pub(crate) fn drop_held(named: &PluginArg, options: &Options) -> Result<()> {
    shift(named, options, &RolloutCommand::Drop, "dropped the held candidate of")
}

pub(crate) fn roll_back(Rollback { named, from }: Rollback, options: &Options) -> Result<()> {
    shift(&named, options, &RolloutCommand::RollBack { from }, "rolled back")
}

fn shift(named: &PluginArg, options: &Options, shift: &RolloutCommand, done: &str) -> Result<()> {
    let name = &named.name;
    name.parse::<PluginName>()?;
    folder(options)?;
    let before = ServerReport::read(&options.load()?.data_dir()?, name)?.map(|report| report.generation);
    plugin::shift(options.load()?.plugins, name, shift).with_context(|| format!("plugin {name}"))?;
    let (kind, hash) = match shift {
        RolloutCommand::Promote { hash } => (AuditKind::PluginPromoted, hash.as_deref()),
        RolloutCommand::Drop => (AuditKind::PluginDropped, None),
        RolloutCommand::RollBack { from } => (AuditKind::PluginRolledBack, from.as_deref()),
    };
    record(kind, name, hash, options);
    let is_dropped =
        |report: &ServerReport| report.item.as_ref().is_some_and(|item| item["candidate"]["state"] == "dropped");
    let is_done = |report: &ServerReport| match shift {
        RolloutCommand::Drop => is_dropped(report),
        // When another version of the plugin is in force, the set has another generation.
        RolloutCommand::Promote { .. } | RolloutCommand::RollBack { .. } => Some(report.generation) != before,
    };
    confirm(&Expected { name, done, is_done: &is_done }, options)
}

/// Records the order in the audit table, if there is a database. The order is carried out either way.
fn record(kind: AuditKind, name: &str, hash: Option<&str>, options: &Options) {
    let recorded = options.load().and_then(|config| {
        if !config.database_file()?.exists() {
            return Ok(());
        }
        let mut entry = Principal::operator().entry(kind).about(name).with("uid", rustix::process::getuid().as_raw());
        if let Some(hash) = hash {
            entry = entry.with("hash", hash);
        }
        runtime()?.block_on(async {
            let store = claim::open_for_command(&config, "plugin").await?;
            let mut tx = store.write().await?;
            tx.audit(&entry, Timestamp::now()).await?;
            tx.commit().await?;
            store.close().await;
            Ok(())
        })
    });
    if let Err(error) = recorded {
        let _ = writeln!(io::stderr(), "warning: not recorded in the audit table: {error:#}");
    }
}

/// Deletes the plugin's log position, state, effects and reminders; false when there was nothing.
fn forget_effects(name: &PluginName, options: &Options) -> Result<bool> {
    let config = options.load()?;
    // A removal must not create a database.
    if !config.database_file()?.exists() {
        return Ok(false);
    }
    runtime()?.block_on(async {
        let store = claim::open_for_command(&config, "plugin remove").await?;
        let mut tx = store.write().await?;
        let forgotten = tx.forget_follower(name).await?;
        tx.commit().await?;
        store.close().await;
        Ok(forgotten)
    })
}

pub(crate) fn folder(options: &Options) -> Result<PathBuf> {
    options.load()?.plugins.dir.context("no plugin folder is set; name it with --plugins DIR")
}

fn switch(name: &str, dir: &Path, enabled: bool) -> Result<()> {
    name.parse::<PluginName>()?;
    let files = PluginPaths::of(name, dir);
    let most = Limits::default().settings_bytes();
    let text = match files::read_text(&files.settings, most) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && files.component.is_file() => String::new(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no plugin {name} in {}", dir.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", files.settings.display())),
    };
    let changed = with_enabled(&text, enabled).with_context(|| format!("cannot read {}", files.settings.display()))?;
    if changed != text {
        files::replace(&files.settings, changed.as_bytes(), FileAccess::Inherited)
            .with_context(|| format!("cannot write {}", files.settings.display()))?;
    }
    Ok(())
}

/// Returns the settings with `enabled` set; comments and everything else are preserved.
fn with_enabled(text: &str, enabled: bool) -> Result<String> {
    let mut settings: DocumentMut = text.parse()?;
    // Assigning to the item would lose its trailing comment.
    match settings.get_mut("enabled").and_then(|item| item.as_value_mut()) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = enabled.into();
            *old.decor_mut() = decor;
        }
        None => {
            settings.insert("enabled", value(enabled));
        }
    }
    Ok(settings.to_string())
}

/// Deletes a file; false when it did not exist.
fn delete(file: &Path) -> Result<bool> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot delete {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enabling_and_disabling_keeps_comments_and_formatting() {
        let text = "# mine\nenabled = true # for now\norder = 3\n\n[config]\nroles = [\"VIEWER\"] # all\n";
        let off = with_enabled(text, false).expect("valid");
        assert_eq!(off, text.replace("true", "false"));
        assert_eq!(with_enabled(&off, true).expect("valid"), text);
    }

    #[test]
    fn a_missing_key_is_inserted_before_the_tables() {
        let text = with_enabled("[config]\na = 1\n", false).expect("valid");
        let table: toml::Table = text.parse().expect("valid");
        assert_eq!(table["enabled"].as_bool(), Some(false));
        assert_eq!(with_enabled("", false).expect("valid"), "enabled = false\n");
    }

    #[test]
    fn a_plugin_without_a_settings_file_gets_one() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("mine.wasm"), b"").expect("written");
        switch("mine", dir.path(), false).expect("disabled");
        assert_eq!(fs::read_to_string(dir.path().join("mine.toml")).expect("there"), "enabled = false\n");
    }

    #[test]
    fn an_unknown_plugin_is_reported() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = switch("mine", dir.path(), false).expect_err("refused").to_string();
        assert!(error.starts_with("there is no plugin mine in "), "{error}");
        assert!(switch("../mine", dir.path(), false).is_err());
    }
}

//! Component files and their settings, as the commands for authors read them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    files,
    plugin::{Limits, contract::settings::PluginSettings, testkit::Testkit},
};

/// Component with its settings, or with the error in those.
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) settings: Result<PluginSettings, String>,
    /// Path of the settings file, if there is one.
    settings_file: Option<PathBuf>,
}

impl Component {
    /// Reads a component. `settings` replaces `NAME.toml` beside the component; limits that the settings leave open are
    /// the server's.
    pub(crate) fn read(file: &Path, settings: Option<&Path>, limits: &Limits) -> Result<Self> {
        let name = match (file.extension(), file.file_stem().and_then(|stem| stem.to_str())) {
            (Some(extension), Some(stem)) if extension == "wasm" => stem.to_owned(),
            _ => bail!("{} is not a plugin file: expected NAME.wasm", file.display()),
        };
        let unread = |file: &Path| format!("cannot read {}", file.display());
        // Any kind of file beside it: settings that cannot be read must not count as absent.
        let beside = Some(file.with_extension("toml")).filter(|beside| fs::symlink_metadata(beside).is_ok());
        let settings_file = settings.map(Path::to_owned).or(beside);
        let settings = match &settings_file {
            None => Ok(PluginSettings::within(limits)),
            Some(file) => {
                let text = files::read_text(file, limits.settings_bytes()).with_context(|| unread(file))?;
                PluginSettings::parse_over(&text, limits).map_err(|why| format!("{}: {why}", file.display()))
            }
        };
        let most = settings.as_ref().map_or(limits, |settings| &settings.limits).file_bytes();
        let bytes = files::read(file, most).with_context(|| unread(file))?;
        Ok(Self { name, bytes, settings, settings_file })
    }

    /// Source of its limits; `server` is the source of the limits for all plugins.
    pub(crate) fn limits_from(&self, server: &str) -> String {
        match &self.settings_file {
            Some(file) => format!("{server}, and {} where it says otherwise", file.display()),
            None => server.into(),
        }
    }
}

pub(crate) fn workbench() -> Result<Testkit> {
    let compiled = cache()?.join("compiled");
    fs::create_dir_all(&compiled).with_context(|| format!("cannot create {}", compiled.display()))?;
    let compiled = compiled.canonicalize().with_context(|| format!("cannot find {}", compiled.display()))?;
    Ok(Testkit::start(&compiled)?)
}

/// Folder below the user's cache folder.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set; a cache folder is required")?.join("leadwire"))
}

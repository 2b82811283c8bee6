//! Options that every subcommand accepts.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::{
    config::{Config, Flag, ServerMode, layer::DEFAULT_FILE},
    plugin::Limits,
};

/// Options that every subcommand accepts; they override the environment and the file.
#[derive(Args)]
pub(crate) struct Options {
    /// Configuration file [default: leadwire.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "LEADWIRE_CONFIG")]
    config: Option<PathBuf>,
    /// Database: a file or its sqlite:// URL
    #[arg(long, global = true, value_name = "FILE")]
    database: Option<String>,
    /// Directory for the server's secret and compiled plugins
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Directory of plugins
    #[arg(long, global = true, value_name = "DIR")]
    plugins: Option<String>,
    /// Mode that sets the defaults: production or demo
    #[arg(long, global = true, value_enum)]
    mode: Option<ServerMode>,
}

impl Options {
    pub(crate) fn load(&self) -> Result<Config> {
        self.load_with(None)
    }

    pub(crate) fn load_with(&self, listen: Option<String>) -> Result<Config> {
        let mode = self.mode.map(|mode| match mode {
            ServerMode::Production => "production".to_owned(),
            ServerMode::Demo => "demo".to_owned(),
        });
        let given = [
            ("listen", "listen", listen),
            ("database", "database", self.database.clone()),
            ("data_dir", "data-dir", self.data_dir.clone()),
            ("plugins.dir", "plugins", self.plugins.clone()),
            ("mode", "mode", mode),
        ];
        let flags: Vec<Flag> = given.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text?))).collect();
        Config::load(self.file(), &flags)
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Limits for all plugins of a server with this configuration, and their source.
    pub(crate) fn plugin_limits(&self) -> Result<(Limits, String)> {
        let limits = self.load()?.plugins.limits;
        let usual = Some(Path::new(DEFAULT_FILE)).filter(|file| file.is_file());
        let source = match self.file().or(usual) {
            Some(file) => file.display().to_string(),
            None if limits == Limits::default() => "the defaults".into(),
            None => "the environment".into(),
        };
        Ok((limits, source))
    }
}

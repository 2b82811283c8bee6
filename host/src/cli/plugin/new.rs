//! `leadwire plugin new`: creates a plugin that builds and passes its own test, wherever it is put.
//!
//! The SDK is in no registry. So the binary contains the SDK and the interface, and writes both beside the plugin.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};

use crate::domain::plugin_name::PluginName;

static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../plugin-sdk");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../wit");

/// Files of a new plugin with any hook; `@NAME@` is replaced by the plugin's name.
const COMMON: [(&str, &str); 4] = [
    (".gitignore", include_str!("template/gitignore.in")),
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    // Locks the versions that this server was built with. Cargo drops what the plugin does not use.
    ("Cargo.lock", include_str!("../../../../Cargo.lock")),
    ("README.md", include_str!("template/README.md.in")),
];

/// Settings, source and cases of a plugin with one hook.
macro_rules! template {
    ($hook:literal) => {
        [
            ("plugin.toml", include_str!(concat!("template/", $hook, "/plugin.toml.in"))),
            ("src/lib.rs", include_str!(concat!("template/", $hook, "/lib.rs.in"))),
            ("tests/cases.json", include_str!(concat!("template/", $hook, "/cases.json.in"))),
        ]
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HookTemplate {
    /// Decides who may connect, and who may follow a lead
    Authorize,
    /// Accepts, amends or refuses what users write
    Before,
    /// Adds data to what clients receive
    Enrich,
    /// Hides data from some clients
    Filter,
    /// Requests effects when something happened
    After,
}

impl HookTemplate {
    fn template(self) -> [(&'static str, &'static str); 3] {
        match self {
            Self::Authorize => template!("authorize"),
            Self::Before => template!("before"),
            Self::Enrich => template!("enrich"),
            Self::Filter => template!("filter"),
            Self::After => template!("after"),
        }
    }
}

/// Names that cargo refuses for a package, or that dependencies of the plugin have.
const TAKEN: [&str; 47] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "leadwire-plugin-sdk",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "pub",
    "ref",
    "return",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "type",
    "use",
];

#[derive(Args)]
pub(crate) struct NewArgs {
    /// Name of the plugin: a lower-case letter, then letters, digits and hyphens
    name: String,
    /// Hook that it starts with; others can be added
    #[arg(long, value_enum, default_value = "filter")]
    hook: HookTemplate,
    /// Parent folder of the new folder NAME
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(new: &NewArgs) -> Result<()> {
    new.name.parse::<PluginName>()?;
    if TAKEN.contains(&new.name.as_str()) {
        bail!("a plugin cannot be called `{}`: the name is reserved by Rust or the SDK", new.name);
    }
    let home = new.dir.join(&new.name);
    if home.exists() {
        bail!("{} already exists", home.display());
    }
    write(&home, &new.name, new.hook).with_context(|| format!("cannot create {}", home.display()))?;
    crate::cli::print::say(format_args!(
        "made {home}\ntest it:  cd {home} && leadwire plugin test\nbuild it: cd {home} && leadwire plugin build",
        home = home.display()
    ))
}

/// Writes everything under a temporary name first, so that a folder with the final name is complete.
fn write(home: &Path, name: &str, hook: HookTemplate) -> Result<()> {
    let part = home.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = fill(&part, name, hook).and_then(|()| Ok(fs::rename(&part, home)?));
    if written.is_err() {
        let _ = fs::remove_dir_all(&part);
    }
    written
}

fn fill(home: &Path, name: &str, hook: HookTemplate) -> Result<()> {
    for (path, text) in COMMON.into_iter().chain(hook.template()) {
        let file = home.join(path);
        fs::create_dir_all(file.parent().expect("the path is below the folder"))?;
        fs::write(file, text.replace("@NAME@", name))?;
    }
    for (folder, files) in [("plugin-sdk", &SDK), ("wit", &WIT)] {
        let folder = home.join("leadwire").join(folder);
        fs::create_dir_all(&folder)?;
        files.extract(&folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, dir: &Path) -> Result<()> {
        run(&NewArgs { name: name.into(), hook: HookTemplate::Filter, dir: dir.into() })
    }

    #[test]
    fn a_new_plugin_contains_the_sdk_and_the_interface_at_the_expected_path() {
        let dir = tempfile::tempdir().expect("a folder");
        new("my-plugin", dir.path()).expect("made");
        let home = dir.path().join("my-plugin");
        let manifest = fs::read_to_string(home.join("Cargo.toml")).expect("there");
        assert!(manifest.contains("name = \"my-plugin\""), "{manifest}");
        assert!(home.join("leadwire/plugin-sdk/src/lib.rs").is_file());
        assert!(home.join("leadwire/plugin-sdk/../wit/v1/plugin.wit").is_file());
        let left = dir.path().read_dir().expect("a folder").count();
        assert_eq!(left, 1, "nothing is left beside it");
    }

    #[test]
    fn an_existing_folder_is_not_changed() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("mine")).expect("made");
        let error = new("mine", dir.path()).expect_err("refused").to_string();
        assert!(error.ends_with("mine already exists"), "{error}");
    }

    #[test]
    fn an_invalid_plugin_name_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["", "My-Plugin", "9lives", "a_b", "a/b", "..", "é", &"a".repeat(65), "match", "serde"] {
            assert!(new(name, dir.path()).is_err(), "{name}");
        }
        assert_eq!(dir.path().read_dir().expect("a folder").count(), 0);
    }

    #[test]
    fn the_settings_of_a_new_plugin_are_valid() {
        let dir = tempfile::tempdir().expect("a folder");
        new("my-plugin", dir.path()).expect("made");
        let text = fs::read_to_string(dir.path().join("my-plugin/plugin.toml")).expect("there");
        let settings: toml::Table = text.parse().expect("valid TOML");
        assert_eq!(settings["enabled"].as_bool(), Some(true));
    }
}

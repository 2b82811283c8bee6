//! `leadwire plugin new`: a plugin that builds and passes its own test, wherever it is put.
//!
//! The SDK is on no registry, so the binary bears it and the interface, and writes both beside the plugin.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};

static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../plugin-sdk");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../wit");

/// What an author's folder starts with, whatever the hook; `@NAME@` becomes the plugin's name.
const COMMON: [(&str, &str); 4] = [
    (".gitignore", include_str!("template/gitignore.in")),
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    // The versions that this server was built with. Cargo drops what the plugin does not use.
    ("Cargo.lock", include_str!("../../../../Cargo.lock")),
    ("README.md", include_str!("template/README.md.in")),
];

/// The settings, the source and the cases of a plugin with one hook.
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
enum Hook {
    /// Who may connect, and who may follow a lead
    Authorize,
    /// Accepts, amends or refuses what users write
    Before,
    /// Adds to what clients are told
    Enrich,
    /// Hides things from some of them
    Filter,
    /// Has something done when something happened
    After,
}

impl Hook {
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

/// Names that cargo refuses for a package, or that the plugin's own dependencies have.
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
pub(in crate::cli) struct New {
    /// What the plugin is called: a lower-case letter, then letters, digits and hyphens
    name: String,
    /// The hook that it starts with; others can be added
    #[arg(long, value_enum, default_value = "filter")]
    hook: Hook,
    /// Where to make the folder NAME
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn run(new: &New) -> Result<()> {
    super::check_name(&new.name)?;
    if TAKEN.contains(&new.name.as_str()) {
        bail!("a plugin cannot be called `{}`: Rust or the SDK needs that name", new.name);
    }
    let home = new.dir.join(&new.name);
    if home.exists() {
        bail!("{} exists already", home.display());
    }
    write(&home, &new.name, new.hook).with_context(|| format!("cannot make {}", home.display()))?;
    crate::cli::say(format_args!(
        "made {home}\ntest it:  cd {home} && leadwire plugin test\nbuild it: cd {home} && leadwire plugin build",
        home = home.display()
    ))
}

/// Writes all of it under another name first, so that a folder of that name is a whole one.
fn write(home: &Path, name: &str, hook: Hook) -> Result<()> {
    let part = home.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = fill(&part, name, hook).and_then(|()| Ok(fs::rename(&part, home)?));
    if written.is_err() {
        let _ = fs::remove_dir_all(&part);
    }
    written
}

fn fill(home: &Path, name: &str, hook: Hook) -> Result<()> {
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
        run(&New { name: name.into(), hook: Hook::Filter, dir: dir.into() })
    }

    #[test]
    fn a_new_plugin_has_the_sdk_and_the_interface_where_the_sdk_looks_for_it() {
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
    fn a_folder_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("mine")).expect("made");
        let error = new("mine", dir.path()).expect_err("refused").to_string();
        assert!(error.ends_with("mine exists already"), "{error}");
    }

    #[test]
    fn a_name_that_cannot_be_one_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["", "My-Plugin", "9lives", "a_b", "a/b", "..", "é", &"a".repeat(65), "match", "serde"] {
            assert!(new(name, dir.path()).is_err(), "{name}");
        }
        assert_eq!(dir.path().read_dir().expect("a folder").count(), 0);
    }

    #[test]
    fn the_settings_it_starts_with_are_valid() {
        let dir = tempfile::tempdir().expect("a folder");
        new("my-plugin", dir.path()).expect("made");
        let text = fs::read_to_string(dir.path().join("my-plugin/plugin.toml")).expect("there");
        let settings: toml::Table = text.parse().expect("valid TOML");
        assert_eq!(settings["enabled"].as_bool(), Some(true));
    }
}

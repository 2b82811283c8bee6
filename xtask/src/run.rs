//! `cargo xtask run`: the demo, from nothing to a served event.
//!
//! The database and the plugins' settings are made once and kept; what is built is built again each time.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, Running},
    workspace::{Profile, Workspace},
};

const DATABASE: &str = "leadwire.db";
const PLUGINS: &str = "leadwire-data/plugins";

/// Written beside a sample plugin the first time; what somebody changed there stays.
const SETTINGS: [(&str, &str); 3] = [
    ("lead-score.toml", include_str!("run/lead-score.toml")),
    ("redact-contact.toml", include_str!("run/redact-contact.toml")),
    ("territory.toml", include_str!("run/territory.toml")),
];

pub fn run(workspace: &Workspace, flags: &[String]) -> Result<ExitCode> {
    let (leadwire, built) = workspace.build_plugins(Profile::Release)?;
    let plugins = match flag(flags, "--plugins") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(PLUGINS),
    };
    fill(&workspace.root.join(&plugins), &built)?;

    let database = flag(flags, "--database").map(str::to_owned).or_else(|| env::var("LEADWIRE_DATABASE").ok());
    let database = database.unwrap_or_else(|| DATABASE.into());
    let file = workspace.root.join(database.trim_start_matches("sqlite:").trim_start_matches("//"));
    if file.exists() {
        println!("{database} is there already: its data is kept");
    } else {
        seed(workspace, &leadwire, &database, &file)?;
    }

    let mut serve = Command::new(&leadwire);
    serve.arg("serve").args(flags).current_dir(&workspace.root).stdout(Stdio::piped());
    if flag(flags, "--plugins").is_none() {
        serve.arg("--plugins").arg(plugins);
    }
    if flag(flags, "--database").is_none() {
        serve.args(["--database", &database]);
    }
    if flag(flags, "--mode").is_none() && env::var_os("LEADWIRE_MODE").is_none() {
        serve.args(["--mode", "demo"]);
    }
    serve_and_tell(&mut serve)
}

/// Puts the built plugins where the server looks, each with its settings.
fn fill(folder: &Path, built: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (name, text) in SETTINGS {
        let path = folder.join(name);
        if !path.exists() {
            fs::write(path, text)?;
        }
    }
    for entry in built.read_dir()? {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|it| it == "wasm")) else { continue };
        // A rename, so that a server that is running never reads half a file.
        let partial = folder.join(name).with_extension("partial");
        fs::copy(&path, &partial)?;
        fs::rename(partial, folder.join(name))?;
    }
    Ok(())
}

fn seed(workspace: &Workspace, leadwire: &Path, database: &str, file: &Path) -> Result<()> {
    let mut seed = Command::new(leadwire);
    seed.args(["seed", "--database", database]).current_dir(&workspace.root);
    process::run(&mut seed).inspect_err(|_| {
        // The next run would take what was half made for somebody's data.
        let _ = fs::remove_file(file);
    })
}

/// Serves until it ends or is told to; what to try next is printed once something listens.
fn serve_and_tell(serve: &mut Command) -> Result<ExitCode> {
    let mut server = Running::start(serve)?;
    let stdout = server.child.stdout.take().context("the output was not piped")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if let Some(url) = line.strip_prefix("leadwire listening on ") {
            println!("{}", include_str!("run/next.txt").replace("http://127.0.0.1:3001", url));
        }
    }
    let status = server.child.wait()?;
    match (status.success() || process::interrupted(), status.code()) {
        (true, _) => Ok(ExitCode::SUCCESS),
        (false, Some(2)) => Ok(ExitCode::from(2)),
        _ => bail!("the server {}", process::ending(status)),
    }
}

/// The value of `--name VALUE` or `--name=VALUE`.
fn flag<'a>(flags: &'a [String], name: &str) -> Option<&'a str> {
    let at = flags.iter().position(|flag| flag.split('=').next() == Some(name))?;
    flags[at].split_once('=').map(|(_, value)| value).or_else(|| flags.get(at + 1).map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_found_in_both_spellings() {
        let flags = ["--listen", "127.0.0.1:0", "--database=x.db"].map(str::to_owned);
        assert_eq!(flag(&flags, "--listen"), Some("127.0.0.1:0"));
        assert_eq!(flag(&flags, "--database"), Some("x.db"));
        assert_eq!(flag(&flags, "--plugins"), None);
    }
}

//! `cargo xtask run`: the demo, from nothing to a served event.
//!
//! The database and the plugins' settings are created once and kept; built files are updated each time.

use std::{
    env,
    fs::{self, DirBuilder},
    io::{BufRead, BufReader},
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, Running},
    workspace::{Profile, Workspace},
};

const DATABASE: &str = "leadwire.db";
const PLUGINS: &str = "leadwire-data/plugins";

/// Disabled at first: when enabled, a SALES user sees no lead of other territories, and none without a territory.
const TERRITORY: &str = "# Set enabled to true, and Sam Sales sees just the leads of two territories.
enabled = false

[config.territories]
\"SALES\" = [\"north\", \"east\"]
";

/// Disabled at first as well: when enabled, Sam Sales gets every new lead without an owner.
const ROUND_ROBIN: &str =
    "# Set enabled to true, and Sam Sales gets every new lead without an owner; add other users for turns.
enabled = false

[config]
users = [\"SALES\"]

[grant]
effects = [\"lead:assign\", \"remind\"]
";

pub fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let (profile, flags) = parse(args);
    let (leadwire, built) = workspace.build_plugins(profile)?;
    let database = flag(flags, "--database").map(str::to_owned).or_else(|| env::var("LEADWIRE_DATABASE").ok());
    let database = database.unwrap_or_else(|| DATABASE.into());
    let on_database = |arguments: &[&str]| {
        let mut command = Command::new(&leadwire);
        command.args(arguments).args(["--database", &database]).current_dir(&workspace.root);
        if let Some(data_dir) = flag(flags, "--data-dir") {
            command.args(["--data-dir", data_dir]);
        }
        command
    };
    // Seeding leaves a database with users unchanged.
    process::run(&mut on_database(&["seed", "--mode", "demo"]))?;

    let plugins = flag(flags, "--plugins").unwrap_or(PLUGINS);
    let folder = workspace.root.join(plugins);
    // The folder is inside the data directory, which only its owner may read.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("{} cannot be made", folder.display()))?;
    for source in workspace.plugin_sources()? {
        let name = source.file_name().context("a plugin's folder has a name")?.to_string_lossy().into_owned();
        if !folder.join(&name).with_extension("toml").exists() {
            let settings = match name.as_str() {
                "territory" => TERRITORY.replace("SALES", &sales_user(&mut on_database(&["user", "list"]))?),
                "round-robin" => ROUND_ROBIN.replace("SALES", &sales_user(&mut on_database(&["user", "list"]))?),
                // Disabled at first as well, or a lead could not advance without a contact and an address.
                "validate-lead" => {
                    let settings = fs::read_to_string(workspace.root.join(&source).join("plugin.toml"))?;
                    settings.replacen("enabled = true", "enabled = false", 1)
                }
                _ => fs::read_to_string(workspace.root.join(&source).join("plugin.toml"))?,
            };
            put(&folder, &format!("{name}.toml"), settings.as_bytes())?;
        }
        let file = format!("{name}.wasm");
        put(&folder, &file, &fs::read(built.join(&file))?)?;
    }

    let mut serve = Command::new(&leadwire);
    serve.arg("serve").args(flags).current_dir(&workspace.root).stdout(Stdio::piped());
    if flag(flags, "--database").is_none() {
        serve.args(["--database", &database]);
    }
    if flag(flags, "--plugins").is_none() {
        serve.args(["--plugins", plugins]);
    }
    if flag(flags, "--mode").is_none() && env::var_os("LEADWIRE_MODE").is_none() {
        serve.args(["--mode", "demo"]);
    }
    serve_and_tell(&mut serve)
}

/// Splits the arguments of the command into the profile and the flags of `leadwire serve`.
fn parse(args: &[String]) -> (Profile, &[String]) {
    let (profile, rest) = match args {
        [first, rest @ ..] if first == "--release" => (Profile::Release, rest),
        rest => (Profile::Dev, rest),
    };
    match rest {
        [first, flags @ ..] if first == "--" => (profile, flags),
        flags => (profile, flags),
    }
}

/// Writes a file atomically, so that a running server never reads half of it.
fn put(folder: &Path, name: &str, content: &[u8]) -> Result<()> {
    let partial = folder.join(format!("{name}.partial"));
    fs::write(&partial, content)?;
    fs::rename(partial, folder.join(name)).with_context(|| format!("{name} cannot be written"))
}

/// Id of the first salesperson.
fn sales_user(list: &mut Command) -> Result<String> {
    let output = list.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find(|line| line.contains(" SALES "));
    // Any id will do if there is none: the plugin is disabled.
    let id = line.and_then(|line| line.split_whitespace().next()).unwrap_or("00000000-0000-7000-8000-000000000001");
    Ok(id.to_owned())
}

/// Serves until the server ends or is stopped; prints what to try next once it listens.
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

/// Value of `--name VALUE` or `--name=VALUE`.
fn flag<'a>(flags: &'a [String], name: &str) -> Option<&'a str> {
    let at = flags.iter().position(|flag| flag.split('=').next() == Some(name))?;
    flags[at].split_once('=').map(|(_, value)| value).or_else(|| flags.get(at + 1).map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_after_the_profile_and_two_dashes_go_to_the_server() {
        let parsed = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            let (profile, flags) = parse(&args);
            (profile == Profile::Release, flags.join(" "))
        };
        assert_eq!(parsed(&[]), (false, String::new()));
        assert_eq!(parsed(&["--release", "--", "--listen", "x"]), (true, "--listen x".into()));
        assert_eq!(parsed(&["--", "--listen", "--"]), (false, "--listen --".into()));
        assert_eq!(parsed(&["--listen", "x"]), (false, "--listen x".into()));
    }

    #[test]
    fn a_flag_is_found_in_both_spellings() {
        let flags = ["--listen", "127.0.0.1:0", "--database=x.db"].map(str::to_owned);
        assert_eq!(flag(&flags, "--listen"), Some("127.0.0.1:0"));
        assert_eq!(flag(&flags, "--database"), Some("x.db"));
        assert_eq!(flag(&flags, "--plugins"), None);
    }
}

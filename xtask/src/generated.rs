//! `cargo xtask docs`: writes the files that are generated from the code, and committed.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    docs, process,
    workspace::{Profile, Workspace},
};

/// Documents of the contract, as `leadwire contract` names them.
const DOCUMENTS: [&str; 2] = ["openapi", "asyncapi"];

pub fn write(workspace: &Workspace) -> Result<()> {
    let leadwire = workspace.build_host(Profile::Dev)?;
    for name in DOCUMENTS {
        let output =
            Command::new(&leadwire).args(["contract", name]).output().context("leadwire could not be started")?;
        if !output.status.success() {
            bail!("leadwire contract {name} {}", process::ending(output.status));
        }
        let path = workspace.root.join("docs").join(format!("{name}.json"));
        fs::write(&path, output.stdout).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("wrote {}", path.display());
    }
    if let Some(missing) = docs::missing_node() {
        bail!("the types of clients/js were not generated: {missing}");
    }
    let client = workspace.root.join("clients/js");
    process::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&client))?;
    process::run(Command::new("npm").args(["run", "generate"]).current_dir(&client))
}

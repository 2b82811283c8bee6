//! Files for front ends that the server has built in: the package of `clients/js` and its bundles.
//!
//! They are made again when their sources have changed. Without Node.js, the server is built without them.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{docs, languages, process, workspace::Workspace};

pub fn make(workspace: &Workspace) -> Result<()> {
    let client = workspace.root.join("clients/js");
    let mut sources = languages::files(&client.join("src"))?;
    sources.extend(languages::files(&client.join("scripts"))?);
    sources.extend(["package.json", "package-lock.json", "tsconfig.json", "README.md"].map(|name| client.join(name)));
    let hash = languages::hash(&workspace.root, &sources)?;
    let stamp = client.join("assets/.stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == hash) {
        return Ok(());
    }
    if let Some(missing) = docs::missing_node() {
        println!("note: the server is built without the files for front ends: {missing}");
        return Ok(());
    }
    let npm = |args: &[&str]| process::run(Command::new("npm").args(args).current_dir(&client));
    // Builds `dist`, too.
    npm(&["ci", "--no-audit", "--no-fund"])?;
    npm(&["run", "assets"])?;
    Ok(fs::write(stamp, hash)?)
}

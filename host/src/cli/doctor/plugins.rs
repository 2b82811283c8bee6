//! Checks of the plugin folder: its content, who may write to it, and the state that a running server reports.

use std::{fs, os::unix::fs::MetadataExt};

use crate::{
    cli::doctor::finding::{Examined, Findings},
    files,
    plugin::report::status_file,
};

pub(crate) fn plugins(patient: &Examined, findings: &mut Findings) {
    let Some(folder) = &patient.config.plugins.dir else { return findings.ok("no plugin folder is set") };
    let (before, shown) = (findings.all.len(), folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let action = "check --plugins, and the owner and mode of the folder";
            return findings.problem("folder_unread", format!("{shown} cannot be read: {error}"), action);
        }
    };
    if let Ok(mode) = fs::metadata(folder).map(|metadata| metadata.mode() & 0o777)
        && mode & 0o022 != 0
    {
        findings.problem(
            "folder_open_to_others",
            format!("{shown} has mode {mode:04o}: others can put plugins into the server"),
            format!("chmod go-w {shown}"),
        );
    }
    let limits = &patient.config.plugins.limits;
    for entry in entries.flatten() {
        let path = entry.path();
        let most = match path.extension().and_then(|extension| extension.to_str()) {
            Some("wasm") => limits.file_bytes(),
            Some("toml") => limits.settings_bytes(),
            _ => continue,
        };
        if let Err(error) = files::read(&path, most) {
            let message = format!("{} cannot be used: {error}", path.display());
            findings.problem("file_unusable", message, "put a regular file in its place, or remove it");
        }
    }

    // Another check reports an unreadable status file.
    let server = status_file::read(&patient.data_dir).ok().flatten();
    for item in server.iter().flat_map(|server| server["items"].as_array()).flatten() {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let (name, state, reason) = (text("name"), text("state"), text("reason"));
        if ["failing", "refused", "missing"].contains(&state.as_str()) {
            findings.problem(
                "plugin_down",
                format!("plugin {name} is {state}: {reason}"),
                format!(
                    "`leadwire plugin list` says more; `leadwire plugin rollback {name}` or `remove {name}` may help"
                ),
            );
        }
    }
    if findings.all.len() == before {
        findings.ok(format!("the plugins in {shown} can be read"));
    }
}

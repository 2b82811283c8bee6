//! The plugin directory of a real server, with files in it that are not plugins.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use crate::{
    guest::{Guest, everyone, remove},
    process::{self, Process},
    support,
};

/// Timeout of all waits, longer than any operation takes.
const PATIENCE: Duration = Duration::from_secs(60);
const SETTINGS: &str = "[plugins]\ndir = \"plugins\"\n";

fn good() -> Vec<u8> {
    let guest = Guest::new("good").version("1.0.0").roles(["VIEWER"]).hides("VIEWER", ["/lead/email"]);
    guest.filter([everyone("VIEWER", [remove("/lead/email")])]).build()
}

fn fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::RWXU).expect("a FIFO is made");
}

/// Runs `leadwire plugin …`, which must end.
fn plugin(home: &Path, arguments: &[&str]) -> Output {
    let mut command = support::leadwire(home);
    command.arg("plugin").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("leadwire starts");
    assert!(ends(&mut child), "leadwire plugin {arguments:?} waits for something");
    child.wait_with_output().expect("an end")
}

/// Returns true if a process ends by itself; kills it otherwise.
fn ends(child: &mut Child) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if child.try_wait().expect("a child").is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    false
}

/// State and reason of a plugin in `plugin list`.
fn listed(home: &Path, name: &str) -> Option<(String, String)> {
    let output = plugin(home, &["list", "--json"]);
    let output: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let item = output["items"].as_array().expect("items").iter().find(|item| item["name"] == name)?;
    let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
    Some((text("state"), text("reason")))
}

fn until_listed(home: &Path, name: &str, state: &str) -> String {
    let begin = Instant::now();
    loop {
        let found = listed(home, name);
        if let Some((_, reason)) = found.as_ref().filter(|(found, _)| found == state) {
            return reason.clone();
        }
        assert!(begin.elapsed() < PATIENCE, "{name} is not {state}: {found:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_special_file_blocks_neither_start_reload_nor_shutdown_and_is_listed_with_the_reason() {
    let home = tempfile::tempdir().expect("a folder");
    let (home, plugins) = (home.path(), home.path().join("plugins"));
    process::prepare(home, SETTINGS);
    fs::write(home.join("good.bin"), good()).expect("written");
    symlink(home.join("good.bin"), plugins.join("good.wasm")).expect("linked");
    fifo(&plugins.join("fifo.wasm"));
    fifo(&plugins.join("settings.toml"));
    fs::write(plugins.join("settings.wasm"), good()).expect("written");
    symlink("/dev/zero", plugins.join("zero.wasm")).expect("linked");
    fs::create_dir(plugins.join("folder.wasm")).expect("made");
    symlink(home.join("nothing"), plugins.join("dangling.wasm")).expect("linked");
    fs::write(plugins.join("large.toml"), "#".repeat((1 << 20) + 1)).expect("written");

    // Without a server, the list shows what one would load.
    let (state, reason) = listed(home, "fifo").expect("listed");
    assert!(state == "refused" && reason.ends_with("it is a FIFO: expected a regular file"), "{state}: {reason}");

    let mut server = Process::serve(home);
    let expected = [
        ("fifo", "fifo.wasm: it is a FIFO: expected a regular file"),
        ("settings", "settings.toml: it is a FIFO: expected a regular file"),
        ("zero", "zero.wasm: it is a device: expected a regular file"),
        ("folder", "folder.wasm: it is a directory: expected a regular file"),
        ("dangling", "dangling.wasm: it is a dangling symbolic link"),
        ("large", "large.toml: the file has 1048577 bytes; 1048576 are allowed"),
    ];
    for (name, reason) in expected {
        assert_eq!(until_listed(home, name, "refused"), reason);
    }
    assert_eq!(until_listed(home, "good", "active"), "");

    // Also while the server runs; and the next command is accepted.
    fifo(&plugins.join("late.wasm"));
    assert_eq!(until_listed(home, "late", "refused"), "late.wasm: it is a FIFO: expected a regular file");
    let disabled = plugin(home, &["disable", "good"]);
    let said = String::from_utf8_lossy(&disabled.stdout).into_owned();
    assert!(disabled.status.success() && said.contains("reports it as disabled"), "{disabled:?}");
    fs::remove_file(plugins.join("settings.toml")).expect("removed");
    let begin = Instant::now();
    while until_listed(home, "settings", "refused").contains("FIFO") {
        assert!(begin.elapsed() < PATIENCE, "the file is not looked at again");
    }
    assert!(server.memory_kib() < 1 << 20, "{} KiB", server.memory_kib());
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_slow_start_can_be_interrupted() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), SETTINGS);
    // Another process holds the lock of the plugin state, so that the start waits.
    let state = home.path().join("leadwire-data/plugin-state");
    fs::create_dir_all(&state).expect("made");
    fs::write(home.path().join("plugins/good.wasm"), good()).expect("written");
    let lock = fs::File::create(state.join("active.lock")).expect("made");
    lock.lock().expect("locked");

    let mut command = support::leadwire(home.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("leadwire starts");
    let secret = home.path().join("leadwire-data/jwt-secret");
    let begin = Instant::now();
    while !secret.exists() && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("a process to end");
    assert!(ends(&mut child), "SIGTERM is not heard while the server starts");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn disable_reports_only_what_the_server_confirmed() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), SETTINGS);
    fs::write(home.path().join("plugins/good.wasm"), good()).expect("written");
    let said = plugin(home.path(), &["disable", "good"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.starts_with("disabled plugin good; no server runs on leadwire-data"), "{said}");

    let other = home.path().join("others");
    fs::create_dir(&other).expect("made");
    fs::write(other.join("good.wasm"), good()).expect("written");
    let _server = Process::serve(home.path());
    let said = plugin(home.path(), &["disable", "good", "--plugins", "others"]);
    let output = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.code() == Some(1) && output.contains("is not affected"), "{said:?}");
    let said = plugin(home.path(), &["enable", "good"]);
    let output = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && output.contains("reports it as active"), "{said:?}");
}

#[test]
fn a_plugins_file_name_cannot_forge_a_line_of_the_list() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), SETTINGS);
    fs::write(home.path().join("plugins/x\n\u{1b}[32mgood active.wasm"), "no component").expect("written");
    let listed = plugin(home.path(), &["list"]);
    let text = String::from_utf8(listed.stdout).expect("utf-8");
    assert!(text.contains("x\\n\\u{1b}[32mgood active"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("good")) && !text.contains('\u{1b}'), "{text}");
}

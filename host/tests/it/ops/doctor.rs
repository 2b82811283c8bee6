//! `leadwire doctor`: each kind of problem is found and reported with its remedy and the exit code.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use serde_json::Value;

use crate::{
    process::{self, Process},
    support,
};

/// Exit code and the findings other than ok, as check and code.
fn examine(home: &Path) -> (Option<i32>, Vec<(String, String)>) {
    let output = support::leadwire(home).args(["doctor", "--json"]).output().expect("leadwire starts");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let mut bad = Vec::new();
    for finding in report["findings"].as_array().expect("findings") {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        assert!(!text("message").is_empty(), "{finding}");
        // The test machine may have little free space.
        if text("level") == "ok" || text("code") == "disk_low" {
            continue;
        }
        assert!(!text("action").is_empty(), "{finding}");
        bad.push((text("check"), text("code")));
    }
    (output.status.code(), bad)
}

fn has(found: &(Option<i32>, Vec<(String, String)>), check: &str, code: &str) -> bool {
    found.1.iter().any(|(at, is)| at == check && is == code)
}

#[test]
fn doctor_reports_a_healthy_installation_and_each_problem_with_its_remedy() {
    let home = tempfile::tempdir().expect("a folder");
    let found = examine(home.path());
    assert!(found.0 == Some(2) && has(&found, "database", "no_database"), "{found:?}");

    process::prepare(home.path(), "[plugins]\ndir = \"plugins\"\n");
    let mut server = Process::serve(home.path());
    for name in ["leadwire.db", "leadwire.db-wal", "leadwire.db-shm"] {
        let path = home.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a change of mode");
    }
    let found = examine(home.path());
    assert!(found.1.is_empty(), "{found:?}");
    let output = support::leadwire(home.path()).arg("doctor").output().expect("leadwire starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains("a server runs, pid "), "{output:?}");
    let other = support::leadwire(home.path()).args(["doctor", "--data-dir", "other"]).output().expect("starts");
    let report = String::from_utf8_lossy(&other.stdout).into_owned();
    assert!(
        report.contains(&format!("`leadwire serve`, pid {}, has the database leadwire.db", server.id())),
        "{report}"
    );
    assert_eq!(server.end(), Some(0));
    note_is_examined(home.path());

    let data_dir = home.path().join("leadwire-data");
    let open =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a change of mode");
    open(&data_dir, 0o755);
    open(&home.path().join("plugins"), 0o777);
    fs::write(data_dir.join("jwt-secret"), "short").expect("written");
    fs::create_dir(home.path().join("plugins/folder.wasm")).expect("made");
    let found = examine(home.path());
    assert_eq!(found.0, Some(2));
    for (check, code) in [
        ("data_dir", "open_to_others"),
        ("secret", "short_secret"),
        ("plugins", "folder_open_to_others"),
        ("plugins", "file_unusable"),
    ] {
        assert!(has(&found, check, code), "{check} {code}: {found:?}");
    }
}

/// State after a clean shutdown.
fn note_is_examined(home: &Path) {
    let path = home.join("leadwire-data/log.json");
    let note = fs::read_to_string(&path).expect("a note");
    assert!(examine(home).1.is_empty(), "the log is as it was noted");
    let parsed: Value = serde_json::from_str(&note).expect("JSON");
    let text = |key: &str| parsed[key].as_str().expect("a text").to_owned();
    for (changed, code) in [
        (note.replace(&text("issued"), "00000000000000999999"), "older_copy"),
        (note.replace(&text("epoch"), "another"), "other_log"),
        (note.replace(&text("issued"), "many"), "note_damaged"),
        ("{".to_owned(), "note_damaged"),
    ] {
        fs::write(&path, changed).expect("written");
        let found = examine(home);
        assert!(found.0 == Some(1) && has(&found, "log", code), "{code}: {found:?}");
    }
    fs::write(&path, note).expect("written");
}

#[test]
fn a_damaged_database_is_found() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), "");
    // A restored database is one file, without a write-ahead log that would hide the damage.
    for arguments in [&["backup", "backup"][..], &["restore", "backup", "--force"]] {
        let done = support::leadwire(home.path()).args(arguments).output().expect("leadwire starts");
        assert!(done.status.success(), "{done:?}");
    }
    let database = home.path().join("leadwire.db");
    let file = fs::OpenOptions::new().write(true).open(&database).expect("opened");
    let pages = file.metadata().expect("known").len() / 4096;
    for page in 1..pages {
        file.write_all_at(&[0x5a; 512], page * 4096).expect("written");
    }
    let found = examine(home.path());
    let is_found = has(&found, "database", "damaged") || has(&found, "database", "cannot_open");
    assert!(found.0 == Some(2) && is_found, "{found:?}");
}

//! Permissions of the server's files.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use reqwest::Method;

use crate::{
    ops::identity::{Admin, failure, home, run},
    process::Process,
    support,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[tokio::test]
async fn the_database_is_readable_only_by_its_owner() {
    let home = home();
    assert_eq!(mode(&home.path().join("leadwire.db")), 0o600, "made by a command");
    let server = Process::serve(home.path());
    Admin::of(&server).await.lead(&server, "Secret").await;
    for name in ["leadwire.db", "leadwire.db-wal", "leadwire.db-shm", "leadwire.db-lock"] {
        assert_eq!(mode(&home.path().join(name)), 0o600, "{name}");
    }
    let mut folders = vec![home.path().join("leadwire-data")];
    assert_eq!(mode(&folders[0]), 0o700);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
}

#[tokio::test]
async fn open_permissions_are_corrected_and_logged() {
    let home = home();
    let (database, data_dir) = (home.path().join("leadwire.db"), home.path().join("leadwire-data"));
    Process::serve(home.path()).end();
    fs::set_permissions(&database, Permissions::from_mode(0o644)).expect("opened to others");
    fs::set_permissions(&data_dir, Permissions::from_mode(0o755)).expect("opened to others");
    let server = Process::serve(home.path());
    assert_eq!((mode(&database), mode(&data_dir)), (0o600, 0o700));
    let log = server.log();
    assert!(log.contains("leadwire.db had mode 0644") && log.contains("leadwire-data had mode 0755"), "{log}");
}

#[test]
fn seed_requires_demo_mode_or_force() {
    let home = tempfile::tempdir().expect("a folder");
    let refusal = failure(&run(home.path(), &["seed"]));
    assert!(refusal.contains("mode = \"demo\"") && refusal.contains("--force"), "{refusal}");
    assert!(!home.path().join("leadwire.db").exists());
    let forced = run(home.path(), &["seed", "--force", "--database", "forced.db"]);
    assert!(forced.status.success(), "{forced:?}");
}

#[tokio::test]
async fn in_demo_mode_any_origin_means_any_loopback_origin() {
    let home = home();
    let server = Process::serve_with(home.path(), &["--mode", "demo"]);
    for (origin, allowed) in [
        ("http://localhost:5173", true),
        ("http://127.0.0.1:8080", true),
        ("https://[::1]:8443", true),
        ("http://localhost", true),
        ("https://crm.example", false),
        ("http://localhost.evil.example", false),
        ("http://localhost@evil.example", false),
        ("http://127.0.0.1.evil.example:80", false),
        ("null", false),
    ] {
        let request = support::http_client().request(Method::OPTIONS, server.url("/api/leads"));
        let request = request.header("origin", origin).header("access-control-request-method", "GET");
        let answer = request.send().await.expect("an answer");
        let granted = answer.headers().get("access-control-allow-origin").map(|origin| origin.to_str().expect("text"));
        assert_eq!(granted, allowed.then_some(origin), "{origin}");
    }
}

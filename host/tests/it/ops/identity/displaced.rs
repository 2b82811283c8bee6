//! The database file is deleted or replaced while a server runs.

use std::{fs, io::Write, path::Path};

use reqwest::StatusCode;
use tokio::time::{Duration, Instant, sleep};

use crate::{
    ops::identity::{Admin, back_up, database, delete_database, failure, home, run},
    process::{PASSWORD, Process},
    socket_client::until_true,
    support,
};

/// Generous, because other tests may keep the machine busy.
const SOON: Duration = Duration::from_secs(20);

/// Waits until the server reports that it is not ready, with this reason.
async fn until_unready(server: &Process) -> serde_json::Value {
    let end = Instant::now() + SOON;
    loop {
        let answer = support::http_client().get(server.url("/readyz")).send().await.expect("an answer");
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            return answer.json().await.expect("JSON");
        }
        assert!(Instant::now() < end, "still ready: {}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
}

async fn assert_displaced(server: &Process, admin: &Admin, reason: &str) {
    let (status, answer) = admin.post(server, "Too late").await;
    assert_eq!((status, answer["code"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("database_unavailable")));
    assert!(until_unready(server).await["reasons"]["file"] == "replaced");
    until_true("the reason in the log", || server.log().contains(reason) && server.log().contains("ERROR")).await;
}

fn saved(home: &Path) -> Option<std::path::PathBuf> {
    let files =
        fs::read_dir(home.join("leadwire-data")).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "db"))
}

#[tokio::test]
async fn a_deleted_database_accepts_no_writes_and_its_content_is_saved() {
    let home = home();
    let mut server = Process::serve(home.path());
    let admin = Admin::of(&server).await;
    let lead = admin.lead(&server, "Kept").await;
    delete_database(home.path());
    // At once, not only on the next request.
    assert_displaced(&server, &admin, "leadwire.db was deleted or moved while it was open").await;
    until_true("what was saved", || server.log().contains("is saved in")).await;
    let saved = saved(home.path()).expect("what was saved");
    assert_eq!(
        fs::metadata(&saved).map(|found| std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777).ok(),
        Some(0o600)
    );
    server.end();

    let refusal = failure(&run(home.path(), &["serve", "--listen", "127.0.0.1:0"]));
    assert!(refusal.contains("is empty or missing") && refusal.contains("--new-database"), "{refusal}");
    assert!(!database(home.path()).exists(), "nothing was made in its place");
    fs::rename(saved, database(home.path())).expect("put in place");
    let server = Process::serve(home.path());
    assert_eq!(Admin::of(&server).await.status_of(&server, &lead).await, StatusCode::OK);
}

#[tokio::test]
async fn a_replaced_database_is_displaced_until_a_restart() {
    let home = home();
    let server = Process::serve(home.path());
    let admin = Admin::of(&server).await;
    admin.lead(&server, "Kept").await;
    let (aside, copy) = (home.path().join("aside.db"), home.path().join("copy.db"));
    back_up(&database(home.path()), &copy).await;
    fs::rename(database(home.path()), &aside)
        .and_then(|()| fs::rename(&copy, database(home.path())))
        .expect("replaced");
    assert_displaced(&server, &admin, "leadwire.db was replaced by another file while it was open").await;
    // The file may have been changed in the meantime.
    fs::rename(&aside, database(home.path())).expect("put back");
    assert_displaced(&server, &admin, "leadwire.db was replaced by another file while it was open").await;
}

#[tokio::test]
async fn a_deleted_write_ahead_log_is_noticed() {
    let home = home();
    let server = Process::serve(home.path());
    let admin = Admin::of(&server).await;
    admin.lead(&server, "Kept").await;
    fs::remove_file(home.path().join("leadwire.db-wal")).expect("a file");
    assert_displaced(&server, &admin, "leadwire.db-wal was deleted or moved while it was open").await;
}

#[tokio::test]
async fn a_truncated_write_ahead_log_does_not_damage_the_database_at_shutdown() {
    let home = home();
    let mut server = Process::serve(home.path());
    let admin = Admin::of(&server).await;
    let lead = admin.lead(&server, "Kept").await;
    server.end();
    let mut server = Process::serve(home.path());
    let admin = Admin::of(&server).await;
    admin.lead(&server, "In the log that is cut").await;
    let wal = fs::OpenOptions::new().write(true).open(home.path().join("leadwire.db-wal")).expect("a file");
    wal.set_len(0).expect("cut");
    let (status, _) = admin.post(&server, "Too late").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    until_unready(&server).await;
    server.end();

    let server = Process::serve(home.path());
    assert_eq!(Admin::of(&server).await.status_of(&server, &lead).await, StatusCode::OK);
}

#[tokio::test]
async fn a_copy_that_is_written_into_the_open_file_is_noticed() {
    let home = home();
    let copy = home.path().join("copy.db");
    back_up(&database(home.path()), &copy).await;
    let server = Process::serve(home.path());
    let admin = Admin::of(&server).await;
    admin.lead(&server, "Not in the copy").await;
    let bytes = fs::read(&copy).expect("a copy");
    fs::File::create(database(home.path())).and_then(|mut file| file.write_all(&bytes)).expect("cp");
    until_true("the reason in the log", || server.log().contains("leadwire.db was overwritten")).await;
    assert_displaced(&server, &admin, "leadwire.db was overwritten").await;
    assert_eq!(saved(home.path()), None, "nobody can tell what of it is true");
}

#[tokio::test]
async fn a_server_refuses_an_empty_or_another_database_without_new_database() {
    let home = home();
    let mut server = Process::serve(home.path());
    Admin::of(&server).await.lead(&server, "Known").await;
    server.end();

    let add =
        ["user", "add", "--database", "other.db", "--email", "admin@example.com", "--name", "A", "--role", "ADMIN"];
    let mut command = support::leadwire(home.path());
    command.args(add).arg("--password-stdin").stdin(std::process::Stdio::piped());
    let mut child = command.spawn().expect("leadwire runs");
    writeln!(child.stdin.take().expect("a pipe"), "{PASSWORD}").expect("input is read");
    assert!(child.wait().expect("an end").success());
    fs::write(home.path().join("empty.db"), "").expect("written");

    for (file, is) in
        [("none.db", "is empty or missing"), ("empty.db", "is empty or missing"), ("other.db", "is another one")]
    {
        let refusal = failure(&run(home.path(), &["serve", "--listen", "127.0.0.1:0", "--database", file]));
        assert!(
            refusal.contains(is) && refusal.contains("leadwire-data") && refusal.contains("--data-dir"),
            "{refusal}"
        );
    }
    assert!(!home.path().join("none.db").exists());
    let mut server = Process::serve_with(home.path(), &["--database", "other.db", "--new-database"]);
    Admin::of(&server).await.lead(&server, "In the other one").await;
    server.end();
    // From now on the data directory belongs to that database.
    Process::serve_with(home.path(), &["--database", "other.db"]).end();
    let refusal = failure(&run(home.path(), &["serve", "--listen", "127.0.0.1:0"]));
    assert!(refusal.contains("is another one"), "{refusal}");
}

//! Identity of the database: a deleted, replaced, copied, restored or twice served one is never confused with another.

mod copies;
mod displaced;
mod owner;
mod second;

use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use leadwire::{domain::id::Epoch, store::Store};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{
    process::{self, Process},
    socket_client::PATIENCE,
    support,
};

/// A folder with settings and one user per role.
fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), "");
    home
}

/// A client that writes leads.
struct Admin {
    http: reqwest::Client,
    token: String,
}

impl Admin {
    async fn of(server: &Process) -> Self {
        let http = support::http_client();
        let token = server.login(&http, "ADMIN").await;
        Self { http, token }
    }

    async fn post(&self, server: &Process, title: &str) -> (StatusCode, Value) {
        let request = self.http.post(server.url("/api/leads")).bearer_auth(&self.token);
        let answer = request.json(&json!({"title": title})).send().await.expect("an answer");
        (answer.status(), answer.json().await.expect("JSON"))
    }

    /// Creates a lead; returns its id.
    async fn lead(&self, server: &Process, title: &str) -> String {
        let (status, lead) = self.post(server, title).await;
        assert_eq!(status, StatusCode::CREATED, "{lead}");
        lead["id"].as_str().expect("an id").to_owned()
    }

    async fn status_of(&self, server: &Process, lead: &str) -> StatusCode {
        let url = server.url(&format!("/api/leads/{lead}"));
        self.http.get(url).bearer_auth(&self.token).send().await.expect("an answer").status()
    }
}

fn database(home: &Path) -> std::path::PathBuf {
    home.join("leadwire.db")
}

/// Deletes the database and SQLite's files beside it.
fn delete_database(home: &Path) {
    for name in ["leadwire.db", "leadwire.db-wal", "leadwire.db-shm"] {
        let _ = fs::remove_file(home.join(name));
    }
}

/// The epoch of a database that may be in use.
async fn epoch(database: &Path) -> Epoch {
    let store = Store::open_read_only(&database.to_owned().into()).await.expect("a database");
    let epoch = store.epoch().to_owned();
    store.close().await;
    epoch
}

/// Like `.backup` of SQLite's shell: a complete copy during writes.
async fn back_up(database: &Path, copy: &Path) {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a database");
    let copy = copy.to_str().expect("utf-8").to_owned();
    sqlx::query("VACUUM INTO ?").bind(copy).execute(&mut connection).await.expect("a copy");
    connection.close().await.expect("closes");
}

/// Like `cp -r`: creates missing files and overwrites the content of existing ones.
fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = support::leadwire(home);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("leadwire starts");
    // A command that serves instead of refusing would never end.
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begin.elapsed() > PATIENCE {
            child.kill().expect("a child to kill");
            panic!("still running: {arguments:?}: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// The last line of a command that failed.
#[track_caller]
fn failure(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let line = stderr.lines().last().expect("a line");
    line.strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {stderr}")).to_owned()
}

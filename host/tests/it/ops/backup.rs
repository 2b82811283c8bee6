//! `leadwire backup` and `restore` on the command line, with a real server.

use leadwire::domain::id::Epoch;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    guest::{Guest, everyone, remove},
    process::{self, Process},
    socket_client::{SocketClient, Transport},
    support,
};

const SETTINGS: &str = "[plugins]\ndir = \"plugins\"\n";

fn leadwire(home: &Path, arguments: &[&str]) -> Output {
    support::leadwire(home).args(arguments).output().expect("leadwire starts")
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A data folder with accounts and a plugin that hides an address.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), SETTINGS);
    let guest = Guest::new("guard").version("1.0.0").roles(["VIEWER"]).hides("VIEWER", ["/lead/email"]);
    let guest = guest.filter([everyone("VIEWER", [remove("/lead/email")])]).build();
    fs::write(home.path().join("plugins/guard.wasm"), guest).expect("written");
    fs::write(home.path().join("plugins/guard.toml"), "order = 7\n").expect("written");
    home
}

/// Creates leads until stopped; returns the ids of acknowledged ones.
struct Writers {
    answered: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(url: &str, token: &str) -> Self {
        let (answered, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let task = |number: usize| {
            let (url, token) = (url.to_owned(), token.to_owned());
            let (answered, stop) = (Arc::clone(&answered), Arc::clone(&stop));
            tokio::spawn(async move {
                let http = support::http_client();
                while !stop.load(Relaxed) {
                    let lead = json!({"title": format!("Roof {number}"), "description": "x".repeat(2000)});
                    let answer = http.post(&url).bearer_auth(&token).json(&lead).send().await.expect("an answer");
                    assert_eq!(answer.status(), 201);
                    let lead: Value = answer.json().await.expect("JSON");
                    answered.lock().expect("no panic").push(lead["id"].as_str().expect("an id").to_owned());
                }
            })
        };
        let tasks = (0..3).map(task).collect();
        Self { answered, stop, tasks }
    }

    fn answered(&self) -> Vec<String> {
        self.answered.lock().expect("no panic").clone()
    }

    async fn until(&self, count: usize) {
        while self.answered.lock().expect("no panic").len() < count {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) {
        self.stop.store(true, Relaxed);
        for task in self.tasks {
            task.await.expect("writes to the end");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_restores_elsewhere_and_resets_clients_of_the_old_epoch() {
    let (home, other) = (home(), tempfile::tempdir().expect("a folder"));
    let server = Process::serve(home.path());
    let http = support::http_client();
    let token = server.login(&http, "ADMIN").await;
    let writers = Writers::start(&server.url("/api/leads"), &token);
    writers.until(30).await;

    let (before, file) = (writers.answered(), other.path().join("backup"));
    let (from, into) = (home.path().to_owned(), file.display().to_string());
    let said = spawn_blocking(move || leadwire(&from, &["backup", &into])).await.expect("ends");
    assert!(done(&said).contains("read back and checked"), "{said:?}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let at_end = writers.answered().len();
    writers.until(at_end + 5).await;
    writers.stop().await;
    let again = leadwire(home.path(), &["backup", &file.display().to_string()]);
    assert!(refusal(&again).contains("exists"), "{again:?}");

    // This client has seen events that are not in the backup.
    let auth = json!({"token": token});
    let mut client = SocketClient::try_connect(Transport::WebSocket, &server.address, auth).await.expect("connects");
    let connected = client.event("connected").await;
    let (epoch, seq) = (connected["epoch"].clone(), connected["seq"].clone());
    let beside = leadwire(home.path(), &["restore", &file.display().to_string(), "--force"]);
    let line = refusal(&beside);
    assert!(line.contains("stop it first") && line.contains(&format!("pid {}", server.id())), "{line}");
    drop(server);

    done(&leadwire(other.path(), &["restore", "backup", "--plugins", "plugins"]));
    assert_eq!(fs::metadata(other.path().join("leadwire.db")).expect("there").permissions().mode() & 0o777, 0o600);
    let secret = |home: &Path| fs::read(home.join("leadwire-data/jwt-secret")).expect("a secret");
    assert_eq!(secret(home.path()), secret(other.path()));
    for name in ["guard.wasm", "guard.toml"] {
        let plugin = |home: &Path| fs::read(home.join("plugins").join(name)).expect("a plugin");
        assert_eq!(plugin(home.path()), plugin(other.path()));
    }

    let restored = Process::serve(other.path());
    for id in &before {
        let url = restored.url(&format!("/api/leads/{id}"));
        let answer = http.get(url).bearer_auth(&token).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "lead {id} was answered before the backup began");
    }
    let plugins: Value = http
        .get(restored.url("/api/plugins"))
        .bearer_auth(&token)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(plugins["items"][0]["state"], "active", "{plugins}");

    let auth = json!({"token": token, "since": seq, "epoch": epoch});
    let mut client = SocketClient::try_connect(Transport::WebSocket, &restored.address, auth).await.expect("connects");
    let connected = client.event("connected").await;
    assert!(connected["recovered"] == false && connected["epoch"] != epoch, "{connected}");
    assert_eq!(client.event("sync:reset").await["epoch"], connected["epoch"]);
}

#[tokio::test]
async fn a_restore_requires_a_stopped_server_and_a_plugin_folder_and_sets_a_stable_epoch() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), "");
    // Also one in the data directory, whose lock file moves aside with it.
    for database in ["leadwire.db", "leadwire-data/leadwire.db"] {
        let path = home.path().join(database);
        let flags = ["--database", database, "--data-dir", "leadwire-data"];
        let with = |arguments: &[&str]| leadwire(home.path(), &[arguments, &flags].concat());
        fs::create_dir_all(home.path().join("leadwire-data")).expect("made");
        let backup = format!("backup-{}", path.parent().and_then(Path::file_name).expect("a name").display());
        let mut server = Process::serve_with(home.path(), &flags);
        done(&with(&["backup", &backup]));
        let line = refusal(&with(&["restore", &backup, "--force"]));
        assert!(line.contains(&format!("is in use by `leadwire serve`, pid {}: stop it first", server.id())), "{line}");
        // One of the two locks is enough.
        let line = refusal(&leadwire(home.path(), &["restore", &backup, "--force", "--database", "other.db"]));
        assert!(line.contains("the data directory") && line.contains(&format!("pid {}", server.id())), "{line}");
        assert_eq!(server.end(), Some(0));

        let before = epoch(&path).await;
        let said = done(&with(&["restore", &backup, "--force"]));
        assert!(said.contains("the next start gives the log a new epoch"), "{said}");
        let mut epochs = vec![before];
        for _ in 0..2 {
            let mut server = Process::serve_with(home.path(), &flags);
            epochs.push(epoch(&path).await);
            assert_eq!(server.end(), Some(0));
        }
        assert!(epochs[0] != epochs[1] && epochs[1] == epochs[2], "{epochs:?}");
        fs::remove_dir_all(home.path().join("leadwire-data")).expect("deleted");
    }
}

async fn epoch(database: &Path) -> Epoch {
    let contents = leadwire::store::copy::check(database).await;
    contents.expect("a database").epoch
}

#[test]
fn folders_with_only_lock_files_count_as_empty() {
    let (home, other) = (home(), tempfile::tempdir().expect("a folder"));
    done(&leadwire(home.path(), &["backup", "backup"]));
    fs::create_dir(other.path().join("data")).expect("made");
    for lock in ["data/lock", "data/leadwire.db-lock"] {
        fs::write(other.path().join(lock), "1 serve\n").expect("written");
    }
    let backup = home.path().join("backup").display().to_string();
    let flags = ["--plugins", "plugins", "--data-dir", "data", "--database", "data/leadwire.db"];
    done(&leadwire(other.path(), &[&["restore", &backup], &flags[..]].concat()));
    done(&leadwire(other.path(), &[&["user", "list"], &flags[..]].concat()));
    assert!(!leftovers(other.path()), "nothing temporary is left");
}

#[test]
fn existing_files_are_moved_aside_only_with_force() {
    let home = home();
    let database = home.path().join("leadwire.db");
    done(&leadwire(home.path(), &["backup", "backup"]));
    let before = fs::read(&database).expect("there");
    let refused = leadwire(home.path(), &["restore", "backup"]);
    let line = refusal(&refused);
    assert!(line.contains("leadwire.db") && line.contains("plugins") && line.contains("--force"), "{line}");
    assert_eq!(fs::read(&database).expect("there"), before);

    let said = done(&leadwire(home.path(), &["restore", "backup", "--force"]));
    let aside: Vec<PathBuf> = said
        .lines()
        .filter_map(|line| line.strip_prefix("the previous version is kept at "))
        .map(|path| home.path().join(path))
        .collect();
    assert!(aside.len() >= 2 && aside.iter().all(|path| path.exists()), "{said}");
    let database =
        aside.iter().find(|path| path.to_string_lossy().contains("leadwire.db.before-")).expect("the database");
    assert_eq!(fs::read(database).expect("there"), before);
    assert!(!leftovers(home.path()), "nothing temporary is left");
    done(&leadwire(home.path(), &["user", "list"]));
}

#[test]
fn a_damaged_backup_is_refused_and_nothing_is_touched() {
    let (home, other) = (home(), tempfile::tempdir().expect("a folder"));
    done(&leadwire(home.path(), &["backup", "backup"]));
    let whole = fs::read(home.path().join("backup")).expect("there");
    for at in [40, whole.len() / 2, whole.len() - 60] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(other.path().join("damaged"), &changed).expect("written");
        refusal(&leadwire(other.path(), &["restore", "damaged", "--plugins", "plugins"]));
        assert_eq!(fs::read_dir(other.path()).expect("a folder").count(), 1, "only the backup is there");
    }
    fs::write(other.path().join("damaged"), &whole[..whole.len() / 2]).expect("written");
    refusal(&leadwire(other.path(), &["restore", "damaged", "--plugins", "plugins"]));
    assert!(!other.path().join("leadwire.db").exists());
}

fn leftovers(home: &Path) -> bool {
    let entries = fs::read_dir(home).expect("a folder");
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(".leadwire-"))
}

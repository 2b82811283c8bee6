//! Database faults under load: no acknowledged write is lost, failures report the reason, and the server recovers by
//! itself once the fault is gone.
//!
//! Faults are created by the means that the machine allows; each test prints which it used.

use leadwire::domain::counter::Seq;
use std::{
    fs,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::RwLock,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    guest::Guest,
    process::{self, Process},
    socket_client::{PATIENCE, SocketClient, Transport},
    support::{self, Reply, open_store},
};

const WRITERS: usize = 4;
/// Maximum time to recover after the end of a fault.
const RECOVERY: Duration = Duration::from_secs(1);
/// Additional time on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

/// A server with its database in `disk`, and clients that write continuously.
struct Scene {
    server: Process,
    http: reqwest::Client,
    token: String,
    writers: Writers,
    home: tempfile::TempDir,
    database: PathBuf,
    /// The acknowledged leads.
    answered: Vec<String>,
}

/// Clients that create leads one after the other and ignore failures.
struct Writers {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    /// Held for writing, it lets requests in progress finish and blocks new ones.
    pace: Arc<RwLock<()>>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Scene {
    async fn begin(disk: &Path) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let database = disk.join("leadwire.db");
        let settings = format!("database = {database:?}\n[plugins]\ndir = \"plugins\"\n");
        process::prepare(home.path(), &settings);
        Self::serve(home, database).await
    }

    async fn serve(home: tempfile::TempDir, database: PathBuf) -> Self {
        let server = Process::serve(home.path());
        let http = support::http_builder().timeout(PATIENCE).build().expect("a client");
        let token = server.login(&http, "ADMIN").await;
        let writers = Writers::start(&http, &server.url("/api/leads"), &token);
        let scene = Self { server, http, token, writers, home, database, answered: Vec::new() };
        scene.writes_work().await;
        scene
    }

    async fn get(&self, path: &str) -> Reply {
        support::send(self.http.get(self.server.url(path)).bearer_auth(&self.token)).await
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        support::send(self.http.post(self.server.url(path)).bearer_auth(&self.token).json(&body)).await
    }

    /// Waits until new leads were created.
    async fn writes_work(&self) {
        let before = self.writers.made.load(Ordering::Relaxed);
        self.until("leads are made", async |scene| scene.writers.made.load(Ordering::Relaxed) > before + 5).await;
    }

    /// Waits until every writer was refused.
    async fn writes_fail(&self) {
        let before = self.writers.refused.load(Ordering::Relaxed);
        self.until("writes are refused", async |scene| {
            scene.writers.refused.load(Ordering::Relaxed) > before + 3 * WRITERS
        })
        .await;
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self).await {
            assert!(begin.elapsed() < PATIENCE, "in vain: {what}; the log: {}", self.server.log());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until readiness names this reason for this check.
    async fn not_ready(&self, check: &str, reasons: &[&str]) {
        self.until(&format!("readiness says {reasons:?} of {check}"), async |scene| {
            let ready = scene.get("/readyz").await;
            let reason = ready.body["reasons"][check].as_str().unwrap_or_default();
            ready.status == 503 && reasons.contains(&reason)
        })
        .await;
    }

    async fn ready(&self) {
        self.until("it is ready", async |scene| scene.get("/readyz").await.status == 200).await;
    }

    /// Checks that a write, a login and a socket command are refused with a retryable error.
    ///
    /// While the disk is full, a checkpoint may free some room; a request that fits into it before the filler succeeds
    /// and is repeated here.
    async fn refuses_with_reason(&self) {
        let lead = self.refused("/api/leads", json!({"title": "Not now"})).await;
        assert_eq!(lead.header("retry-after"), "1");
        lead.refused(503, "database_unavailable");
        let login = json!({"email": process::email("SALES"), "password": process::PASSWORD});
        self.refused("/api/auth/login", login).await.refused(503, "database_unavailable");

        let mut socket = SocketClient::connect(Transport::WebSocket, &self.server.address, &self.token).await;
        let begin = Instant::now();
        let ack = loop {
            let ack = socket.call("lead:create", json!({"title": "Not now"})).await;
            if ack["ok"] != true {
                break ack;
            }
            assert!(begin.elapsed() < PATIENCE, "never refused");
        };
        assert_eq!(ack["error"]["code"], "database_unavailable", "{ack}");
        assert_eq!(ack["error"]["retryAfterMs"], 1000, "{ack}");
        // Reads still work.
        assert_eq!(self.get("/api/leads?limit=1").await.status, 200);
    }

    /// The first failed response to these requests.
    async fn refused(&self, path: &str, body: Value) -> Reply {
        let begin = Instant::now();
        loop {
            let answer = self.post(path, body.clone()).await;
            if !answer.status.is_success() {
                return answer;
            }
            assert!(begin.elapsed() < PATIENCE, "never refused");
        }
    }

    async fn stop_writers(&mut self) {
        self.answered.extend(self.writers.stop().await);
    }

    /// Checks that everything works again in time and that no acknowledged write is lost.
    async fn recovers(&self, ended: Instant) {
        self.writes_work().await;
        let after = ended.elapsed();
        assert!(after < RECOVERY + SLACK, "only after {after:?}");
        println!("written again {after:?} after the end of the fault");
        self.server.login(&self.http, "SALES").await;
        self.ready().await;
    }

    /// Kills the server and checks, in a new one and in the log, that all acknowledged leads exist.
    async fn nothing_is_lost(mut self) {
        self.stop_writers().await;
        self.server.kill();
        let ids = self.answered;
        let server = Process::serve(self.home.path());
        let token = server.login(&self.http, "ADMIN").await;
        for some in ids.chunks(16) {
            let answers =
                some.iter().map(|id| self.http.get(server.url(&format!("/api/leads/{id}"))).bearer_auth(&token).send());
            for (id, answer) in some.iter().zip(join_all(answers).await) {
                assert_eq!(answer.expect("an answer").status(), 200, "lead {id} was answered");
            }
        }
        drop(server);

        let store = open_store(self.database.parent().expect("its folder")).await;
        let mut reader = store.read().await.expect("a reader");
        let (head, mut seqs) = (reader.head().await.expect("the head"), Vec::new());
        while let Some(last) = Some(Seq(seqs.len() as u64)).filter(|last| *last < head) {
            let events = reader.events_after(last, 1000).await.expect("events");
            assert!(!events.is_empty(), "the log ends at {last}, before {head}");
            seqs.extend(events.iter().map(|event| event.seq.0));
        }
        assert_eq!(seqs, (1..=head.0).collect::<Vec<_>>());
        drop(reader);
        store.close().await;
        println!("{} leads were answered, all of them are there", ids.len());
    }
}

impl Writers {
    fn start(http: &reqwest::Client, url: &str, token: &str) -> Self {
        let (stop, made, refused): (Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let pace = Arc::new(RwLock::new(()));
        let tasks = (0..WRITERS).map(|writer| {
            let (http, url, token) = (http.clone(), url.to_owned(), token.to_owned());
            let (stop, made, refused) = (Arc::clone(&stop), Arc::clone(&made), Arc::clone(&refused));
            let pace = Arc::clone(&pace);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let _under_way = pace.read().await;
                    let body =
                        json!({"title": format!("Lead {} of {writer}", ids.len()), "description": "x".repeat(500)});
                    let reply = support::send(http.post(&url).bearer_auth(&token).json(&body)).await;
                    if reply.status == 201 {
                        ids.push(reply.body["id"].as_str().expect("an id").to_owned());
                        made.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    reply.refused(503, "database_unavailable");
                    refused.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(10)).await;
                }
                ids
            })
        });
        let tasks = tasks.collect();
        Self { stop, made, refused, pace, tasks }
    }

    /// The ids of the acknowledged leads.
    async fn stop(&mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut ids = Vec::new();
        for task in self.tasks.drain(..) {
            ids.extend(task.await.expect("a writer that was answered as it should be"));
        }
        ids
    }
}

/// A separate file system, if root may create one.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Fills the disk, including space that others free, until stopped.
struct Filler {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Filler {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut file, is_over) = (fs::File::create(&path).expect("made"), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                for size in [1 << 16, 1 << 12, 1] {
                    while file.write_all(&vec![1; size]).is_ok() {}
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { path, stop, thread }
    }

    fn remove(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        fs::remove_file(self.path).expect("removed");
    }
}

/// Limits the file size of a process.
fn limit_files(server: &Process, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(server.id()).expect("in range")).expect("a process");
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None })
        .expect("a limit of one's own process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_with_503_until_there_is_room() {
    let Some(disk) = Disk::mount(&["-t", "tmpfs", "-o", "size=48m", "leadwire-faults"]) else {
        println!("no file system can be mounted here: the limit on file sizes stands for the full disk");
        return;
    };
    println!("full disk: a tmpfs of 48 MiB");
    let scene = Scene::begin(disk.path()).await;
    for round in 0..3 {
        let filler = Filler::start(disk.path().join("filler"));
        scene.writes_fail().await;
        scene.refuses_with_reason().await;
        scene.not_ready("writes", &["disk_full"]).await;
        let plugin = scene.home.path().join(format!("plugins/late-{round}.wasm"));
        fs::write(plugin, Guest::redactor(&format!("late-{round}")).build()).expect("written");
        if round == 0 {
            scene.not_ready("plugins", &["failing"]).await;
        }

        filler.remove();
        scene.recovers(Instant::now()).await;
        scene
            .until("the plugin that came meanwhile is loaded", async |scene| {
                let plugins = scene.get("/api/plugins").await.expect(reqwest::StatusCode::OK);
                let states = plugins["items"].as_array().expect("plugins").iter().map(|plugin| &plugin["state"]);
                states.filter(|state| *state == "active").count() == round + 1
            })
            .await;
    }
    scene.nothing_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_size_limit_refuses_writes_and_does_not_kill() {
    println!("limit on file sizes: RLIMIT_FSIZE of the process that serves");
    let disk = tempfile::tempdir().expect("a folder");
    let scene = Scene::begin(disk.path()).await;
    for _ in 0..3 {
        limit_files(&scene.server, Some(1 << 16));
        scene.writes_fail().await;
        scene.refuses_with_reason().await;
        scene.not_ready("writes", &["io_error"]).await;
        limit_files(&scene.server, None);
        scene.recovers(Instant::now()).await;
    }
    scene.nothing_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_another_process_is_awaited_and_named() {
    println!("lock: another connection with BEGIN IMMEDIATE");
    let disk = tempfile::tempdir().expect("a folder");
    let scene = Scene::begin(disk.path()).await;
    let mut other = SqliteConnectOptions::new().filename(&scene.database).connect().await.expect("opens");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("locks");
    scene.not_ready("writes", &["locked"]).await;
    // After the maximum wait of a request.
    scene.until("a write is refused", async |scene| scene.writers.refused.load(Ordering::Relaxed) > 0).await;
    assert_eq!(scene.get("/api/leads?limit=1").await.status, 200);
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("unlocks");
    scene.recovers(Instant::now()).await;
    other.close().await.expect("closes");
    scene.nothing_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_turns_read_only_is_reported_and_loses_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let image = home.path().join("disk.img");
    fs::File::create(&image).expect("made").set_len(24 << 20).expect("a sparse file");
    let mkfs = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).stderr(Stdio::null()).status();
    let image = image.to_str().expect("utf-8");
    let disk = mkfs.is_ok_and(|status| status.success()).then(|| Disk::mount(&["-o", "loop", image])).flatten();
    let Some(disk) = disk else {
        println!("no ext4 can be mounted here: the limit on file sizes stands for the read-only file system");
        return;
    };
    println!("read-only: an ext4 that is aborted, as after a fault of its disk");
    let mut scene = Scene::begin(disk.path()).await;
    // Between two writes: an fsync during which the file system is aborted can report success for data not on disk.
    let pause = scene.writers.pace.write().await;
    // A plain remount is refused while files are open for writing.
    let aborted = Command::new("mount").args(["-o", "remount,abort"]).arg(disk.path()).status().expect("mount runs");
    assert!(aborted.success());
    drop(pause);
    scene.writes_fail().await;
    scene.refuses_with_reason().await;
    scene.not_ready("writes", &["read_only"]).await;
    assert!(scene.server.log().contains("read-only"), "{}", scene.server.log());

    // The operator mounts the disk again.
    scene.stop_writers().await;
    scene.server.kill();
    let umount = Command::new("umount").arg(disk.path()).status().expect("umount runs");
    assert!(umount.success());
    let _ = Command::new("fsck.ext4").args(["-p", image]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let mount = Command::new("mount").args(["-o", "loop", image]).arg(disk.path()).status().expect("mount runs");
    assert!(mount.success());
    scene.nothing_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_database_accepts_no_writes() {
    println!("moved away: rename of the database file");
    let disk = tempfile::tempdir().expect("a folder");
    let scene = Scene::begin(disk.path()).await;
    let away = scene.database.with_extension("away");
    fs::rename(&scene.database, &away).expect("moved");
    scene.writes_fail().await;
    scene.refuses_with_reason().await;
    scene.not_ready("file", &["replaced"]).await;
    fs::rename(&away, &scene.database).expect("moved back");
    scene.recovers(Instant::now()).await;
    scene.nothing_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_database_accepts_no_writes_and_can_be_put_back() {
    println!("deleted: unlink of the database and its write-ahead log");
    let disk = tempfile::tempdir().expect("a folder");
    let mut scene = Scene::begin(disk.path()).await;
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(disk.path().join(format!("leadwire.db{suffix}"))).expect("deleted");
    }
    scene.writes_fail().await;
    scene.not_ready("file", &["replaced"]).await;
    scene.until("what it had is saved", async |scene| scene.server.log().contains("is saved in")).await;
    scene.stop_writers().await;
    scene.server.end();

    let log = scene.server.log();
    let (_, saved) = log.split_once("is saved in ").expect("where it is saved");
    let (saved, _) = saved.split_once(": stop the server").expect("what to do");
    // Both may be on separate file systems.
    fs::copy(scene.home.path().join(saved), &scene.database).expect("put back");
    scene.nothing_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_named_and_the_rest_stays_readable() {
    println!("damage: a page of leads is overwritten while nobody serves");
    let disk = tempfile::tempdir().expect("a folder");
    let mut scene = Scene::begin(disk.path()).await;
    scene.until("some leads are made", async |scene| scene.writers.made.load(Ordering::Relaxed) > 60).await;
    let ids = scene.writers.stop().await;
    scene.server.kill();
    damage_a_page_of(&scene.database, "leads").await;

    scene.server = Process::serve(scene.home.path());
    scene.token = scene.server.login(&scene.http, "ADMIN").await;
    scene.ready().await;
    let (mut readable, mut damaged) = (0, 0);
    for id in &ids {
        let lead = scene.get(&format!("/api/leads/{id}")).await;
        match lead.status.as_u16() {
            200 => readable += 1,
            _ => {
                let problem = lead.refused(500, "database_corrupt");
                assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("leads")), "{problem}");
                damaged += 1;
            }
        }
    }
    println!("{readable} leads are readable, {damaged} are damaged");
    assert!(readable > damaged && damaged > 0);
    scene.get("/api/leads?limit=200").await.refused(500, "database_corrupt");
    scene.not_ready("pages", &["damaged"]).await;
    scene.until("the damage is described", async |scene| scene.server.log().contains("table leads: ")).await;
    // Other leads can be created, as long as they do not touch that page.
    assert_ne!(scene.get("/api/users").await.status, 500);
}

/// Overwrites a leaf of a table, with what is in the write-ahead log copied first.
async fn damage_a_page_of(database: &Path, table: &str) {
    let mut connection = SqliteConnectOptions::new().filename(database).connect().await.expect("opens");
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&mut connection).await.expect("copied");
    let pages: Vec<i64> = sqlx::query_scalar("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'")
        .bind(table)
        .fetch_all(&mut connection)
        .await
        .expect("pages");
    let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut connection).await.expect("a size");
    connection.close().await.expect("closes");
    let page = pages[pages.len() / 2];
    let file = fs::File::options().write(true).open(database).expect("opens");
    let offset = u64::try_from((page - 1) * size).expect("positive");
    file.write_all_at(&[0xff; 64], offset).expect("overwritten");
}

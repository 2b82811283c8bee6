//! Database faults under load: no acknowledged write is lost, failures report the reason, and the server recovers by
//! itself once the fault is gone.
//!
//! Faults are created by the means that the machine allows; each test prints which it used.

mod disk;
mod file;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use leadwire::domain::counter::Seq;
use serde_json::{Value, json};
use tokio::{
    sync::RwLock,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    process::{self, Process},
    socket_client::{PATIENCE, SocketClient, Transport},
    support::{self, Reply, open_store},
};

/// So many that several of them are in one commit.
const WRITERS: usize = 16;
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

        let begin = Instant::now();
        let mut socket = loop {
            let auth = json!({"token": self.token});
            match SocketClient::try_connect(Transport::WebSocket, &self.server.address, auth).await {
                Ok(socket) => break socket,
                // A read that finds all connections in use is refused if the file is gone: no other can be opened.
                Err(reason) => assert!(begin.elapsed() < PATIENCE, "{reason}"),
            }
        };
        socket.event("connected").await;
        let ack = loop {
            let ack = socket.call("lead:create", json!({"title": "Not now"})).await;
            if ack["ok"] != true {
                break ack;
            }
            assert!(begin.elapsed() < PATIENCE, "never refused");
        };
        assert_eq!(ack["error"]["code"], "database_unavailable", "{ack}");
        assert_eq!(ack["error"]["retryAfterMs"], 1000, "{ack}");
        // Reads still work, on open connections.
        self.until("a read", async |scene| scene.get("/api/leads?limit=1").await.status == 200).await;
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

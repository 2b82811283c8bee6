//! Faults of the database file: locked, moved, deleted or damaged.

use std::{fs, os::unix::fs::FileExt, path::Path, sync::atomic::Ordering};

use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use tokio::time::Instant;

use crate::{ops::faults::Scene, process::Process};

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

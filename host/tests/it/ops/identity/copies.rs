//! A database that was copied, restored or moved gets a new epoch; a plain restart does not change it.

use leadwire::domain::id::Epoch;
use std::{fs, io::Write, path::Path};

use serde_json::{Value, json};

use crate::{
    ops::identity::{Admin, back_up, copy_all, database, delete_database, epoch, home, run},
    process::Process,
    socket_client::{SocketClient, Transport},
};

/// Serves for a moment; returns the epoch.
async fn served_epoch(home: &Path, flags: &[&str]) -> Epoch {
    let mut server = Process::serve_with(home, flags);
    let epoch = epoch(&database(home)).await;
    server.end();
    epoch
}

/// Writes into an existing file, like `cp`.
fn overwrite(file: &Path, with: &Path) {
    let bytes = fs::read(with).expect("a file");
    fs::File::create(file).and_then(|mut file| file.write_all(&bytes)).expect("written over");
}

async fn greeting(server: &Process, auth: Value) -> Value {
    let client = SocketClient::try_connect(Transport::WebSocket, &server.address, auth).await;
    client.expect("connects").event("connected").await
}

#[tokio::test]
async fn a_log_keeps_its_epoch_across_restarts_and_kills() {
    let home = home();
    let mut first = None;
    for round in 0..8 {
        let mut server = Process::serve(home.path());
        let found = epoch(&database(home.path())).await;
        assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "round {round}: {}", server.log());
        let admin = Admin::of(&server).await;
        for number in 0..5 {
            admin.lead(&server, &format!("Lead {number} of {round}")).await;
        }
        // Right after an answer: periodically written notes are not up to date.
        if round % 4 == 3 {
            server.end();
        } else {
            server.kill();
        }
        if round == 5 {
            let list = run(home.path(), &["user", "deactivate", "--email", "viewer@example.com"]);
            assert!(list.status.success(), "{list:?}");
        }
    }
}

#[tokio::test]
async fn a_copy_restored_in_place_after_a_kill_gets_a_new_epoch() {
    let home = home();
    let mut server = Process::serve(home.path());
    let (admin, served) = (Admin::of(&server).await, epoch(&database(home.path())).await);
    admin.lead(&server, "In the copy").await;
    let copy = home.path().join("copy.db");
    back_up(&database(home.path()), &copy).await;
    admin.lead(&server, "Not in the copy").await;
    server.kill();
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(home.path().join(format!("leadwire.db{suffix}"))).expect("a file");
    }
    // The same file, so that only the note distinguishes them.
    overwrite(&database(home.path()), &copy);
    let renewed = served_epoch(home.path(), &[]).await;
    assert_ne!(renewed, served);
    assert_eq!(served_epoch(home.path(), &[]).await, renewed, "once");
}

#[tokio::test]
async fn a_client_that_resumes_on_a_copy_gets_sync_reset() {
    let (home, elsewhere) = (home(), tempfile::tempdir().expect("a folder"));
    let server = Process::serve(home.path());
    let admin = Admin::of(&server).await;
    admin.lead(&server, "In the copy").await;
    fs::copy(home.path().join("leadwire.toml"), elsewhere.path().join("leadwire.toml")).expect("copied");
    back_up(&database(home.path()), &database(elsewhere.path())).await;
    let seen = greeting(&server, json!({"token": admin.token})).await;

    let other = Process::serve(elsewhere.path());
    let other_admin = Admin::of(&other).await;
    for number in 0..3 {
        other_admin.lead(&other, &format!("A ghost {number}")).await;
    }
    let auth = json!({"token": other_admin.token, "since": seen["seq"], "epoch": seen["epoch"]});
    let greeting = greeting(&other, auth).await;
    assert_eq!(greeting["recovered"], false, "{greeting}");
    assert_ne!(greeting["epoch"], seen["epoch"]);
}

#[tokio::test]
async fn a_copy_of_database_and_data_directory_gets_a_new_epoch_and_the_original_keeps_its_own() {
    let (home, elsewhere) = (home(), tempfile::tempdir().expect("a folder"));
    let mut server = Process::serve(home.path());
    Admin::of(&server).await.lead(&server, "Everywhere").await;
    let served = epoch(&database(home.path())).await;
    server.end();
    copy_all(home.path(), elsewhere.path());
    let copied = served_epoch(elsewhere.path(), &[]).await;
    assert_ne!(copied, served);
    assert_eq!(served_epoch(home.path(), &[]).await, served);

    // A database written elsewhere returns under its own or a new epoch, never under that of the original.
    overwrite(&database(home.path()), &database(elsewhere.path()));
    let back = served_epoch(home.path(), &[]).await;
    assert!(back != served && back != copied, "{back}");
}

#[tokio::test]
async fn a_copy_written_by_a_command_is_not_mistaken_for_the_original() {
    let (home, elsewhere) = (home(), tempfile::tempdir().expect("a folder"));
    let mut server = Process::serve(home.path());
    let (admin, served) = (Admin::of(&server).await, epoch(&database(home.path())).await);
    fs::copy(home.path().join("leadwire.toml"), elsewhere.path().join("leadwire.toml")).expect("copied");
    back_up(&database(home.path()), &database(elsewhere.path())).await;
    admin.lead(&server, "Not in the copy").await;
    server.end();
    // Each appends an event, until the copy is ahead of the original.
    for role in ["manager", "sales", "viewer"] {
        let email = format!("{role}@example.com");
        assert!(run(elsewhere.path(), &["user", "deactivate", "--email", &email]).status.success());
    }
    overwrite(&database(home.path()), &database(elsewhere.path()));
    assert_ne!(served_epoch(home.path(), &[]).await, served);
}

#[tokio::test]
async fn another_database_in_the_same_data_directory_gets_a_new_epoch_with_new_database() {
    let home = home();
    let served = served_epoch(home.path(), &[]).await;
    assert_ne!(served_epoch(home.path(), &["--new-database"]).await, served);
    delete_database(home.path());
}

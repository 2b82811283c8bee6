//! One server at a time: a second one is refused, and commands do only what is safe while one runs.

use std::{fs, io::Write, os::unix::fs::symlink, process::Stdio};

use reqwest::StatusCode;
use serde_json::json;

use crate::{
    ops::identity::{Admin, failure, home, run},
    process::{PASSWORD, Process},
    socket_client::until_true,
    support,
};

#[tokio::test]
async fn a_second_server_on_shared_files_is_refused_with_the_pid_of_the_first() {
    let home = home();
    let mut server = Process::serve(home.path());
    symlink(home.path().join("leadwire.db"), home.path().join("link.db")).expect("linked");
    fs::hard_link(home.path().join("leadwire.db"), home.path().join("hard.db")).expect("linked");
    let flags = ["serve", "--listen", "127.0.0.1:0", "--data-dir", "other-data", "--database", "hard.db"];
    let refusal = failure(&run(home.path(), &flags));
    assert!(refusal.starts_with("the database hard.db has 2 hard links"), "{refusal}");
    fs::remove_file(home.path().join("hard.db")).expect("removed");
    let pid = format!("`leadwire serve`, pid {}", server.id());
    for (flags, shared) in [
        (&[][..], "the data directory leadwire-data"),
        (&["--data-dir", "other-data"], "the database leadwire.db"),
        (&["--data-dir", "other-data", "--database", "link.db"], "the database link.db"),
        (&["--data-dir", "leadwire-data", "--database", "other.db"], "the data directory leadwire-data"),
    ] {
        let refusal = failure(&run(home.path(), &[&["serve", "--listen", "127.0.0.1:0"], flags].concat()));
        assert_eq!(refusal, format!("{shared} is in use by {pid}"));
    }
    assert!(!home.path().join("other.db").exists());
    server.kill();
    // After any kind of exit, no cleanup is needed.
    Process::serve(home.path()).end();
}

#[tokio::test]
async fn a_deleted_lock_file_is_recreated_and_still_excludes_others() {
    let home = home();
    let server = Process::serve(home.path());
    let locks = ["leadwire.db-lock", "leadwire-data/lock"].map(|file| home.path().join(file));
    for lock in &locks {
        fs::remove_file(lock).expect("a lock file");
    }
    until_true("they are made again", || locks.iter().all(|lock| lock.exists())).await;
    for flags in [&[][..], &["--data-dir", "other-data"]] {
        let refusal = failure(&run(home.path(), &[&["serve", "--listen", "127.0.0.1:0"], flags].concat()));
        assert!(refusal.ends_with(&format!("`leadwire serve`, pid {}", server.id())), "{refusal}");
    }
    assert!(server.log().contains("was deleted and has been recreated"), "{}", server.log());
}

#[tokio::test]
async fn seed_and_migrate_are_refused_while_a_server_runs() {
    let home = home();
    let server = Process::serve(home.path());
    for command in ["seed", "migrate"] {
        let refusal = failure(&run(home.path(), &[command, "--mode", "demo"]));
        let expected =
            format!("`leadwire {command}` cannot run while a server is running: the database leadwire.db is in use by");
        assert!(refusal.starts_with(&expected) && refusal.ends_with(&format!("pid {}", server.id())), "{refusal}");
    }
}

#[tokio::test]
async fn accounts_can_be_added_while_a_server_runs() {
    let home = home();
    let server = Process::serve(home.path());
    let admin = Admin::of(&server).await;
    let mut command = support::leadwire(home.path());
    let arguments =
        ["user", "add", "--email", "new@example.com", "--name", "New", "--role", "SALES", "--password-stdin"];
    let mut child = command.args(arguments).stdin(Stdio::piped()).spawn().expect("leadwire runs");
    writeln!(child.stdin.take().expect("a pipe"), "{PASSWORD}").expect("input is read");
    assert!(child.wait().expect("an end").success());
    let login = json!({"email": "new@example.com", "password": PASSWORD});
    let answer = admin.http.post(server.url("/api/auth/login")).json(&login).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    admin.lead(&server, "Afterwards").await;
}

#[tokio::test]
async fn a_stale_or_foreign_lock_file_locks_nothing() {
    let home = home();
    fs::write(home.path().join("leadwire.db-lock"), "1 serve\n").expect("written");
    Process::serve(home.path()).end();
}

//! The path of an update through the sources in docs/ARCHITECTURE.md, compared with the trace of a real update.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    guest::{Guest, Ruling},
    process::{self, Process},
    socket_client::{SocketClient, Transport, until_true},
    support,
};

const SETTINGS: &str = "
[log]
level = \"error,leadwire::walk=trace\"
[plugins]
dir = \"plugins\"
";

/// Files in the document's table of steps, in order.
fn documented() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ARCHITECTURE.md");
    let page = fs::read_to_string(page).expect("the page");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("## Follow one event"))
        .skip_while(|line| !line.starts_with("|---"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    let files = rows.map(|row| row.split('|').nth(2).expect("a file").trim().trim_matches('`').to_owned());
    files.collect()
}

/// Files in the trace, in the order of first entry.
fn traced(log: &str) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    // The caller gets the lead as `lead:read`, which is shaped like events.
    let steps = log.lines().filter(|line| line.contains("leadwire::walk") && !line.contains("lead:read"));
    for line in steps {
        let (_, rest) = line.split_once("host/src/").expect("a file of the host");
        let file = rest.split(".rs").next().expect("a path").to_owned() + ".rs";
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_passes_the_files_in_the_documented_order() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), SETTINGS);
    let guard = Guest::redactor("guard").before(["lead:update"], Ruling::Accept).build();
    fs::write(home.path().join("plugins/guard.wasm"), guard).expect("written");
    let server = Process::serve(home.path());
    let http = support::http_client();
    let (admin, viewer) = (server.login(&http, "ADMIN").await, server.login(&http, "VIEWER").await);
    let made = http.post(server.url("/api/leads")).bearer_auth(&admin).json(&json!({"title": "Roof"})).send().await;
    let made: serde_json::Value = made.expect("an answer").json().await.expect("a lead");
    let mut socket = SocketClient::connect(Transport::WebSocket, &server.address, &viewer).await;

    let before = server.log().len();
    let url = server.url(&format!("/api/leads/{}", made["id"].as_str().expect("an id")));
    let answer = http.patch(url).bearer_auth(&admin).json(&json!({"title": "Wall"})).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    socket.event("lead:updated").await;

    let last = documented().pop().expect("a last step");
    until_true("the last step is logged", || traced(&server.log()[before..]).contains(&last)).await;
    assert_eq!(traced(&server.log()[before..]), documented());
}

//! The interface is frozen: a plugin built against its first published version still loads and works.
//!
//! The plugin is `tests/guests/first-wit`, built from source against its own copy of that interface.

use std::{fs, path::Path};

use leadwire::{domain::role::Role, plugin::PluginState};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    plugin::hooks::built,
    socket_client::{SocketClient, Transport},
    support::TestApp,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_made_against_the_first_published_interface_loads_and_works() {
    let Some(plugin) = built("test-plugins", "first-wit") else { return };
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("first-wit.wasm"), plugin).expect("written");
    })
    .await;
    let status = app.app().plugins().status().remove(0);
    assert_eq!((status.state, status.reason), (PluginState::Active, None));
    assert_eq!(status.hooks, ["authorize", "enrich", "filter"]);

    let address = app.server.address().to_string();
    let stranger = app.add_user("stranger", Role::Sales).await;
    let auth = json!({"token": app.login(&stranger.email).await});
    let refused = SocketClient::try_connect(Transport::WebSocket, &address, auth).await.err().expect("refused");
    assert!(refused.contains("no strangers"), "{refused}");

    let mut viewer = SocketClient::connect(Transport::WebSocket, &address, app.token(Role::Viewer)).await;
    let created = app.lead(json!({"title": "Roof", "email": "bob@example.com", "phone": "+1 555 0100"})).await;
    assert_eq!((&created["statusThen"], &created["email"]), (&json!("NEW"), &json!("bob@example.com")));
    viewer.subscribe(created["id"].as_str().expect("an id")).await;
    let path = format!("/api/leads/{}", created["id"].as_str().expect("an id"));
    let read = app.client(Role::Viewer).get(&path).await.expect(StatusCode::OK);
    for lead in [&viewer.event("lead:created").await["lead"], &read] {
        assert_eq!((&lead["statusThen"], &lead["email"], lead.get("phone")), (&json!("NEW"), &json!("hidden"), None));
    }
    let status = app.app().plugins().status().remove(0);
    assert_eq!(status.counts.faults, 0, "{:?}", status.last_fault);
    assert!(status.metrics["enriched"] >= 2.0, "{:?}", status.metrics);
}

#[test]
fn the_published_interface_is_unchanged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    for (file, published) in [
        ("plugin.wit", "tests/guests/first-wit/wit/plugin.wit"),
        ("before.wit", "tests/wit/before.wit"),
        ("after.wit", "tests/wit/after.wit"),
        ("filter-lines.wit", "tests/wit/filter-lines.wit"),
    ] {
        assert_eq!(
            read(&format!("../wit/v1/{file}")),
            read(published),
            "wit/v1/{file} is frozen: plugins that were made against it depend on every letter. What is new goes into an \
             interface of its own, in a file beside it"
        );
    }
}

#[test]
fn every_file_of_the_interface_is_frozen() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/v1");
    let mut files: Vec<_> = fs::read_dir(wit)
        .expect("a folder")
        .map(|file| file.expect("a file").file_name().into_string().expect("a name"))
        .collect();
    files.sort();
    assert_eq!(
        files,
        ["after.wit", "before.wit", "filter-lines.wit", "plugin.wit"],
        "a new file is published with a copy of it in tests/wit, and a line in the test above"
    );
}

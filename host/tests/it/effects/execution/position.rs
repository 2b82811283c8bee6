//! Position, state and reminders of a plugin: over restarts, pauses and its removal.

use leadwire::{domain::counter::Seq, server::Server, store::follower::FollowerStats};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    effects::execution::{
        GRANT, LONG_AGO, NEVER, activities, follower, note, put, remind, settled, start, until_followed, until_stats,
        wants,
    },
    guest::{Guest, Outcome, outcome},
    plugin::explain::leadwire,
    socket_client::PATIENCE,
    support::open_store,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_fires_once_when_due_and_the_same_key_replaces_it() {
    let effects = vec![remind("soon", NEVER), remind("later", NEVER), remind("soon", LONG_AGO)];
    let answer = Outcome { effects, reminded: vec![note()], ..outcome([]) };
    let guest = Guest::new("clock").events([]).fields(["/context/lead/id"]).after(wants(["lead:created"]), answer);
    let app = start(&[("clock", guest)]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let rung = |stats: &FollowerStats| stats.reminders == 1 && stats.pending == 0 && stats.seq == stats.head;
    until_stats(&app, "clock", rung).await;
    until_stats(&app, "clock", |stats| stats.head > Seq(1)).await;
    settled(&app, "clock").await;
    assert_eq!(activities(&app, &lead).await.len(), 1);
    let left = app
        .app()
        .store()
        .read()
        .await
        .expect("a reader")
        .next_reminder(&"clock".parse().expect("a name"))
        .await
        .expect("readable");
    assert_eq!(left.map(|reminder| reminder.key).as_deref(), Some("later"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reenabled_plugin_continues_and_a_removed_one_starts_over() {
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    put(&app, "helper.toml", format!("enabled = false\n{GRANT}")).await;
    let missed = app.lead(json!({"title": "Roof"})).await;
    put(&app, "helper.toml", GRANT).await;
    settled(&app, "helper").await;
    assert_eq!(activities(&app, &missed).await.len(), 1);

    put(&app, "helper.toml", format!("enabled = false\n{GRANT}")).await;
    let skipped = app.lead(json!({"title": "Barn"})).await;
    let store = app.app().store();
    let mut tx = store.write().await.expect("a transaction");
    assert!(tx.forget_follower(&"helper".parse().expect("a name")).await.expect("forgets"));
    tx.commit().await.expect("commits");
    put(&app, "helper.toml", GRANT).await;
    until_followed(&app, "helper").await;
    let seen = app.lead(json!({"title": "Shed"})).await;
    settled(&app, "helper").await;
    assert_eq!((activities(&app, &skipped).await.len(), activities(&app, &seen).await.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_plugin_deletes_its_position_and_reminders_on_a_running_server() {
    let app = start(&[("clock", follower("clock", ["lead:created"], vec![remind("later", NEVER), note()]))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    assert_eq!(settled(&app, "clock").await.reminders, 1);
    let (code, _, stderr) = leadwire(&app, &["plugin", "remove", "clock", "--plugins", "plugins"]);
    assert_eq!(code, Some(0), "{stderr}");
    let mut changed = app.app().plugins().changed();
    while !app.app().plugins().followers().is_empty() {
        timeout(PATIENCE, changed.changed()).await.expect("it is taken up").expect("the plugins are there");
    }
    app.lead(json!({"title": "Barn"})).await;
    assert!(app.app().follower_stats().await.expect("stats").is_empty());
    let mut reader = app.app().store().read().await.expect("a reader");
    assert_eq!(reader.next_reminder(&"clock".parse().expect("a name")).await.expect("readable"), None);
    drop(reader);
    let creator = &activities(&app, &lead).await[0]["creator"];
    assert_eq!(creator["email"], "clock@plugins", "what it did stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_keeps_its_state_and_position_over_a_restart() {
    let answer = Outcome { effects: vec![remind("later", NEVER)], state: Some("kept".into()), ..outcome([]) };
    let guest = Guest::new("clock").events([]).fields(["/context/lead/id"]).after(wants(["lead:created"]), answer);
    let app = start(&[("clock", guest)]).await;
    app.lead(json!({"title": "Roof"})).await;
    settled(&app, "clock").await;
    let (dir, server) = (app.dir, app.server);
    stop(server).await;
    let store = open_store(dir.path()).await;
    let mut reader = store.read().await.expect("a reader");
    let (head, follower) = (
        reader.head().await.expect("a head"),
        reader.follower(&"clock".parse().expect("a name")).await.expect("readable"),
    );
    assert_eq!(follower.map(|follower| (follower.seq, follower.state)), Some((head, Some("kept".into()))));
    assert!(reader.next_reminder(&"clock".parse().expect("a name")).await.expect("readable").is_some());
}

async fn stop(server: Server) {
    timeout(PATIENCE, server.shutdown()).await.expect("it stops in time").expect("it stops well");
}

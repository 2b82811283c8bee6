//! Pruned events: clients that request them get `sync:reset` and continue from there.

use std::time::Duration;

use futures_util::StreamExt;
use leadwire::domain::{counter::Seq, event::NewEvent, role::Role, room::Room, time::Timestamp};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    socket_client::{PATIENCE, SocketClient, TRANSPORTS, Transport, open_web_socket},
    support::TestApp,
};

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

async fn leads(app: &TestApp, count: usize) -> String {
    let mut last = Value::Null;
    for number in 0..count {
        last = app.lead(json!({"title": format!("Lead {number}")})).await;
    }
    last["id"].as_str().expect("an id").to_owned()
}

async fn oldest(app: &TestApp) -> Seq {
    app.app().store().read().await.expect("a reader").oldest().await.expect("readable")
}

/// A server that keeps ten of twenty events; also returns the id of the newest lead.
async fn pruned() -> (TestApp, String) {
    let app = TestApp::with(|config| config.log.keep_events = 10).await;
    let lead = leads(&app, 20).await;
    let pruning = async {
        while oldest(&app).await != Seq(11) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, pruning).await.expect("the log is pruned");
    (app, lead)
}

async fn resume(app: &TestApp, transport: Transport, since: u64) -> (SocketClient, bool) {
    let auth = json!({"token": app.token(Role::Viewer), "since": since, "epoch": app.app().store().epoch()});
    let mut socket = SocketClient::try_connect(transport, &address(app), auth).await.expect("connects");
    let greeting = socket.event("connected").await;
    (socket, greeting["recovered"].as_bool().expect("true or false"))
}

fn reset(app: &TestApp, seq: u64) -> Value {
    json!({"seq": seq, "epoch": app.app().store().epoch()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_within_retention_and_gets_sync_reset_beyond_it() {
    let (app, _) = pruned().await;
    let mut sockets = Vec::new();
    for transport in TRANSPORTS {
        for since in [10, 15, 20] {
            let (mut socket, recovered) = resume(&app, transport, since).await;
            assert!(recovered, "since {since}");
            for seq in since + 1..=20 {
                assert_eq!(socket.event("lead:created").await["seq"], seq);
            }
            assert_eq!(socket.event("sync:done").await["seq"], 20);
            sockets.push(socket);
        }
        for since in [0, 9] {
            let (mut socket, recovered) = resume(&app, transport, since).await;
            assert!(!recovered, "since {since}");
            assert_eq!(socket.event("sync:reset").await, reset(&app, 20));
            sockets.push(socket);
        }
    }
    leads(&app, 2).await;
    for mut socket in sockets {
        assert_eq!(socket.event("lead:created").await["seq"], 21);
        assert_eq!(socket.event("lead:created").await["seq"], 22);
        socket.expect_silence().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_since_beyond_retention_gets_sync_reset() {
    let (app, lead) = pruned().await;
    // A new process has no events in memory, where recently pruned ones may remain.
    let app = app.restart().await;
    let epoch = app.app().store().epoch().to_owned();
    let mut socket = SocketClient::connect(Transport::WebSocket, &address(&app), app.token(Role::Viewer)).await;
    let answer = socket.call("sync:since", json!({"seq": 9, "epoch": epoch})).await;
    assert_eq!(answer, json!({"ok": true, "recovered": false, "seq": 20, "epoch": epoch}));
    assert_eq!(socket.event("sync:reset").await, reset(&app, 20));

    // No event of this lead was missed, but the server cannot know that.
    for (since, is_retained) in [(9, false), (10, true)] {
        let answer = socket.call("lead:subscribe", json!({"leadId": lead, "since": since})).await;
        assert_eq!((&answer["ok"], &answer["seq"]), (&json!(true), &json!(20)));
        assert_eq!(socket.event("lead:subscribed").await["leadId"], lead);
        if !is_retained {
            assert_eq!(socket.event("sync:reset").await, reset(&app, 20));
        }
        socket.expect_silence().await;
    }
    let path = format!("/api/leads/{lead}/activities");
    app.client(Role::Admin).post(&path, json!({"type": "NOTE", "body": "x"})).await.expect(StatusCode::CREATED);
    assert_eq!(socket.event("activity:created").await["seq"], 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_retained_events_can_be_explained() {
    let (app, _) = pruned().await;
    let admin = app.client(Role::Admin);
    let gone = admin.get("/api/events/10/explain?role=VIEWER").await.refused(404, "event_not_found");
    assert_eq!(gone["detail"], "event 10 is no longer in the log");
    let explanation = admin.get("/api/events/11/explain?role=VIEWER").await.expect(StatusCode::OK);
    assert_eq!(explanation["payload"]["seq"], 11);

    let epoch = app.app().store().epoch().to_owned();
    let app = app.restart().await;
    assert_eq!(*app.app().store().epoch(), epoch);
    let (mut socket, recovered) = resume(&app, Transport::WebSocket, 20).await;
    assert!(recovered);
    assert_eq!(socket.event("sync:done").await["seq"], 20);
    leads(&app, 1).await;
    assert_eq!(socket.event("lead:created").await["seq"], 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_replay_is_pruned_gets_sync_reset() {
    const LINES: u64 = 3000;
    let app = TestApp::start().await;
    let mut tx = app.app().store().write().await.expect("a transaction");
    for _ in 0..LINES {
        let (rooms, at) = (vec![Room::Everyone], Timestamp::now());
        let payload = json!({"filling": "x".repeat(10_000)});
        let draft = NewEvent { name: "lead:updated", rooms, lead_id: None, payload, context: json!({}), at };
        tx.append(&draft).await.expect("a line");
    }
    tx.commit().await.expect("commits");
    // A new process has no events in memory.
    let app = app.restart().await;
    let auth = json!({"token": app.token(Role::Viewer), "since": 0, "epoch": app.app().store().epoch()});
    let (mut socket, _) = open_web_socket(&address(&app), &format!("40{auth}"), None).await;
    let mut texts = async || loop {
        let text = socket.next().await.expect("a packet").expect("a frame").into_text().expect("text");
        if let Some(event) = text.strip_prefix("42") {
            return serde_json::from_str::<(String, Value)>(event).expect("an event");
        }
    };
    let (name, greeting) = texts().await;
    assert_eq!((name.as_str(), &greeting["recovered"]), ("connected", &json!(true)));
    assert_eq!(texts().await.1["seq"], 1);

    // It stops reading, so the rest is still to be read from the log.
    let mut tx = app.app().store().write().await.expect("a transaction");
    assert_eq!(tx.prune_events(Seq(u64::MAX), u32::MAX).await.expect("prunes"), LINES - 1);
    tx.commit().await.expect("commits");
    let mut seq = 1;
    loop {
        let (name, event) = texts().await;
        if name == "sync:reset" {
            assert_eq!(event, reset(&app, LINES));
            break;
        }
        assert_eq!((name.as_str(), event["seq"].as_u64()), ("lead:updated", Some(seq + 1)), "no hole");
        seq += 1;
    }
    assert!(seq < LINES, "nothing was pruned ahead of it");
    leads(&app, 1).await;
    let (name, event) = texts().await;
    assert_eq!((name.as_str(), event["seq"].as_u64()), ("lead:created", Some(LINES + 1)));
}

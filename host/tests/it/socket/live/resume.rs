//! Resume: missed events are replayed from the seq of the client, or a reset is announced.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    socket::live::{address, connect, hello, leads, note, replayed, text},
    socket_client::{SocketClient, TRANSPORTS, Transport, open_web_socket, until_true},
    support::TestApp,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnecting_client_gets_missed_events_and_then_live_events() {
    let app = TestApp::start().await;
    leads(&app, 100).await;
    let token = app.token(Role::Viewer);
    for transport in TRANSPORTS {
        let (_, greeting) = hello(&app, transport, json!({"token": token, "since": null})).await;
        let (epoch, head) = (&greeting["epoch"], greeting["seq"].as_u64().expect("a seq"));
        for since in [0, 40, head - 1, head] {
            let auth = json!({"token": token, "since": since, "epoch": epoch});
            let (mut socket, greeting) = hello(&app, transport, auth).await;
            assert_eq!((&greeting["recovered"], &greeting["seq"]), (&json!(true), &json!(head)));
            let expected: Vec<u64> = (since + 1..=head).collect();
            assert_eq!(replayed(&mut socket).await, (expected, json!(head)), "{transport:?} since {since}");
            socket.expect_silence().await;
        }
        for (since, epoch) in [(json!(head + 1), epoch.clone()), (json!(5), json!("another"))] {
            let auth = json!({"token": token, "since": since, "epoch": epoch});
            let (mut socket, greeting) = hello(&app, transport, auth).await;
            assert_eq!(greeting["recovered"], false, "since {since}");
            assert_eq!(socket.event("sync:reset").await, json!({"seq": head, "epoch": greeting["epoch"]}));
            socket.expect_silence().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seq_may_be_a_numeric_text_and_an_invalid_one_is_reported_before_the_reset() {
    let app = TestApp::start().await;
    leads(&app, 10).await;
    let epoch = app.app().store().epoch();
    let number = "since must be a whole number, 0 or more";
    for transport in TRANSPORTS {
        let token = app.login(&app.user(Role::Viewer).email).await;
        let auth = json!({"token": token, "since": "7", "epoch": epoch});
        let (mut socket, greeting) = hello(&app, transport, auth).await;
        assert_eq!(greeting["recovered"], true);
        assert_eq!(replayed(&mut socket).await, (vec![8, 9, 10], json!(10)));
        let answer = socket.call("sync:since", json!({"seq": "10", "epoch": epoch})).await;
        assert_eq!((&answer["recovered"], &answer["seq"]), (&json!(true), &json!(10)));
        let answer = socket.call("lead:subscribe", json!({"leadId": "lead-1", "since": "9"})).await;
        assert_eq!(answer["ok"], true);

        let token = app.login(&app.user(Role::Viewer).email).await;
        for (since, epoch, field, message) in [
            (json!("seven"), json!(epoch), "since", number),
            (json!(""), json!(epoch), "since", number),
            (json!("7.5"), json!(epoch), "since", number),
            (json!(-1), json!(epoch), "since", number),
            (json!(7.5), json!(epoch), "since", number),
            (json!([7]), json!(epoch), "since", number),
            (json!(7), json!(null), "epoch", "epoch is required"),
            (json!(7), json!(8), "epoch", "epoch must be a string"),
        ] {
            let auth = json!({"token": token, "since": since, "epoch": epoch});
            let (mut socket, greeting) = hello(&app, transport, auth).await;
            assert_eq!(greeting["recovered"], false, "since {since}");
            let error = socket.event("error").await;
            assert_eq!((&error["code"], &error["message"]), (&json!("invalid"), &json!(message)), "since {since}");
            assert_eq!((&error["errors"][0]["field"], &error["event"]), (&json!(field), &json!(null)));
            assert_eq!(socket.event("sync:reset").await["seq"], 10);
            socket.expect_silence().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_during_a_reconnect_are_neither_lost_nor_duplicated() {
    let app = TestApp::start().await;
    leads(&app, 50).await;
    let auth = json!({"token": app.token(Role::Viewer), "since": 0, "epoch": app.app().store().epoch()});
    let writing = leads(&app, 50);
    let reading = async {
        let mut sockets = Vec::new();
        for number in 0..10 {
            let (socket, _) = hello(&app, TRANSPORTS[number % 2], auth.clone()).await;
            sockets.push(socket);
        }
        for mut socket in sockets {
            let (mut seqs, done) = replayed(&mut socket).await;
            assert_eq!(seqs.last().copied(), done.as_u64());
            while seqs.len() < 100 {
                seqs.push(socket.event("lead:created").await["seq"].as_u64().expect("a seq"));
            }
            assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
            socket.expect_silence().await;
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_since_on_an_open_socket_replays_missed_events() {
    let app = TestApp::start().await;
    leads(&app, 10).await;
    let epoch = app.app().store().epoch().to_owned();
    let mut socket = connect(&app, Transport::WebSocket, app.token(Role::Viewer)).await;
    leads(&app, 2).await;
    for seq in [11, 12] {
        assert_eq!(socket.event("lead:created").await["seq"], seq);
    }
    socket.emit("sync:since", json!({"seq": 7, "epoch": epoch}));
    assert_eq!(replayed(&mut socket).await, (vec![8, 9, 10], json!(12)), "11 and 12 were sent");
    socket.emit("sync:since", json!({"seq": 7, "epoch": epoch}));
    assert_eq!(replayed(&mut socket).await, (vec![], json!(12)), "all of it was sent");
    let answer = socket.call("sync:since", json!({"seq": 5, "epoch": epoch})).await;
    assert_eq!(answer, json!({"ok": true, "recovered": true, "seq": 12}));
    assert_eq!(replayed(&mut socket).await, (vec![6, 7], json!(12)));

    for bad in [json!({"seq": 13, "epoch": epoch}), json!({"seq": 1, "epoch": "another"})] {
        let answer = socket.call("sync:since", bad).await;
        assert_eq!(answer, json!({"ok": true, "recovered": false, "seq": 12, "epoch": epoch}));
        assert_eq!(socket.event("sync:reset").await, json!({"seq": 12, "epoch": epoch}));
    }
    for bad in [json!({"epoch": epoch}), json!({"seq": 1}), json!({"seq": -1, "epoch": epoch})] {
        assert_eq!(socket.call("sync:since", bad).await["error"]["code"], "invalid");
        socket.event("error").await;
    }
    leads(&app, 1).await;
    assert_eq!(socket.event("lead:created").await["seq"], 13);
    socket.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_with_since_replays_the_events_of_the_lead() {
    let app = TestApp::start().await;
    let lead = text(&app.lead(json!({"title": "Roof"})).await, "id").to_owned();
    let other = text(&app.lead(json!({"title": "Other"})).await, "id").to_owned();
    for _ in 0..2 {
        note(&app, &lead).await;
        note(&app, &other).await;
    }
    let mut socket = connect(&app, Transport::WebSocket, app.token(Role::Viewer)).await;
    let rename = json!({"title": "Barn"});
    app.client(Role::Admin).patch(&format!("/api/leads/{lead}"), rename).await.expect(StatusCode::OK);
    assert_eq!(socket.event("lead:updated").await["seq"], 7);
    let answer = socket.call("lead:subscribe", json!({"leadId": lead, "since": 3})).await;
    assert_eq!(answer, json!({"ok": true, "leadId": lead, "seq": 7}));
    note(&app, &lead).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let (name, body) = socket.next().await;
        if name != "lead:subscribed" {
            heard.push((name, body["seq"].as_u64().expect("a seq")));
        }
    }
    // 3 came before, 7 was sent, 4 and 6 are the other lead's.
    assert_eq!(heard, [("activity:created".to_owned(), 5), ("activity:created".to_owned(), 8)].to_vec());
}

/// After a network change, the client is back before its old connection times out.
#[tokio::test(flavor = "multi_thread")]
async fn a_resume_before_the_ping_timeout_gets_subscriptions_and_missed_events_at_the_timeout() {
    let app = TestApp::with(|config| {
        config.socket.ping_interval = Duration::from_millis(500);
        config.socket.ping_timeout = Duration::from_millis(1000);
    })
    .await;
    let registry = app.server.sockets().registry();
    let lead = app.lead(json!({"title": "Roof"})).await["id"].as_str().expect("an id").to_owned();
    let token = app.login(&app.user(Role::Viewer).email).await;
    let (mut silent, _) = open_web_socket(&address(&app), &format!(r#"40{{"token":"{token}"}}"#), None).await;
    let greeting = loop {
        let frame = silent.next().await.expect("a packet").expect("a frame").to_string();
        if let Some(greeting) = frame.strip_prefix(r#"42["connected","#) {
            break serde_json::from_str::<Value>(greeting.trim_end_matches(']')).expect("JSON");
        }
    };
    silent.send(Message::text(format!(r#"42["lead:subscribe",{{"leadId":"{lead}"}}]"#))).await.expect("sends");
    while !silent.next().await.expect("a packet").expect("a frame").to_string().contains("lead:subscribed") {}

    let auth = json!({"token": token, "since": greeting["seq"], "epoch": greeting["epoch"]});
    let mut back = SocketClient::try_connect(Transport::WebSocket, &address(&app), auth).await.expect("connects");
    back.event("connected").await;
    back.event("sync:done").await;
    let note = json!({"type": "NOTE", "body": "Meanwhile"});
    app.client(Role::Manager).post(&format!("/api/leads/{lead}/activities"), note).await.expect(StatusCode::CREATED);
    until_true("the old connection is missed", || registry.clients() == 1).await;
    assert_eq!(back.event("lead:subscribed").await["leadId"], json!(lead));
    assert_eq!(back.event("activity:created").await["activity"]["body"], "Meanwhile");
    back.expect_silence().await;
}

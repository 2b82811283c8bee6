//! The Socket.IO interface, packet by packet, on both transports.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use leadwire::domain::{
    event::NewEvent,
    event_name::SOCKET_IO_RESERVED,
    policy::{Scope, Visibility},
    role::Role,
    room::Room,
    time::Timestamp,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    socket_client::{PATIENCE, SocketClient, TRANSPORTS, Transport, open_web_socket, until_true},
    support::{PASSWORD, TestApp},
};

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

async fn connect(app: &TestApp, role: Role) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &address(app), app.token(role)).await
}

async fn new_lead(app: &TestApp, body: Value) -> String {
    app.lead(body).await["id"].as_str().expect("an id").to_owned()
}

async fn post(app: &TestApp, role: Role, path: &str, body: Value) {
    let reply = app.client(role).post(path, body).await;
    assert!(reply.status.is_success(), "{}", reply.body);
}

async fn patch(app: &TestApp, role: Role, path: &str, body: Value) {
    app.client(role).patch(path, body).await.expect(StatusCode::OK);
}

/// Appends events in one transaction: the fastest possible burst.
async fn burst(app: &TestApp, count: u64, bytes: usize) {
    let mut tx = app.app().store().write().await.expect("a transaction");
    for number in 0..count {
        let payload = json!({"number": number, "filling": "x".repeat(bytes)});
        let (rooms, at) = (vec![Room::Everyone], Timestamp::now());
        let draft = NewEvent { name: "lead:updated", rooms, lead_id: None, payload, context: json!({}), at };
        tx.append(&draft).await.expect("a line");
    }
    tx.commit().await.expect("commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_errors_use_the_texts_of_the_guide() {
    let app = TestApp::start().await;
    let gone = app.add_user("gone", Role::Sales).await;
    let gone_token = app.login(&gone.email).await;
    patch(&app, Role::Admin, &format!("/api/users/{}", gone.id), json!({"active": false})).await;
    let none = "Authentication token required";
    let bad = "Invalid authentication token";
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.";
    let cases = [
        ("40".to_owned(), none),
        ("40{}".to_owned(), none),
        (r#"40{"token":null}"#.to_owned(), none),
        (r#"40{"token":""}"#.to_owned(), none),
        (r#"40{"other":1}"#.to_owned(), none),
        (r#"40{"token":7}"#.to_owned(), bad),
        (r#"40{"token":"not a token"}"#.to_owned(), bad),
        (format!(r#"40{{"token":"{unsigned}"}}"#), bad),
        (format!(r#"40{{"token":"{gone_token}"}}"#), bad),
        (r#"40{"token":"#.to_owned(), bad),
    ];
    for transport in TRANSPORTS {
        for (packet, expected) in &cases {
            let refused = SocketClient::open(transport, &address(&app), packet, None).await.err();
            assert_eq!(refused.as_deref(), Some(*expected), "{transport:?} {packet}");
        }
    }
    assert_eq!(app.server.sockets().registry().clients(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_carries_the_user_and_the_log_position() {
    let app = TestApp::start().await;
    new_lead(&app, json!({"title": "One"})).await;
    let id = app.user(Role::Sales).id;
    for transport in TRANSPORTS {
        let auth = json!({"token": app.token(Role::Sales)});
        let mut client = SocketClient::try_connect(transport, &address(&app), auth).await.expect("connects");
        let greeting = client.event("connected").await;
        assert_eq!((&greeting["userId"], &greeting["userRole"]), (&json!(id), &json!("SALES")));
        assert_eq!((&greeting["seq"], &greeting["recovered"]), (&json!(1), &json!(false)));
        for member in ["message", "timestamp", "epoch", "tokenExpiresAt"] {
            assert!(greeting[member].is_string(), "{member} in {greeting}");
        }
        client.expect_silence().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_authorization_header_is_accepted() {
    let app = TestApp::start().await;
    let header = format!("Bearer {}", app.token(Role::Viewer));
    for transport in TRANSPORTS {
        let client = SocketClient::open(transport, &address(&app), "40", Some(&header)).await;
        client.expect("connects").event("connected").await;
        let basic = SocketClient::open(transport, &address(&app), "40", Some("Basic abc")).await.err();
        assert_eq!(basic.as_deref(), Some("Invalid authentication token"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_confirmed_as_event_and_as_ack() {
    let app = TestApp::start().await;
    for transport in TRANSPORTS {
        let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Viewer)).await;
        for _ in 0..2 {
            client.emit("lead:subscribe", json!({"leadId": "lead-123"}));
            assert_eq!(client.event("lead:subscribed").await, json!({"leadId": "lead-123"}));
        }
        let answer = client.call("lead:subscribe", json!({"leadId": "lead-123"})).await;
        assert_eq!(answer, json!({"ok": true, "leadId": "lead-123", "seq": 0}));
        client.event("lead:subscribed").await;
        for _ in 0..2 {
            client.emit("lead:unsubscribe", json!({"leadId": "lead-123"}));
            assert_eq!(client.event("lead:unsubscribed").await, json!({"leadId": "lead-123"}));
        }
        let answer = client.call("lead:unsubscribe", json!({"leadId": "lead-123"})).await;
        assert_eq!(answer, json!({"ok": true, "leadId": "lead-123"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_events_are_answered_with_an_error_and_close_nothing() {
    let app = TestApp::start().await;
    let mut client = connect(&app, Role::Admin).await;
    let long = "é".repeat(129);
    let cases = [
        ("lead:subscribe", json!({}), "invalid", "Lead ID is required"),
        ("lead:subscribe", Value::Null, "invalid", "Lead ID is required"),
        ("lead:subscribe", json!({"leadId": ""}), "invalid", "Lead ID is required"),
        ("lead:unsubscribe", json!({"leadId": null}), "invalid", "Lead ID is required"),
        ("lead:update", json!({"patch": {}}), "invalid", "Lead ID is required"),
        ("lead:subscribe", json!({"leadId": 7}), "invalid", "leadId must be a string"),
        ("lead:subscribe", json!({"leadId": long}), "invalid", "leadId may have at most 128 characters"),
        ("lead:subscribe", json!("lead-123"), "invalid", "Lead ID is required"),
        ("lead:subscribe", json!(["lead-123"]), "invalid", "Lead ID is required"),
        ("lead:unsubscribe", json!(123), "invalid", "Lead ID is required"),
        ("lead:update", json!("lead-123"), "invalid", "Lead ID is required"),
        ("lead:delete", json!(true), "invalid", "Lead ID is required"),
        ("lead:assign", json!(["lead-123", null]), "invalid", "Lead ID is required"),
        ("activity:create", json!("lead-123"), "invalid", "Lead ID is required"),
        ("auth:refresh", json!("a token"), "unauthenticated", "Authentication token required"),
        ("lead:create", json!("Roof"), "malformed", "the payload must be an object"),
        ("sync:since", json!(7), "malformed", "the payload must be an object"),
        ("lead:subscribe", json!({"leadId": "a", "since": "x"}), "invalid", "since must be a whole number, 0 or more"),
        ("lead:subscribe", json!({"leadId": "a", "since": ""}), "invalid", "since must be a whole number, 0 or more"),
        ("sync:since", json!({"seq": "-1", "epoch": "a"}), "invalid", "seq must be a whole number, 0 or more"),
        ("sync:since", json!({"seq": {}, "epoch": "a"}), "invalid", "seq must be a whole number, 0 or more"),
        ("lead:explode", json!({}), "unknown_event", "unknown event"),
        ("disconnect", json!({}), "unknown_event", "unknown event"),
        ("lead:update", json!({"leadId": "nobody", "patch": {}}), "lead_not_found", "lead not found"),
        ("lead:create", json!({"title": "T", "colour": 1}), "invalid", "colour is not a field that can be set here"),
        ("activity:create", json!({"leadId": "nobody", "type": "NOTE"}), "lead_not_found", "lead not found"),
    ];
    for (name, payload, code, message) in cases {
        client.emit(name, payload.clone());
        let error = client.event("error").await;
        assert_eq!((&error["code"], &error["message"], &error["event"]), (&json!(code), &json!(message), &json!(name)));
        let answer = client.call(name, payload).await;
        assert_eq!(answer["ok"], false);
        assert_eq!((&answer["error"]["code"], &answer["error"]["message"]), (&json!(code), &json!(message)));
        client.event("error").await;
    }
    client.subscribe("still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_non_standard_clients_are_refused_and_close_nothing() {
    let app = TestApp::start().await;
    let mut client = connect(&app, Role::Admin).await;
    let deep = format!(r#"42["lead:create",{}1{}]"#, "[".repeat(400), "]".repeat(400));
    for packet in [deep.as_str(), r#"42["lead:subscribe"] trailing"#] {
        client.send(packet);
        assert_eq!(client.event("error").await["code"], "malformed", "{packet}");
    }
    client.subscribe("still here").await;

    let token = app.token(Role::Admin);
    let (mut socket, _) = open_web_socket(&address(&app), &format!(r#"40{{"token":"{token}"}}"#), None).await;
    // A packet before the answer to CONNECT ends the connection: no stock client sends that early.
    while !socket.next().await.expect("a packet").expect("a frame").into_text().expect("text").starts_with("40") {}
    let binary = r#"451-["lead:subscribe",{"leadId":{"_placeholder":true,"num":0}}]"#;
    socket.send(Message::text(binary)).await.expect("sends");
    socket.send(Message::binary(vec![1, 2, 3])).await.expect("sends");
    loop {
        let frame = socket.next().await.expect("a packet").expect("a frame").into_text().expect("text");
        if frame.starts_with(r#"42["error""#) {
            assert!(frame.contains("binary attachments are not accepted"), "{frame}");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_with_numeric_or_escaped_names_are_answered_and_close_nothing() {
    let app = TestApp::start().await;
    for transport in TRANSPORTS {
        let token = app.login(&app.user(Role::Viewer).email).await;
        let mut client = SocketClient::connect(transport, &address(&app), &token).await;
        let long = "x".repeat(70_000);
        for (packet, name) in [
            (r#"42[7,{}]"#.to_owned(), "7"),
            (r#"42[-1.5]"#.to_owned(), "-1.5"),
            (r#"42[ 0 ]"#.to_owned(), "0"),
            (r#"42["say \"hi\"",{}]"#.to_owned(), "say \"hi\""),
            (r#"42["a\\b\n",{}]"#.to_owned(), "a\\b\n"),
            (format!(r#"42[12,{{"filling":"{}"}}]"#, &long[..120]), "12"),
            (format!(r#"42[13,{{"filling":"{long}"}}]"#), "13"),
        ] {
            client.send(packet.clone());
            let error = client.event("error").await;
            assert_eq!((&error["code"], &error["event"]), (&json!("unknown_event"), &json!(name)), "{packet:.40}");
            // In order with the surrounding packets, and acknowledged.
            client.emit("lead:unsubscribe", json!({"leadId": "before"}));
            client.send(packet.replacen("42", "4299", 1));
            client.emit("lead:unsubscribe", json!({"leadId": "after"}));
            assert_eq!(client.event("lead:unsubscribed").await["leadId"], "before");
            assert_eq!(client.event("error").await["event"], name);
            let (id, answer) = client.ack().await;
            assert_eq!((id, &answer["error"]["code"]), (99, &json!("unknown_event")));
            assert_eq!(client.event("lead:unsubscribed").await["leadId"], "after");
        }
        // A name that is escaped unnecessarily.
        client.send(r#"42["lead\u003asubscribe",{"leadId":"escaped"}]"#);
        assert_eq!(client.event("lead:subscribed").await["leadId"], "escaped");
        for packet in ["42[null]", "42[{}]", "42[true,1]"] {
            client.send(packet);
            let error = client.event("error").await;
            assert_eq!(error["message"], "the packet has no event name: expected a string or a number", "{packet}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_with_an_unreadable_name_is_answered() {
    let app = TestApp::start().await;
    for transport in TRANSPORTS {
        let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Viewer)).await;
        for number in 0..1000 {
            client.send(format!("42[{number},{{}}]"));
        }
        for number in 0..1000 {
            assert_eq!(client.event("error").await["event"], number.to_string(), "{transport:?}");
        }
    }
}

/// Like the reference server, whose parser closes the transport.
#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_is_not_json_closes_only_its_transport() {
    let app = TestApp::start().await;
    let mut other = connect(&app, Role::Admin).await;
    for transport in TRANSPORTS {
        for packet in [r#"42["lead:subscribe",{"leadId":]"#, "42{}", "42", "4", "49", "42[]", "42[", "4\u{0}"] {
            let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Admin)).await;
            client.send(packet);
            client.closed().await;
        }
    }
    until_true("they are forgotten", || app.server.sockets().registry().clients() == 1).await;
    other.subscribe("still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_reaches_each_socket_once_in_any_combination_of_rooms() {
    let app = TestApp::start().await;
    let lead = new_lead(&app, json!({"title": "Roof"})).await;
    for transport in TRANSPORTS {
        let mut clients = Vec::new();
        for role in Role::ALL {
            // A separate session: a shared one would restore the subscriptions of its lost sockets.
            let token = app.login(&app.user(role).email).await;
            let mut client = SocketClient::connect(transport, &address(&app), &token).await;
            client.subscribe(&lead).await;
            clients.push(client);
        }
        let title = format!("{transport:?}");
        patch(&app, Role::Manager, &format!("/api/leads/{lead}"), json!({"title": title})).await;
        for client in &mut clients {
            let event = client.event("lead:updated").await;
            assert_eq!(event["lead"]["title"], title);
            assert_eq!((&event["changes"], &event["updatedBy"]["role"]), (&json!(["title"]), &json!("MANAGER")));
            assert!(event["seq"].is_u64() && event["epoch"].is_string() && event["timestamp"].is_string(), "{event}");
            client.expect_silence().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn activities_reach_only_subscribers_of_the_lead() {
    let app = TestApp::start().await;
    let lead = new_lead(&app, json!({"title": "Roof"})).await;
    let (mut follower, mut other) = (connect(&app, Role::Viewer).await, connect(&app, Role::Viewer).await);
    follower.subscribe(&lead).await;
    let note = json!({"type": "NOTE", "body": "called back"});
    post(&app, Role::Sales, &format!("/api/leads/{lead}/activities"), note).await;
    let event = follower.event("activity:created").await;
    assert_eq!((&event["leadId"], &event["activity"]["body"]), (&json!(lead), &json!("called back")));
    other.expect_silence().await;

    follower.emit("lead:unsubscribe", json!({"leadId": lead}));
    follower.event("lead:unsubscribed").await;
    post(&app, Role::Sales, &format!("/api/leads/{lead}/activities"), json!({"type": "CALL"})).await;
    follower.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_of_commands_match_http_responses() {
    let app = TestApp::start().await;
    let mut client = connect(&app, Role::Sales).await;
    let me = app.user(Role::Sales).id;
    let create = json!({"title": "Roof", "idempotencyKey": "one"});
    let created = client.call("lead:create", create.clone()).await;
    assert_eq!((&created["ok"], &created["lead"]["owner"]["id"]), (&json!(true), &json!(me)));
    assert_eq!(client.event("lead:created").await["lead"], created["lead"]);
    assert_eq!(client.call("lead:create", create).await, created, "the key answers the first outcome again");
    let lead = created["lead"]["id"].clone();

    let update = json!({"leadId": lead, "patch": {"status": "WON"}, "version": 1});
    let updated = client.call("lead:update", update.clone()).await;
    assert_eq!(updated["lead"]["status"], "WON");
    client.event("lead:updated").await;
    let outdated = client.call("lead:update", update).await;
    assert_eq!(
        (&outdated["error"]["code"], &outdated["error"]["current"]),
        (&json!("version_conflict"), &updated["lead"])
    );
    client.event("error").await;

    let note = json!({"leadId": lead, "type": "NOTE", "body": "done"});
    assert_eq!(client.call("activity:create", note).await["activity"]["body"], "done");
    let assigned = client.call("lead:assign", json!({"leadId": lead, "ownerId": null})).await;
    assert_eq!(assigned["error"]["code"], "forbidden");
    client.event("error").await;
    let deleted = client.call("lead:delete", json!({"leadId": lead})).await;
    assert_eq!(deleted["error"]["code"], "forbidden");
    client.event("error").await;

    let mut admin = connect(&app, Role::Admin).await;
    assert_eq!(admin.call("lead:assign", json!({"leadId": lead, "ownerId": null})).await["lead"]["owner"], Value::Null);
    assert_eq!(client.event("lead:assigned").await["previousOwnerId"], json!(me));
    assert_eq!(client.event("notification").await["kind"], "lead_unassigned");
    let ack = admin.call("lead:delete", json!({"leadId": lead})).await;
    let deleted = client.event("lead:deleted").await;
    assert_eq!(ack, json!({"ok": true, "seq": deleted["seq"], "leadId": lead}));
    assert_eq!(deleted["leadId"], lead);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_socket_are_handled_in_order() {
    let app = TestApp::with(|config| config.limits.subscriptions = 2000).await;
    for transport in TRANSPORTS {
        let token = app.login(&app.user(Role::Viewer).email).await;
        let mut client = SocketClient::connect(transport, &address(&app), &token).await;
        for number in 0..2000 {
            client.emit("lead:subscribe", json!({"leadId": format!("lead-{number}")}));
        }
        for number in 0..2000 {
            assert_eq!(client.event("lead:subscribed").await["leadId"], format!("lead-{number}"), "{transport:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_is_answered_with_errors() {
    let app = TestApp::with(|config| config.socket.inbound_packets = 4).await;
    let mut client = SocketClient::connect(Transport::Polling, &address(&app), app.token(Role::Viewer)).await;
    let packet = |number| format!("42{}", json!(["lead:subscribe", {"leadId": format!("lead-{number}")}]));
    let flood: Vec<String> = (0..100).map(packet).collect();
    client.send(flood.join("\u{1e}"));
    let (mut done, mut refused) = (0, 0);
    while done + refused < 100 {
        match client.next().await {
            (name, _) if name == "lead:subscribed" => done += 1,
            (name, error) if name == "error" && error["code"] == "rate_limited" => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(done >= 4 && refused > 0, "{done} done, {refused} refused");
    client.subscribe("still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_beyond_every_queue_size_arrives_complete_and_in_order() {
    let app = TestApp::start().await;
    for transport in TRANSPORTS {
        let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Viewer)).await;
        burst(&app, 5000, 100).await;
        let mut last = None;
        for number in 0..5000 {
            let event = client.event("lead:updated").await;
            assert_eq!(event["number"], number, "{transport:?}");
            let seq = event["seq"].as_u64();
            assert!(last.is_none() || seq > last);
            last = seq;
        }
        client.expect_silence().await;
    }
}

/// A stock client treats such a packet as broken, reconnects, and gets it again.
#[tokio::test(flavor = "multi_thread")]
async fn reserved_socket_io_names_are_never_sent() {
    let app = TestApp::start().await;
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        clients.push(SocketClient::connect(transport, &address(&app), app.token(Role::Viewer)).await);
    }
    let mut tx = app.app().store().write().await.expect("a transaction");
    for name in SOCKET_IO_RESERVED.into_iter().chain(["lead:updated"]) {
        let (rooms, at) = (vec![Room::Everyone], Timestamp::now());
        tx.append(&NewEvent { name, rooms, lead_id: None, payload: json!({}), context: json!({}), at })
            .await
            .expect("a line");
    }
    tx.commit().await.expect("commits");
    let auth = json!({"token": app.token(Role::Viewer), "since": 0, "epoch": app.app().store().epoch()});
    for transport in TRANSPORTS {
        let mut late = SocketClient::try_connect(transport, &address(&app), auth.clone()).await.expect("connects");
        late.event("connected").await;
        clients.push(late);
    }
    for client in &mut clients {
        let (mut name, mut event) = client.next().await;
        if name == "sync:done" {
            (name, event) = client.next().await;
        }
        assert_eq!((name.as_str(), &event["seq"]), ("lead:updated", &json!(SOCKET_IO_RESERVED.len() + 1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_delays_no_other_and_misses_nothing() {
    let app = TestApp::start().await;
    let connect_packet = format!(r#"40{{"token":"{}"}}"#, app.token(Role::Viewer));
    let (mut stalled, _) = open_web_socket(&address(&app), &connect_packet, None).await;
    until_true("the stalled client is connected", || app.server.sockets().registry().clients() == 1).await;
    let mut healthy = connect(&app, Role::Viewer).await;
    // Much more than the kernel buffers hold.
    burst(&app, 3000, 10_000).await;
    for number in 0..3000 {
        assert_eq!(healthy.event("lead:updated").await["number"], number);
    }
    let mut number = 0;
    while number < 3000 {
        let frame = stalled.next().await.expect("a packet").expect("a frame").into_text().expect("text");
        if let Some(event) = frame.strip_prefix(r#"42["lead:updated","#) {
            assert!(event.starts_with(&format!(r#"{{"number":{number},"#)), "{number}: {}", &event[..40]);
            number += 1;
        }
    }
}

/// A full queue has no room for a ping, and socketioxide closes a session that it cannot ping.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_answers_pings_is_not_disconnected() {
    let app = TestApp::with(|config| {
        config.socket.ping_interval = Duration::from_millis(100);
        config.socket.ping_timeout = PATIENCE;
    })
    .await;
    let connect_packet = format!(r#"40{{"token":"{}"}}"#, app.token(Role::Viewer));
    let (mut slow, _) = open_web_socket(&address(&app), &connect_packet, None).await;
    until_true("the client is connected", || app.server.sockets().registry().clients() == 1).await;
    burst(&app, 800, 30_000).await;
    let mut number = 0;
    while number < 800 {
        let frame = slow.next().await.expect("a packet").expect("a frame").into_text().expect("text");
        if frame.starts_with(r#"42["lead:updated","#) {
            number += 1;
            // Before the queued ping arrives, so that the next one is due soon.
            slow.send(Message::text("3")).await.expect("sends");
            // The slow part: packets accumulate on the server.
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_socket_leaves_no_registrations() {
    let app = TestApp::start().await;
    let registry = app.server.sockets().registry();
    for transport in TRANSPORTS {
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Sales)).await;
            client.subscribe("lead-123").await;
            clients.push(client);
        }
        assert_eq!((registry.clients(), registry.rooms()), (10, 3));
        for client in &clients {
            // Half of them close cleanly, either the namespace or the whole session.
            client.send(if transport == Transport::WebSocket { "41" } else { "1" });
        }
        until_true("all sockets are forgotten", || registry.clients() == 0 && registry.rooms() == 0).await;
    }
    let client = connect(&app, Role::Sales).await;
    drop(client);
    until_true("a lost socket is forgotten", || registry.clients() == 0 && registry.rooms() == 0).await;
    until_true("its session is too", || app.server.sockets().polling_sessions() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sockets_see_the_events_of_many_writers_in_the_same_order() {
    const WRITERS: u64 = 8;
    const CHANGES: u64 = 50;
    let app = TestApp::start().await;
    let lead = new_lead(&app, json!({"title": "Roof"})).await;
    let mut readers = Vec::new();
    for number in 0..20 {
        let transport = TRANSPORTS[number % 2];
        let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::ALL[number % 4])).await;
        client.subscribe(&lead).await;
        readers.push(tokio::spawn(async move {
            let mut seqs = Vec::new();
            for _ in 0..WRITERS * CHANGES {
                let event = client.event("lead:updated").await;
                seqs.push(event["seq"].as_u64().expect("a seq"));
            }
            client.expect_silence().await;
            seqs
        }));
    }
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (client, path) = (app.client(Role::Admin), format!("/api/leads/{lead}"));
        writers.push(tokio::spawn(async move {
            for change in 0..CHANGES {
                let title = json!({"title": format!("{writer}.{change}")});
                client.patch(&path, title).await.expect(StatusCode::OK);
            }
        }));
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
    let expected: Vec<u64> = (2..2 + WRITERS * CHANGES).collect();
    for reader in readers {
        assert_eq!(reader.await.expect("a reader"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn visibility_narrows_events_and_revokes_lost_leads() {
    let visibility = Visibility { sales: Scope::Own, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let (mut sales, mut viewer) = (connect(&app, Role::Sales).await, connect(&app, Role::Viewer).await);
    let me = app.user(Role::Sales).id;
    let lead = new_lead(&app, json!({"title": "Not theirs"})).await;
    // The room does not disclose the lead; its events are not for this user.
    sales.subscribe(&lead).await;
    post(&app, Role::Admin, &format!("/api/leads/{lead}/activities"), json!({"type": "NOTE"})).await;
    sales.expect_silence().await;
    viewer.event("lead:created").await;

    post(&app, Role::Admin, &format!("/api/leads/{lead}/assign"), json!({"ownerId": me})).await;
    sales.event("lead:assigned").await;
    sales.event("activity:created").await;
    assert_eq!(sales.event("notification").await["kind"], "lead_assigned");
    post(&app, Role::Admin, &format!("/api/leads/{lead}/assign"), json!({"ownerId": null})).await;
    assert_eq!(sales.event("lead:revoked").await["leadId"], json!(lead));
    assert_eq!(sales.event("notification").await["kind"], "lead_unassigned");
    sales.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_change_is_announced_and_applies_from_its_position_in_the_log() {
    let visibility = Visibility { sales: Scope::Own, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let user = app.add_user("moving", Role::Viewer).await;
    let token = app.login(&user.email).await;
    let mut client = SocketClient::connect(Transport::WebSocket, &address(&app), &token).await;
    new_lead(&app, json!({"title": "Seen by a viewer"})).await;
    client.event("lead:created").await;
    patch(&app, Role::Admin, &format!("/api/users/{}", user.id), json!({"role": "SALES"})).await;
    assert_eq!(client.event("session:updated").await["userRole"], "SALES");
    client.event("sync:reset").await;
    new_lead(&app, json!({"title": "Not theirs"})).await;
    client.expect_silence().await;
    assert_eq!(client.call("lead:create", json!({"title": "Mine"})).await["ok"], true);
    client.event("lead:created").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_gets_nothing_more() {
    let app = TestApp::start().await;
    let login = json!({"email": app.user(Role::Sales).email, "password": PASSWORD});
    let grant = app.anonymous().post("/api/auth/login", login).await.expect(StatusCode::OK);
    let token = grant["accessToken"].as_str().expect("a token");
    let mut ended = SocketClient::connect(Transport::WebSocket, &address(&app), token).await;
    let mut other = connect(&app, Role::Sales).await;
    let logout = json!({"refreshToken": grant["refreshToken"]});
    app.anonymous().post("/api/auth/logout", logout).await.expect(StatusCode::NO_CONTENT);
    new_lead(&app, json!({"title": "Later"})).await;
    other.event("lead:created").await;
    ended.ended_in_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_over_the_limit_are_refused() {
    let app = TestApp::start().await;
    let most = 256 * 1024;
    for transport in TRANSPORTS {
        let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Admin)).await;
        client.send(format!("42{}", json!(["lead:create", {"title": "T", "description": "x".repeat(most)}])));
        client.closed().await;
    }
    let mut client = connect(&app, Role::Admin).await;
    let answer = client.call("lead:create", json!({"title": "T", "description": "x".repeat(most - 1000)})).await;
    assert_eq!(answer["error"]["code"], "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_may_poll() {
    let app = TestApp::with(|config| config.http.cors_origins = vec!["https://crm.example".into()]).await;
    let path = "/socket.io/?EIO=4&transport=polling";
    for (origin, allowed) in [("https://crm.example", true), ("https://evil.example", false)] {
        let request = app.anonymous().request(Method::GET, path).header("origin", origin);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
    }
}

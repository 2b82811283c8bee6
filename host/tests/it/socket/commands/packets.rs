//! Packets: invalid ones are answered with an error, reserved names are never sent, and events are handled in order.

use futures_util::{SinkExt, StreamExt};
use leadwire::domain::{event::NewEvent, event_name::SOCKET_IO_RESERVED, role::Role, room::Room, time::Timestamp};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    socket::commands::{address, connect},
    socket_client::{SocketClient, TRANSPORTS, Transport, open_web_socket, until_true},
    support::TestApp,
};

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

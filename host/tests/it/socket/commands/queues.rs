//! Queues of sockets: bursts, slow readers and many writers lose no event and change no order.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use leadwire::domain::{event::NewEvent, role::Role, room::Room, time::Timestamp};
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::sleep;
use tokio_tungstenite::{MaybeTlsStream, tungstenite::Message};

use crate::{
    socket::commands::{address, connect, new_lead},
    socket_client::{
        ALL_TRANSPORTS, PATIENCE, Packet, SocketClient, TRANSPORTS, Transport, open_web_socket, until_true,
    },
    support::TestApp,
};

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
async fn a_burst_beyond_every_queue_size_arrives_complete_and_in_order() {
    let app = TestApp::start().await;
    for transport in ALL_TRANSPORTS {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_is_written_to_directly_from_the_start_and_after_an_upgrade() {
    let app = TestApp::start().await;
    let direct = || app.server.sockets().stats().direct;
    for (transport, expected) in [(Transport::WebSocket, 1), (Transport::Polling, 1), (Transport::Upgraded, 2)] {
        let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Viewer)).await;
        until_true("the client has gone over", || direct() == expected).await;
        burst(&app, 20, 10).await;
        for number in 0..20 {
            assert_eq!(client.event("lead:updated").await["number"], number, "{transport:?}");
        }
        client.expect_silence().await;
        if transport == Transport::WebSocket {
            // The others come beside it.
            tokio::spawn(async move { client.closed().await });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_and_events_keep_their_orders_while_both_race() {
    const COMMANDS: u64 = 300;
    let app = TestApp::start().await;
    for transport in ALL_TRANSPORTS {
        let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Admin)).await;
        let writing = async {
            for _ in 0..60 {
                burst(&app, 20, 500).await;
            }
        };
        let reading = async {
            for id in 0..COMMANDS {
                client.send(format!(r#"42{id}["lead:unsubscribe",{{"leadId":"{id}"}}]"#));
            }
            let (mut events, mut replies, mut acks, mut last) = (0, 0, 0, 0);
            while (events, replies, acks) != (1200, COMMANDS, COMMANDS) {
                match client.receive().await {
                    Packet::Event(name, event) if name == "lead:updated" => {
                        let seq = event["seq"].as_u64().expect("a seq");
                        assert!(seq > last, "{transport:?}: {seq} after {last}");
                        (events, last) = (events + 1, seq);
                    }
                    Packet::Event(name, reply) => {
                        assert_eq!(
                            (name.as_str(), &reply["leadId"]),
                            ("lead:unsubscribed", &json!(replies.to_string()))
                        );
                        replies += 1;
                    }
                    Packet::Ack(id, _) => {
                        assert_eq!((id, replies), (acks, acks + 1), "{transport:?}: after its event, before the next");
                        acks += 1;
                    }
                    packet => panic!("{transport:?}: {packet:?}"),
                }
            }
        };
        tokio::join!(writing, reading);
        client.expect_silence().await;
    }
}

/// Without a limit the kernel takes some megabytes for each connection, and thousands of them all memory that it has
/// for TCP. With several, it mostly takes all of a frame or nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_keeps_little_for_clients_that_read_nothing_and_they_delay_nobody() {
    const STALLED: usize = 20;
    const EVENTS: u64 = 200;
    let app = TestApp::start().await;
    let connect_packet = format!(r#"40{{"token":"{}"}}"#, app.token(Role::Viewer));
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let (client, _) = open_web_socket(&address(&app), &connect_packet, None).await;
        let MaybeTlsStream::Plain(stream) = client.get_ref() else { panic!("no TLS") };
        socket2::SockRef::from(stream).set_recv_buffer_size(4096).expect("a small buffer");
        stalled.push(client);
    }
    let mut healthy = connect(&app, Role::Viewer).await;
    until_true("they are connected", || app.server.sockets().stats().direct == STALLED + 1).await;
    burst(&app, EVENTS, 1000).await;
    for number in 0..EVENTS {
        assert_eq!(healthy.event("lead:updated").await["number"], number);
    }
    // They are behind after what the two buffers hold.
    until_true("they are behind", || app.server.sockets().stats().behind == STALLED).await;
    healthy.expect_silence().await;
    let reading = stalled.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let mut numbers = 0;
            while numbers < EVENTS {
                let frame = client.next().await.expect("a packet").expect("a frame").into_text().expect("text");
                numbers += u64::from(frame.starts_with(&format!(r#"42["lead:updated",{{"number":{numbers},"#)));
            }
            client
        })
    });
    let read = futures_util::future::join_all(reading.collect::<Vec<_>>()).await;
    assert!(read.iter().all(Result::is_ok), "all arrive, in order");
    until_true("they have caught up", || app.server.sockets().stats().behind == 0).await;
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

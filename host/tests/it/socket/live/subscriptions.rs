//! Subscriptions after a connection: restored if it was lost, dropped if it was closed.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use leadwire::domain::role::Role;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::{
    socket::live::{address, connect, hello, login, note, replayed, text},
    socket_client::{SocketClient, TRANSPORTS, Transport, open_web_socket, until_true},
    support::{TestApp, http_client},
};

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_of_a_lost_socket_are_restored_and_those_of_a_closed_one_are_not() {
    let app = TestApp::start().await;
    let lead = text(&app.lead(json!({"title": "Roof"})).await, "id").to_owned();
    let (token, registry) = (app.token(Role::Viewer), app.server.sockets().registry());
    for transport in TRANSPORTS {
        let mut lost = connect(&app, transport, token).await;
        lost.subscribe(&lead).await;
        lost.subscribe("lead-123").await;
        lost.subscribe("lead-124").await;
        lost.emit("lead:unsubscribe", json!({"leadId": "lead-124"}));
        lost.event("lead:unsubscribed").await;
        lost.lose().await;
        until_true("it is gone", || registry.clients() == 0).await;
        let seq = app.app().store().appended().borrow().to_owned();
        note(&app, &lead).await;

        let other = login(&app, &app.user(Role::Viewer).email).await;
        let mut stranger = connect(&app, transport, text(&other, "accessToken")).await;
        stranger.expect_silence().await;
        let auth = json!({"token": token, "since": seq, "epoch": app.app().store().epoch()});
        let (mut next, _) = hello(&app, transport, auth).await;
        let mut again = vec![next.event("lead:subscribed").await, next.event("lead:subscribed").await];
        again.sort_by_key(|body| body["leadId"] == "lead-123");
        assert_eq!(again, [json!({"leadId": lead}), json!({"leadId": "lead-123"})]);
        assert_eq!(replayed(&mut next).await, (vec![seq.next().0], json!(seq.next())));
        note(&app, &lead).await;
        next.event("activity:created").await;

        next.send("41");
        until_true("it is gone", || registry.clients() == 1).await;
        let mut fresh = connect(&app, transport, token).await;
        fresh.expect_silence().await;
        for mut left in [stranger, fresh] {
            left.send("1");
            left.closed().await;
        }
        until_true("all are gone", || registry.clients() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_close_drops_subscriptions_and_a_lost_connection_keeps_them() {
    let app = TestApp::start().await;
    let lead = text(&app.lead(json!({"title": "Roof"})).await, "id").to_owned();
    let registry = app.server.sockets().registry();
    let frame = |code: u16| CloseFrame { code: code.into(), reason: "".into() };
    let close = |code| Message::Close(Some(frame(code)));
    let many = |text: &str| (0..50).map(|_| Message::text(text)).collect::<Vec<_>>();
    for (sent, is_lost) in [
        (vec![close(1000)], false),
        (vec![close(1001)], false),
        (vec![Message::text("1")], false),
        (vec![Message::text("41")], false),
        // The way python-socketio closes.
        (vec![Message::text("41"), Message::text("1"), close(1000)], false),
        ([many("3"), vec![close(1001)]].concat(), false),
        // Like a stock client without pings, which reconnects.
        (vec![Message::Close(None)], true),
        (vec![close(1011)], true),
        (vec![close(3000)], true),
        (vec![], true),
        (vec![Message::text("no packet"), close(1000)], true),
    ] {
        let token = app.login(&app.user(Role::Viewer).email).await;
        let (mut socket, _) = open_web_socket(&address(&app), &format!(r#"40{{"token":"{token}"}}"#), None).await;
        while !socket.next().await.expect("a packet").expect("a frame").to_string().starts_with(r#"42["connected""#) {}
        socket.send(Message::text(format!(r#"42["lead:subscribe",{{"leadId":"{lead}"}}]"#))).await.expect("sends");
        while !socket.next().await.expect("a packet").expect("a frame").to_string().contains("lead:subscribed") {}
        for message in &sent {
            socket.feed(message.clone()).await.expect("sends");
        }
        let _ = socket.flush().await;
        until_true("it is gone", || sent.is_empty() || registry.clients() == 0).await;
        drop(socket);
        until_true("it is gone", || registry.clients() == 0).await;
        let mut next = connect(&app, Transport::WebSocket, &token).await;
        if is_lost {
            assert_eq!(next.event("lead:subscribed").await["leadId"], lead, "{sent:?}");
        }
        next.expect_silence().await;
        next.send("1");
        next.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_client_that_closes_its_session_leaves_no_subscriptions() {
    let app = TestApp::start().await;
    let registry = app.server.sockets().registry();
    for goodbye in ["1", "41\u{1e}1", "3\u{1e}1"] {
        let token = app.login(&app.user(Role::Viewer).email).await;
        let mut left = connect(&app, Transport::Polling, &token).await;
        left.subscribe("lead-123").await;
        left.send(goodbye);
        left.closed().await;
        until_true("it is gone", || registry.clients() == 0).await;
        let mut next = connect(&app, Transport::Polling, &token).await;
        next.expect_silence().await;
        next.send("1");
        next.closed().await;
        until_true("it is gone", || registry.clients() == 0).await;
    }
}

/// Subscribes a polling client to a lead; returns its polling URL.
async fn follow_by_polling(app: &TestApp, token: &str, lead: &str) -> String {
    let http = http_client();
    let poll = async |path: &str| {
        let answer = http.get(app.url.clone() + path).send().await.expect("an answer");
        answer.text().await.expect("a body")
    };
    let open = poll("/socket.io/?EIO=4&transport=polling").await;
    let open: Value = serde_json::from_str(&open[1..]).expect("an OPEN packet");
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={}", text(&open, "sid"));
    let connect = format!("40{{\"token\":\"{token}\"}}");
    let subscribe = format!("42[\"lead:subscribe\",{{\"leadId\":\"{lead}\"}}]");
    for (packet, answer) in [(connect, "\"connected\""), (subscribe, "lead:subscribed")] {
        http.post(app.url.clone() + &session).body(packet).send().await.expect("an answer");
        while !poll(&session).await.contains(answer) {}
    }
    session
}

/// A stock client also posts a Close packet when one of its requests failed and it is about to reconnect.
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_of_a_lost_polling_client_are_restored() {
    let app = TestApp::start().await;
    let registry = app.server.sockets().registry();
    for (is_cut, goodbye, goes_on, is_lost) in [
        (true, Some("1"), false, true),
        (true, Some("1"), true, true),
        // It could not send a close packet, and is back before the ping timeout.
        (true, None, true, true),
        // The page was navigated away.
        (true, None, false, false),
        // A request that failed in transit, unknown to the server.
        (false, Some("1"), true, true),
        (false, Some("41\u{1e}1"), true, false),
    ] {
        let token = app.login(&app.user(Role::Viewer).email).await;
        println!("cut: {is_cut}, says {goodbye:?}, goes on: {goes_on}");
        let session = follow_by_polling(&app, &token, "lead-123").await;
        if is_cut {
            let failed = app.server.sockets().failed_sessions();
            // A request aborted before it is read never arrives, so this one gets some time.
            for pause in (1..).map(|tries| Duration::from_millis(tries * 50)) {
                let mut poll = TcpStream::connect(address(&app)).await.expect("connects");
                poll.write_all(format!("GET {session} HTTP/1.1\r\nHost: leadwire\r\n\r\n").as_bytes())
                    .await
                    .expect("sent");
                sleep(pause).await;
                drop(poll);
                sleep(pause).await;
                if app.server.sockets().failed_sessions() > failed {
                    break;
                }
            }
        }
        if let Some(goodbye) = goodbye {
            http_client().post(app.url.clone() + &session).body(goodbye).send().await.expect("an answer");
        }
        until_true("it is gone", || goodbye.is_none() || registry.clients() == 0).await;
        let auth = if goes_on {
            json!({"token": token, "since": 0, "epoch": app.app().store().epoch()})
        } else {
            json!({"token": token})
        };
        let mut next = SocketClient::try_connect(Transport::Polling, &address(&app), auth).await.expect("connects");
        next.event("connected").await;
        if is_lost {
            assert_eq!(next.event("lead:subscribed").await["leadId"], "lead-123");
        }
        if goes_on {
            next.event("sync:done").await;
        }
        next.expect_silence().await;
        next.send("41\u{1e}1");
        next.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_socket_leaves_its_subscriptions_only_to_a_socket_after_its_ping_timeout() {
    let app = TestApp::with(|config| {
        config.socket.ping_interval = Duration::from_millis(500);
        config.socket.ping_timeout = Duration::from_millis(1000);
    })
    .await;
    let registry = app.server.sockets().registry();
    for (has_successor, answers_once_more) in [(false, false), (true, false), (true, true)] {
        println!("successor: {has_successor}, answers once more: {answers_once_more}");
        let token = app.login(&app.user(Role::Viewer).email).await;
        // Like a page in the back-forward cache: it answers no ping and closes nothing.
        let (mut silent, _) = open_web_socket(&address(&app), &format!(r#"40{{"token":"{token}"}}"#), None).await;
        while !silent.next().await.expect("a packet").expect("a frame").to_string().starts_with(r#"42["connected""#) {}
        silent.send(Message::text(r#"42["lead:subscribe",{"leadId":"lead-123"}]"#)).await.expect("sends");
        while !silent.next().await.expect("a packet").expect("a frame").to_string().contains("lead:subscribed") {}
        let successor = if has_successor { Some(connect(&app, Transport::WebSocket, &token).await) } else { None };
        if answers_once_more {
            // The first ping, sent on connect.
            silent.send(Message::text("3")).await.expect("sends");
        }
        until_true("it is missed", || registry.clients() == usize::from(has_successor)).await;
        let mut next = connect(&app, Transport::WebSocket, &token).await;
        if !has_successor {
            assert_eq!(next.event("lead:subscribed").await["leadId"], "lead-123");
        }
        next.expect_silence().await;
        for mut left in successor.into_iter().chain([next]) {
            left.send("41");
            left.send("1");
            left.closed().await;
        }
        until_true("all are gone", || registry.clients() == 0).await;
    }
}

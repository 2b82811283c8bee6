//! Lifetime of connections: tokens, sessions, resume, draining.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use leadwire::domain::{event::NewEvent, role::Role, room::Room, time::Timestamp};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::{
    socket_client::{SocketClient, TRANSPORTS, Transport, open_web_socket, until_true},
    support::{PASSWORD, TestApp, http_client},
};

/// Maximum time to close a socket whose session ended.
const AT_ONCE: Duration = Duration::from_secs(1);

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

/// A new session: `{accessToken, refreshToken, …}`.
async fn login(app: &TestApp, email: &str) -> Value {
    let body = json!({"email": email, "password": PASSWORD});
    app.anonymous().post("/api/auth/login", body).await.expect(StatusCode::OK)
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}"))
}

async fn connect(app: &TestApp, transport: Transport, token: &str) -> SocketClient {
    SocketClient::connect(transport, &address(app), token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_session_closes_only_its_sockets_at_once() {
    let app = TestApp::with(|config| config.auth.refresh_reuse_window = Duration::from_millis(1)).await;
    let admin = app.client(Role::Admin);
    for transport in TRANSPORTS {
        for end in ["logout", "logout-all", "reuse", "password", "password by an administrator", "deactivation"] {
            let name = format!("{transport:?}-{}", end.replace(' ', "-")).to_lowercase();
            let user = app.add_user(&name, Role::Sales).await;
            let grant = login(&app, &user.email).await;
            let (token, refresh) = (text(&grant, "accessToken"), json!({"refreshToken": grant["refreshToken"]}));
            let other = app.login(&user.email).await;
            let mut socket = connect(&app, transport, token).await;
            let mut others = connect(&app, transport, &other).await;
            let by_other = app.with_token(&other);
            let change = json!({"currentPassword": PASSWORD, "newPassword": "another battery horse"});
            let path = format!("/api/users/{}", user.id);
            let (reply, ends_others) = match end {
                "logout" => (app.anonymous().post("/api/auth/logout", refresh).await, false),
                "logout-all" => (app.with_token(token).post("/api/auth/logout-all", json!({})).await, true),
                "reuse" => {
                    app.anonymous().post("/api/auth/refresh", refresh.clone()).await.expect(StatusCode::OK);
                    sleep(Duration::from_millis(5)).await;
                    (app.anonymous().post("/api/auth/refresh", refresh).await, false)
                }
                "password" => (by_other.post("/api/auth/password", change).await, false),
                "password by an administrator" => {
                    (admin.patch(&path, json!({"password": "another battery horse"})).await, true)
                }
                _ => (admin.patch(&path, json!({"active": false})).await, true),
            };
            let expected = if end == "reuse" { StatusCode::UNAUTHORIZED } else { reply.status };
            assert_eq!(reply.status, expected, "{}", reply.body);
            assert!(end == "reuse" || reply.status.is_success(), "{}", reply.body);
            timeout(AT_ONCE, socket.closed()).await.unwrap_or_else(|_| panic!("{transport:?} after {end}"));
            if ends_others {
                timeout(AT_ONCE, others.closed()).await.unwrap_or_else(|_| panic!("{transport:?} after {end}"));
            } else {
                others.subscribe("still here").await;
            }
            let again = SocketClient::try_connect(transport, &address(&app), json!({"token": token})).await;
            assert_eq!(again.err().as_deref(), Some("Invalid authentication token"), "{transport:?} after {end}");
        }
    }
    let sockets = app.server.sockets();
    until_true("ended polling sessions are forgotten", || sockets.polling_sessions() <= 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_an_ended_polling_session_get_400_and_others_are_unaffected() {
    let app = TestApp::start().await;
    let user = app.add_user("polling", Role::Sales).await;
    let grant = login(&app, &user.email).await;
    let http = http_client();
    let url = format!("{}/socket.io/?EIO=4&transport=polling", app.url);
    let open = http.get(&url).send().await.expect("an answer").text().await.expect("a body");
    let open: Value = serde_json::from_str(&open[1..]).expect("an OPEN packet");
    let url = format!("{url}&sid={}", text(&open, "sid"));
    let post = |body: String| http.post(&url).body(body).send();
    post(format!(r#"40{{"token":"{}"}}"#, text(&grant, "accessToken"))).await.expect("an answer");
    let mut heard = String::new();
    while !heard.contains("connected") {
        heard += &http.get(&url).send().await.expect("an answer").text().await.expect("a body");
    }

    let pending = tokio::spawn(http.get(&url).send());
    until_true("it is connected", || app.server.sockets().registry().clients() == 1).await;
    let logout =
        http.post(format!("{}/api/auth/logout", app.url)).json(&json!({"refreshToken": grant["refreshToken"]}));
    assert_eq!(logout.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    let pending = timeout(AT_ONCE, pending).await.expect("at once").expect("no panic").expect("an answer");
    assert_eq!(pending.status(), StatusCode::BAD_REQUEST);
    for _ in 0..2 {
        assert_eq!(post("42[\"x\"]".into()).await.expect("an answer").status(), StatusCode::BAD_REQUEST);
        assert_eq!(http.get(&url).send().await.expect("an answer").status(), StatusCode::BAD_REQUEST);
    }
    until_true("the session is forgotten", || app.server.sockets().polling_sessions() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_gets_auth_expiring_and_is_closed_at_expiry() {
    let app = TestApp::with(|config| config.auth.access_token_ttl = Duration::from_secs(3)).await;
    for transport in TRANSPORTS {
        let token = app.login(&app.user(Role::Viewer).email).await;
        let auth = json!({"token": token});
        let mut socket = SocketClient::try_connect(transport, &address(&app), auth).await.expect("connects");
        let greeting = socket.event("connected").await;
        let expiring = socket.event("auth:expiring").await;
        assert_eq!(expiring, json!({"expiresAt": greeting["tokenExpiresAt"]}));
        socket.closed().await;
        let expires_at: Timestamp = text(&greeting, "tokenExpiresAt").parse().expect("a time");
        let late = Timestamp::now().since(expires_at);
        assert!(late < AT_ONCE && Timestamp::now() >= expires_at, "{late:?}");
        let again = SocketClient::try_connect(transport, &address(&app), json!({"token": token})).await;
        assert_eq!(again.err().as_deref(), Some("Invalid authentication token"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_with_a_refreshed_token_stays_open() {
    let app = TestApp::with(|config| config.auth.access_token_ttl = Duration::from_secs(3)).await;
    let email = &app.user(Role::Sales).email;
    let mut socket = connect(&app, Transport::WebSocket, &app.login(email).await).await;
    socket.event("auth:expiring").await;
    for _ in 0..3 {
        let answer = socket.call("auth:refresh", json!({"token": app.login(email).await})).await;
        assert_eq!(answer["ok"], true, "{answer}");
        let refreshed = socket.event("auth:refreshed").await;
        assert_eq!(refreshed["tokenExpiresAt"], answer["tokenExpiresAt"]);
        assert_eq!(socket.event("auth:expiring").await["expiresAt"], answer["tokenExpiresAt"]);
    }
    socket.subscribe("still here").await;
    socket.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_good_token_of_the_same_user_replaces_a_sockets_token() {
    let app = TestApp::start().await;
    let user = app.user(Role::Sales);
    let mut socket = connect(&app, Transport::WebSocket, app.token(Role::Sales)).await;
    let ended = login(&app, &user.email).await;
    let logout = json!({"refreshToken": ended["refreshToken"]});
    app.anonymous().post("/api/auth/logout", logout).await.expect(StatusCode::NO_CONTENT);
    let (none, bad) = ("Authentication token required", "Invalid authentication token");
    for (payload, message) in [
        (json!({}), none),
        (json!({"token": null}), none),
        (json!({"token": ""}), none),
        (json!({"token": 7}), bad),
        (json!({"token": "not a token"}), bad),
        (json!({"token": ended["accessToken"]}), bad),
        (json!({"token": app.token(Role::Admin)}), bad),
    ] {
        let answer = socket.call("auth:refresh", payload.clone()).await;
        let expected = json!({"message": message, "code": "unauthenticated"});
        assert_eq!(answer, json!({"ok": false, "error": expected}), "{payload}");
        assert_eq!(socket.event("error").await["message"], message);
    }

    // The socket moves to the session of the new token: the end of the old one no longer affects it.
    let (first, second) = (login(&app, &user.email).await, login(&app, &user.email).await);
    let mut moving = connect(&app, Transport::WebSocket, text(&first, "accessToken")).await;
    let answer = moving.call("auth:refresh", json!({"token": second["accessToken"]})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    moving.event("auth:refreshed").await;
    let end = async |grant: &Value| {
        let logout = json!({"refreshToken": grant["refreshToken"]});
        app.anonymous().post("/api/auth/logout", logout).await.expect(StatusCode::NO_CONTENT);
    };
    end(&first).await;
    moving.subscribe("still here").await;
    end(&second).await;
    timeout(AT_ONCE, moving.closed()).await.expect("at once");
}

/// Events of a socket up to `sync:done`: their seqs, and the seq of `sync:done`.
async fn replayed(socket: &mut SocketClient) -> (Vec<u64>, Value) {
    let mut seqs = Vec::new();
    loop {
        match socket.next().await {
            (name, body) if name == "sync:done" => return (seqs, body["seq"].clone()),
            (name, body) => seqs.push(body["seq"].as_u64().unwrap_or_else(|| panic!("{name} {body}"))),
        }
    }
}

async fn hello(app: &TestApp, transport: Transport, auth: Value) -> (SocketClient, Value) {
    let mut socket = SocketClient::try_connect(transport, &address(app), auth).await.expect("connects");
    let greeting = socket.event("connected").await;
    (socket, greeting)
}

async fn leads(app: &TestApp, count: usize) {
    for number in 0..count {
        app.lead(json!({"title": format!("Lead {number}")})).await;
    }
}

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

async fn note(app: &TestApp, lead: &str) -> Value {
    let path = format!("/api/leads/{lead}/activities");
    app.client(Role::Admin).post(&path, json!({"type": "NOTE", "body": "x"})).await.expect(StatusCode::CREATED)
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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_disconnected_and_frees_its_memory() {
    let app = TestApp::with(|config| config.socket.stall_timeout = Duration::from_millis(400)).await;
    let connect_packet = format!(r#"40{{"token":"{}"}}"#, app.token(Role::Viewer));
    let (mut stalled, _) = open_web_socket(&address(&app), &connect_packet, None).await;
    let registry = app.server.sockets().registry();
    until_true("the stalled client is connected", || registry.clients() == 1).await;
    let healthy = connect(&app, Transport::WebSocket, app.token(Role::Sales)).await;
    let polling = connect(&app, Transport::Polling, app.token(Role::Sales)).await;
    let mut tx = app.app().store().write().await.expect("a transaction");
    for _ in 0..2000 {
        let (rooms, at) = (vec![Room::Everyone], Timestamp::now());
        let payload = json!({"filling": "x".repeat(10_000)});
        let draft = NewEvent { name: "lead:updated", rooms, lead_id: None, payload, context: json!({}), at };
        tx.append(&draft).await.expect("a line");
    }
    tx.commit().await.expect("commits");
    until_true("it is cut", || registry.clients() == 2).await;
    for mut socket in [healthy, polling] {
        for _ in 0..2000 {
            socket.event("lead:updated").await;
        }
        socket.expect_silence().await;
    }
    while let Some(Ok(_)) = stalled.next().await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_sends_server_draining_flushes_and_refuses_connections() {
    let app = TestApp::start().await;
    let mut sockets = Vec::new();
    for number in 0..20 {
        sockets.push(connect(&app, TRANSPORTS[number % 2], app.token(Role::Viewer)).await);
    }
    let client = app.client(Role::Admin);
    leads(&app, 1).await;
    let address = address(&app);
    let stopping = tokio::spawn(app.server.shutdown());
    let mut is_first = true;
    for mut socket in sockets {
        let mut names = [socket.next().await.0, socket.next().await.0];
        names.sort();
        assert_eq!(names, ["lead:created", "server:draining"]);
        if std::mem::take(&mut is_first) {
            let ready = client.get("/readyz").await;
            assert_eq!(
                (ready.status, &ready.body["checks"]["serving"]),
                (StatusCode::SERVICE_UNAVAILABLE, &json!("failing"))
            );
            let url = format!("http://{address}/socket.io/?EIO=4&transport=polling");
            let open = http_client().get(url).send().await;
            assert_eq!(open.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        socket.closed().await;
    }
    timeout(Duration::from_secs(10), stopping).await.expect("in time").expect("no panic").expect("stops");
}

//! Limits: refusals, disconnects, and release of slots.

use std::{num::NonZeroU32, time::Duration};

use futures_util::{SinkExt, StreamExt};
use leadwire::{config::Config, domain::role::Role, transport::address::ForwardedHeader};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    process::Process,
    socket_client::{SocketClient, TRANSPORTS, Transport, open_web_socket, until_true},
    support::{PASSWORD, TestApp, http_client, send},
};

const CROWDED_USER: &str = "Too many connections of this user, try again later";

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

/// So slow that no test lasts long enough for another event.
fn burst_of(config: &mut Config, events: u32) {
    config.limits.events_burst = number(events);
    config.limits.events_per_second = number(1);
}

/// A short heartbeat, because only it detects a client that stopped polling.
fn notice_soon(config: &mut Config) {
    config.socket.ping_interval = Duration::from_millis(300);
    config.socket.ping_timeout = Duration::from_secs(2);
}

async fn connect(app: &TestApp, transport: Transport, token: &str) -> SocketClient {
    SocketClient::connect(transport, &address(app), token).await
}

async fn try_connect(app: &TestApp, token: &str) -> Result<SocketClient, String> {
    SocketClient::try_connect(Transport::WebSocket, &address(app), json!({"token": token})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_beyond_the_rate_limit_are_answered_and_not_executed() {
    let app = TestApp::with(|config| burst_of(config, 3)).await;
    for transport in TRANSPORTS {
        let token = app.login(&app.user(Role::Admin).email).await;
        let mut client = connect(&app, transport, &token).await;
        for lead in ["a", "b", "c"] {
            client.subscribe(lead).await;
        }
        client.emit("lead:create", json!({"title": "Too early"}));
        let error = client.event("error").await;
        assert_eq!((&error["code"], &error["limit"]), (&json!("rate_limited"), &json!("events")));
        assert_eq!(error["event"], "lead:create");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!((1..=1000).contains(&error["retryAfterMs"].as_u64().expect("a wait")), "{error}");

        let answer = client.call("lead:create", json!({"title": "Too early as well"})).await;
        let mut error = client.event("error").await;
        error.as_object_mut().expect("an object").shift_remove("event");
        error["retryAfterMs"] = answer["error"]["retryAfterMs"].clone();
        assert_eq!(answer, json!({"ok": false, "error": error}));
    }
    let leads = app.client(Role::Admin).get("/api/leads").await.expect(StatusCode::OK);
    assert_eq!(leads["items"], json!([]), "nothing was executed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_retry_after_is_accepted() {
    let app = TestApp::with(|config| {
        config.limits.events_burst = number(1);
        config.limits.events_per_second = number(20);
    })
    .await;
    let mut client = connect(&app, Transport::WebSocket, app.token(Role::Viewer)).await;
    client.subscribe("a").await;
    let mut answer = client.call("lead:subscribe", json!({"leadId": "b"})).await;
    while answer["ok"] == false {
        client.event("error").await;
        let wait = answer["error"]["retryAfterMs"].as_u64().expect("a wait");
        assert!(wait <= 50, "{wait}");
        tokio::time::sleep(Duration::from_millis(wait)).await;
        answer = client.call("lead:subscribe", json!({"leadId": "b"})).await;
    }
    assert_eq!(answer["leadId"], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn event_rates_are_counted_per_socket_and_limited_sockets_still_receive() {
    let app = TestApp::with(|config| burst_of(config, 1)).await;
    let mut noisy = connect(&app, Transport::WebSocket, app.token(Role::Viewer)).await;
    let mut quiet = connect(&app, Transport::WebSocket, app.token(Role::Viewer)).await;
    noisy.subscribe("a").await;
    noisy.emit("lead:subscribe", json!({"leadId": "b"}));
    assert_eq!(noisy.event("error").await["code"], "rate_limited");
    quiet.subscribe("a").await;
    app.lead(json!({"title": "Roof"})).await;
    for client in [&mut noisy, &mut quiet] {
        assert_eq!(client.event("lead:created").await["lead"]["title"], "Roof");
    }
}

/// Like `clients/js` after a reconnect: it subscribes to all leads at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_resubscribe_to_all_its_leads_at_once() {
    let app = TestApp::start().await;
    let limit = Config::default().limits.subscriptions;
    let token = app.login(&app.user(Role::Viewer).email).await;
    let mut client = connect(&app, Transport::WebSocket, &token).await;
    for _ in 0..2 {
        for lead in 0..limit {
            client.emit("lead:subscribe", json!({"leadId": format!("lead-{lead}"), "since": 0}));
        }
        for lead in 0..limit {
            assert_eq!(client.event("lead:subscribed").await["leadId"], format!("lead-{lead}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_beyond_the_limit_is_refused_until_one_is_cancelled() {
    let app = TestApp::with(|config| config.limits.subscriptions = 2).await;
    let mut client = connect(&app, Transport::WebSocket, app.token(Role::Viewer)).await;
    // `org:global` and `user:<id>` do not count.
    client.subscribe("a").await;
    client.subscribe("b").await;
    client.subscribe("b").await;
    let answer = client.call("lead:subscribe", json!({"leadId": "c"})).await;
    let error = client.event("error").await;
    assert_eq!((&error["code"], &error["limit"]), (&json!("rate_limited"), &json!("subscriptions")));
    assert_eq!(
        (&error["message"], &error["event"]),
        (&json!("at most 2 leads can be subscribed to at once"), &json!("lead:subscribe"))
    );
    assert!(error["retryAfterMs"].is_u64());
    assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!("rate_limited")));
    client.call("lead:unsubscribe", json!({"leadId": "a"})).await;
    client.event("lead:unsubscribed").await;
    client.subscribe("c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_too_many_refusals_is_disconnected_and_may_reconnect() {
    let app = TestApp::with(|config| {
        burst_of(config, 2);
        config.limits.refusals = 5;
    })
    .await;
    let registry = app.server.sockets().registry();
    for transport in TRANSPORTS {
        // A separate session: a shared one would restore the subscriptions of its lost sockets.
        let token = app.login(&app.user(Role::Viewer).email).await;
        let mut client = connect(&app, transport, &token).await;
        for lead in 0..2 + 5 {
            client.emit("lead:subscribe", json!({"leadId": lead.to_string()}));
        }
        // Refusals may arrive before earlier results.
        let mut names = Vec::new();
        for _ in 0..2 + 5 {
            names.push(client.next().await.0);
        }
        names.sort();
        assert_eq!(names, [["error"; 5].as_slice(), &["lead:subscribed"; 2]].concat());
        assert_eq!(registry.clients(), 1, "five refusals are borne");
        client.emit("lead:subscribe", json!({"leadId": "one more"}));
        // A client disconnected from the namespace would get `41` and never reconnect.
        client.closed().await;
        until_true("it is forgotten", || registry.clients() == 0).await;
        connect(&app, Transport::WebSocket, &token).await.closed_by_us(&app).await;
    }
}

impl SocketClient {
    /// Closes and waits until the server has noticed.
    async fn closed_by_us(self, app: &TestApp) {
        drop(self);
        until_true("it has left", || app.server.sockets().registry().clients() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_per_user_are_limited_and_a_closed_socket_frees_its_slot() {
    let app = TestApp::with(|config| {
        notice_soon(config);
        config.limits.connections_per_user = 2;
    })
    .await;
    let token = app.token(Role::Sales);
    for transport in TRANSPORTS {
        let first = connect(&app, transport, token).await;
        let second = connect(&app, transport, token).await;
        assert_eq!(try_connect(&app, token).await.err().as_deref(), Some(CROWDED_USER));
        drop(connect(&app, transport, app.token(Role::Viewer)).await);
        // One closes cleanly, the other is lost.
        first.send("41");
        drop(second);
        until_true("no socket counts any more", || app.server.sockets().counted().1 == 0).await;
        drop(first);
        connect(&app, transport, token).await.closed_by_us(&app).await;
    }
    until_true("no connection counts any more", || app.server.sockets().counted() == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_and_refused_sockets_do_not_count() {
    let app = TestApp::with(|config| {
        notice_soon(config);
        config.socket.connect_timeout = Duration::from_millis(100);
        config.limits.connections_per_user = 1;
    })
    .await;
    let counted = || app.server.sockets().counted();
    for transport in TRANSPORTS {
        let user = app.add_user(&format!("{transport:?}").to_lowercase(), Role::Sales).await;
        let token = app.login(&user.email).await;
        let mut client = connect(&app, transport, &token).await;
        // Refused without a free slot, refused without a token, and closed after the session ended.
        assert_eq!(try_connect(&app, &token).await.err().as_deref(), Some(CROWDED_USER));
        assert!(SocketClient::try_connect(transport, &address(&app), json!({})).await.is_err());
        app.with_token(&token).post("/api/auth/logout-all", json!({})).await.expect(StatusCode::NO_CONTENT);
        client.closed().await;
        drop(client);
        until_true("nothing counts any more", || counted() == (0, 0)).await;
        connect(&app, transport, &app.login(&user.email).await).await.closed_by_us(&app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_per_address_are_limited_before_authentication() {
    let app = TestApp::with(|config| {
        notice_soon(config);
        // A connection without a socket counts for this time, even after it is closed.
        config.socket.connect_timeout = Duration::from_secs(1);
        config.limits.connections_per_address = 2;
    })
    .await;
    let (token, address) = (app.token(Role::Sales), address(&app));
    let client = connect(&app, Transport::WebSocket, token).await;
    let polling = connect(&app, Transport::Polling, token).await;
    // Over HTTP, so that a stock client retries.
    let url = format!("{}/socket.io/?EIO=4&transport=polling", app.url);
    let refused = http_client().get(url).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let refused = tokio_tungstenite::connect_async(&url).await.expect_err("one too many");
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused}") };
    assert_eq!(answer.status().as_u16(), 429);
    assert_eq!(app.server.sockets().counted().0, 2, "who was refused does not count");
    drop((client, polling));
    until_true("there is room", || app.server.sockets().counted().0 == 0).await;
    connect(&app, Transport::Polling, token).await.subscribe("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_too_many_handshakes_is_closed() {
    let app = TestApp::with(|config| {
        notice_soon(config);
        config.limits.handshakes = 3;
    })
    .await;
    let connect = format!(r#"40{{"token":"{}"}}"#, app.token(Role::Sales));
    let (mut socket, _) = open_web_socket(&address(&app), &connect, None).await;
    let (mut connected, mut refused) = (0, 0);
    while let Some(Ok(frame)) = socket.next().await {
        let text = frame.into_text().unwrap_or_default();
        let again = if text.starts_with("40") {
            connected += 1;
            // Disconnects and reconnects with an invalid token.
            socket.send(Message::text("41")).await
        } else if text.starts_with("44") {
            refused += 1;
            Ok(())
        } else {
            continue;
        };
        if again.is_err() || socket.send(Message::text(r#"40{"token":"x"}"#)).await.is_err() {
            break;
        }
    }
    // The last answer may be lost with the connection.
    assert!(connected == 1 && (2..=3).contains(&refused), "{connected} {refused}");
    until_true("nothing counts any more", || app.server.sockets().counted() == (0, 0)).await;
    drop(SocketClient::connect(Transport::Polling, &address(&app), app.token(Role::Sales)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn transports_without_a_handshake_count_and_time_out() {
    let app = TestApp::with(|config| {
        config.limits.connections_per_address = 1;
        config.socket.connect_timeout = Duration::from_secs(3);
    })
    .await;
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", address(&app));
    let (mut silent, _) = tokio_tungstenite::connect_async(&url).await.expect("a WebSocket");
    let url = format!("{}/socket.io/?EIO=4&transport=polling", app.url);
    let polled = http_client().get(url).send().await.expect("an answer");
    assert_eq!(polled.status(), StatusCode::TOO_MANY_REQUESTS);
    app.client(Role::Sales).get("/api/leads").await.expect(StatusCode::OK);

    while let Some(Ok(frame)) = silent.next().await {
        assert!(!frame.is_text() || frame.to_text().expect("text").starts_with(['0', '1', '2']), "{frame}");
    }
    until_true("nothing counts any more", || app.server.sockets().counted() == (0, 0)).await;
    drop(connect(&app, Transport::WebSocket, app.token(Role::Sales)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_session_without_a_handshake_times_out() {
    let app = TestApp::with(|config| config.socket.connect_timeout = Duration::from_millis(100)).await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", app.url);
    let open = http_client().get(&url).send().await.expect("an answer").text().await.expect("an OPEN packet");
    let session: Value = serde_json::from_str(&open[1..]).expect("JSON");
    until_true("it is forgotten", || app.server.sockets().polling_sessions() == 0).await;
    assert_eq!(app.server.sockets().counted(), (0, 0));
    let late = http_client().post(format!("{url}&sid={}", session["sid"].as_str().expect("a sid")));
    assert_eq!(late.body("40").send().await.expect("an answer").status(), StatusCode::BAD_REQUEST);
}

/// Logs in with a wrong password from an address; returns the status.
async fn login_from(app: &TestApp, header: &str, from: &str, account: &str) -> u16 {
    let body = json!({"email": account, "password": PASSWORD});
    let request = app.anonymous().request(Method::POST, "/api/auth/login").header(header, from).json(&body);
    send(request).await.status.as_u16()
}

fn one_login_an_address(config: &mut Config) {
    config.auth.login_limits.per_address_per_minute = number(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_of_untrusted_clients_are_ignored() {
    let app = Bare::start(|config| {
        one_login_an_address(config);
        config.limits.connections_per_address = 1;
    })
    .await;
    for (number, header) in ["x-forwarded-for", "forwarded", "x-real-ip"].into_iter().enumerate() {
        let from = format!("203.0.113.{number}");
        let status = app.login(header, &from).await;
        assert_eq!(status, if number == 0 { 401 } else { 429 }, "{header}");
    }
    let _first = app.open_web_socket("203.0.113.7").await.expect("it is let in");
    assert_eq!(app.open_web_socket("203.0.113.8").await.err(), Some(429));
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_limits_apply_per_client_address() {
    let app = Bare::start(|config| {
        one_login_an_address(config);
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    assert_eq!(app.login("x-forwarded-for", "203.0.113.7").await, 401);
    assert_eq!(app.login("x-forwarded-for", "198.51.100.1, 203.0.113.7").await, 429, "an invented hop");
    assert_eq!(app.login("x-forwarded-for", "203.0.113.8, 127.0.0.2").await, 401, "another client, behind two proxies");
    assert_eq!(app.login("forwarded", "for=203.0.113.9").await, 401, "the proxy's own, whatever the other header says");
    assert_eq!(app.login("forwarded", "for=203.0.113.10").await, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forwarded_header_is_used_if_configured() {
    let app = Bare::start(|config| {
        one_login_an_address(config);
        config.http.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
        config.http.forwarded_header = ForwardedHeader::Forwarded;
    })
    .await;
    assert_eq!(app.login("forwarded", "for=\"[2001:db8::1]:4711\";proto=https").await, 401);
    assert_eq!(app.login("forwarded", "for=\"[2001:db8::2]\"").await, 429, "the same network");
    assert_eq!(app.login("forwarded", "for=203.0.113.8").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_by_the_forwarded_address() {
    let app = Bare::start(|config| {
        config.limits.connections_per_address = 1;
        config.http.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
    })
    .await;
    let no_token = "\"Authentication token required\"}";
    let mut open = Vec::new();
    for from in ["203.0.113.7", "203.0.113.8"] {
        let (socket, answer) = app.open_web_socket(from).await.expect("it is let in");
        assert!(answer.ends_with(no_token), "{answer}");
        open.push(socket);
    }
    assert_eq!(app.open_web_socket("203.0.113.7").await.err(), Some(429));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_shows_the_forwarded_address_of_clients() {
    let home = tempfile::tempdir().expect("a folder");
    let settings = "[http]\ntrusted_proxies = [\"127.0.0.0/8\"]\n[log]\nlevel = \"debug\"\n";
    std::fs::write(home.path().join("leadwire.toml"), settings).expect("a file of settings");
    let server = Process::serve(home.path());
    let http = http_client();
    let polling = server.url("/socket.io/?EIO=4&transport=polling");
    let open = http.get(&polling).header("x-forwarded-for", "203.0.113.7, 127.0.0.2");
    let open = open.send().await.expect("an answer").text().await.expect("an OPEN packet");
    let session: Value = serde_json::from_str(&open[1..]).expect("JSON");
    let url = format!("{polling}&sid={}", session["sid"].as_str().expect("a sid"));
    http.post(url).body("40").send().await.expect("an answer");
    http.get(server.url("/api/leads")).header("x-forwarded-for", "203.0.113.8").send().await.expect("an answer");
    let log = || server.log();
    until_true("both are named", || log().contains("client=203.0.113.7") && log().contains("client=203.0.113.8")).await;
    let refused = log().lines().find(|line| line.contains("refused a connection")).map(str::to_owned);
    assert!(refused.as_deref().is_some_and(|line| line.contains("client=203.0.113.7")), "{refused:?}");
}

/// A server without users: these tests cover the time before authentication.
struct Bare {
    app: TestApp,
}

impl Bare {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self { app: TestApp::without_users(change).await }
    }

    /// Status of a login attempt to an unknown account.
    async fn login(&self, header: &str, from: &str) -> u16 {
        login_from(&self.app, header, from, "nobody@example.com").await
    }

    /// Opens a WebSocket with an `X-Forwarded-For`; returns the answer to its CONNECT, or the status of its refusal.
    async fn open_web_socket(&self, from: &str) -> Result<(crate::socket_client::WebSocket, String), u16> {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;

        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", address(&self.app));
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("x-forwarded-for", from.parse().expect("a header"));
        let mut socket = match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => socket,
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => return Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        };
        socket.send(Message::text("40")).await.expect("sends CONNECT");
        loop {
            let frame = socket.next().await.expect("a packet").expect("a frame").into_text().expect("text");
            if frame.starts_with("44") {
                return Ok((socket, frame.to_string()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooding_client_that_reads_nothing_is_disconnected() {
    let app = TestApp::with(|config| {
        burst_of(config, 10);
        config.limits.refusals = 50;
    })
    .await;
    let connect_packet = format!(r#"40{{"token":"{}"}}"#, app.token(Role::Viewer));
    let (mut flood, _) = open_web_socket(&address(&app), &connect_packet, None).await;
    let registry = app.server.sockets().registry();
    until_true("it is connected", || registry.clients() == 1).await;
    let packet = Message::text(format!("42{}", json!(["lead:subscribe", {"leadId": "x".repeat(100)}])));
    for _ in 0..100_000 {
        if flood.send(packet.clone()).await.is_err() {
            break;
        }
    }
    until_true("it is cut", || registry.clients() == 0).await;
}

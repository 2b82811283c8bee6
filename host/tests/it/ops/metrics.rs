//! `/metrics`: a separate port, in the Prometheus format, and its contents.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use futures_util::StreamExt;
use leadwire::{
    config::Config,
    domain::{event::NewEvent, role::Role, room::Room, time::Timestamp},
    telemetry::metrics::{ALL, MetricKind},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    guest::{Guest, everyone, remove},
    process::{Process, prepare},
    socket_client::{SocketClient, Transport, open_web_socket, until_true},
    support::{TestApp, http_client},
};

/// Samples by name and labels, as in the text.
struct Samples(BTreeMap<String, f64>);

impl Samples {
    fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        Self(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect())
    }

    async fn of(url: &str) -> Self {
        let answer = http_client().get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        Self::parse(&answer.text().await.expect("text"))
    }

    /// The sum of the samples with a name and all of these labels; 0 if there are none.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let bears = |key: &str| labels.iter().all(|(label, value)| key.contains(&format!("{label}=\"{value}\"")));
        let named = |key: &str| key.split('{').next() == Some(name);
        self.0.iter().filter(|(key, _)| named(key) && bears(key)).map(|(_, value)| value).sum()
    }

    /// Names that are not in the list, without the suffixes of histograms.
    fn unknown(&self) -> BTreeSet<&str> {
        let is_known = |name: &str| {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            ALL.iter().any(|(known, kind, _)| match kind {
                MetricKind::Histogram => base == Some(known),
                MetricKind::Counter | MetricKind::Gauge => name == *known,
            })
        };
        self.0.keys().filter_map(|key| key.split('{').next()).filter(|name| !is_known(name)).collect()
    }
}

/// Polls until the samples meet a condition.
async fn until(url: &str, what: &str, is_so: impl Fn(&Samples) -> bool) -> Samples {
    let asked = async {
        loop {
            let samples = Samples::of(url).await;
            if is_so(&samples) {
                return samples;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn listening(config: &mut Config) {
    config.metrics.listen = Some(([127, 0, 0, 1], 0).into());
}

fn url(app: &TestApp) -> String {
    format!("http://{}/metrics", app.server.metrics_address().expect("a port"))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_their_own_port_which_serves_nothing_else() {
    let app = TestApp::with(listening).await;
    let url = url(&app);
    let http = http_client();
    let answer = http.get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.expect("text");
    assert!(text.contains("# TYPE leadwire_log_head_seq gauge\n") && text.contains("# HELP leadwire_log_head_seq "));
    assert_eq!(http.post(&url).send().await.expect("an answer").status(), StatusCode::METHOD_NOT_ALLOWED);
    for other in ["/", "/healthz", "/api/leads", "/socket.io/?EIO=4&transport=polling"] {
        let answer = http.get(url.replace("/metrics", other)).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{other}");
    }
    assert_eq!(app.anonymous().get("/metrics").await.status, StatusCode::NOT_FOUND);
    let (client, address) = (http_client(), app.server.metrics_address());
    app.server.shutdown().await.expect("stops");
    until_gone(&client, &format!("http://{}/metrics", address.expect("a port"))).await;
}

async fn until_gone(http: &reqwest::Client, url: &str) {
    while http.get(url).send().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn metrics_are_off_by_default() {
    let app = TestApp::without_users(|_| {}).await;
    assert_eq!(app.server.metrics_address(), None);
    assert_eq!(app.anonymous().get("/metrics").await.status, StatusCode::NOT_FOUND);
}

/// In a separate process, where no other test counts.
#[tokio::test(flavor = "multi_thread")]
async fn requests_events_and_sockets_are_counted() {
    let home = tempfile::tempdir().expect("a folder");
    let settings =
        "[metrics]\nlisten = \"127.0.0.1:0\"\n[limits]\nevents_burst = 1\nevents_per_second = 1\nrefusals = 1\n";
    prepare(home.path(), settings);
    let server = Process::serve(home.path());
    let address = || server.log().lines().find_map(|line| Some(line.split_once("metrics on ")?.1.trim().to_owned()));
    until_true("it says where", || address().is_some()).await;
    let url = address().expect("an address");

    let http = http_client();
    let token = server.login(&http, "ADMIN").await;
    let before = Samples::of(&url).await;
    assert_eq!(before.sum("leadwire_log_head_seq", &[]), 0.0);
    let mut web_socket = SocketClient::connect(Transport::WebSocket, &server.address, &token).await;
    let mut polling = SocketClient::connect(Transport::Polling, &server.address, &token).await;
    for auth in [json!({}), json!({"token": "bad"}), json!({"token": "worse"})] {
        assert!(SocketClient::try_connect(Transport::WebSocket, &server.address, auth).await.is_err());
    }
    until(&url, "both are live", |samples| samples.sum("leadwire_sockets_behind", &[]) == 0.0).await;
    let created = http.post(server.url("/api/leads")).bearer_auth(&token).json(&json!({"title": "Roof"}));
    let lead: Value = created.send().await.expect("an answer").json().await.expect("JSON");
    for socket in [&mut web_socket, &mut polling] {
        socket.event("lead:created").await;
    }
    let id = lead["id"].as_str().expect("an id");
    for path in [format!("/api/leads/{id}"), format!("/api/leads/{}", "0".repeat(30)), "/nowhere".into()] {
        http.get(server.url(&path)).bearer_auth(&token).send().await.expect("an answer");
    }
    web_socket.subscribe("a").await;
    web_socket.call("lead:subscribe", json!({"leadId": "b"})).await;

    let samples = Samples::of(&url).await;
    let sum = |name: &str, labels: &[(&str, &str)]| samples.sum(name, labels);
    for (transport, count) in [("websocket", 1.0), ("polling", 1.0)] {
        assert_eq!(sum("leadwire_sockets", &[("transport", transport)]), count);
        assert_eq!(sum("leadwire_connects_total", &[("transport", transport)]), count);
    }
    assert!(sum("leadwire_connections", &[]) >= 2.0);
    assert_eq!(sum("leadwire_connects_refused_total", &[("reason", "no_token")]), 1.0);
    assert_eq!(sum("leadwire_connects_refused_total", &[("reason", "bad_token")]), 2.0);
    assert_eq!(sum("leadwire_events_delivered_total", &[("how", "live")]), 2.0);
    assert_eq!(sum("leadwire_delivery_seconds_count", &[]), 1.0);
    assert!(sum("leadwire_delivery_seconds_bucket", &[("le", "+Inf")]) >= 1.0);
    assert_eq!((sum("leadwire_log_head_seq", &[]), sum("leadwire_log_tail_lag", &[])), (1.0, 0.0));
    assert!(sum("leadwire_packets_sent_total", &[]) >= 6.0 && sum("leadwire_sent_bytes_total", &[]) > 600.0);
    assert_eq!(sum("leadwire_limits_hit_total", &[("limit", "events")]), 1.0);
    let requests = |route: &str, method: &str, status: &str| {
        sum("leadwire_http_requests_total", &[("route", route), ("method", method), ("status", status)])
    };
    assert_eq!(requests("/api/leads", "POST", "2xx"), 1.0);
    assert_eq!(requests("/api/leads/{id}", "GET", "2xx"), 1.0);
    assert_eq!(requests("/api/leads/{id}", "GET", "4xx"), 1.0);
    assert_eq!(requests("none", "GET", "4xx"), 1.0);
    assert_eq!(sum("leadwire_http_request_seconds_count", &[("route", "/api/leads/{id}")]), 2.0);
    assert!(samples.0.keys().all(|key| !key.contains(id)), "a lead's id is in a label");
    assert_eq!(samples.unknown(), BTreeSet::new());

    for lead in 0..3 {
        web_socket.emit("lead:subscribe", json!({"leadId": lead.to_string()}));
    }
    web_socket.closed().await;
    polling.send("41");
    let after = until(&url, "both are gone", |samples| samples.sum("leadwire_sockets", &[]) == 0.0).await;
    assert_eq!(after.sum("leadwire_sockets_cut_total", &[("reason", "flooding")]), 1.0);
    until(&url, "both are counted", |samples| samples.sum("leadwire_disconnects_total", &[]) == 2.0).await;
    assert_eq!(after.sum("leadwire_disconnects_total", &[("reason", "client_disconnect")]), 1.0);
}

/// Other servers in this process count too, so the values may be higher than from this test alone.
#[tokio::test(flavor = "multi_thread")]
async fn slow_and_stalled_clients_are_counted() {
    let app = TestApp::with(|config| {
        listening(config);
        config.socket.stall_timeout = Duration::from_secs(3);
        config.socket.outbox_packets = 4;
    })
    .await;
    let (url, address) = (url(&app), app.server.address().to_string());
    let before = Samples::of(&url).await;
    let connect_packet = format!(r#"40{{"token":"{}"}}"#, app.token(Role::Viewer));
    let (_stalled, _) = open_web_socket(&address, &connect_packet, None).await;
    let (mut slow, _) = open_web_socket(&address, &connect_packet, None).await;
    until(&url, "both are live", |now| {
        now.sum("leadwire_sockets", &[]) == 2.0 && now.sum("leadwire_sockets_behind", &[]) == 0.0
    })
    .await;
    let mut tx = app.app().store().write().await.expect("a transaction");
    for _ in 0..2000 {
        let (rooms, at) = (vec![Room::Everyone], Timestamp::now());
        let payload = json!({"filling": "x".repeat(10_000)});
        let draft = NewEvent { name: "lead:updated", rooms, lead_id: None, payload, context: json!({}), at };
        tx.append(&draft).await.expect("a line");
    }
    tx.commit().await.expect("commits");
    let queued = until(&url, "both are behind", |now| now.sum("leadwire_sockets_behind", &[]) == 2.0).await;
    assert!(queued.sum("leadwire_packets_queued", &[]) <= 8.0, "no more than outboxes may hold");
    let mut events = 0;
    while events < 2000 {
        let frame = slow.next().await.expect("a packet").expect("a frame").into_text().expect("text");
        events += usize::from(frame.starts_with(r#"42["lead:updated","#));
    }
    let after = until(&url, "one is cut, the other live", |now| {
        now.sum("leadwire_sockets", &[]) == 1.0 && now.sum("leadwire_sockets_behind", &[]) == 0.0
    })
    .await;
    let grown = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    assert!(grown("leadwire_sockets_cut_total", &[("reason", "stalled")]) >= 1.0);
    assert!(grown("leadwire_sockets_fell_behind_total", &[("reason", "full")]) >= 2.0);
    assert!(grown("leadwire_sockets_caught_up_total", &[]) >= 1.0);
    assert!(grown("leadwire_events_delivered_total", &[("how", "replayed")]) >= 1.0);
    assert_eq!(after.sum("leadwire_packets_queued", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pruned_events_are_counted() {
    let app = TestApp::with(|config| {
        listening(config);
        config.log.keep_events = 1;
    })
    .await;
    let before = Samples::of(&url(&app)).await.sum("leadwire_log_pruned_total", &[]);
    for _ in 0..3 {
        app.lead(json!({"title": "Roof"})).await;
    }
    until(&url(&app), "lines are pruned", |now| now.sum("leadwire_log_pruned_total", &[]) >= before + 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugin_metrics_count_calls_by_hook_and_export_plugin_counters() {
    let app = TestApp::with(|config| {
        listening(config);
        config.plugins.dry_run_events = 0;
        config.plugins.limits.faults_in_a_row = 2;
        config.plugins.limits.rest_ms = 3_600_000;
        config.plugins.limits.longest_rest_ms = 3_600_000;
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        // No other test uses these plugin names, so the counts belong to this test only.
        let sound = Guest::new("counted").roles(["SALES"]).hides("SALES", ["/lead/email"]);
        let sound = sound.filter([everyone("SALES", [remove("/lead/email")])]).build();
        let failing = Guest::new("faulty").roles(["VIEWER"]).filtering("unreachable", Ok(Vec::new())).build();
        fs::write(dir.join("counted.wasm"), sound).expect("written");
        fs::write(dir.join("faulty.wasm"), failing).expect("written");
    })
    .await;
    let before = Samples::of(&url(&app)).await;
    let calls =
        |samples: &Samples| samples.sum("leadwire_plugin_calls_total", &[("plugin", "counted"), ("hook", "filter")]);
    let mut asked = 0.0;
    let now = loop {
        // Faults about one lead count once, and those about several only if no other call succeeds for a while.
        let lead = app.lead(json!({"title": "Roof"})).await;
        let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
        app.client(Role::Sales).get(&path).await.expect(StatusCode::OK);
        app.client(Role::Viewer).get(&path).await.refused(503, "plugin_unavailable");
        asked += 1.0;
        let now = Samples::of(&url(&app)).await;
        if now.sum("leadwire_plugin_skipped_total", &[("plugin", "faulty")]) > 0.0 {
            break now;
        }
    };
    assert_eq!(calls(&now) - calls(&before), asked);
    assert_eq!(now.sum("leadwire_plugin_faults_total", &[("plugin", "counted")]), 0.0);
    assert_eq!(
        now.sum("leadwire_plugin_call_seconds_count", &[("plugin", "counted"), ("hook", "filter")]),
        calls(&now)
    );
    assert_eq!(now.sum("leadwire_plugin_faults_total", &[("plugin", "faulty"), ("hook", "filter")]), asked - 1.0);
    assert_eq!(now.sum("leadwire_plugin_skipped_total", &[("plugin", "faulty")]), 1.0);
    assert_eq!(now.sum("leadwire_plugin_rests_total", &[("plugin", "faulty")]), 1.0);
    for (plugin, up, rests) in [("counted", 1.0, 0.0), ("faulty", 0.0, 1.0)] {
        assert_eq!(now.sum("leadwire_plugin_up", &[("plugin", plugin)]), up, "{plugin}");
        assert_eq!(now.sum("leadwire_plugin_quarantined", &[("plugin", plugin)]), rests, "{plugin}");
        assert_eq!(now.sum("leadwire_plugin_holding", &[("plugin", plugin)]), rests, "{plugin}");
    }
    assert!(now.sum("leadwire_plugin_generation", &[]) >= 1.0);
}

#[test]
fn the_documentation_lists_exactly_the_metrics() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
    let page = fs::read_to_string(page).expect("docs/OPERATIONS.md");
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
        (cells[1].clone(), cells[2].clone())
    };
    let documented: BTreeSet<_> = page.lines().filter(|line| line.starts_with("| `leadwire_")).map(row).collect();
    let known = ALL.iter().map(|(name, kind, _)| ((*name).to_owned(), format!("{kind:?}").to_lowercase()));
    assert_eq!(documented, known.collect());
}

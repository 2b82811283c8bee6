//! Many swaps of a plugin on a server under load: no client misses an event, nothing hidden is shown, and memory does
//! not grow.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    guest::{Guest, set},
    process::{self, Process},
    socket_client::{SocketClient, Transport},
    support,
};

/// Number of swaps with `CI` set, and without.
const SWAPS: (usize, usize) = (1000, 200);
/// From this swap on, memory must not grow.
const FIRST: (usize, usize) = (300, 100);
/// Number of large events that fill the server's event cache, so that later growth is not due to it.
const LARGE_LINES: usize = 300;
const SETTINGS: &str = "
[plugins]
dir = \"plugins\"
quiet = \"2ms\"
dry_run_events = 1
";

/// Hides e-mail addresses from viewers and adds its version.
fn guard(version: &str) -> Vec<u8> {
    Guest::redactor("guard").version(version).enrich([set("/by", &format!("\"{version}\""))]).build()
}

/// Writes the file atomically, like `leadwire plugin build`.
fn put(home: &Path, bytes: &[u8]) {
    fs::write(home.join("next.wasm"), bytes).expect("written");
    fs::rename(home.join("next.wasm"), home.join("plugins/guard.wasm")).expect("renamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_swaps_under_load_lose_no_event_and_leak_no_memory() {
    let at_full_size = std::env::var_os("CI").is_some();
    let [swaps, first] = [SWAPS, FIRST].map(|(full, small)| if at_full_size { full } else { small });
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), SETTINGS);
    let versions = ["1.0.0", "2.0.0"].map(|version| (version, guard(version)));
    put(home.path(), &versions[0].1);
    let server = Process::serve(home.path());
    let http = support::http_client();
    let (admin_token, viewer_token) = (server.login(&http, "ADMIN").await, server.login(&http, "VIEWER").await);

    let body = json!({"title": "Roof", "email": "bob@example.com", "custom": {"note": "x".repeat(8_000)}});
    let made = http.post(server.url("/api/leads")).bearer_auth(&admin_token).json(&body).send().await;
    let lead: Value = made.expect("an answer").json().await.expect("a lead");
    let url = server.url(&format!("/api/leads/{}", lead["id"].as_str().expect("an id")));
    let change = async |body: Value| {
        let answer = http.patch(&url).bearer_auth(&admin_token).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    };
    for number in 0..LARGE_LINES {
        change(json!({"title": format!("large {number}")})).await;
    }
    change(json!({"custom": {"note": null}})).await;

    let mut admin = SocketClient::connect(Transport::WebSocket, &server.address, &admin_token).await;
    let mut viewer = SocketClient::connect(Transport::WebSocket, &server.address, &viewer_token).await;
    let fetch = |token: &str| {
        let request = http.get(&url).bearer_auth(token);
        async move || {
            let request = request.try_clone().expect("it has no body");
            let lead: Value = request.send().await.expect("an answer").json().await.expect("a lead");
            json!({ "lead": lead })
        }
    };
    let done = AtomicBool::new(false);
    let written = AtomicUsize::new(0);
    let write = async {
        while !done.load(Relaxed) {
            let number = written.fetch_add(1, Relaxed) + 1;
            change(json!({"title": format!("T {number}")})).await;
        }
    };
    let read = async {
        let mut reads = 0;
        while !done.load(Relaxed) {
            let answer = http.get(&url).bearer_auth(&viewer_token).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let lead: Value = answer.json().await.expect("a lead");
            assert_eq!(lead.get("email"), None, "hidden, whichever version is in force");
            reads += 1;
        }
        reads
    };
    let swap = async {
        let (mut seen, mut memory) = (0, Vec::new());
        for number in 1..=swaps {
            let (version, bytes) = &versions[number % 2];
            put(home.path(), bytes);
            // Writes are continuous, so an event shows when the new version is active.
            while next(&mut admin, &mut seen, &fetch(&admin_token)).await["by"] != **version {}
            if number == first || number == swaps {
                memory.push(server.memory_kib());
            }
        }
        done.store(true, Relaxed);
        (seen, memory)
    };
    let started = Instant::now();
    let ((), reads, (mut seen, memory)) = tokio::join!(write, read, swap);
    let written = written.into_inner();
    println!(
        "{swaps} swaps in {:?}, {written} events, {reads} reads, resident memory {memory:?} KiB",
        started.elapsed()
    );
    while seen < written {
        next(&mut admin, &mut seen, &fetch(&admin_token)).await;
    }
    let mut seen = 0;
    while seen < written {
        assert_eq!(next(&mut viewer, &mut seen, &fetch(&viewer_token)).await["lead"].get("email"), None);
    }

    let status = http.get(server.url("/api/plugins")).bearer_auth(&admin_token).send().await.expect("an answer");
    let status: Value = status.json().await.expect("a list");
    assert_eq!(status["generation"], swaps + 1, "{status}");
    assert_eq!((&status["items"][0]["state"], &status["items"][0]["counts"]["faults"]), (&json!("active"), &json!(0)));
    let [first, last] = memory[..] else { panic!("measured twice") };
    assert!(last * 10 <= first * 11, "the memory grew from {first} to {last} KiB");
}

/// The client's next state: the next event without a gap; or the lead, fetched again because another set of plugins is
/// active.
async fn next(client: &mut SocketClient, seen: &mut usize, fetch: &impl AsyncFn() -> Value) -> Value {
    let number = |event: &Value| -> usize {
        event["lead"]["title"].as_str().and_then(|title| title.strip_prefix("T ")?.parse().ok()).unwrap_or_default()
    };
    loop {
        match client.next().await {
            (name, _) if name == "sync:reset" => {
                let event = fetch().await;
                if number(&event) > *seen {
                    *seen = number(&event);
                    return event;
                }
            }
            (name, event) if name == "lead:updated" && number(&event) > *seen => {
                *seen += 1;
                assert_eq!(number(&event), *seen);
                return event;
            }
            // The fetched lead already included it.
            (name, _) if name == "lead:updated" => {}
            (name, event) => panic!("{name} {event}"),
        }
    }
}

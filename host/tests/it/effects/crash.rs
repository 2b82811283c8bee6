//! Kills at any moment neither lose nor duplicate effects.

use std::{collections::BTreeMap, path::Path, time::Duration};

use leadwire::{
    domain::{counter::Seq, event::Event},
    store::follower::FollowerStats,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    guest::{FIRST_ID, Guest, Outcome, Wants, outcome},
    process::{self, Process},
    socket_client::PATIENCE,
    support::{self, open_store},
};

const ROUNDS: u64 = 20;
const LEADS_A_ROUND: usize = 8;
/// Minimum number of kills in the middle of work for a meaningful test.
const LEAST_IN_THE_MIDDLE: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_and_duplicate_no_effect() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), "[plugins]\ndir = \"plugins\"\n[effects]\nfirst_delay = \"10ms\"\n");
    let before = open_store(home.path()).await;
    let sales = before.read().await.expect("a reader").user_by_email(&process::email("SALES")).await.expect("readable");
    let notified = sales.expect("an account").0.id;
    before.close().await;
    let plugin = home.path().join("plugins/clerk");
    std::fs::write(plugin.with_extension("wasm"), clerk(&notified.to_string()).build()).expect("written");
    let grant = "grant.effects = [\"activity:create\", \"lead:update\", \"notify\", \"remind\"]\n";
    std::fs::write(plugin.with_extension("toml"), grant).expect("written");

    let (mut in_the_middle, mut seed) = (0, rand::random::<u64>());
    println!("moments of death from {seed:#x}");
    for _ in 0..ROUNDS {
        let mut server = Process::serve(home.path());
        let writing =
            tokio::spawn(write(server.url("/api/leads"), server.login(&support::http_client(), "ADMIN").await));
        // An LCG, so that a failure can be reproduced.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_millis(5 + (seed >> 33) % 250)).await;
        server.kill();
        writing.await.expect("a writer that did not panic");
        let left = follower_stats(home.path()).await;
        in_the_middle += u64::from(left.seq < left.head || left.pending > 0 || left.reminders > 0);
    }
    assert!(in_the_middle >= LEAST_IN_THE_MIDDLE, "only {in_the_middle} kills left something to do");

    let server = Process::serve(home.path());
    let token = server.login(&support::http_client(), "ADMIN").await;
    let until = Instant::now() + PATIENCE;
    loop {
        let answer =
            support::http_client().get(server.url("/api/plugins")).bearer_auth(&token).send().await.expect("an answer");
        let effects = answer.json::<Value>().await.expect("JSON")["items"][0]["effects"].clone();
        if ["lag", "pending", "reminders"].iter().all(|open| effects[open] == 0) {
            assert_eq!(effects["parked"], 0, "{effects}");
            break;
        }
        assert!(Instant::now() < until, "{effects}: {}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
    drop(server);

    let events = events(home.path()).await;
    let mut followed: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for event in &events {
        let lead = event.lead_id.map(|id| id.to_string()).unwrap_or_default();
        let of_lead = followed.entry(lead).or_default();
        if event.cause().plugins == ["clerk"] {
            let kind = event.payload.pointer("/activity/type").and_then(Value::as_str);
            of_lead.push(kind.unwrap_or(&event.name));
        }
    }
    assert!(followed.len() > 20, "only {} leads were written", followed.len());
    for (lead, mut effects) in followed {
        effects.sort_unstable();
        assert_eq!(effects, ["CALL", "NOTE", "lead:updated", "notification"], "lead {lead}");
    }
}

/// A plugin with an effect of each kind for every new lead, and one more when its reminder fires.
fn clerk(notified: &str) -> Guest {
    let with_lead = |rest: &str| format!("{{\"leadId\":{FIRST_ID},{rest}}}");
    let activity = |kind: &str| ("activity:create".to_owned(), with_lead(&format!("\"type\":\"{kind}\"")));
    let effects = vec![
        activity("NOTE"),
        ("lead:update".into(), with_lead("\"patch\":{\"description\":\"seen\"}")),
        ("notify".into(), with_lead(&format!("\"userId\":\"{notified}\",\"kind\":\"new_lead\""))),
        ("remind".into(), with_lead(&format!("\"key\":{FIRST_ID},\"at\":\"2020-01-01T00:00:00Z\""))),
    ];
    let answer = Outcome { effects, reminded: vec![activity("CALL")], ..outcome([]) };
    let wants = Wants::new(["lead:created"], ["activity:create", "lead:update", "notify", "remind"]);
    Guest::new("clerk").events([]).fields(["/context/lead/id"]).after(wants, answer)
}

/// Writes leads until there are enough, or the server stops answering.
async fn write(url: String, token: String) {
    let http = support::http_client();
    for number in 0..LEADS_A_ROUND {
        let body = json!({"title": format!("Lead {number}")});
        let Ok(answer) = http.post(&url).bearer_auth(&token).json(&body).send().await else { return };
        assert_eq!(answer.status(), 201);
    }
}

async fn follower_stats(home: &Path) -> FollowerStats {
    let store = open_store(home).await;
    let stats = store.read().await.expect("a reader").follower_stats().await.expect("readable").remove(0);
    store.close().await;
    stats
}

async fn events(home: &Path) -> Vec<Event> {
    let store = open_store(home).await;
    let mut reader = store.read().await.expect("a reader");
    let head = reader.head().await.expect("a head");
    let events = reader.events_after(Seq(0), u32::try_from(head.0).expect("a small log")).await.expect("events");
    assert_eq!(events.len() as u64, head.0, "the log has no gap");
    events
}

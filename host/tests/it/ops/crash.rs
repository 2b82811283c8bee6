//! A server killed during concurrent writes loses no acknowledged write.

use leadwire::domain::counter::Seq;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    process::{self, Process},
    support::{self, open_store},
};

const WRITERS: usize = 16;
const ROUNDS: usize = 3;
const ANSWERED_BEFORE_THE_KILL: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_survives_a_kill_and_the_log_has_no_gap() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), "");
    let mut answered: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let mut server = Process::serve(home.path());
        answered.extend(write_until_killed(&mut server, round).await);
    }

    let server = Process::serve(home.path());
    let http = support::http_client();
    let token = server.login(&http, "ADMIN").await;
    for id in &answered {
        let url = server.url(&format!("/api/leads/{id}"));
        let answer = http.get(url).bearer_auth(&token).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "lead {id} was answered before the kill");
    }
    drop(server);

    let store = open_store(home.path()).await;
    let mut reader = store.read().await.expect("a reader");
    let head = reader.head().await.expect("the head");
    let mut events = Vec::new();
    while let Some(last) = Some(Seq(events.len() as u64)).filter(|last| *last < head) {
        events.extend(reader.events_after(last, 1000).await.expect("events"));
    }
    let seqs: Vec<u64> = events.iter().map(|event| event.seq.0).collect();
    assert_eq!(seqs, (1..=head.0).collect::<Vec<_>>());
    for id in &answered {
        let created = events.iter().filter(|event| event.name == "lead:created" && event.payload["lead"]["id"] == **id);
        assert_eq!(created.count(), 1, "lead {id} is told of once");
    }
}

/// The ids of acknowledged leads.
async fn write_until_killed(server: &mut Process, round: usize) -> Vec<String> {
    let http = support::http_builder().timeout(Duration::from_secs(20)).build().expect("a client");
    let token = server.login(&http, "ADMIN").await;
    let done = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (http, url, token, done) = (http.clone(), server.url("/api/leads"), token.clone(), done.clone());
            tokio::spawn(async move {
                let mut ids = Vec::new();
                loop {
                    let body = json!({"title": format!("Round {round}, writer {writer}, lead {}", ids.len())});
                    let Ok(answer) = http.post(&url).bearer_auth(&token).json(&body).send().await else { break ids };
                    assert_eq!(answer.status(), 201);
                    // An incomplete answer does not count.
                    let Ok(lead) = answer.json::<Value>().await else { break ids };
                    ids.push(lead["id"].as_str().expect("an id").to_owned());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    while done.load(Ordering::Relaxed) < ANSWERED_BEFORE_THE_KILL {
        assert!(server.runs(), "the server ended by itself: {}", server.log());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.kill();
    let mut ids = Vec::new();
    for writer in writers {
        ids.extend(writer.await.expect("a writer that did not panic"));
    }
    ids
}

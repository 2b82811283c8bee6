//! Ten thousand malformed or hostile inputs, the same on every run: each is refused, and none causes a server error, a
//! panic or a memory leak.
//!
//! `inputs.rs` generates them; this file sends them and checks the answers.

mod inputs;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    plugin::hostile::{
        inputs::{Frames, Request, dice::Dice},
        wire::{Socket, Target},
    },
    process::{self, Process},
    support,
};

const SEED: u64 = 0x1ead_3157_0000_0001;
const INPUTS: usize = 10_000;
const AT_A_TIME: usize = 8;
/// Maximum memory growth between the first fifth of the inputs and the last.
const GROWTH_KIB: u64 = 16 * 1024;
const SECRET: &str = "a secret that the test knows as well, to sign with";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_inputs_are_refused_without_side_effects() {
    let home = tempfile::tempdir().expect("a folder");
    // Most polling inputs leave a session, which counts until it times out.
    let crowds = "[limits]\nconnections_per_user = 100000\nconnections_per_address = 100000\n";
    let settings = format!("[auth]\njwt_secret = \"{SECRET}\"\njwt_key_id = \"test\"\n{crowds}");
    process::prepare(home.path(), &settings);
    let server = Process::serve(home.path());
    let http = support::http_client();
    let token = server.login(&http, "ADMIN").await;
    let lead: Value = http
        .post(server.url("/api/leads"))
        .bearer_auth(&token)
        .json(&json!({"title": "Roof"}))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("a lead");
    let target = Arc::new(Target {
        address: server.address.clone(),
        lead: lead["id"].as_str().expect("an id").into(),
        secret: SECRET.into(),
        token,
    });
    let mut canary = Socket::connect(&target.address, &target.token).await.expect("a good client is let in");

    let mut dice = Dice::new(SEED);
    let mut tally = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..5 {
        let inputs: Vec<_> = (0..INPUTS / 5).map(|_| inputs::any(&mut dice, &target)).collect();
        let mut judged = stream::iter(inputs)
            .map(|input| {
                let target = target.clone();
                async move {
                    let (kind, shown) = (input.kind(), input.shown());
                    (kind, shown, judge(input, &target).await)
                }
            })
            .buffer_unordered(AT_A_TIME);
        while let Some((kind, shown, verdict)) = judged.next().await {
            *tally.entry(kind).or_insert(0) += 1;
            if let Err(why) = verdict {
                wrong.push(format!("{kind}: {why}\n    {shown}"));
            }
        }
        memory.push(server.memory_kib());
    }

    let log = server.log();
    assert!(!log.contains("panicked"), "a panic in the log: {}", tail(&log, "panicked"));
    assert!(!log.contains("ERROR"), "an error of the server's own: {}", tail(&log, "ERROR"));
    assert!(
        wrong.is_empty(),
        "{} of {INPUTS}, the first ones:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(15)].join("\n")
    );
    assert_eq!(tally.values().sum::<usize>(), INPUTS);
    println!("{tally:?}, resident memory after each fifth: {memory:?} KiB");
    assert!(memory[4] < memory[0] + GROWTH_KIB, "memory grew: {memory:?} KiB");

    // A client that was connected all the time is unaffected.
    let title = json!({"title": "The end"});
    let url = server.url(&format!("/api/leads/{}", target.lead));
    let answer = http.patch(url).bearer_auth(&target.token).json(&title).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let event = canary.event("lead:updated").await.expect("the canary lives");
    assert_eq!(event["lead"]["title"], "The end");
}

/// The server's mistake in its reaction, if any.
async fn judge(input: inputs::Input, target: &Target) -> Result<(), String> {
    match input {
        inputs::Input::Request(request) => judge_request(request, target).await,
        inputs::Input::Raw { bytes, .. } => match wire::exchange(&target.address, &bytes, wire::Then::Close).await? {
            // Closing the connection on garbage is acceptable too.
            None => Ok(()),
            Some(answer) if (400..500).contains(&answer.status) || answer.status == 505 => Ok(()),
            Some(answer) => Err(format!("answered {}", answer.status)),
        },
        inputs::Input::Handshake { token } => {
            match Socket::connect_with(&target.address, &json!({"token": token})).await? {
                Err(message) if message == "Invalid authentication token" => Ok(()),
                Err(message) => Err(format!("refused with {message:?}")),
                Ok(_) => Err("was let in".into()),
            }
        }
        inputs::Input::Polled { body } => judge_polled(&body, target).await,
        inputs::Input::Frames(frames) => judge_frames(frames, target).await,
    }
}

async fn judge_request(request: Request, target: &Target) -> Result<(), String> {
    let Some(answer) = wire::exchange(&target.address, &request.bytes(&target.address), wire::Then::Wait).await? else {
        return if request.may_be_cut { Ok(()) } else { Err("was not answered".into()) };
    };
    let allowed = if request.harmless { 200..500 } else { 400..500 };
    if !allowed.contains(&answer.status) {
        return Err(format!("answered {} {}", answer.status, answer.text()));
    }
    if request.status.is_some_and(|expected| expected != answer.status) {
        return Err(format!("answered {} {}", answer.status, answer.text()));
    }
    // Input that is not HTTP never reaches the routes that answer with problems.
    let not_http = request.kind == "header" && answer.status == 400 && answer.body.is_empty();
    if answer.status >= 400 && request.path.starts_with("/api/") && answer.status != 431 && !not_http {
        let problem: Value = serde_json::from_slice(&answer.body).map_err(|_| format!("no JSON: {}", answer.text()))?;
        let code = problem["code"].as_str().filter(|code| !code.is_empty());
        if code.is_none() || problem["status"] != answer.status || !problem["requestId"].is_string() {
            return Err(format!("not a problem: {problem}"));
        }
    }
    Ok(())
}

/// Posts packets to a connected polling session.
async fn judge_polled(body: &[u8], target: &Target) -> Result<(), String> {
    let sid = wire::polling_session(&target.address, &target.token).await?;
    let Some(answer) = wire::poll(&target.address, "POST", &sid, body).await? else { return Ok(()) };
    match answer.status {
        200..500 => Ok(()),
        status => Err(format!("answered {status} {}", answer.text())),
    }
}

/// Sends frames to a connected socket; the server answers with an error or ends the connection, and continues.
async fn judge_frames(frames: Frames, target: &Target) -> Result<(), String> {
    let mut socket = Socket::connect(&target.address, &target.token).await?;
    for frame in frames.frames {
        // It may have ended the connection at the first of them.
        if socket.send(frame).await.is_err() {
            break;
        }
    }
    match frames.refusal {
        None => socket.settled().await,
        Some(ack) => socket.refusal(ack).await,
    }
}

fn tail<'a>(log: &'a str, word: &str) -> &'a str {
    let start = log.find(word).unwrap_or(0).saturating_sub(300);
    let start = (start..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
    let end = (start + 2000).min(log.len());
    let end = (end..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
    &log[start..end]
}

//! Webhooks as effects: retried, parked, or not sent without a grant.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    effects::{
        execution::{activities, note, parked, put, settled, start, until_followed, until_stats},
        webhook::Receiver,
    },
    guest::{FIRST_ID, Guest, Outcome, Wants, outcome},
};

/// A plugin that posts each new lead to the receiver, and its grant.
fn poster(receiver: &Receiver) -> (Guest, String) {
    let (address, url) = (receiver.address.to_string(), receiver.url("127.0.0.1"));
    let input = format!("{{\"url\":\"{url}\",\"type\":\"lead.new\",\"data\":{{\"leadId\":{FIRST_ID}}}}}");
    let answer = Outcome { effects: vec![("webhook".into(), input), note()], ..outcome([]) };
    let wants = Wants::new(["lead:created"], ["webhook", "activity:create"]).webhooks_to([&address]);
    let guest = Guest::new("poster").events([]).fields(["/context/lead/id"]).after(wants, answer);
    let settings = format!(
        "webhook_secret = \"whsec_bGVhZHdpcmUtd2ViaG9vay10ZXN0LXNlY3JldC0wMQ==\"\n[grant]\n\
         effects = [\"webhook\", \"activity:create\"]\nwebhook_hosts = [{address:?}]\n\
         webhook_networks = [\"127.0.0.0/8\"]\n"
    );
    (guest, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_retried_with_the_same_id_until_it_is_accepted() {
    let turns = AtomicUsize::new(0);
    let answer = move || match turns.fetch_add(1, Ordering::SeqCst) {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::NO_CONTENT,
    };
    let mut receiver = Receiver::answering(answer).await;
    let app = start(&[]).await;
    let (guest, settings) = poster(&receiver);
    fs::write(app.dir.path().join("plugins/poster.toml"), settings).expect("written");
    put(&app, "poster.wasm", guest.build()).await;
    until_followed(&app, "poster").await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let (first, second) = (receiver.next().await, receiver.next().await);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    let body: Value = serde_json::from_str(&second.body).expect("JSON");
    let expected = json!({"type": "lead.new", "timestamp": lead["createdAt"], "data": {"leadId": lead["id"]}});
    assert_eq!(body, expected);
    assert_eq!(settled(&app, "poster").await.parked, 0);
    assert_eq!(activities(&app, &lead).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_webhook_is_parked_with_the_response_and_blocks_no_other_effect() {
    let receiver = Receiver::answering(|| (StatusCode::GONE, "moved away")).await;
    let app = start(&[]).await;
    let (guest, settings) = poster(&receiver);
    fs::write(app.dir.path().join("plugins/poster.toml"), settings).expect("written");
    put(&app, "poster.wasm", guest.build()).await;
    until_followed(&app, "poster").await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    until_stats(&app, "poster", |stats| stats.parked == 1).await;
    let item = parked(&app, "poster").await.remove(0);
    let reason = item["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("410") && reason.contains("moved away"), "{item}");
    assert_eq!((&item["name"], &item["attempts"]), (&json!("webhook"), &json!(1)));
    settled(&app, "poster").await;
    assert_eq!(activities(&app, &lead).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_not_sent_after_its_grant_is_revoked() {
    let mut receiver = Receiver::answering(|| StatusCode::GONE).await;
    let app = start(&[]).await;
    let (guest, settings) = poster(&receiver);
    fs::write(app.dir.path().join("plugins/poster.toml"), settings).expect("written");
    put(&app, "poster.wasm", guest.build()).await;
    until_followed(&app, "poster").await;
    app.lead(json!({"title": "Roof"})).await;
    receiver.next().await;
    until_stats(&app, "poster", |stats| stats.parked == 1).await;

    let modest = Guest::new("poster").events([]).after(Wants::new(["lead:created"], []), outcome([]));
    put(&app, "poster.wasm", modest.build()).await;
    app.client(Role::Admin).post("/api/plugins/poster/effects/retry", json!({})).await.expect(StatusCode::OK);
    assert_eq!(settled(&app, "poster").await.parked, 1);
    let reason = &parked(&app, "poster").await[0]["reason"];
    assert_eq!(reason, "webhook is no longer granted, or poster no longer requests it");
}

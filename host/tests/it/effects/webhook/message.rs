//! The message: its format, its signature, and the secret for it.

use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use leadwire::effects::webhook::WebhookMessage;
use serde_json::Value;
use sha2::Sha256;

use crate::effects::webhook::{Answers, NOW, Receiver, SECRET, grant, post, refusal, sender};

#[tokio::test]
async fn a_message_is_posted_in_standard_webhooks_format() {
    let mut receiver = Receiver::answering(|| StatusCode::NO_CONTENT).await;
    let names = Answers::new([&["127.0.0.1"]]);
    let host = format!("hooks.example.com:{}", receiver.address.port());
    let sent = post(&sender(&names), &grant(&[&host], ["127.0.0.0/8"]), &receiver.url("hooks.example.com")).await;
    assert_eq!(sent, Ok(()));
    let request = receiver.next().await;
    assert_eq!(
        request.body,
        r#"{"type":"lead.updated","timestamp":"2026-05-01T12:00:00.000Z","data":{"lead":{"title":"Dächer","id":"1"}}}"#
    );
    for (name, value) in [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1777636805"),
        ("content-type", "application/json"),
        ("user-agent", concat!("leadwire/", env!("CARGO_PKG_VERSION"))),
        ("host", &host),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    let key = STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    mac.update(format!("msg_1.1777636805.{}", request.body).as_bytes());
    assert_eq!(request.header("webhook-signature"), format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
}

#[tokio::test]
async fn without_a_valid_secret_nothing_is_sent_and_the_error_shows_the_setting() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    let host = format!("127.0.0.1:{}", receiver.address.port());
    let (names, url) = (Answers::new([]), receiver.url("127.0.0.1"));
    let mut granted = grant(&[&host], ["127.0.0.1/32"]);
    granted.secret = None;
    let reason = refusal(post(&sender(&names), &granted, &url).await);
    assert!(reason.contains("add webhook_secret = \"whsec_...\" to the top of audit-webhook.toml"), "{reason}");
    granted.secret = Some("whsec_c2hvcnQ=".into());
    let reason = refusal(post(&sender(&names), &granted, &url).await);
    assert!(reason.contains("webhook_secret in audit-webhook.toml: expected 24 to 64"), "{reason}");
    assert!(!reason.contains("c2hvcnQ"), "{reason}");
    assert!(receiver.heard_nothing());
}

#[tokio::test]
async fn a_message_with_an_invalid_header_value_is_refused() {
    let receiver = Receiver::answering(|| StatusCode::OK).await;
    let host = format!("127.0.0.1:{}", receiver.address.port());
    let (url, at, data) = (receiver.url("127.0.0.1"), NOW.parse().expect("a time"), Value::Null);
    let message = WebhookMessage { plugin: "p", id: "line\nbreak", url: &url, kind: "x", at, data: &data };
    let sent = sender(&Answers::new([])).send(&grant(&[&host], ["127.0.0.1/32"]), &message).await;
    assert!(refusal(sent).starts_with("cannot build a request"));
}

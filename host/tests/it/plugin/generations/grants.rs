//! Grants of a rolled-back generation: the present settings apply, not those of its time.

use leadwire::plugin::{PluginState, Plugins, RolloutCommand};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    guest::{Guest, Outcome, Wants},
    plugin::generations::{Server, Yard, version},
};

/// A plugin that wants `notify` and a webhook host, except in its second version.
fn notifier(version: &str) -> Vec<u8> {
    let effects: &[&str] = if version == "2.0.0" { &[] } else { &["notify", "webhook"] };
    let hosts: &[&str] = if effects.is_empty() { &[] } else { &["a.example"] };
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let wants = Wants { events: owned(&["lead:updated"]), effects: owned(effects), webhook_hosts: owned(hosts) };
    Guest::new("guard").version(version).after(wants, Outcome::default()).build()
}

const GRANT: &str = "[grant]\neffects = [\"notify\", \"webhook\"]\nwebhook_hosts = [\"a.example\"]\n";

#[test]
fn a_rollback_does_not_restore_a_revoked_grant() {
    let yard = Yard::new();
    yard.put("guard.toml", format!("order = 1\n{GRANT}"));
    yard.put("guard.wasm", notifier("1.0.0"));
    drop(yard.open(None));
    yard.put("guard.wasm", notifier("2.0.0"));
    drop(yard.open(None));
    yard.put("guard.toml", "order = 1\n");
    let plugins = yard.open(None);
    let back = |plugins: &Plugins| plugins.shift("guard", RolloutCommand::RollBack { from: None });
    let refused = back(&plugins).expect_err("it asks for more").to_string();
    assert!(refused.contains("the effect notify, the effect webhook, webhooks to a.example"), "{refused}");
    assert!(refused.ends_with(&format!("add to guard.toml:\n{}", GRANT.trim_end())), "{refused}");
    assert_eq!(version(&plugins), "2.0.0");
    drop(plugins);

    // Grants make no new generation: the previous one is still available.
    yard.put("guard.toml", format!("order = 1\n{GRANT}"));
    let plugins = yard.open(None);
    assert_eq!(back(&plugins).expect("granted").version.as_deref(), Some("1.0.0"));
    drop(plugins);
    yard.put("guard.toml", "order = 1\n");
    let status = yard.open(None).status().remove(0);
    assert_eq!((status.state, status.version.as_deref()), (PluginState::Refused, None), "taken away, it holds at once");
    yard.put("guard.toml", format!("order = 1\n{GRANT}"));
    assert_eq!(version(&yard.open(None)), "1.0.0");
    yard.put("guard.toml", "order = ");
    assert_eq!(yard.open(None).status().remove(0).state, PluginState::Refused, "what is granted is not known");
}

#[test]
fn a_rolled_back_generation_uses_the_current_networks_and_secret() {
    let (first, second) =
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_bGVhZHdpcmUtd2ViaG9vay10ZXN0LXNlY3JldC0wMQ==");
    let settings = |secret: &str, networks: &str| {
        format!("webhook_secret = \"{secret}\"\n{GRANT}webhook_networks = [{networks}]\n")
    };
    let yard = Yard::new();
    yard.put("guard.toml", settings(first, "\"10.0.0.0/8\""));
    yard.put("guard.wasm", notifier("1.0.0"));
    drop(yard.open(None));
    yard.put("guard.toml", settings(second, ""));
    yard.put("guard.wasm", notifier("2.0.0"));
    let plugins = yard.open(None);
    plugins.shift("guard", RolloutCommand::RollBack { from: None }).expect("granted");
    drop(plugins);
    let granted = |plugins: &Plugins| plugins.webhook_grant(&"guard".parse().expect("a name")).expect("it follows");
    let today = granted(&yard.open(None));
    assert_eq!((today.secret.as_deref(), today.networks.len()), (Some(second), 0));
    yard.put("guard.toml", settings(first, "\"10.1.0.0/16\""));
    let plugins = yard.open(None);
    assert_eq!((version(&plugins).as_str(), granted(&plugins).secret.as_deref()), ("1.0.0", Some(first)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_applies_at_once_to_a_rolled_back_generation() {
    let server = Server::start(None).await;
    server.put("guard.toml", GRANT);
    server.put("guard.wasm", notifier("1.0.0"));
    server.until("the first", |status| status["hooks"][0] == "after").await;
    server.put("guard.wasm", notifier("2.0.0"));
    server.until_version("2.0.0").await;
    let back = server.order("rollback").await.expect(StatusCode::OK);
    assert_eq!((&back["version"], &back["granted"]["effects"][0]), (&json!("1.0.0"), &json!("notify")));
    server.put("guard.toml", "");
    let refused = server.until("the refusal", |status| status["state"] == "refused").await;
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("the effect notify")), "{refused}");
    server.put("guard.toml", GRANT);
    server.until("the grant", |status| status["state"] == "active").await;
    assert_eq!(server.status().await["version"], "1.0.0", "it is still rolled back");
}

//! `leadwire plugin replay`: the changes that a plugin would have made, from the log of a running server.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    guest::Guest,
    plugin::explain::{hiding, leadwire},
    support::TestApp,
};

/// A server with a plugin that hides e-mail addresses from viewers, and three events.
async fn with_events() -> TestApp {
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("guard.wasm"), hiding("/lead/email", "1.0.0").build()).expect("written");
    })
    .await;
    for title in ["One", "Two", "Three"] {
        app.lead(json!({"title": title, "email": "a@b.example", "phone": "+1 555"})).await;
    }
    app
}

fn write(app: &TestApp, name: &str, guest: &Guest) -> String {
    let dir = app.dir.path().join("candidates");
    fs::create_dir_all(&dir).expect("a folder");
    fs::write(dir.join(name), guest.build()).expect("written");
    dir.join(name).display().to_string()
}

fn replay(app: &TestApp, file: impl AsRef<Path>, arguments: &[&str]) -> (Option<i32>, String, String) {
    let plugins = app.dir.path().join("plugins");
    let (file, plugins) = (file.as_ref().to_str().expect("utf-8"), plugins.to_str().expect("utf-8"));
    let all = [&["plugin", "replay", file, "--plugins", plugins], arguments].concat();
    leadwire(app, &all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_compared_with_the_plugin_of_its_name_over_the_recorded_log() {
    let app = with_events().await;
    let candidate = write(&app, "guard.wasm", &hiding("/lead/phone", "2.0.0"));
    let (code, text, errors) = replay(&app, &candidate, &[]);
    assert_eq!((code, errors.as_str()), (Some(1), ""));
    for line in [
        "guard, events 1 to 3\n",
        "3 events, 12 with each role: 3 would differ (25.0%)\n",
        "VIEWER would newly see /lead/email in 3 events, as in 1, 2, 3\n",
        "VIEWER would no longer see /lead/phone in 3 events, as in 1, 2, 3",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("a@b.example"), "{text}");

    let (code, text, _) = replay(&app, &candidate, &["--json", "--values", "--examples", "1", "--since", "1h"]);
    let report: Value = serde_json::from_str(&text).expect("is JSON");
    let field = &report["comparison"]["byField"][0];
    assert_eq!((code, &report["firstSeq"], &report["lastSeq"]), (Some(1), &json!(1), &json!(3)));
    assert_eq!((&field["pointer"], &field["change"]), (&json!("/lead/email"), &json!("shown")));
    assert_eq!(field["examples"], json!([{"seq": 1, "after": "a@b.example"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_without_differences_exits_with_success() {
    let app = with_events().await;
    let same = write(&app, "guard.wasm", &hiding("/lead/email", "1.0.1"));
    let (code, text, _) = replay(&app, &same, &[]);
    assert!(code == Some(0) && text.contains(": 0 would differ"), "{text}");
    let (code, text, _) = replay(&app, &same, &["--against", "none"]);
    assert!(code == Some(1) && text.contains("VIEWER would no longer see /lead/email in 3 events"), "{text}");
    let (code, text, _) = replay(&app, &same, &["--since", "0s"]);
    assert!(code == Some(0) && text.contains("there are no events of the last 0s"), "{text}");
    // Another plugin in addition to the existing one.
    let more = Guest::new("more").roles(["SALES"]).hides("SALES", ["/lead/phone"]);
    let more = more.filter([crate::guest::everyone("SALES", [crate::guest::remove("/lead/phone")])]);
    let (code, text, _) = replay(&app, write(&app, "more.wasm", &more), &[]);
    assert!(
        code == Some(1) && text.contains("SALES would no longer see /lead/phone") && !text.contains("email"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_replay_is_refused_with_the_reason() {
    let app = with_events().await;
    let guard = hiding("/lead/email", "1.0.0");
    let refused = |file: &str, arguments: &[&str], why: &str| {
        let (code, text, errors) = replay(&app, file, arguments);
        assert_eq!((code, text.as_str()), (Some(2), ""), "{errors}");
        assert!(errors.contains(why), "{errors}");
    };
    refused(&write(&app, "other.wasm", &guard), &[], "plugin other: the plugin calls itself \"guard\"");
    let file = write(&app, "guard.wasm", &guard);
    refused(&file, &["--since", "soon"], "--since");
    fs::write(app.dir.path().join("candidates/guard.toml"), "enabeld = true").expect("written");
    refused(&file, &[], "guard.toml: unknown key enabeld: did you mean enabled?");
    refused("no-such.wasm", &[], "cannot read no-such.wasm");
    refused("No Such.wasm", &[], "is not a plugin name");
}

//! Parked effects: their reasons, their retry, and the rights to see them.

use leadwire::domain::{counter::Seq, role::Role};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    effects::execution::{
        GRANT, activities, follower, id, note, parked, put, settled, start, until_stats, wants, with_lead,
    },
    guest::{Guest, Ruling, Wants, outcome},
    plugin::explain::leadwire,
    support::TestApp,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_an_answer_is_parked_and_blocks_no_other_plugin() {
    let failing = Guest::new("broken").events([]).fields(["/context/lead/id"]);
    let failing = failing.following(wants(["lead:created"]), "", Err("not today".into()));
    let app = start(&[("broken", failing), ("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    settled(&app, "helper").await;
    assert_eq!(activities(&app, &lead).await.len(), 1);
    let stats = until_stats(&app, "broken", |stats| stats.parked == 1).await;
    assert_eq!(stats.pending, 0);

    let item = parked(&app, "broken").await.remove(0);
    assert_eq!((&item["name"], &item["index"], &item["input"]["seq"]), (&json!("after"), &Value::Null, &json!(1)));
    assert!(item["reason"].as_str().is_some_and(|reason| reason.contains("not today")), "{item}");

    put(&app, "broken.wasm", follower("broken", ["lead:created"], vec![note()]).build()).await;
    let retried = app.client(Role::Admin).post("/api/plugins/broken/effects/retry", json!({})).await;
    assert_eq!(retried.expect(StatusCode::OK), json!({"retried": 1}));
    until_stats(&app, "broken", |stats| stats.parked == 0 && stats.pending == 0).await;
    assert_eq!(activities(&app, &lead).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_effect_is_parked_at_once_and_later_effects_run() {
    let nobody = with_lead("\"userId\":\"00000000-0000-0000-0000-000000000000\",\"kind\":\"hello\"");
    let missing = "{\"leadId\":\"00000000-0000-0000-0000-000000000000\",\"type\":\"NOTE\"}";
    let effects = vec![("notify".into(), nobody), ("activity:create".into(), missing.into()), note()];
    let app = start(&[("helper", follower("helper", ["lead:created"], effects))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    assert_eq!(settled(&app, "helper").await.parked, 2);
    assert_eq!(activities(&app, &lead).await.len(), 1);

    let (admin, items) = (app.client(Role::Admin), parked(&app, "helper").await);
    assert_eq!(items[0]["reason"], "userId must be an active user");
    assert_eq!((&items[1]["reason"], &items[1]["attempts"]), (&json!("lead not found"), &json!(1)));
    assert_eq!(items[1]["chain"], json!(["helper"]));
    let of = |item: &Value| format!("/api/plugins/helper/effects/{}", id(item));
    let retried = admin.post(&format!("{}/retry", of(&items[0])), json!({})).await.expect(StatusCode::OK);
    assert_eq!((&retried["state"], &retried["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(settled(&app, "helper").await.parked, 2, "it is parked again");
    assert_eq!(admin.delete(&of(&items[0])).await.status, StatusCode::NO_CONTENT);
    admin.delete(&of(&items[0])).await.refused(404, "effect_not_found");
    admin.post(&format!("{}/retry", of(&items[0])), json!({})).await.refused(404, "effect_not_found");
    let one = admin.walk("/api/plugins/helper/effects?limit=1").await;
    assert_eq!(one.iter().map(id).collect::<Vec<_>>(), [id(&items[1])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plugin_list_shows_parked_effects() {
    let nobody = with_lead("\"userId\":\"00000000-0000-0000-0000-000000000000\",\"kind\":\"hello\"");
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![("notify".into(), nobody)]))]).await;
    app.lead(json!({"title": "Roof"})).await;
    settled(&app, "helper").await;
    let list = |flags: &[&str]| {
        let arguments = [&["plugin", "list", "--plugins", "plugins"][..], flags].concat();
        let (code, stdout, stderr) = leadwire(&app, &arguments);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let printed: Value = serde_json::from_str(&list(&["--json"])).expect("JSON");
    let listed = app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
    assert_eq!(printed["items"][0]["effects"], listed["items"][0]["effects"]);
    assert_eq!(printed["items"][0]["effects"]["parked"], 1);
    assert!(list(&[]).contains("1 parked; GET /api/plugins/helper/effects?state=parked shows why"), "{}", list(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_see_and_retry_effects_and_only_of_followers() {
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![]))]).await;
    let (admin, manager, path) = (app.client(Role::Admin), app.client(Role::Manager), "/api/plugins/helper/effects");
    manager.get(path).await.refused(403, "forbidden");
    manager.post(&format!("{path}/retry"), json!({})).await.refused(403, "forbidden");
    manager.post(&format!("{path}/1/retry"), json!({})).await.refused(403, "forbidden");
    manager.delete(&format!("{path}/1")).await.refused(403, "forbidden");
    admin.get(&format!("{path}?state=done")).await.refused(400, "invalid_query");
    admin.get("/api/plugins/nobody/effects").await.refused(404, "plugin_not_found");
    admin.delete(&format!("{path}/x")).await.refused(404, "effect_not_found");
    let listed = admin.get("/api/plugins").await.expect(StatusCode::OK);
    let open = json!({"seq": 0, "lag": 0, "pending": 0, "parked": 0, "reminders": 0, "stopped": 0});
    assert_eq!(listed["items"][0]["effects"], open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_failure_is_retried_before_it_is_parked() {
    let silent = Guest::new("guard").ruling(["activity:create"], "", Err("not now".into()));
    let app = start(&[("guard", silent), ("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    until_stats(&app, "helper", |stats| stats.parked == 1).await;
    let item = parked(&app, "helper").await.remove(0);
    assert_eq!((&item["attempts"], &item["name"]), (&json!(2), &json!("activity:create")));
    assert_eq!(activities(&app, &lead).await, Vec::<Value>::new());

    put(&app, "guard.wasm", Guest::new("guard").before(["activity:create"], Ruling::Accept).build()).await;
    let path = format!("/api/plugins/helper/effects/{}/retry", id(&item));
    app.client(Role::Admin).post(&path, json!({})).await.expect(StatusCode::OK);
    settled(&app, "helper").await;
    assert_eq!(activities(&app, &lead).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pruned_events_leave_a_parked_gap_entry() {
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    put(&app, "helper.toml", format!("enabled = false\n{GRANT}")).await;
    for title in ["Roof", "Barn"] {
        app.lead(json!({"title": title})).await;
    }
    let shed = app.lead(json!({"title": "Shed"})).await;
    prune(&app, 2).await;
    put(&app, "helper.toml", GRANT).await;
    assert_eq!(settled(&app, "helper").await.parked, 1);
    assert_eq!(activities(&app, &shed).await.len(), 1);
    let item = parked(&app, "helper").await.remove(0);
    assert_eq!((&item["name"], &item["input"]), (&json!("gap"), &json!({"from": 1, "to": 2})));
    let path = format!("/api/plugins/helper/effects/{}", id(&item));
    app.client(Role::Admin).post(&format!("{path}/retry"), json!({})).await.refused(422, "invalid");
    assert_eq!(app.client(Role::Admin).delete(&path).await.status, StatusCode::NO_CONTENT);
}

/// Prunes the first events of the log.
async fn prune(app: &TestApp, up_to: u64) {
    let mut tx = app.app().store().write().await.expect("a transaction");
    assert_eq!(tx.prune_events(Seq(up_to + 1), u32::MAX).await.expect("prunes"), up_to);
    tx.commit().await.expect("commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_whose_grant_was_revoked_is_parked() {
    let refuse = Ruling::Refuse { code: "not_today".into(), message: "No".into(), field: None };
    let guard = Guest::new("guard").before(["activity:create"], refuse);
    let app = start(&[("follower", follower("follower", ["lead:created"], vec![note()])), ("guard", guard)]).await;
    app.lead(json!({"title": "Roof"})).await;
    until_stats(&app, "follower", |stats| stats.parked == 1).await;
    assert!(parked(&app, "follower").await[0]["reason"].as_str().expect("a reason").contains("No"));

    // The guard and the grant are gone, and a version that requests less is installed.
    put(&app, "guard.toml", "enabled = false").await;
    let lesser = Guest::new("follower").after(Wants::new(["lead:created"], ["notify"]), outcome([]));
    put(&app, "follower.wasm", lesser.build()).await;
    put(&app, "follower.toml", "grant.effects = [\"notify\"]").await;
    let retry = || async {
        let reply = app.client(Role::Admin).post("/api/plugins/follower/effects/retry", json!({})).await;
        reply.expect(StatusCode::OK);
        settled(&app, "follower").await
    };
    assert_eq!(retry().await.parked, 1);
    let reason = parked(&app, "follower").await[0]["reason"].clone();
    assert_eq!(reason, "activity:create is no longer granted, or follower no longer requests it");

    put(&app, "follower.toml", GRANT).await;
    put(&app, "follower.wasm", follower("follower", ["lead:created"], vec![note()]).build()).await;
    assert_eq!(retry().await.parked, 0);
}

//! `/api/leads`, for every role.

use std::collections::BTreeMap;

use leadwire::domain::{
    counter::Seq,
    lead::LeadStatus,
    policy::{Scope, Visibility},
    role::Role,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Client, Reply, TestApp, send};

fn id(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

fn path(lead: &Value) -> String {
    format!("/api/leads/{}", id(lead))
}

async fn patch_if(client: &Client, lead: &Value, if_match: &str, patch: Value) -> Reply {
    send(client.request(Method::PATCH, &path(lead)).header("if-match", if_match).json(&patch)).await
}

async fn post_with_key(client: &Client, path: &str, key: &str, body: Value) -> Reply {
    send(client.request(Method::POST, path).header("idempotency-key", key).json(&body)).await
}

async fn assign(app: &TestApp, lead: &Value, owner: Value) -> Value {
    app.client(Role::Admin)
        .post(&format!("{}/assign", path(lead)), json!({"ownerId": owner}))
        .await
        .expect(StatusCode::OK)
}

async fn head(app: &TestApp) -> Seq {
    app.app().store().read().await.expect("reads").head().await.expect("reads")
}

/// The names of the events since `seq`, oldest first.
async fn events_since(app: &TestApp, seq: Seq) -> Vec<String> {
    let events = app.app().store().read().await.expect("reads").events_after(seq, 100).await.expect("reads");
    events.into_iter().map(|event| event.name).collect()
}

#[tokio::test]
async fn each_role_has_the_rights_of_the_contract() {
    let app = TestApp::start().await;
    let sales = app.user(Role::Sales).id.to_string();
    // Columns: ADMIN, MANAGER, SALES, VIEWER.
    for (row, client) in Role::ALL.map(|role| app.client(role)).iter().enumerate() {
        let role = Role::ALL[row];
        let may = |allowed: [bool; 4], status: u16| if allowed[row] { status } else { 403 };
        let (free, theirs) = (app.lead(json!({"title": "Free"})).await, app.lead(json!({"title": "Theirs"})).await);
        let own = app.lead(json!({"title": "Own"})).await;
        assign(&app, &theirs, json!(app.user(Role::Manager).id)).await;
        assign(&app, &own, json!(sales)).await;
        let me = app.user(role).id;
        let checks = [
            ("create", client.post("/api/leads", json!({"title": "New"})).await, may([true, true, true, false], 201)),
            ("list", client.get("/api/leads").await, 200),
            ("read", client.get(&path(&theirs)).await, 200),
            ("history", client.get(&format!("{}/history", path(&theirs))).await, 200),
            (
                "change free",
                client.patch(&path(&free), json!({"title": "F"})).await,
                may([true, true, true, false], 200),
            ),
            ("change own", client.patch(&path(&own), json!({"title": "O"})).await, may([true, true, true, false], 200)),
            (
                "change theirs",
                client.patch(&path(&theirs), json!({"title": "T"})).await,
                may([true, true, false, false], 200),
            ),
            (
                "give away",
                client.post(&format!("{}/assign", path(&free)), json!({"ownerId": app.user(Role::Manager).id})).await,
                may([true, true, false, false], 200),
            ),
            (
                "put back",
                client.post(&format!("{}/assign", path(&theirs)), json!({"ownerId": null})).await,
                may([true, true, false, false], 200),
            ),
            ("delete", client.delete(&path(&own)).await, may([true, true, false, false], 204)),
        ];
        for (what, reply, status) in checks {
            assert_eq!(reply.status.as_u16(), status, "{role} {what}: {}", reply.body);
            if status == 403 {
                reply.refused(403, "forbidden");
            }
        }
        if role != Role::Viewer {
            let free = app.lead(json!({"title": "To take"})).await;
            let taken = client.post(&format!("{}/assign", path(&free)), json!({"ownerId": me})).await;
            assert_eq!(taken.expect(StatusCode::OK)["owner"]["id"], me.to_string());
        }
    }
}

#[tokio::test]
async fn each_role_has_the_restore_rights_of_the_contract() {
    let app = TestApp::start().await;
    let (admin, lead) = (app.client(Role::Admin), app.lead(json!({"title": "Roof"})).await);
    for role in Role::ALL {
        admin.delete(&path(&lead)).await.expect(StatusCode::NO_CONTENT);
        for reader in Role::ALL {
            app.client(reader).get(&path(&lead)).await.refused(404, "lead_not_found");
        }
        let before = head(&app).await;
        let reply = send(app.client(role).request(Method::POST, &format!("{}/restore", path(&lead)))).await;
        if matches!(role, Role::Admin | Role::Manager) {
            assert_eq!(reply.expect(StatusCode::OK)["title"], "Roof");
            assert_eq!(events_since(&app, before).await, ["lead:created"]);
        } else {
            reply.refused(403, "forbidden");
            assert_eq!(head(&app).await, before);
            send(admin.request(Method::POST, &format!("{}/restore", path(&lead)))).await.expect(StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_new_lead_has_a_location_an_etag_and_all_contract_fields() {
    let app = TestApp::start().await;
    let reply = app.client(Role::Sales).post("/api/leads", json!({"title": "Roof"})).await;
    assert_eq!(reply.header("location"), path(&reply.body));
    assert_eq!(reply.header("etag"), "\"1\"");
    let lead = reply.expect(StatusCode::CREATED);
    let members: Vec<_> = lead.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = vec![
        "id",
        "title",
        "status",
        "owner",
        "contactName",
        "company",
        "email",
        "phone",
        "source",
        "valueCents",
        "currency",
        "description",
        "custom",
        "createdBy",
        "lastActivityAt",
        "version",
        "rev",
        "createdAt",
        "updatedAt",
    ];
    let mut found = members.clone();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(lead["owner"]["email"], "sales@example.com", "a sales user owns what they make");
    let read = app.client(Role::Viewer).get(&path(&lead)).await;
    assert_eq!(read.header("etag"), "\"1\"");
    assert_eq!(read.expect(StatusCode::OK), lead);
    assert_eq!(app.lead(json!({"title": "Roof"})).await["owner"], Value::Null);
}

#[tokio::test]
async fn invalid_lead_fields_are_named() {
    let app = TestApp::start().await;
    let client = app.client(Role::Manager);
    let codes = |problem: Value| -> BTreeMap<String, String> {
        let errors = problem["errors"].as_array().expect("errors").clone();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        errors.iter().map(|error| (text(&error["field"]), text(&error["code"]))).collect()
    };
    let body = json!({"status": "OPEN", "ownerId": app.user(Role::Sales).id, "colour": "red", "valueCents": "12"});
    let found = codes(client.post("/api/leads", body).await.refused(422, "invalid"));
    let expected = [
        ("colour", "unknown_field"),
        ("ownerId", "read_only"),
        ("status", "unknown_value"),
        ("title", "required"),
        ("valueCents", "wrong_type"),
    ];
    assert_eq!(found, expected.map(|(field, code)| (field.to_owned(), code.to_owned())).into());

    let lead = app.lead(json!({"title": "Roof"})).await;
    let found = codes(client.patch(&path(&lead), json!({"title": null, "id": 1})).await.refused(422, "invalid"));
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["id", "title"]);
    let assign = format!("{}/assign", path(&lead));
    for body in [
        json!({}),
        json!({"ownerId": "nobody"}),
        json!({"ownerId": uuid::Uuid::nil()}),
        json!({"ownerId": null, "x": 1}),
    ] {
        client.post(&assign, body).await.refused(422, "invalid");
    }
}

#[tokio::test]
async fn an_unknown_lead_returns_404() {
    let app = TestApp::start().await;
    let client = app.client(Role::Admin);
    for id in [uuid::Uuid::nil().to_string(), "7".into(), "%00".into(), "x".repeat(2000)] {
        let path = format!("/api/leads/{id}");
        client.get(&path).await.refused(404, "lead_not_found");
        client.patch(&path, json!({"title": "Roof"})).await.refused(404, "lead_not_found");
        client.delete(&path).await.refused(404, "lead_not_found");
        client.post(&format!("{path}/restore"), json!({})).await.refused(404, "lead_not_found");
        client.post(&format!("{path}/assign"), json!({"ownerId": null})).await.refused(404, "lead_not_found");
        client.get(&format!("{path}/activities")).await.refused(404, "lead_not_found");
        client.get(&format!("{path}/history")).await.refused(404, "lead_not_found");
    }
}

#[tokio::test]
async fn a_patch_merges_once_and_bumps_the_version() {
    let app = TestApp::start().await;
    let client = app.client(Role::Manager);
    let lead = app.lead(json!({"title": "Roof", "email": "a@b.example", "custom": {"a": 1, "b": 2}})).await;
    let before = head(&app).await;
    let reply = client.patch(&path(&lead), json!({"email": null, "custom": {"b": null}})).await;
    assert_eq!(reply.header("etag"), "\"2\"");
    let after = reply.expect(StatusCode::OK);
    assert_eq!((&after["email"], &after["custom"], &after["version"]), (&Value::Null, &json!({"a": 1}), &json!(2)));
    assert_eq!(events_since(&app, before).await, ["lead:updated"]);

    let again = client.patch(&path(&lead), json!({"email": null, "title": "Roof"})).await;
    assert_eq!(again.expect(StatusCode::OK), after, "a patch that changes nothing writes nothing");
    assert_eq!(head(&app).await, before.next());
    let kind = ("content-type", "application/merge-patch+json");
    let merge = client.request(Method::PATCH, &path(&lead)).header(kind.0, kind.1).body(r#"{"phone": "1"}"#);
    assert_eq!(send(merge).await.expect(StatusCode::OK)["phone"], "1");
}

#[tokio::test]
async fn if_match_prevents_lost_updates() {
    let app = TestApp::start().await;
    let client = app.client(Role::Manager);
    let lead = app.lead(json!({"title": "Roof"})).await;
    patch_if(&client, &lead, "\"1\"", json!({"title": "Two"})).await.expect(StatusCode::OK);
    for stale in ["\"1\"", "W/\"2\"", "\"abc\"", "\"1\", \"7\"", "W/\"2\", \"7\""] {
        let problem = patch_if(&client, &lead, stale, json!({"title": "Three"})).await.refused(412, "version_conflict");
        assert_eq!((&problem["current"]["title"], &problem["current"]["version"]), (&json!("Two"), &json!(2)));
    }
    patch_if(&client, &lead, "2", json!({"title": "Three"})).await.refused(400, "malformed");
    patch_if(&client, &lead, "\"1\", \"2\"", json!({"title": "Three"})).await.expect(StatusCode::OK);
    patch_if(&client, &lead, "*", json!({"title": "Four"})).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn an_assignment_emits_only_lead_assigned_its_activity_and_notification() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let before = head(&app).await;
    let assigned = assign(&app, &lead, json!(app.user(Role::Sales).id)).await;
    assert_eq!(assigned["owner"]["name"], "sales");
    let mut events = events_since(&app, before).await;
    events.sort();
    assert_eq!(events, ["activity:created", "lead:assigned", "notification"]);
    assert_eq!(assign(&app, &lead, Value::Null).await["owner"], Value::Null);
}

#[tokio::test]
async fn the_history_lists_actor_and_change() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    app.client(Role::Manager)
        .patch(&path(&lead), json!({"title": "Attic", "status": "WON"}))
        .await
        .expect(StatusCode::OK);
    assign(&app, &lead, json!(app.user(Role::Sales).id)).await;
    for role in Role::ALL {
        let entries = app.client(role).walk(&format!("{}/history?limit=1", path(&lead))).await;
        let title = entries
            .iter()
            .find(|entry| entry["field"] == "title" && entry["from"] == "Roof")
            .expect("the title changed");
        assert_eq!((&title["to"], &title["changedBy"]["email"]), (&json!("Attic"), &json!("manager@example.com")));
        assert!(entries.iter().any(|entry| entry["field"] == "status" && entry["to"] == "WON"));
        let times: Vec<_> = entries.iter().map(|entry| entry["changedAt"].as_str().expect("a time")).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older), "newest first: {times:?}");
    }
}

#[tokio::test]
async fn lists_are_filtered_and_sorted() {
    let app = TestApp::start().await;
    for (title, status, source, value) in
        [("Ash", "NEW", "web", 3), ("beech", "WON", "fair", 1), ("Cedar", "LOST", "web", 2)]
    {
        let body = json!({"title": title, "status": status, "source": source, "valueCents": value, "company": format!("{title} Ltd")});
        app.lead(body).await;
    }
    let mine = app
        .client(Role::Sales)
        .post("/api/leads", json!({"title": "Mine", "status": "WON"}))
        .await
        .expect(StatusCode::CREATED);
    let client = app.client(Role::Viewer);
    let owner = app.user(Role::Sales).id;
    let since = mine["createdAt"].as_str().expect("a time").replace('+', "%2B");
    let cases = [
        ("sort=title".to_owned(), vec!["Ash", "beech", "Cedar", "Mine"]),
        ("sort=-title".into(), vec!["Mine", "Cedar", "beech", "Ash"]),
        ("sort=createdAt".into(), vec!["Ash", "beech", "Cedar", "Mine"]),
        (String::new(), vec!["Mine", "Cedar", "beech", "Ash"]),
        ("status=WON&sort=title".into(), vec!["beech", "Mine"]),
        ("status=WON&status=LOST&sort=title".into(), vec!["beech", "Cedar", "Mine"]),
        ("source=web&sort=-valueCents".into(), vec!["Ash", "Cedar"]),
        (format!("ownerId={owner}"), vec!["Mine"]),
        ("ownerId=none&sort=title".into(), vec!["Ash", "beech", "Cedar"]),
        ("q=BEECH".into(), vec!["beech"]),
        ("q=%25".into(), vec![]),
        ("q=_".into(), vec![]),
        ("q=ltd&sort=title".into(), vec!["Ash", "beech", "Cedar"]),
        (format!("createdAfter={since}"), vec![]),
        ("createdAfter=2020-01-01T00:00:00Z&limit=200&sort=title".into(), vec!["Ash", "beech", "Cedar", "Mine"]),
        (
            "status=&ownerId=&source=&q=&createdAfter=&sort=-updatedAt&limit=50&cursor=".into(),
            vec!["Mine", "Cedar", "beech", "Ash"],
        ),
    ];
    for (query, titles) in cases {
        let page = client.get(&format!("/api/leads?{query}")).await.expect(StatusCode::OK);
        let found: Vec<_> = page["items"].as_array().expect("items").iter().map(|lead| &lead["title"]).collect();
        assert_eq!(found, titles, "{query}");
        assert_eq!(page["nextCursor"], Value::Null);
    }
}

#[tokio::test]
async fn an_invalid_query_is_refused_by_parameter() {
    let app = TestApp::start().await;
    for _ in 0..2 {
        app.lead(json!({"title": "Roof"})).await;
    }
    let client = app.client(Role::Viewer);
    let page = client.get("/api/leads?limit=1&sort=title").await.expect(StatusCode::OK);
    let cursor = page["nextCursor"].as_str().expect("a cursor");
    let wrong = [
        ("colour=red".to_owned(), "colour"),
        ("limit=0".into(), "limit"),
        ("limit=201".into(), "limit"),
        ("limit=-1".into(), "limit"),
        ("limit=many".into(), "limit"),
        ("limit=1&limit=2".into(), "limit"),
        ("status=OPEN".into(), "status"),
        ("ownerId=me".into(), "ownerId"),
        ("createdAfter=yesterday".into(), "createdAfter"),
        ("sort=colour".into(), "sort"),
        ("sort=--title".into(), "sort"),
        (format!("q={}", "x".repeat(201)), "q"),
        ("cursor=nonsense".into(), "cursor"),
        ("cursor=%00".into(), "cursor"),
        (format!("cursor={cursor}&sort=-title"), "cursor"),
        (format!("cursor={cursor}"), "cursor"),
        (format!("cursor={}", "A".repeat(4000)), "cursor"),
    ];
    for (query, name) in wrong {
        let problem = client.get(&format!("/api/leads?{query}")).await.refused(400, "invalid_query");
        assert!(problem["detail"].as_str().expect("a text").contains(name), "{query}: {problem}");
    }
}

#[tokio::test]
async fn unchanged_leads_appear_exactly_once_while_paging() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let mut leads = Vec::new();
    for number in 0..60 {
        // Titles and values repeat, so that the order needs its tie-break.
        let body = json!({"title": format!("Lead {}", number % 7), "valueCents": number % 5, "company": (number % 3 == 0).then_some("Acme")});
        leads.push(app.lead(body).await);
    }
    let (moving, still) = leads.split_at(20);
    for sort in ["-updatedAt", "updatedAt", "title", "-valueCents", "company", "lastActivityAt", "-createdAt", "status"]
    {
        let walk = async { app.client(Role::Viewer).walk(&format!("/api/leads?limit=7&sort={sort}")).await };
        let disturb = async {
            for (number, lead) in moving.iter().enumerate() {
                let (title, value) = (format!("{sort} {}", number % 9), number % 4 + 100);
                admin.patch(&path(lead), json!({"title": title, "valueCents": value})).await.expect(StatusCode::OK);
                admin
                    .post("/api/leads", json!({"title": format!("Lead {}", number % 7)}))
                    .await
                    .expect(StatusCode::CREATED);
            }
        };
        let (found, ()) = tokio::join!(walk, disturb);
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for lead in &found {
            *seen.entry(id(lead)).or_default() += 1;
        }
        for lead in still {
            assert_eq!(seen.get(id(lead)), Some(&1), "{sort}: {}", lead["title"]);
        }
    }
}

#[tokio::test]
async fn a_request_with_an_idempotency_key_runs_once() {
    let app = TestApp::start().await;
    let client = app.client(Role::Sales);
    let (body, before) = (json!({"title": "Roof"}), head(&app).await);
    let (one, two) = tokio::join!(
        post_with_key(&client, "/api/leads", "key-1", body.clone()),
        post_with_key(&client, "/api/leads", "key-1", body.clone())
    );
    assert_eq!(one.header("location"), two.header("location"));
    let lead = one.expect(StatusCode::CREATED);
    assert_eq!(two.expect(StatusCode::CREATED), lead);
    assert_eq!(head(&app).await, before.next());
    post_with_key(&client, "/api/leads", "key-1", json!({"title": "Attic"}))
        .await
        .refused(422, "idempotency_key_reused");

    let other = post_with_key(&app.client(Role::Manager), "/api/leads", "key-1", body.clone()).await;
    assert_ne!(id(&other.expect(StatusCode::CREATED)), id(&lead), "another user's keys are their own");
    for bad in ["", "with space", &"x".repeat(256)] {
        post_with_key(&client, "/api/leads", bad, body.clone()).await.refused(422, "invalid");
    }
    post_with_key(&client, "/api/leads", &"x".repeat(255), body).await.expect(StatusCode::CREATED);

    let manager = app.client(Role::Manager);
    for (what, body) in
        [("assign", json!({"ownerId": app.user(Role::Sales).id})), ("activities", json!({"type": "NOTE"}))]
    {
        let path = format!("{}/{what}", path(&lead));
        let first = post_with_key(&manager, &path, what, body.clone()).await;
        let again = post_with_key(&manager, &path, what, body).await;
        assert!(first.status.is_success(), "{}", first.body);
        assert_eq!((first.status, first.body), (again.status, again.body));
    }
}

#[tokio::test]
async fn a_lead_hidden_by_visibility_returns_404() {
    let app = TestApp::with(|config| {
        config.visibility = Visibility { sales: Scope::OwnAndUnassigned, viewer: Scope::Own, ..Visibility::default() };
    })
    .await;
    let (free, theirs) = (app.lead(json!({"title": "Free"})).await, app.lead(json!({"title": "Theirs"})).await);
    assign(&app, &theirs, json!(app.user(Role::Manager).id)).await;
    let titles = async |role: Role| {
        let leads = app.client(role).walk("/api/leads?sort=title").await;
        leads.iter().map(|lead| lead["title"].as_str().expect("a title").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(titles(Role::Manager).await, ["Free", "Theirs"]);
    assert_eq!(titles(Role::Sales).await, ["Free"]);
    assert!(titles(Role::Viewer).await.is_empty());
    let sales = app.client(Role::Sales);
    sales.get(&path(&theirs)).await.refused(404, "lead_not_found");
    sales.patch(&path(&theirs), json!({"title": "Mine"})).await.refused(404, "lead_not_found");
    sales.delete(&path(&theirs)).await.refused(404, "lead_not_found");
    sales.get(&format!("{}/history", path(&theirs))).await.refused(404, "lead_not_found");
    sales.get(&format!("{}/activities", path(&theirs))).await.refused(404, "lead_not_found");
    sales.post(&format!("{}/activities", path(&theirs)), json!({"type": "NOTE"})).await.refused(404, "lead_not_found");
    sales.get(&path(&free)).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn if_match_applies_to_every_write_of_a_lead() {
    let app = TestApp::start().await;
    let (admin, lead) = (app.client(Role::Admin), app.lead(json!({"title": "Roof"})).await);
    admin.patch(&path(&lead), json!({"title": "New roof"})).await.expect(StatusCode::OK);
    let (assigning, restoring) = (format!("{}/assign", path(&lead)), format!("{}/restore", path(&lead)));
    let owner = json!({"ownerId": app.user(Role::Sales).id});
    let call = async |method: Method, path: &str, if_match: &str, body: Value| {
        send(admin.request(method, path).header("if-match", if_match).json(&body)).await
    };

    for outdated in ["\"1\"", "\"1\", \"7\"", "W/\"2\"", "\"x\""] {
        for (method, path, body) in
            [(Method::POST, &assigning, owner.clone()), (Method::DELETE, &path(&lead), json!({}))]
        {
            let refused = call(method, path, outdated, body).await.refused(412, "version_conflict");
            assert_eq!((&refused["current"]["title"], &refused["current"]["version"]), (&json!("New roof"), &json!(2)));
        }
    }
    call(Method::POST, &assigning, "3", owner.clone()).await.refused(400, "malformed");
    let assigned = call(Method::POST, &assigning, "\"2\"", owner).await.expect(StatusCode::OK);
    assert_eq!(assigned["version"], 3);
    call(Method::DELETE, &path(&lead), "\"9\", \"3\"", json!({})).await.expect(StatusCode::NO_CONTENT);

    for outdated in ["\"2\"", "\"1\", \"2\""] {
        let refused = call(Method::POST, &restoring, outdated, json!({})).await.refused(412, "version_conflict");
        assert_eq!(refused["current"]["version"], 3);
        admin.get(&path(&lead)).await.refused(404, "lead_not_found");
    }
    let restored = call(Method::POST, &restoring, "\"2\", \"3\"", json!({})).await.expect(StatusCode::OK);
    assert_eq!(restored["version"], 4);
    // It already exists, with another version.
    call(Method::POST, &restoring, "\"3\"", json!({})).await.refused(412, "version_conflict");
    call(Method::POST, &restoring, "*", json!({})).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_lead_keeps_the_id_that_it_has_in_another_system() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let lead = app.lead(json!({"title": "Roof", "externalId": "hub-7"})).await;
    assert_eq!(lead["externalId"], "hub-7");
    assert_eq!(app.lead(json!({"title": "Door"})).await.get("externalId"), None, "left out where there is none");
    let changed = admin.patch(&path(&lead), json!({"externalId": "hub-8"})).await.expect(StatusCode::OK);
    assert_eq!(changed["externalId"], "hub-8");
    let removed = admin.patch(&path(&lead), json!({"externalId": null})).await.expect(StatusCode::OK);
    assert_eq!(removed.get("externalId"), None);
    let history = admin.walk(&format!("{}/history", path(&lead))).await;
    let values: Vec<_> = history.iter().map(|entry| (&entry["from"], &entry["to"])).collect();
    assert_eq!(values, [(&json!("hub-8"), &Value::Null), (&json!("hub-7"), &json!("hub-8"))]);
}

#[tokio::test]
async fn sorting_by_status_follows_the_pipeline() {
    let app = TestApp::start().await;
    for status in LeadStatus::NAMES.iter().rev() {
        app.lead(json!({"title": status, "status": status})).await;
    }
    let sorted = async |query: &str| -> Vec<String> {
        let leads = app.client(Role::Viewer).walk(&format!("/api/leads?limit=3&sort={query}")).await;
        leads.iter().map(|lead| lead["status"].as_str().expect("a status").to_owned()).collect()
    };
    assert_eq!(sorted("status").await, LeadStatus::NAMES);
    let mut backwards = LeadStatus::NAMES;
    backwards.reverse();
    assert_eq!(sorted("-status").await, backwards);
}

#[tokio::test]
async fn lists_filter_by_dates_and_several_statuses() {
    let app = TestApp::start().await;
    for (title, status) in [("a", "NEW"), ("b", "WON"), ("c", "LOST")] {
        app.lead(json!({"title": title, "status": status})).await;
    }
    let viewer = app.client(Role::Viewer);
    let titles = async |query: &str| {
        let leads = viewer.walk(&format!("/api/leads?sort=title&{query}")).await;
        leads.iter().map(|lead| lead["title"].as_str().expect("a title").to_owned()).collect::<String>()
    };
    assert_eq!(titles("status=NEW,WON").await, "ab");
    assert_eq!(titles("status=NEW,WON&status=LOST").await, "abc");
    viewer.get("/api/leads?status=NEW,OPEN").await.refused(400, "invalid_query");
    assert_eq!(titles("createdAfter=2020-01-01").await, "abc");
    assert_eq!(titles("createdBefore=2020-01-01").await, "");
    assert_eq!(titles("createdAfter=2020-01-01&createdBefore=9999-12-31").await, "abc");
    assert_eq!(titles("createdBefore=2020-01-01T00:00:00%2B02:00").await, "");
    let lead = viewer.walk("/api/leads?q=a&sort=title").await.remove(0);
    let at = lead["createdAt"].as_str().expect("a time");
    assert!(!titles(&format!("createdBefore={at}")).await.contains('a'), "not the moment itself");
    assert!(!titles(&format!("createdAfter={at}")).await.contains('a'), "not the moment itself");
    for wrong in ["2020-13-01", "2020-1-1", "20200101", "1969-12-31", "10000-01-01", "2020-01-01T"] {
        for parameter in ["createdAfter", "createdBefore"] {
            viewer.get(&format!("/api/leads?{parameter}={wrong}")).await.refused(400, "invalid_query");
        }
    }
}

#[tokio::test]
async fn numbers_are_stored_exactly_or_refused_by_path() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let post = async |body: String| {
        let request = admin.request(Method::POST, "/api/leads").header("content-type", "application/json").body(body);
        request.send().await.expect("is answered")
    };
    let kept = r#"{"a":9007199254740993,"b":18446744073709551615,"c":-9223372036854775808,"d":[0.1,1e3,2.50]}"#;
    let answer = post(format!(r#"{{"title":"Roof","custom":{kept}}}"#)).await;
    assert_eq!(answer.status(), 201);
    let lead: Value = answer.json().await.expect("a lead");
    let read = admin.request(Method::GET, &path(&lead)).send().await.expect("is answered").text().await.expect("text");
    for number in ["9007199254740993", "18446744073709551615", "-9223372036854775808", "0.1,1000.0,2.5"] {
        assert!(read.contains(number), "{number}: {read}");
    }
    for (number, field) in [
        (r#"{"x":18446744073709551616}"#, "custom.x"),
        (r#"{"x":{"y":[1,123456789012345678901234567890]}}"#, "custom.x.y.1"),
        (r#"{"x":0.12345678901234567890123}"#, "custom.x"),
    ] {
        let answer = post(format!(r#"{{"title":"Roof","custom":{number}}}"#)).await;
        assert_eq!(answer.status(), 422, "{number}");
        let problem: Value = answer.json().await.expect("a problem");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        assert_eq!(problem["errors"][0]["code"], "inexact_number", "{problem}");
    }
}

#[tokio::test]
async fn invisible_text_counts_as_empty() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    for blank in ["\u{200b}", " \u{2060}\u{feff} ", "\u{3164}", "\u{ad}", "\u{2800}"] {
        let refused = admin.post("/api/leads", json!({"title": blank})).await.refused(422, "invalid");
        assert_eq!(
            refused["errors"][0],
            json!({"field": "title", "code": "too_short", "message": "title must not be empty"})
        );
        assert_eq!(app.lead(json!({"title": "Roof", "company": blank})).await["company"], Value::Null);
    }
    assert_eq!(app.lead(json!({"title": "👩\u{200d}👧"})).await["title"], "👩\u{200d}👧");
}

//! Hidden data does not leak: not through other parts of a payload, the amount of work, or answers.

use std::{fs, time::Duration};

use leadwire::domain::{counter::Seq, policy::Scope, role::Role};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    guest::{Audience, FIRST_ID, Guest, Outcome, Verdict, Wants, everyone, remove},
    plugin::withheld::start,
    socket_client::{SocketClient, Transport, until_true},
    support::TestApp,
};

async fn connect(app: &TestApp, role: Role) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(role)).await
}

fn path(lead: &Value) -> String {
    format!("/api/leads/{}", lead["id"].as_str().expect("an id"))
}

/// Number of plugin calls so far.
fn calls(app: &TestApp) -> u64 {
    app.app().plugins().status().iter().map(|status| status.counts.calls).sum()
}

/// A filter that hides everything from viewers and does not restrict other roles.
fn blind() -> Guest {
    let nobody = Verdict { role: "VIEWER", audience: Audience::Nobody, edits: vec![] };
    Guest::new("blind").roles(["VIEWER"]).filter([nobody])
}

#[tokio::test]
async fn hidden_matches_do_not_change_the_work_of_a_page() {
    let app = start(&[("blind", blind())]).await;
    for number in 0..300 {
        let source = if number % 2 == 0 { "web" } else { "fair" };
        app.lead(json!({"title": format!("Roof {number}"), "source": source})).await;
    }
    let viewer = app.client(Role::Viewer);
    let mut work = Vec::new();
    for query in
        ["q=Roof", "q=Attic", "q=Roof%20299", "source=web", "source=none", "status=WON", "status=NEW", "limit=1"]
    {
        let before = calls(&app);
        let page = viewer.get(&format!("/api/leads?{query}")).await.expect(StatusCode::OK);
        assert_eq!((&page["items"], &page["nextCursor"]), (&json!([]), &Value::Null));
        work.push((query, calls(&app) - before));
    }
    assert!(work.iter().all(|(_, calls)| *calls == 300), "{work:?}");
}

#[tokio::test]
async fn a_page_ends_after_a_fixed_number_of_scanned_leads() {
    let dir_of = |app: &TestApp| app.dir.path().join("leadwire.db");
    let app = start(&[("blind", blind())]).await;
    let first = app.lead(json!({"title": "Roof"})).await;
    // Copied in the database, which is faster than as many requests.
    let copies = 5000;
    let database = format!("sqlite://{}", dir_of(&app).display());
    let pool = sqlx::SqlitePool::connect(&database).await.expect("opens");
    let columns = "title, status, contact_name, company, email, phone, source, value_cents, currency, description,
        custom, owner_id, created_by, last_activity_at, version, created_at, updated_at, deleted_at";
    let copy = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {copies})
         INSERT INTO leads (id, {columns}) SELECT printf('00000000-0000-7000-8000-%012d', i), {columns} FROM leads, n"
    );
    sqlx::query(sqlx::AssertSqlSafe(copy)).execute(&pool).await.expect("copied");

    // All copies match the first query, and none the second.
    let viewer = app.client(Role::Viewer);
    for query in ["Roof", "nothing", "Roof", "nothing"] {
        let begin = std::time::Instant::now();
        viewer.get(&format!("/api/leads?q={query}")).await.expect(StatusCode::OK);
        println!("a search for {query:?} among {copies} hidden leads took {:?}", begin.elapsed());
    }

    let before = calls(&app);
    let page = viewer.get("/api/leads?q=nothing&limit=1").await.expect(StatusCode::OK);
    assert_eq!(calls(&app) - before, 4096);
    let cursor = page["nextCursor"].as_str().expect("it goes on");
    let rest = viewer.get(&format!("/api/leads?q=nothing&limit=1&cursor={cursor}")).await.expect(StatusCode::OK);
    assert_eq!((&rest["nextCursor"], calls(&app) - before), (&Value::Null, copies + 1));
    assert_eq!(first["title"], "Roof");
}

#[tokio::test]
async fn actions_of_an_owner_do_not_disclose_hidden_owners() {
    let guest = Guest::new("guard").roles(["VIEWER"]).hides("VIEWER", ["/lead/owner", "/lead/createdBy"]);
    let guest = guest.filter([everyone("VIEWER", [remove("/lead/owner"), remove("/lead/createdBy")])]);
    let app = start(&[("guard", guest)]).await;
    let (mut viewer, mut admin) = (connect(&app, Role::Viewer).await, connect(&app, Role::Admin).await);
    let (sales, me) = (app.client(Role::Sales), app.user(Role::Sales));
    let lead = sales.post("/api/leads", json!({"title": "Roof"})).await.expect(StatusCode::CREATED);
    viewer.subscribe(lead["id"].as_str().expect("an id")).await;
    sales.patch(&path(&lead), json!({"title": "Barn", "status": "WON"})).await.expect(StatusCode::OK);
    let free = app.lead(json!({"title": "Free"})).await;
    sales.post(&format!("{}/assign", path(&free)), json!({"ownerId": me.id})).await.expect(StatusCode::OK);

    let names_me = |value: &Value| {
        let text = value.to_string();
        text.contains(&me.id.to_string()) || text.contains(&me.email)
    };
    for name in ["lead:created", "lead:updated", "activity:created", "lead:created", "lead:assigned"] {
        let event = viewer.event(name).await;
        assert!(!names_me(&event), "{name} {event}");
        if name != "activity:created" {
            assert_eq!(names_me(&admin.event(name).await), event["lead"]["title"] != "Free" || name == "lead:assigned");
        }
    }
    let viewer = app.client(Role::Viewer);
    for list in ["history", "activities"] {
        let page = viewer.get(&format!("{}/{list}", path(&lead))).await.expect(StatusCode::OK);
        assert!(!names_me(&page) && page["items"][0].is_object(), "{page}");
        assert!(names_me(&sales.get(&format!("{}/{list}", path(&lead))).await.expect(StatusCode::OK)));
    }
}

/// Names of the events that a socket gets up to a note; for an activity its type.
async fn names_up_to_a_note(socket: &mut SocketClient) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let (name, event) = socket.next().await;
        names.push(event["activity"]["type"].as_str().map_or(name, str::to_owned));
        if names.last().is_some_and(|name| name == "NOTE") {
            return names;
        }
    }
}

#[tokio::test]
async fn events_that_disclose_a_hidden_field_as_a_whole_are_not_sent_to_that_role() {
    let hidden = ["/lead/owner", "/lead/status"];
    let guard = |name, role| {
        let guest = Guest::new(name).roles([role]).hides(role, hidden);
        (name, guest.filter([everyone(role, hidden.map(remove))]))
    };
    let app = start(&[guard("v", "VIEWER"), guard("s", "SALES")]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let roles = [Role::Viewer, Role::Sales, Role::Manager];
    let mut sockets = Vec::new();
    for role in roles {
        let mut socket = connect(&app, role).await;
        socket.subscribe(lead["id"].as_str().expect("an id")).await;
        sockets.push(socket);
    }
    let (admin, path) = (app.client(Role::Admin), path(&lead));
    for owner in [Role::Sales, Role::Manager] {
        let owner = json!({"ownerId": app.user(owner).id});
        admin.post(&format!("{path}/assign"), owner).await.expect(StatusCode::OK);
    }
    admin.patch(&path, json!({"status": "WON"})).await.expect(StatusCode::OK);
    let note = json!({"type": "NOTE", "body": "That is all"});
    admin.post(&format!("{path}/activities"), note).await.expect(StatusCode::CREATED);

    // Only one of the three notifications is the manager's; the salesperson's two are withheld.
    let all = [
        "lead:assigned",
        "ASSIGNMENT",
        "lead:assigned",
        "ASSIGNMENT",
        "notification",
        "lead:updated",
        "STATUS_CHANGE",
        "NOTE",
    ];
    let rest = ["lead:assigned", "lead:assigned", "lead:updated", "NOTE"];
    for (role, socket) in roles.into_iter().zip(&mut sockets) {
        let expected = if role == Role::Manager { &all[..] } else { &rest };
        assert_eq!(names_up_to_a_note(socket).await, expected, "{role}");
        let page = app.client(role).get(&format!("{path}/activities")).await.expect(StatusCode::OK);
        let items = page["items"].as_array().expect("items").iter();
        let mut types: Vec<&str> = items.map(|activity| activity["type"].as_str().expect("a type")).collect();
        types.sort_unstable();
        let expected: &[&str] =
            if role == Role::Manager { &["ASSIGNMENT", "ASSIGNMENT", "NOTE", "STATUS_CHANGE"] } else { &["NOTE"] };
        assert_eq!((types.as_slice(), page.get("withheld")), (expected, None), "{role}");
    }
}

#[tokio::test]
async fn administrator_visibility_applies_to_explanations_and_effects() {
    let update = format!("{{\"leadId\":{FIRST_ID},\"patch\":{{\"colour\":\"red\"}}}}");
    let effects = vec![("lead:update".to_owned(), update)];
    let answer = Outcome { effects, ..Outcome::default() };
    let follower = Guest::new("notes").events([]).fields(["/context/lead/id"]);
    let follower = follower.after(Wants::new(["lead:created"], ["lead:update"]), answer);
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("notes.wasm"), follower.build()).expect("written");
        fs::write(dir.join("notes.toml"), "grant.effects = [\"lead:update\"]\n").expect("written");
        config.visibility.admin = Scope::OwnAndUnassigned;
    })
    .await;
    let admin = app.client(Role::Admin);
    let theirs = app.client(Role::Sales).post("/api/leads", json!({"title": "Theirs"})).await;
    let theirs = theirs.expect(StatusCode::CREATED);
    let free = app.client(Role::Manager).post("/api/leads", json!({"title": "Free"})).await.expect(StatusCode::CREATED);
    admin.get(&path(&theirs)).await.refused(404, "lead_not_found");
    admin.get(&path(&free)).await.expect(StatusCode::OK);

    let mut explained = Vec::new();
    for event in all_events(&app).await {
        let reply = admin.get(&format!("/api/events/{}/explain?role=SALES", event.seq)).await;
        match event.lead_id.map(|id| json!(id)) {
            Some(id) if id == theirs["id"] => drop(reply.refused(404, "event_not_found")),
            Some(_) => explained.push(reply.expect(StatusCode::OK)),
            None => drop(reply.expect(StatusCode::OK)),
        }
    }
    assert!(explained.iter().any(|explanation| explanation["payload"]["lead"]["title"] == "Free"), "{explained:?}");

    // `colour` is not a field of a lead: both effects are parked, and one is about a lead hidden from this administrator.
    loop {
        let stats = app.app().follower_stats().await.expect("stats");
        if stats["notes"].parked == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let parked = admin.get("/api/plugins/notes/effects?state=parked").await.expect(StatusCode::OK);
    let leads: Vec<&Value> =
        parked["items"].as_array().expect("items").iter().map(|it| &it["input"]["leadId"]).collect();
    assert_eq!(leads, [&free["id"]]);
    let id: u64 = parked["items"][0]["id"].as_str().expect("an id").parse().expect("a number");
    let other = [id - 1, id + 1].map(|id| format!("/api/plugins/notes/effects/{id}"));
    for path in other {
        admin.post(&format!("{path}/retry"), json!({})).await.refused(404, "effect_not_found");
        admin.delete(&path).await.refused(404, "effect_not_found");
    }

    // Explanations depend on the owner now and the owner then.
    let give = json!({"ownerId": app.user(Role::Sales).id});
    app.client(Role::Manager).post(&format!("{}/assign", path(&free)), give).await.expect(StatusCode::OK);
    for explanation in explained {
        let path = format!("/api/events/{}/explain?role=SALES", explanation["seq"]);
        admin.get(&path).await.refused(404, "event_not_found");
    }
}

async fn all_events(app: &TestApp) -> Vec<leadwire::domain::event::Event> {
    app.app().store().read().await.expect("a reader").events_after(Seq(0), 1000).await.expect("reads")
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribing_to_a_hidden_lead_is_answered_like_an_unknown_one() {
    let app = TestApp::with(|config| config.visibility.sales = Scope::Own).await;
    let theirs = app.lead(json!({"title": "Theirs"})).await;
    let mut sales = connect(&app, Role::Sales).await.hearing_viewers();
    let mut acks = Vec::new();
    for id in [theirs["id"].as_str().expect("an id"), "018f3f3e-0000-7000-8000-000000000001", "no id at all"] {
        for since in [json!(null), json!(0)] {
            let ack = sales.call("lead:subscribe", json!({"leadId": id, "since": since})).await;
            assert_eq!((&ack["ok"], &ack["leadId"]), (&json!(true), &json!(id)), "{ack}");
            assert_eq!(sales.event("lead:subscribed").await, json!({"leadId": id}));
            acks.push((ack["seq"].clone(), ack.as_object().map(serde_json::Map::len)));
        }
    }
    assert!(acks.iter().all(|ack| *ack == acks[0]), "{acks:?}");
    let note = json!({"type": "NOTE", "body": "psst"});
    app.client(Role::Admin)
        .post(&format!("{}/activities", path(&theirs)), note.clone())
        .await
        .expect(StatusCode::CREATED);
    sales.expect_silence().await;

    // Once the lead is theirs, the subscription applies.
    let give = json!({"ownerId": app.user(Role::Sales).id});
    app.client(Role::Admin).post(&format!("{}/assign", path(&theirs)), give).await.expect(StatusCode::OK);
    assert_eq!(sales.event("lead:assigned").await["lead"]["title"], "Theirs");
    app.client(Role::Admin).post(&format!("{}/activities", path(&theirs)), note).await.expect(StatusCode::CREATED);
    loop {
        let (name, event) = sales.next().await;
        if name == "activity:created" && event["activity"]["body"] == "psst" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authorize_runs_before_events_of_a_subscribed_lead_are_sent() {
    let door = Guest::new("door").authorize(None);
    let app = TestApp::with(|config| {
        config.visibility.sales = Scope::Own;
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("door.wasm"), door.build()).expect("written");
    })
    .await;
    let theirs = app.lead(json!({"title": "Theirs"})).await;
    let id = theirs["id"].as_str().expect("an id");
    let mut sales = connect(&app, Role::Sales).await;
    let asked = calls(&app);
    sales.subscribe(id).await;
    sales.subscribe("018f3f3e-0000-7000-8000-000000000001").await;
    assert_eq!(calls(&app), asked, "nobody is asked about what the user does not see");
    // `authorize` now denies, also for connected sockets.
    let shut = Guest::new("door").version("1.0.1").authorize(Some("not through here"));
    fs::write(app.dir.path().join("plugins/door.wasm"), shut.build()).expect("written");
    until_true("the door is shut", || {
        app.app().plugins().status().iter().any(|status| status.version.as_deref() == Some("1.0.1"))
    })
    .await;
    let give = json!({"ownerId": app.user(Role::Sales).id});
    app.client(Role::Admin).post(&format!("{}/assign", path(&theirs)), give).await.expect(StatusCode::OK);
    let mut events = Vec::new();
    while events.len() < 3 {
        let (name, event) = sales.next().await;
        assert_ne!(name, "activity:created", "{event}");
        if ["error", "lead:assigned", "notification"].contains(&name.as_str()) {
            events.push((name, event));
        }
    }
    let (_, error) = &events[0];
    assert_eq!(
        (&error["code"], &error["message"], &error["leadId"]),
        (&json!("forbidden"), &json!("not through here"), &json!(id))
    );
}

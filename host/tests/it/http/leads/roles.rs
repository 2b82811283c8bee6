//! Rights of each role on leads, and leads that visibility hides.

use leadwire::domain::{
    policy::{Scope, Visibility},
    role::Role,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    http::leads::{assign, events_since, head, path},
    support::{TestApp, send},
};

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

//! `/api/leads`, for every role.

mod fields;
mod lists;
mod roles;
mod writes;

use leadwire::domain::{counter::Seq, role::Role};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::TestApp;

fn id(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

fn path(lead: &Value) -> String {
    format!("/api/leads/{}", id(lead))
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

//! Acks: the answer to a subscription or a command.

use leadwire::domain::role::Role;
use serde_json::{Value, json};

use crate::{
    socket::commands::{address, connect},
    socket_client::{SocketClient, TRANSPORTS},
    support::TestApp,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_confirmed_as_event_and_as_ack() {
    let app = TestApp::start().await;
    for transport in TRANSPORTS {
        let mut client = SocketClient::connect(transport, &address(&app), app.token(Role::Viewer)).await;
        for _ in 0..2 {
            client.emit("lead:subscribe", json!({"leadId": "lead-123"}));
            assert_eq!(client.event("lead:subscribed").await, json!({"leadId": "lead-123"}));
        }
        let answer = client.call("lead:subscribe", json!({"leadId": "lead-123"})).await;
        assert_eq!(answer, json!({"ok": true, "leadId": "lead-123", "seq": 0}));
        client.event("lead:subscribed").await;
        for _ in 0..2 {
            client.emit("lead:unsubscribe", json!({"leadId": "lead-123"}));
            assert_eq!(client.event("lead:unsubscribed").await, json!({"leadId": "lead-123"}));
        }
        let answer = client.call("lead:unsubscribe", json!({"leadId": "lead-123"})).await;
        assert_eq!(answer, json!({"ok": true, "leadId": "lead-123"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_of_commands_match_http_responses() {
    let app = TestApp::start().await;
    let mut client = connect(&app, Role::Sales).await;
    let me = app.user(Role::Sales).id;
    let create = json!({"title": "Roof", "idempotencyKey": "one"});
    let created = client.call("lead:create", create.clone()).await;
    assert_eq!((&created["ok"], &created["lead"]["owner"]["id"]), (&json!(true), &json!(me)));
    assert_eq!(client.event("lead:created").await["lead"], created["lead"]);
    assert_eq!(client.call("lead:create", create).await, created, "the key answers the first outcome again");
    let lead = created["lead"]["id"].clone();

    let update = json!({"leadId": lead, "patch": {"status": "WON"}, "version": 1});
    let updated = client.call("lead:update", update.clone()).await;
    assert_eq!(updated["lead"]["status"], "WON");
    client.event("lead:updated").await;
    let outdated = client.call("lead:update", update).await;
    assert_eq!(
        (&outdated["error"]["code"], &outdated["error"]["current"]),
        (&json!("version_conflict"), &updated["lead"])
    );
    client.event("error").await;

    let note = json!({"leadId": lead, "type": "NOTE", "body": "done"});
    assert_eq!(client.call("activity:create", note).await["activity"]["body"], "done");
    let assigned = client.call("lead:assign", json!({"leadId": lead, "ownerId": null})).await;
    assert_eq!(assigned["error"]["code"], "forbidden");
    client.event("error").await;
    let deleted = client.call("lead:delete", json!({"leadId": lead})).await;
    assert_eq!(deleted["error"]["code"], "forbidden");
    client.event("error").await;

    let mut admin = connect(&app, Role::Admin).await;
    assert_eq!(admin.call("lead:assign", json!({"leadId": lead, "ownerId": null})).await["lead"]["owner"], Value::Null);
    assert_eq!(client.event("lead:assigned").await["previousOwnerId"], json!(me));
    assert_eq!(client.event("notification").await["kind"], "lead_unassigned");
    let ack = admin.call("lead:delete", json!({"leadId": lead})).await;
    let deleted = client.event("lead:deleted").await;
    assert_eq!(ack, json!({"ok": true, "seq": deleted["seq"], "leadId": lead}));
    assert_eq!(deleted["leadId"], lead);
}

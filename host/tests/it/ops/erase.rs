//! Data of an erased person is in no file, response, replay or explanation.

use std::{fs, path::Path, process::Output};

use leadwire::{auth::Principal, domain::role::Role, store::erase::MAX_NAMED};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    process::{self, Process},
    socket_client::{SocketClient, Transport},
    support::{self, Client, TestApp},
};

/// Value of every field that can name a person, used nowhere else.
const MARK: &str = "Quetzalcoatl";
const EMAIL: &str = "quetzalcoatl@person.example";

fn leadwire(home: &Path, arguments: &[&str]) -> Output {
    support::leadwire(home).args(arguments).output().expect("leadwire starts")
}

fn names_the_person(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    text.contains(&MARK.to_lowercase())
}

/// Creates a lead of the person with an idempotency key, changes and activities; returns its id.
async fn person(client: &Client) -> String {
    let lead = json!({
        "title": format!("Roof of {MARK}"), "contactName": MARK, "email": EMAIL, "company": format!("{MARK} Ltd"),
        "description": format!("{MARK} ").repeat(700), "custom": {"nick": MARK},
    });
    let made = support::send(
        client.request(reqwest::Method::POST, "/api/leads").header("idempotency-key", "person").json(&lead),
    );
    let id = made.await.expect(StatusCode::CREATED)["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/leads/{id}");
    for number in 0..5 {
        let patch =
            json!({"description": format!("{MARK} wrote {}", MARK.repeat(number * 100)), "phone": "+1 555 0100"});
        client.patch(&path, patch).await.expect(StatusCode::OK);
    }
    let note = json!({"type": "NOTE", "body": format!("called {MARK}"), "meta": {"who": MARK}});
    client.post(&format!("{path}/activities"), note).await.expect(StatusCode::CREATED);
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_is_in_no_file_or_response_and_clients_remove_the_lead() {
    let app = TestApp::start().await;
    let (admin, address) = (app.client(Role::Admin), app.server.address().to_string());
    let other = app.lead(json!({"title": "Somebody else's"})).await["id"].as_str().expect("an id").to_owned();
    let auth = json!({"token": app.token(Role::Viewer)});
    let mut viewer = SocketClient::try_connect(Transport::WebSocket, &address, auth.clone()).await.expect("connects");
    let connected = viewer.event("connected").await;
    let id = person(&admin).await;
    let path = format!("/api/leads/{id}");
    // Events that were read before must not be sent again from memory.
    let mut auth = auth;
    (auth["since"], auth["epoch"]) = (connected["seq"].clone(), connected["epoch"].clone());
    let mut replayed = SocketClient::try_connect(Transport::WebSocket, &address, auth.clone()).await.expect("connects");
    replayed.event("connected").await;
    assert!(replayed.until("sync:done").await.contains(MARK), "it is in the log before");

    for role in [Role::Manager, Role::Sales, Role::Viewer] {
        app.client(role).delete(&format!("{path}?erase=true")).await.refused(403, "forbidden");
    }
    admin.delete(&format!("{path}?erase=maybe")).await.refused(400, "invalid_query");
    admin.delete(&format!("{path}?earse=true")).await.refused(400, "invalid_query");
    let erasure = admin.delete(&format!("{path}?erase=true")).await.expect(StatusCode::OK);
    let erased = &erasure["erased"];
    assert_eq!(
        (&erased["leads"], &erased["activities"], &erased["idempotencyOutcomes"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(erasure["remains"][0].as_str().expect("text").contains("backups"), "{erasure}");

    loop {
        let (name, payload) = viewer.next().await;
        if name == "lead:deleted" {
            assert_eq!((&payload["leadId"], &payload["erased"]), (&json!(id), &json!(true)));
            break;
        }
    }
    for path in [&path, &format!("{path}/history"), &format!("{path}/activities")] {
        admin.get(path).await.refused(404, "lead_not_found");
    }
    admin.post(&format!("{path}/restore"), json!({})).await.refused(404, "lead_not_found");
    admin.delete(&format!("{path}?erase=true")).await.refused(404, "lead_not_found");
    let items = admin.walk("/api/leads").await;
    assert!(items.len() == 1 && items[0]["id"] == other.as_str(), "{items:?}");
    let again = json!({
        "title": format!("Roof of {MARK}"), "contactName": MARK, "email": EMAIL, "company": format!("{MARK} Ltd"),
        "description": format!("{MARK} ").repeat(700), "custom": {"nick": MARK},
    });
    let again = admin.request(reqwest::Method::POST, "/api/leads").header("idempotency-key", "person").json(&again);
    assert_eq!(support::send(again).await.status, StatusCode::NO_CONTENT, "it is not made again");

    let mut late = SocketClient::try_connect(Transport::WebSocket, &address, auth).await.expect("connects");
    late.event("connected").await;
    let replayed = late.until("sync:done").await;
    assert!(!replayed.contains(MARK) && replayed.contains(&id) && replayed.contains("erased"), "{replayed}");
    let head = app.app().store().read().await.expect("a reader").head().await.expect("the head");
    for seq in 1..=head.0 {
        let explained = admin.get(&format!("/api/events/{seq}/explain?role=VIEWER")).await;
        assert!(!explained.body.to_string().contains(MARK), "{}", explained.body);
    }
    assert_not_in_files(app.dir.path());
}

#[track_caller]
fn assert_not_in_files(dir: &Path) {
    for name in ["leadwire.db", "leadwire.db-wal"] {
        let bytes = fs::read(dir.join(name)).unwrap_or_default();
        assert!(!names_the_person(&bytes), "{name} still names the person");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_erases_a_contact_and_an_account_while_the_server_runs() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), "");
    let server = Process::serve(home.path());
    let http = support::http_client();
    let token = server.login(&http, "ADMIN").await;
    let send = async |request: reqwest::RequestBuilder| {
        let answer = request.bearer_auth(&token).send().await.expect("an answer");
        answer.json::<Value>().await.unwrap_or_default()
    };
    let account = json!({"email": EMAIL, "name": MARK, "role": "SALES", "password": process::PASSWORD});
    let account = send(http.post(server.url("/api/users")).header("idempotency-key", "a").json(&account)).await;
    let lead = json!({"title": "Barn", "email": EMAIL.to_uppercase(), "contactName": MARK});
    let contact = send(http.post(server.url("/api/leads")).json(&lead)).await;
    let owned = send(http.post(server.url("/api/leads")).json(&json!({"title": "Owned"}))).await;
    let path = format!("/api/leads/{}", owned["id"].as_str().expect("an id"));
    let assigned = http.post(server.url(&format!("{path}/assign"))).json(&json!({"ownerId": account["id"]}));
    assert_eq!(send(assigned).await["owner"]["name"], MARK);
    let mentioned = json!({"title": "Asks for us", "description": format!("see {EMAIL}")});
    let mentioned = send(http.post(server.url("/api/leads")).json(&mentioned)).await;

    let said = leadwire(home.path(), &["erase", "--email", EMAIL, "--json"]);
    assert!(said.status.success(), "{said:?}");
    let erasure: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!((&erasure["erased"]["leads"], &erasure["account"]["id"]), (&json!(1), &account["id"]));
    let mention = json!({"table": "leads", "column": "description", "leadId": mentioned["id"]});
    assert!(erasure["mentions"].as_array().expect("a list").contains(&mention), "{erasure}");

    let gone = http.get(server.url(&format!("/api/leads/{}", contact["id"].as_str().expect("an id"))));
    assert_eq!(gone.bearer_auth(&token).send().await.expect("an answer").status(), 404);
    let owned = send(http.get(server.url(&path))).await;
    assert_eq!((&owned["owner"]["id"], &owned["owner"]["name"]), (&account["id"], &json!("Erased")));
    let login = json!({"email": EMAIL, "password": process::PASSWORD});
    let login = http.post(server.url("/api/auth/login")).json(&login).send().await.expect("an answer");
    assert_eq!(login.status(), 401);

    // Case and normal form make no difference outside of ASCII either; accents do.
    let mut others = Vec::new();
    for email in ["ZO\u{cb}@X.example", "zoe\u{308}@x.example", "zoe@x.example"] {
        others.push(send(http.post(server.url("/api/leads")).json(&json!({"title": "Z", "email": email}))).await);
    }
    let about = json!({"title": "Asks", "description": "mail ZO\u{cb}@X.EXAMPLE"});
    let about = send(http.post(server.url("/api/leads")).json(&about)).await;
    let said = leadwire(home.path(), &["erase", "--email", "zo\u{eb}@x.example", "--json"]);
    let erasure: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(erasure["erased"]["leads"], 2, "{erasure}");
    let mention = json!({"table": "leads", "column": "description", "leadId": about["id"]});
    assert!(erasure["mentions"].as_array().expect("a list").contains(&mention), "{erasure}");
    let other = http.get(server.url(&format!("/api/leads/{}", others[2]["id"].as_str().expect("an id"))));
    assert_eq!(send(other).await["email"], "zoe@x.example");

    // The one reported mention is erased as well; then nothing is left.
    let id = mentioned["id"].as_str().expect("an id");
    let said = leadwire(home.path(), &["erase", "--lead", id]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("what remains: backups"), "{said:?}");
    let said = leadwire(home.path(), &["erase", "--email", EMAIL]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("person not found"), "{said:?}");
    assert_not_in_files(home.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_leads_are_listed_for_roles_that_may_restore_them() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    app.lead(json!({"title": "Kept"})).await;
    let gone = app.lead(json!({"title": "Gone"})).await["id"].as_str().expect("an id").to_owned();
    admin.delete(&format!("/api/leads/{gone}")).await.expect(StatusCode::NO_CONTENT);
    for role in [Role::Admin, Role::Manager] {
        let client = app.client(role);
        let titles = async |path: &str| -> Vec<Value> {
            client.walk(path).await.into_iter().map(|lead| lead["title"].clone()).collect()
        };
        assert_eq!(titles("/api/leads?deleted=true").await, [json!("Gone")]);
        assert_eq!(titles("/api/leads?deleted=false").await, [json!("Kept")]);
        assert_eq!(titles("/api/leads").await, [json!("Kept")]);
    }
    for role in [Role::Sales, Role::Viewer] {
        app.client(role).get("/api/leads?deleted=true").await.refused(403, "forbidden");
    }
    admin.post(&format!("/api/leads/{gone}/restore"), json!({})).await.expect(StatusCode::OK);
    assert!(admin.walk("/api/leads?deleted=true").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_reports_a_truncated_list_of_mentions() {
    let app = TestApp::start().await;
    app.lead(json!({"title": "Theirs", "email": EMAIL})).await;
    for number in 0..=MAX_NAMED {
        app.lead(json!({"title": format!("Other {number}"), "description": format!("ask {EMAIL}")})).await;
    }
    let erasure = app.app().erase_person(&Principal::operator(), EMAIL).await.expect("erases");
    assert_eq!(erasure.mentions.iter().filter(|mention| mention.table == "leads").count(), MAX_NAMED);
    assert!(erasure.remains.iter().any(|line| line.starts_with("more mentions")), "{:?}", erasure.remains);
}

//! Reloads held by the gate, rollbacks, and the commands of an operator for both.

mod gate;
mod grants;
mod operator;
mod rollback;

use std::fs;

use leadwire::{
    domain::{counter::Seq, event::Event, role::Role, room::Room, time::Timestamp},
    plugin::{Plugins, PluginsConfig, Shaped, contract::settings::Gate},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    guest::{Guest, everyone, remove},
    socket_client::PATIENCE,
    support::TestApp,
};

/// Hides these fields from viewers.
fn guard<const N: usize>(version: &str, hidden: [&str; N]) -> Vec<u8> {
    let guest = Guest::new("guard").version(version).roles(["VIEWER"]).hides("VIEWER", hidden);
    guest.filter([everyone("VIEWER", hidden.map(remove))]).build()
}

fn first() -> Vec<u8> {
    guard("1.0.0", ["/lead/email"])
}

/// Hides the phone number as well, from one role of four.
fn second() -> Vec<u8> {
    guard("2.0.0", ["/lead/email", "/lead/phone"])
}

/// A server with a lead, the first guard, and this gate.
struct Server {
    app: TestApp,
    lead: String,
}

impl Server {
    async fn start(max_change: Option<f64>) -> Self {
        let app = TestApp::with(|config| {
            config.plugins.gate.max_change = max_change;
            let dir = config.plugins.dir.as_ref().expect("a plugin folder");
            fs::write(dir.join("guard.wasm"), first()).expect("written");
        })
        .await;
        let lead = app.lead(json!({"title": "Roof", "email": "bob@example.com", "phone": "+47 22 00 00 00"})).await;
        let lead = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
        Self { app, lead }
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.app.dir.path().join("plugins").join(name), bytes).expect("written");
    }

    async fn status(&self) -> Value {
        let mut list = self.app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
        list["items"][0].take()
    }

    /// Waits until the folder was scanned and the guard has the wanted status.
    async fn until(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let mut changed = self.app.app().plugins().changed();
        loop {
            let status = self.status().await;
            if is_wanted(&status) {
                return status;
            }
            if timeout(PATIENCE, changed.changed()).await.is_err() {
                panic!("in vain for {what}: {status:#}");
            }
        }
    }

    async fn until_held(&self) -> Value {
        self.until("it to be held", |status| status["candidate"]["state"] == "held").await
    }

    async fn until_version(&self, version: &str) -> Value {
        self.until(version, |status| status["version"] == version).await
    }

    async fn order(&self, order: &str) -> crate::support::Reply {
        self.app.client(Role::Admin).post(&format!("/api/plugins/guard/{order}"), json!({})).await
    }

    /// Returns whether a viewer gets an e-mail address and a phone number.
    async fn shown(&self) -> (bool, bool) {
        let lead = self.app.client(Role::Viewer).get(&self.lead).await.expect(StatusCode::OK);
        (lead.get("email").is_some(), lead.get("phone").is_some())
    }
}

/// Plugins without a server, across restarts, with one recent event about a lead.
struct Yard(TempDir);

impl Yard {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("plugins")).expect("a folder");
        Self(folder)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.path().join("plugins").join(name), bytes).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.0.path().join("plugins").join(name)).expect("removed");
    }

    fn data(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    fn settings(&self, max_change: Option<f64>) -> PluginsConfig {
        let (dir, data_dir) = (Some(self.0.path().join("plugins")), self.data());
        PluginsConfig { dir, data_dir, gate: Gate { max_change }, ..PluginsConfig::default() }
    }

    fn open(&self, max_change: Option<f64>) -> Plugins {
        self.open_as(self.settings(max_change))
    }

    fn open_as(&self, settings: PluginsConfig) -> Plugins {
        let at = Timestamp::from_millis(0).expect("in range");
        let event = Event {
            seq: Seq(7),
            name: "lead:updated".into(),
            rooms: vec![Room::Everyone],
            lead_id: None,
            payload: payload().into(),
            context: json!({}),
            at,
        };
        Plugins::open(settings, Box::new(move |_| vec![event.clone()])).expect("opens")
    }
}

fn payload() -> Value {
    json!({"lead": {"email": "bob@example.com", "phone": "+47 22 00 00 00"}})
}

fn version(plugins: &Plugins) -> String {
    plugins.status()[0].version.clone().unwrap_or_default()
}

/// Returns whether a viewer gets a phone number; `None` if the event is withheld.
fn shows_phone(plugins: &Plugins) -> Option<bool> {
    match plugins.shape("lead:read", &payload().into(), &json!({}), &[Role::Viewer]).remove(0).1 {
        Shaped::Sent { payload, .. } => Some(payload["lead"].get("phone").is_some()),
        Shaped::Held { .. } => None,
    }
}

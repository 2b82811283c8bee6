//! A server with a harmful plugin built from `guests/hostile`: clients see the documented behaviour of a failing hook,
//! and other plugins are unaffected.

use std::{fs, path::PathBuf, time::Duration};

use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    guest::{Guest, everyone, remove},
    socket_client::{PATIENCE, SocketClient, Transport},
    support::TestApp,
};

/// Each ends the call in a different way.
const HARMS: [&str; 7] = ["panic", "spin", "allocate", "recurse", "flood", "huge", "fail"];

/// The plugin, if `cargo xtask test build` has built it.
fn hostile() -> Option<Vec<u8>> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../test-plugins/hostile.wasm");
    let bytes = fs::read(&file).ok();
    if bytes.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing: run cargo xtask test build", file.display());
        println!("skipped: {} is missing: run cargo xtask test build", file.display());
    }
    bytes
}

/// A server with the hostile plugin, and a guard that hides e-mail addresses from SALES.
struct Scene {
    app: TestApp,
    address: String,
    admin: SocketClient,
    sales: SocketClient,
    lead: String,
    title: u32,
}

/// The next event, except those about plugin changes.
async fn updated(client: &mut SocketClient) -> Value {
    loop {
        match client.next().await {
            (name, _) if name == "sync:reset" => {}
            (name, event) if name == "lead:updated" => return event,
            (name, event) => panic!("{name} {event}"),
        }
    }
}

impl Scene {
    async fn open(hostile: &[u8]) -> Self {
        let app = TestApp::with(|config| {
            config.plugins.quiet = Duration::from_millis(20);
            // A trial run on recent events would detect the harm before activation.
            config.plugins.dry_run_events = 0;
            // An open breaker retries at once, so that each harm happens in its turn.
            config.plugins.limits.rest_ms = 1;
            config.plugins.limits.longest_rest_ms = 1;
            // An event without an answer is parked after the second attempt, which follows at once.
            config.effects.attempts = 2;
            config.effects.first_delay = Duration::from_millis(1);
            let guard = Guest::new("guard").roles(["SALES"]).hides("SALES", ["/lead/email"]);
            let guard = guard.filter([everyone("SALES", [remove("/lead/email")])]).build();
            let dir = config.plugins.dir.as_ref().expect("a plugin folder");
            fs::write(dir.join("guard.wasm"), guard).expect("written");
            fs::write(dir.join("hostile.wasm"), hostile).expect("written");
        })
        .await;
        let lead = app.lead(json!({"title": "Roof 0", "email": "bob@example.com"})).await;
        let lead = lead["id"].as_str().expect("an id").to_owned();
        let address = app.server.address().to_string();
        let connect = async |role| SocketClient::connect(Transport::WebSocket, &address, app.token(role)).await;
        let (admin, sales) = (connect(Role::Admin).await, connect(Role::Sales).await);
        Self { app, address, admin, sales, lead, title: 0 }
    }

    async fn plugin(&self, name: &str) -> Value {
        let list = self.app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
        let item = list["items"].as_array().expect("items").iter().find(|item| item["name"] == name).cloned();
        item.unwrap_or_default()
    }

    /// Selects the harm of the hook from now on; `none` ends it.
    async fn set(&self, hook: &str, harm: &str) {
        let before = self.plugin("hostile").await["generation"].clone();
        let settings = format!("[config]\n{hook} = \"{harm}\"\n");
        // Atomically: half a file would be valid settings without harm.
        let file = self.app.dir.path().join("plugins/hostile.toml");
        fs::write(file.with_extension("part"), settings).expect("written");
        fs::rename(file.with_extension("part"), file).expect("renamed");
        let taken_up = async {
            while self.plugin("hostile").await["generation"] == before {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(PATIENCE, taken_up).await;
        waited.unwrap_or_else(|_| panic!("{hook} = {harm} was not taken up"));
    }

    fn path(&self) -> String {
        format!("/api/leads/{}", self.lead)
    }

    /// Writes a new title, which must succeed; both clients get it, shaped by the guard.
    async fn works(&mut self, what: &str) {
        self.title += 1;
        let title = format!("Roof {}", self.title);
        let changed = self.app.client(Role::Admin).patch(&self.path(), json!({"title": title})).await;
        assert_eq!(changed.expect(StatusCode::OK)["title"], *title, "{what}");
        let (event, guarded) = (updated(&mut self.admin).await, updated(&mut self.sales).await);
        assert_eq!((&event["lead"]["title"], &guarded["lead"]["title"]), (&json!(title), &json!(title)), "{what}");
        assert_eq!(
            (&event["lead"]["email"], guarded["lead"].get("email")),
            (&json!("bob@example.com"), None),
            "{what}"
        );
    }

    /// Parked entries of the hostile plugin, once it has followed the whole log.
    async fn followed(&self, what: &str) -> Vec<Value> {
        let caught_up = async {
            while self.plugin("hostile").await["effects"]["lag"] != 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(PATIENCE, caught_up).await;
        waited.unwrap_or_else(|_| panic!("{what}: not everything was asked about or parked"));
        self.app.client(Role::Admin).walk("/api/plugins/hostile/effects?state=parked").await
    }

    /// The hostile plugin has failed in this hook, and the guard in none.
    async fn faulted(&self, hook: &str, harm: &str) {
        let (hostile, guard) = (self.plugin("hostile").await, self.plugin("guard").await);
        assert_eq!(hostile["lastFault"]["hook"], *hook, "{harm}: {hostile}");
        assert_eq!((&guard["state"], &guard["counts"]["faults"]), (&json!("active"), &json!(0)), "{harm}: {guard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harmful_authorize_refuses_only_new_connections() {
    let Some(hostile) = hostile() else { return };
    let mut scene = Scene::open(&hostile).await;
    for harm in HARMS {
        scene.set("authorize", harm).await;
        let auth = json!({"token": scene.app.token(Role::Sales)});
        let refused = SocketClient::try_connect(Transport::WebSocket, &scene.address, auth).await.err();
        assert!(refused.is_some(), "{harm}: let in");
        scene.works(harm).await;
        scene.faulted("authorize", harm).await;
    }
    scene.set("authorize", "none").await;
    SocketClient::connect(Transport::WebSocket, &scene.address, scene.app.token(Role::Sales)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harmful_before_answers_503_writes_nothing_and_reads_still_work() {
    let Some(hostile) = hostile() else { return };
    let mut scene = Scene::open(&hostile).await;
    for harm in HARMS {
        scene.set("before", harm).await;
        let manager = scene.app.client(Role::Manager);
        manager.post("/api/leads", json!({"title": "Barn"})).await.refused(503, "plugin_unavailable");
        manager.patch(&scene.path(), json!({"title": "Barn"})).await.refused(503, "plugin_unavailable");
        assert_eq!(manager.get("/api/leads").await.expect(StatusCode::OK)["items"].as_array().map(Vec::len), Some(1));
        scene.faulted("before", harm).await;
    }
    scene.set("before", "none").await;
    // This is the first event, so nothing was sent before.
    scene.works("after the harm").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harmful_enrich_loses_only_its_edits() {
    let Some(hostile) = hostile() else { return };
    let mut scene = Scene::open(&hostile).await;
    let enriched = async |scene: &Scene| {
        scene.app.client(Role::Manager).get(&scene.path()).await.expect(StatusCode::OK).get("enriched").cloned()
    };
    assert_eq!(enriched(&scene).await, Some(json!(true)));
    for harm in HARMS {
        scene.set("enrich", harm).await;
        assert_eq!(enriched(&scene).await, None, "{harm}");
        scene.works(harm).await;
        scene.faulted("enrich", harm).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harmful_filter_withholds_from_its_role_until_it_answers() {
    let Some(hostile) = hostile() else { return };
    let mut scene = Scene::open(&hostile).await;
    let mut viewer = SocketClient::connect(Transport::WebSocket, &scene.address, scene.app.token(Role::Viewer)).await;
    for harm in HARMS {
        scene.set("filter", harm).await;
        // New settings are active: earlier withheld events no longer matter.
        viewer.event("sync:reset").await;
        scene.works(harm).await;
        viewer.expect_silence().await;
        let read = scene.app.client(Role::Viewer).get(&scene.path()).await;
        read.refused(503, "plugin_unavailable");
        scene.faulted("filter", harm).await;
    }
    scene.set("filter", "none").await;
    let received = async {
        // Only events withheld by the last harm may arrive before that.
        loop {
            match viewer.next().await {
                (name, _) if name == "sync:reset" => return,
                (name, event) => assert_eq!(event["lead"]["title"], format!("Roof {}", scene.title), "{name}"),
            }
        }
    };
    timeout(PATIENCE, received).await.expect("in time");
    scene.works("after the harm").await;
    let event = viewer.event("lead:updated").await;
    assert_eq!((&event["lead"]["title"], event["lead"].get("email")), (&json!(format!("Roof {}", scene.title)), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harmful_after_affects_no_client_and_its_event_is_parked() {
    let Some(hostile) = hostile() else { return };
    let mut scene = Scene::open(&hostile).await;
    for (number, harm) in HARMS.into_iter().enumerate() {
        scene.set("after", harm).await;
        scene.works(harm).await;
        let parked = scene.followed(harm).await;
        assert_eq!(parked.len(), number + 1, "{harm}: {parked:?}");
        scene.faulted("after", harm).await;
    }
    scene.set("after", "none").await;
    scene.works("after the harm").await;
    assert_eq!(scene.followed("after the harm").await.len(), HARMS.len());
}

//! Delivery from the log to sockets: recipients, order, and failing plugins.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use leadwire::{
    delivery::{
        Delivery, Publisher, RightsChange,
        line::{DeliveredLine, Slice},
        replay::Replay,
        shape::Shaper,
        switch::{self, Switches},
    },
    domain::{
        counter::{Generation, Seq},
        event::{InForce, NewEvent, Resets},
        id::UserId,
        policy::Visibility,
        role::Role,
        room::Room,
        time::Timestamp,
    },
    plugin::{PluginState, Plugins},
    store::Store,
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    guest::Guest,
    socket_client::{PATIENCE, SocketClient, Transport},
    support::{TestApp, open_store},
};

/// A recipient of events.
struct Witness(mpsc::UnboundedSender<Seen>);

#[derive(Debug, PartialEq)]
enum Seen {
    Begun(Seq),
    Published(Seq, Vec<(Role, String)>),
    Applied(Seq),
    Reset(Seq, Resets),
}

impl Witness {
    fn note(&self, seen: Seen) {
        self.0.send(seen).expect("the test listens");
    }
}

impl Publisher for Witness {
    fn begin(&self, seq: Seq) {
        self.note(Seen::Begun(seq));
    }

    fn end(&self, _: Seq) {}

    fn roles(&self, rooms: &[Room]) -> Vec<Role> {
        if rooms.contains(&Room::Everyone) { vec![Role::Admin, Role::Viewer] } else { Vec::new() }
    }

    async fn publish(&self, lines: Arc<[DeliveredLine]>) {
        let body = |slice: &Slice| match slice {
            Slice::Sent { message, .. } => message.body().to_owned(),
            Slice::Held(unavailable) => unavailable.to_string(),
            Slice::Withheld => "withheld".to_owned(),
        };
        for DeliveredLine { line, slices } in &*lines {
            let slices = slices.iter().map(|(role, slice)| (*role, body(slice))).collect();
            self.note(Seen::Published(line.event.seq, slices));
        }
    }

    fn apply(&self, seq: Seq, change: &RightsChange) {
        assert_eq!(change.user(), UserId(Uuid::nil()));
        self.note(Seen::Applied(seq));
    }

    fn reset(&self, seq: Seq, whom: &Resets) {
        self.note(Seen::Reset(seq, whom.clone()));
    }

    fn lost(&self) {
        panic!("nothing is lost here");
    }
}

fn draft(name: &'static str, rooms: Vec<Room>, payload: Value, context: Value) -> NewEvent {
    NewEvent { name, rooms, lead_id: None, payload, context, at: Timestamp::now() }
}

async fn append(store: &Store, draft: NewEvent) -> Seq {
    let mut tx = store.write().await.expect("a transaction");
    let seq = tx.append(&draft).await.expect("a line");
    tx.commit().await.expect("commits");
    seq
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_delivered_once_in_order_to_roles_with_listeners() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Arc::new(open_store(dir.path()).await);
    append(&store, draft("lead:created", vec![Room::Everyone], json!({"old": true}), json!({}))).await;

    let (sender, mut seen) = mpsc::unbounded_channel();
    let replay = Arc::new(Replay::new(store.clone()));
    let shaper = Arc::new(Shaper::new(Plugins::none(), Visibility::default(), store.epoch()));
    let (switches, done) = (Arc::new(Switches::default()), Arc::new(AtomicBool::default()));
    // For a log older than all records, its shaping is unknown: all clients are reset.
    let begun = switch::begin(&store, &Plugins::none(), Visibility::default()).await.expect("begins");
    let witness = Arc::new(Witness(sender));
    let delivery = Delivery::new(store.clone(), replay, shaper, witness, switches.clone(), &begun);
    for role in Role::ALL {
        assert_eq!(seen.recv().await, Some(Seen::Reset(Seq(2), Resets::Roles(vec![role]))));
    }
    let health = delivery.health();
    let stop = CancellationToken::new();
    let running = tokio::spawn(delivery.run(stop.clone()));

    append(&store, draft("lead:created", vec![Room::Everyone], json!({"seq": "mine"}), json!({}))).await;
    append(&store, draft("lead:created", vec![Room::Lead("x".into())], json!({}), json!({}))).await;
    append(&store, draft("session:ended", vec![], json!({}), json!({"userId": Uuid::nil(), "sessionId": null}))).await;
    append(&store, draft("disconnect", vec![Room::Everyone], json!({}), json!({}))).await;
    append(&store, draft("lead:deleted", vec![Room::Everyone], json!({}), json!({}))).await;
    let next = InForce { generation: Generation(7), visibility: Visibility::default() };
    let swap = done.clone();
    let swap = Box::new(move || swap.store(true, Ordering::SeqCst));
    switches.announce(&store, next, true, swap).await.expect("announced");

    let stamped = |seq: u64| format!(r#"{{"seq":{seq},"epoch":"{}"}}"#, store.epoch());
    let both = |seq| Seen::Published(Seq(seq), vec![(Role::Admin, stamped(seq)), (Role::Viewer, stamped(seq))]);
    let expected = [
        both(3),
        Seen::Applied(Seq(5)),
        // A name reserved by Socket.IO is not delivered.
        Seen::Published(Seq(6), vec![]),
        both(7),
        Seen::Reset(Seq(8), Resets::Roles(Role::ALL.into())),
    ];
    let mut begun = Seq::START;
    for expected in expected {
        let seen = loop {
            match timeout(PATIENCE, seen.recv()).await.expect("in time").expect("it runs") {
                Seen::Begun(seq) => {
                    assert!(seq > begun, "lines begin in order");
                    begun = seq;
                }
                seen => break seen,
            }
        };
        let (Seen::Begun(seq) | Seen::Published(seq, _) | Seen::Applied(seq) | Seen::Reset(seq, _)) = &seen;
        assert!(*seq <= begun, "{seen:?} was announced before");
        assert_eq!(seen, expected);
    }
    assert_eq!((health(), done.load(Ordering::SeqCst)), (Ok(()), true));
    stop.cancel();
    running.await.expect("ends");
    assert_eq!(health(), Err("the delivery of events has stopped".into()));
}

async fn connect(app: &TestApp, role: Role) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(role)).await
}

/// Waits until the plugin is in this state.
async fn until_state(app: &TestApp, name: &str, state: PluginState) {
    let plugins = app.app().plugins();
    let mut changed = plugins.changed();
    let waiting = async {
        while !plugins.status().iter().any(|status| status.name == name && status.state == state) {
            changed.changed().await.expect("the plugins are there");
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{name} is not {state:?}: {:#?}", plugins.status()));
}

async fn rename(app: &TestApp, lead: &str, title: &str) {
    let path = format!("/api/leads/{lead}");
    let reply = app.client(Role::Admin).patch(&path, json!({"title": title})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// A server with a plugin that hides e-mail addresses from viewers, a lead, and the plugin's file.
async fn with_redactor(held_timeout: Duration) -> (TestApp, String, std::path::PathBuf) {
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("guard.wasm"), Guest::redactor("guard").build()).expect("written");
        config.socket.held_timeout = held_timeout;
    })
    .await;
    let lead = app.lead(json!({"title": "Roof", "email": "a@b.example"})).await;
    let file = app.dir.path().join("plugins/guard.wasm");
    (app, lead["id"].as_str().expect("an id").to_owned(), file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_shapes_an_event_for_its_role_alone() {
    let (app, lead, _) = with_redactor(PATIENCE).await;
    let mut clients = Vec::new();
    for role in Role::ALL {
        clients.push((role, connect(&app, role).await));
    }
    rename(&app, &lead, "Roof 2").await;
    for (role, client) in &mut clients {
        let event = client.event("lead:updated").await;
        assert_eq!(event["lead"].get("email").is_none(), *role == Role::Viewer, "{role} {event}");
        assert_eq!(event["lead"]["title"], "Roof 2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_withheld_by_a_failing_plugin_arrive_later_in_order_and_delay_no_other_role() {
    let (app, lead, file) = with_redactor(PATIENCE).await;
    let (mut viewer, mut admin) = (connect(&app, Role::Viewer).await, connect(&app, Role::Admin).await);
    fs::remove_file(&file).expect("removed");
    until_state(&app, "guard", PluginState::Missing).await;
    for title in ["One", "Two", "Three"] {
        rename(&app, &lead, title).await;
        assert_eq!(admin.event("lead:updated").await["lead"]["title"], title);
    }
    // It is still answered, and a new connection waits as well.
    viewer.expect_silence().await;
    let mut late = connect(&app, Role::Viewer).await;
    rename(&app, &lead, "Four").await;
    late.expect_silence().await;

    fs::write(&file, Guest::redactor("guard").build()).expect("written");
    for title in ["One", "Two", "Three", "Four"] {
        let event = viewer.event("lead:updated").await;
        assert_eq!((&event["lead"]["title"], event["lead"].get("email")), (&json!(title), None));
    }
    assert_eq!(late.event("lead:updated").await["lead"]["title"], "Four");
    rename(&app, &lead, "Five").await;
    assert_eq!(viewer.event("lead:updated").await["lead"]["title"], "Five");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_past_a_withheld_event_gets_sync_reset_once_the_plugin_answers() {
    let (app, lead, file) = with_redactor(Duration::from_millis(300)).await;
    let mut viewer = connect(&app, Role::Viewer).await;
    fs::remove_file(&file).expect("removed");
    until_state(&app, "guard", PluginState::Missing).await;
    rename(&app, &lead, "Held back").await;
    crate::plugin::withheld::until_held(&app, 1).await;

    fs::write(&file, Guest::redactor("guard").build()).expect("written");
    let reset = viewer.event("sync:reset").await;
    assert!(reset["seq"].as_u64() > Some(2) && reset["epoch"].is_string(), "{reset}");
    crate::plugin::withheld::until_held(&app, 0).await;
    rename(&app, &lead, "Live again").await;
    assert_eq!(viewer.event("lead:updated").await["lead"]["title"], "Live again");
}

/// A sample plugin, which `cargo xtask plugins` builds.
pub fn sample(name: &str) -> Vec<u8> {
    let dir = std::env::var("LEADWIRE_TEST_PLUGINS").map(Into::into);
    let dir = dir.unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins"));
    let file = dir.join(format!("{name}.wasm"));
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; run: cargo xtask plugins", file.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_removed_from_an_audience_gets_lead_revoked_instead_of_the_change() {
    let app = TestApp::start().await;
    let other = app.add_user("other", Role::Sales).await;
    let other_token = app.login(&other.email).await;
    let me = app.user(Role::Sales).id;
    let dir = app.dir.path().join("plugins");
    let config = format!("[config.territories]\n\"{me}\" = [\"north\"]\n\"{}\" = [\"south\"]\n", other.id);
    fs::write(dir.join("territory.toml"), config).expect("written");
    fs::write(dir.join("territory.wasm"), sample("territory")).expect("written");
    until_state(&app, "territory", PluginState::Active).await;

    let mut north = connect(&app, Role::Sales).await;
    let mut south = SocketClient::connect(Transport::Polling, &app.server.address().to_string(), &other_token).await;
    let lead = app.lead(json!({"title": "Roof", "custom": {"territory": "north"}})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    assert_eq!(north.event("lead:created").await["lead"]["id"], lead["id"]);
    // Like an unknown lead.
    let answer = south.call("lead:subscribe", json!({"leadId": lead["id"]})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    south.event("lead:subscribed").await;

    let moved = json!({"custom": {"territory": "south"}});
    app.client(Role::Admin).patch(&path, moved).await.expect(reqwest::StatusCode::OK);
    let revoked = north.event("lead:revoked").await;
    assert_eq!((&revoked["leadId"], &revoked["seq"]), (&lead["id"], &json!(2)));
    assert_eq!(revoked["lead"], Value::Null);
    assert_eq!(south.event("lead:updated").await["lead"]["id"], lead["id"]);
    // Later events of it, including another revocation, are not for the first user.
    app.client(Role::Admin).patch(&path, json!({"title": "Barn"})).await.expect(reqwest::StatusCode::OK);
    south.event("lead:updated").await;
    north.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_a_denial_is_the_connect_error() {
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        let guest = Guest::new("door").authorize(Some("Not on Sundays"));
        fs::write(dir.join("door.wasm"), guest.build()).expect("written");
    })
    .await;
    let auth = json!({"token": app.token(Role::Admin)});
    let address = app.server.address().to_string();
    for transport in [Transport::WebSocket, Transport::Polling] {
        let refused = SocketClient::try_connect(transport, &address, auth.clone()).await.err();
        assert_eq!(refused.as_deref(), Some("Not on Sundays"));
    }
}

//! Clients that get `sync:reset`, because events alone would not make a list correct: after a change of plugins, of
//! `[visibility]`, or of the user's own rights.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use leadwire::{
    domain::{
        counter::{Generation, Seq},
        policy::{Scope, Visibility},
        role::Role,
        user::User,
    },
    plugin::{Archive, PluginState, Plugins, PluginsConfig},
    store::generation::{GenerationMember, StoredGeneration},
};
use parking_lot::Mutex;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    guest::{Guest, everyone, outcome, remove},
    socket_client::{PATIENCE, SocketClient, TRANSPORTS, Transport, until_true},
    support::{PASSWORD, TestApp},
};

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

async fn connect(app: &TestApp, token: &str) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &address(app), token).await
}

/// Resumes from that seq; returns true if events alone cover the gap.
async fn resumes(app: &TestApp, token: &str, since: Seq) -> bool {
    let auth = json!({"token": token, "since": since, "epoch": app.app().store().epoch()});
    let mut socket = SocketClient::try_connect(Transport::WebSocket, &address(app), auth).await.expect("connects");
    let greeting = socket.event("connected").await;
    let recovered = greeting["recovered"].as_bool().expect("a flag");
    if !recovered {
        assert_eq!(socket.event("sync:reset").await, json!({"seq": greeting["seq"], "epoch": greeting["epoch"]}));
        socket.expect_silence().await;
    }
    recovered
}

fn head(app: &TestApp) -> Seq {
    *app.app().store().appended().borrow()
}

fn put(app: &TestApp, name: &str, guest: &Guest) {
    fs::write(app.dir.path().join("plugins").join(format!("{name}.wasm")), guest.build()).expect("written");
}

async fn until_state(app: &TestApp, name: &str, state: PluginState) {
    let plugins = app.app().plugins();
    until_true("the plugin is in force", || {
        plugins.status().iter().any(|status| status.name == name && status.state == state)
    })
    .await;
}

async fn patch_user(app: &TestApp, user: &User, patch: Value) {
    app.client(Role::Admin).patch(&format!("/api/users/{}", user.id), patch).await.expect(StatusCode::OK);
}

fn hiding(pointer: &'static str) -> Guest {
    Guest::new("guard").roles(["VIEWER"]).hides("VIEWER", [pointer]).filter([everyone("VIEWER", [remove(pointer)])])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_change_alone_resets_open_and_resuming_sockets() {
    let app = TestApp::start().await;
    app.lead(json!({"title": "Roof", "email": "a@b.example"})).await;
    let mut sockets = Vec::new();
    for transport in TRANSPORTS {
        sockets.push(SocketClient::connect(transport, &address(&app), app.token(Role::Viewer)).await);
    }
    put(&app, "guard", &hiding("/lead/email"));
    // Nothing happens to any lead.
    for socket in &mut sockets {
        let reset = socket.event("sync:reset").await;
        assert_eq!(reset, json!({"seq": 2, "epoch": app.app().store().epoch()}));
        socket.expect_silence().await;
    }
    // When it is sent, reads are already shaped by the new set.
    let list = app.client(Role::Viewer).get("/api/leads").await.expect(StatusCode::OK);
    assert_eq!(list["items"][0].get("email"), None);
    assert!(!resumes(&app, app.token(Role::Viewer), Seq(1)).await);
    assert!(resumes(&app, app.token(Role::Viewer), Seq(2)).await);

    // So do changed settings of the same file, and its removal.
    for (text, seq) in [("[config]\nother = 1\n", 3), ("enabled = false\n", 4)] {
        fs::write(app.dir.path().join("plugins/guard.toml"), text).expect("written");
        for socket in &mut sockets {
            assert_eq!(socket.event("sync:reset").await["seq"], seq);
        }
    }
    // A socket that was reset continues with later events.
    app.lead(json!({"title": "Barn"})).await;
    for mut socket in sockets {
        assert_eq!(socket.event("lead:created").await["seq"], 5);
        socket.expect_silence().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_that_shape_nothing_reset_no_socket() {
    let app = TestApp::start().await;
    app.lead(json!({"title": "Roof"})).await;
    let mut viewer = connect(&app, app.token(Role::Viewer)).await;
    put(&app, "door", &Guest::new("door").authorize(None));
    until_state(&app, "door", PluginState::Active).await;
    fs::write(app.dir.path().join("plugins/guard.toml"), "mode = \"shadow\"\n").expect("written");
    put(&app, "guard", &hiding("/lead/email"));
    until_state(&app, "guard", PluginState::Shadow).await;
    put(
        &app,
        "clerk",
        &Guest::new("clerk").events([]).after(crate::guest::Wants::new(["lead:created"], []), outcome([])),
    );
    until_state(&app, "clerk", PluginState::Active).await;
    assert_eq!(head(&app), Seq(4), "each took force by a line");
    viewer.expect_silence().await;
    assert!(resumes(&app, app.token(Role::Viewer), Seq(0)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_changed_visibility_resets_resuming_clients_after_a_restart() {
    let narrow = Visibility { sales: Scope::Own, ..Visibility::default() };
    let app = TestApp::start().await;
    app.lead(json!({"title": "Roof"})).await;
    let app = app.restart().await;
    assert!(resumes(&app, app.token(Role::Sales), Seq(1)).await, "nothing changed");
    let app = app.restart_with(|config| config.visibility = narrow).await;
    assert!(!resumes(&app, app.token(Role::Sales), Seq(1)).await);
    assert!(resumes(&app, app.token(Role::Sales), Seq(2)).await);
    let app = app.restart_with(|config| config.visibility = narrow).await;
    assert!(resumes(&app, app.token(Role::Sales), Seq(2)).await);
    assert_eq!(head(&app), Seq(2));
    // Plugins added in the meantime are a change as well.
    put(&app, "guard", &hiding("/lead/email"));
    let app = app.restart_with(|config| config.visibility = narrow).await;
    until_state(&app, "guard", PluginState::Active).await;
    assert!(!resumes(&app, app.token(Role::Viewer), Seq(2)).await);
    assert_eq!(head(&app), Seq(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_change_resets_and_a_name_change_does_not() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let user = app.add_user("moving", Role::Viewer).await;
    let token = app.login(&user.email).await;
    let mut bystander = connect(&app, app.token(Role::Viewer)).await;
    let mut moving = connect(&app, &token).await;
    patch_user(&app, &user, json!({"name": "Other"})).await;
    assert_eq!(moving.event("session:updated").await["userRole"], "VIEWER");
    moving.expect_silence().await;
    assert!(resumes(&app, &token, Seq(1)).await, "a name is no right");

    patch_user(&app, &user, json!({"role": "SALES"})).await;
    assert_eq!(moving.event("session:updated").await["userRole"], "SALES");
    assert_eq!(moving.event("sync:reset").await["seq"], 3);
    moving.expect_silence().await;
    bystander.expect_silence().await;
    assert!(!resumes(&app, &token, Seq(2)).await);
    assert!(resumes(&app, &token, Seq(3)).await);
    // An open socket that requests events from before its last rights change gets the same.
    let epoch = app.app().store().epoch();
    let answer = moving.call("sync:since", json!({"seq": 2, "epoch": epoch})).await;
    assert_eq!(answer["recovered"], false, "{answer}");
    moving.event("sync:reset").await;
    moving.call("lead:subscribe", json!({"leadId": lead["id"], "since": 2})).await;
    moving.event("lead:subscribed").await;
    moving.event("sync:reset").await;
    moving.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_or_reactivated_account_cannot_resume_from_before() {
    let app = TestApp::start().await;
    app.lead(json!({"title": "Roof"})).await;
    let user = app.add_user("late", Role::Sales).await;
    app.lead(json!({"title": "Barn"})).await;
    let token = app.login(&user.email).await;
    assert!(!resumes(&app, &token, Seq(0)).await, "that was before there was an account");
    assert!(resumes(&app, &token, Seq(1)).await);

    patch_user(&app, &user, json!({"active": false})).await;
    app.lead(json!({"title": "Shed"})).await;
    patch_user(&app, &user, json!({"active": true})).await;
    let token = app.login(&user.email).await;
    assert!(!resumes(&app, &token, Seq(2)).await);
    assert!(resumes(&app, &token, head(&app)).await);
    // An ended session, or changed rights of another user, do not affect a resume.
    let seen = head(&app);
    let login = json!({"email": user.email, "password": PASSWORD});
    let grant = app.anonymous().post("/api/auth/login", login).await.expect(StatusCode::OK);
    let logout = json!({"refreshToken": grant["refreshToken"]});
    app.anonymous().post("/api/auth/logout", logout).await.expect(StatusCode::NO_CONTENT);
    patch_user(&app, app.user(Role::Viewer), json!({"role": "MANAGER"})).await;
    assert!(head(&app) > seen && resumes(&app, &token, seen).await);
}

/// The number of a set, whether it resets clients, and its activation.
type Announced = (Generation, bool, Box<dyn FnOnce() + Send>);

/// Numbers sets and activates them when the test decides.
#[derive(Default)]
struct Slow {
    recorded: AtomicU64,
    is_failing: AtomicBool,
    waiting: Mutex<Vec<Announced>>,
}

impl Archive for Slow {
    fn last(&self) -> Result<Option<StoredGeneration>, String> {
        Ok(None)
    }

    fn record(&self, _: &[GenerationMember], _: &[(&str, &[u8])]) -> Result<Generation, String> {
        Ok(Generation(self.recorded.fetch_add(1, Ordering::SeqCst)).next())
    }

    fn switch(&self, generation: Generation, resets: bool, swap: Box<dyn FnOnce() + Send>) -> Result<(), String> {
        if self.is_failing.load(Ordering::SeqCst) {
            return Err("the disk is full".into());
        }
        self.waiting.lock().push((generation, resets, swap));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_set_activates_only_when_its_event_is_written_and_passed() {
    let dir = tempfile::tempdir().expect("a folder");
    let plugins = dir.path().join("plugins");
    fs::create_dir(&plugins).expect("a folder");
    let settings =
        PluginsConfig { dir: Some(plugins.clone()), data_dir: dir.path().into(), ..PluginsConfig::default() };
    let archive = Arc::new(Slow::default());
    archive.is_failing.store(true, Ordering::SeqCst);
    let (opened, given) = (settings.clone(), archive.clone());
    let open = move || Plugins::open_recorded(opened, Box::new(|_| Vec::new()), given);
    let loaded = tokio::task::spawn_blocking(open).await.expect("ends").expect("opens");
    assert_eq!(loaded.generation(), Generation(1), "the first set needs no line");

    fs::write(plugins.join("guard.wasm"), hiding("/lead/email").build()).expect("written");
    let recorded = || archive.recorded.load(Ordering::SeqCst);
    until_true("it was tried more than once", || recorded() > 2).await;
    assert_eq!((loaded.generation(), loaded.status().len()), (Generation(1), 0), "the old set stays");

    archive.is_failing.store(false, Ordering::SeqCst);
    until_true("its line is written", || !archive.waiting.lock().is_empty()).await;
    assert_eq!((loaded.generation(), loaded.status().len()), (Generation(1), 0), "the line was not passed yet");
    let mut changed = loaded.changed();
    changed.borrow_and_update();
    let (generation, resets, swap) = archive.waiting.lock().pop().expect("one");
    assert!(resets);
    swap();
    timeout(PATIENCE, changed.changed()).await.expect("in time").expect("the plugins are there");
    assert_eq!((loaded.generation(), loaded.status()[0].state), (generation, PluginState::Active));

    // A changed status of the same plugins needs no event.
    fs::write(plugins.join("broken.wasm"), "no component").expect("written");
    until_true("it is refused", || loaded.status().iter().any(|status| status.state == PluginState::Refused)).await;
    assert_eq!((loaded.generation(), archive.waiting.lock().len()), (generation, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_waiting_for_a_failing_plugin_is_reset_when_it_is_replaced() {
    // A trial run would detect that it fails.
    let app = TestApp::with(|config| config.plugins.dry_run_events = 0).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let failing = Guest::new("guard").roles(["VIEWER"]).filtering("(unreachable)", Ok(vec![]));
    put(&app, "guard", &failing);
    until_state(&app, "guard", PluginState::Active).await;
    let mut viewer = connect(&app, app.token(Role::Viewer)).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    app.client(Role::Admin).patch(&path, json!({"title": "Barn"})).await.expect(StatusCode::OK);
    put(&app, "guard", &hiding("/lead/email"));
    let reset = async { while viewer.next().await.0 != "sync:reset" {} };
    timeout(PATIENCE, reset).await.expect("in time");
    app.client(Role::Admin).patch(&path, json!({"title": "Shed"})).await.expect(StatusCode::OK);
    assert_eq!(viewer.event("lead:updated").await["lead"]["title"], "Shed");
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_of_many_sockets_are_paced() {
    const SOCKETS: usize = 30;
    let app = TestApp::start().await;
    app.lead(json!({"title": "Roof"})).await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(connect(&app, app.token(Role::Viewer)).await);
    }
    put(&app, "guard", &hiding("/lead/email"));
    let mut moments = tokio::task::JoinSet::new();
    for mut socket in sockets {
        moments.spawn(async move {
            socket.event("sync:reset").await;
            std::time::Instant::now()
        });
    }
    let mut moments = moments.join_all().await;
    moments.sort_unstable();
    // 100 a second: the last one is due 290 ms after the first.
    let span = moments[SOCKETS - 1] - moments[0];
    assert!(span >= Duration::from_millis(200), "{span:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_lost_before_its_paced_reset_is_reset_on_resume() {
    // 100 a second: the last one is due 600 ms after the first.
    const SOCKETS: usize = 60;
    let app = TestApp::start().await;
    app.lead(json!({"title": "Roof", "email": "a@b.example"})).await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(connect(&app, app.token(Role::Viewer)).await);
    }
    put(&app, "guard", &hiding("/lead/email"));
    until_true("the line is written", || head(&app) == Seq(2)).await;
    // Newer than the reset event, but no reason to fetch the first lead again.
    let barn = app.lead(json!({"title": "Barn"})).await;
    assert_eq!(head(&app), Seq(3));

    let mut ways = tokio::task::JoinSet::new();
    for (number, mut socket) in sockets.into_iter().enumerate() {
        ways.spawn(async move {
            if number % 2 == 0 {
                let first = socket.next().await;
                return (Some(socket), vec![first]);
            }
            (None, socket.lose_with_events().await)
        });
    }
    let mut cut_before = 0;
    let mut stayed = Vec::new();
    for (socket, events) in ways.join_all().await {
        let is_reset = events.iter().any(|(name, _)| name == "sync:reset");
        match socket {
            Some(socket) => {
                assert!(is_reset, "nothing newer goes ahead: {events:?}");
                stayed.push((socket, events[0].1["seq"].as_u64().expect("a seq")));
            }
            None if is_reset => {}
            None => {
                cut_before += 1;
                let since = events.iter().filter_map(|(_, payload)| payload["seq"].as_u64()).max().unwrap_or(1);
                assert!(!resumes(&app, app.token(Role::Viewer), Seq(since)).await, "it was sent {events:?}");
            }
        }
    }
    assert!(cut_before > 0, "nobody was cut in time");

    // A socket that was reset continues from the seq of the reset.
    let path = format!("/api/leads/{}", barn["id"].as_str().expect("an id"));
    app.client(Role::Admin).patch(&path, json!({"title": "Shed"})).await.expect(StatusCode::OK);
    for (mut socket, since) in stayed {
        if since < 3 {
            assert_eq!(socket.event("lead:created").await["seq"], 3);
        }
        assert_eq!(socket.event("lead:updated").await["seq"], 4);
    }
}

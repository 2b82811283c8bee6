//! Plugins that follow the log: their calls, valid answers, and required grants.

use std::fs;

use leadwire::{
    domain::{
        counter::{Generation, Seq},
        role::Role,
        time::Timestamp,
    },
    plugin::{
        AfterError, AfterOutcome, EffectName, EventFollower, Occasion, PluginState, PluginStatus, Plugins,
        PluginsConfig, REMINDER,
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    guest::{self, Guest, Wants, outcome},
    socket_client::PATIENCE,
    support::TestApp,
};

/// A plugin folder with one follower, and the plugins loaded from it.
struct Yard {
    folder: TempDir,
    plugins: Plugins,
}

impl Yard {
    fn open(follower: &Guest, settings: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let dir = folder.path().join("plugins");
        fs::create_dir(&dir).expect("a folder");
        fs::write(dir.join("follower.wasm"), follower.build()).expect("written");
        fs::write(dir.join("follower.toml"), settings).expect("written");
        let settings =
            PluginsConfig { dir: Some(dir), data_dir: folder.path().join("data"), ..PluginsConfig::default() };
        let plugins = Plugins::open(settings, Box::new(|_| Vec::new())).expect("opens");
        Self { folder, plugins }
    }

    fn granting(follower: &Guest, effects: &str) -> Self {
        let yard = Self::open(follower, &format!("grant.effects = [{effects}]"));
        assert_eq!(yard.status().state, PluginState::Active, "{:#?}", yard.status());
        yard
    }

    fn status(&self) -> PluginStatus {
        self.plugins.status().pop().expect("one plugin")
    }

    fn ask(&self, name: &str) -> Result<Option<AfterOutcome>, AfterError> {
        let (payload, context) = (json!({"lead": lead(), "key": "k"}), json!({"lead": lead()}));
        let at = Timestamp::from_millis(0).expect("a moment");
        let (payload, context) = (&payload, &context);
        let occasion = Occasion { id: "e/7", seq: Some(Seq(7)), at, name, payload, context, state: Some("kept") };
        self.plugins.after(&"follower".parse().expect("a name"), &occasion)
    }

    fn fault(&self) -> String {
        match self.ask("lead:updated") {
            Err(AfterError::Unavailable(unavailable)) => unavailable.reason,
            other => panic!("no fault: {other:?}"),
        }
    }
}

fn lead() -> Value {
    json!({"id": "0190", "title": "Roof"})
}

fn follower() -> Guest {
    Guest::new("follower").events([]).fields(["/lead"])
}

#[test]
fn after_is_called_for_wanted_events_and_returns_effects() {
    let answer = guest::Outcome { echo: true, ..outcome([("notify", ""), ("lead:assign", "{\"ownerId\":null}")]) };
    let wants = Wants::new(["lead:*"], ["lead:assign", "notify"]);
    let yard = Yard::granting(&follower().after(wants, answer), "\"notify\", \"lead:assign\"");
    let outcome = yard.ask("lead:updated").expect("answers").expect("is wanted");
    let effects: Vec<_> =
        outcome.effects.into_iter().map(|effect| (effect.name, Value::Object(effect.input))).collect();
    assert_eq!(effects, [(EffectName::Notify, lead()), (EffectName::AssignLead, json!({"ownerId": null}))]);
    assert_eq!(outcome.state.as_deref(), Some("e/7"));
    for unwanted in ["activity:created", "session:updated", REMINDER] {
        assert_eq!(yard.ask(unwanted), Ok(None), "{unwanted}");
    }
    assert_eq!(yard.status().counts.calls, 1);
    let known =
        EventFollower { name: "follower".parse().expect("a name"), version: "1.0.0".into(), generation: Generation(1) };
    assert_eq!(yard.plugins.followers(), [known]);
}

#[test]
fn only_plugins_with_remind_get_due_reminders() {
    let yard = Yard::granting(&follower().after(Wants::new([], ["remind"]), outcome([])), "\"remind\"");
    assert_eq!(yard.ask(REMINDER), Ok(Some(AfterOutcome::default())));
    let yard = Yard::granting(&follower().after(Wants::new(["*"], []), outcome([])), "");
    assert_eq!(yard.ask(REMINDER), Ok(None));
}

#[test]
fn a_plugin_without_after_is_not_a_follower() {
    let yard = Yard::open(&Guest::redactor("follower"), "");
    assert_eq!(yard.status().state, PluginState::Active);
    assert_eq!(yard.ask("lead:updated"), Err(AfterError::Gone));
    assert!(
        yard.plugins.followers().is_empty()
            && yard.plugins.webhook_grant(&"follower".parse().expect("a name")).is_none()
    );
}

#[test]
fn an_invalid_answer_is_a_fault_that_names_it() {
    let (long, many) = (format!("{{\"a\":\"{}\"}}", "x".repeat(64 << 10)), vec![("notify".into(), "{}".into()); 65]);
    let bad = [
        (outcome([("lead:delete", "{}")]), "unknown effect \"lead:delete\""),
        (outcome([("notify", "{}"), ("webhook", "{}")]), "the effect webhook, which it does not list in wants"),
        (outcome([("notify", "{")]), "the input of the effect notify is not a JSON object"),
        (outcome([("notify", "[]")]), "the input of the effect notify is not a JSON object"),
        (outcome([("notify", &long)]), "65544 bytes of input for the effect notify; 65536 are allowed"),
        (guest::Outcome { effects: many, ..outcome([]) }, "65 effects; 64 are allowed"),
        (guest::Outcome { state: Some(long.clone()), ..outcome([]) }, "65544 bytes of state; 65536 are allowed"),
    ];
    for (answer, reason) in bad {
        let yard = Yard::granting(&follower().after(Wants::new(["*"], ["notify"]), answer), "\"notify\"");
        assert!(yard.fault().contains(reason), "{reason}: {}", yard.fault());
        assert_eq!(yard.status().last_fault.expect("a fault").hook, "after");
    }
}

#[test]
fn a_failing_follower_opens_its_breaker_and_withholds_nothing() {
    let failing = follower().following(Wants::new(["*"], []), "", Err("not today".into()));
    let yard = Yard::open(&failing, "on_failure = \"closed\"");
    for _ in 0..5 {
        assert_eq!(yard.fault(), "after answered with an error: not today");
    }
    yard.fault();
    let status = yard.status();
    assert_eq!((status.state, status.counts.calls, status.counts.skipped), (PluginState::Failing, 5, 1));
    assert_eq!((status.holds, yard.plugins.ready()), (false, Ok(())));
}

#[test]
fn invalid_wants_are_refused_by_name() {
    let bad = [
        (Wants::new(["lead *"], []), "wants gave an invalid answer: \"lead *\" is not an event"),
        (Wants::new([], ["e-mail"]), "unknown effect \"e-mail\": expected one of notify, activity:create"),
        (Wants::new([], ["webhook"]).webhooks_to(["https://a.example/x"]), "is not a webhook host"),
    ];
    for (wants, reason) in bad {
        let yard = Yard::open(&follower().after(wants, outcome([])), "");
        let refused = yard.status();
        assert!(refused.reason.as_ref().is_some_and(|why| why.contains(reason)), "{reason}: {refused:#?}");
        assert_eq!(refused.state, PluginState::Refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_without_its_grants_is_refused_and_the_old_one_stays_active() {
    let yard = Yard::granting(&follower().after(Wants::new(["*"], ["notify"]), outcome([])), "\"notify\"");
    let mut changed = yard.plugins.changed();
    let newer = follower().version("2.0.0").after(Wants::new(["*"], ["notify", "lead:assign"]), outcome([]));
    fs::write(yard.folder.path().join("plugins/follower.wasm"), newer.build()).expect("written");
    while yard.status().candidate.is_none() {
        timeout(PATIENCE, changed.changed()).await.expect("it is looked at").expect("the plugins are there");
    }
    let status = yard.status();
    assert_eq!((status.state, status.version.as_deref()), (PluginState::Active, Some("1.0.0")));
    assert!(status.candidate.expect("one").reason.contains("effects = [\"notify\", \"lead:assign\"]"));
    assert_eq!(yard.ask("lead:updated"), Ok(Some(AfterOutcome::default())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_applies_at_once() {
    let guest = Guest::redactor("follower").after(Wants::new(["*"], ["notify", "lead:assign"]), outcome([]));
    let yard = Yard::granting(&guest, "\"notify\", \"lead:assign\"");
    let mut changed = yard.plugins.changed();
    fs::write(yard.folder.path().join("plugins/follower.toml"), "grant.effects = [\"notify\"]").expect("written");
    while yard.status().state == PluginState::Active {
        timeout(PATIENCE, changed.changed()).await.expect("it is looked at").expect("the plugins are there");
    }
    let status = yard.status();
    assert_eq!((status.state, status.holds), (PluginState::Refused, true), "what its filter hides stays held");
    assert!(status.reason.expect("a reason").contains("the effect lead:assign"));
    assert_eq!(yard.ask("lead:updated"), Err(AfterError::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_with_missing_grants_loads_after_they_are_added() {
    let wants = Wants::new(["lead:*"], ["lead:assign", "webhook"]).webhooks_to(["Hooks.example.com"]);
    let guest = Guest::redactor("follower").whole_payload().after(wants, outcome([]));
    let yard = Yard::open(&guest, "[grant]\nhooks = [\"filter\"]\n");
    let refused = yard.status();
    let reason = refused.reason.expect("a reason");
    assert_eq!(refused.state, PluginState::Refused);
    for lacking in ["the hook after", "whole payloads", "the effect lead:assign", "webhooks to hooks.example.com"] {
        assert!(reason.contains(lacking), "{lacking}: {reason}");
    }

    let mut changed = yard.plugins.changed();
    let secret = "webhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
    let lines = reason.split_once("follower.toml:\n").expect("lines").1;
    fs::write(yard.folder.path().join("plugins/follower.toml"), format!("{secret}{lines}")).expect("written");
    while yard.status().state != PluginState::Active {
        timeout(PATIENCE, changed.changed()).await.expect("it is taken up").expect("the plugins are there");
    }
    let grant = yard.plugins.webhook_grant(&"follower".parse().expect("a name")).expect("it follows");
    assert_eq!((grant.hosts, grant.networks), (vec!["hooks.example.com".to_owned()], vec![]));
    assert_eq!(grant.secret.as_deref(), Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_shows_requested_and_granted_access() {
    let wants = Wants::new(["lead:created"], ["notify"]);
    let guest = follower().after(wants, outcome([])).build();
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("follower.wasm"), &guest).expect("written");
        let grant = "[grant]\nevents = [\"lead:*\"]\neffects = [\"notify\", \"remind\"]\n";
        fs::write(dir.join("follower.toml"), grant).expect("written");
    })
    .await;
    let listed = app.client(Role::Admin).get("/api/plugins").await.expect(reqwest::StatusCode::OK);
    let plugin = &listed["items"][0];
    assert_eq!(plugin["hooks"], json!(["after"]));
    let common =
        json!({"hooks": ["after"], "commands": [], "fields": ["/lead"], "wholePayload": false, "webhookHosts": []});
    let with = |events: Value, effects: Value| {
        let mut access = common.clone();
        (access["events"], access["effects"]) = (events, effects);
        access
    };
    assert_eq!(plugin["asked"], with(json!(["lead:created"]), json!(["notify"])));
    assert_eq!(plugin["granted"], with(json!(["lead:*"]), json!(["notify", "remind"])));
}

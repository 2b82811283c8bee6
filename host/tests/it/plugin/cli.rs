//! `leadwire plugin …` as used by authors and operators, and the loaded result.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

use leadwire::{
    domain::{audience::Audience, id::UserId, role::Role, room::Room, time::Timestamp, user::User},
    plugin::{Decision, EffectName, Occasion, PluginState, Plugins, PluginsConfig, REMINDER, RequestedEffect, Shaped},
};
use serde_json::{Value, json};

use crate::support;

/// Target folder kept between runs, so that a plugin's dependencies are compiled once.
fn target_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Lock of the target folder `new-plugin`. All new plugins have the SDK at the same relative path, so Cargo cannot
/// distinguish them: two concurrent builds would overwrite each other.
static NEW_PLUGIN: Mutex<()> = Mutex::new(());

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the host is a folder of the repository")
}

fn plugin(arguments: &[&str], dir: &Path) -> Output {
    let mut command = support::leadwire(dir);
    command.arg("plugin").args(arguments).output().expect("leadwire starts")
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The error line of a refused command.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn load(dir: &Path, data_dir: &Path) -> Plugins {
    let settings = PluginsConfig { dir: Some(dir.into()), data_dir: data_dir.into(), ..PluginsConfig::default() };
    Plugins::open(settings, Box::new(|_| Vec::new())).expect("the folder can be read")
}

fn assert_active(plugins: &Plugins, names: &[&str]) {
    let status = plugins.status();
    let found: Vec<_> =
        status.iter().map(|plugin| (plugin.name.as_str(), plugin.state, plugin.reason.clone())).collect();
    let wanted: Vec<_> = names.iter().map(|&name| (name, PluginState::Active, None)).collect();
    assert_eq!(found, wanted);
}

fn lead(territory: &str) -> Value {
    let ann = json!({"id": uuid::Uuid::nil(), "name": "Ann", "email": "ann@example.com"});
    json!({
        "id": uuid::Uuid::nil(), "title": "Roof", "status": "NEW", "owner": ann, "createdBy": ann,
        "email": "bob@example.com", "phone": "+1 555 0100", "valueCents": 10_000_000,
        "custom": {"territory": territory}, "lastActivityAt": Timestamp::now(), "createdAt": Timestamp::now(),
    })
}

fn read(plugins: &Plugins, lead: &Value, role: Role) -> (Value, Audience) {
    let (payload, context) = (json!({"lead": lead}), json!({"lead": lead}));
    let mut shaped = plugins.shape("lead:read", &payload.into(), &context, &[role]);
    match shaped.pop() {
        Some((_, Shaped::Sent { payload, audience })) => ((*payload)["lead"].clone(), audience),
        other => panic!("held: {other:?}"),
    }
}

#[test]
fn a_new_plugin_passes_its_tests_builds_and_hides_its_field() {
    let dir = tempfile::tempdir().expect("a folder");
    let (home, folder) = (dir.path().join("my-plugin"), dir.path().join("plugins"));
    let _alone = NEW_PLUGIN.lock().unwrap_or_else(PoisonError::into_inner);
    done(&plugin(&["new", "my-plugin", "--dir", "."], dir.path()));

    let target = target_dir("new-plugin");
    let tests = Command::new("cargo").arg("test").env("CARGO_TARGET_DIR", &target).current_dir(&home).output();
    assert!(done(&tests.expect("cargo starts")).contains("2 passed"));

    let build = || {
        let mut build = support::leadwire(&home);
        build.args(["plugin", "build", "--out", "../plugins"]).env("CARGO_TARGET_DIR", &target);
        done(&build.output().expect("leadwire starts"))
    };
    assert_eq!(build(), "../plugins/my-plugin.wasm\n");

    fs::copy(home.join("plugin.toml"), folder.join("my-plugin.toml")).expect("copied");
    let plugins = load(&folder, dir.path());
    assert_active(&plugins, &["my-plugin"]);
    assert!(read(&plugins, &lead("north"), Role::Viewer).0.get("phone").is_none());
    assert!(read(&plugins, &lead("north"), Role::Manager).0.get("phone").is_some());
    assert!(plugins.hidden(Role::Viewer).covers("/lead/phone"));

    // A panic withholds the payload and is reported with its location and reason.
    let source = fs::read_to_string(home.join("src/lib.rs")).expect("there");
    let verdict = "let hidden = self";
    fs::write(home.join("src/lib.rs"), source.replace(verdict, &format!("panic!(\"no idea\");\n{verdict}")))
        .expect("written");
    build();
    let plugins = load(&folder, dir.path());
    let payload = json!({"lead": lead("north")});
    let shaped = plugins.shape("lead:read", &payload.clone().into(), &payload, &[Role::Viewer]);
    assert!(matches!(&shaped[..], [(_, Shaped::Held { plugin, .. })] if plugin == "my-plugin"), "{shaped:?}");
    let fault = plugins.status().remove(0).last_fault.expect("a fault").reason;
    assert!(fault.contains("src/lib.rs:") && fault.contains("no idea"), "{fault}");
}

#[test]
fn a_new_plugin_of_each_hook_passes_its_tests_and_cases_and_loads() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("plugins");
    fs::create_dir(&folder).expect("made");
    let hooks = ["after", "authorize", "before", "enrich"];
    let _alone = NEW_PLUGIN.lock().unwrap_or_else(PoisonError::into_inner);
    for hook in hooks {
        done(&plugin(&["new", hook, "--hook", hook], dir.path()));
        let mut test = support::leadwire(dir.path());
        test.args(["plugin", "test", hook, "--json"]).env("CARGO_TARGET_DIR", target_dir("new-plugin"));
        let report = done(&test.output().expect("leadwire starts"));
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!((&report["native"], &report["cases"][1]["ok"]), (&json!("ok"), &json!(true)), "{report}");
        let built = dir.path().join(hook).join("target").join(hook).with_extension("wasm");
        fs::copy(built, folder.join(hook).with_extension("wasm")).expect("copied");
        fs::copy(dir.path().join(hook).join("plugin.toml"), folder.join(hook).with_extension("toml")).expect("copied");
    }
    assert_active(&load(&folder, dir.path()), &hooks);
}

#[test]
fn the_sample_plugins_build_and_work_together_as_documented() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("plugins");
    let names =
        ["audit-webhook", "lead-score", "redact-contact", "round-robin", "sla-watch", "territory", "validate-lead"];
    let sources = names.map(|name| format!("plugins/{name}"));
    let out = folder.display().to_string();
    let arguments = [&["build", "--out", &out][..], &sources.each_ref().map(String::as_str)[..]].concat();
    done(&plugin(&arguments, repository()));

    let [own, other] = [UserId(uuid::Uuid::now_v7()), UserId(uuid::Uuid::now_v7())];
    for name in names {
        let settings = repository().join("plugins").join(name).join("plugin.toml");
        let text = fs::read_to_string(settings).expect("a sample of settings");
        let text = text.replace("00000000-0000-7000-8000-000000000001", &own.to_string());
        let text = text.replace("enabled = false", "enabled = true");
        fs::write(folder.join(format!("{name}.toml")), text).expect("written");
    }
    let plugins = load(&folder, dir.path());
    assert_active(&plugins, &names);

    let (seen, audience) = read(&plugins, &lead("north"), Role::Viewer);
    assert_eq!((seen.get("email"), seen.get("phone"), seen.get("valueCents")), (None, None, None));
    assert_eq!((&seen["score"], audience), (&json!(60), Audience::Everyone));
    let (seen, audience) = read(&plugins, &lead("north"), Role::Sales);
    assert_eq!((&seen["email"], audience), (&json!("bob@example.com"), Audience::Only([own].into())));
    assert_eq!(read(&plugins, &lead("west"), Role::Sales).1, Audience::Nobody);

    let room: Room = "lead:1".parse().expect("a room");
    let subscribe = |id: UserId| {
        let user = User {
            id,
            email: "sales@example.com".into(),
            name: "Sales".into(),
            role: Role::Sales,
            active: true,
            created_at: Timestamp::now(),
            updated_at: Timestamp::now(),
        };
        plugins.authorize_subscribe(&user, &room, Some(&lead("north"))).expect("an answer")
    };
    assert_eq!(subscribe(own), Decision::Allow);
    assert_eq!(subscribe(other), Decision::Deny("this lead is not in your territory".into()));

    let mut unowned = lead("north");
    (unowned["id"], unowned["owner"]) = (json!("1"), Value::Null);
    let effects = |plugin: &str, name: &str, payload: Value| -> Vec<RequestedEffect> {
        let (at, context) = (Timestamp::now(), json!({"lead": unowned}));
        let occasion =
            Occasion { id: "1", seq: None, at, name, payload: &payload, context: &context, state: Some("{}") };
        plugins.after(&plugin.parse().expect("a name"), &occasion).expect("answers").expect("is wanted").effects
    };
    for follower in ["round-robin", "sla-watch"] {
        let effects = effects(follower, "lead:created", json!({"lead": unowned}));
        assert_eq!((effects.len(), effects[0].name), (1, EffectName::Remind), "{follower}");
    }
    let reminder = json!({"key": "1", "at": Timestamp::now(), "leadId": "1", "data": null});
    let effects = effects("round-robin", REMINDER, reminder);
    let input = json!({"leadId": "1", "ownerId": own});
    assert_eq!((effects[0].name, Value::Object(effects[0].input.clone())), (EffectName::AssignLead, input));
}

#[test]
fn an_operator_disables_enables_and_removes_a_plugin() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = dir.path().join("mine.toml");
    fs::write(dir.path().join("mine.wasm"), b"").expect("written");
    fs::write(&settings, "enabled = true # for now\n").expect("written");
    let run = |command: &str| plugin(&[command, "mine", "--plugins", ".", "--data-dir", "data"], dir.path());

    done(&run("disable"));
    assert_eq!(fs::read_to_string(&settings).expect("there"), "enabled = false # for now\n");
    done(&run("enable"));
    assert_eq!(fs::read_to_string(&settings).expect("there"), "enabled = true # for now\n");
    done(&run("remove"));
    assert!(!settings.exists() && !dir.path().join("mine.wasm").exists());
    assert!(refused(&run("remove")).contains("there is no plugin mine"));
    assert!(refused(&run("disable")).contains("there is no plugin mine"));
}

#[test]
fn a_failed_build_is_a_one_line_error() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(refused(&plugin(&["build"], dir.path())).contains("it has no Cargo.toml"));
    let host = repository().join("host");
    let said = plugin(&["build"], &host);
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("package leadwire is not a plugin"), "{said:?}");
    assert!(refused(&plugin(&["new", "Not_A_Name"], dir.path())).contains("is not a plugin name"));
}

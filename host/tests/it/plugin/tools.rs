//! Commands of a plugin author: check, test, bench, watch and list, with the real binary.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    guest::{Guest, Verdict, everyone, remove, set},
    plugin::hooks::built,
    support::{self, TestApp},
};

fn leadwire(arguments: &[&str], dir: &Path) -> Command {
    let mut command = support::leadwire(dir);
    command.arg("plugin").args(arguments);
    command
}

fn plugin(arguments: &[&str], dir: &Path) -> Output {
    leadwire(arguments, dir).output().expect("leadwire starts")
}

#[track_caller]
fn json_of(output: &Output, code: i32) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}{said}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("stdout is JSON and nothing else")
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the host is a folder of the repository")
}

/// Runs a check of `guest.wasm` with these settings.
fn check(bytes: &[u8], settings: &str, more: &[&str]) -> (Output, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("guest.wasm"), bytes).expect("written");
    fs::write(dir.path().join("guest.toml"), settings).expect("written");
    (plugin(&[&["check", "guest.wasm"], more].concat(), dir.path()), dir)
}

fn check_named<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().expect("a list");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {report}"))
}

#[test]
fn a_valid_component_passes_every_check_with_timings() {
    let guest = Guest::redactor("guest").version("2.1.0").fields(["/lead/status"]).build();
    let (output, dir) = check(&guest, "", &["--json", "--seed", "7", "--fuzz", "100"]);
    let report = json_of(&output, 0);
    assert_eq!(
        (&report["ok"], &report["plugin"], &report["version"]),
        (&json!(true), &json!("guest"), &json!("2.1.0"))
    );
    assert_eq!(
        (&report["hooks"], &report["seed"], &report["file"]),
        (&json!(["filter"]), &json!(7), &json!("guest.wasm"))
    );
    let names: Vec<&str> = report["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|check| check["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "file",
            "imports",
            "settings",
            "interface",
            "describe",
            "init",
            "grants",
            "golden",
            "fuzzed",
            "decided",
            "hides",
            "valid",
            "repeatable",
            "latency"
        ]
    );
    for check in report["checks"].as_array().expect("a list") {
        // On a busy machine a call may take long by its thread's clock, too.
        assert!(check["state"] == "ok" || check["name"] == "latency", "{check}");
    }
    assert!(report["latency"][0]["p50Us"].as_f64().is_some_and(|us| us > 0.0), "{report}");

    let text = plugin(&["check", "guest.wasm"], dir.path());
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.starts_with("guest.wasm\n\nok       file        a component of"), "{text}");
    assert!(text.contains("guest 2.1.0: 1"), "{text}");
}

/// Answers for viewers once `code` has run.
fn doing(code: &str) -> Guest {
    let verdicts: Vec<Verdict> = vec![everyone("VIEWER", [])];
    Guest::new("guest").roles(["VIEWER"]).filtering(code, Ok(verdicts))
}

#[test]
fn each_defect_fails_its_named_check_with_a_fix() {
    let wat = |text: &str| wat::parse_str(text).expect("valid text");
    let good = || Guest::redactor("guest");
    let sockets = wat("(component (import \"wasi:sockets/tcp@0.2.0\" (instance)))");
    let long = "(if (i32.gt_u (local.get 3) (i32.const 0))
                  (then (if (i32.gt_u (i32.load offset=12 (local.get 2)) (i32.const 3000)) (then unreachable))))";
    let odd = "(if (i32.and (global.get $calls) (i32.const 1)) (then unreachable))";
    let unannounced = Guest::new("guest").roles(["VIEWER"]).filter([everyone("VIEWER", [remove("/lead/email")])]);
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("file", b"no component".to_vec(), "", "not WebAssembly"),
        ("file", wat("(module)"), "", "core module"),
        ("imports", sockets, "", "wasi:sockets/tcp@0.2.0"),
        ("settings", good().build(), "enabeld = true", "did you mean enabled?"),
        ("interface", wat("(component)"), "", "lifecycle"),
        ("describe", Guest::redactor("other").build(), "", "must be named other.wasm"),
        ("describe", good().describing("unreachable").build(), "", "trapped"),
        ("init", good().refusing_config("config.roles: expected some").build(), "", "config.roles: expected some"),
        ("grants", good().whole_payload().build(), "", "whole_payload"),
        ("golden", doing("unreachable").build(), "", "trapped"),
        ("golden", Guest::new("guest").filtering("", Err("no idea".into())).build(), "", "no idea"),
        ("fuzzed", doing(long).fields(["/lead"]).build(), "", "seed 1"),
        ("decided", Guest::new("guest").roles(["VIEWER"]).filter([]).build(), "", "no verdict for VIEWER"),
        ("hides", unannounced.build(), "", "/lead/email for VIEWER"),
        ("valid", Guest::new("guest").enrich([set("/lead/x", "{")]).build(), "", "is not valid JSON"),
        ("repeatable", doing(odd).build(), "", "the same instance, asked again, trapped"),
        ("latency", doing("(loop $again (br $again))").build(), "timeout_ms = 2", "ran past its deadline of 2 ms"),
    ];
    for (name, bytes, settings, why) in cases {
        let (output, _dir) = check(&bytes, settings, &["--json"]);
        let report = json_of(&output, 1);
        let failed = check_named(&report, name);
        assert_eq!((&failed["state"], &report["ok"]), (&json!("failed"), &json!(false)), "{name}: {report}");
        assert!(failed["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{name}: {failed}");
        assert!(failed["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{name}: {failed}");
        if ["file", "describe", "init"].contains(&name) {
            assert_eq!(check_named(&report, "golden")["state"], "skipped", "{report}");
        }
    }
}

#[test]
fn a_seed_reproduces_its_report_and_unusable_input_exits_with_2() {
    let guest = doing(
        "(if (i32.gt_u (local.get 3) (i32.const 0))
                  (then (if (i32.gt_u (i32.load offset=12 (local.get 2)) (i32.const 3000)) (then unreachable))))",
    );
    let guest = guest.fields(["/lead"]).build();
    let fuzzed = || check_named(&json_of(&check(&guest, "", &["--json", "--seed", "3"]).0, 1), "fuzzed").clone();
    assert_eq!(fuzzed(), fuzzed());

    let dir = tempfile::tempdir().expect("a folder");
    for arguments in [&["check", "none.wasm"][..], &["check", "lib.rs"], &["check"], &["bench", "none.wasm"], &["test"]]
    {
        let output = plugin(arguments, dir.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_check_uses_the_servers_limits_and_names_their_source() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("guest.wasm"), Guest::redactor("guest").build()).expect("written");
    let checked = |more: &[&str]| {
        let arguments = [&["check", "guest.wasm", "--fuzz", "10", "--json"], more].concat();
        let report = json_of(&plugin(&arguments, dir.path()), 0);
        let detail = check_named(&report, "latency")["detail"].as_str().expect("text").to_owned();
        let budget = detail.rsplit("it has ").next().expect("the last part").to_owned();
        assert_eq!(format!("{} ms", report["limits"]["timeoutMs"]), budget, "{report}");
        (budget, report["limitsFrom"].as_str().expect("text").to_owned())
    };
    assert_eq!(checked(&[]), ("10 ms".into(), "the defaults".into()));

    let config = |ms: u32| format!("[plugins.limits]\ntimeout_ms = {ms}\n");
    fs::write(dir.path().join("leadwire.toml"), config(2000)).expect("written");
    fs::write(dir.path().join("other.toml"), config(3000)).expect("written");
    assert_eq!(checked(&[]), ("2000 ms".into(), "leadwire.toml".into()));
    assert_eq!(checked(&["--config", "other.toml"]), ("3000 ms".into(), "other.toml".into()));

    fs::write(dir.path().join("guest.toml"), "timeout_ms = 4000\n").expect("written");
    let both = "leadwire.toml, and guest.toml where it says otherwise";
    assert_eq!(checked(&[]), ("4000 ms".into(), both.into()));
    let text = plugin(&["check", "guest.wasm", "--fuzz", "10"], dir.path()).stdout;
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("it has 4000 ms\n") && text.contains(&format!("the limits are those of {both}\n")), "{text}");
}

#[test]
fn a_bench_reports_each_hook_and_an_empty_call() {
    let dir = tempfile::tempdir().expect("a folder");
    let guest = Guest::redactor("guest").enrich([set("/lead/x", "1")]).authorize(None).build();
    fs::write(dir.path().join("guest.wasm"), guest).expect("written");
    let measured = json_of(&plugin(&["bench", "guest.wasm", "--calls", "300", "--json"], dir.path()), 0);
    assert_eq!((&measured["empty"]["hook"], &measured["empty"]["calls"]), (&json!("describe"), &json!(300)));
    let hooks = measured["hooks"].as_array().expect("a list");
    let names: Vec<&Value> = hooks.iter().map(|figures| &figures["hook"]).collect();
    assert_eq!(names, ["authorize", "enrich", "filter"]);
    for figures in hooks {
        let ns = |key: &str| figures[key].as_f64().expect("a number");
        assert!(0.0 < ns("p50Ns") && ns("p50Ns") <= ns("p99Ns") && ns("p99Ns") <= ns("maxNs"), "{figures}");
        // Entering and leaving a component takes longer than this on any machine.
        assert!(ns("p50Ns") > 20.0, "{figures}");
        assert!(ns("timesEmpty") > 0.0 && figures["calls"] == 300, "{figures}");
    }
    let text = plugin(&["bench", "guest.wasm", "--calls", "300"], dir.path());
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.contains("(empty)") && text.contains("1 x"), "{text}");
    assert_eq!(text.contains("debug build"), cfg!(debug_assertions), "{text}");

    fs::write(dir.path().join("guest.wasm"), doing("unreachable").build()).expect("written");
    let failed = json_of(&plugin(&["bench", "guest.wasm", "--calls", "10", "--json"], dir.path()), 1);
    assert!(failed["error"].as_str().is_some_and(|why| why.contains("filter about lead:created")), "{failed}");
}

#[test]
fn the_samples_pass_their_cases() {
    let cases = [
        ("redact-contact", 5),
        ("lead-score", 5),
        ("territory", 5),
        ("validate-lead", 6),
        ("round-robin", 6),
        ("sla-watch", 6),
        ("audit-webhook", 3),
    ];
    for (name, number) in cases {
        let results =
            json_of(&plugin(&["test", &format!("plugins/{name}"), "--cases-only", "--json"], repository()), 0);
        let cases = results["cases"].as_array().expect("a list");
        assert!(cases.len() >= number && cases.iter().all(|case| case["ok"] == true), "{results}");
        assert_eq!(results["native"], Value::Null);
    }
}

#[test]
fn the_samples_pass_every_check_with_their_own_settings() {
    let rust =
        ["audit-webhook", "lead-score", "redact-contact", "round-robin", "sla-watch", "territory", "validate-lead"];
    let samples = rust.map(|name| ("plugins", name)).into_iter();
    for (folder, name) in samples.chain(["card-guard-py", "mask-email-js"].map(|name| ("lang-plugins", name))) {
        let Some(bytes) = built(folder, name) else { continue };
        let dir = tempfile::tempdir().expect("a folder");
        let file = format!("{name}.wasm");
        fs::write(dir.path().join(&file), bytes).expect("written");
        let settings = repository().join("plugins").join(name).join("plugin.toml");
        let settings = settings.to_str().expect("text");
        let output = plugin(&["check", &file, "--settings", settings, "--json"], dir.path());
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for check in report["checks"].as_array().expect("a list") {
            // On a busy machine a call may take long by its thread's clock, too.
            assert!(check["state"] != "failed" || check["name"] == "latency", "{name}: {check}");
        }
    }
}

#[test]
fn a_list_shows_the_folder_and_the_running_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("plugins");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("guard.wasm"), Guest::redactor("guard").version("1.4.0").build()).expect("written");
    fs::write(folder.join("bad.wasm"), b"no component").expect("written");
    fs::write(folder.join("off.wasm"), Guest::redactor("off").build()).expect("written");
    fs::write(folder.join("off.toml"), "enabled = false").expect("written");
    fs::create_dir(folder.join("folder.wasm")).expect("made");
    let data = dir.path().join("data");
    let list = || {
        let arguments = ["list", "--json", "--plugins", "plugins", "--data-dir", data.to_str().expect("text")];
        json_of(&plugin(&arguments, dir.path()), 0)
    };
    let states = |list: &Value| -> Vec<(String, String)> {
        let text = |item: &Value, key: &str| item[key].as_str().expect("text").to_owned();
        list["items"].as_array().expect("items").iter().map(|item| (text(item, "name"), text(item, "state"))).collect()
    };
    let own = |pairs: [(&str, &str); 4]| pairs.map(|(name, state)| (name.to_owned(), state.to_owned())).to_vec();

    let resting = list();
    assert_eq!(resting["server"], Value::Null);
    assert_eq!(
        states(&resting),
        own([("bad", "refused"), ("folder", "refused"), ("guard", "loadable"), ("off", "disabled")])
    );
    assert_eq!((&resting["items"][2]["version"], &resting["items"][2]["hooks"]), (&json!("1.4.0"), &json!(["filter"])));

    let settings = leadwire::plugin::PluginsConfig {
        dir: Some(folder.clone()),
        data_dir: data.clone(),
        ..leadwire::plugin::PluginsConfig::default()
    };
    let plugins = leadwire::plugin::Plugins::open(settings, Box::new(|_| Vec::new())).expect("opens");
    let running = list();
    assert_eq!(running["server"]["pid"], std::process::id());
    assert_eq!(
        states(&running),
        own([("bad", "refused"), ("folder", "refused"), ("guard", "active"), ("off", "disabled")])
    );
    assert_eq!(running["items"], json!(plugins.status()));

    fs::remove_file(folder.join("bad.wasm")).expect("removed");
    let deadline = Instant::now() + Duration::from_secs(30);
    while list()["items"].as_array().expect("items").len() != 3 {
        assert!(Instant::now() < deadline, "{}", list());
    }
    drop(plugins);
    while list()["server"] != Value::Null {
        assert!(Instant::now() < deadline, "{}", list());
    }
}

/// `leadwire plugin watch`, and what it printed so far.
struct Watcher {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Watcher {
    fn start(dir: &Path, into: &Path, target: &Path) -> Self {
        let mut command = leadwire(&["watch", "--into", into.to_str().expect("text")], dir);
        let mut child = command.env("CARGO_TARGET_DIR", target).stdout(Stdio::piped()).spawn().expect("starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
        Self { child, lines }
    }

    #[track_caller]
    fn until(&self, part: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(300);
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(part) {
                return line;
            }
            seen.push(line);
        }
        panic!("nobody said {part:?}: {seen:#?}");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_creates_a_plugin_that_reloads_on_each_save() {
    let app = TestApp::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("watched-plugin");
    assert!(plugin(&["new", "hide-it"], dir.path()).status.success());
    let home = dir.path().join("hide-it");

    // The generated cases pass, and a failing one reports its difference.
    let test =
        |arguments: &[&str]| leadwire(arguments, &home).env("CARGO_TARGET_DIR", &target).output().expect("starts");
    let good = json_of(&test(&["test", "--json"]), 0);
    assert_eq!((&good["native"], good["cases"].as_array().map(Vec::len)), (&json!("ok"), Some(2)), "{good}");
    let case = json!({
        "name": "wrong", "hook": "filter", "event": "lead:read", "lead": {"phone": "12"},
        "expect": {"VIEWER": {"values": {"/lead/phone": "12"}}},
    });
    fs::write(home.join("tests/wrong.json"), case.to_string()).expect("written");
    let wrong = test(&["test", "--cases-only"]);
    let text = String::from_utf8_lossy(&wrong.stdout).into_owned();
    assert_eq!(wrong.status.code(), Some(1), "{text}");
    assert!(
        text.contains("at VIEWER /lead/phone\n            expected \"12\"\n            found    nothing"),
        "{text}"
    );
    fs::write(home.join("tests/wrong.json"), r#"{"name": "n", "hook": "filter", "evnt": "x"}"#).expect("written");
    let unreadable = test(&["test", "--cases-only"]);
    assert_eq!(unreadable.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unreadable.stderr).contains("tests/wrong.json: case 1 (n): unknown field `evnt`"));
    fs::remove_dir_all(home.join("tests")).expect("removed");
    let none = test(&["test", "--cases-only"]);
    assert!(String::from_utf8_lossy(&none.stdout).contains("no cases"), "{none:?}");

    let folder: PathBuf = app.dir.path().join("plugins");
    let mut watcher = Watcher::start(&home, &folder, &target);
    watcher.until("hide-it 0.1.0 is in ");
    let mut changed = app.app().plugins().changed();
    let active = async |version: &str, changed: &mut tokio::sync::watch::Receiver<u64>| {
        let wanted = || {
            let status = app.app().plugins().status();
            status.iter().any(|plugin| plugin.name == "hide-it" && plugin.version.as_deref() == Some(version))
        };
        let wait = async {
            while !wanted() {
                changed.changed().await.expect("the server runs");
            }
        };
        tokio::time::timeout(Duration::from_secs(120), wait).await.expect("is in force");
    };
    active("0.1.0", &mut changed).await;
    assert!(folder.join("hide-it.toml").is_file(), "its settings came along");

    // Like an editor that writes a new file and renames it.
    let manifest = fs::read_to_string(home.join("Cargo.toml")).expect("there");
    let saved = Instant::now();
    fs::write(home.join(".Cargo.toml.part"), manifest.replace("0.1.0", "0.2.0")).expect("written");
    fs::rename(home.join(".Cargo.toml.part"), home.join("Cargo.toml")).expect("renamed");
    active("0.2.0", &mut changed).await;
    println!("from save to active: {:?}", saved.elapsed());
    let line = watcher.until("hide-it 0.2.0 is in ");
    println!("{line}");

    // A build error or failed check keeps the active plugin.
    let source = fs::read_to_string(home.join("src/lib.rs")).expect("there");
    fs::write(home.join("src/lib.rs"), format!("{source}\nnot rust")).expect("written");
    watcher.until("build rejected");
    fs::write(home.join("src/lib.rs"), source.replace("remove(\"/lead/phone\")", "remove(\"/lead/email\")"))
        .expect("written");
    watcher.until("build rejected: a check failed");
    watcher.until("failed   hides");
    let status = app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
    assert_eq!((&status["items"][0]["version"], &status["items"][0]["state"]), (&json!("0.2.0"), &json!("active")));

    // Without help of its child: it ends on a signal.
    let id = rustix::process::Pid::from_child(&watcher.child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("told");
    watcher.until("stopped");
    assert!(watcher.child.wait().expect("ended").success());
    let left: Vec<String> = folder
        .read_dir()
        .expect("there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
}

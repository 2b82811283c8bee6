//! The real binary on the command line: its output and exit codes.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SECRET: &str = "a-secret-that-nobody-may-ever-see-printed";

fn leadwire(home: &Path) -> Command {
    let mut command = crate::support::leadwire(home);
    command.stdin(Stdio::null()).env_remove("RUST_LOG").env("RUST_BACKTRACE", "1");
    command
}

fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a folder");
    configure(&home, "");
    home
}

fn configure(home: &TempDir, settings: &str) {
    let cheap = "[auth.password_hash]\nmemory_kib = 64\niterations = 1\n";
    fs::write(home.path().join("leadwire.toml"), format!("{settings}\n{cheap}")).expect("a file of settings");
}

fn run(home: &TempDir, arguments: &[&str]) -> Output {
    leadwire(home.path()).args(arguments).output().expect("leadwire runs")
}

fn run_with_input(home: &TempDir, arguments: &[&str], input: &str) -> Output {
    let mut command = leadwire(home.path());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("leadwire runs");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("input is read");
    child.wait_with_output().expect("an end")
}

#[track_caller]
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("utf-8")
}

/// The error line of a failed command.
#[track_caller]
fn failure(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).expect("utf-8");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
    // `serve` may have logged before it failed.
    let lines: Vec<_> = stderr.lines().filter(|line| !line.contains(" WARN ") && !line.contains(" INFO ")).collect();
    let [line] = lines[..] else { panic!("not one line: {stderr}") };
    line.strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {line}")).to_owned()
}

/// A server that is stopped at the end of the test.
struct Serving(Child, BufReader<std::process::ChildStdout>);

impl Serving {
    fn start(home: &TempDir, arguments: &[&str]) -> (Self, String) {
        Self::spawn(leadwire(home.path()).arg("serve").args(arguments))
    }

    fn spawn(command: &mut Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("leadwire runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        (Self(child, stdout), line)
    }

    /// Sends SIGTERM; returns the exit code, the remaining output and the log.
    fn end(mut self) -> (Option<i32>, String, String) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("a process to end");
        let (mut rest, mut log) = (String::new(), String::new());
        self.1.read_to_string(&mut rest).expect("utf-8");
        self.0.stderr.take().expect("a pipe").read_to_string(&mut log).expect("utf-8");
        (self.0.wait().expect("an end").code(), rest, log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serve_prints_one_line_when_ready_and_exits_cleanly_on_sigterm() {
    let home = home();
    let (serving, line) = Serving::start(&home, &["--listen", "127.0.0.1:0"]);
    let port = line.trim_end().strip_prefix("leadwire listening on http://127.0.0.1:").expect("the line");
    assert_ne!(port.parse::<u16>().expect("a port"), 0);

    let (code, rest, log) = serving.end();
    assert_eq!((code, rest.as_str()), (Some(0), ""));
    assert!(log.contains("received SIGTERM, shutting down"), "{log}");
}

#[test]
fn serve_generates_a_secret_with_mode_0600() {
    let home = home();
    let (_, _, log) = Serving::start(&home, &["--listen", "127.0.0.1:0"]).0.end();
    let path = home.path().join("leadwire-data/jwt-secret");
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
    let secret = fs::read_to_string(&path).expect("a secret");
    assert!(secret.len() >= 32 && !log.contains(&secret) && log.contains("jwt-secret"), "{log}");

    let (_, _, log) = Serving::start(&home, &["--listen", "127.0.0.1:0"]).0.end();
    assert_eq!(fs::read_to_string(&path).expect("a secret"), secret);
    assert!(!log.contains("jwt-secret"), "{log}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a change of mode");
    let line = failure(&run(&home, &["serve", "--listen", "127.0.0.1:0"]));
    assert!(line.contains("expected mode 0600") && line.contains("0644"), "{line}");
}

#[test]
fn serve_generates_no_secret_if_one_is_configured() {
    let home = home();
    let mut command = leadwire(home.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("LEADWIRE_AUTH__JWT_SECRET", SECRET);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("leadwire runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut String::new()).expect("a line");
    drop(Serving(child, stdout));
    assert!(!home.path().join("leadwire-data/jwt-secret").exists());
}

#[test]
fn a_server_recovers_from_running_out_of_file_descriptors() {
    let home = home();
    let mut command = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_leadwire");
    command.args(["-c", &format!("ulimit -n 80 && exec {binary} serve --listen 127.0.0.1:0")]);
    let (serving, line) = Serving::spawn(command.current_dir(home.path()));
    let address = line.trim_end().strip_prefix("leadwire listening on http://").expect("the line").to_owned();
    let connect = || TcpStream::connect(&address).expect("the system takes a connection");
    let crowd: Vec<_> = (0..120).map(|_| connect()).collect();
    drop(crowd);
    let mut stream = connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: leadwire\r\nConnection: close\r\n\r\n").expect("a listener");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (code, _, log) = serving.end();
    assert_eq!(code, Some(0));
    assert!(log.contains("cannot accept a connection"), "{log}");
}

#[test]
fn a_port_in_use_is_a_one_line_error_and_changes_no_data() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let home = home();
    let line = failure(&run(&home, &["serve", "--listen", &address]));
    assert!(line.starts_with(&format!("cannot listen on {address}: ")), "{line}");
    assert!(!home.path().join("leadwire.db").exists());

    configure(&home, &format!("[metrics]\nlisten = \"{address}\""));
    let line = failure(&run(&home, &["serve", "--listen", "127.0.0.1:0"]));
    assert!(line.starts_with(&format!("metrics.listen: cannot listen on {address}: ")), "{line}");
    assert!(!home.path().join("leadwire.db").exists());
}

#[test]
fn an_unreadable_database_is_a_one_line_error() {
    let home = home();
    fs::write(home.path().join("text.db"), "this is no database, whatever its name says ".repeat(100)).expect("a file");
    for arguments in
        [&["serve", "--listen", "127.0.0.1:0", "--database", "text.db"][..], &["migrate", "--database", "text.db"]]
    {
        let line = failure(&run(&home, arguments));
        assert!(line.starts_with("cannot open the database text.db: "), "{line}");
    }
    let line = failure(&run(&home, &["migrate", "--database", "no/such/folder.db"]));
    assert!(line.contains("no/such/folder.db"), "{line}");
    let line = failure(&run(&home, &["migrate", "--database", "postgres://me:hidden@db/leadwire"]));
    assert!(line.starts_with("database: expected a file") && !line.contains("hidden"), "{line}");
}

#[test]
fn configuration_errors_are_named_with_their_location() {
    for (settings, expected) in [
        ("acces_token_ttl = 1", "leadwire.toml: unknown key acces_token_ttl; did you mean auth.access_token_ttl?"),
        ("[auth]\njwt_secert = 1", "leadwire.toml: unknown key auth.jwt_secert; did you mean auth.jwt_secret?"),
        (
            "[http]\nrequest_timeout = 30",
            "leadwire.toml: http.request_timeout: expected a duration such as \"15m\", found a number",
        ),
        ("[log]\nkeep_for = \"59s\"", "log.keep_for: expected between 1m and 10 years, found 59s"),
        ("[log]\nkeep_events = 999", "log.keep_events: expected between 1000 and 1073741824, found 999"),
        ("[http]\nrequest_timeout = \"0s\"", "http.request_timeout: expected between 1ms and 10 years, found 0s"),
        ("[socket]\nmax_frame = \"big\"", "leadwire.toml: socket.max_frame: expected a whole number, found a string"),
        (
            "listen = \"localhost\"",
            "leadwire.toml: listen: expected an address and a port such as \"127.0.0.1:3001\", found \"localhost\"",
        ),
        ("[metrics]\nlisten = 9464", "leadwire.toml: metrics.listen: expected a string, found a number"),
        (
            "[http]\ntrusted_proxies = [\"proxy.example\"]",
            "leadwire.toml: http.trusted_proxies.0: expected a network or an address such as \"10.0.0.0/8\" or \"127.0.0.1\", found \"proxy.example\"",
        ),
        ("[limits]\nevents_burst = 0", "leadwire.toml: limits.events_burst: expected a whole number"),
        ("[limits]\nsubscriptions = 0", "limits.subscriptions: expected between 1 and 1073741824, found 0"),
        ("mode = \"fast\"", "leadwire.toml: mode: expected one of production, demo, found \"fast\""),
        (
            "[visibility]\nSALES = \"mine\"",
            "leadwire.toml: visibility.SALES: expected one of all, own, own+unassigned, found \"mine\"",
        ),
        (
            "[http]\ncors_origins = [\"crm.example\"]",
            "http.cors_origins: expected \"*\" or origins such as \"https://crm.example\", found \"crm.example\"",
        ),
        (
            "[http]\ncors_origins = [\"https://crm.example/\"]",
            "http.cors_origins: browsers never send \"https://crm.example/\": expected \"https://crm.example\"",
        ),
        ("[http]\ncors_origins = [\"null\"]", "http.cors_origins: \"null\" is what every sandboxed page"),
        ("[http]\ncors_headers = [\"x tenant\"]", "http.cors_headers: expected names of headers such as"),
        ("[http]\npage_bytes = 1", "http.page_bytes: expected between 1024 and 1073741824, found 1"),
        ("\nlisten = ", "leadwire.toml, line 2: "),
        ("[[auth.trusted_keys]]\nkid = \"k\"\npublic_key = \"?\"\nissuer = \"idp\"", "auth"),
    ] {
        let home = home();
        configure(&home, settings);
        for arguments in [["config", "check"].as_slice(), &["serve"]] {
            let line = failure(&run(&home, arguments));
            assert!(line.starts_with(expected), "{settings}: {line}");
        }
    }
}

#[test]
fn a_configuration_file_is_required_only_if_named() {
    let home = home();
    fs::remove_file(home.path().join("leadwire.toml")).expect("a file");
    assert_eq!(stdout(&run(&home, &["config", "check"])), "the configuration is valid\n");
    let line = failure(&run(&home, &["config", "check", "--config", "other.toml"]));
    assert!(line.starts_with("cannot read the configuration other.toml: "), "{line}");
}

#[test]
fn flags_override_the_environment_and_that_the_file() {
    let home = home();
    configure(&home, "database = \"file.db\"\nlisten = \"127.0.0.1:1\"\nmode = \"demo\"");
    let show = |arguments: &[&str]| {
        let mut command = leadwire(home.path());
        command.args(["config", "show"]).args(arguments).env("LEADWIRE_DATABASE", "environment.db");
        command.env("LEADWIRE_VISIBILITY__SALES", "own").env("LEADWIRE_HTTP__BODY_LIMIT", "4096");
        stdout(&command.output().expect("leadwire runs"))
    };
    let shown = show(&[]);
    for line in ["database = \"environment.db\"", "listen = \"127.0.0.1:1\"", "SALES = \"own\"", "body_limit = 4096"] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    assert!(shown.contains("cors_origins = [\"*\"]") && shown.contains("on_missing = \"unload\""), "{shown}");
    let shown = show(&["--database", "flag.db", "--mode", "production"]);
    assert!(shown.contains("database = \"flag.db\"") && shown.contains("cors_origins = []"), "{shown}");
}

#[test]
fn an_invalid_environment_variable_is_named() {
    let home = home();
    let check = |name: &str, value: &str| {
        let mut command = leadwire(home.path());
        failure(&command.args(["config", "check"]).env(name, value).output().expect("leadwire runs"))
    };
    let line = check("LEADWIRE_AUTH__JWT_SECERT", SECRET);
    assert_eq!(line, "LEADWIRE_AUTH__JWT_SECERT: unknown key auth.jwt_secert; did you mean auth.jwt_secret?");
    let line = check("LEADWIRE_SOCKET__PING_INTERVAL", "often");
    assert!(line.starts_with("LEADWIRE_SOCKET__PING_INTERVAL: socket.ping_interval: expected a duration"), "{line}");
}

#[test]
fn secrets_are_never_printed() {
    let home = home();
    configure(&home, "");
    let mut command = leadwire(home.path());
    command.args(["config", "show"]).env("LEADWIRE_AUTH__JWT_SECRET", SECRET);
    let shown = command.env("LEADWIRE_AUTH__PREVIOUS_JWT_SECRET", SECRET).env("LEADWIRE_AUTH__JWT_KEY_ID", "2");
    let shown = stdout(&shown.output().expect("leadwire runs"));
    assert!(shown.contains("jwt_secret = \"<redacted>\"") && !shown.contains(SECRET), "{shown}");

    // An all-digit secret is a string from the environment; in a file it is an error that does not show it.
    configure(&home, "[auth]\njwt_secret = 123456789012345678\n");
    let line = failure(&run(&home, &["config", "check"]));
    assert!(line.contains("auth.jwt_secret: expected a string, found a number") && !line.contains("1234"), "{line}");
    configure(&home, "[auth]\njwt_secret = \"too-short-a-secret\"\n");
    let line = failure(&run(&home, &["config", "check"]));
    assert!(line.contains("auth.jwt_secret") && !line.contains("too-short-a-secret"), "{line}");
}

#[test]
fn a_database_is_seeded_once() {
    let home = home();
    let first = stdout(&run(&home, &["seed", "--mode", "demo"]));
    assert!(first.starts_with("added 4 users, 200 leads and 600 activities"), "{first}");
    for role in ["admin", "manager", "sales", "viewer"] {
        assert!(first.contains(&format!("{role}@leadwire.example")) && first.contains(&format!("{role}-demo-pass")));
    }
    let second = stdout(&run(&home, &["seed", "--mode", "demo"]));
    assert_eq!(second, "the database has users already: nothing was added\n");
    let users = stdout(&run(&home, &["user", "list"]));
    assert_eq!(users.lines().count(), 5, "{users}");
}

#[test]
fn accounts_are_added_listed_changed_and_deactivated() {
    let home = home();
    let add = |email: &str, role: &str, password: &str| {
        let arguments = ["user", "add", "--email", email, "--name", "Ann Example", "--role", role, "--password-stdin"];
        run_with_input(&home, &arguments, password)
    };
    assert_eq!(stdout(&add("Ann@Example.com", "admin", "correct horse\n")), "added ann@example.com as ADMIN\n");
    assert!(failure(&add("ann@example.com", "SALES", "correct horse\n")).contains("email is already in use"));
    assert!(failure(&add("bob@example.com", "SALES", "short\n")).contains("password must have at least 10 characters"));
    assert!(
        failure(&add("bob@example.com", "BOSS", "correct horse\n"))
            .contains("expected ADMIN, MANAGER, SALES or VIEWER")
    );
    assert!(failure(&add("bob", "SALES", "correct horse\n")).contains("email must be an e-mail address"));
    assert_eq!(stdout(&add("bob@example.com", "SALES", "correct horse\n")), "added bob@example.com as SALES\n");

    let passwd = ["user", "passwd", "--email", "bob@example.com", "--password-stdin"];
    let changed = stdout(&run_with_input(&home, &passwd, "battery staple\n"));
    assert_eq!(changed, "bob@example.com has a new password; its sessions ended\n");
    let line = failure(&run(&home, &passwd[..4]));
    assert!(line.contains("--password-stdin"), "{line}");

    let role = |email: &str, role: &str| run(&home, &["user", "role", email, role]);
    assert_eq!(stdout(&role("Bob@example.com", "manager")), "bob@example.com is MANAGER, no longer SALES\n");
    assert_eq!(stdout(&role("bob@example.com", "MANAGER")), "bob@example.com is MANAGER already\n");
    assert!(failure(&role("ann@example.com", "VIEWER")).contains("the last active administrator"));
    assert!(failure(&role("bob@example.com", "BOSS")).contains("expected ADMIN, MANAGER, SALES or VIEWER"));
    stdout(&role("bob@example.com", "SALES"));

    let deactivate = |email: &str| run(&home, &["user", "deactivate", "--email", email]);
    assert!(stdout(&deactivate("bob@example.com")).starts_with("bob@example.com is deactivated;"));
    assert_eq!(failure(&deactivate("eve@example.com")), "there is no account \"eve@example.com\"");
    assert!(failure(&deactivate("ann@example.com")).contains("the last active administrator"));
    let listed = stdout(&run(&home, &["user", "list"]));
    let bob = listed.lines().find(|line| line.contains("bob@")).expect("bob");
    assert!(bob.contains("SALES") && bob.contains("no"), "{listed}");
    let activate = || run(&home, &["user", "activate", "bob@example.com"]);
    assert_eq!(stdout(&activate()), "bob@example.com is active and may sign in again\n");
    assert_eq!(stdout(&activate()), "bob@example.com is active already\n");
    assert!(stdout(&run(&home, &["user", "deactivate", "bob@example.com"])).starts_with("bob@example.com is deact"));
    assert_eq!(failure(&run(&home, &["user", "list", "--database", "other.db"])), "there is no database other.db");
}

/// All keys that `config show` prints, as named in docs/CONFIG.md.
fn keys_shown() -> Vec<String> {
    let home = tempfile::tempdir().expect("a folder");
    let (mut table, mut keys) = (String::new(), Vec::new());
    for line in stdout(&run(&home, &["config", "show"])).lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
        } else if let Some(key) = line.trim_start_matches("# ").split(' ').next().filter(|key| !key.is_empty()) {
            keys.push(format!("{table}{key}"));
        }
    }
    keys
}

#[test]
fn the_documentation_lists_exactly_the_configuration_keys() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIG.md");
    let docs = fs::read_to_string(docs).expect("docs/CONFIG.md");
    // Rows are `| `key` | default | variable | ... |`.
    let rows: Vec<Vec<&str>> = docs
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let mut documented: Vec<_> = rows.iter().map(|row| row[1].to_owned()).collect();
    let mut shown = keys_shown();
    for (key, row) in documented.iter().zip(&rows) {
        let variable = format!("LEADWIRE_{}", key.to_uppercase().replace('.', "__"));
        assert_eq!(row[3], variable, "the variable of {key}");
    }
    documented.sort();
    shown.sort();
    assert_eq!(documented, shown);
}

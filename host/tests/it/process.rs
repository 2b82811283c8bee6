//! The server as a separate process, for tests of crashes, memory and the log.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub const PASSWORD: &str = "correct horse battery";

/// Cheap hashing and no login limits: these tests cover neither.
const SETTINGS: &str = "
[auth.password_hash]
memory_kib = 64
iterations = 1
[auth.login_limits]
per_account_per_minute = 100000
per_address_per_minute = 100000
strangers_per_account_per_minute = 100000
waiting = 100000
";

pub struct Process {
    child: Child,
    pub address: String,
    log: Arc<Mutex<String>>,
}

/// Prepares a data folder with settings and one user per role.
pub fn prepare(home: &Path, settings: &str) {
    fs::write(home.join("leadwire.toml"), format!("{settings}{SETTINGS}")).expect("a file of settings");
    fs::create_dir_all(home.join("plugins")).expect("a folder of plugins");
    for role in ["ADMIN", "MANAGER", "SALES", "VIEWER"] {
        let email = email(role);
        let arguments = ["user", "add", "--email", &email, "--name", role, "--role", role, "--password-stdin"];
        let mut child = leadwire(home).args(arguments).stdin(Stdio::piped()).spawn().expect("leadwire starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        writeln!(stdin, "{PASSWORD}").expect("the password is read");
        drop(stdin);
        assert!(child.wait().expect("an end").success(), "leadwire user add");
    }
}

pub fn email(role: &str) -> String {
    format!("{}@example.com", role.to_lowercase())
}

fn leadwire(home: &Path) -> Command {
    let mut command = crate::support::leadwire(home);
    command.stdin(Stdio::null());
    command
}

impl Process {
    /// Serves on a free port; returns once it listens.
    pub fn serve(home: &Path) -> Self {
        Self::serve_with(home, &[])
    }

    /// Serves with more flags.
    pub fn serve_with(home: &Path, flags: &[&str]) -> Self {
        let mut child = leadwire(home)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("leadwire starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, keep) = (child.stderr.take().expect("a pipe"), log.clone());
        thread::spawn(move || {
            let mut bytes = [0; 16 * 1024];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                keep.lock().expect("no panic").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        stdout.read_line(&mut line).expect("a line");
        let Some(address) = line.trim_end().strip_prefix("leadwire listening on http://") else {
            panic!("{line:?} instead of an address; the log: {}", log.lock().expect("no panic"));
        };
        Self { address: address.to_owned(), child, log }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Kills it, like a power failure.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("an end");
    }

    /// Sends SIGTERM and waits for the exit; returns the exit code.
    pub fn end(&mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a process to end");
        self.child.wait().expect("an end").code()
    }

    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Its resident memory.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process that runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub async fn login(&self, http: &reqwest::Client, role: &str) -> String {
        let body = json!({"email": email(role), "password": PASSWORD});
        let answer = http.post(self.url("/api/auth/login")).json(&body).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        answer["accessToken"].as_str().unwrap_or_else(|| panic!("no token in {answer}")).to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

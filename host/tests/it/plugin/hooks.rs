//! Plugins: their edits of events, the effect of their failures, and reloads.

mod authorization;
mod by_line;
mod faults;
mod filter;
mod hostile;
mod limits;
mod reload;
mod toolchain;

use std::{fs, path::PathBuf, time::Duration};

use leadwire::{
    domain::{
        audience::Audience as Reach, counter::Seq, event::Event, id::UserId, role::Role, room::Room, time::Timestamp,
        user::User,
    },
    plugin::{PluginState, PluginStatus, Plugins, PluginsConfig, Shaped, TriedOn},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guest::{Audience, Verdict};

/// A plugin folder and the plugins loaded from it.
struct Yard {
    folder: TempDir,
    plugins: Plugins,
}

/// Initial files.
type Files<'a> = &'a [(&'a str, Vec<u8>)];

impl Yard {
    fn open(files: Files<'_>) -> Self {
        Self::open_with(files, Vec::new())
    }

    fn open_with(files: Files<'_>, recent: Vec<Event>) -> Self {
        Self::open_as(files, recent, |settings| settings)
    }

    fn open_as(files: Files<'_>, recent: Vec<Event>, change: impl FnOnce(PluginsConfig) -> PluginsConfig) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("plugins")).expect("a folder");
        for (name, bytes) in files {
            fs::write(folder.path().join("plugins").join(name), bytes).expect("written");
        }
        let plugins = open(&folder, recent, change);
        Self { folder, plugins }
    }

    fn reopen(self) -> Self {
        let Self { folder, plugins } = self;
        drop(plugins);
        let plugins = open(&folder, Vec::new(), |settings| settings);
        Self { folder, plugins }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("plugins").join(name)
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    fn status(&self, name: &str) -> Option<PluginStatus> {
        self.plugins.status().into_iter().find(|status| status.name == name)
    }

    fn state(&self, name: &str) -> Option<PluginState> {
        self.status(name).map(|status| status.state)
    }

    fn reason(&self, name: &str) -> String {
        self.status(name).and_then(|status| status.reason).unwrap_or_default()
    }

    /// Waits until the folder has been scanned and `holds` is true.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let mut changed = self.plugins.changed();
        let waiting = async {
            while !holds(self) {
                changed.changed().await.expect("the plugins are held");
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), waiting).await.is_err() {
            panic!("in vain for {what}: {:#?}", self.plugins.status());
        }
    }

    fn shape(&self, role: Role) -> Shaped {
        self.shape_as("lead:updated", role)
    }

    fn shape_as(&self, name: &str, role: Role) -> Shaped {
        let mut shaped = self.plugins.shape(name, &payload().into(), &context(), &[role]);
        shaped.pop().expect("one for the role").1
    }

    fn sent(&self, role: Role) -> Value {
        sent(self.shape(role)).0
    }

    fn held(&self, role: Role) -> String {
        match self.shape(role) {
            Shaped::Held { plugin, reason, .. } => format!("{plugin}: {reason}"),
            sent @ Shaped::Sent { .. } => panic!("not held: {sent:?}"),
        }
    }
}

fn open(folder: &TempDir, recent: Vec<Event>, change: impl FnOnce(PluginsConfig) -> PluginsConfig) -> Plugins {
    let (dir, data_dir) = (Some(folder.path().join("plugins")), folder.path().join("data"));
    let settings = change(PluginsConfig { dir, data_dir, ..PluginsConfig::default() });
    let recent = move |tried_on| match tried_on {
        TriedOn::Recent(count) => recent.iter().take(count).cloned().collect(),
        TriedOn::Leads(_) => Vec::new(),
    };
    Plugins::open(settings, Box::new(recent)).expect("opens")
}

fn sent(shaped: Shaped) -> (Value, Reach) {
    match shaped {
        Shaped::Sent { payload, audience } => (Value::clone(&payload), audience),
        held @ Shaped::Held { .. } => panic!("not sent: {held:?}"),
    }
}

fn lead() -> Value {
    json!({"id": "0190", "title": "Roof", "email": "ann@example.com", "phone": "+1 555", "valueCents": 5000, "owner": null})
}

fn payload() -> Value {
    json!({"lead": lead(), "changes": ["title", "email"], "timestamp": "2024-01-01T00:00:00.000Z"})
}

fn context() -> Value {
    json!({"lead": lead(), "before": {"title": "Barn"}})
}

fn event(seq: u64) -> Event {
    let at = Timestamp::from_millis(0).expect("in range");
    let (payload, context) = (payload().into(), context());
    Event {
        seq: Seq(seq),
        name: "lead:updated".into(),
        rooms: vec![Room::Everyone],
        lead_id: None,
        payload,
        context,
        at,
    }
}

fn user(role: Role) -> User {
    let at = Timestamp::from_millis(0).expect("in range");
    let (email, name) = ("ann@example.com".into(), "Ann".into());
    User { id: user_id(1), email, name, role, active: true, created_at: at, updated_at: at }
}

fn user_id(number: u8) -> UserId {
    format!("00000000-0000-7000-8000-0000000000{number:02}").parse().expect("an id")
}

fn only(role: &'static str, users: &[u8]) -> Verdict {
    let users = users.iter().map(|number| user_id(*number).to_string()).collect();
    Verdict { role, audience: Audience::Only(users), edits: Vec::new() }
}

/// Requests 1 GiB like most allocators: a refusal ends in a trap.
const WANT_1_GIB: &str = "(if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then unreachable))";
const SPIN: &str = "(loop (br 0))";
const FLOOD: &str = "(loop (call $log (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 4)) (br 0))";
const HUGE_LINE: &str = "(call $log (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 1100000))";
const RECURSE: &str = "(drop (call $recurse (i32.const 0)))";
const WILD: &str = "(drop (i32.load (i32.const -4)))";

/// A plugin that `cargo xtask test` has built beforehand.
pub fn built(folder: &str, name: &str) -> Option<Vec<u8>> {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("..");
    let samples = std::env::var_os("LEADWIRE_TEST_PLUGINS").filter(|_| folder == "plugins").map(PathBuf::from);
    let file = samples.unwrap_or_else(|| target.join(folder)).join(format!("{name}.wasm"));
    let bytes = fs::read(&file).ok();
    if bytes.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing: run cargo xtask test build", file.display());
        println!("skipped: {} is missing: run cargo xtask test build", file.display());
    }
    bytes
}

//! The servers that are measured: started one at a time, pinned to their cores, each in a directory of its own.

pub mod floor;
pub mod leadwire;
pub mod process;

use std::{
    cell::Cell,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    load::{
        generator::Generator,
        http::{self, Client},
    },
    machine::{self, CpuMeter},
    peers::process::{Server, home},
};

/// Server to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Floor,
    Node,
    Leadwire,
    /// Leadwire of another commit.
    Before,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Node => "node",
            Self::Leadwire => "leadwire",
            Self::Before => "before",
        }
    }

    pub fn is_leadwire(self) -> bool {
        matches!(self, Self::Leadwire | Self::Before)
    }
}

/// Programs and folders that peers need.
#[derive(Debug)]
pub struct Programs {
    pub leadwire: PathBuf,
    pub before: Option<PathBuf>,
    /// Folder of the reference server, with its packages installed, if Node.js is.
    pub node: Option<PathBuf>,
    /// Built plugins.
    pub plugins: PathBuf,
    /// Folder for databases and logs, on a real disk.
    pub scratch: PathBuf,
    /// Events as Leadwire sends them, by name; written by [`Events::record`].
    pub events: PathBuf,
}

/// Description of a server to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    pub kind: Kind,
    pub leads: usize,
    /// Plugins to load, by the names of their files.
    pub plugins: &'static [Installed],
    /// Cores of the server, from 0; worker threads are as many.
    pub cores: usize,
    pub workers: Option<usize>,
    /// Further settings of Leadwire.
    pub config: &'static str,
}

/// Plugin in the folder of a server.
#[derive(Debug, Clone, Copy)]
pub struct Installed {
    pub name: &'static str,
    pub settings: &'static str,
}

/// Plugins that act on `lead:updated`, the first ones of which are loaded.
pub static PLUGINS: [Installed; 5] = [
    Installed { name: "bench-filter", settings: "" },
    Installed { name: "bench-enrich", settings: "" },
    Installed { name: "lead-score", settings: "" },
    Installed {
        name: "redact-contact",
        settings: "[config]\nroles = [\"VIEWER\"]\nfields = [\"contactName\"]\nmask = \"hidden\"\n",
    },
    Installed { name: "bench-mask", settings: "" },
];

impl Launch {
    pub fn of(kind: Kind) -> Self {
        Self { kind, leads: 1, plugins: &[], cores: 1, workers: None, config: "" }
    }

    pub fn leads(self, leads: usize) -> Self {
        Self { leads, ..self }
    }

    /// Loads the first `count` of [`PLUGINS`].
    pub fn plugins(self, count: usize) -> Self {
        Self { plugins: &PLUGINS[..count.min(PLUGINS.len())], ..self }
    }

    /// Name of the peer in tables.
    pub fn label(&self) -> String {
        let name = self.kind.name();
        let workers = match self.workers {
            None => String::new(),
            Some(1) => ", 1 worker".to_owned(),
            Some(workers) => format!(", {workers} workers"),
        };
        match self.plugins.len() {
            0 => format!("{name}{workers}"),
            1 => format!("{name} +1 plugin{workers}"),
            count => format!("{name} +{count} plugins{workers}"),
        }
    }
}

/// Running server with its accounts and leads.
pub struct Peer {
    pub kind: Kind,
    pub address: SocketAddr,
    /// Token of a MANAGER, who makes the changes.
    pub writer: String,
    /// Tokens of the roles that sockets have in turn.
    pub readers: Vec<String>,
    pub leads: Vec<String>,
    /// Length of the description of a lead, which makes an event 1,000 bytes long.
    filler: usize,
    changes: Cell<u64>,
    pub cpu: CpuMeter,
    pub server: Server,
}

/// Length of an event, in bytes of its packet.
const EVENT: usize = 1000;

impl Peer {
    pub fn start(programs: &Programs, launch: &Launch) -> Result<Self> {
        let started = match launch.kind {
            Kind::Floor => Self::listed(programs, launch, floor_command(programs)?),
            Kind::Node => Self::listed(programs, launch, node_command(programs, launch)?),
            Kind::Leadwire | Kind::Before => leadwire::start(programs, launch),
        };
        started.with_context(|| format!("{} does not start", launch.label()))
    }

    /// Starts a server that prints its port, tokens and leads.
    fn listed(programs: &Programs, launch: &Launch, command: Command) -> Result<Self> {
        let mut server = Server::spawn(command, home(&programs.scratch)?)?;
        let line: Value = serde_json::from_str(&server.line()?)?;
        let port = line["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("a port")?;
        let token = |role: &str| line["tokens"][role].as_str().unwrap_or("none").to_owned();
        let leads = line["leads"].as_array().context("leads")?;
        Ok(Self {
            kind: launch.kind,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            writer: token("MANAGER"),
            readers: ["MANAGER", "SALES", "VIEWER"].map(token).into(),
            leads: leads.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
            filler: Events::filler(programs)?,
            changes: Cell::new(0),
            cpu: CpuMeter::new(server.pid()),
            server,
        })
    }

    /// JSON of the handshake of a socket.
    pub fn auth(&self, socket: usize) -> String {
        format!(r#"{{"token":"{}"}}"#, self.readers[socket % self.readers.len()])
    }

    /// Request that changes a lead; no two are equal, and all have the same length.
    pub fn change(&self, lead: usize) -> Vec<u8> {
        let number = self.changes.get() + 1;
        self.changes.set(number);
        let body = json!({"description": description(self.filler, number)}).to_string();
        http::request("PATCH", &format!("/api/leads/{}", self.leads[lead]), Some(&self.writer), Some(&body))
    }

    /// Request that adds an activity to a lead.
    pub fn activity(&self, lead: usize) -> Vec<u8> {
        let body = json!({"type": "NOTE", "body": "x".repeat(200)}).to_string();
        http::request("POST", &format!("/api/leads/{}/activities", self.leads[lead]), Some(&self.writer), Some(&body))
    }

    pub fn client(&self) -> Result<Client> {
        Client::open(self.address, Some(&self.writer))
    }

    pub fn resident_kib(&self) -> Result<u64> {
        machine::resident_kib(self.server.pid())
    }

    pub fn cpu(&mut self) -> Result<Duration> {
        self.cpu.read()
    }
}

fn description(length: usize, number: u64) -> String {
    format!("{number:012}{}", ".lorem.ipsum".chars().cycle().take(length).collect::<String>())
}

fn floor_command(programs: &Programs) -> Result<Command> {
    let mut command = machine::on_first_cores(1, std::env::current_exe()?);
    command.arg("--floor").arg(&programs.events);
    Ok(command)
}

fn node_command(programs: &Programs, launch: &Launch) -> Result<Command> {
    let folder = programs.node.as_ref().context("the reference server was not installed")?;
    let mut command = machine::on_first_cores(1, "node");
    command.arg(folder.join("server.mjs")).arg(&programs.events).arg(launch.leads.to_string());
    Ok(command)
}

/// Events of a real server, which the other peers send as well.
pub struct Events;

impl Events {
    /// Records an event of each kind that a case needs, with a description that makes `lead:updated` [`EVENT`] long.
    pub fn record(programs: &Programs) -> Result<()> {
        fs::write(&programs.events, json!({"filler": 0}).to_string())?;
        let mut peer = Peer::start(programs, &Launch::of(Kind::Leadwire))?;
        let (bare, _) = first(&peer, b"42[\"lead:updated\"", &peer.change(0))?;
        peer.filler = EVENT.saturating_sub(bare);
        let (length, updated) = first(&peer, b"42[\"lead:updated\"", &peer.change(0))?;
        let (_, created) = first(&peer, b"42[\"activity:created\"", &peer.activity(0))?;
        let events =
            json!({"filler": peer.filler, "length": length, "lead:updated": updated, "activity:created": created});
        Ok(fs::write(&programs.events, events.to_string())?)
    }

    /// Length of the filler that makes an event as long as it should be.
    fn filler(programs: &Programs) -> Result<usize> {
        let events: Value = serde_json::from_str(&fs::read_to_string(&programs.events)?)?;
        events["filler"].as_u64().and_then(|filler| usize::try_from(filler).ok()).context("events were not recorded")
    }
}

/// First event that a socket receives after a request: the length of its packet, and its payload.
fn first(peer: &Peer, wanted: &'static [u8], request: &[u8]) -> Result<(usize, Value)> {
    let mut load = Generator::new(wanted)?;
    load.sink.keeps = true;
    load.connect(peer.address, 1, 1, |socket| peer.auth(socket))?;
    let lead = &peer.leads[0];
    load.sockets[0].emit(&format!(r#"420["lead:subscribe",{{"leadId":"{lead}"}}]"#))?;
    load.until("a subscription", |load| load.sink.replies > 0)?;
    let channel = load.channel(peer.address)?;
    load.channels[channel].send(request, Instant::now())?;
    load.until("an event", |load| load.sink.deliveries > 0 && load.answers.count > 0)?;
    let packet = load.sink.kept.take().context("no event was kept")?;
    let event: Value = serde_json::from_slice(packet.get(2..).context("a packet")?)?;
    Ok((packet.len(), event[1].clone()))
}

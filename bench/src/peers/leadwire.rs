//! Leadwire as its users run it: the release binary, a configuration file, accounts from the command line and over
//! HTTP, and tokens by logging in.

use std::{
    cell::Cell,
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    load::{
        generator::Generator,
        http::{self, Client},
    },
    machine::{self, CpuMeter},
    peers::{
        Events, Installed, Kind, Launch, Peer, Programs,
        process::{Server, home},
    },
};

pub const PASSWORD: &str = "correct horse battery";
const ADMIN: &str = "admin@example.com";
/// Maximum time until a server is ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// One address and few users stand for thousands of people.
const CONFIG: &str = "\
[limits]
events_per_second = 100000
events_burst = 100000
connections_per_user = 100000
connections_per_address = 100000
tcp_connections_per_address = 200000
requests_per_user = 10000
requests_per_address = 10000
subscriptions = 100000

[auth.login_limits]
per_account_per_minute = 100000
per_address_per_minute = 100000
strangers_per_account_per_minute = 100000
waiting = 10000
";

pub fn start(programs: &Programs, launch: &Launch) -> Result<Peer> {
    let home = home(&programs.scratch)?;
    let binary = binary(programs, launch)?;
    fs::write(home.path().join("leadwire.toml"), format!("{CONFIG}{}", launch.config))?;
    let folder = home.path().join("plugins");
    fs::create_dir(&folder)?;
    for plugin in launch.plugins {
        install(programs, plugin, &folder)?;
    }
    add_admin(binary, home.path())?;
    let server = Server::spawn(serve(binary, launch), home)?;
    finish(programs, launch, server)
}

fn binary<'a>(programs: &'a Programs, launch: &Launch) -> Result<&'a Path> {
    match launch.kind {
        Kind::Before => programs.before.as_deref().context("--before REV says which commit"),
        _ => Ok(&programs.leadwire),
    }
}

/// Starts a server again in its directory; returns the time until it was ready.
pub fn restart(programs: &Programs, launch: &Launch, server: &mut Server) -> Result<Duration> {
    let begun = Instant::now();
    server.restart(serve(binary(programs, launch)?, launch))?;
    let mut client = Client::open(address(&server.line()?)?, None)?;
    while client.call("GET", "/readyz", None)?.0 != 200 {
        ensure!(begun.elapsed() < PATIENCE, "the server does not become ready: {}", server.log());
        thread::sleep(Duration::from_millis(1));
    }
    Ok(begun.elapsed())
}

/// Token of the ADMIN.
pub fn admin(address: SocketAddr) -> Result<String> {
    login(&mut Client::open(address, None)?, ADMIN)
}

/// Address in the line that a server prints when it is ready.
fn address(line: &str) -> Result<SocketAddr> {
    let address = line.trim().rsplit("//").next().unwrap_or_default();
    address.parse().with_context(|| format!("no address: {line}"))
}

fn serve(binary: &Path, launch: &Launch) -> Command {
    let mut command = machine::on_first_cores(launch.cores, binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--plugins", "plugins"]);
    if let Some(workers) = launch.workers {
        command.env("TOKIO_WORKER_THREADS", workers.to_string());
    }
    command
}

/// Waits until the server is ready, and adds accounts and leads.
fn finish(programs: &Programs, launch: &Launch, mut server: Server) -> Result<Peer> {
    let address = address(&server.line()?)?;
    let mut client = Client::open(address, None)?;
    let mut admin = Client::open(address, Some(&admin(address)?))?;
    let mut tokens = Vec::new();
    for role in ["MANAGER", "SALES", "VIEWER"] {
        let email = format!("{}@example.com", role.to_lowercase());
        let user = json!({"email": email, "name": role, "role": role, "password": PASSWORD});
        admin.expect("POST", "/api/users", Some(&user))?;
        tokens.push(login(&mut client, &email)?);
    }
    let mut peer = Peer {
        kind: launch.kind,
        address,
        writer: tokens[0].clone(),
        readers: tokens,
        leads: Vec::new(),
        filler: Events::filler(programs)?,
        changes: Cell::new(0),
        cpu: CpuMeter::new(server.pid()),
        server,
    };
    check_plugins(&mut admin, launch)?;
    create_leads(&mut peer, launch.leads)?;
    Ok(peer)
}

/// Fails if a plugin is not in force, because nothing would be measured.
fn check_plugins(admin: &mut Client, launch: &Launch) -> Result<()> {
    let listed = admin.expect("GET", "/api/plugins", None)?;
    for plugin in launch.plugins {
        let items = listed["items"].as_array().context("plugins are listed")?;
        let item = items.iter().find(|item| item["name"] == plugin.name);
        if !item.is_some_and(|item| item["state"] == "active") {
            bail!("the plugin {} is not active: {item:?}", plugin.name);
        }
    }
    Ok(())
}

pub fn install(programs: &Programs, plugin: &Installed, folder: &Path) -> Result<()> {
    let component = programs.plugins.join(format!("{}.wasm", plugin.name));
    if !plugin.settings.is_empty() {
        fs::write(folder.join(format!("{}.toml", plugin.name)), plugin.settings)?;
    }
    let target = folder.join(format!("{}.wasm", plugin.name));
    fs::copy(&component, target).with_context(|| format!("{} is missing", component.display()))?;
    Ok(())
}

fn add_admin(binary: &Path, home: &Path) -> Result<()> {
    let mut child = Command::new(binary)
        .args(["user", "add", "--email", ADMIN, "--name", "Admin", "--role", "ADMIN", "--password-stdin"])
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("{} cannot be started", binary.display()))?;
    let mut input = child.stdin.take().context("stdin is piped")?;
    writeln!(input, "{PASSWORD}")?;
    drop(input);
    if !child.wait()?.success() {
        bail!("leadwire user add failed");
    }
    Ok(())
}

fn login(client: &mut Client, email: &str) -> Result<String> {
    let answer = client.expect("POST", "/api/auth/login", Some(&json!({"email": email, "password": PASSWORD})))?;
    answer["accessToken"].as_str().map(str::to_owned).context("a token")
}

/// Statuses and sources that leads have in turn.
const STATUSES: [&str; 8] = ["NEW", "CONTACTED", "QUALIFIED", "PROPOSAL", "NEGOTIATION", "WON", "LOST", "UNQUALIFIED"];
const SOURCES: [&str; 5] = ["web", "fair", "referral", "phone", "partner"];

/// Body of a new lead. All numbers give another one, with members of the same length.
pub fn lead(number: usize) -> Value {
    json!({
        "title": format!("Roof and gutters of house {number:07}"),
        "status": STATUSES[number % STATUSES.len()],
        "source": SOURCES[number / 8 % SOURCES.len()],
        "contactName": format!("Kim Berg {:05}", number.wrapping_mul(7919) % 100_000),
        "company": format!("Berg {:05} AS", number.wrapping_mul(104_729) % 100_000),
        "email": format!("kim{number:07}@berg.example"),
        "phone": format!("+47 22 {:02} {:02} {:02}", number / 10_000 % 100, number / 100 % 100, number % 100),
        "valueCents": 1_000_000 + number.wrapping_mul(31_337) % 9_000_000,
        "currency": "EUR",
    })
}

/// Creates leads over several connections.
fn create_leads(peer: &mut Peer, count: usize) -> Result<()> {
    let mut client = peer.client()?;
    if count <= 100 {
        for number in 0..count {
            let lead = client.expect("POST", "/api/leads", Some(&lead(number)))?;
            peer.leads.push(lead["id"].as_str().context("a lead has an id")?.to_owned());
        }
        return Ok(());
    }
    let mut load = Generator::new(b"none")?;
    let channels = (0..64).map(|_| load.channel(peer.address)).collect::<Result<Vec<_>>>()?;
    load.requests(&channels, count as u64, |number| {
        // A SALES user owns what it creates.
        let token = if number % 4 == 3 { &peer.readers[1] } else { &peer.writer };
        http::request("POST", "/api/leads", Some(token), Some(&lead(number as usize).to_string()))
    })?;
    // Ids are read from the list, page by page.
    let mut path = "/api/leads?limit=200&sort=createdAt".to_owned();
    let base = path.clone();
    while peer.leads.len() < count {
        let page = client.expect("GET", &path, None)?;
        let items = page["items"].as_array().context("a page")?;
        peer.leads.extend(items.iter().filter_map(|lead| lead["id"].as_str().map(str::to_owned)));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("{base}&cursor={cursor}");
    }
    Ok(())
}

/// Replaces the file of a plugin by another one with the same code.
pub struct Swapper {
    target: PathBuf,
    component: Vec<u8>,
    count: u16,
}

impl Swapper {
    pub fn new(home: &Path, plugin: &Installed) -> Result<Self> {
        let target = home.join("plugins").join(format!("{}.wasm", plugin.name));
        let component = fs::read(&target).with_context(|| format!("{} cannot be read", target.display()))?;
        Ok(Self { target, component, count: 0 })
    }

    /// Writes the component with a number in a custom section, so that it is another file each time.
    pub fn swap(&mut self) -> Result<()> {
        self.count += 1;
        let [high, low] = self.count.to_be_bytes();
        let next = self.target.with_extension("next");
        fs::write(&next, [&self.component[..], &[0, 4, 1, b'x', high, low]].concat())?;
        // Like `leadwire plugin build`, so that no half of a file is read.
        Ok(fs::rename(next, &self.target)?)
    }
}

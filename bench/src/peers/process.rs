//! Process of a server: its directory, its output, and its end.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Server process; it is killed, and its directory deleted, when this is dropped.
pub struct Server {
    child: Child,
    pub home: TempDir,
}

/// File in the directory that gets what a server writes to stderr.
const LOG: &str = "server.log";

/// Directory for one server.
pub fn home(scratch: &Path) -> Result<TempDir> {
    fs::create_dir_all(scratch)?;
    Ok(tempfile::Builder::new().prefix("peer-").tempdir_in(scratch)?)
}

fn start(mut command: Command, home: &Path) -> Result<Child> {
    // Settings of whoever runs the bench are not part of it.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEADWIRE_")) {
        command.env_remove(name);
    }
    let log = File::create(home.join(LOG))?;
    command
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} cannot be started", command.get_program().display()))
}

impl Server {
    pub fn spawn(command: Command, home: TempDir) -> Result<Self> {
        Ok(Self { child: start(command, home.path())?, home })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// First line that the server prints, which says that it is ready.
    pub fn line(&mut self) -> Result<String> {
        let stdout = self.child.stdout.take().context("it was read before")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            bail!("it ended: {}", self.log());
        }
        Ok(line)
    }

    /// End of what the server has logged.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.home.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Ends the process as an operator does, and keeps its directory.
    pub fn stop(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts the same server again in its directory.
    pub fn restart(&mut self, command: Command) -> Result<()> {
        self.child = start(command, self.home.path())?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The machine: cores, processor time and memory of processes, limits, and what it is called.

use std::{collections::BTreeMap, ffi::OsStr, fs, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use cpu_time::ThreadTime;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Command that runs a program on the first `cores` cores.
pub fn on_first_cores(cores: usize, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &format!("0-{}", cores.clamp(1, cores_online()) - 1)]).arg(program);
    command
}

/// Moves this thread to the second core, or back to all of them.
pub fn pin_load(pinned: bool) -> Result<()> {
    let cores = cores_online();
    let list = if pinned { (1 % cores).to_string() } else { format!("0-{}", cores - 1) };
    let output = Command::new("taskset")
        .args(["--cpu-list", "--pid", &list, &std::process::id().to_string()])
        .output()
        .context("taskset is missing; it is part of util-linux")?;
    if !output.status.success() {
        bail!("cannot pin the load to a core: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Number of cores of the machine, however many this thread may use.
pub fn cores_online() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// Raises the number of files that this process, and all that it starts, may open; returns it.
pub fn raise_files() -> Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of files")?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Processor time of this thread.
pub fn own_cpu() -> Duration {
    ThreadTime::now().as_duration()
}

/// Reads the processor time of all threads of a process, to the nanosecond. Threads that have ended count as last seen.
#[derive(Debug)]
pub struct CpuMeter {
    pid: u32,
    threads: BTreeMap<u32, u64>,
}

impl CpuMeter {
    pub fn new(pid: u32) -> Self {
        Self { pid, threads: BTreeMap::new() }
    }

    pub fn read(&mut self) -> Result<Duration> {
        let folder = format!("/proc/{}/task", self.pid);
        for entry in fs::read_dir(&folder).context("the server is gone")? {
            let path = entry?.path();
            let thread =
                path.file_name().and_then(|name| name.to_str()?.parse().ok()).context("a thread has a number")?;
            // It may have ended just now.
            let Ok(text) = fs::read_to_string(path.join("schedstat")) else { continue };
            let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok()).context("schedstat")?;
            self.threads.insert(thread, nanos);
        }
        Ok(Duration::from_nanos(self.threads.values().sum()))
    }
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).context("VmRSS")
}

/// Description of the machine and the programs, for the report.
pub fn describe() -> Value {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("an unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("").trim().to_owned();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "processor": model,
        "cores": cores_online(),
        "memory": memory,
        "kernel": kernel.trim(),
        "load": load.split(' ').next().unwrap_or("?"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
    })
}

/// First line that a program prints about its version.
pub fn version(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
}

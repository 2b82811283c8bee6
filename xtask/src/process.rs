//! Child processes: printed before they start, each in its own process group, and stopped when this process is.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Maximum time in which a test runner prints nothing: more than a first build takes, less than CI waits.
const LONGEST_SILENCE: Duration = Duration::from_secs(20 * 60);

static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Forwards Ctrl-C to every child; without one, ends this process.
///
/// The children are not members of our process group. So each gets one signal, from us, whether it was typed in a
/// terminal or sent only to our process id.
pub fn stop_children_on_signals() {
    let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !ignored(*signal));
    let Ok(mut signals) = Signals::new(heeded) else { return };
    thread::spawn(move || {
        for _ in signals.forever() {
            let again = STOPPED.swap(true, Ordering::SeqCst);
            let groups = groups();
            if groups.is_empty() {
                #[expect(clippy::disallowed_methods, reason = "nothing is left to stop")]
                std::process::exit(130);
            }
            for group in groups.iter() {
                // It may have ended by itself just now.
                let _ = kill_process_group(*group, if again { Signal::KILL } else { Signal::TERM });
            }
        }
    });
}

/// True if our parent set the signal to be ignored, as `nohup` does.
fn ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

pub fn interrupted() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// Child process; its group gets a SIGTERM, and later a SIGKILL, when this is dropped.
pub struct Running {
    pub child: Child,
    group: Pid,
}

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        if interrupted() {
            bail!("interrupted");
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{program} could not be started"))?;
        let group = Pid::from_child(&child);
        groups().push(group);
        Ok(Self { child, group })
    }

    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        groups().retain(|group| *group != self.group);
        if interrupted() && !status.success() {
            bail!("interrupted");
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(self.group, Signal::TERM);
            for _ in 0..100 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = self.child.wait();
        }
        groups().retain(|group| *group != self.group);
    }
}

/// Prints the command, runs it, and fails if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if status.success() {
        return Ok(());
    }
    bail!("{} {}", shown(command), ending(status))
}

/// Prints the command and runs it.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    println!("$ {}", shown(command));
    Running::start(command)?.wait()
}

/// Prints the command, runs it and passes its standard output, line by line, to the terminal and to `line`.
///
/// # Errors
/// When it prints nothing for [`LONGEST_SILENCE`]; it is stopped then.
pub fn tee(command: &mut Command, line: impl FnMut(&str)) -> Result<ExitStatus> {
    tee_for(command, LONGEST_SILENCE, line)
}

fn tee_for(command: &mut Command, silence: Duration, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
    println!("$ {}", shown(command));
    let mut running = Running::start(command.stdout(Stdio::piped()))?;
    let mut stdout = BufReader::new(running.child.stdout.take().context("the output was not piped")?);
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        while stdout.read_until(b'\n', &mut bytes)? > 0 && sender.send(std::mem::take(&mut bytes)).is_ok() {}
        io::Result::Ok(())
    });
    loop {
        match lines.recv_timeout(silence) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                print!("{text}");
                line(text.trim_end());
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} printed nothing for {} s and was stopped", shown(command), silence.as_secs())
            }
        }
    }
    reader.join().expect("reads lines and nothing else")?;
    running.wait()
}

/// True if a program can be run.
pub fn installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_prints_nothing_for_too_long_is_stopped() {
        let mut lines = Vec::new();
        let hung =
            tee_for(Command::new("sh").args(["-c", "echo begun; exec sleep 600"]), Duration::from_secs(1), |line| {
                lines.push(line.to_owned());
            });
        let error = hung.expect_err("stopped").to_string();
        assert_eq!(
            (lines, error.as_str()),
            (vec!["begun".to_owned()], "sh -c echo begun; exec sleep 600 printed nothing for 1 s and was stopped",)
        );
    }
}

//! Imports of a guest, the functions that it may call: `log`, `now-ms` and `count`. Nothing here reaches outside of
//! the process.
//!
//! A guest may call these as often and with as much as it likes. So lines are cut, lines per second and names of
//! counters are limited, and whatever goes over is dropped.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use wasmtime::ResourceLimiter;

use crate::{
    domain::{counter::Generation, text::one_line, time::Timestamp},
    plugin::{
        contract::{
            limits::Limits,
            text::{cut, size},
        },
        wasm::counts::Dropped,
    },
};

const MAX_SAID: usize = 300;
const MAX_COUNTER_NAME: usize = 64;
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Identity of the plugin that an instance belongs to: every log line and counter of the guest is filed under it.
#[derive(Debug)]
pub(crate) struct GuestIdentity {
    pub name: String,
    pub version: String,
    pub generation: Generation,
    max_line: usize,
    max_lines_a_second: u64,
    max_counters: usize,
    counters: Mutex<BTreeMap<String, f64>>,
    /// Number of hook calls that asked for the time or for random numbers.
    pub looks: AtomicU64,
    lines: Mutex<LogBudget>,
    dropped_lines: AtomicU64,
    dropped_counts: AtomicU64,
    /// Milliseconds since 1970 at which the clock is frozen; [`RUNS`] while it runs.
    stopped: AtomicI64,
}

/// Value for a clock that runs.
const RUNS: i64 = i64::MIN;

#[derive(Debug)]
struct LogBudget {
    since: Instant,
    count: u64,
}

impl GuestIdentity {
    pub(crate) fn new(name: &str, version: String, generation: Generation, limits: &Limits) -> Self {
        Self {
            name: name.into(),
            version,
            generation,
            max_line: size(limits.log_line_bytes),
            max_lines_a_second: limits.log_lines_per_second,
            max_counters: size(limits.metrics),
            counters: Mutex::default(),
            looks: AtomicU64::new(0),
            lines: Mutex::new(LogBudget { since: Instant::now(), count: 0 }),
            dropped_lines: AtomicU64::new(0),
            dropped_counts: AtomicU64::new(0),
            stopped: AtomicI64::new(RUNS),
        }
    }

    /// Returns what the plugin counted, by name.
    pub(crate) fn counters(&self) -> BTreeMap<String, f64> {
        self.counters.lock().clone()
    }

    /// Returns the number of log lines and counts that were over the limits.
    pub(crate) fn dropped(&self) -> Dropped {
        let [log_lines, metrics] = [&self.dropped_lines, &self.dropped_counts].map(|count| count.load(Relaxed));
        Dropped { log_lines, metrics }
    }

    /// Freezes the clock, for instances that exist and for future ones.
    pub(crate) fn stop_clock(&self, at: Timestamp) {
        self.stopped.store(at.millis(), Relaxed);
    }

    /// Time that the guest sees, since 1970.
    pub(crate) fn now(&self) -> Duration {
        match self.stopped.load(Relaxed) {
            RUNS => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            millis => Duration::from_millis(u64::try_from(millis).unwrap_or_default()),
        }
    }

    /// Counts a line; returns how many were written in this second, this one included.
    fn line(&self) -> u64 {
        let mut lines = self.lines.lock();
        if lines.since.elapsed() >= Duration::from_secs(1) {
            *lines = LogBudget { since: Instant::now(), count: 0 };
        }
        lines.count = lines.count.saturating_add(1);
        lines.count
    }
}

/// The store of one instance, for the time of a call.
pub(crate) type GuestContext<'a> = wasmtime::StoreContextMut<'a, GuestState>;

/// State of one instance on the host's side.
pub(crate) struct GuestState {
    pub(crate) identity: Arc<GuestIdentity>,
    pub(crate) memory: MemoryLimiter,
    /// Time at which the running call was first found to be late, by its thread's CPU clock and by the wall clock.
    pub(crate) late_since: Option<(Duration, Instant)>,
    pub(crate) limit: Duration,
    /// Last error that the guest logged in the running call, or what it wrote to standard error: a panic writes there
    /// what it was about.
    pub(crate) said: Option<String>,
    /// Set when the running call asked for the time or for random numbers.
    pub(crate) looked: bool,
    /// Number of open WASI handles.
    pub(crate) handles: usize,
    /// Unfinished lines that the guest has begun to write to its standard streams.
    begun: [Vec<u8>; 2],
}

/// Standard stream that a guest made for WASI prints to.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Out,
    Error,
}

impl GuestState {
    pub(crate) fn new(identity: Arc<GuestIdentity>, max_memory: usize, limit: Duration) -> Self {
        let memory = MemoryLimiter { used: 0, max: max_memory, refused: false };
        Self {
            identity,
            memory,
            late_since: None,
            limit,
            said: None,
            looked: false,
            handles: 0,
            begun: Default::default(),
        }
    }
}

/// Limiter of the sum of all memories of an instance.
pub(crate) struct MemoryLimiter {
    used: usize,
    pub(crate) max: usize,
    /// Set when the running call asked for more.
    pub(crate) refused: bool,
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.max {
            self.refused = true;
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}

pub(crate) fn log(state: &mut GuestState, level: &str, message: &str) {
    // One call writes one line, whatever the guest put into it.
    let message = one_line(cut(message, state.identity.max_line));
    let message = &*message;
    if level == "error" {
        state.said = Some(cut(message, MAX_SAID).to_owned());
    }
    let GuestIdentity {
        name: plugin,
        version,
        generation: Generation(generation),
        max_lines_a_second,
        dropped_lines,
        ..
    } = &*state.identity;
    let count = state.identity.line();
    if count > *max_lines_a_second {
        dropped_lines.fetch_add(1, Relaxed);
        if count == max_lines_a_second + 1 {
            tracing::warn!(plugin, version, generation, "log rate limit of {plugin} reached, dropping lines");
        }
        return;
    }
    match level {
        "error" => tracing::error!(plugin, version, generation, "{plugin}: {message}"),
        "warn" => tracing::warn!(plugin, version, generation, "{plugin}: {message}"),
        "debug" => tracing::debug!(plugin, version, generation, "{plugin}: {message}"),
        _ => tracing::info!(plugin, version, generation, "{plugin}: {message}"),
    }
}

/// Writes to the log what a guest printed, line by line.
pub(crate) fn print(state: &mut GuestState, stream: Stream, bytes: &[u8]) {
    let mut text = std::mem::take(&mut state.begun[stream as usize]);
    text.extend_from_slice(bytes);
    let mut lines = text.split(|byte| *byte == b'\n');
    let begun = lines.next_back().unwrap_or_default();
    lines.for_each(|line| print_line(state, stream, line));
    if begun.len() > state.identity.max_line {
        print_line(state, stream, begun);
    } else {
        state.begun[stream as usize] = begun.to_vec();
    }
}

fn print_line(state: &mut GuestState, stream: Stream, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let line = one_line(line.trim_end());
    let line = &*line;
    if line.is_empty() {
        return;
    }
    match stream {
        Stream::Out => log(state, "info", line),
        Stream::Error => {
            // A stack trace has several lines, and the first ones say most.
            let said =
                state.said.take().map_or_else(|| line.to_owned(), |said| format!("{said}; {}", line.trim_start()));
            state.said = Some(cut(&said, MAX_SAID).to_owned());
            log(state, "warn", line);
        }
    }
}

pub(crate) fn now_ms(state: &GuestState) -> f64 {
    state.identity.now().as_secs_f64() * 1000.0
}

pub(crate) fn count(state: &mut GuestState, name: String, by: f64) {
    let valid = !name.is_empty()
        && name.len() <= MAX_COUNTER_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if !valid || !by.is_finite() {
        state.identity.dropped_counts.fetch_add(1, Relaxed);
        return;
    }
    let mut counters = state.identity.counters.lock();
    if let Some(total) = counters.get_mut(&name) {
        *total += by;
    } else if counters.len() < state.identity.max_counters {
        counters.insert(name, by);
    } else {
        state.identity.dropped_counts.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> GuestState {
        GuestState::new(
            Arc::new(GuestIdentity::new("p", "1.0.0".into(), Generation(1), &Limits::default())),
            1 << 20,
            Duration::from_millis(10),
        )
    }

    #[test]
    fn all_memories_share_one_limit() {
        let mut memory = state().memory;
        assert!(memory.memory_growing(0, 600 << 10, None).expect("answered"));
        assert!(!memory.memory_growing(0, 600 << 10, None).expect("answered"));
        assert!(memory.refused);
        assert!(memory.memory_growing(0, 400 << 10, None).expect("answered"));
        assert!(!memory.memory_growing(600 << 10, usize::MAX, None).expect("answered"));
    }

    #[test]
    fn counters_are_bounded_in_number_and_name() {
        let mut state = state();
        for number in 0..100 {
            count(&mut state, format!("n{number}"), 1.0);
        }
        count(&mut state, "n1".into(), 2.5);
        count(&mut state, "n1".into(), f64::NAN);
        count(&mut state, "not a name".into(), 1.0);
        count(&mut state, "x".repeat(100), 1.0);
        let counters = state.identity.counters();
        assert_eq!((counters.len(), counters["n1"]), (64, 3.5));
        assert_eq!(state.identity.dropped(), Dropped { log_lines: 0, metrics: 36 + 3 });
    }

    #[test]
    fn output_becomes_log_lines_and_stderr_is_recorded() {
        let mut state = state();
        for part in ["Error: bo", "om\n\n    at filter\nand", " more"] {
            print(&mut state, Stream::Error, part.as_bytes());
            print(&mut state, Stream::Out, part.as_bytes());
        }
        assert_eq!(state.said.as_deref(), Some("Error: boom; at filter"));
        assert_eq!(state.begun, [b"and more".to_vec(), b"and more".to_vec()]);
        print(&mut state, Stream::Out, &[b'x'; 2048]);
        assert!(state.begun[Stream::Out as usize].is_empty(), "a line without an end is not kept for ever");
    }

    #[test]
    fn a_guest_cannot_inject_log_lines_or_terminal_escapes() {
        let mut state = state();
        log(&mut state, "error", "over\n2026-01-01T00:00:00Z  INFO leadwire: all is well\u{1b}[2J");
        let said = state.said.clone().expect("remembered");
        assert_eq!(said, "over\\n2026-01-01T00:00:00Z  INFO leadwire: all is well\\u{1b}[2J");
        print(&mut state, Stream::Error, b"boom\r\x1b[1A\xff\n");
        assert!(!state.said.expect("remembered").chars().any(char::is_control));
    }

    #[test]
    fn a_flood_of_log_lines_is_dropped_and_its_error_is_recorded() {
        let mut state = state();
        for _ in 0..10_000 {
            log(&mut state, "error", &"ä".repeat(2000));
        }
        assert_eq!(state.said.as_ref().map(String::len), Some(300));
        assert!(state.identity.dropped().log_lines >= 9_000, "{:?}", state.identity.dropped());
    }
}

//! What a guest may call: `log`, `now-ms` and `count`. Nothing here reaches outside of the process.
//!
//! A guest may call these as often and with as much as it likes, so lines are cut, lines a second and names of
//! counters are bounded, and whatever goes over is dropped.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use wasmtime::ResourceLimiter;

const MAX_LINE: usize = 2048;
const MAX_LINES_A_SECOND: u32 = 50;
const MAX_COUNTERS: usize = 64;
const MAX_COUNTER_NAME: usize = 64;
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Whose instance it is: what every line and number of the guest is filed under.
#[derive(Debug)]
pub(super) struct Identity {
    pub name: String,
    pub version: String,
    pub generation: u64,
    counters: Mutex<BTreeMap<String, f64>>,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    since: Instant,
    count: u32,
}

impl Identity {
    pub(super) fn new(name: &str, version: String, generation: u64) -> Self {
        let lines = Lines { since: Instant::now(), count: 0 };
        Self { name: name.into(), version, generation, counters: Mutex::default(), lines: Mutex::new(lines) }
    }

    /// What the plugin counted, by name.
    pub(super) fn counters(&self) -> BTreeMap<String, f64> {
        self.counters.lock().clone()
    }

    /// Takes note of a line; how many were written in this second, this one included.
    fn line(&self) -> u32 {
        let mut lines = self.lines.lock();
        if lines.since.elapsed() >= Duration::from_secs(1) {
            *lines = Lines { since: Instant::now(), count: 0 };
        }
        lines.count = lines.count.saturating_add(1);
        lines.count
    }
}

/// What belongs to one instance on the host's side.
pub(super) struct State {
    pub(super) identity: Arc<Identity>,
    pub(super) memory: Memory,
    /// When the running call was first found to be late, by its thread's clock and by the wall's.
    pub(super) late_since: Option<(Duration, Instant)>,
    pub(super) limit: Duration,
    /// The last error the guest logged in the running call: a panic says there what it was about.
    pub(super) said: Option<String>,
    /// Open handles to what WASI offers.
    pub(super) handles: usize,
}

impl State {
    pub(super) fn new(identity: Arc<Identity>, max_memory: usize, limit: Duration) -> Self {
        let memory = Memory { used: 0, max: max_memory, refused: false };
        Self { identity, memory, late_since: None, limit, said: None, handles: 0 }
    }
}

/// Bounds the sum of all memories of an instance.
pub(super) struct Memory {
    used: usize,
    pub(super) max: usize,
    /// Whether the running call asked for more.
    pub(super) refused: bool,
}

impl ResourceLimiter for Memory {
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

pub(super) fn log(state: &mut State, level: &str, message: &str) {
    let message = cut(message, MAX_LINE);
    if level == "error" {
        state.said = Some(cut(message, 300).to_owned());
    }
    let Identity { name: plugin, version, generation, .. } = &*state.identity;
    match state.identity.line() {
        count if count > MAX_LINES_A_SECOND + 1 => return,
        count if count > MAX_LINES_A_SECOND => {
            tracing::warn!(plugin, version, generation, "{plugin} logs too much; lines are left out");
            return;
        }
        _ => {}
    }
    match level {
        "error" => tracing::error!(plugin, version, generation, "{plugin}: {message}"),
        "warn" => tracing::warn!(plugin, version, generation, "{plugin}: {message}"),
        "debug" => tracing::debug!(plugin, version, generation, "{plugin}: {message}"),
        _ => tracing::info!(plugin, version, generation, "{plugin}: {message}"),
    }
}

pub(super) fn now_ms() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() * 1000.0
}

pub(super) fn count(state: &mut State, name: String, by: f64) {
    let valid = !name.is_empty()
        && name.len() <= MAX_COUNTER_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if !valid || !by.is_finite() {
        return;
    }
    let mut counters = state.identity.counters.lock();
    if let Some(total) = counters.get_mut(&name) {
        *total += by;
    } else if counters.len() < MAX_COUNTERS {
        counters.insert(name, by);
    }
}

/// The first `max` bytes of a text, or less where a character would be torn.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(Arc::new(Identity::new("p", "1.0.0".into(), 1)), 1 << 20, Duration::from_millis(10))
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
        assert_eq!((counters.len(), counters["n1"]), (MAX_COUNTERS, 3.5));
    }

    #[test]
    fn a_flood_of_lines_is_cut_and_an_error_is_remembered() {
        let mut state = state();
        for _ in 0..10_000 {
            log(&mut state, "error", &"ä".repeat(2000));
        }
        assert_eq!(state.said.map(|said| said.len()), Some(300));
    }
}

//! Instances of one plugin: made with its configuration, kept warm, bounded in time and memory, retired.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cpu_time::ThreadTime;
use parking_lot::Mutex;
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline, component::InstancePre};

use super::{
    bindings::{Exports, Guest},
    engine::{Engine, ticks},
    error::Fault,
    host::{Identity, State, cut},
};

/// An instance that is this old is replaced: what a guest leaks must not add up.
const MAX_CALLS: u32 = 100_000;
/// How many bytes a guest may hand over in one answer or one call of the host.
const MAX_TRANSFER: usize = 1 << 20;
/// `describe`, `init` and `hides` may take this long.
pub(super) const INIT_LIMIT: Duration = Duration::from_secs(1);

/// What every instance of a plugin is made of.
pub(super) struct Pool {
    pub(super) engine: Engine,
    pub(super) component: InstancePre<State>,
    pub(super) exports: Exports,
    pub(super) identity: Arc<Identity>,
    pub(super) config: String,
    pub(super) timeout: Duration,
    pub(super) memory_mib: u64,
    pub(super) max_idle: usize,
    pub(super) idle: Mutex<Vec<Instance>>,
    pub(super) made: AtomicU64,
}

impl Pool {
    /// Asks a warm instance, or a new one when all are busy.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Guest, StoreContextMut<'_, State>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let warm = self.idle.lock().pop();
        let mut instance = warm.map_or_else(|| self.ready_instance(), Ok)?;
        // A trap leaves the instance in a state that nobody vouches for: it is dropped.
        let answer = instance.call(self.timeout, question)?;
        self.give_back(instance);
        Ok(answer)
    }

    pub(super) fn give_back(&self, instance: Instance) {
        if instance.calls >= MAX_CALLS {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.max_idle {
            idle.push(instance);
        }
    }

    /// A new instance that has taken its configuration.
    pub(super) fn ready_instance(&self) -> Result<Instance, Fault> {
        let mut instance = self.instance(self.identity.clone())?;
        instance.call(INIT_LIMIT, |guest, store| guest.init(store, &self.config))?.map_err(refused_config)?;
        Ok(instance)
    }

    /// A new instance that has not been called.
    pub(super) fn instance(&self, identity: Arc<Identity>) -> Result<Instance, Fault> {
        let max_memory = usize::try_from(self.memory_mib << 20).unwrap_or(usize::MAX);
        let mut store = Store::new(self.engine.wasmtime(), State::new(identity, max_memory, INIT_LIMIT));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(MAX_TRANSFER);
        store.epoch_deadline_callback(|mut store| Ok(overdue(store.data_mut())));
        store.set_epoch_deadline(ticks(INIT_LIMIT / 2));
        self.made.fetch_add(1, Relaxed);
        let guest = match self.component.instantiate(&mut store) {
            Ok(instance) => self.exports.load(wasmtime::AsContextMut::as_context_mut(&mut store), &instance),
            Err(error) => Err(error),
        };
        match guest {
            Ok(guest) => Ok(Instance { store, guest, calls: 0 }),
            Err(error) => Err(fault(store.data_mut(), &error)),
        }
    }
}

pub(super) fn refused_config(reason: String) -> Fault {
    Fault::Init(cut(&reason, 1000).to_owned())
}

pub(super) struct Instance {
    store: Store<State>,
    guest: Guest,
    calls: u32,
}

impl Instance {
    pub(super) fn call<T>(
        &mut self,
        limit: Duration,
        question: impl FnOnce(&Guest, StoreContextMut<'_, State>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        self.calls += 1;
        let state = self.store.data_mut();
        state.limit = limit;
        state.late_since = None;
        state.memory.refused = false;
        state.said = None;
        // At half of the limit the thread's own clock is started: see `overdue`.
        self.store.set_epoch_deadline(ticks(limit / 2));
        let answer = question(&self.guest, wasmtime::AsContextMut::as_context_mut(&mut self.store));
        answer.map_err(|error| fault(self.store.data_mut(), &error))
    }
}

/// Whether a late call is to be interrupted: once its thread has *worked* on it for the rest of the limit.
///
/// Time in which the machine ran something else is no fault of the guest's, so a busy server does not make
/// plugins fail; only a wait beyond all measure ends the call as well.
fn overdue(state: &mut State) -> UpdateDeadline {
    let worked = ThreadTime::now().as_duration();
    let (worked_before, since) = *state.late_since.get_or_insert_with(|| (worked, Instant::now()));
    let over = worked.saturating_sub(worked_before) >= state.limit / 2 || since.elapsed() >= state.limit * 100;
    if over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
}

/// What went wrong, told from what the engine says and what the instance was doing.
fn fault(state: &mut State, error: &wasmtime::Error) -> Fault {
    if matches!(error.downcast_ref::<Trap>(), Some(Trap::Interrupt)) {
        return Fault::Deadline(state.limit);
    }
    if state.memory.refused {
        return Fault::Memory((state.memory.max >> 20) as u64);
    }
    let cause = error.root_cause().to_string().replace('\n', " ");
    let cause = cut(cause.trim_start_matches("wasm trap: "), 300);
    Fault::Trap(match state.said.take() {
        Some(said) => format!("{cause} ({said})"),
        None => cause.to_owned(),
    })
}

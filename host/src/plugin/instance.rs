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
    limits::Limits,
    status::InstanceCounts,
};

/// What every instance of a plugin is made of.
pub(super) struct Pool {
    pub(super) engine: Engine,
    pub(super) component: InstancePre<State>,
    pub(super) exports: Exports,
    pub(super) identity: Arc<Identity>,
    pub(super) config: String,
    pub(super) limits: Limits,
    pub(super) max_idle: usize,
    pub(super) idle: Mutex<Vec<Instance>>,
    pub(super) instances: Instances,
}

/// What became of instances.
#[derive(Default)]
pub(super) struct Instances {
    made: AtomicU64,
    /// Dropped after a fault that leaves an instance in a state that nobody vouches for.
    broken: AtomicU64,
    /// Replaced at their age.
    aged: AtomicU64,
}

impl Pool {
    /// Asks a warm instance, or a new one when all are busy.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Guest, StoreContextMut<'_, State>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let warm = self.idle.lock().pop();
        let mut instance = warm.map_or_else(|| self.ready_instance(), Ok)?;
        let answer = instance.call(self.limits.timeout(), question);
        if instance.store.data().looked {
            self.identity.looks.fetch_add(1, Relaxed);
        }
        match answer {
            Ok(answer) => {
                self.give_back(instance);
                Ok(answer)
            }
            // Its memory may be half written and its Store cannot be entered again: it is not given back.
            Err(fault) => {
                self.instances.broken.fetch_add(1, Relaxed);
                Err(fault)
            }
        }
    }

    pub(super) fn give_back(&self, instance: Instance) {
        // What a guest leaks must not add up.
        if instance.calls >= self.limits.calls_per_instance {
            self.instances.aged.fetch_add(1, Relaxed);
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
        instance.init(self)?.map_err(refused_config)?;
        Ok(instance)
    }

    pub(super) fn counts(&self) -> InstanceCounts {
        let Instances { made, broken, aged } = &self.instances;
        let [made, broken, aged] = [made, broken, aged].map(|count| count.load(Relaxed));
        InstanceCounts { made, warm: self.idle.lock().len() as u64, broken, aged }
    }

    /// A new instance that has not been called.
    pub(super) fn instance(&self, identity: Arc<Identity>) -> Result<Instance, Fault> {
        let limit = self.limits.init_timeout();
        let mut store = Store::new(self.engine.wasmtime(), State::new(identity, self.limits.memory_bytes(), limit));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.limits.answer_bytes());
        store.epoch_deadline_callback(|mut store| Ok(overdue(store.data_mut())));
        store.set_epoch_deadline(ticks(limit / 2));
        self.instances.made.fetch_add(1, Relaxed);
        let guest = match self.component.instantiate(&mut store) {
            Ok(instance) => self.exports.load(wasmtime::AsContextMut::as_context_mut(&mut store), &instance),
            Err(error) => Err(error),
        };
        match guest {
            Ok(guest) => Ok(Instance { store, guest: Box::new(guest), calls: 0 }),
            Err(error) => Err(fault(store.data_mut(), &error)),
        }
    }
}

pub(super) fn refused_config(reason: String) -> Fault {
    Fault::Init(cut(&reason, 1000).to_owned())
}

pub(super) struct Instance {
    store: Store<State>,
    /// By a pointer, because the instance is passed along with every call.
    guest: Box<Guest>,
    calls: u64,
}

impl Instance {
    pub(super) fn init(&mut self, pool: &Pool) -> Result<Result<(), String>, Fault> {
        self.call(pool.limits.init_timeout(), |guest, store| guest.init(store, &pool.config))
    }

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
        state.looked = false;
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

//! Instance pool of one plugin: instances are created with its configuration, kept warm, limited in time and memory,
//! and retired.
//!
//! Half of a deadline is wall-clock time; in the other half, only the time that the thread works on the call counts.

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

use crate::plugin::{
    contract::{error::Fault, limits::Limits, text::cut},
    wasm::{
        bindings::{Exports, Guest},
        counts::InstanceCounts,
        engine::{Engine, ticks},
        imports::{GuestIdentity, GuestState},
    },
};

/// Instance pool of a plugin, with all that a new instance is made of.
pub(crate) struct InstancePool {
    pub(crate) engine: Engine,
    pub(crate) component: InstancePre<GuestState>,
    pub(crate) exports: Exports,
    pub(crate) identity: Arc<GuestIdentity>,
    pub(crate) config: String,
    pub(crate) limits: Limits,
    pub(crate) max_idle: usize,
    pub(crate) idle: Mutex<Vec<Instance>>,
    pub(crate) instances: Instances,
}

/// Counters of instances, by what became of them.
#[derive(Default)]
pub(crate) struct Instances {
    made: AtomicU64,
    /// Dropped after a fault, which leaves an instance in an undefined state.
    broken: AtomicU64,
    /// Replaced after the allowed number of calls.
    aged: AtomicU64,
}

impl InstancePool {
    /// Calls a warm instance, or a new one when all are busy.
    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(&Guest, StoreContextMut<'_, GuestState>) -> wasmtime::Result<T>,
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

    pub(crate) fn give_back(&self, instance: Instance) {
        // An old instance is retired, because leaks of a guest must not add up.
        if instance.calls >= self.limits.calls_per_instance {
            self.instances.aged.fetch_add(1, Relaxed);
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.max_idle {
            idle.push(instance);
        }
    }

    /// Creates an instance that has taken its configuration.
    pub(crate) fn ready_instance(&self) -> Result<Instance, Fault> {
        let mut instance = self.instance(self.identity.clone())?;
        instance.init(self)?.map_err(refused_config)?;
        Ok(instance)
    }

    pub(crate) fn counts(&self) -> InstanceCounts {
        let Instances { made, broken, aged } = &self.instances;
        let [made, broken, aged] = [made, broken, aged].map(|count| count.load(Relaxed));
        InstanceCounts { made, warm: self.idle.lock().len() as u64, broken, aged }
    }

    /// Creates an instance that has not been called.
    pub(crate) fn instance(&self, identity: Arc<GuestIdentity>) -> Result<Instance, Fault> {
        let limit = self.limits.init_timeout();
        let mut store =
            Store::new(self.engine.wasmtime(), GuestState::new(identity, self.limits.memory_bytes(), limit));
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

pub(crate) fn refused_config(reason: String) -> Fault {
    Fault::Init(cut(&reason, 1000).to_owned())
}

pub(crate) struct Instance {
    store: Store<GuestState>,
    /// Boxed, because the instance is passed along with every call.
    guest: Box<Guest>,
    calls: u64,
}

impl Instance {
    pub(crate) fn init(&mut self, pool: &InstancePool) -> Result<Result<(), String>, Fault> {
        self.call(pool.limits.init_timeout(), |guest, store| guest.init(store, &pool.config))
    }

    pub(crate) fn call<T>(
        &mut self,
        limit: Duration,
        question: impl FnOnce(&Guest, StoreContextMut<'_, GuestState>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        self.calls += 1;
        let state = self.store.data_mut();
        state.limit = limit;
        state.late_since = None;
        state.memory.refused = false;
        state.said = None;
        state.looked = false;
        // At half of the limit, the CPU clock of the thread is started: see `overdue`.
        self.store.set_epoch_deadline(ticks(limit / 2));
        let answer = question(&self.guest, wasmtime::AsContextMut::as_context_mut(&mut self.store));
        answer.map_err(|error| fault(self.store.data_mut(), &error))
    }
}

/// Interrupts a late call once its thread has *worked* on it for the other half of the limit.
///
/// Time in which the machine ran something else is not the guest's fault, so a busy server does not make plugins
/// fail. Only a wait of 100 times the limit ends the call as well.
fn overdue(state: &mut GuestState) -> UpdateDeadline {
    let worked = ThreadTime::now().as_duration();
    let (worked_before, since) = *state.late_since.get_or_insert_with(|| (worked, Instant::now()));
    let over = worked.saturating_sub(worked_before) >= state.limit / 2 || since.elapsed() >= state.limit * 100;
    if over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
}

/// Derives the fault from the engine's error and from what the instance was doing.
fn fault(state: &mut GuestState, error: &wasmtime::Error) -> Fault {
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

//! WebAssembly engine: compiles guests, checks what they import, and runs the clock that interrupts them.
//!
//! The clock is epoch interruption: a thread advances the engine's epoch, and a call has a deadline in epochs.

use std::{path::Path, thread, time::Duration};

use wasmparser::{Encoding, Parser, Payload};
use wasmtime::{
    Cache, CacheConfig, Config, InstanceAllocationStrategy, PoolingAllocationConfig,
    component::{Component, HasSelf, InstancePre, Linker},
};

use crate::plugin::{
    contract::{
        error::{Error, LoadError},
        limits::MAX_MEMORY_MIB,
        text::cut,
    },
    wasm::{bindings::v1, imports::GuestState, wasi},
};

/// Interval of the epoch: how often a running guest may be interrupted.
const TICK: Duration = Duration::from_millis(1);
const MAX_INSTANCES: u32 = 256;

#[derive(Clone)]
pub(crate) struct Engine {
    engine: wasmtime::Engine,
    linker: Linker<GuestState>,
}

impl Engine {
    /// Starts an engine that keeps compiled code in `cache`, keyed by the code's hash and by the engine's own
    /// version and flags.
    pub(crate) fn start(cache: &Path) -> Result<Self, Error> {
        // The pool reserves a lot of address space; where that is not available, do without the pool.
        let (pooled, plain) = (config(cache, true)?, config(cache, false)?);
        let engine = wasmtime::Engine::new(&pooled)
            .or_else(|_| wasmtime::Engine::new(&plain))
            .map_err(|error| Error::Engine(format!("{error:#}")))?;
        let mut linker = Linker::new(&engine);
        v1::EveryHook::add_to_linker::<GuestState, HasSelf<GuestState>>(&mut linker, |state| state)
            .map_err(|error| Error::Engine(format!("{error:#}")))?;
        tick(&engine);
        Ok(Self { engine, linker })
    }

    /// Compiles a file. Refuses one that is not a component, or that imports what no plugin may have.
    pub(crate) fn compile(&self, bytes: &[u8]) -> Result<InstancePre<GuestState>, LoadError> {
        let imports = imports(bytes)?;
        imports.iter().try_for_each(|name| check_import(name))?;
        let refused = |what: &str, error: &wasmtime::Error| {
            LoadError(format!("{what}: {}", cut(&format!("{error:#}").replace('\n', " "), 400)))
        };
        let component = Component::from_binary(&self.engine, bytes)
            .map_err(|error| refused("the file is not a valid component", &error))?;
        let mut linker = self.linker.clone();
        if imports.iter().any(|name| name.starts_with("wasi:")) {
            wasi::add_to_linker(&mut linker, &component).map_err(|error| refused("its imports of WASI", &error))?;
        }
        linker.instantiate_pre(&component).map_err(|error| refused("its imports do not fit this server", &error))
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }
}

fn config(cache: &Path, pooled: bool) -> Result<Config, Error> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        // Compiling must not take both cores from the server.
        .parallel_compilation(false)
        .wasm_backtrace_max_frames(None)
        .memory_init_cow(true);
    let mut cached = CacheConfig::new();
    cached.with_directory(cache).with_files_total_size_soft_limit(256 << 20);
    let cached = Cache::new(cached).map_err(|error| Error::Engine(format!("{error:#}")))?;
    config.cache(Some(cached));
    if pooled {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(MAX_INSTANCES)
            .total_core_instances(4 * MAX_INSTANCES)
            .total_memories(MAX_INSTANCES)
            .total_tables(2 * MAX_INSTANCES)
            .max_memory_size((MAX_MEMORY_MIB as usize) << 20)
            .linear_memory_keep_resident(0)
            .table_keep_resident(0)
            // The slots of a plugin that was replaced are soon used again.
            .max_unused_warm_slots(16);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    Ok(config)
}

/// Advances the engine's epoch until the engine is gone.
fn tick(engine: &wasmtime::Engine) {
    let engine = engine.weak();
    let ticker = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    };
    thread::Builder::new().name("plugin-clock".into()).spawn(ticker).expect("the system has room for one more thread");
}

/// Number of ticks that take at least as long as a span.
pub(crate) fn ticks(span: Duration) -> u64 {
    u64::try_from(span.as_micros().div_ceil(TICK.as_micros())).unwrap_or(u64::MAX / 2).max(1) + 1
}

/// Lists the names that a component imports. Refuses a file that is not a component.
pub(crate) fn imports(bytes: &[u8]) -> Result<Vec<String>, LoadError> {
    if bytes.is_empty() {
        return Err(LoadError("the file is empty".into()));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError("the file is not WebAssembly".into()));
    }
    let damaged =
        |error: wasmparser::BinaryReaderError| LoadError(format!("the file is cut short or damaged: {error}"));
    let mut names = Vec::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                let why = "the file is a core module, not a component: build it with `leadwire plugin build`";
                return Err(LoadError(why.into()));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

/// Refuses an import that no plugin gets, by name and before anything is compiled.
pub(crate) fn check_import(name: &str) -> Result<(), LoadError> {
    let shown = cut(name, 100);
    if ["wasi:sockets/", "wasi:http/"].iter().any(|network| name.starts_with(network)) {
        return Err(LoadError(format!("it imports {shown}: a plugin may not reach the network")));
    }
    if wasi::PACKAGES.iter().any(|package| name.starts_with(package) && name.contains("@0.2.")) {
        return Ok(());
    }
    match name {
        "leadwire:plugin/host@1.0.0" | "leadwire:plugin/types@1.0.0" => Ok(()),
        _ if name.starts_with("leadwire:plugin/") => {
            Err(LoadError(format!("it imports {shown}: this server offers version 1.0.0 of the plugin interface")))
        }
        _ => Err(LoadError(format!("it imports {shown}, which is not available to plugins"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::start(dir.path()).expect("starts");
        engine.compile(bytes).err().expect("refused").0
    }

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("valid text")
    }

    #[test]
    fn a_file_that_is_not_a_component_is_refused_by_kind() {
        let whole = wat("(component (core module (memory 1)))");
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(b"just a text").contains("not WebAssembly"));
        assert!(refusal(&wat("(module (memory 1))")).contains("core module"));
        assert!(refusal(&whole[..whole.len() - 3]).contains("cut short or damaged"));
    }

    #[test]
    fn unavailable_imports_are_refused_by_name() {
        let importing = |name: &str| refusal(&wat(&format!("(component (import \"{name}\" (instance)))")));
        assert!(importing("wasi:sockets/tcp@0.2.0").contains("wasi:sockets/tcp@0.2.0: a plugin may not reach"));
        assert!(importing("wasi:http/outgoing-handler@0.2.3").contains("may not reach the network"));
        assert!(importing("leadwire:plugin/host@2.0.0").contains("this server offers version 1.0.0"));
        assert!(importing("acme:secrets/vault").contains("not available to plugins"));
    }

    #[test]
    fn a_duration_rounds_up_to_ticks() {
        assert_eq!((ticks(Duration::ZERO), ticks(Duration::from_millis(5))), (2, 6));
    }
}

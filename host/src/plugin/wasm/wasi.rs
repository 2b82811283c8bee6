//! WASI 0.2 with nothing granted, so that components from Python and JavaScript toolchains load.
//!
//! Clocks and randomness are real. What is written to the standard streams goes to the server's log. There are no
//! arguments, variables or directories, and whatever else is called traps. The usual crate for this blocks on its own
//! async runtime, which a call on a server's worker thread must not do.

use std::time::Instant;

use rand::RngExt;
use wasmtime::{
    StoreContextMut,
    component::{Component, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType},
};

use crate::plugin::wasm::imports::{self, GuestState, Stream};

/// WASI packages that may be imported at all.
pub(crate) const PACKAGES: [&str; 5] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/"];

const MAX_RANDOM: u64 = 64 << 10;
/// Bytes that a guest may write at once, as `check-write` reports; WASI has the same limit for a blocking write.
const MAX_WRITE: usize = 4096;

type WasiStore<'a> = StoreContextMut<'a, GuestState>;

/// Pollable that is always ready: a guest never waits.
struct Pollable;

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Type `stream-error` of `wasi:io/streams`; only `closed` is ever returned.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    Failed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

struct IoError;
/// Standard input, which is at its end.
struct InputStream;
/// Standard output or standard error, distinguished by the value of the handle.
struct OutputStream;
struct Descriptor;
struct Terminal;

pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>, component: &Component) -> wasmtime::Result<()> {
    let names: Vec<String> = component
        .component_type()
        .imports(linker.engine())
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("wasi:"))
        .collect();
    for name in names {
        let interface = name.split('@').next().unwrap_or(&name).to_owned();
        let mut at = linker.instance(&name)?;
        // An interface that uses another's resource exports it too, and it has to be the same one.
        resource::<IoError>(&mut at, "error")?;
        resource::<Pollable>(&mut at, "pollable")?;
        resource::<InputStream>(&mut at, "input-stream")?;
        resource::<OutputStream>(&mut at, "output-stream")?;
        resource::<Descriptor>(&mut at, "descriptor")?;
        resource::<Terminal>(&mut at, "terminal-input")?;
        resource::<Terminal>(&mut at, "terminal-output")?;
        define(&interface, &mut at)?;
    }
    linker.define_unknown_imports_as_traps(component)
}

fn define(interface: &str, at: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    match interface {
        "wasi:random/random" | "wasi:random/insecure" => {
            let prefix = if interface.ends_with("insecure") { "get-insecure-random" } else { "get-random" };
            at.func_wrap(&format!("{prefix}-bytes"), |store: WasiStore<'_>, (length,): (u64,)| {
                look(store);
                Ok((random_bytes(length)?,))
            })?;
            at.func_wrap(&format!("{prefix}-u64"), |store: WasiStore<'_>, ()| {
                look(store);
                Ok((rand::rng().random::<u64>(),))
            })
        }
        "wasi:random/insecure-seed" => at.func_wrap("insecure-seed", |store: WasiStore<'_>, ()| {
            look(store);
            Ok((rand::rng().random::<(u64, u64)>(),))
        }),
        "wasi:clocks/wall-clock" => {
            at.func_wrap("now", |mut store: WasiStore<'_>, ()| {
                store.data_mut().looked = true;
                Ok((wall_clock(store.data()),))
            })?;
            at.func_wrap("resolution", |_: WasiStore<'_>, ()| Ok((Datetime { seconds: 0, nanoseconds: 1_000_000 },)))
        }
        "wasi:clocks/monotonic-clock" => {
            let start = Instant::now();
            let now = move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            at.func_wrap("now", move |store: WasiStore<'_>, ()| {
                look(store);
                Ok((now(),))
            })?;
            at.func_wrap("resolution", |_: WasiStore<'_>, ()| Ok((1_000_u64,)))
        }
        "wasi:cli/environment" => {
            at.func_wrap("get-environment", |_: WasiStore<'_>, ()| Ok((Vec::<(String, String)>::new(),)))?;
            at.func_wrap("get-arguments", |_: WasiStore<'_>, ()| Ok((Vec::<String>::new(),)))?;
            at.func_wrap("initial-cwd", |_: WasiStore<'_>, ()| Ok((None::<String>,)))
        }
        "wasi:cli/exit" => {
            at.func_wrap("exit", |_: WasiStore<'_>, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
                let how = if status.is_ok() { "" } else { " with a failure" };
                wasmtime::bail!("the plugin called exit{how}")
            })
        }
        "wasi:cli/stdin" => {
            at.func_wrap("get-stdin", |store: WasiStore<'_>, ()| Ok((handle::<InputStream>(store, 0)?,)))
        }
        "wasi:cli/stdout" => at.func_wrap("get-stdout", |store: WasiStore<'_>, ()| {
            Ok((handle::<OutputStream>(store, Stream::Out as u32)?,))
        }),
        "wasi:cli/stderr" => at.func_wrap("get-stderr", |store: WasiStore<'_>, ()| {
            Ok((handle::<OutputStream>(store, Stream::Error as u32)?,))
        }),
        "wasi:cli/terminal-stdin" => no_terminal(at, "get-terminal-stdin"),
        "wasi:cli/terminal-stdout" => no_terminal(at, "get-terminal-stdout"),
        "wasi:cli/terminal-stderr" => no_terminal(at, "get-terminal-stderr"),
        "wasi:filesystem/preopens" => {
            at.func_wrap("get-directories", |_: WasiStore<'_>, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))
        }
        "wasi:io/poll" => {
            at.func_wrap("[method]pollable.ready", |_: WasiStore<'_>, (_,): (Resource<Pollable>,)| Ok((true,)))?;
            at.func_wrap("[method]pollable.block", |_: WasiStore<'_>, (_,): (Resource<Pollable>,)| Ok(()))?;
            at.func_wrap("poll", |_: WasiStore<'_>, (all,): (Vec<Resource<Pollable>>,)| {
                Ok(((0..all.len()).filter_map(|index| u32::try_from(index).ok()).collect::<Vec<_>>(),))
            })
        }
        "wasi:io/streams" => streams(at),
        _ => Ok(()),
    }
}

fn no_terminal(at: &mut LinkerInstance<'_, GuestState>, name: &str) -> wasmtime::Result<()> {
    at.func_wrap(name, |_: WasiStore<'_>, ()| Ok((None::<Resource<Terminal>>,)))
}

fn streams(at: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    type Done = (Result<(), StreamError>,);

    for name in ["[method]input-stream.read", "[method]input-stream.blocking-read"] {
        at.func_wrap(name, |_: WasiStore<'_>, (_, _): (Resource<InputStream>, u64)| {
            Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
        })?;
    }
    at.func_wrap("[method]input-stream.subscribe", |store: WasiStore<'_>, (_,): (Resource<InputStream>,)| {
        Ok((handle::<Pollable>(store, 0)?,))
    })?;

    at.func_wrap("[method]output-stream.check-write", |_: WasiStore<'_>, (_,): (Resource<OutputStream>,)| {
        Ok((Ok::<u64, StreamError>(MAX_WRITE as u64),))
    })?;
    for name in ["[method]output-stream.write", "[method]output-stream.blocking-write-and-flush"] {
        at.func_wrap(
            name,
            |mut store: WasiStore<'_>, (to, bytes): (Resource<OutputStream>, Vec<u8>)| -> wasmtime::Result<Done> {
                if bytes.len() > MAX_WRITE {
                    wasmtime::bail!("wrote {} bytes at once; {MAX_WRITE} are allowed", bytes.len());
                }
                let stream = if to.rep() == Stream::Error as u32 { Stream::Error } else { Stream::Out };
                imports::print(store.data_mut(), stream, &bytes);
                Ok((Ok(()),))
            },
        )?;
    }
    for name in ["[method]output-stream.flush", "[method]output-stream.blocking-flush"] {
        at.func_wrap(name, |_: WasiStore<'_>, (_,): (Resource<OutputStream>,)| -> wasmtime::Result<Done> {
            Ok((Ok(()),))
        })?;
    }
    at.func_wrap("[method]output-stream.subscribe", |store: WasiStore<'_>, (_,): (Resource<OutputStream>,)| {
        Ok((handle::<Pollable>(store, 0)?,))
    })
}

/// Defines a resource type whose values hold nothing on the host's side.
fn resource<T: 'static>(at: &mut LinkerInstance<'_, GuestState>, name: &str) -> wasmtime::Result<()> {
    at.resource(name, ResourceType::host::<T>(), |mut store, _| {
        store.data_mut().handles = store.data().handles.saturating_sub(1);
        Ok(())
    })
}

/// Creates a handle. Their number is limited, because a guest may ask for as many as it likes.
fn handle<T: 'static>(mut store: WasiStore<'_>, bears: u32) -> wasmtime::Result<Resource<T>> {
    let handles = &mut store.data_mut().handles;
    if *handles >= 1000 {
        wasmtime::bail!("more than 1000 open handles");
    }
    *handles += 1;
    Ok(Resource::new_own(bears))
}

fn random_bytes(length: u64) -> wasmtime::Result<Vec<u8>> {
    if length > MAX_RANDOM {
        wasmtime::bail!("{length} random bytes at once; {MAX_RANDOM} are allowed");
    }
    let mut bytes = vec![0; usize::try_from(length)?];
    rand::rng().fill(&mut bytes[..]);
    Ok(bytes)
}

/// Records that the answer of the call depends on more than the question.
fn look(mut store: WasiStore<'_>) {
    store.data_mut().looked = true;
}

fn wall_clock(state: &GuestState) -> Datetime {
    let since = state.identity.now();
    Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() }
}

//! Finds a way to compile for `wasm32-unknown-unknown`, so that nobody has to type it.
//!
//! In this order: the target is there; its std can be built from the active toolchain's own
//! sources (`rust-src`); a Debian toolchain was unpacked earlier; rustup can add the target;
//! Debian has a compiler and the matching std sources to unpack. What was chosen, and why, is
//! told on stderr. `LEADWIRE_WASM_TOOLCHAIN` (`installed`, `rust-src`, `rustup`, `debian`) forces one.

mod debian;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// How cargo is called so that its output is WebAssembly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Toolchain {
    env: Vec<(&'static str, OsString)>,
    args: Vec<&'static str>,
}

const BUILD_STD: [&str; 2] = ["-Z", "build-std=std,panic_abort"];

impl Toolchain {
    /// The toolchain to use in `dir`, where a `rust-toolchain.toml` may choose another compiler.
    pub(super) fn find(dir: &Path) -> Result<Self> {
        let rustc = Rustc::active(dir)?;
        let forced = env::var("LEADWIRE_WASM_TOOLCHAIN").ok().filter(|way| !way.is_empty());
        match forced.as_deref() {
            None => Self::first_that_works(dir, &rustc),
            Some("installed") => Ok(Self::default()),
            Some("rust-src") => rustc.with_sources().with_context(|| rustc.lacks_sources()),
            Some("rustup") => {
                rustup_add(dir)?;
                Ok(Self::default())
            }
            Some("debian") => debian::toolchain(&rustc),
            Some(other) => {
                bail!("LEADWIRE_WASM_TOOLCHAIN is `{other}`; expected installed, rust-src, rustup or debian")
            }
        }
    }

    fn first_that_works(dir: &Path, rustc: &Rustc) -> Result<Self> {
        if rustc.has_target(dir) {
            tell(format_args!("{TARGET} is installed with {}", rustc.version));
            return Ok(Self::default());
        }
        if let Some(toolchain) = rustc.with_sources() {
            tell(format_args!("{TARGET} is not installed with {}; its std is built from rust-src", rustc.version));
            return Ok(toolchain);
        }
        if let Some(toolchain) = debian::unpacked(rustc) {
            return Ok(toolchain);
        }
        tell(format_args!("{TARGET} is not installed with {}; asking rustup for it", rustc.version));
        let Err(rustup) = rustup_add(dir) else { return Ok(Self::default()) };
        tell(format_args!("{rustup:#}; trying Debian's compiler and std sources"));
        let debian = match debian::toolchain(rustc) {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => error,
        };
        bail!(
            "{TARGET} is missing and could not be had: {rustup:#}; {debian:#}. Run `rustup target add {TARGET}` where \
             there is a network, or install it with your system's Rust (Debian: libstd-rust-dev-wasm32)"
        )
    }

    /// `cargo <subcommand>` in `dir`, rid of what a caller's environment could do to it.
    pub(super) fn cargo(&self, dir: &Path, subcommand: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(dir).arg(subcommand);
        // An empty wrapper also overrules one from cargo's configuration: it may not know this compiler.
        cargo.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
        // Flags meant for the host (a linker, a CPU) would be given to the wasm linker.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(name);
        }
        cargo.envs(self.env.iter().map(|(name, value)| (name, value)));
        cargo
    }

    /// The same, for somebody who waits after each save: built sooner, and a little slower when called.
    pub(super) fn hasty(mut self) -> Self {
        self.env.extend([
            ("CARGO_PROFILE_RELEASE_LTO", "false".into()),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16".into()),
            ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true".into()),
        ]);
        self
    }

    /// `cargo build --release` of the library in `dir` for wasm: of the module alone, because with an `rlib` beside it
    /// cargo would do without the link-time optimisation that its profile asks for.
    pub(super) fn build(&self, dir: &Path) -> Command {
        let mut cargo = self.cargo(dir, "rustc");
        cargo.args(["--release", "--lib", "--crate-type", "cdylib", "--target", TARGET]).args(&self.args);
        cargo
    }
}

/// The compiler that cargo would use.
#[derive(Debug)]
struct Rustc {
    program: OsString,
    version: String,
    sysroot: PathBuf,
    host: String,
}

impl Rustc {
    fn active(dir: &Path) -> Result<Self> {
        let program = env::var_os("RUSTC").filter(|rustc| !rustc.is_empty()).unwrap_or_else(|| "rustc".into());
        let verbose = text(Command::new(&program).arg("-vV").current_dir(dir))
            .context("no Rust compiler found; install Rust from https://rustup.rs")?;
        let sysroot = text(Command::new(&program).args(["--print", "sysroot"]).current_dir(dir))?;
        let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        Ok(Self {
            program,
            version: verbose.lines().next().unwrap_or_default().to_owned(),
            sysroot: sysroot.into(),
            host: host.to_owned(),
        })
    }

    fn has_target(&self, dir: &Path) -> bool {
        let mut print = Command::new(&self.program);
        print.args(["--print", "target-libdir", "--target", TARGET]).current_dir(dir);
        let Ok(libdir) = text(&mut print) else { return false };
        files(Path::new(&libdir)).any(|name| name.starts_with("libcore-") && name.ends_with(".rlib"))
    }

    fn with_sources(&self) -> Option<Toolchain> {
        let sources = self.sysroot.join("lib/rustlib/src/rust/library/Cargo.lock");
        sources.is_file().then(|| Toolchain { env: vec![("RUSTC_BOOTSTRAP", "1".into())], args: BUILD_STD.to_vec() })
    }

    fn lacks_sources(&self) -> String {
        format!(
            "{} has no std sources in {}; run `rustup component add rust-src`",
            self.version,
            self.sysroot.display()
        )
    }

    /// The folder of this toolchain's own wasm linker.
    fn lld(&self) -> Option<PathBuf> {
        let bin = self.sysroot.join("lib/rustlib").join(&self.host).join("bin");
        bin.join("rust-lld").is_file().then_some(bin)
    }
}

fn rustup_add(dir: &Path) -> Result<()> {
    output(Command::new("rustup").args(["target", "add", TARGET]).current_dir(dir))
        .with_context(|| format!("rustup could not add {TARGET}"))?;
    tell(format_args!("rustup added {TARGET}"));
    Ok(())
}

/// Progress is for the person, not for the program that reads stdout.
fn tell(line: std::fmt::Arguments<'_>) {
    eprintln!("leadwire: {line}");
}

fn files(dir: &Path) -> impl Iterator<Item = String> {
    let entries = dir.read_dir().into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn text(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a tool to its end; what it says becomes the error if it fails.
fn output(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(output);
    }
    bail!("{name} failed: {}", last_words(&output.stderr))
}

/// What a tool said last, which is where it says why.
fn last_words(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// `first` put before what `variable` already lists.
fn before(first: &Path, variable: &str) -> OsString {
    let rest = env::var_os(variable).unwrap_or_default();
    let paths = std::iter::once(first.to_owned()).chain(env::split_paths(&rest).filter(|path| path != OsStr::new("")));
    env::join_paths(paths).unwrap_or_else(|_| first.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tools_last_words_are_its_last_three_lines() {
        assert_eq!(last_words(b"one\n\ntwo\nthree\n  four\n"), "two; three; four");
        assert_eq!(last_words(b""), "");
    }

    #[test]
    fn cargo_is_rid_of_flags_that_were_meant_for_the_host() {
        let cargo = Toolchain::default().build(Path::new("."));
        let value = |name: &str| cargo.get_envs().find(|(key, _)| *key == OsStr::new(name)).map(|(_, value)| value);
        assert_eq!(value("RUSTFLAGS"), Some(None));
        assert_eq!(value("RUSTC_WRAPPER"), Some(Some(OsStr::new(""))));
    }
}

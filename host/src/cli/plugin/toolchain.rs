//! Finds a toolchain that compiles for `wasm32-unknown-unknown`, so that nobody has to configure it.
//!
//! Order of preference: the target is installed; its std can be built from the active toolchain's own sources
//! (`rust-src`); rustup can add the target. The choice and its reason are printed on stderr. `LEADWIRE_WASM_TOOLCHAIN`
//! (`installed`, `rust-src`, `rustup`) forces one, and `RUSTC` chooses another compiler.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Environment and arguments with which cargo produces WebAssembly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Toolchain {
    env: Vec<(&'static str, OsString)>,
    args: Vec<&'static str>,
}

const BUILD_STD: [&str; 2] = ["-Z", "build-std=std,panic_abort"];

impl Toolchain {
    /// Toolchain to use in `dir`, where a `rust-toolchain.toml` may choose another compiler.
    pub(crate) fn find(dir: &Path) -> Result<Self> {
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
            Some(other) => {
                bail!("LEADWIRE_WASM_TOOLCHAIN is `{other}`; expected installed, rust-src or rustup")
            }
        }
    }

    fn first_that_works(dir: &Path, rustc: &Rustc) -> Result<Self> {
        if rustc.has_target(dir) {
            progress(format_args!("{TARGET} is installed with {}", rustc.version));
            return Ok(Self::default());
        }
        if let Some(toolchain) = rustc.with_sources() {
            progress(format_args!("{TARGET} is not installed with {}; its std is built from rust-src", rustc.version));
            return Ok(toolchain);
        }
        progress(format_args!("{TARGET} is not installed with {}; asking rustup for it", rustc.version));
        let Err(rustup) = rustup_add(dir) else { return Ok(Self::default()) };
        bail!(
            "{TARGET} is missing and could not be added: {rustup:#}. Run `rustup target add {TARGET}` where \
             there is a network, or install it with your system's Rust (Debian: libstd-rust-dev-wasm32)"
        )
    }

    /// Command `cargo <subcommand>` in `dir`, without variables of the caller's environment that would affect it.
    pub(crate) fn cargo(&self, dir: &Path, subcommand: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(dir).arg(subcommand);
        // An empty wrapper also overrides one from cargo's configuration, which may not know this compiler.
        cargo.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
        // Flags meant for the host (a linker, a CPU) would be passed to the wasm linker.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(name);
        }
        cargo.envs(self.env.iter().map(|(name, value)| (name, value)));
        cargo
    }

    /// Variant for a build after each save: it builds faster, and its calls are a little slower.
    pub(crate) fn hasty(mut self) -> Self {
        self.env.extend([
            ("CARGO_PROFILE_RELEASE_LTO", "false".into()),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16".into()),
            ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true".into()),
        ]);
        self
    }

    /// Command `cargo build --release` for the library in `dir`, for wasm. It builds only the module, because with an
    /// `rlib` beside it cargo would skip the link-time optimisation that its profile requests.
    pub(crate) fn build(&self, dir: &Path) -> Command {
        let mut cargo = self.cargo(dir, "rustc");
        cargo.args(["--release", "--lib", "--crate-type", "cdylib", "--target", TARGET]).args(&self.args);
        cargo
    }
}

/// Compiler that cargo would use.
#[derive(Debug)]
struct Rustc {
    program: OsString,
    version: String,
    sysroot: PathBuf,
}

impl Rustc {
    fn active(dir: &Path) -> Result<Self> {
        let program = env::var_os("RUSTC").filter(|rustc| !rustc.is_empty()).unwrap_or_else(|| "rustc".into());
        let verbose = text(Command::new(&program).arg("-vV").current_dir(dir))
            .context("no Rust compiler found; install Rust from https://rustup.rs")?;
        let sysroot = text(Command::new(&program).args(["--print", "sysroot"]).current_dir(dir))?;
        Ok(Self { program, version: verbose.lines().next().unwrap_or_default().to_owned(), sysroot: sysroot.into() })
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
}

fn rustup_add(dir: &Path) -> Result<()> {
    output(Command::new("rustup").args(["target", "add", TARGET]).current_dir(dir))
        .with_context(|| format!("rustup could not add {TARGET}"))?;
    progress(format_args!("rustup added {TARGET}"));
    Ok(())
}

/// Prints progress for the person, not for the program that reads stdout.
fn progress(line: std::fmt::Arguments<'_>) {
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

/// Runs a tool to its end; its output becomes the error if it fails.
fn output(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(output);
    }
    bail!("{name} failed: {}", last_words(&output.stderr))
}

/// Last lines of a tool's output, where it names the reason.
fn last_words(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn the_error_of_a_tool_is_its_last_three_lines() {
        assert_eq!(last_words(b"one\n\ntwo\nthree\n  four\n"), "two; three; four");
        assert_eq!(last_words(b""), "");
    }

    #[test]
    fn host_compiler_flags_are_not_passed_to_cargo() {
        let cargo = Toolchain::default().build(Path::new("."));
        let value = |name: &str| cargo.get_envs().find(|(key, _)| *key == OsStr::new(name)).map(|(_, value)| value);
        assert_eq!(value("RUSTFLAGS"), Some(None));
        assert_eq!(value("RUSTC_WRAPPER"), Some(Some(OsStr::new(""))));
    }
}

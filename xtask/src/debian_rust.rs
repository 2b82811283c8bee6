//! Unpacks Debian's `rustc-web` and the standard library's sources of the same version into a private folder, for
//! machines whose own Rust can neither compile for WebAssembly nor fetch what is missing.
//!
//! The packages are unpacked and not installed, because they conflict with other Rust packages and unpacking needs no
//! root. Compiler and sources must have the same version, so the active rustc cannot be used with these sources.
//! `leadwire plugin build` takes the compiler from `RUSTC` and builds the standard library from the sources beside it.

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::workspace::{host_target, rustc};

const TARGET: &str = "wasm32-unknown-unknown";
const COMPILER: &str = "rustc-web";
const SOURCES: &str = "rust-web-src";
/// Marks a folder as complete; contains the version.
const COMPLETE: &str = ".complete";

/// Variables that a build for WebAssembly needs on this machine; empty if the active Rust can do it.
///
/// # Errors
/// When there is no way to compile for WebAssembly; the error lists the ways that were tried.
pub fn variables() -> Result<Vec<(&'static str, OsString)>> {
    let rustc = Rustc::active()?;
    if rustc.has_target() || rustc.has_sources() {
        return Ok(Vec::new());
    }
    if let Some(found) = unpacked(&rustc) {
        return Ok(found);
    }
    let added = output(Command::new("rustup").args(["target", "add", TARGET]));
    let Err(rustup) = added else { return Ok(Vec::new()) };
    tell(format_args!("rustup cannot add {TARGET}: {rustup:#}; trying Debian's compiler and sources"));
    download(&rustc).with_context(|| {
        format!(
            "{TARGET} is missing and rustup cannot add it ({rustup:#}); run `rustup target add {TARGET}` where there is \
             a network, or install it with your system's Rust (Debian: libstd-rust-dev-wasm32)"
        )
    })
}

/// Newest compiler that was unpacked earlier.
fn unpacked(rustc: &Rustc) -> Option<Vec<(&'static str, OsString)>> {
    let cache = cache().ok()?;
    let mut found: Vec<_> = files(&cache).filter(|name| name.starts_with("wasm-toolchain-")).collect();
    found.sort_by_key(|name| semver::Version::parse(name.trim_start_matches("wasm-toolchain-")).ok());
    found.into_iter().rev().find_map(|name| {
        let root = cache.join(name);
        let version = fs::read_to_string(root.join(COMPLETE)).ok()?;
        let variables = describe(&root, rustc).ok()?;
        tell(format_args!("{TARGET} is built with Debian's rustc {version}, unpacked earlier"));
        Some(variables)
    })
}

/// Downloads and unpacks the compiler.
fn download(rustc: &Rustc) -> Result<Vec<(&'static str, OsString)>> {
    if ["apt-get", "dpkg-deb"].into_iter().any(|tool| on_path(tool).is_none()) {
        bail!("this is no Debian: apt-get or dpkg-deb is missing");
    }
    linker(rustc)?;
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("wasm-toolchain.lock")).context("cannot create the toolchain's lock file")?;
    lock.lock().context("cannot lock the toolchain's folder")?;
    // Another process may have unpacked it while this one waited.
    if let Some(found) = unpacked(rustc) {
        return Ok(found);
    }
    // The lock reserves this name; leftovers of a killed process are removed first.
    let scratch = Scratch(cache.join("wasm-toolchain.part"));
    let _ = fs::remove_dir_all(&scratch.0);
    let apt = Apt::ready(&scratch.0)?;
    let root = unpack(&apt, &scratch.0, &cache)?;
    describe(&root, rustc)
}

/// Variables that make cargo use the compiler in `root`.
fn describe(root: &Path, rustc: &Rustc) -> Result<Vec<(&'static str, OsString)>> {
    let libraries = libraries(root).context("the unpacked toolchain has no librustc_driver")?;
    Ok(vec![
        ("RUSTC", root.join("usr/bin/rustc").into()),
        ("LD_LIBRARY_PATH", before(&libraries, "LD_LIBRARY_PATH")),
        linker(rustc)?,
    ])
}

/// Folder below `usr/lib` with the compiler; its name depends on the machine.
fn libraries(root: &Path) -> Option<PathBuf> {
    let lib = root.join("usr/lib");
    files(&lib).map(|name| lib.join(name)).find(|dir| files(dir).any(|name| name.starts_with("librustc_driver")))
}

/// Debian's compiler has no wasm linker; the active toolchain's, or lld, works as well.
fn linker(rustc: &Rustc) -> Result<(&'static str, OsString)> {
    if let Some(dir) = rustc.lld() {
        return Ok(("PATH", before(&dir, "PATH")));
    }
    let found = ["rust-lld", "wasm-ld"].into_iter().find_map(on_path);
    let linker = found.context("there is no wasm linker: neither rust-lld nor wasm-ld; install the package lld")?;
    Ok(("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.into()))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn unpack(apt: &Apt, scratch: &Path, cache: &Path) -> Result<PathBuf> {
    let version = apt.candidate(COMPILER)?;
    let short = upstream(&version);
    let minimum = semver::Version::parse(concat!(env!("CARGO_PKG_RUST_VERSION"), ".0")).ok();
    if semver::Version::parse(short).ok() < minimum {
        bail!("Debian offers {COMPILER} {version}; plugins need {} or newer", env!("CARGO_PKG_RUST_VERSION"));
    }
    let packages = apt.packages(&version)?;
    let (debs, root) = (scratch.join("debs"), scratch.join("root"));
    fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;

    tell(format_args!("downloading {} Debian packages for rustc {short} (about 150 MB, once)", packages.len()));
    output(apt.command("apt-get").arg("download").args(&packages).current_dir(&debs))
        .context("apt could not download the compiler")?;
    for package in files(&debs) {
        tell(format_args!("unpacking {package}"));
        output(Command::new("dpkg-deb").arg("-x").arg(debs.join(&package)).arg(&root))?;
    }
    prune(&root);
    let mut check = Command::new(root.join("usr/bin/rustc"));
    check.arg("-vV").env("LD_LIBRARY_PATH", libraries(&root).unwrap_or_default());
    output(&mut check).context("the unpacked compiler does not run")?;
    fs::write(root.join(COMPLETE), &version).context("cannot mark the toolchain complete")?;

    let home = cache.join(format!("wasm-toolchain-{short}"));
    // An existing folder is incomplete, or it would have been used.
    let _ = fs::remove_dir_all(&home);
    fs::rename(&root, &home).with_context(|| format!("cannot put the toolchain at {}", home.display()))?;
    tell(format_args!("{TARGET} is built with Debian's rustc {version} in {}", home.display()));
    Ok(home)
}

/// Removes the sources except `library`, which is all that is needed; the rest is half a gigabyte.
fn prune(root: &Path) {
    let sources = root.join("usr/src");
    for version in files(&sources).map(|name| sources.join(name)) {
        for part in files(&version).filter(|part| part != "library") {
            let _ = fs::remove_dir_all(version.join(part));
        }
    }
}

/// Scratch folder, removed however the unpacking ends; the result has been moved away by then.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `apt`, with separate package lists when the machine's are empty.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn ready(scratch: &Path) -> Result<Self> {
        // As root, apt would switch to a user who may not write here.
        let apt = Self { options: vec!["APT::Sandbox::User=root".into()] };
        let Err(reason) = apt.candidate(COMPILER) else { return Ok(apt) };
        tell(format_args!("{reason:#}; fetching fresh package lists"));
        let lists = scratch.join("apt");
        fs::create_dir_all(lists.join("lists/partial")).context("cannot create a folder for package lists")?;
        let mut options = apt.options;
        options.push(format!("Dir::State::Lists={}", lists.join("lists").display()));
        options.push(format!("Dir::Cache={}", lists.display()));
        let apt = Self { options };
        output(apt.command("apt-get").arg("update")).context("apt could not fetch package lists")?;
        apt.candidate(COMPILER)?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options.iter().flat_map(|option| ["-o", option])).env("LC_ALL", "C");
        command
    }

    fn candidate(&self, package: &str) -> Result<String> {
        let policy = text(self.command("apt-cache").args(["policy", package])).context("apt's lists cannot be read")?;
        candidate(&policy).map(str::to_owned).with_context(|| format!("apt knows no package {package}"))
    }

    /// Compiler, sources and the libraries that this machine lacks, as `name=version`.
    fn packages(&self, version: &str) -> Result<BTreeSet<String>> {
        let wanted = [COMPILER, SOURCES].map(|name| format!("{name}={version}"));
        let mut simulate = self.command("apt-get");
        simulate.args(["--simulate", "--no-install-recommends", "install"]).args(&wanted);
        let plan = text(&mut simulate).with_context(|| format!("apt finds no way to {COMPILER} {version}"))?;
        // An installed compiler is not in the plan, but still needed in the folder.
        let minor = upstream(version).rsplit_once('.').map_or(version, |(minor, _)| minor);
        let always = [format!("libstd-rust-web-{minor}"), "libstd-rust-web-dev".to_owned()];
        let own = always.into_iter().map(|name| format!("{name}={version}"));
        Ok(wanted.iter().cloned().chain(own).chain(installs(&plan)).collect())
    }
}

/// Upstream version: `1.96.0` of `1.96.0+dfsg1-1~deb12u2`.
fn upstream(version: &str) -> &str {
    version.split(['+', '-', '~']).next().unwrap_or(version)
}

fn candidate(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then_some(version)
}

/// New packages of a simulated install. Upgrades (`[old] (new …)`) are left out: another libc beside the running loader
/// would break the compiler, and the machine's own works.
fn installs(plan: &str) -> impl Iterator<Item = String> {
    plan.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        let version = rest.strip_prefix('(')?.split(' ').next()?;
        Some(format!("{name}={version}"))
    })
}

/// Active compiler.
struct Rustc {
    sysroot: PathBuf,
    host: String,
}

impl Rustc {
    fn active() -> Result<Self> {
        Ok(Self { sysroot: text(rustc().args(["--print", "sysroot"]))?.into(), host: host_target()? })
    }

    fn has_target(&self) -> bool {
        let Ok(libdir) = text(rustc().args(["--print", "target-libdir", "--target", TARGET])) else { return false };
        files(Path::new(&libdir)).any(|name| name.starts_with("libcore-") && name.ends_with(".rlib"))
    }

    fn has_sources(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file()
    }

    /// Folder of this toolchain's own WebAssembly linker.
    fn lld(&self) -> Option<PathBuf> {
        let bin = self.sysroot.join("lib/rustlib").join(&self.host).join("bin");
        bin.join("rust-lld").is_file().then_some(bin)
    }
}

fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base
        .context("neither XDG_CACHE_HOME nor HOME is set; one must name a folder for the toolchain")?
        .join("leadwire"))
}

fn tell(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

fn files(dir: &Path) -> impl Iterator<Item = String> {
    let entries = dir.read_dir().into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?.stdout).trim().to_owned())
}

/// Runs a tool to its end; the error contains the end of its output.
fn output(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    bail!("{name} failed: {last}")
}

/// Prepends `first` to the paths in `variable`.
fn before(first: &Path, variable: &str) -> OsString {
    let rest = env::var_os(variable).unwrap_or_default();
    let paths = std::iter::once(first.to_owned()).chain(env::split_paths(&rest).filter(|path| path != OsStr::new("")));
    env::join_paths(paths).unwrap_or_else(|_| first.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_install_names_what_is_new_and_not_what_is_upgraded() {
        let plan = "Reading package lists...\n\
            Inst libc6 [2.36-9] (2.36-10 Debian:12 [amd64])\n\
            Inst libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12 [amd64])\n\
            Conf libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12 [amd64])";
        assert_eq!(installs(plan).collect::<Vec<_>>(), ["libllvm22=1:22.1.8-1~deb12u1"]);
    }

    #[test]
    fn a_package_without_a_candidate_is_unavailable() {
        assert_eq!(candidate("rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n"), Some("1.96.0+dfsg1-1"));
        assert_eq!(candidate("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(upstream("1.96.0+dfsg1-1~deb12u2"), "1.96.0");
    }
}

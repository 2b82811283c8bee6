//! Debian's `rustc-web` with the std sources of the same version, unpacked into a private folder.
//!
//! Unpacked and not installed: the packages conflict with what a machine may have, and need no
//! root this way. Compiler and sources must be of one version, so the active rustc cannot be used.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{super::cache, BUILD_STD, Rustc, TARGET, Toolchain, before, files, output, tell, text};

const COMPILER: &str = "rustc-web";
const SOURCES: &str = "rust-web-src";
/// Says that a folder is complete; it holds the version.
const COMPLETE: &str = ".complete";

/// The toolchain unpacked earlier, the newest if there are several.
pub(super) fn unpacked(rustc: &Rustc) -> Option<Toolchain> {
    let cache = cache().ok()?;
    let mut found: Vec<_> = files(&cache).filter(|name| name.starts_with("wasm-toolchain-")).collect();
    found.sort_by_key(|name| semver::Version::parse(name.trim_start_matches("wasm-toolchain-")).ok());
    found.into_iter().rev().find_map(|name| {
        let root = cache.join(name);
        let version = fs::read_to_string(root.join(COMPLETE)).ok()?;
        let toolchain = describe(&root, rustc).ok()?;
        tell(format_args!("{TARGET} is built with Debian's rustc {version}, unpacked earlier"));
        Some(toolchain)
    })
}

/// Downloads and unpacks what is not there yet.
pub(super) fn toolchain(rustc: &Rustc) -> Result<Toolchain> {
    if let Some(toolchain) = unpacked(rustc) {
        return Ok(toolchain);
    }
    if ["apt-get", "dpkg-deb"].into_iter().any(|tool| on_path(tool).is_none()) {
        bail!("this is no Debian: apt-get or dpkg-deb is missing");
    }
    linker(rustc)?;
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("wasm-toolchain.lock")).context("cannot create the toolchain's lock file")?;
    lock.lock().context("cannot lock the toolchain's folder")?;
    // Somebody else may have unpacked it while this process waited.
    if let Some(toolchain) = unpacked(rustc) {
        return Ok(toolchain);
    }
    // The lock makes this name ours; what a killed process left there goes first.
    let scratch = Scratch(cache.join("wasm-toolchain.part"));
    let _ = fs::remove_dir_all(&scratch.0);
    let apt = Apt::ready(&scratch.0)?;
    let root = unpack(&apt, &scratch.0, &cache)?;
    describe(&root, rustc)
}

/// How to use what `root` holds.
fn describe(root: &Path, rustc: &Rustc) -> Result<Toolchain> {
    let libraries = libraries(root).context("the unpacked toolchain has no librustc_driver")?;
    let env = vec![
        ("RUSTC", root.join("usr/bin/rustc").into()),
        ("RUSTC_BOOTSTRAP", "1".into()),
        ("LD_LIBRARY_PATH", before(&libraries, "LD_LIBRARY_PATH")),
        linker(rustc)?,
    ];
    Ok(Toolchain { env, args: BUILD_STD.to_vec() })
}

/// The folder below `usr/lib` that holds the compiler; its name depends on the machine.
fn libraries(root: &Path) -> Option<PathBuf> {
    let lib = root.join("usr/lib");
    files(&lib).map(|name| lib.join(name)).find(|dir| files(dir).any(|name| name.starts_with("librustc_driver")))
}

/// Debian's compiler comes without a wasm linker; the active toolchain's will do, or lld's.
fn linker(rustc: &Rustc) -> Result<(&'static str, std::ffi::OsString)> {
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
    // What stands there is not complete, or it would have been used.
    let _ = fs::remove_dir_all(&home);
    fs::rename(&root, &home).with_context(|| format!("cannot put the toolchain at {}", home.display()))?;
    tell(format_args!("{TARGET} is built with Debian's rustc {version} in {}", home.display()));
    Ok(home)
}

/// Only `library` of the sources is needed; the rest is half a gigabyte.
fn prune(root: &Path) {
    let sources = root.join("usr/src");
    for version in files(&sources).map(|name| sources.join(name)) {
        for part in files(&version).filter(|part| part != "library") {
            let _ = fs::remove_dir_all(version.join(part));
        }
    }
}

/// Removed however the unpacking ends; what was wanted of it has moved away by then.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `apt`, with lists of its own where the machine's are empty.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn ready(scratch: &Path) -> Result<Self> {
        // As root, apt would drop to a user who may not write here.
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

    /// The compiler, its sources and the libraries that this machine lacks, as `name=version`.
    fn packages(&self, version: &str) -> Result<BTreeSet<String>> {
        let wanted = [COMPILER, SOURCES].map(|name| format!("{name}={version}"));
        let mut simulate = self.command("apt-get");
        simulate.args(["--simulate", "--no-install-recommends", "install"]).args(&wanted);
        let plan = text(&mut simulate).with_context(|| format!("apt finds no way to {COMPILER} {version}"))?;
        // An installed compiler is not in the plan, and yet is needed in the folder.
        let minor = upstream(version).rsplit_once('.').map_or(version, |(minor, _)| minor);
        let always = [format!("libstd-rust-web-{minor}"), "libstd-rust-web-dev".to_owned()];
        let own = always.into_iter().map(|name| format!("{name}={version}"));
        Ok(wanted.iter().cloned().chain(own).chain(installs(&plan)).collect())
    }
}

/// `1.96.0` of `1.96.0+dfsg1-1~deb12u2`.
fn upstream(version: &str) -> &str {
    version.split(['+', '-', '~']).next().unwrap_or(version)
}

fn candidate(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then_some(version)
}

/// The new packages of a simulated install. Upgrades (`[old] (new …)`) are left out: another
/// libc beside the running loader would break the compiler, and the machine's own will do.
fn installs(plan: &str) -> impl Iterator<Item = String> {
    plan.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        let version = rest.strip_prefix('(')?.split(' ').next()?;
        Some(format!("{name}={version}"))
    })
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
    fn a_package_without_a_candidate_is_not_there() {
        assert_eq!(candidate("rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n"), Some("1.96.0+dfsg1-1"));
        assert_eq!(candidate("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(upstream("1.96.0+dfsg1-1~deb12u2"), "1.96.0");
    }
}

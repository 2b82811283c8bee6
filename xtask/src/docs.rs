//! Runs every command of the documentation, in order, in a scratch copy of the repository.
//!
//! Each ```` ```sh ```` fence of `README.md`, `docs/*.md` and `plugins/*/README.md` is one test. Directory and
//! variables carry over to the next fence of the same page, and port 3001 is replaced by a free one. What a reader
//! would do with a second terminal is a comment on the line before the fence, which a rendered page does not show:
//!
//! ```text
//! <!-- docs-test: background until "TEXT" -->   leave it running once it has printed TEXT
//! <!-- docs-test: expect "TEXT" -->             it ends well and has printed TEXT
//! <!-- docs-test: fails with "TEXT" -->         it ends badly and has printed TEXT
//! <!-- docs-test: background saw "TEXT" -->     (no fence) something left running prints TEXT by now
//! ```
//!
//! Where a page builds a release, the test takes the build of the other tests: it differs only in speed.
//!
//! Text that is not meant to be typed has another language on its fence, or none.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    languages::Language,
    process::{self, Running},
    report::Outcome,
    workspace::{self, Workspace},
};

/// Variable that is set for commands of the documentation, so that `cargo xtask test` does not run itself.
pub const INSIDE: &str = "LEADWIRE_TEST_DOCS";

/// Time limit of a fence: enough for a release build from scratch on a small machine.
const FENCE_LIMIT: Duration = Duration::from_secs(40 * 60);
const SAW_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
enum Act {
    Run { line: usize, script: String, expect: Expect },
    BackgroundSaw { line: usize, text: String },
}

#[derive(Debug, PartialEq, Eq)]
enum Expect {
    Success(Option<String>),
    Failure(String),
    StaysUp(String),
}

pub fn run(workspace: &Workspace) -> Result<Outcome> {
    if let Some(missing) = missing_node().or_else(|| Language::Python.missing()) {
        return Ok(Outcome::skip(missing));
    }
    let scratch = scratch_copy(workspace)?;
    let mut outcome = Outcome::default();
    for page in pages(&scratch)? {
        let name = page.strip_prefix(&scratch).unwrap_or(&page).display().to_string();
        let text = fs::read_to_string(&page)?;
        let acts = acts(&text).with_context(|| name.clone())?;
        let mut reader = Reader::new(&scratch, &workspace.target.join("docs-test"))?;
        for act in acts {
            let line = match &act {
                Act::Run { line, .. } | Act::BackgroundSaw { line, .. } => *line,
            };
            println!("--- {name}:{line}");
            match reader.follow(&act) {
                Ok(()) => outcome.passed += 1,
                Err(error) if process::interrupted() => return Err(error),
                Err(error) => {
                    println!("error: {error:#}");
                    outcome.failed += 1;
                    outcome.notes.push(format!("{name}:{line}: {error:#}; the rest of the page was not run"));
                    break;
                }
            }
        }
    }
    Ok(outcome)
}

/// Returns the missing part of Node.js, and how to install it.
pub fn missing_node() -> Option<String> {
    const GET: &str = "get Node.js 20.19 or newer from https://nodejs.org (Debian 12's own is older)";
    if let Some(missing) = ["node", "npm"].into_iter().find(|program| !process::installed(program)) {
        return Some(format!("{missing} is missing; {GET}"));
    }
    let output = Command::new("node").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_owned();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let found = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    (found < (20, 19)).then(|| format!("Node.js {version} is too old; {GET}"))
}

/// Copies the files that git knows or would add; the build folder is kept from one run to the next.
fn scratch_copy(workspace: &Workspace) -> Result<PathBuf> {
    let base = workspace.target.join("docs-test");
    let scratch = base.join("leadwire");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)?;
    let list = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&workspace.root)
        .output()
        .context("git could not be started")?;
    let list = String::from_utf8(list.stdout).context("git names a file that is not UTF-8")?;
    for file in list.split_terminator('\0') {
        let (from, to) = (workspace.root.join(file), scratch.join(file));
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        if let Ok(link) = fs::read_link(&from) {
            std::os::unix::fs::symlink(link, &to)?;
            continue;
        }
        let Ok(bytes) = fs::read(&from) else { continue };
        fs::write(&to, bytes)?;
        fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
        // The copy keeps the times, so that cargo rebuilds only what changed.
        File::open(&to)?.set_modified(fs::metadata(&from)?.modified()?)?;
    }
    // What is built there is what the tests have built, but for the crates of the copy itself.
    std::os::unix::fs::symlink(&workspace.target, scratch.join("target"))?;
    Ok(scratch)
}

/// Pages in order; README.md first, because it builds what the others use.
fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in root.join("docs").read_dir()? {
        pages.extend(Some(entry?.path()).filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    for entry in root.join("plugins").read_dir()? {
        pages.push(entry?.path().join("README.md"));
    }
    pages.sort();
    pages.insert(0, root.join("README.md"));
    pages.retain(|page| page.is_file());
    Ok(pages)
}

fn acts(page: &str) -> Result<Vec<Act>> {
    let mut acts = Vec::new();
    let mut expect = Expect::Success(None);
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if let Some(directive) = line.trim().strip_prefix("<!-- docs-test: ") {
            let directive = directive.strip_suffix("-->").unwrap_or(directive).trim();
            let (what, text) = directive
                .split_once(" \"")
                .and_then(|(what, text)| Some((what, text.strip_suffix('"')?.to_owned())))
                .with_context(|| format!("line {}: a directive ends with a text in double quotes", index + 1))?;
            match what {
                "background until" => expect = Expect::StaysUp(text),
                "expect" => expect = Expect::Success(Some(text)),
                "fails with" => expect = Expect::Failure(text),
                "background saw" => acts.push(Act::BackgroundSaw { line: index + 1, text }),
                _ => bail!("line {}: there is no directive {what:?}", index + 1),
            }
            continue;
        }
        // A fence may be inside a list.
        let indent = line.len() - line.trim_start().len();
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim_start().starts_with("```"));
        let script: String = body.map(|line| format!("{}\n", line.get(indent..).unwrap_or(""))).collect();
        if language.trim() == "sh" {
            let expect = std::mem::replace(&mut expect, Expect::Success(None));
            acts.push(Act::Run { line: index + 1, script, expect });
        }
    }
    Ok(acts)
}

/// Simulated person who follows one page.
struct Reader {
    state: PathBuf,
    port: u16,
    logs: PathBuf,
    binaries: PathBuf,
    background: Vec<(Running, PathBuf)>,
}

impl Reader {
    fn new(home: &Path, base: &Path) -> Result<Self> {
        let logs = base.join("logs");
        if logs.exists() {
            fs::remove_dir_all(&logs)?;
        }
        fs::create_dir_all(&logs)?;
        let state = logs.join("state");
        fs::write(&state, format!("cd '{}'\n", home.display()))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        Ok(Self { state, port, logs, binaries: home.join("target/debug"), background: Vec::new() })
    }

    fn follow(&mut self, act: &Act) -> Result<()> {
        match act {
            Act::BackgroundSaw { text, .. } => self.background_saw(text),
            Act::Run { line, script, expect } => self.run(*line, script, expect),
        }
    }

    fn run(&mut self, line: usize, script: &str, expect: &Expect) -> Result<()> {
        print!("{script}");
        let log = self.logs.join(format!("{line}.log"));
        let state = self.state.display();
        let script = as_tested(script).replace("3001", &self.port.to_string());
        let script = format!(
            "set -aeuo pipefail\n. '{state}'\ntrap '{{ echo \"cd \\\"$PWD\\\"\"; export -p; }} > \"{state}.$$\"' EXIT\n{script}"
        );
        let output = File::create(&log)?;
        // README.md, the first page, tells readers to put it there.
        let binaries = self.binaries.display();
        let path = format!("{binaries}:{}", env::var("PATH").unwrap_or_default());
        let mut bash = Command::new("bash");
        workspace::forget_xtask(&mut bash);
        let mut running = Running::start(
            bash.args(["-c", &script])
                .env("PATH", path)
                .env(INSIDE, "1")
                .env("LEADWIRE_LISTEN", format!("127.0.0.1:{}", self.port))
                .env_remove("CARGO_TARGET_DIR")
                .stdout(Stdio::from(output.try_clone()?))
                .stderr(Stdio::from(output)),
        )?;
        let id = running.child.id();
        let deadline = Instant::now() + FENCE_LIMIT;
        loop {
            let printed = read(&log);
            if let Some(status) = running.child.try_wait()? {
                running.wait()?;
                let printed = read(&log);
                print!("{printed}");
                let (ended_well, text) = match expect {
                    Expect::Success(text) => (true, text.as_deref()),
                    Expect::Failure(text) => (false, Some(text.as_str())),
                    Expect::StaysUp(text) => bail!("it ended before it printed {text:?}"),
                };
                if status.success() != ended_well {
                    bail!("it {}", process::ending(status));
                }
                if let Some(text) = text.filter(|text| !printed.contains(*text)) {
                    bail!("it did not print {text:?}");
                }
                fs::rename(format!("{state}.{id}"), &self.state)?;
                return Ok(());
            }
            match expect {
                Expect::StaysUp(text) if printed.contains(text) => {
                    print!("{printed}");
                    self.background.push((running, log));
                    return Ok(());
                }
                _ if Instant::now() > deadline => bail!("it was still running after {FENCE_LIMIT:?}"),
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn background_saw(&self, text: &str) -> Result<()> {
        let deadline = Instant::now() + SAW_LIMIT;
        while !self.background.iter().any(|(_, log)| read(log).contains(text)) {
            if Instant::now() > deadline {
                bail!("nothing in the background printed {text:?}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The commands with the build of the tests in place of a release build, which would differ only in speed.
fn as_tested(script: &str) -> String {
    let script = script.replace("cargo build --release -p leadwire", "cargo build --workspace --bin leadwire");
    script.replace("target/release", "target/debug")
}

fn read(log: &Path) -> String {
    fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sh_fences_are_commands() {
        let page = "# A\n```js\nlet a;\n```\ntext\n```sh\ncd x\nls\n```\n";
        let run = Act::Run { line: 6, script: "cd x\nls\n".into(), expect: Expect::Success(None) };
        assert_eq!(acts(page).expect("a good page"), [run]);
    }

    #[test]
    fn a_directive_applies_to_the_next_fence() {
        let page = "<!-- docs-test: background until \"up\" -->\n```sh\nserve\n```\n\n1. Do\n   ```sh\n   see\n   ```\n<!-- docs-test: background saw \"it\" -->\n";
        assert_eq!(
            acts(page).expect("a good page"),
            [
                Act::Run { line: 2, script: "serve\n".into(), expect: Expect::StaysUp("up".into()) },
                Act::Run { line: 7, script: "see\n".into(), expect: Expect::Success(None) },
                Act::BackgroundSaw { line: 10, text: "it".into() },
            ]
        );
        assert!(acts("<!-- docs-test: hope \"up\" -->").is_err());
    }
}

//! Checks of a plugin, to find out if a server can rely on it: it is loaded step by step, asked golden and fuzzed
//! questions, and timed.
//!
//! Each check has a stable name, says what it found, and how to fix it. A check that could not be made is skipped, with
//! the reason.

use std::{collections::BTreeMap, time::Duration};

use cpu_time::ThreadTime;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use crate::plugin::{
    contract::{
        answer::Answered,
        error::{Fault, LoadError},
        hash,
        limits::Limits,
        settings::PluginSettings,
    },
    report::status,
    testkit::{
        LoadStage, Specimen, Testkit,
        difference::first_difference,
        fuzz::Fuzz,
        question::{HookAnswer, Probe},
    },
    wasm::engine,
};

/// Report of all checks of one file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// Name of the file, which the plugin's name has to equal.
    pub plugin: String,
    pub version: Option<String>,
    pub sha256: String,
    pub bytes: usize,
    pub hooks: Vec<&'static str>,
    pub seed: u64,
    /// True if nothing failed; warnings do not count.
    pub ok: bool,
    pub checks: Vec<CheckResult>,
    pub latency: Vec<Latency>,
    /// Limits that applied to the calls, by name; `None` where the settings are not valid.
    pub limits: Option<BTreeMap<String, u64>>,
}

#[derive(Debug, Serialize)]
pub struct CheckResult {
    pub name: &'static str,
    pub state: CheckStatus,
    pub detail: String,
    /// Advice on how to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// Budget of a check: how much is done to find something wrong.
#[derive(Clone, Copy, Debug)]
pub struct CheckBudget {
    /// Seed of the fuzzed questions.
    pub seed: u64,
    /// Number of fuzzed questions.
    pub fuzzed: usize,
    /// Number of times that each golden question is timed.
    pub timed: usize,
}

/// Time that warm instances worked on golden questions, by the CPU clock of their thread.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    pub hook: &'static str,
    pub calls: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

/// Names of the checks, in the order in which they are made and reported.
const NAMES: [&str; 14] = [
    "file",
    "imports",
    "settings",
    "interface",
    "describe",
    "init",
    "grants",
    "golden",
    "fuzzed",
    "decided",
    "hides",
    "valid",
    "repeatable",
    "latency",
];

/// Share of the deadline above which a call is worth a warning: a busy server is slower than an author's machine.
const SHARE: f64 = 0.5;
/// Time after which the timing of a hook ends, even if not every golden question was timed as often as requested.
const PATIENCE: Duration = Duration::from_secs(1);
/// Number of faults after which a plugin is not asked any more.
const ENOUGH: usize = 25;
/// Number of examples that are reported per check.
const EXAMPLES: usize = 3;

impl Testkit {
    /// Makes every check of a file; `settings` are those of the file, or what is wrong with them.
    pub fn check(
        &self,
        name: &str,
        bytes: &[u8],
        settings: Result<PluginSettings, String>,
        budget: CheckBudget,
    ) -> CheckReport {
        let mut report = CheckReport {
            plugin: name.into(),
            version: None,
            sha256: hash::digest(bytes),
            bytes: bytes.len(),
            hooks: Vec::new(),
            seed: budget.seed,
            ok: false,
            checks: Vec::new(),
            latency: Vec::new(),
            limits: settings.as_ref().ok().map(|settings| status::limits(&settings.limits)),
        };
        if let Some(specimen) = self.load(&mut report, bytes, settings) {
            specimen.judge(&mut report, budget);
        }
        let failed = report.checks.iter().find(|check| check.state == CheckStatus::Failed).map(|check| check.name);
        for name in NAMES {
            if report.checks.iter().any(|check| check.name == name) {
                continue;
            }
            let because = failed.map_or_else(String::new, |failed| format!("because {failed} failed"));
            report.checks.push(CheckResult { name, state: CheckStatus::Skipped, detail: because, fix: None });
        }
        report.checks.sort_by_key(|check| NAMES.iter().position(|&name| name == check.name));
        report.ok = failed.is_none();
        report
    }

    /// Loads the file step by step; `None` when a step failed.
    fn load(
        &self,
        report: &mut CheckReport,
        bytes: &[u8],
        settings: Result<PluginSettings, String>,
    ) -> Option<Specimen> {
        let name = report.plugin.clone();
        let imports = match engine::imports(bytes) {
            Ok(imports) => imports,
            Err(LoadError(why)) => return report.stop("file", why, "build it with `leadwire plugin build`"),
        };
        let most =
            settings.as_ref().map_or_else(|_| Limits::default(), |settings| settings.limits.clone()).file_bytes();
        if bytes.len() as u64 > most {
            let why = format!("the file has {} bytes; {most} are allowed", bytes.len());
            return report.stop(
                "file",
                why,
                "leave out what it does not need; a release build with `strip` is smaller",
            );
        }
        report.pass("file", format!("a component of {} KB", bytes.len().div_ceil(1024)));
        if let Some(LoadError(why)) = imports.iter().find_map(|name| engine::check_import(name).err()) {
            let fix = "leave out the library that asks for it: a plugin gets log, now-ms and count of \
                       leadwire:plugin/host@1.0.0, and clocks and random numbers of WASI 0.2";
            return report.stop("imports", why, fix);
        }
        let shown = if imports.is_empty() { "none".to_owned() } else { imports.join(", ") };
        report.pass("imports", shown);
        let settings = match settings {
            Ok(settings) => settings,
            Err(why) => return report.stop("settings", why, "correct the settings; docs/PLUGINS.md lists every key"),
        };
        report.pass("settings", "every key is known and has a valid value".into());
        let mut stage = LoadStage::default();
        let loaded = self.open_by_stages(&name, bytes, settings, &mut stage);
        let (failed, fix) = match stage {
            LoadStage::Compile => ("interface", "build it with the SDK of this version, or against wit/v1"),
            LoadStage::Describe => ("describe", "correct the plugin's `manifest` or the file name"),
            LoadStage::Grant => ("grants", "grant it in the settings, or ask for less"),
            LoadStage::Init => ("init", "correct [config] in the settings, or the plugin's `init`"),
        };
        let passed = ["interface", "describe", "init", "grants"].into_iter().take_while(|&name| name != failed);
        match loaded {
            Err(LoadError(why)) => {
                passed.for_each(|name| report.pass(name, String::new()));
                report.stop(failed, why, fix)
            }
            Ok(specimen) => {
                let plugin = &specimen.plugin;
                report.version = Some(specimen.version());
                report.hooks = specimen.hooks();
                report.pass("interface", format!("leadwire:plugin@1.0.0, {}", report.hooks.join(", ")));
                let manifest = &plugin.manifest;
                let what = format!(
                    "{name} {}, events {}, {} fields",
                    manifest.version,
                    if manifest.events.patterns().is_empty() {
                        "none".into()
                    } else {
                        manifest.events.patterns().join(" ")
                    },
                    manifest.fields.len()
                );
                report.pass("describe", what);
                report.pass("grants", "everything requested is granted".into());
                report.pass("init", "the settings are accepted".into());
                Some(specimen)
            }
        }
    }
}

impl CheckReport {
    fn pass(&mut self, name: &'static str, detail: String) {
        self.checks.push(CheckResult { name, state: CheckStatus::Ok, detail, fix: None });
    }

    fn skip(&mut self, name: &'static str, why: &str) {
        self.checks.push(CheckResult { name, state: CheckStatus::Skipped, detail: why.into(), fix: None });
    }

    fn fail(&mut self, name: &'static str, detail: String, fix: &str) {
        self.checks.push(CheckResult { name, state: CheckStatus::Failed, detail, fix: Some(fix.into()) });
    }

    /// Records a failure after which nothing else can be checked.
    fn stop<T>(&mut self, name: &'static str, detail: String, fix: &str) -> Option<T> {
        self.fail(name, detail, fix);
        None
    }

    fn warn(&mut self, name: &'static str, detail: String, fix: &str) {
        self.checks.push(CheckResult { name, state: CheckStatus::Warning, detail, fix: Some(fix.into()) });
    }
}

impl Specimen {
    fn judge(&self, report: &mut CheckReport, budget: CheckBudget) {
        let golden = self.golden();
        let mut findings = FaultTally::default();
        for question in &golden {
            findings.asked_golden += 1;
            self.try_out(question, true, &mut findings);
        }
        let mut fuzz = Fuzz::new(report.seed, &golden);
        while findings.asked_fuzzed < budget.fuzzed {
            let Some(question) = fuzz.next() else { break };
            findings.asked_fuzzed += 1;
            self.try_out(&question, false, &mut findings);
        }
        report.latency = self.time(&golden, &findings, budget.timed);
        findings.add_to(self, report, golden.len());
    }

    /// Asks one instance the same question twice. For a golden question it is a fresh one, and another fresh one is
    /// asked as well.
    fn try_out(&self, question: &Probe, golden: bool, findings: &mut FaultTally) {
        if findings.faults.len() >= ENOUGH {
            return;
        }
        if golden {
            self.plugin.refresh();
        }
        let first = self.answer(question);
        if let Err(fault) = first {
            findings.faults.push(Found { title: question.title(), fault, golden });
            return;
        }
        let again = self.answer(question);
        if golden {
            self.plugin.refresh();
        }
        let fresh = if golden { self.answer(question) } else { again.clone() };
        for (answer, which) in [(again, "the same instance"), (fresh, "a fresh instance")] {
            if answer != first {
                let title = question.title();
                findings.unsteady.push(format!("{title}: {which}, asked again, {}", differing(&first, &answer)));
                return;
            }
        }
    }

    /// Returns the answer of a hook, if the server could do something with it.
    pub(crate) fn answer(&self, question: &Probe) -> Result<Value, Fault> {
        let answer = self.ask(question)?;
        let mut json = answer.to_json();
        if let HookAnswer::Ruled(Answered::Amend(edits)) = &answer {
            json["input"] = Value::Object(question.amended(edits)?);
        }
        Ok(json)
    }

    fn time(&self, golden: &[Probe], findings: &FaultTally, timed: usize) -> Vec<Latency> {
        let mut latencies: BTreeMap<&'static str, (Histogram<u64>, Duration)> = BTreeMap::new();
        let fails = |question: &Probe| findings.faults.iter().any(|found| found.title == question.title());
        for question in golden.iter().filter(|question| !fails(question)) {
            let fresh = || (crate::plugin::testkit::measure::times(), Duration::ZERO);
            let (times, spent) = latencies.entry(question.hook()).or_insert_with(fresh);
            for _ in 0..timed {
                if *spent > PATIENCE {
                    break;
                }
                let start = ThreadTime::now();
                if self.ask(question).is_err() {
                    break;
                }
                let took = start.elapsed();
                *spent += took;
                times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        let latency = |(hook, (times, _)): (&'static str, (Histogram<u64>, Duration))| Latency {
            hook,
            calls: times.len(),
            p50_us: us(times.value_at_quantile(0.5)),
            p99_us: us(times.value_at_quantile(0.99)),
            max_us: us(times.max()),
        };
        latencies.into_iter().map(latency).collect()
    }
}

fn differing(first: &Result<Value, Fault>, then: &Result<Value, Fault>) -> String {
    match (first, then) {
        (Ok(first), Ok(then)) => {
            let place = first_difference(first, then).unwrap_or_default();
            format!("answers differently at {place}")
        }
        (_, Err(fault)) => fault.to_string(),
        (Err(fault), _) => format!("no longer {fault}"),
    }
}

#[derive(Default)]
struct FaultTally {
    asked_golden: usize,
    asked_fuzzed: usize,
    faults: Vec<Found>,
    unsteady: Vec<String>,
}

struct Found {
    title: String,
    fault: Fault,
    golden: bool,
}

impl FaultTally {
    fn add_to(&self, specimen: &Specimen, report: &mut CheckReport, golden: usize) {
        let hooks = specimen.hooks();
        if golden == 0 {
            let why = "it handles none of the recorded questions";
            NAMES[7..].iter().for_each(|name| report.skip(name, why));
            return;
        }
        let breaks = |fault: &Fault| {
            !matches!(fault, Fault::Undecided(_) | Fault::Unlisted(_) | Fault::Invalid(_) | Fault::Deadline(_))
        };
        const ANSWER: &str = "answer every question; `leadwire plugin test` shows one at a time";
        match self.examples(|found| found.golden && breaks(&found.fault)) {
            None => report.pass("golden", format!("{} questions answered", self.asked_golden)),
            Some(examples) => report.fail("golden", examples, ANSWER),
        }
        const ERROR: &str = "an error denies, refuses or holds back what it is about, and parks what `after` was told: \
            return one only if that is meant";
        let gave_up = |found: &Found| matches!(found.fault, Fault::Failed(_));
        let broke = self.examples(|found| !found.golden && breaks(&found.fault) && !gave_up(found));
        let errors = self.examples(|found| !found.golden && gave_up(found));
        match (broke, errors) {
            (None, None) => {
                report.pass("fuzzed", format!("{} questions answered, seed {}", self.asked_fuzzed, report.seed));
            }
            (Some(examples), _) => {
                let what = format!("seed {}: {examples}", report.seed);
                report.fail("fuzzed", what, ANSWER);
            }
            (None, Some(examples)) => {
                let what = format!("seed {}: {examples}", report.seed);
                report.warn("fuzzed", what, ERROR);
            }
        }
        let of_filter = |report: &mut CheckReport, name, is_it: fn(&Fault) -> bool, good: &str, fix: &str| {
            if !hooks.contains(&"filter") {
                return report.skip(name, "it has no filter");
            }
            match self.examples(|found| is_it(&found.fault)) {
                None => report.pass(name, good.into()),
                Some(examples) => report.fail(name, examples, fix),
            }
        };
        of_filter(
            report,
            "decided",
            |fault| matches!(fault, Fault::Undecided(_)),
            "each role that was asked about has one verdict",
            "answer with one verdict for each role asked, no more and no fewer; the SDK does this for you",
        );
        of_filter(
            report,
            "hides",
            |fault| matches!(fault, Fault::Unlisted(_)),
            "no edit outside of what it lists",
            "list the pointer in `hides` for that role, or leave it alone",
        );
        match self.examples(|found| matches!(found.fault, Fault::Invalid(_))) {
            None => report.pass("valid", "every answer is valid".into()),
            Some(examples) => {
                report.fail("valid", examples, "docs/PLUGINS.md says what each hook may answer");
            }
        }
        match &self.unsteady[..] {
            [] => report.pass("repeatable", "asked again, and on a fresh instance, it answers the same".into()),
            found => {
                let examples = found.iter().take(EXAMPLES).cloned().collect::<Vec<_>>().join("; ");
                let fix = "answer from the question and the settings alone: instances come and go, and several live \
                           at once";
                report.fail("repeatable", examples, fix);
            }
        }
        self.tell_latency(specimen, report);
    }

    fn tell_latency(&self, specimen: &Specimen, report: &mut CheckReport) {
        let timeout = specimen.plugin.settings.timeout();
        const FASTER: &str = "do less for each question, or give it more time with timeout_ms in its settings";
        if let Some(examples) = self.examples(|found| matches!(found.fault, Fault::Deadline(_))) {
            report.fail("latency", examples, FASTER);
            return;
        }
        let slowest = report.latency.iter().max_by(|left, right| left.p99_us.total_cmp(&right.p99_us));
        let Some(slowest) = slowest else { return report.skip("latency", "no question was answered") };
        let Latency { hook, p50_us, p99_us, max_us, .. } = slowest;
        let timeout_us = timeout.as_secs_f64() * 1e6;
        let what = format!(
            "{hook} takes {p50_us} us, p99 {p99_us} us, at most {max_us} us; it has {} ms",
            timeout.as_millis()
        );
        if *p99_us > SHARE * timeout_us { report.warn("latency", what, FASTER) } else { report.pass("latency", what) }
    }

    /// Lists some of the matching faults, in a line and each once; `None` when there is none.
    fn examples(&self, is_it: impl Fn(&Found) -> bool) -> Option<String> {
        let mut found = Vec::new();
        let mut all = 0;
        for fault in self.faults.iter().filter(|found| is_it(found)) {
            let what = format!("{}: it {}", fault.title, fault.fault);
            all += 1;
            if found.len() < EXAMPLES && !found.contains(&what) {
                found.push(what);
            }
        }
        let more = all - found.len();
        let mut shown = found.join("; ");
        if more > 0 {
            shown.push_str(&format!("; and {more} more"));
        }
        (!found.is_empty()).then_some(shown)
    }
}

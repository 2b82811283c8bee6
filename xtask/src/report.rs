//! Results of the test runners: parses the summary lines of libtest and of node's runner, and formats the table.

use std::{fmt::Write, time::Duration};

/// Outcome of one step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Reasons of skips and failures, for people.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Outcome of a step that cannot run here.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self { skipped: 1, notes: vec![reason.into()], ..Self::default() }
    }

    pub fn fail(reason: impl Into<String>) -> Self {
        Self { failed: 1, notes: vec![reason.into()], ..Self::default() }
    }

    /// Adds the outcome of another runner.
    pub fn include(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.notes.extend(other.notes);
    }

    /// Adds the counts in one line of a runner's output.
    pub fn read(&mut self, line: &str) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("test result: ") {
            let counts = rest.split_once(". ").map_or(rest, |(_, counts)| counts);
            for (number, what) in counts.split("; ").filter_map(|part| part.split_once(' ')) {
                self.add(what, number);
            }
        } else if let Some((what, number)) = line.strip_prefix("ℹ ").and_then(|rest| rest.split_once(' ')) {
            self.add(what, number);
        } else if line.starts_with("test ") && line.contains(" ... ignored") {
            self.notes.push(format!("skipped: {}", line.trim_start_matches("test ").replace(" ... ignored", "")));
        } else if let Some(test) = line.strip_prefix("﹣ ") {
            self.notes.push(format!("skipped: {test}"));
        } else if line.starts_with("test ") && line.ends_with("... FAILED") {
            self.notes.push(format!("failed: {}", line.trim_start_matches("test ").trim_end_matches(" ... FAILED")));
        }
    }

    fn add(&mut self, what: &str, number: &str) {
        let Ok(number) = number.parse::<u64>() else { return };
        match what {
            "passed" | "pass" => self.passed += number,
            "failed" | "fail" | "cancelled" => self.failed += number,
            "ignored" | "skipped" | "todo" => self.skipped += number,
            _ => {}
        }
    }
}

/// One row of the table.
pub struct Row {
    pub step: &'static str,
    pub outcome: Outcome,
    pub took: Duration,
}

/// Table of steps; its last line has the total counts.
pub fn summary(rows: &[Row]) -> String {
    let mut text = String::from("\nstep       result    passed  failed  skipped     time\n");
    for Row { step, outcome, took } in rows {
        let result = match outcome {
            Outcome { failed: 1.., .. } => "FAILED",
            Outcome { skipped: 1.., passed: 0, .. } => "skipped",
            _ => "ok",
        };
        let seconds = took.as_secs();
        let _ = writeln!(
            text,
            "{step:<10} {result:<8} {:>7} {:>7} {:>8} {:>5}m{:02}s",
            outcome.passed,
            outcome.failed,
            outcome.skipped,
            seconds / 60,
            seconds % 60
        );
    }
    for Row { step, outcome, .. } in rows {
        for note in &outcome.notes {
            let _ = writeln!(text, "  {step}: {note}");
        }
    }
    let sum = |count: fn(&Outcome) -> u64| rows.iter().map(|row| count(&row.outcome)).sum::<u64>();
    let (passed, failed, skipped) = (sum(|o| o.passed), sum(|o| o.failed), sum(|o| o.skipped));
    let _ = write!(text, "\n{passed} passed, {failed} failed, {skipped} skipped");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Outcome {
        let mut outcome = Outcome::default();
        output.lines().for_each(|line| outcome.read(line));
        outcome
    }

    #[test]
    fn libtest_binaries_add_up() {
        let outcome = read(
            "test a::b ... ok\n\
             test a::slow ... ignored, needs a browser\n\
             test a::c ... FAILED\n\
             test result: FAILED. 11 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n",
        );
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (13, 1, 1));
        assert_eq!(outcome.notes, ["skipped: a::slow, needs a browser", "failed: a::c"]);
    }

    #[test]
    fn node_test_runner_output_is_parsed() {
        let outcome = read(
            "✔ connects (12.1ms)\n﹣ in a browser (0.1ms) # no chromium\n\
             ℹ tests 6\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\nℹ duration_ms 73.2\n",
        );
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (3, 2, 1));
        assert_eq!(outcome.notes, ["skipped: in a browser (0.1ms) # no chromium"]);
    }

    #[test]
    fn the_last_line_counts_every_step() {
        let row = |step, outcome| Row { step, outcome, took: Duration::from_secs(61) };
        let text = summary(&[
            row("rust", Outcome { passed: 4, ..Outcome::default() }),
            row("node", Outcome::skip("node is not installed")),
        ]);
        assert!(text.contains("  node: node is not installed\n"), "{text}");
        assert_eq!(text.lines().last(), Some("4 passed, 0 failed, 1 skipped"));
    }
}

//! Report of the figures: Markdown tables that can be copied to README.md.

use std::fs;

use crate::hooks::measure::Case;

/// Prints the machine and the build, without which the figures are meaningless.
pub fn machine() {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let build = if cfg!(debug_assertions) { "a debug build: figures mean nothing" } else { "release build" };
    println!("{}, {cores} cores, load {load}, {build}", model.unwrap_or("an unknown processor"));
}

/// Prints a table of cases; `native` and `empty` are the baselines, if there are any.
pub fn table(title: &str, cases: &[Case<'_>], native: Option<usize>, empty: Option<f64>) {
    println!("\n| {title} | median | p99 | of native | of an empty call |\n|---|---|---|---|---|");
    let of =
        |base: Option<f64>, case: &Case<'_>| base.map_or(String::new(), |base| format!("{:.1}", case.median() / base));
    let native = native.map(|index| cases[index].median());
    for case in cases {
        let (median, p99) = (span(case.median()), span(case.quantile(0.99)));
        println!("| {} | {median} | {p99} | {} | {} |", case.name, of(native, case), of(empty, case));
    }
}

pub fn span(nanos: f64) -> String {
    match nanos {
        ..100.0 => format!("{nanos:.1} ns"),
        ..10_000.0 => format!("{:.2} µs", nanos / 1e3),
        ..1e6 => format!("{:.1} µs", nanos / 1e3),
        _ => format!("{:.1} ms", nanos / 1e6),
    }
}

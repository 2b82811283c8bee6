//! Budgets: limits of figures and of their ratios, as data.

use serde_json::{Value, json};

use crate::{
    report::{Metric, Table, metric::*},
    stats::shown,
};

/// Figure of a run.
#[derive(Debug, Clone, Copy)]
enum Figure {
    /// Median of a case for a peer.
    Of(&'static str, &'static str, &'static str, Metric),
    /// Largest median of a peer, over all cases of a table whose name begins like this.
    Worst(&'static str, &'static str, &'static str, Metric),
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// Limit of a figure, or of its ratio to another one.
#[derive(Debug, Clone, Copy)]
struct Budget {
    what: &'static str,
    figure: Figure,
    to: Option<Figure>,
    limit: Limit,
    aim: Option<f64>,
}

use Figure::{Of, Worst};
use Limit::{AtLeast, AtMost};

const fn value(what: &'static str, figure: Figure, limit: Limit) -> Budget {
    Budget { what, figure, to: None, limit, aim: None }
}

const fn ratio(what: &'static str, figure: Figure, to: Figure, limit: Limit) -> Budget {
    Budget { what, figure, to: Some(to), limit, aim: None }
}

const fn aiming(budget: Budget, aim: f64) -> Budget {
    Budget { aim: Some(aim), ..budget }
}

const fn fanout(case: &'static str, peer: &'static str) -> Figure {
    Of("fanout", case, peer, CPU)
}

const BUDGETS: [Budget; 24] = [
    aiming(
        ratio(
            "fan-out to 2,000: CPU a delivery, of the floor",
            fanout("2,000 sockets", "leadwire"),
            fanout("2,000 sockets", "floor"),
            AtMost(1.3),
        ),
        1.15,
    ),
    ratio(
        "fan-out to 2,000: CPU a delivery, of Node",
        fanout("2,000 sockets", "leadwire"),
        fanout("2,000 sockets", "node"),
        AtMost(0.6),
    ),
    ratio(
        "fan-out to 2,000: with 5 plugins, of that without",
        fanout("2,000 sockets", "leadwire +5 plugins"),
        fanout("2,000 sockets", "leadwire"),
        AtMost(1.05),
    ),
    ratio(
        "fan-out to 10,000: CPU a delivery, of that to 1,000",
        fanout("10,000 sockets", "leadwire"),
        fanout("1,000 sockets", "leadwire"),
        AtMost(1.15),
    ),
    ratio(
        "burst: CPU a delivery, of the floor for single events",
        Of("burst", "200 changes to 1,000", "leadwire", CPU),
        Of("burst", "single events to 1,000", "floor", CPU),
        AtMost(0.5),
    ),
    ratio(
        "steady load: p99, of Node",
        Of("steady", "200/s to 500", "leadwire", P99),
        Of("steady", "200/s to 500", "node", P99),
        AtMost(0.5),
    ),
    ratio(
        "1 stalled socket: p99 of the others, of that without",
        Of("slow", "1,000 sockets, 1 stalled beside", "leadwire", P99),
        Of("slow", "1,000 sockets, none slow", "leadwire", P99),
        AtMost(1.1),
    ),
    ratio(
        "50 slow readers: p99 of the others, of that without",
        Of("slow", "1,000 sockets, 50 slow beside", "leadwire", P99),
        Of("slow", "1,000 sockets, none slow", "leadwire", P99),
        AtMost(1.1),
    ),
    ratio(
        "connect: CPU, of Node",
        Of("connect", "2,000 sockets", "leadwire", CONNECT),
        Of("connect", "2,000 sockets", "node", CONNECT),
        AtMost(0.16),
    ),
    aiming(value("idle client: KiB", Of("idle", "10,000 sockets", "leadwire", MEMORY), AtMost(14.0)), 12.0),
    value("10,000 idle sockets: % of a core", Of("idle", "10,000 sockets", "leadwire", CORE), AtMost(3.0)),
    ratio(
        "PATCH from 16 connections: rate, of the commit before",
        Of("writes", "patch, 16 connections", "leadwire", OPERATIONS),
        Of("writes", "patch, 16 connections", "before", OPERATIONS),
        AtLeast(3.0),
    ),
    ratio(
        "PATCH from 64 connections: rate, of the commit before",
        Of("writes", "patch, 64 connections", "leadwire", OPERATIONS),
        Of("writes", "patch, 64 connections", "before", OPERATIONS),
        AtLeast(4.0),
    ),
    value("100,000 leads: slowest sort, first page: ms", Worst("lists", "100,000: sort", "leadwire", P50), AtMost(8.0)),
    value(
        "100,000 leads: slowest filter, first page: ms",
        Worst("lists", "100,000: filter", "leadwire", P50),
        AtMost(8.0),
    ),
    value(
        "100,000 leads: slowest hundredth page: ms",
        Worst("lists", "100,000: page 100", "leadwire", P50),
        AtMost(8.0),
    ),
    value("100,000 leads: slowest search: ms", Worst("lists", "100,000: q", "leadwire", P50), AtMost(15.0)),
    value("1,000,000 leads: slowest sort: ms", Worst("lists", "1,000,000: sort", "leadwire", P50), AtMost(25.0)),
    value("1,000,000 leads: slowest filter: ms", Worst("lists", "1,000,000: filter", "leadwire", P50), AtMost(25.0)),
    value(
        "1,000,000 leads: slowest hundredth page: ms",
        Worst("lists", "1,000,000: page 100", "leadwire", P50),
        AtMost(25.0),
    ),
    value("1,000,000 leads: slowest search: ms", Worst("lists", "1,000,000: q", "leadwire", P50), AtMost(50.0)),
    value(
        "JavaScript and Python loaded: RSS MiB",
        Of("memory", "JavaScript and Python loaded", "leadwire", RESIDENT),
        AtMost(120.0),
    ),
    value("after 50 reloads: RSS MiB", Of("memory", "after 50 reloads", "leadwire", RESIDENT), AtMost(120.0)),
    value(
        "cold start, 5 plugins cached, 100,000 leads: ms",
        Of("cold", "100,000 leads, 5 plugins", "leadwire", TIME),
        AtMost(150.0),
    ),
];

impl Figure {
    fn find(self, tables: &[Table]) -> Option<f64> {
        let table = |name| tables.iter().find(|table| table.name == name);
        match self {
            Of(name, case, peer, metric) => table(name)?.median(case, peer, metric),
            Worst(name, begin, peer, metric) => table(name)?.worst(peer, metric, |case| case.starts_with(begin)),
        }
    }
}

/// Budget with the figure of this run.
#[derive(Debug)]
pub struct Verdict {
    budget: Budget,
    now: f64,
}

/// Budgets of everything that was measured.
pub fn verdicts(tables: &[Table]) -> Vec<Verdict> {
    let verdict = |budget: &Budget| {
        let figure = budget.figure.find(tables)?;
        let now = match budget.to {
            Some(to) => figure / to.find(tables)?,
            None => figure,
        };
        Some(Verdict { budget: *budget, now })
    };
    BUDGETS.iter().filter_map(verdict).collect()
}

impl Verdict {
    pub fn holds(&self) -> bool {
        match self.budget.limit {
            AtMost(limit) => self.now <= limit,
            AtLeast(limit) => self.now >= limit,
        }
    }

    pub fn line(&self) -> String {
        let Budget { what, limit, aim, .. } = self.budget;
        let limit = match limit {
            AtMost(limit) => format!("at most {limit}"),
            AtLeast(limit) => format!("at least {limit}"),
        };
        let aim = aim.map(|aim| aim.to_string()).unwrap_or_default();
        let verdict = match (self.holds(), self.budget.limit) {
            (true, _) => "ok",
            (false, AtMost(_)) => "OVER",
            (false, AtLeast(_)) => "UNDER",
        };
        format!("| {what} | {limit} | {aim} | {} | {verdict} |", shown(self.now, 2))
    }

    pub fn json(&self) -> Value {
        let (bound, limit) = match self.budget.limit {
            AtMost(limit) => ("at_most", limit),
            AtLeast(limit) => ("at_least", limit),
        };
        json!({"what": self.budget.what, bound: limit, "aim": self.budget.aim, "now": self.now, "ok": self.holds()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    #[test]
    fn a_budget_compares_a_ratio_and_needs_both_figures() {
        let mut report = Report::default();
        report.table("fanout").add("2,000 sockets", "leadwire", &[(CPU, 9.0)]);
        assert!(verdicts(&report.tables).is_empty());
        report.table("fanout").add("2,000 sockets", "floor", &[(CPU, 6.0)]);
        report.table("fanout").add("2,000 sockets", "node", &[(CPU, 18.0)]);
        let lines: Vec<String> = verdicts(&report.tables).iter().map(Verdict::line).collect();
        assert_eq!(
            lines,
            [
                "| fan-out to 2,000: CPU a delivery, of the floor | at most 1.3 | 1.15 | 1.50 | OVER |",
                "| fan-out to 2,000: CPU a delivery, of Node | at most 0.6 |  | 0.50 | ok |",
            ]
        );
    }

    #[test]
    fn each_budget_has_a_name_of_its_own() {
        let mut names = BUDGETS.map(|budget| budget.what);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

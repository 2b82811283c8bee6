//! Tables of medians for people, and the same with every round as JSON.

mod budget;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::stats::{median, shown};

/// Column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    pub key: &'static str,
    heading: &'static str,
    digits: usize,
}

/// All columns that there are.
pub mod metric {
    use super::Metric;

    const fn metric(key: &'static str, heading: &'static str, digits: usize) -> Metric {
        Metric { key, heading, digits }
    }

    pub const CPU: Metric = metric("cpu_us", "CPU µs/delivery", 2);
    pub const RATE: Metric = metric("deliveries_per_s", "deliveries/s", 0);
    pub const P50: Metric = metric("p50_ms", "p50 ms", 2);
    pub const P99: Metric = metric("p99_ms", "p99 ms", 2);
    pub const MAX: Metric = metric("max_ms", "max ms", 2);
    pub const MEMORY: Metric = metric("kib_per_client", "KiB/client", 1);
    pub const CONNECT: Metric = metric("connect_us", "CPU µs/connect", 0);
    pub const CONNECTS: Metric = metric("connects_per_s", "connects/s", 0);
    pub const LOAD: Metric = metric("load_us", "load CPU µs/delivery", 2);
    pub const BYTES: Metric = metric("bytes", "bytes/delivery", 0);
    pub const CORE: Metric = metric("core_percent", "CPU, % of a core", 2);
    pub const TIME: Metric = metric("ms", "ms", 1);
    pub const OPERATIONS: Metric = metric("per_s", "per second", 0);
    pub const OPERATION_CPU: Metric = metric("operation_us", "CPU µs each", 0);
    pub const RESIDENT: Metric = metric("mib", "RSS MiB", 1);
}

/// Figures of one case for one peer, each with a value per round.
#[derive(Debug)]
struct Row {
    case: String,
    peer: String,
    values: BTreeMap<Metric, Vec<f64>>,
}

/// Figures of one case of the bench.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    columns: Vec<Metric>,
    rows: Vec<Row>,
}

impl Table {
    fn new(name: &'static str) -> Self {
        Self { name, columns: Vec::new(), rows: Vec::new() }
    }

    /// Adds the figures of a round.
    pub fn add(&mut self, case: &str, peer: &str, figures: &[(Metric, f64)]) {
        let known = self.rows.iter().position(|row| row.case == case && row.peer == peer);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row { case: case.into(), peer: peer.into(), values: BTreeMap::new() });
            self.rows.len() - 1
        });
        for (metric, value) in figures {
            if !self.columns.contains(metric) {
                self.columns.push(*metric);
            }
            self.rows[index].values.entry(*metric).or_default().push(*value);
        }
    }

    pub fn median(&self, case: &str, peer: &str, metric: Metric) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.case == case && row.peer == peer)?;
        median(row.values.get(&metric)?)
    }

    /// Largest median of a column for a peer, over the cases that `is_meant`.
    pub fn worst(&self, peer: &str, metric: Metric, is_meant: impl Fn(&str) -> bool) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| row.peer == peer && is_meant(&row.case));
        rows.filter_map(|row| median(row.values.get(&metric)?)).max_by(f64::total_cmp)
    }

    fn print(&self) {
        let headings: Vec<&str> = self.columns.iter().map(|metric| metric.heading).collect();
        println!("\n| {} | peer | {} |", self.name, headings.join(" | "));
        println!("|---|---|{}", "---|".repeat(headings.len()));
        for row in &self.rows {
            let value = |metric: &Metric| {
                let value = row.values.get(metric).and_then(|values| median(values));
                value.map_or(String::new(), |value| shown(value, metric.digits))
            };
            let values: Vec<String> = self.columns.iter().map(value).collect();
            println!("| {} | {} | {} |", row.case, row.peer, values.join(" | "));
        }
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            let figure = |(metric, values): (&Metric, &Vec<f64>)| {
                (metric.key.to_owned(), json!({"median": median(values), "rounds": values}))
            };
            let figures: Map<String, Value> = row.values.iter().map(figure).collect();
            json!({"case": row.case, "peer": row.peer, "figures": figures})
        };
        json!({"name": self.name, "rows": self.rows.iter().map(row).collect::<Vec<_>>()})
    }
}

/// Everything that a run has measured.
#[derive(Debug, Default)]
pub struct Report {
    tables: Vec<Table>,
    /// Notes that belong to the figures.
    pub notes: Vec<String>,
}

impl Report {
    pub fn table(&mut self, name: &'static str) -> &mut Table {
        let known = self.tables.iter().position(|table| table.name == name);
        let index = known.unwrap_or_else(|| {
            self.tables.push(Table::new(name));
            self.tables.len() - 1
        });
        &mut self.tables[index]
    }

    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub fn print_table(&self, name: &str) {
        self.tables.iter().filter(|table| table.name == name).for_each(Table::print);
    }

    /// Adds a note for each row in which the load took as much processor time as the server.
    pub fn compare_load(&mut self) {
        for table in &self.tables {
            for row in &table.rows {
                let figure = |metric: &Metric| median(row.values.get(metric)?);
                if let (Some(load), Some(server)) = (figure(&metric::LOAD), figure(&metric::CPU))
                    && load >= server
                {
                    let (case, peer) = (&row.case, &row.peer);
                    self.notes.push(format!("{}, {case}, {peer}: the load took more CPU than the server", table.name));
                }
            }
        }
    }

    /// Prints the budgets, unless the figures mean nothing, and notes; returns false if a budget is exceeded.
    pub fn print_end(&self, judges: bool) -> bool {
        let verdicts = if judges { budget::verdicts(&self.tables) } else { Vec::new() };
        if !verdicts.is_empty() {
            println!("\n| budget | limit | aim | now | |\n|---|---|---|---|---|");
            verdicts.iter().for_each(|verdict| println!("{}", verdict.line()));
        }
        if !self.notes.is_empty() {
            println!();
        }
        self.notes.iter().for_each(|note| println!("note: {note}"));
        verdicts.iter().all(budget::Verdict::holds)
    }

    pub fn write(&self, file: &Path, head: Value) -> Result<()> {
        let Value::Object(mut report) = head else { unreachable!("a head is an object") };
        let tables: Vec<Value> = self.tables.iter().map(Table::json).collect();
        let verdicts: Vec<Value> = budget::verdicts(&self.tables).iter().map(budget::Verdict::json).collect();
        report.extend([
            ("tables".to_owned(), tables.into()),
            ("budgets".to_owned(), verdicts.into()),
            ("notes".to_owned(), self.notes.clone().into()),
        ]);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(file, text + "\n").with_context(|| format!("{} cannot be written", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::{metric::*, *};

    #[test]
    fn rounds_of_a_row_are_merged_and_a_table_knows_their_median() {
        let mut report = Report::default();
        for value in [3.0, 1.0, 2.0] {
            report.table("fanout").add("100 sockets", "floor", &[(CPU, value)]);
        }
        report.table("fanout").add("200 sockets", "floor", &[(CPU, 9.0), (RATE, 1.0)]);
        let table = report.table("fanout");
        assert_eq!(table.median("100 sockets", "floor", CPU), Some(2.0));
        assert_eq!(table.median("100 sockets", "floor", RATE), None);
        assert_eq!(table.worst("floor", CPU, |_| true), Some(9.0));
        assert_eq!(table.json()["rows"][0]["figures"]["cpu_us"]["rounds"], json!([3.0, 1.0, 2.0]));
    }
}

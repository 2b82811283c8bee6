//! `leadwire plugin list`: lists the plugin folder, and the state that a running server reports.
//!
//! A server writes its status to the data directory. Where none runs, each component is loaded briefly, as a server
//! does when it starts. The progress of plugins with an `after` hook, and their parked effects, are read from the
//! database.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    app,
    cli::{options::Options, plugin::component::Component, print::say, runtime::runtime},
    config::Config,
    domain::text::one_line,
    plugin::{Limits, contract::error::LoadError, report::status_file, testkit::Testkit},
    store::{self, follower::FollowerStats, handle::Store},
};

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Print machine-readable JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(list: &ListArgs, options: &Options) -> Result<()> {
    let (dir, config) = (super::manage::folder(options)?, options.load()?);
    let status = status_file::read(&config.data_dir()?)?;
    let (server, mut items) = match &status {
        Some(status) => {
            let server = json!({"pid": status["pid"], "generation": status["generation"]});
            (server, status["items"].as_array().cloned().unwrap_or_default())
        }
        None => (Value::Null, at_rest(&dir, &config.plugins.limits)?),
    };
    let (followers, holds) = from_database(&config)?;
    for stats in followers {
        if let Some(item) = items.iter_mut().find(|item| item["name"] == stats.plugin.as_str()) {
            item["effects"] = json!(app::effect::FollowerProgress::from(&stats));
        }
    }
    if list.json {
        let report = json!({"directory": dir.display().to_string(), "server": server, "items": items, "holds": holds});
        return say(format_args!("{report:#}"));
    }
    say(text(&dir, &server, &items) + &withheld(&holds))
}

/// Progress of each plugin that ever followed the log, and holds because a plugin gives no verdict.
fn from_database(config: &Config) -> Result<(Vec<FollowerStats>, Vec<Value>)> {
    if !config.database_file()?.exists() {
        return Ok((Vec::new(), Vec::new()));
    }
    runtime()?.block_on(async {
        let store = Store::open_read_only(&config.database_url()?).await?;
        let read = async {
            let mut reader = store.read().await?;
            Ok::<_, store::Error>((reader.follower_stats().await?, reader.holds().await?))
        }
        .await;
        store.close().await;
        let (followers, holds) = read?;
        Ok((followers, holds.iter().map(|hold| json!(app::ShownHold::from(hold))).collect()))
    })
}

/// State that a server would report for the folder if it started now.
fn at_rest(dir: &Path, limits: &Limits) -> Result<Vec<Value>> {
    let entries = dir.read_dir().with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        let known = path.extension().is_some_and(|extension| extension == "wasm" || extension == "toml");
        let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| known && !stem.starts_with('.'));
        names.extend(stem.map(str::to_owned));
    }
    let workbench = crate::cli::plugin::component::workbench()?;
    names.iter().map(|name| examine(&workbench, dir, name, limits)).collect()
}

fn examine(workbench: &Testkit, dir: &Path, name: &str, limits: &Limits) -> Result<Value> {
    let file = dir.join(format!("{name}.wasm"));
    let item = |state: &str, reason: Option<String>| {
        let file = format!("{name}.wasm");
        json!({"name": name, "file": file, "state": state, "reason": reason, "version": null, "hooks": []})
    };
    if fs::symlink_metadata(&file).is_err() {
        return Ok(item("missing", Some(format!("there are settings, but no {name}.wasm"))));
    }
    let component = match Component::read(&file, None, limits) {
        Ok(component) => component,
        Err(why) => return Ok(item("refused", Some(format!("{why:#}")))),
    };
    let settings = match component.settings {
        Ok(settings) if !settings.enabled => {
            return Ok(item("disabled", Some(format!("{name}.toml says enabled = false"))));
        }
        Ok(settings) => settings,
        Err(why) => return Ok(item("refused", Some(why))),
    };
    Ok(match workbench.open(name, &component.bytes, settings) {
        Err(LoadError(why)) => item("refused", Some(why)),
        Ok(specimen) => {
            let mut item = item("loadable", None);
            item["version"] = specimen.version().into();
            item["hooks"] = json!(specimen.hooks());
            item
        }
    })
}

fn text(dir: &Path, server: &Value, items: &[Value]) -> String {
    let mut lines = vec![match server {
        Value::Null => format!("{}, no server runs: what one would find if it started now", dir.display()),
        server => format!("{}, as the running server (pid {}) has it", dir.display(), server["pid"]),
    }];
    let word = |item: &Value, key: &str| one_line(item[key].as_str().unwrap_or("-")).into_owned();
    let width = items.iter().map(|item| word(item, "name").len()).max().unwrap_or(0).max(4);
    lines.push(String::new());
    lines.push(format!("{:width$}  {:9} {:10} {:10} hooks", "name", "state", "version", "generation"));
    for item in items {
        let hooks: Vec<&str> = item["hooks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let generation = item["generation"].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (name, state, version) = (word(item, "name"), word(item, "state"), word(item, "version"));
        lines.push(format!("{name:width$}  {state:9} {version:10} {generation:10} {}", hooks.join(", ")));
        let indent = " ".repeat(width + 2);
        lines.extend(item["reason"].as_str().map(|reason| format!("{indent}{}", one_line(reason))));
        lines.extend(held(&item["candidate"], &word(item, "name")).map(|line| format!("{indent}{line}")));
        if let Some(counts) = item["counts"].as_object().filter(|counts| counts["calls"] != 0) {
            let number = |key: &str| counts.get(key).and_then(Value::as_u64).unwrap_or_default();
            let (calls, faults, skipped) = (number("calls"), number("faults"), number("skipped"));
            let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
            lines.push(format!("{indent}{calls} calls, {faults} faults{skipped}"));
        }
        lines.extend(tried(&item["trial"]).map(|line| format!("{indent}{line}")));
        lines.extend(following(&item["effects"], &word(item, "name")).map(|line| format!("{indent}{line}")));
        lines.extend(resting(&item["breaker"]).map(|rest| format!("{indent}{rest}")));
        if let Some(fault) = item["lastFault"].as_object() {
            let text = |key: &str| one_line(fault.get(key).and_then(Value::as_str).unwrap_or_default());
            lines.push(format!("{indent}last fault {}: {} {}", text("at"), text("hook"), text("reason")));
        }
    }
    if items.is_empty() {
        lines.push("no plugins".into());
    }
    lines.join("\n")
}

/// Holds, one line each: what a role does not get before a plugin gives a verdict.
fn withheld(holds: &[Value]) -> String {
    let text = |hold: &Value, key: &str| hold[key].as_str().unwrap_or_default().to_owned();
    let line = |hold: &Value| {
        let lead = if hold["all"] == true { "every lead".to_owned() } else { format!("lead {}", text(hold, "leadId")) };
        let (role, since, plugin) = (text(hold, "role"), text(hold, "since"), text(hold, "plugin"));
        format!(
            "\nwithheld from {role} since {since}: {lead}, because {plugin} returns no verdict ({})",
            text(hold, "reason")
        )
    };
    holds.iter().map(line).collect()
}

/// Command that puts exactly the held version into force, and nothing else that may be held by then.
fn held(candidate: &Value, name: &str) -> Option<String> {
    let version = one_line(candidate["version"].as_str().filter(|_| candidate["state"] == "held")?);
    let hash = candidate["hash"].as_str()?;
    Some(format!("held is {version}: leadwire plugin promote {name} --hash {hash}"))
}

/// Progress of a plugin that follows the log, if there is work left.
fn following(effects: &Value, name: &str) -> Option<String> {
    let number = |key: &str| effects[key].as_u64().unwrap_or_default();
    let counts = [
        (number("lag"), "events behind"),
        (number("pending"), "effects pending"),
        (number("parked"), "parked"),
        (number("reminders"), "reminders"),
    ];
    let parts: Vec<String> =
        counts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
    let why = if number("parked") > 0 {
        format!("; GET /api/plugins/{name}/effects?state=parked shows why")
    } else {
        String::new()
    };
    (!parts.is_empty()).then(|| parts.join(", ") + &why)
}

/// Result of the trial of a plugin that is in force although the trial found failures.
fn tried(trial: &Value) -> Option<String> {
    let failed = trial["failed"].as_u64().filter(|failed| *failed > 0)?;
    let (leads, events) = (trial["leads"].as_u64()?, trial["events"].as_u64()?);
    let first = trial["first"].as_str().unwrap_or_default();
    Some(format!("failed {failed} times in its trial on {events} events and {leads} leads; {first}"))
}

/// Description of a circuit breaker that is not closed.
fn resting(breaker: &Value) -> Option<String> {
    let faults = breaker["faultsInARow"].as_u64().unwrap_or_default();
    match breaker["state"].as_str()? {
        "open" => {
            let seconds = breaker["restMs"].as_u64().unwrap_or_default() as f64 / 1000.0;
            Some(format!("circuit breaker open after {faults} faults in a row: retrying in {seconds} s"))
        }
        "half-open" => Some(format!("circuit breaker half-open after {faults} faults in a row: the next call decides")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_pending_and_parked_effects_and_where_to_read_the_reasons() {
        let effects = |lag, pending, parked, reminders| json!({"seq": 7, "lag": lag, "pending": pending, "parked": parked, "reminders": reminders, "stopped": 0});
        let text = |effects: Value| following(&effects, "sla-watch");
        assert_eq!(
            text(effects(0, 2, 1, 0)).as_deref(),
            Some("2 effects pending, 1 parked; GET /api/plugins/sla-watch/effects?state=parked shows why")
        );
        assert_eq!(text(effects(12, 0, 0, 3)).as_deref(), Some("12 events behind, 3 reminders"));
        assert_eq!(text(effects(0, 0, 0, 0)), None);
        assert_eq!(text(Value::Null), None);
    }

    #[test]
    fn only_a_held_candidate_is_listed_with_its_promote_command() {
        let candidate = |state: &str| json!({"state": state, "version": "2.0.0", "hash": "c0ffee", "reason": "…"});
        let text = |candidate: Value| held(&candidate, "guard");
        let order = "held is 2.0.0: leadwire plugin promote guard --hash c0ffee";
        assert_eq!(text(candidate("held")).as_deref(), Some(order));
        assert_eq!((text(candidate("dropped")), text(Value::Null)), (None, None));
    }

    #[test]
    fn only_plugins_with_an_open_breaker_are_listed_with_it() {
        let item = |name: &str, state: &str, breaker: Value| {
            json!({"name": name, "state": state, "version": "1.0.0", "generation": 3, "hooks": ["filter"],
                   "reason": null, "counts": {"calls": 9, "faults": 6, "skipped": 31}, "breaker": breaker})
        };
        let items = [
            item("good", "active", json!({"state": "closed", "faultsInARow": 0})),
            item("bad", "failing", json!({"state": "open", "faultsInARow": 6, "restMs": 2000, "leftMs": 1312})),
            item("back", "failing", json!({"state": "half-open", "faultsInARow": 7})),
        ];
        let text = text(Path::new("plugins"), &json!({"pid": 7, "generation": 3}), &items);
        let of = |name: &str| text.lines().skip_while(|line| !line.starts_with(name)).nth(2).expect("a line");
        assert_eq!(of("bad"), "      circuit breaker open after 6 faults in a row: retrying in 2 s");
        assert_eq!(of("back"), "      circuit breaker half-open after 7 faults in a row: the next call decides");
        assert_eq!(text.matches("breaker").count(), 2, "{text}");
    }
}

//! Reads of large tables: every sort and filter, the first and the hundredth page, and search.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::{
    cases::Bench,
    load::http::Client,
    peers::{Launch, Peer},
    report::{Report, metric::*},
    stats::{median, shown},
};

/// Requests of a case in one round.
const REQUESTS: usize = 20;
/// Pages to walk before the hundredth one.
const PAGES: usize = 99;

const SORTS: [&str; 7] = ["updatedAt", "createdAt", "lastActivityAt", "title", "company", "status", "valueCents"];
/// Filters; `OWNER` is the id of a user who owns a quarter of the leads.
const FILTERS: [&str; 9] = [
    "status=NEW",
    "status=NEW&status=WON",
    "ownerId=none",
    "ownerId=OWNER",
    "source=web",
    "createdAfter=2020-01-01",
    "createdBefore=2020-01-01",
    "status=WON&source=fair&ownerId=OWNER",
    "deleted=true",
];
/// Texts that all leads, some, one or none contain, and digits of phone numbers.
const SEARCHES: [&str; 6] = ["gutters", "berg 012", "house 0000042", "nowhere", "2200", "kim00000"];

/// One request for a list.
struct List {
    case: String,
    query: String,
    /// It is read from the cursor of the page before.
    is_late: bool,
}

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    for leads in options.leads(&[100_000], &[300]) {
        let count = shown(leads as f64, 0);
        let mut readers = Vec::new();
        for kind in options.leadwires(bench.programs) {
            bench.say(&format!("lists: {} gets {count} leads", kind.name()));
            let peer = Peer::start(bench.programs, &Launch::of(kind).leads(leads))?;
            let client = peer.client()?;
            let owner = Client::open(peer.address, Some(&peer.readers[1]))?.expect("GET", "/api/auth/me", None)?;
            let owner = owner["id"].as_str().context("a user has an id")?.to_owned();
            readers.push((peer, client, owner));
        }
        for list in lists(&count) {
            bench.say(&list.case);
            let mut paths = Vec::new();
            for (_, client, owner) in &mut readers {
                paths.push(path(client, &list, owner)?);
            }
            for _ in 0..options.rounds() {
                for ((peer, client, _), path) in readers.iter_mut().zip(&paths) {
                    // A short list has no hundredth page.
                    let Some(path) = path else { continue };
                    let figures = time(client, path, if options.quick() { 2 } else { REQUESTS })?;
                    report.table("lists").add(&list.case, peer.kind.name(), &figures);
                }
            }
        }
    }
    Ok(())
}

fn lists(count: &str) -> Vec<List> {
    let mut lists = Vec::new();
    let sorts = SORTS.iter().flat_map(|sort| [format!("sort={sort}"), format!("sort=-{sort}")]);
    let queries: Vec<(String, String)> = sorts
        .map(|query| ("sort".to_owned(), query))
        .chain(FILTERS.iter().map(|query| ("filter".to_owned(), (*query).to_owned())))
        .collect();
    for is_late in [false, true] {
        for (kind, query) in &queries {
            let kind = if is_late { format!("page 100 of {kind}") } else { kind.clone() };
            let named = query.trim_start_matches("sort=");
            lists.push(List { case: format!("{count}: {kind} {named}"), query: query.clone(), is_late });
        }
    }
    for text in SEARCHES {
        let query = format!("q={}", text.replace(' ', "%20"));
        lists.push(List { case: format!("{count}: q={text}"), query, is_late: false });
    }
    lists
}

/// Path of a list; for a late page, after walking there.
fn path(client: &mut Client, list: &List, owner: &str) -> Result<Option<String>> {
    let path = format!("/api/leads?{}", list.query.replace("OWNER", owner));
    if !list.is_late {
        return Ok(Some(path));
    }
    let mut next = path.clone();
    for _ in 0..PAGES {
        let page = client.expect("GET", &next, None)?;
        let Some(cursor) = page["nextCursor"].as_str() else { return Ok(None) };
        next = format!("{path}&cursor={cursor}");
    }
    Ok(Some(next))
}

fn time(client: &mut Client, path: &str, requests: usize) -> Result<[(crate::report::Metric, f64); 2]> {
    let mut times = Vec::new();
    client.expect("GET", path, None)?;
    for _ in 0..requests {
        let begun = Instant::now();
        client.expect("GET", path, None)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    Ok([(P50, median(&times).unwrap_or(0.0)), (MAX, slowest)])
}

//! Architecture rules: layer order, crates owned by one module, no dependency cycles, unique names.

mod graph;
mod sql;

use std::{collections::BTreeMap, fs, path::Path};

use graph::{Graph, Names, Source, collect, sources};
use leadwire::domain::event_name::EventName;
use syn::visit::{self, Visit};

/// Layer order: each module uses only later entries.
const ORDER: [&str; 16] = [
    "main",
    "cli",
    "server",
    "config",
    "transport",
    "delivery",
    "effects",
    "app",
    "auth",
    "plugin",
    "store",
    "telemetry",
    "files",
    "backoff",
    "domain",
    "walk",
];

/// Layer order within `plugin`: each module uses only later entries.
const PLUGIN_ROOMS: [&str; 7] = ["testkit", "report", "reload", "hooks", "active", "wasm", "contract"];

/// Crates whose types must not leave one module.
const AT_HOME: [(&str, &str); 5] = [
    ("sqlx", "store"),
    ("wasmtime", "plugin"),
    ("socketioxide", "transport"),
    ("engineioxide", "transport"),
    ("axum", "transport"),
];

/// Type names that may repeat, because they are always written with their module.
const COMMON_NAMES: [&str; 2] = ["Error", "Result"];

/// Maximum lines per file.
const MAX_LINES: usize = 500;

/// Folders of the workspace with Rust files.
const FOLDERS: [&str; 5] = ["bench", "host", "plugin-sdk", "plugins", "xtask"];

fn place(order: &[&str], name: Option<&String>) -> Option<usize> {
    order.iter().position(|known| Some(*known) == name.map(String::as_str))
}

#[test]
fn every_top_level_module_is_in_the_layer_order() {
    for source in sources() {
        let top = source.top();
        assert!(ORDER.contains(&top), "{}: add {top} to ORDER", source.path.display());
    }
}

#[test]
fn a_module_uses_only_lower_layers() {
    let mut offences = Vec::new();
    for (module, used) in Graph::of(&sources()).edges {
        let here = module.first().map_or(0, |_| place(&ORDER, module.first()).expect("a place"));
        for other in used {
            if place(&ORDER, other.first()).is_some_and(|there| there < here) {
                offences.push(format!("{} uses {}", module.join("::"), other.join("::")));
            }
            let rooms = (place(&PLUGIN_ROOMS, module.get(1)), place(&PLUGIN_ROOMS, other.get(1)));
            if let (Some(here), Some(there)) = rooms
                && there < here
            {
                offences.push(format!("{} uses {}", module.join("::"), other.join("::")));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn files_of_a_module_have_no_dependency_cycles() {
    let show = |circle: Vec<Names>| circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(", ");
    let circles: Vec<String> = Graph::of(&sources()).circles().into_iter().map(show).collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn crates_owned_by_one_module_are_named_in_no_other() {
    let mut offences = Vec::new();
    for Source { path, text, module, .. } in sources() {
        for (guest, home) in AT_HOME {
            let named =
                text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("{guest}::")));
            if named && module.first().is_none_or(|top| top != home && top != "server") {
                offences.push(format!("{}: {guest} belongs to {home}", path.display()));
            }
            if named && guest == "wasmtime" && module.get(1).is_none_or(|room| room != "wasm") {
                offences.push(format!("{}: wasmtime belongs to plugin/wasm", path.display()));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn the_domain_is_pure() {
    for Source { path, text, .. } in sources().into_iter().filter(|source| source.top() == "domain") {
        for word in ["async fn", "tokio::", "std::fs", "std::net", "Instant::now"] {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}

#[test]
fn sql_statements_name_their_columns() {
    let is_code = |source: &Source| source.top() == "store" && !source.path.ends_with("tests.rs");
    for Source { path, text, .. } in sources().into_iter().filter(is_code) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(!code.contains("SELECT *") && !code.contains(".*,"), "{}: use `columns!`", path.display());
    }
}

#[test]
fn event_names_are_written_in_one_place() {
    for Source { path, text, .. } in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let has_own = path.ends_with("event_name.rs") || path.ends_with("tests.rs");
        // `error` is an ordinary word as well.
        let events = EventName::ALL.iter().filter(|event| **event != EventName::Error && !has_own);
        for name in events.map(|event| event.as_str()) {
            assert!(!code.contains(&format!("\"{name}\"")), "{}: use EventName for {name}", path.display());
        }
    }
}

#[test]
fn files_and_functions_in_the_architecture_document_exist() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(home.join("../docs/ARCHITECTURE.md")).expect("the page");
    let sources = sources();
    let source = |file: &str| sources.iter().find(|source| source.path.ends_with(file));
    let (mut offences, mut rows) = (Vec::new(), 0);
    for line in page.lines() {
        let marked: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let files = || marked.iter().filter(|name| name.ends_with(".rs"));
        for file in files().filter(|file| source(file).is_none() && !home.join("..").join(file).is_file()) {
            offences.push(format!("{file} does not exist: {line}"));
        }
        // A step: its number, its files, its function, and what it does.
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, function, ..] = cells[..] else { continue };
        if number.parse::<usize>().is_err() {
            continue;
        }
        rows += 1;
        let function = function.trim_matches('`').rsplit("::").next().unwrap_or_default();
        let head = format!("fn {function}");
        let is_held =
            |source: &Source| source.text.match_indices(&head).any(|(at, _)| !continues(source, at + head.len()));
        if !files().filter_map(|file| source(file)).any(is_held) {
            offences.push(format!("no function {function}: {line}"));
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
    assert!(rows > 14, "both tables of steps are read: {rows} rows");
}

/// Returns true if an identifier continues at this position.
fn continues(source: &Source, at: usize) -> bool {
    source.text[at..].starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
}

/// Types that a file declares outside of its tests.
#[derive(Default)]
struct Types(Vec<String>);

impl<'ast> Visit<'ast> for Types {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Struct(item) => self.0.push(item.ident.to_string()),
            syn::Item::Enum(item) => self.0.push(item.ident.to_string()),
            syn::Item::Trait(item) => self.0.push(item.ident.to_string()),
            syn::Item::Type(item) => self.0.push(item.ident.to_string()),
            syn::Item::Mod(_) => return,
            _ => {}
        }
        visit::visit_item(self, item);
    }
}

#[test]
fn type_names_are_unique() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.path.ends_with("tests.rs")) {
        let mut types = Types::default();
        types.visit_file(&source.file);
        for name in types.0 {
            files.entry(name).or_default().push(source.path.display().to_string());
        }
    }
    files.retain(|name, files| files.len() > 1 && !COMMON_NAMES.contains(&name.as_str()));
    assert!(files.is_empty(), "{files:#?}");
}

#[test]
fn no_source_or_test_file_of_the_workspace_exceeds_the_line_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut long = Vec::new();
    for folder in FOLDERS {
        let mut files = Vec::new();
        collect(&root.join(folder), &mut files);
        assert!(!files.is_empty(), "{folder} has no Rust files");
        for file in files {
            let lines = fs::read_to_string(&file).expect("a Rust file").lines().count();
            if lines > MAX_LINES {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn a_doc_comment_begins_with_a_noun_or_a_verb() {
    let (mut all, mut questions) = (0, Vec::new());
    for source in sources() {
        let mut before = "";
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim_start();
            if let Some(doc) = line.strip_prefix("/// ")
                && !before.starts_with("///")
            {
                all += 1;
                let first = doc.split_whitespace().next().unwrap_or_default();
                if ["What", "How", "Whether", "Who", "Those"].contains(&first) {
                    questions.push(format!("{}:{}: {doc}", source.path.display(), number + 1));
                }
            }
            before = line;
        }
    }
    assert!(questions.len() * 50 < all, "{} of {all}:\n{}", questions.len(), questions.join("\n"));
}

/// Markers in the sources that are followed by an error code of the server.
const ANSWERS: [&str; 6] = [
    "Problem::new(StatusCode",
    "problem(StatusCode",
    "Self::new(StatusCode",
    "SocketError::new(\"",
    "Self::new(\"",
    "code: \"",
];

#[test]
fn every_error_code_of_a_transport_is_reserved() {
    let mut offences = Vec::new();
    for Source { path, text, module, .. } in sources() {
        // Codes of readiness are not refusals.
        let is_asked = module.first().is_some_and(|top| ["app", "transport"].contains(&top.as_str()));
        if !is_asked || path.ends_with("tests.rs") || path.ends_with("health.rs") {
            continue;
        }
        for answer in ANSWERS {
            for (at, _) in text.match_indices(answer) {
                let line = text[at..].lines().next().unwrap_or_default();
                let Some(code) = line.split('"').nth(1).filter(|code| !code.is_empty()) else { continue };
                let is_code = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                if is_code && !leadwire::plugin::is_own_code(code) {
                    offences.push(format!("{}: {code:?}", path.display()));
                }
            }
        }
    }
    // Also all documented codes: `| 500 | `code` | …`.
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    for line in fs::read_to_string(page).expect("a page").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", status, codes, ..] = cells[..] else { continue };
        if status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) {
            for code in codes.split('`').skip(1).step_by(2).filter(|code| !leadwire::plugin::is_own_code(code)) {
                offences.push(format!("docs/PROTOCOL.md: {code:?}"));
            }
        }
    }
    assert!(offences.is_empty(), "add to OWN_CODES in plugin/contract/refusal.rs:\n{}", offences.join("\n"));
}

//! The house plan, kept true: who may import whom, and whose types stay at home.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each module uses what stands behind it and nothing before it.
const ORDER: [&str; 12] =
    ["main", "cli", "server", "config", "transport", "delivery", "effects", "app", "auth", "plugin", "store", "domain"];

/// A crate whose types must not leave one module.
const AT_HOME: [(&str, &str); 5] = [
    ("sqlx", "store"),
    ("wasmtime", "plugin"),
    ("socketioxide", "transport"),
    ("engineioxide", "transport"),
    ("axum", "transport"),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The top-level module a file belongs to, and its text.
fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).expect("below the root").iter().next().expect("a name");
        Path::new(first).file_stem().expect("a name").to_string_lossy().into_owned()
    };
    files.into_iter().map(|path| (module(&path), path.clone(), fs::read_to_string(&path).expect("utf-8"))).collect()
}

/// The modules that a text names behind `crate::`, also inside of braces.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let (mut depth, mut word, mut skip) = (0, String::new(), false);
        for letter in rest.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => skip = false,
                _ if letter.is_alphanumeric() || letter == '_' => {
                    if !skip && depth <= 1 {
                        word.push(letter);
                    }
                    continue;
                }
                _ => {}
            }
            if !word.is_empty() {
                found.push(std::mem::take(&mut word));
                skip = true;
            }
            if depth <= 0 && !(letter == '{' || letter.is_whitespace()) {
                break;
            }
        }
    }
    found
}

#[test]
fn a_module_uses_only_what_is_to_its_right() {
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut offences = Vec::new();
    for (module, path, text) in modules() {
        let Some(here) = place(&module) else { continue };
        for import in imports(&text) {
            if place(&import).is_some_and(|there| there < here) {
                offences.push(format!("{}: {module} uses {import}", path.display()));
            }
        }
    }
    // And those that are documented, wherever they come from: `| 500 | `code` | …`.
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    let page = fs::read_to_string(page).expect("a page");
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", status, codes, ..] = cells[..] else { continue };
        if status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) {
            for code in codes.split('`').skip(1).step_by(2).filter(|code| !leadwire::plugin::before::is_own_code(code))
            {
                offences.push(format!("docs/PROTOCOL.md: add {code:?} to OWN_CODES in plugin/before.rs"));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn what_belongs_to_one_module_is_named_in_no_other() {
    let mut offences = Vec::new();
    for (module, path, text) in modules() {
        for (guest, home) in AT_HOME {
            let named =
                text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("{guest}::")));
            if named && module != home && module != "server" {
                offences.push(format!("{}: {guest} belongs to {home}", path.display()));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn imports_are_found_alone_and_in_braces() {
    let text = "use crate::store::Store;\nuse crate::{\n    app::{App, Error},\n    domain::id::LeadId,\n};\nlet x = crate::plugin::Plugins::none();";
    assert_eq!(imports(text), ["store", "app", "domain", "plugin"]);
}

#[test]
fn the_domain_is_pure() {
    for (_, path, text) in modules().into_iter().filter(|(module, ..)| module == "domain") {
        for word in ["async fn", "tokio::", "std::fs", "std::net", "Instant::now"] {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}

/// Where a code of the server's own stands in the sources: behind one of these, as the next text.
const ANSWERS: [&str; 6] = [
    "Problem::new(StatusCode",
    "problem(StatusCode",
    "Self::new(StatusCode",
    "Refusal::new(\"",
    "Self::new(\"",
    "code: \"",
];

#[test]
fn every_code_that_a_transport_answers_with_is_kept_from_plugins() {
    let mut offences = Vec::new();
    for (module, path, text) in modules() {
        // What readiness answers is no refusal.
        if !["app", "transport"].contains(&module.as_str()) || path.ends_with("tests.rs") || path.ends_with("health.rs")
        {
            continue;
        }
        for answer in ANSWERS {
            for (at, _) in text.match_indices(answer) {
                let line = text[at..].lines().next().unwrap_or_default();
                let Some(code) = line.split('"').nth(1).filter(|code| !code.is_empty()) else { continue };
                let is_code = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                if is_code && !leadwire::plugin::before::is_own_code(code) {
                    offences.push(format!("{}: add {code:?} to OWN_CODES in plugin/before.rs", path.display()));
                }
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

//! SQL of the store, read from its sources: wording that SQLite and PostgreSQL both accept, and changes whose number of
//! rows is checked.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, ExprMethodCall, ImplItemFn, Item, ItemFn, LitStr, Macro,
    visit::{self, Visit},
};

use super::graph::{Source, is_for_tests, sources};

/// Files that work on an SQLite file as such, or collect what has no common wording.
const OF_SQLITE: [&str; 8] = [
    "connection.rs",
    "copy.rs",
    "dialect.rs",
    "examine.rs",
    "file_guard.rs",
    "maintenance.rs",
    "trigram.rs",
    "watch.rs",
];

/// Words that SQLite alone knows.
const WORDS: [&str; 29] = [
    "autoincrement",
    "changes",
    "datetime",
    "glob",
    "group_concat",
    "hex",
    "ifnull",
    "iif",
    "instr",
    "json_each",
    "json_extract",
    "json_set",
    "json_type",
    "julianday",
    "last_insert_rowid",
    "nocase",
    "pragma",
    "pragma_table_info",
    "printf",
    "randomblob",
    "rowid",
    "sqlite_master",
    "sqlite_schema",
    "sqlite_sequence",
    "strftime",
    "typeof",
    "unixepoch",
    "vacuum",
    "zeroblob",
];

/// Phrases that PostgreSQL refuses, or for LIKE reads otherwise.
const PHRASES: [&str; 11] = [
    " LIKE ",
    "BEGIN IMMEDIATE",
    "CONFLICT DO UPDATE",
    "IS $",
    "IS (",
    "IS ?",
    "IS NOT $",
    "IS NOT (",
    "OR IGNORE",
    "OR REPLACE",
    "RETURNING *",
];

/// Methods that say how many rows a statement may change.
const CHECKS: [&str; 4] = ["exactly_one", "at_most_one", "any_number", "change_any"];

/// Texts and method calls of a piece of code, without its tests.
#[derive(Default)]
struct Code {
    texts: Vec<String>,
    calls: Vec<String>,
    /// Name, texts and calls of each function.
    functions: Vec<(String, Code)>,
}

impl Code {
    fn of(source: &Source) -> Self {
        let mut code = Self::default();
        code.visit_file(&source.file);
        code
    }

    fn note_tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = syn::parse_str::<LitStr>(&literal.to_string());
                    self.texts.extend(text.map(|text| text.value()));
                }
                _ => {}
            }
        }
    }

    fn enter(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        visit(&mut inner);
        self.texts.extend(inner.texts.iter().cloned());
        self.functions.push((name, inner));
    }
}

impl<'ast> Visit<'ast> for Code {
    fn visit_item(&mut self, item: &'ast Item) {
        if let Item::Mod(module) = item
            && module.attrs.iter().any(is_for_tests)
        {
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.enter(function.sig.ident.to_string(), |inner| visit::visit_item_fn(inner, function));
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.enter(function.sig.ident.to_string(), |inner| visit::visit_impl_item_fn(inner, function));
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.calls.push(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.texts.push(text.value());
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.note_tokens(invocation.tokens.clone());
    }

    // Documentation and messages of errors.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// The reason why PostgreSQL does not accept a text, as far as words show it.
fn foreign(text: &str) -> Option<String> {
    let word = |word: &&str| WORDS.contains(&word.to_ascii_lowercase().as_str());
    let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    if let Some(word) = words.find(word) {
        return Some(word.into());
    }
    if let Some(phrase) = PHRASES.iter().find(|phrase| text.contains(**phrase)) {
        return Some((*phrase).into());
    }
    for (opening, inner, rest) in parenthesised(text) {
        let function = opening.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
        if ["min", "max"].contains(&function.to_ascii_lowercase().as_str()) && has_comma(inner) {
            return Some(format!("{function} of several values"));
        }
        let is_table = opening.trim_end().ends_with("FROM") && inner.trim_start().starts_with("SELECT");
        if is_table && !rest.trim_start().starts_with("AS ") {
            return Some("a subquery without a name".into());
        }
    }
    None
}

/// Each closed pair of parentheses: the text before it, in it and behind it.
fn parenthesised(text: &str) -> Vec<(&str, &str, &str)> {
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => open.push(at),
            ')' => found.extend(open.pop().map(|begin| (&text[..begin], &text[begin + 1..at], &text[at + 1..]))),
            _ => {}
        }
    }
    found
}

/// True if a list has a comma outside of inner parentheses.
fn has_comma(list: &str) -> bool {
    let mut depth = 0;
    list.chars().any(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ',' && depth == 0
    })
}

fn store_sources() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(|source| source.top() == "store" && !source.path.ends_with("tests.rs"))
}

#[test]
fn a_statement_is_worded_for_both_engines() {
    let (mut offences, mut statements) = (Vec::new(), 0);
    for source in store_sources() {
        let name = source.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if OF_SQLITE.contains(&name) {
            continue;
        }
        for text in Code::of(&source).texts {
            let is_statement = ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| text.starts_with(verb));
            statements += usize::from(is_statement);
            offences.extend(foreign(&text).map(|why| format!("{}: {why}: {text}", source.path.display())));
        }
    }
    assert!(offences.is_empty(), "word it for both, or move it to store/dialect.rs:\n{}", offences.join("\n"));
    assert!(statements > 80, "the statements are read: {statements}");
}

#[test]
fn a_change_says_how_many_rows_it_may_affect() {
    let (mut offences, mut changes) = (Vec::new(), 0);
    for source in store_sources() {
        for (name, code) in Code::of(&source).functions {
            let is_unchecked = |text: &&String| {
                ["UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb)) && !text.contains("RETURNING")
            };
            // A text of `concat!` may go on elsewhere.
            let is_returning = code.texts.iter().any(|text| text.contains("RETURNING"));
            let changing = code.texts.iter().filter(is_unchecked).count();
            changes += changing;
            if changing > 0 && !is_returning && !code.calls.iter().any(|call| CHECKS.contains(&call.as_str())) {
                offences.push(format!("{}: {name}", source.path.display()));
            }
        }
    }
    assert!(offences.is_empty(), "use store/affected.rs in\n{}", offences.join("\n"));
    assert!(changes > 30, "the changes are read: {changes}");
}

#[test]
fn wording_of_one_engine_is_recognised() {
    for text in [
        "SELECT max(rowid) FROM leads",
        "INSERT OR REPLACE INTO reminders (plugin) VALUES ($1)",
        "INSERT INTO a (b) VALUES ($1) ON CONFLICT DO UPDATE SET b = excluded.b",
        "DELETE FROM events WHERE seq < min($1, (SELECT head FROM log))",
        "SELECT count(*) FROM (SELECT 1 FROM effects LIMIT $1)",
        "WHERE (a, b) IS NOT (c, d)",
        " OR instr(input, $1) > 0",
    ] {
        assert!(foreign(text).is_some(), "{text}");
    }
    for text in [
        "SELECT coalesce(min(seq), (SELECT head + 1 FROM log)) FROM events",
        "SELECT count(*) FROM (SELECT 1 FROM effects LIMIT $1) AS counted",
        "UPDATE users SET active = $1 WHERE deleted_at IS NOT NULL",
    ] {
        assert_eq!(foreign(text), None, "{text}");
    }
}

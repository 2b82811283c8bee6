//! The import graph of the host crate, read from its sources: one node per file.
//!
//! A path starts at its first segment within this crate (`crate`, `super`, `self` or a child module).
//! Re-exports are followed to the file that holds the item, and code under `#[cfg(test)]` is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, ItemMod, ItemUse, Macro, UseTree, Visibility,
    visit::{self, Visit},
};

/// Module path with an optional item at the end, without `crate`.
pub type Names = Vec<String>;

pub struct Source {
    /// Path below `src`.
    pub path: PathBuf,
    pub module: Names,
    pub text: String,
    pub file: syn::File,
}

impl Source {
    /// The top-level module of the file.
    pub fn top(&self) -> &str {
        self.module.first().map_or("main", String::as_str)
    }
}

/// Every source file of the host, in order.
pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let path = path.strip_prefix(&root).expect("below src").to_owned();
        let mut module: Names =
            path.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
        module.retain(|name| name != "lib" && name != "main");
        Source { path, module, text, file }
    };
    paths.into_iter().map(read).collect()
}

/// Collects the Rust files below a folder, without those of builds and packages.
pub fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.ends_with("target") || path.ends_with("node_modules") {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Dependencies between files, by module.
pub struct Graph {
    pub edges: BTreeMap<Names, BTreeSet<Names>>,
}

impl Graph {
    pub fn of(sources: &[Source]) -> Self {
        let modules: BTreeSet<&Names> = sources.iter().map(|source| &source.module).collect();
        let children = |module: &Names| -> BTreeSet<String> {
            let is_child = |other: &&&Names| other.len() == module.len() + 1 && other.starts_with(module);
            modules.iter().filter(is_child).map(|other| other[module.len()].clone()).collect()
        };
        let found: Vec<(&Source, Found)> = sources
            .iter()
            .filter(|source| !source.path.ends_with("tests.rs"))
            .map(|source| (source, Found::of(source, children(&source.module))))
            .collect();
        let exports: BTreeMap<Names, Names> =
            found.iter().flat_map(|(_, found)| found.exports.iter().cloned()).collect();

        let mut edges: BTreeMap<Names, BTreeSet<Names>> = BTreeMap::new();
        for (source, found) in &found {
            let used = found.paths.iter().map(|path| owner(&resolve(path, &exports), &modules));
            let others = used.filter(|used| *used != source.module && !used.is_empty());
            edges.entry(source.module.clone()).or_default().extend(others);
        }
        Self { edges }
    }

    /// Dependency cycles within a top-level module, each as a set of modules.
    pub fn circles(&self) -> Vec<Vec<Names>> {
        let reachable = |from: &Names| -> BTreeSet<Names> {
            let mut seen = BTreeSet::new();
            let mut waiting = vec![from.clone()];
            while let Some(module) = waiting.pop() {
                for next in self.edges.get(&module).into_iter().flatten() {
                    if next.first() == from.first() && seen.insert(next.clone()) {
                        waiting.push(next.clone());
                    }
                }
            }
            seen
        };
        let reach: BTreeMap<&Names, BTreeSet<Names>> =
            self.edges.keys().map(|module| (module, reachable(module))).collect();
        let mut circles: BTreeSet<Vec<Names>> = BTreeSet::new();
        for (module, reached) in &reach {
            if reached.contains(*module) {
                let in_circle = |other: &&Names| reach.get(other).is_some_and(|back| back.contains(*module));
                let circle: BTreeSet<Names> = reached.iter().filter(in_circle).cloned().collect();
                circles.insert(circle.into_iter().collect());
            }
        }
        circles.into_iter().collect()
    }
}

/// Follows re-exports until the path names the item itself.
fn resolve(path: &Names, exports: &BTreeMap<Names, Names>) -> Names {
    let mut path = path.clone();
    for _ in 0..8 {
        let Some(end) = (1..=path.len()).rev().find(|end| exports.contains_key(&path[..*end])) else { return path };
        let rest = path.split_off(end);
        path = exports[&path].clone();
        path.extend(rest);
    }
    path
}

/// The file that contains the target of a path.
fn owner(path: &Names, modules: &BTreeSet<&Names>) -> Names {
    let end = (0..=path.len()).rev().find(|end| modules.contains(&path[..*end].to_vec()));
    path[..end.unwrap_or(0)].to_vec()
}

/// Paths and re-exports that one file names.
struct Found {
    module: Names,
    children: BTreeSet<String>,
    paths: BTreeSet<Names>,
    /// Re-exports: the local name and its target.
    exports: Vec<(Names, Names)>,
}

impl Found {
    fn of(source: &Source, children: BTreeSet<String>) -> Self {
        let module = source.module.clone();
        let mut found = Self { module, children, paths: BTreeSet::new(), exports: Vec::new() };
        found.visit_file(&source.file);
        found
    }

    /// The path from the crate root; `None` if it leads outside.
    fn absolute(&self, names: &[String]) -> Option<Names> {
        let mut names = names.to_vec();
        let first = names.first()?.clone();
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            child if self.children.contains(child) => {
                let mut base = self.module.clone();
                base.extend(names);
                return Some(base);
            }
            _ => return None,
        };
        if first != "super" {
            names.remove(0);
        }
        while names.first().is_some_and(|name| name == "super") {
            base.pop();
            names.remove(0);
        }
        base.extend(names);
        Some(base)
    }

    fn note(&mut self, names: &[String]) {
        self.paths.extend(self.absolute(names));
    }

    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut names: Names = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if names.is_empty() || colons == 2 => {
                    names.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !names.is_empty() && colons < 2 => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(ref group) => self.note_tokens(group.stream()),
                _ => {}
            }
            if names.len() > 1 {
                self.note(&names);
            }
            names.clear();
            colons = 0;
            if let TokenTree::Ident(ident) = token {
                names.push(ident.to_string());
            }
        }
        if names.len() > 1 {
            self.note(&names);
        }
    }
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(it) => &it.attrs,
            Item::Fn(it) => &it.attrs,
            Item::Use(it) => &it.attrs,
            Item::Impl(it) => &it.attrs,
            Item::Const(it) => &it.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        // Generated code in a separate module uses nothing from this crate.
        let _ = item;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        for (names, alias) in flat(&item.tree) {
            let Some(path) = self.absolute(&names) else { continue };
            match path.last().cloned() {
                Some(last) if is_export && last != "*" => {
                    let mut name = self.module.clone();
                    name.push(alias.unwrap_or(last));
                    self.exports.push((name, path));
                }
                _ => self.paths.extend([path]),
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.note(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.note_tokens(invocation.tokens.clone());
        visit::visit_macro(self, invocation);
    }

    // Doc comments and derives name no file.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

pub fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}

/// Each path of a `use` with its local name.
fn flat(tree: &UseTree) -> Vec<(Names, Option<String>)> {
    match tree {
        UseTree::Path(path) => {
            let first = path.ident.to_string();
            let under = |(mut names, alias): (Names, Option<String>)| {
                if names != ["self"] {
                    names.insert(0, first.clone());
                    return (names, alias);
                }
                (vec![first.clone()], alias)
            };
            flat(&path.tree).into_iter().map(under).collect()
        }
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], None)],
        UseTree::Rename(rename) => vec![(vec![rename.ident.to_string()], Some(rename.rename.to_string()))],
        UseTree::Glob(_) => vec![(vec!["*".into()], None)],
        UseTree::Group(group) => group.items.iter().flat_map(flat).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        let module = path.split('/').map(str::to_owned).collect();
        let file = syn::parse_file(text).expect("a file");
        Source { path: format!("{path}.rs").into(), module, text: text.into(), file }
    }

    fn names(path: &str) -> Names {
        path.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn a_cycle_is_found_through_super_a_re_export_and_a_macro() {
        let sources = [
            source("a", "pub use b::B;\nmod b; mod c; mod d;\n"),
            source("a/b", "use super::c::C;\npub struct B(C);\n"),
            source("a/c", "fn c() { x!(crate::a::B::new()); }\n"),
            source("a/d", "use crate::a::{b::B, c};\n#[cfg(test)]\nmod tests { use crate::e::E; }\n"),
            source("e", "use crate::a::b::B;\n"),
        ];
        let graph = Graph::of(&sources);
        assert_eq!(graph.circles(), [vec![names("a::b"), names("a::c")]]);
        assert!(!graph.edges[&names("a::d")].contains(&names("e")), "tests are left out");
    }
}

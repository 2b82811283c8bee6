//! `cargo xtask contract`: compares the API documents with those of the last release and reports breaking changes.
//!
//! The documents are `docs/openapi.json` and `docs/asyncapi.json`; `docs/contract/<version>/` keeps those of every
//! release. The table in `rules.rs` defines a breaking change: clients must work unchanged with a newer server.

mod asyncapi;
mod bounds;
mod change;
mod openapi;
mod rules;
mod schema;
mod shape;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use semver::Version;
use serde_json::Value;

use self::change::{Change, Documents};
use crate::{report::Outcome, workspace::Workspace};

const DOCUMENTS: [&str; 2] = ["openapi.json", "asyncapi.json"];

pub fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let outcome = test(workspace)?;
            outcome.notes.iter().for_each(|note| println!("{note}"));
            return Ok(if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        ["rules"] => print!("{}", rules::listing()),
        ["release"] => {
            let version = workspace_version(workspace)?;
            println!("{}", release(&workspace.root.join("docs"), &version)?);
        }
        _ => bail!("contract takes one argument at most: rules or release"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares every document with the released one and prints each change; each breaking change counts as one failure.
pub fn test(workspace: &Workspace) -> Result<Outcome> {
    check(&workspace.root.join("docs"))
}

fn check(docs: &Path) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let Some((version, released)) = last_release(docs)? else {
        outcome.notes.push("no released contract yet: docs/contract has no folder of a version".into());
        for name in DOCUMENTS.into_iter().filter(|name| !docs.join(name).exists()) {
            outcome.notes.push(format!("docs/{name} does not exist yet"));
        }
        return Ok(outcome);
    };

    for name in DOCUMENTS {
        let changes = match (load(&released.join(name))?, load(&docs.join(name))?) {
            (Some(old), Some(new)) => compare(&old, &new),
            (Some(_), None) => {
                outcome.include(Outcome::fail(format!("docs/{name} is missing, but {version} was released with it")));
                continue;
            }
            (None, Some(_)) => {
                outcome.notes.push(format!("{name}: not part of {version}, nothing to compare with"));
                continue;
            }
            (None, None) => {
                outcome.notes.push(format!("docs/{name} does not exist yet"));
                continue;
            }
        };

        changes.iter().for_each(|change| println!("{change}"));
        let breaking = changes.iter().filter(|change| change.rule.is_some()).count();
        let additive = changes.len() - breaking;
        outcome.notes.push(format!("{name}: {breaking} breaking and {additive} additive changes since {version}"));
        outcome.failed += breaking as u64;
        outcome.passed += u64::from(breaking == 0);
    }
    Ok(outcome)
}

/// Changes between two documents of the same kind, breaking changes first.
fn compare(old: &Value, new: &Value) -> Vec<Change> {
    let compare = if new.get("asyncapi").is_some() { asyncapi::compare } else { openapi::compare };
    let mut changes: Vec<Change> = Vec::new();
    for change in compare(Documents { old, new }) {
        // Two alternatives of a union can differ in the same way.
        if !changes.contains(&change) {
            changes.push(change);
        }
    }
    changes.sort_by_key(|change| change.rule.is_none());
    changes
}

/// Newest folder in `docs/contract` by semantic version.
fn last_release(docs: &Path) -> Result<Option<(Version, PathBuf)>> {
    let contract = docs.join("contract");
    if !contract.exists() {
        return Ok(None);
    }
    let mut newest = None;
    for entry in contract.read_dir()? {
        let path = entry?.path();
        let version = path.file_name().and_then(|name| Version::parse(name.to_str()?).ok());
        newest = newest.max(version.map(|version| (version, path)));
    }
    Ok(newest)
}

fn load(path: &Path) -> Result<Option<Value>> {
    if !path.exists() {
        return Ok(None);
    }
    let parsed = serde_json::from_slice(&fs::read(path)?).map_err(anyhow::Error::from);
    let document = parsed.and_then(|document| {
        shape::check_references(&document, &document)?;
        Ok(document)
    });
    document.map(Some).with_context(|| format!("{} is not a valid document", path.display()))
}

/// Copies the documents to the folder of `version`; a release that exists is never changed.
fn release(docs: &Path, version: &str) -> Result<String> {
    let folder = docs.join("contract").join(version);
    let read = |path: PathBuf| path.exists().then(|| fs::read(path)).transpose();
    if folder.exists() {
        for name in DOCUMENTS {
            if read(docs.join(name))? != read(folder.join(name))? {
                bail!("{version} is already released with another {name}; raise the version in Cargo.toml");
            }
        }
        return Ok(format!("{version} is already released with the same documents"));
    }

    let mut copied = Vec::new();
    for name in DOCUMENTS {
        if load(&docs.join(name))?.is_some() {
            copied.push(name);
        }
    }
    if copied.is_empty() {
        bail!("there is nothing to release: docs has neither {}", DOCUMENTS.join(" nor "));
    }
    fs::create_dir_all(&folder)?;
    for name in &copied {
        fs::copy(docs.join(name), folder.join(name))?;
    }
    Ok(format!("copied {} to docs/contract/{version}", copied.join(" and ")))
}

fn workspace_version(workspace: &Workspace) -> Result<String> {
    let output = workspace.cargo(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let xtask = packages.into_iter().find(|package| package["name"] == "xtask");
    xtask.and_then(|xtask| xtask["version"].as_str()).map(str::to_owned).context("cargo metadata names no xtask")
}

#[cfg(test)]
mod tests {
    use std::env;

    use serde_json::json;

    use super::*;

    /// Document in which `lead` is both the request body and the answer of one operation.
    fn document(lead: &Value) -> Value {
        let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Lead"}}});
        let patch = json!({"requestBody": {"content": content}, "responses": {"200": {"content": content}}});
        json!({"paths": {"/api/leads/{id}": {"patch": patch}}, "components": {"schemas": {"Lead": lead}}})
    }

    /// Breaking changes of an edit of `lead`, without the name of the operation.
    fn breaks(before: &Value, after: &Value) -> Vec<String> {
        let changes = compare(&document(before), &document(after));
        let breaking = changes.iter().filter(|change| change.rule.is_some());
        breaking.map(|change| change.to_string().replace("breaking: operation `PATCH /api/leads/{id}`, ", "")).collect()
    }

    #[test]
    fn a_removed_member_fails() {
        let lead = |owner| json!({"properties": {"owner": {"properties": owner}}});
        assert_eq!(
            breaks(&lead(json!({"name": {"type": "string"}})), &lead(json!({}))),
            [
                "request body, `$.owner.name`: member removed [request-member-removed]",
                "response 200, `$.owner.name`: member removed [answer-member-removed]",
            ]
        );
    }

    #[test]
    fn a_narrowed_enum_fails() {
        let lead = |values| json!({"properties": {"status": {"enum": values}}});
        assert_eq!(
            breaks(&lead(json!(["NEW", "WON"])), &lead(json!(["NEW"]))),
            [
                "request body, `$.status`: value \"WON\" removed [request-enum-narrowed]",
                "response 200, `$.status`: value \"WON\" removed [answer-enum-value-removed]",
            ]
        );
    }

    #[test]
    fn a_new_required_field_fails() {
        let after = json!({"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]});
        assert_eq!(
            breaks(&json!({"type": "object"}), &after),
            ["request body, `$.title`: member is now required [request-member-required]"]
        );
    }

    #[test]
    fn a_recursive_schema_is_compared_once() {
        let parent = json!({"anyOf": [{"$ref": "#/components/schemas/Lead"}, {"type": "null"}]});
        let lead = |kind| json!({"type": "object", "properties": {"parent": parent, "note": {"type": kind}}});
        assert_eq!(breaks(&lead("string"), &lead("string")), [""; 0]);
        assert_eq!(breaks(&lead("string"), &lead("integer")).len(), 2);
    }

    #[test]
    fn documents_are_compared_with_the_newest_release_which_never_changes() {
        let docs = env::temp_dir().join(format!("leadwire-contract-{}", std::process::id()));
        let write = |path: &str, lead: Value| {
            fs::write(docs.join(path), document(&lead).to_string()).expect("a document is written");
        };
        let failed = || check(&docs).expect("a comparison").failed;
        fs::create_dir_all(docs.join("contract/0.9.0")).expect("a folder");
        write("contract/0.9.0/openapi.json", json!({"type": "string"}));
        write("openapi.json", json!({"type": "object"}));
        release(&docs, "0.10.0").expect("a release");
        release(&docs, "0.10.0").expect("the same release");
        let outcome = check(&docs).expect("a comparison");
        assert_eq!((outcome.passed, outcome.failed), (1, 0));
        assert_eq!(outcome.notes[1], "docs/asyncapi.json does not exist yet");

        write("openapi.json", json!({"type": "string"}));
        assert_eq!(failed(), 2);
        assert!(release(&docs, "0.10.0").is_err());

        write("openapi.json", json!({"$ref": "#/components/schemas/Deal"}));
        assert!(check(&docs).is_err(), "a reference leads nowhere");
        fs::remove_file(docs.join("openapi.json")).expect("a file");
        assert_eq!(failed(), 1, "a released document is missing");
        fs::remove_dir_all(docs.join("contract")).expect("a folder");
        assert_eq!(failed(), 0, "nothing is released");
        fs::remove_dir_all(docs).expect("a folder");
    }
}

//! `cargo xtask dist`: a release archive, with everything that somebody needs who does not build from source.
//!
//! The archive holds the program, the sample plugins, the client package, the documentation, the licences of everything
//! that is linked in, a bill of materials (CycloneDX) and `install.sh`. Its checksum is written beside it. The order of
//! the files, their owner and their time do not depend on the machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    process,
    report::Outcome,
    workspace::{self, Profile, Workspace},
};

/// Builds the archive and returns where it is.
pub fn run(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let (leadwire, plugins) = workspace.build_plugins(profile)?;
    let target = workspace::host_target()?;
    let metadata = Metadata::read(workspace, &target)?;
    let name = format!("leadwire-{}-{target}", metadata.version()?);
    let out = workspace.target.join("dist");
    let stage = out.join(&name);
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    fs::create_dir_all(stage.join("bin"))?;

    fs::copy(&leadwire, stage.join("bin/leadwire"))?;
    fs::write(stage.join("TARGET"), format!("{target}\n"))?;
    add_plugins(workspace, &plugins, &stage.join("plugins"))?;
    add_client(workspace, &stage.join("client"))?;
    add_documents(workspace, &metadata, &stage.join("doc"))?;
    fs::copy(workspace.root.join("deploy/install.sh"), stage.join("install.sh"))?;
    let sums = checksums(&stage)?;
    fs::write(stage.join("SHA256SUMS"), sums)?;

    let archive = out.join(format!("{name}.tar.gz"));
    pack(&stage, &name, &archive, modified(workspace)?)?;
    let sum = format!("{}  {name}.tar.gz\n", sha256(&archive)?);
    fs::write(out.join(format!("{name}.tar.gz.sha256")), sum)?;
    Ok(archive)
}

/// Step of the tests: makes an archive of the build of the tests, unpacks and installs it, and starts the program.
pub fn test(workspace: &Workspace) -> Result<Outcome> {
    let archive = run(workspace, Profile::Dev)?;
    let scratch = workspace.target.join("dist/test");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)?;
    let folder = archive.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".tar.gz"));
    let folder = scratch.join(folder.context("the archive has a name")?);
    process::run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&scratch))?;

    let prefix = scratch.join("prefix");
    process::run(Command::new(folder.join("install.sh")).arg("--prefix").arg(&prefix))?;
    process::run(Command::new(prefix.join("bin/leadwire")).args(["config", "check"]).current_dir(&scratch))?;
    for file in ["plugins/redact-contact.wasm", "plugins/redact-contact.toml", "doc/LICENSES.txt", "doc/sbom.cdx.json"]
    {
        if !prefix.join("share/leadwire").join(file).is_file() {
            bail!("{file} was not installed");
        }
    }

    // A file that was changed on the way is noticed before anything is replaced.
    fs::write(folder.join("TARGET"), "changed")?;
    let status = process::status(Command::new(folder.join("install.sh")).arg("--prefix").arg(&prefix))?;
    if status.success() {
        bail!("a damaged archive was installed");
    }
    Ok(Outcome { passed: 1, ..Outcome::default() })
}

fn add_plugins(workspace: &Workspace, built: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for source in workspace.plugin_sources()? {
        let name = source.file_name().context("a plugin's folder has a name")?.to_string_lossy().into_owned();
        fs::copy(built.join(format!("{name}.wasm")), to.join(format!("{name}.wasm")))?;
        fs::copy(workspace.root.join(&source).join("plugin.toml"), to.join(format!("{name}.toml")))?;
        fs::copy(workspace.root.join(&source).join("README.md"), to.join(format!("{name}.md")))?;
    }
    Ok(())
}

fn add_client(workspace: &Workspace, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let client = workspace.root.join("clients/js");
    process::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&client))?;
    process::run(
        Command::new("npm").args(["pack", "--ignore-scripts", "--pack-destination"]).arg(to).current_dir(client),
    )
}

fn add_documents(workspace: &Workspace, metadata: &Metadata, to: &Path) -> Result<()> {
    fs::create_dir_all(to.join("docs"))?;
    for file in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(workspace.root.join(file), to.join(file))?;
    }
    for entry in workspace.root.join("docs").read_dir()? {
        let entry = entry?;
        // The documents of earlier versions stay behind.
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join("docs").join(entry.file_name()))?;
        }
    }
    let linked = metadata.linked()?;
    fs::write(to.join("LICENSES.txt"), licences(&linked)?)?;
    fs::write(to.join("sbom.cdx.json"), format!("{:#}\n", metadata.bill_of_materials(&linked)?))?;
    Ok(())
}

/// Packages of the workspace and of everything below it.
struct Metadata(Value);

/// Package that is linked into the program.
struct Package<'a> {
    id: &'a str,
    name: &'a str,
    version: &'a str,
    licence: &'a str,
    folder: PathBuf,
    depends_on: BTreeSet<&'a str>,
}

impl Metadata {
    fn read(workspace: &Workspace, target: &str) -> Result<Self> {
        let mut cargo = workspace.cargo(["metadata", "--format-version", "1", "--locked", "--filter-platform", target]);
        let output = cargo.output().context("cargo could not be started")?;
        Ok(Self(serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?))
    }

    fn version(&self) -> Result<&str> {
        let program = self.packages()?.find(|package| package["name"] == "leadwire");
        program.and_then(|package| package["version"].as_str()).context("the workspace has no package leadwire")
    }

    fn packages(&self) -> Result<impl Iterator<Item = &Value>> {
        Ok(self.0["packages"].as_array().context("cargo metadata lists no packages")?.iter())
    }

    /// Packages that the program is linked from, itself included, by name and version.
    fn linked(&self) -> Result<Vec<Package<'_>>> {
        let nodes = self.0["resolve"]["nodes"].as_array().context("cargo metadata resolves nothing")?;
        let edges: BTreeMap<&str, BTreeSet<&str>> = nodes.iter().filter_map(edges).collect();
        let packages: BTreeMap<&str, &Value> =
            self.packages()?.filter_map(|package| Some((package["id"].as_str()?, package))).collect();
        let root = packages.iter().find(|(_, package)| package["name"] == "leadwire").map(|(id, _)| *id);
        let mut waiting = vec![root.context("the workspace has no package leadwire")?];
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                waiting.extend(edges.get(id).into_iter().flatten());
            }
        }
        let package = |id: &&'_ str| {
            let package = packages.get(id).with_context(|| format!("{id} is not a package"))?;
            let text = |key: &str| package[key].as_str().with_context(|| format!("{id} has no {key}"));
            let folder = Path::new(text("manifest_path")?).parent().context("a manifest is in a folder")?.to_owned();
            Ok(Package {
                id: text("id")?,
                name: text("name")?,
                version: text("version")?,
                licence: package["license"].as_str().unwrap_or("see the text"),
                folder,
                depends_on: edges.get(id).cloned().unwrap_or_default(),
            })
        };
        let mut linked = seen.iter().map(package).collect::<Result<Vec<_>>>()?;
        linked.sort_by_key(|package| (package.name, package.version));
        Ok(linked)
    }

    /// Bill of materials in CycloneDX 1.5.
    fn bill_of_materials(&self, linked: &[Package<'_>]) -> Result<Value> {
        let reference = |package: &Package<'_>| format!("pkg:cargo/{}@{}", package.name, package.version);
        let references: BTreeMap<&str, String> =
            linked.iter().map(|package| (package.id, reference(package))).collect();
        let component = |package: &Package<'_>| {
            json!({
                "type": "library", "bom-ref": reference(package), "purl": reference(package), "name": package.name,
                "version": package.version,
                // SPDX wrote alternatives with a slash once.
                "licenses": [{"expression": package.licence.replace(" / ", " OR ").replace('/', " OR ")}],
            })
        };
        let dependency = |package: &Package<'_>| {
            let on: Vec<_> = package.depends_on.iter().filter_map(|id| references.get(id)).collect();
            json!({"ref": reference(package), "dependsOn": on})
        };
        Ok(json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": {"type": "application", "name": "leadwire", "version": self.version()?}},
            "components": linked.iter().filter(|package| package.name != "leadwire").map(component).collect::<Vec<_>>(),
            "dependencies": linked.iter().map(dependency).collect::<Vec<_>>(),
        }))
    }
}

/// Package, and those that it is linked with: not those that only its tests or its build script need.
fn edges(node: &Value) -> Option<(&str, BTreeSet<&str>)> {
    let is_linked = |dependency: &&Value| {
        let kinds = dependency["dep_kinds"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
    };
    let dependencies = node["deps"].as_array()?.iter().filter(is_linked);
    Some((node["id"].as_str()?, dependencies.filter_map(|dependency| dependency["pkg"].as_str()).collect()))
}

/// Texts of all licences, each once, with the packages that it is for.
fn licences(linked: &[Package<'_>]) -> Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked {
        let name = format!("{} {} ({})", package.name, package.version, package.licence);
        let mut has_text = false;
        for entry in package.folder.read_dir().with_context(|| format!("cannot read {}", package.folder.display()))? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            let is_licence =
                ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"].iter().any(|word| file.starts_with(word));
            if is_licence && path.is_file() {
                let text = String::from_utf8_lossy(&fs::read(&path)?).trim().to_owned();
                texts.entry(text).or_default().insert(name.clone());
                has_text = true;
            }
        }
        if !has_text {
            texts.entry("(the package contains no text of its licence)".into()).or_default().insert(name);
        }
    }
    let part = |(text, names): (&String, &BTreeSet<String>)| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("{}\n\n{text}\n", names.join("\n"))
    };
    Ok(texts.iter().map(part).collect::<Vec<_>>().join("\n----------------------------------------\n\n"))
}

/// Lines for `sha256sum --check`, for every file below `stage`.
fn checksums(stage: &Path) -> Result<String> {
    let mut lines = String::new();
    for file in files(stage)? {
        let name = file.strip_prefix(stage)?.display().to_string();
        lines.push_str(&format!("{}  {name}\n", sha256(&file)?));
    }
    Ok(lines)
}

fn sha256(file: &Path) -> Result<String> {
    Ok(hex::encode(Sha256::digest(fs::read(file)?)))
}

/// Files below a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn pack(stage: &Path, name: &str, archive: &Path, modified: u64) -> Result<()> {
    let encoder = GzEncoder::new(File::create(archive)?, Compression::best());
    let mut tar = tar::Builder::new(encoder);
    for file in files(stage)? {
        let bytes = fs::read(&file)?;
        let is_program = fs::metadata(&file)?.permissions().mode() & 0o100 != 0;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(if is_program { 0o755 } else { 0o644 });
        header.set_mtime(modified);
        tar.append_data(&mut header, Path::new(name).join(file.strip_prefix(stage)?), bytes.as_slice())?;
    }
    tar.into_inner()?.finish()?.flush()?;
    Ok(())
}

/// Time of the last commit, in seconds since 1970: the same archive from the same sources.
fn modified(workspace: &Workspace) -> Result<u64> {
    let mut git = Command::new("git");
    let output = git.args(["log", "-1", "--format=%ct"]).current_dir(&workspace.root).output();
    let output = output.context("git could not be started")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_and_build_dependencies_are_not_linked() {
        let node = json!({"id": "a", "deps": [
            {"pkg": "linked", "dep_kinds": [{"kind": null}]},
            {"pkg": "tested", "dep_kinds": [{"kind": "dev"}]},
            {"pkg": "built", "dep_kinds": [{"kind": "build"}]},
            {"pkg": "both", "dep_kinds": [{"kind": "build"}, {"kind": null}]},
        ]});
        assert_eq!(edges(&node), Some(("a", BTreeSet::from(["both", "linked"]))));
    }
}

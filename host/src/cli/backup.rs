//! `leadwire backup FILE`: one file with everything that a server needs to come back, made while it serves.
//!
//! The file is written under another name, read back and checked, and only then given its own.

mod archive;
mod restore;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::archive::{Manifest, Place, Writer};
use super::{Options, runtime, say};
use crate::{
    config::{Config, DEFAULT_FILE},
    domain::time::Timestamp,
    plugin::{check_name, file},
    store::copy::{self, Contents},
};

pub(super) use restore::{Restore, run as restore};

/// The most that a plugin's component may have under any limit; other files are far smaller.
const MAX_FILE: u64 = 1 << 30;

#[derive(Args)]
pub(super) struct Backup {
    /// The file to write; it must not exist yet
    file: PathBuf,
}

/// A file to be backed up, and its place in the archive.
struct Source {
    path: PathBuf,
    place: Place,
}

pub(super) fn run(backup: &Backup, options: &Options) -> Result<()> {
    let (config, target) = (options.load()?, &backup.file);
    let database = config.database_file()?;
    if !database.exists() {
        bail!("there is no database {}", database.display());
    }
    if fs::symlink_metadata(target).is_ok() {
        bail!("{} exists: expected the name of a new file", target.display());
    }
    let folder = parent(target);
    let staging = tempfile::Builder::new().prefix(".leadwire-backup-").tempdir_in(folder);
    let staging = staging.with_context(|| format!("cannot write to {}", folder.display()))?;
    let partial = staging.path().join("backup");

    let manifest = runtime()?.block_on(async {
        let copied = staging.path().join("database.db");
        copy::copy(&database, &copied).await.context("cannot copy the database")?;
        let contents = copy::check(&copied).await.context("the database is damaged: `leadwire doctor` says more")?;
        write(&partial, &copied, contents, &sources(&config, options)?)?;
        fs::remove_file(&copied)?;
        verify(&partial, staging.path()).await.context("what was written cannot be read back")
    })?;
    fs::rename(&partial, target).with_context(|| format!("cannot write {}", target.display()))?;
    File::open(folder)?.sync_all()?;

    let Manifest { database: Contents { epoch, head, leads, users, .. }, files, .. } = &manifest;
    let size = fs::metadata(target)?.len().div_ceil(1024);
    let plugins = files.iter().filter(|file| file.path.starts_with("plugins/") && file.path.ends_with(".wasm")).count();
    say(format_args!(
        "{}: {leads} leads, {users} users, the log up to {head} (epoch {epoch}), {plugins} plugins; {} files, {size} KiB, \
         read back and checked",
        target.display(),
        files.len(),
    ))?;
    if !files.iter().any(|file| file.path == Place::SECRET) {
        say("the secret that signs tokens is set in the configuration or the environment: keep that as well")?;
    }
    Ok(())
}

/// The folder that a file is in.
fn parent(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Everything beside the database. Caches, locks and what is known of open sockets are left out: they are made again.
fn sources(config: &Config, options: &Options) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let data_dir = config.data_dir()?;
    let state = data_dir.join("plugin-state");
    let config_file = options.file().unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    sources.push(Source { path: config_file, place: Place::Config });
    sources.push(Source { path: data_dir.join("jwt-secret"), place: Place::Data("jwt-secret".into()) });
    for (folder, within) in [(state.clone(), "plugin-state"), (state.join("kept"), "plugin-state/kept")] {
        for name in names(&folder)? {
            let place = Place::parse(&format!("data/{within}/{name}"));
            sources.extend(place.ok().map(|place| Source { path: folder.join(name), place }));
        }
    }
    if let Some(folder) = &config.plugins.dir {
        for name in names(folder)? {
            let is_plugins = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).map(check_name);
            let place = Place::parse(&format!("plugins/{name}"));
            if let (Some(Ok(())), Ok(place)) = (is_plugins, place) {
                sources.push(Source { path: folder.join(name), place });
            }
        }
    }
    Ok(sources)
}

/// The names in a folder, in order; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let unread = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>().with_context(unread)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(unread),
    };
    let mut names: Vec<String> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn write(target: &Path, database: &Path, contents: Contents, sources: &[Source]) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let mut archive = Writer::new(file)?;
    archive.add(&Place::Database, &mut File::open(database)?, fs::metadata(database)?.len())?;
    for Source { path, place } in sources {
        // What is no regular file is no plugin's either; the server refuses it and says so.
        let bytes = match file::read(path, MAX_FILE) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        archive.add(place, &mut bytes.as_slice(), bytes.len() as u64)?;
    }
    archive.finish(contents, Timestamp::now())
}

/// Reads an archive whole: every checksum, and the database in it page by page.
async fn verify(archive: &Path, staging: &Path) -> Result<Manifest> {
    let copied = staging.join("read-back.db");
    let manifest = archive::read(archive, |place, content| match place {
        Place::Database => write_new(&copied, content),
        _ => io::copy(content, &mut io::sink()).map(drop).map_err(Into::into),
    })?;
    let contents = copy::check(&copied).await.context("the database in it is damaged")?;
    if contents != manifest.database {
        bail!("the database in it is not the one that its manifest tells of");
    }
    fs::remove_file(&copied)?;
    Ok(manifest)
}

/// Writes a file that only its owner may read, down to the disk.
fn write_new(path: &Path, content: &mut dyn Read) -> Result<()> {
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        io::copy(content, &mut file)?;
        file.sync_all()
    };
    let mut written = written;
    written().with_context(|| format!("cannot write {}", path.display()))
}

//! `leadwire backup FILE`: writes one file with everything that a server needs to come back, while it serves.
//!
//! The file is written under a temporary name, read back and verified, and only then renamed.

pub(crate) mod archive;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    cli::{
        backup::archive::{ArchivePlace, ArchiveWriter, BackupManifest},
        options::Options,
        print::say,
        runtime::runtime,
    },
    config::{Config, layer::DEFAULT_FILE},
    domain::{plugin_name::PluginName, time::Timestamp},
    files,
    store::copy::{self, Contents},
};

/// Largest size of a plugin's component under any limits; all other files are far smaller.
const MAX_FILE: u64 = 1 << 30;

#[derive(Args)]
pub(crate) struct Backup {
    /// File to write; it must not exist yet
    file: PathBuf,
}

/// File to be backed up, and its place in the archive.
struct BackupSource {
    path: PathBuf,
    place: ArchivePlace,
}

pub(crate) fn run(backup: &Backup, options: &Options) -> Result<()> {
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
        verify(&partial, staging.path()).await.context("cannot read back the backup")
    })?;
    fs::rename(&partial, target).with_context(|| format!("cannot write {}", target.display()))?;
    File::open(folder)?.sync_all()?;

    let BackupManifest { database: Contents { epoch, head, leads, users, .. }, files, .. } = &manifest;
    let size = fs::metadata(target)?.len().div_ceil(1024);
    let plugins = files.iter().filter(|file| file.path.starts_with("plugins/") && file.path.ends_with(".wasm")).count();
    say(format_args!(
        "{}: {leads} leads, {users} users, the log up to {head} (epoch {epoch}), {plugins} plugins; {} files, {size} KiB, \
         read back and checked",
        target.display(),
        files.len(),
    ))?;
    if !files.iter().any(|file| file.path == ArchivePlace::SECRET) {
        say("the secret that signs tokens is set in the configuration or the environment: keep that as well")?;
    }
    Ok(())
}

/// Folder of a file.
pub(crate) fn parent(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// All files except the database. Caches, locks and the state of open sockets are left out: they are created again.
fn sources(config: &Config, options: &Options) -> Result<Vec<BackupSource>> {
    let mut sources = Vec::new();
    let data_dir = config.data_dir()?;
    let state = data_dir.join("plugin-state");
    let config_file = options.file().unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    sources.push(BackupSource { path: config_file, place: ArchivePlace::Config });
    sources.push(BackupSource { path: data_dir.join("jwt-secret"), place: ArchivePlace::Data("jwt-secret".into()) });
    for (folder, within) in [(state.clone(), "plugin-state"), (state.join("kept"), "plugin-state/kept")] {
        for name in names(&folder)? {
            let place = ArchivePlace::parse(&format!("data/{within}/{name}"));
            sources.extend(place.ok().map(|place| BackupSource { path: folder.join(name), place }));
        }
    }
    if let Some(folder) = &config.plugins.dir {
        for name in names(folder)? {
            let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let place = ArchivePlace::parse(&format!("plugins/{name}"));
            if let (Ok(_), Ok(place)) = (stem.parse::<PluginName>(), place) {
                sources.push(BackupSource { path: folder.join(name), place });
            }
        }
    }
    Ok(sources)
}

/// Sorted names in a folder; empty when there is no folder.
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

fn write(target: &Path, database: &Path, contents: Contents, sources: &[BackupSource]) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let mut archive = ArchiveWriter::new(file)?;
    archive.add(&ArchivePlace::Database, &mut File::open(database)?, fs::metadata(database)?.len())?;
    for BackupSource { path, place } in sources {
        // A file that is not regular does not belong to a plugin; the server refuses it and reports it.
        let bytes = match files::read(path, MAX_FILE) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        archive.add(place, &mut bytes.as_slice(), bytes.len() as u64)?;
    }
    archive.finish(contents, Timestamp::now())
}

/// Reads a whole archive: verifies every checksum, and its database page by page.
async fn verify(archive: &Path, staging: &Path) -> Result<BackupManifest> {
    let copied = staging.join("read-back.db");
    let manifest = archive::read(archive, |place, content| match place {
        ArchivePlace::Database => write_new(&copied, content),
        _ => io::copy(content, &mut io::sink()).map(drop).map_err(Into::into),
    })?;
    let contents = copy::check(&copied).await.context("the database in it is damaged")?;
    if contents != manifest.database {
        bail!("its database does not match its manifest");
    }
    fs::remove_file(&copied)?;
    Ok(manifest)
}

/// Writes a file that only its owner can read, and syncs it.
pub(crate) fn write_new(path: &Path, content: &mut dyn Read) -> Result<()> {
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        io::copy(content, &mut file)?;
        file.sync_all()
    };
    let mut written = written;
    written().with_context(|| format!("cannot write {}", path.display()))
}

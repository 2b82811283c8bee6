//! `leadwire restore FILE`: puts a backup in place of the present state, while the server is stopped.
//!
//! Everything is extracted beside its target and verified before the first rename. Existing files are moved aside,
//! never deleted. The restored data has no `log.json`, so the next start gives the log a new epoch: clients may have
//! seen seqs that it will issue again.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use tempfile::TempDir;

use crate::{
    cli::{
        backup::{
            archive::{self, ArchivePlace, BackupManifest},
            parent, write_new,
        },
        options::Options,
        print::say,
        runtime::runtime,
    },
    config::{Config, layer::DEFAULT_FILE},
    domain::time::Timestamp,
    server::claim,
    store::{
        copy,
        lock::{self, Holder, Lock},
    },
};

#[derive(Args)]
pub(crate) struct Restore {
    /// File that `leadwire backup` wrote
    file: PathBuf,
    /// Move existing files aside
    #[arg(long)]
    force: bool,
}

const RESTORE: &str = "restore";
/// Suffixes of the files that SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

pub(crate) fn run(restore: &Restore, options: &Options) -> Result<()> {
    let config = options.load()?;
    let targets = Targets::of(&config, options)?;
    refuse_beside_a_server(&targets)?;
    targets.to_move_aside(restore.force)?;

    let staged = Staged::new(&targets)?;
    let failed = |error: anyhow::Error| error.context(format!("cannot restore {}", restore.file.display()));
    let manifest =
        archive::read(&restore.file, |place, content| write_new(&staged.path(place)?, content)).map_err(failed)?;
    runtime()?.block_on(staged.finish(&manifest)).map_err(failed)?;

    // From here on no server can start; one may have started meanwhile.
    let _locks = runtime()?.block_on(staged.lock(&targets))?;
    let aside = targets.move_aside(&targets.to_move_aside(restore.force)?)?;
    staged.put_in_place(&targets)?;

    let BackupManifest { created_at, database, files, .. } = &manifest;
    say(format_args!(
        "restored the backup of {created_at}: {} leads, {} users, the log up to {}, {} files; the next start \
         gives the log a new epoch, so that clients resync",
        database.leads,
        database.users,
        database.head,
        files.len(),
    ))?;
    aside.iter().try_for_each(|path| say(format_args!("the previous version is kept at {}", path.display())))?;
    let has_config = files.iter().any(|file| file.path == ArchivePlace::Config.to_string());
    if has_config && !targets.takes_config {
        let config = targets.config.display();
        say(format_args!("{config} was left as it is; the backup's own is in it as leadwire.toml"))?;
    }
    Ok(())
}

/// Target paths of the parts of a backup.
struct Targets {
    database: PathBuf,
    data_dir: PathBuf,
    plugins: Option<PathBuf>,
    config: PathBuf,
    /// True if there is no configuration file yet.
    takes_config: bool,
}

impl Targets {
    fn of(config: &Config, options: &Options) -> Result<Self> {
        let file = options.file().unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
        Ok(Self {
            database: config.database_file()?,
            data_dir: config.data_dir()?,
            plugins: config.plugins.dir.clone(),
            takes_config: fs::symlink_metadata(&file).is_err(),
            config: file,
        })
    }

    /// Paths that have to be moved aside, provided that `force` allows it.
    fn to_move_aside(&self, force: bool) -> Result<Vec<PathBuf>> {
        let occupied = self.occupied()?;
        if !occupied.is_empty() && !force {
            bail!(
                "files already exist: {}; with --force they are moved aside, and nothing is deleted",
                occupied.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(occupied)
    }

    fn occupied(&self) -> Result<Vec<PathBuf>> {
        let mut occupied = Vec::new();
        let names = [""].into_iter().chain(BESIDE);
        let database = names.map(|suffix| with_suffix(&self.database, suffix));
        occupied.extend(database.filter(|path| fs::symlink_metadata(path).is_ok()));
        for folder in [Some(&self.data_dir), self.plugins.as_ref()].into_iter().flatten() {
            match self.holds_something(folder) {
                Ok(holds) => occupied.extend(holds.then(|| folder.clone())),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
            }
        }
        Ok(occupied)
    }

    /// True if a folder contains more than lock files, which are created again.
    fn holds_something(&self, folder: &Path) -> io::Result<bool> {
        let database_lock = claim::database_lock(&self.database);
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let holds = match entry.file_type()? {
                kind if kind.is_dir() => self.holds_something(&path)?,
                kind if kind.is_file() => {
                    path != claim::data_dir_lock(&self.data_dir) && fs::canonicalize(&path)? != database_lock
                }
                _ => true,
            };
            if holds {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Nearest folder above a target that is neither a target nor inside one: it is not moved.
    fn outside<'a>(&'a self, path: &'a Path) -> &'a Path {
        let mut folder = parent(path);
        let targets = [Some(self.data_dir.as_path()), self.plugins.as_deref()];
        while let Some(target) = targets.into_iter().flatten().find(|target| folder.starts_with(target)) {
            folder = parent(target);
        }
        folder
    }

    /// Renames each path and returns the new paths. If one cannot be moved, all are moved back.
    fn move_aside(&self, occupied: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let stamp = format!(".before-{}", Timestamp::now().compact());
        let mut moved = Vec::new();
        for path in occupied {
            // SQLite finds the files of a database by its name.
            let aside = match BESIDE.iter().find(|suffix| *path == with_suffix(&self.database, suffix)) {
                Some(suffix) => with_suffix(&with_suffix(&self.database, &stamp), suffix),
                None => with_suffix(path, &stamp),
            };
            if let Err(error) = fs::rename(path, &aside) {
                moved.iter().rev().for_each(|(path, aside): &(&PathBuf, PathBuf)| drop(fs::rename(aside, path)));
                return Err(error)
                    .with_context(|| format!("cannot move {} aside; nothing was changed", path.display()));
            }
            moved.push((path, aside));
        }
        Ok(moved.into_iter().map(|(_, aside)| aside).collect())
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn refuse_beside_a_server(targets: &Targets) -> Result<()> {
    let (database, data_dir) = (&targets.database, &targets.data_dir);
    for (what, path, lock) in [
        ("database", database, claim::database_lock(database)),
        ("data directory", data_dir, claim::data_dir_lock(data_dir)),
    ] {
        let holder = Holder::of(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        if let Some(holder) = holder.filter(|holder| holder.command == lock::SERVE) {
            bail!("the {what} {} is in use by {holder}: stop it first", path.display());
        }
    }
    Ok(())
}

/// Extracted parts of a backup, each on the file system of its target.
struct Staged {
    database: TempDir,
    data: TempDir,
    plugins: Option<TempDir>,
    config: TempDir,
}

impl Staged {
    fn new(targets: &Targets) -> Result<Self> {
        let beside = |path: &Path| {
            let folder = targets.outside(path);
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            tempfile::Builder::new().prefix(".leadwire-restore-").tempdir_in(folder)
        };
        let beside = |path: &Path| beside(path).with_context(|| format!("cannot write next to {}", path.display()));
        let staged = Self {
            database: beside(&targets.database)?,
            data: beside(&targets.data_dir)?,
            plugins: targets.plugins.as_deref().map(beside).transpose()?,
            config: beside(&targets.config)?,
        };
        let folders = [Some(&staged.data), staged.plugins.as_ref()];
        for folder in folders.into_iter().flatten() {
            DirBuilder::new().mode(0o700).create(folder.path().join("content"))?;
        }
        Ok(staged)
    }

    /// Path to which a part is extracted.
    fn path(&self, place: &ArchivePlace) -> Result<PathBuf> {
        let path = match place {
            ArchivePlace::Database => self.database.path().join("database"),
            ArchivePlace::Config => self.config.path().join("config"),
            ArchivePlace::Data(path) => self.data.path().join("content").join(path),
            ArchivePlace::Plugin(name) => match &self.plugins {
                Some(folder) => folder.path().join("content").join(name),
                None => bail!("it contains plugins, but no plugin folder is set: name one with --plugins DIR"),
            },
        };
        DirBuilder::new().recursive(true).mode(0o700).create(parent(&path))?;
        Ok(path)
    }

    /// Verifies the database, and gives its log a new epoch in case it is opened without a data directory.
    async fn finish(&self, manifest: &BackupManifest) -> Result<()> {
        let database = self.database.path().join("database");
        let contents = copy::check(&database).await.context("the database in it cannot be used")?;
        if contents != manifest.database {
            bail!("its database does not match its manifest");
        }
        copy::renew_epoch(&database).await.context("cannot set a new epoch in its database")
    }

    /// Takes a server's locks: those of the present files, and those of the files that will replace them.
    async fn lock(&self, targets: &Targets) -> Result<Vec<Lock>> {
        for folder in [&targets.data_dir, parent(&targets.database)] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let locks = claim::lock_all(&targets.data_dir, &targets.database, RESTORE).await;
        let mut locks =
            Vec::from(locks.with_context(|| format!("`leadwire {RESTORE}` cannot run while a server is running"))?);

        let content = self.data.path().join("content");
        locks.push(Lock::take(&claim::data_dir_lock(&content), "the restored data directory", RESTORE).await?);
        // A database inside the data directory has its lock file there.
        let data_dir = fs::canonicalize(&targets.data_dir)?;
        if let Ok(within) = claim::database_lock(&targets.database).strip_prefix(&data_dir) {
            let path = content.join(within);
            DirBuilder::new().recursive(true).mode(0o700).create(parent(&path))?;
            locks.push(Lock::take(&path, "the restored database", RESTORE).await?);
        }
        Ok(locks)
    }

    fn put_in_place(&self, targets: &Targets) -> Result<()> {
        put_folder(&self.data, &targets.data_dir)?;
        if let (Some(staged), Some(folder)) = (&self.plugins, &targets.plugins) {
            put_folder(staged, folder)?;
        }
        let config = self.config.path().join("config");
        if targets.takes_config && config.exists() {
            put(&config, &targets.config)?;
        }
        // Last: without the database, no server silently starts on half a backup.
        put(&self.database.path().join("database"), &targets.database)
    }
}

/// Renames a folder to its target, which may be a folder that contains only lock files.
fn put_folder(staged: &TempDir, target: &Path) -> Result<()> {
    match fs::rename(target, staged.path().join("replaced")) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", target.display()))
        }
        _ => put(&staged.path().join("content"), target),
    }
}

/// Renames a part to its target and syncs it.
fn put(staged: &Path, target: &Path) -> Result<()> {
    let put = || {
        DirBuilder::new().recursive(true).mode(0o700).create(parent(target))?;
        fs::rename(staged, target)?;
        fs::File::open(parent(target))?.sync_all()
    };
    put().with_context(|| format!("cannot put {} in place", target.display()))
}

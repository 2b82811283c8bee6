//! `leadwire restore FILE`: puts a backup in place of what is there, for a server that is stopped.
//!
//! Everything is taken out beside its target and checked before the first rename. What was there is moved aside, never
//! deleted. No note `log.json` is beside what was restored, so the next start gives the log another epoch: clients may
//! have seen seqs that it will issue again.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use chrono::Utc;
use clap::Args;
use tempfile::TempDir;

use super::{Manifest, Place, archive, parent, write_new};
use crate::{
    cli::{Options, runtime, say},
    config::{Config, DEFAULT_FILE},
    server::claim,
    store::{
        copy,
        lock::{self, Holder, Lock},
    },
};

#[derive(Args)]
pub(in crate::cli) struct Restore {
    /// A file that `leadwire backup` wrote
    file: PathBuf,
    /// Move what is there aside, where there is something
    #[arg(long)]
    force: bool,
}

const RESTORE: &str = "restore";
/// What a SQLite database keeps beside its file.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

pub(in crate::cli) fn run(restore: &Restore, options: &Options) -> Result<()> {
    let config = options.load()?;
    let targets = Targets::of(&config, options)?;
    refuse_beside_a_server(&targets)?;
    targets.to_move_aside(restore.force)?;

    let staged = Staged::new(&targets)?;
    let told = |error: anyhow::Error| error.context(format!("cannot restore {}", restore.file.display()));
    let manifest =
        archive::read(&restore.file, |place, content| write_new(&staged.path(place)?, content)).map_err(told)?;
    runtime()?.block_on(staged.finish(&manifest)).map_err(told)?;

    // From here on nobody else starts; somebody may have done so meanwhile.
    let _locks = runtime()?.block_on(staged.lock(&targets))?;
    let aside = targets.move_aside(&targets.to_move_aside(restore.force)?)?;
    staged.put_in_place(&targets)?;

    let Manifest { created_at, database, files, .. } = &manifest;
    say(format_args!(
        "restored the backup of {created_at}: {} leads, {} users, the log up to {}, {} files; the next start \
         gives the log another epoch, so that clients fetch again",
        database.leads,
        database.users,
        database.head,
        files.len(),
    ))?;
    aside.iter().try_for_each(|path| say(format_args!("what was there before is {}", path.display())))?;
    let has_config = files.iter().any(|file| file.path == Place::Config.to_string());
    if has_config && !targets.takes_config {
        let config = targets.config.display();
        say(format_args!("{config} was left as it is; the backup's own is in it as leadwire.toml"))?;
    }
    Ok(())
}

/// Where the parts of a backup go.
struct Targets {
    database: PathBuf,
    data_dir: PathBuf,
    plugins: Option<PathBuf>,
    config: PathBuf,
    /// Whether there is no configuration yet.
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

    /// What has to go out of the way, when that is wanted.
    fn to_move_aside(&self, force: bool) -> Result<Vec<PathBuf>> {
        let occupied = self.occupied()?;
        if !occupied.is_empty() && !force {
            bail!(
                "there is something already: {}; with --force it is moved aside, and nothing is deleted",
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

    /// Whether there is more in a folder than lock files, which are made again.
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

    /// The nearest folder above a target that is no target itself, nor in one: it stays where it is.
    fn outside<'a>(&'a self, path: &'a Path) -> &'a Path {
        let mut folder = parent(path);
        let targets = [Some(self.data_dir.as_path()), self.plugins.as_deref()];
        while let Some(target) = targets.into_iter().flatten().find(|target| folder.starts_with(target)) {
            folder = parent(target);
        }
        folder
    }

    /// Gives each of them another name, and returns these. When one cannot be moved, all are where they were.
    fn move_aside(&self, occupied: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let stamp = format!(".before-{}", Utc::now().format("%Y%m%dT%H%M%S%3fZ"));
        let mut moved = Vec::new();
        for path in occupied {
            // SQLite finds what belongs to a database by its name.
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

/// The parts of a backup, each on the file system where it will be.
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
        let beside = |path: &Path| beside(path).with_context(|| format!("cannot write beside {}", path.display()));
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

    /// The file that a place is taken out to.
    fn path(&self, place: &Place) -> Result<PathBuf> {
        let path = match place {
            Place::Database => self.database.path().join("database"),
            Place::Config => self.config.path().join("config"),
            Place::Data(path) => self.data.path().join("content").join(path),
            Place::Plugin(name) => match &self.plugins {
                Some(folder) => folder.path().join("content").join(name),
                None => bail!("it has plugins, and no plugin folder is set: name one with --plugins DIR"),
            },
        };
        DirBuilder::new().recursive(true).mode(0o700).create(parent(&path))?;
        Ok(path)
    }

    /// Checks the database, and names its log anew for whoever opens it without a data directory.
    async fn finish(&self, manifest: &Manifest) -> Result<()> {
        let database = self.database.path().join("database");
        let contents = copy::check(&database).await.context("the database in it cannot be used")?;
        if contents != manifest.database {
            bail!("the database in it is not the one that its manifest tells of");
        }
        copy::renew_epoch(&database).await.context("the database in it cannot be given another epoch")
    }

    /// Takes the locks of a server, those that are there and those that will be in their place.
    async fn lock(&self, targets: &Targets) -> Result<Vec<Lock>> {
        for folder in [&targets.data_dir, parent(&targets.database)] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let locks = claim::lock_all(&targets.data_dir, &targets.database, RESTORE).await;
        let mut locks = Vec::from(locks.with_context(|| format!("`leadwire {RESTORE}` does not run beside a server"))?);

        let content = self.data.path().join("content");
        locks.push(Lock::take(&claim::data_dir_lock(&content), "the restored data directory", RESTORE).await?);
        // A database within the data directory has its lock file there.
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
        // Last: without it, no server starts on half of a backup without a word.
        put(&self.database.path().join("database"), &targets.database)
    }
}

/// Gives a folder its name. In its place may be one that holds nothing but lock files.
fn put_folder(staged: &TempDir, target: &Path) -> Result<()> {
    match fs::rename(target, staged.path().join("replaced")) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", target.display()))
        }
        _ => put(&staged.path().join("content"), target),
    }
}

/// Gives a part its name, down to the disk.
fn put(staged: &Path, target: &Path) -> Result<()> {
    let put = || {
        DirBuilder::new().recursive(true).mode(0o700).create(parent(target))?;
        fs::rename(staged, target)?;
        fs::File::open(parent(target))?.sync_all()
    };
    put().with_context(|| format!("cannot put {} in place", target.display()))
}

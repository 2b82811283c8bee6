//! `leadwire restore FILE`: puts a backup in place of what is there, for a server that is stopped.
//!
//! Everything is taken out beside its target and checked before the first rename. What was there is moved aside, never
//! deleted. The log gets another epoch, because clients may have seen seqs that it will issue again.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
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
    plugin::bulletin,
    store::copy,
};

#[derive(Args)]
pub(in crate::cli) struct Restore {
    /// A file that `leadwire backup` wrote
    file: PathBuf,
    /// Move what is there aside, where there is something
    #[arg(long)]
    force: bool,
}

/// What a SQLite database keeps beside its file.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

pub(in crate::cli) fn run(restore: &Restore, options: &Options) -> Result<()> {
    let config = options.load()?;
    let targets = Targets::of(&config, options)?;
    refuse_beside_a_server(&targets)?;
    let occupied = targets.occupied()?;
    if !occupied.is_empty() && !restore.force {
        bail!(
            "there is something already: {}; with --force it is moved aside, and nothing is deleted",
            occupied.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    }

    let staged = Staged::new(&targets)?;
    let told = |error: anyhow::Error| error.context(format!("cannot restore {}", restore.file.display()));
    let manifest =
        archive::read(&restore.file, |place, content| write_new(&staged.path(place)?, content)).map_err(told)?;
    let epoch = runtime()?.block_on(staged.finish(&manifest)).map_err(told)?;

    // Somebody may have started one meanwhile.
    refuse_beside_a_server(&targets)?;
    let aside = targets.move_aside(&occupied)?;
    staged.put_in_place(&targets)?;

    let Manifest { created_at, database, files, .. } = &manifest;
    say(format_args!(
        "restored the backup of {created_at}: {} leads, {} users, the log up to {}, {} files; its epoch is {epoch} now, \
         so that clients fetch again",
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

    /// What has to go out of the way.
    fn occupied(&self) -> Result<Vec<PathBuf>> {
        let mut occupied = Vec::new();
        let names = [""].into_iter().chain(BESIDE);
        let database = names.map(|suffix| with_suffix(&self.database, suffix));
        occupied.extend(database.filter(|path| fs::symlink_metadata(path).is_ok()));
        for folder in [Some(&self.data_dir), self.plugins.as_ref()].into_iter().flatten() {
            match fs::read_dir(folder) {
                Ok(mut entries) => occupied.extend(entries.next().map(|_| folder.clone())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
            }
        }
        Ok(occupied)
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
    if let Some(server) = bulletin::read(&targets.data_dir)? {
        bail!("a server (pid {}) runs on {}: stop it first", server["pid"], targets.data_dir.display());
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

    /// Checks the database and names its log anew; returns the new epoch.
    async fn finish(&self, manifest: &Manifest) -> Result<String> {
        let database = self.database.path().join("database");
        let contents = copy::check(&database).await.context("the database in it cannot be used")?;
        if contents != manifest.database {
            bail!("the database in it is not the one that its manifest tells of");
        }
        copy::renew_epoch(&database).await.context("the database in it cannot be given another epoch")
    }

    fn put_in_place(&self, targets: &Targets) -> Result<()> {
        put(&self.data.path().join("content"), &targets.data_dir)?;
        if let (Some(staged), Some(folder)) = (&self.plugins, &targets.plugins) {
            put(&staged.path().join("content"), folder)?;
        }
        let config = self.config.path().join("config");
        if targets.takes_config && config.exists() {
            put(&config, &targets.config)?;
        }
        // Last: without it, no server starts on half of a backup without a word.
        put(&self.database.path().join("database"), &targets.database)
    }
}

/// Gives a part its name, down to the disk. An empty folder may be in its place.
fn put(staged: &Path, target: &Path) -> Result<()> {
    let put = || {
        DirBuilder::new().recursive(true).mode(0o700).create(parent(target))?;
        fs::rename(staged, target)?;
        fs::File::open(parent(target))?.sync_all()
    };
    put().with_context(|| format!("cannot put {} in place", target.display()))
}

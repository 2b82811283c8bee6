//! Secret that signs tokens if the operator configured none: created once, and kept in the data directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tracing::warn;

use crate::auth::settings::{MIN_SECRET_BYTES, Secret};

const FILE: &str = "jwt-secret";

/// Creates the data directory if it does not exist, and restricts it to its owner.
pub(crate) fn make_data_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot create the data directory {}", dir.display()))?;
    let found = fs::metadata(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mode = found.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700)).with_context(|| {
        let name = dir.display();
        format!("the data directory {name} holds secrets and has mode {mode:04o}, expected 0700, and chmod failed")
    })?;
    warn!("the data directory {} had mode {mode:04o}, accessible to other users: changed to 0700", dir.display());
    Ok(())
}

/// Returns the secret kept in `dir`; if there is none, creates one and also returns the path of its file.
pub(crate) fn keep(dir: &Path) -> Result<(Secret, Option<PathBuf>)> {
    let path = dir.join(FILE);
    if let Some(secret) = read(&path)? {
        return Ok((secret, None));
    }
    let made = make(dir, &path).with_context(|| format!("cannot write {}", path.display()))?;
    let secret = read(&path)?.with_context(|| format!("{} disappeared", path.display()))?;
    Ok((secret, made.then_some(path)))
}

fn read(path: &Path) -> Result<Option<Secret>> {
    let open = File::open(path);
    if open.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    let context = || format!("cannot read {}", path.display());
    let mut file = open.with_context(context)?;
    let mode = file.metadata().with_context(context)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("{}: expected mode 0600, because it holds a secret, found {mode:04o}", path.display());
    }
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(context)?;
    let text = text.trim();
    if text.len() < MIN_SECRET_BYTES {
        bail!("{}: expected at least {MIN_SECRET_BYTES} bytes, found {}", path.display(), text.len());
    }
    Ok(Some(Secret::new(text)))
}

/// Writes a new secret under a temporary name and links it into place, so that nobody ever reads half of one, and two
/// servers that start at once agree on one. False when another process was faster.
fn make(dir: &Path, path: &Path) -> std::io::Result<bool> {
    let aside = dir.join(format!(".{FILE}.{}", uuid::Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let written = file
        .write_all(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()).as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&aside, path));
    fs::remove_file(&aside)?;
    match written {
        Ok(()) => {
            File::open(dir)?.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

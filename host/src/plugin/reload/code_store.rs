//! Code of the generations, stored by hash so that they can be brought back whatever becomes of their files.
//!
//! It is in `<data dir>/plugin-state/kept`.

use std::{collections::BTreeSet, fs, io, path::Path};

use crate::{
    files::{self, FileAccess},
    plugin::{
        active::rollout::{Rollout, Rollouts},
        contract::hash::{digest, is_hash},
        reload::state_file::directory,
    },
};

/// Directory below that of the state files, which is watched; what is in here is not.
pub(crate) const CODE_DIR: &str = "kept";
/// Largest size of a component under any limit, in bytes.
const MAX_CODE: u64 = 1 << 30;

pub(crate) fn save(dir: &Path, hash: &str, code: &[u8]) -> io::Result<()> {
    let file = dir.join(format!("{hash}.wasm"));
    match files::read(&file, MAX_CODE) {
        Ok(known) if known == code => Ok(()),
        _ => fs::create_dir_all(dir).and_then(|()| files::replace(&file, code, FileAccess::Owner)),
    }
}

/// Reads the code of a generation; the error says what is wrong with the stored file.
pub(crate) fn load(data_dir: &Path, hash: &str) -> Result<Vec<u8>, String> {
    let file = directory(data_dir).join(CODE_DIR).join(format!("{hash}.wasm"));
    let code = files::read(&file, MAX_CODE).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    if digest(&code) != hash {
        return Err(format!("{} is damaged", file.display()));
    }
    Ok(code)
}

/// Deletes the code of generations that nobody can bring back, and what a killed process left of such code. Whoever
/// calls this holds the lock of the state files, as writers of code do.
pub(crate) fn clean_up(dir: &Path, rollouts: &Rollouts) -> io::Result<()> {
    let wanted: BTreeSet<&str> = rollouts.values().flat_map(Rollout::hashes).collect();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let unfinished = files::unfinished(name);
        let hash = unfinished.unwrap_or(name).strip_suffix(".wasm").filter(|hash| is_hash(hash));
        // Any other file there is not ours.
        if hash.is_some_and(|hash| unfinished.is_some() || !wanted.contains(hash)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

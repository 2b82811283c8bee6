//! Generations of each plugin, the active one and the one before it, kept across restarts in
//! `<data dir>/plugin-state/generations.json`, with their code beside it by hash.
//!
//! The files in the plugin directory are not always the active ones: the gate holds a reload, an operator drops it or
//! brings the generation before back. Each of these is a change of this file alone, under a lock, so that the command
//! line makes it in the same way as a running server, which notices by itself.

use std::path::{Path, PathBuf};

use crate::plugin::{
    active::rollout::{Artifact, Rollout, RolloutCommand, RolloutError, Rollouts},
    contract::error::Error,
    reload::{
        code_store::{CODE_DIR, clean_up, load, save},
        state_file::{self, StateFile, directory},
    },
};

/// Applies a command to the file, and returns the artifact to activate; a running server notices by itself.
///
/// `rehearse` checks that the artifact would become active: once the command is recorded, nothing else is loaded, not
/// even at the next start.
pub(crate) fn shift(
    data_dir: &Path,
    name: &str,
    shift: &RolloutCommand,
    rehearse: impl FnOnce(&Rollout, &Artifact) -> Result<(), RolloutError>,
) -> Result<Option<Artifact>, RolloutError> {
    let mut done = Err(RolloutError::Unknown);
    update(data_dir, &[], |rollouts| {
        let Some(rollout) = rollouts.get_mut(name) else { return };
        let mut shifted = rollout.clone();
        done = shifted.shift(shift).and_then(|wanted| {
            if let (RolloutCommand::RollBack { .. }, Some(wanted)) = (shift, &wanted) {
                load(data_dir, &wanted.hash).map_err(RolloutError::NotStored)?;
            }
            wanted.as_ref().map_or(Ok(()), |wanted| rehearse(&shifted, wanted))?;
            Ok(wanted)
        });
        if done.is_ok() {
            *rollout = shifted;
        }
    })?;
    done
}

const FILE: StateFile = StateFile { name: "generations.json", bears: "the held and rolled-back generations" };

/// Path of the file of the generations.
pub(crate) fn file(data_dir: &Path) -> PathBuf {
    FILE.path(data_dir)
}

pub(crate) fn read(data_dir: &Path) -> Result<Rollouts, Error> {
    FILE.read(data_dir)
}

/// Changes the recorded generations, and stores the code of new ones by hash, so that they can be brought back
/// whatever becomes of their files. Writes nothing when nothing changed.
pub(crate) fn update(data_dir: &Path, code: &[(&str, &[u8])], change: impl FnOnce(&mut Rollouts)) -> Result<(), Error> {
    let _lock = state_file::lock(data_dir)?;
    let dir = directory(data_dir).join(CODE_DIR);
    let failed = |source| Error::DataDirectory { dir: dir.clone(), source };
    code.iter().try_for_each(|(hash, code)| save(&dir, hash, code)).map_err(failed)?;
    let changed = FILE.change(data_dir, |rollouts: &mut Rollouts| {
        change(rollouts);
        rollouts.retain(|_, rollout| !rollout.is_empty());
    })?;
    changed.map_or(Ok(()), |rollouts| clean_up(&dir, &rollouts)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::contract::{diff::Comparison, hash::digest};
    use std::fs;

    fn artifact(version: &str) -> Artifact {
        Artifact { hash: digest(version.as_bytes()), version: version.into(), settings: String::new() }
    }

    /// Rollout with version 2 active and version 1 before it.
    fn rollout() -> Rollout {
        let mut rollout = Rollout::default();
        rollout.take(artifact("1"));
        rollout.take(artifact("2"));
        rollout
    }

    fn versions(rollout: &Rollout) -> [&str; 2] {
        [&rollout.current, &rollout.previous].map(|artifact| artifact.as_ref().map_or("", |artifact| &artifact.version))
    }

    #[test]
    fn two_rollbacks_restore_the_initial_state() {
        let mut rollout = rollout();
        let before = rollout.clone();
        rollout.shift(&RolloutCommand::RollBack { from: None }).expect("there is one before");
        assert_eq!(versions(&rollout), ["1", "2"]);
        assert!(rollout.sets_aside(&artifact("2")) && !rollout.sets_aside(&artifact("3")));
        assert_eq!(rollout.rolled_back_from, Some(artifact("2").hash));
        rollout.shift(&RolloutCommand::RollBack { from: None }).expect("there is one before");
        assert_eq!(rollout, before);
    }

    #[test]
    fn promotion_requires_the_hash_of_the_held_candidate() {
        let mut rollout = rollout();
        rollout.hold(artifact("4"), Comparison::default(), 0.1);
        let before = rollout.clone();
        let other = rollout.shift(&RolloutCommand::Promote { hash: Some(artifact("3").hash) });
        assert!(matches!(other, Err(RolloutError::OtherHeld(hash)) if hash == artifact("4").hash));
        assert_eq!(rollout, before);
        rollout.shift(&RolloutCommand::Promote { hash: Some(artifact("4").hash) }).expect("held");
        assert!(rollout.wants(&artifact("4")));
    }

    #[test]
    fn a_grant_change_makes_no_generation() {
        let mut rollout = rollout();
        rollout.take(Artifact { settings: "[grant]\nhooks = []".into(), ..artifact("2") });
        assert_eq!(versions(&rollout), ["2", "1"]);
        assert_eq!(rollout.current.expect("in force").settings, "[grant]\nhooks = []");
    }

    #[test]
    fn a_repeated_rollback_does_not_roll_forward() {
        let (mut rollout, from) = (rollout(), Some(artifact("2").hash));
        rollout.shift(&RolloutCommand::RollBack { from: from.clone() }).expect("there is one before");
        let again = rollout.shift(&RolloutCommand::RollBack { from });
        assert!(matches!(again, Err(RolloutError::OtherInForce(hash)) if hash == artifact("1").hash));
        assert_eq!(versions(&rollout), ["1", "2"]);
    }

    #[test]
    fn a_held_candidate_is_promoted_or_dropped_once() {
        let mut held = rollout();
        held.hold(artifact("3"), Comparison::default(), 0.1);
        assert!(held.sets_aside(&artifact("3")) && !held.wants(&artifact("3")));

        let mut promoted = held.clone();
        promoted.shift(&RolloutCommand::Promote { hash: None }).expect("held");
        assert!(promoted.wants(&artifact("3")) && !promoted.sets_aside(&artifact("3")));
        assert!(matches!(promoted.shift(&RolloutCommand::Promote { hash: None }), Err(RolloutError::NothingHeld)));
        promoted.take(artifact("3"));
        assert_eq!(versions(&promoted), ["3", "2"]);

        held.shift(&RolloutCommand::Drop).expect("held");
        assert!(held.sets_aside(&artifact("3")));
        assert!(matches!(held.shift(&RolloutCommand::Promote { hash: None }), Err(RolloutError::NothingHeld)));
        assert!(matches!(held.shift(&RolloutCommand::Drop), Err(RolloutError::NothingHeld)));
    }

    #[test]
    fn a_rollback_of_the_active_generation_keeps_the_held_candidate() {
        let mut rollout = rollout();
        rollout.hold(artifact("3"), Comparison::default(), 0.1);
        rollout.shift(&RolloutCommand::RollBack { from: None }).expect("there is one before");
        assert_eq!(versions(&rollout), ["1", "2"]);
        rollout.shift(&RolloutCommand::Promote { hash: None }).expect("still held");
        assert!(rollout.wants(&artifact("3")));
    }

    #[test]
    fn settings_compare_equal_without_comments_grants_secret_and_enabled() {
        let with = |settings: &str| Artifact { settings: settings.into(), ..artifact("1") };
        assert!(with("order = 1").is(&with("# first\norder = 1\nenabled = false")));
        let secret = "webhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        assert!(with("order = 1").is(&with(&format!("order = 1\n{secret}\n[grant]\neffects = [\"webhook\"]"))));
        assert!(!with("order = 1").is(&with("order = 2")));
        assert!(with("= =").is(&with("= =")) && !with("= =").is(&with("=")));
    }

    #[test]
    fn code_is_kept_while_a_rollback_needs_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let code = |version: &str| load(dir.path(), &artifact(version).hash);
        for version in ["1", "2", "3"] {
            let (hash, take) = (artifact(version).hash, |rollout: &mut Rollout| rollout.take(artifact(version)));
            let change = |rollouts: &mut Rollouts| take(rollouts.entry("a".into()).or_default());
            update(dir.path(), &[(&hash, version.as_bytes())], change).expect("written");
        }
        assert!(code("1").is_err());
        assert_eq!((code("2"), code("3")), (Ok(b"2".to_vec()), Ok(b"3".to_vec())));
        let good = |_: &Rollout, _: &Artifact| Ok(());
        assert!(matches!(shift(dir.path(), "b", &RolloutCommand::Drop, good), Err(RolloutError::Unknown)));
        let file = directory(dir.path()).join(CODE_DIR).join(format!("{}.wasm", artifact("2").hash));
        let back = || shift(dir.path(), "a", &RolloutCommand::RollBack { from: None }, good);
        fs::write(&file, "x").expect("written");
        assert!(code("2").expect_err("damaged").ends_with("is damaged"));
        assert!(matches!(back(), Err(RolloutError::NotStored(_))));
        fs::write(&file, "2").expect("written");
        back().expect("there is one before");
        assert_eq!(versions(&read(dir.path()).expect("read")["a"]), ["2", "3"]);
    }

    #[test]
    fn invalid_generations_are_not_read_and_foreign_files_are_not_deleted() {
        let dir = tempfile::tempdir().expect("a folder");
        let code_dir = directory(dir.path()).join(CODE_DIR);
        fs::create_dir_all(code_dir.join("copies")).expect("a folder");
        fs::write(code_dir.join("notes.txt"), "mine").expect("written");
        let left_by_a_killed_process = code_dir.join(format!(".{}.wasm.x7Kq2P.part", artifact("1").hash));
        fs::write(&left_by_a_killed_process, "half").expect("written");
        let take = |rollouts: &mut Rollouts| rollouts.entry("a".into()).or_default().take(artifact("1"));
        update(dir.path(), &[], take).expect("written");
        assert!(code_dir.join("copies").exists() && code_dir.join("notes.txt").exists());
        assert!(!left_by_a_killed_process.exists());

        let text = fs::read_to_string(file(dir.path())).expect("there");
        fs::write(file(dir.path()), text.replace(&artifact("1").hash, "../../secret")).expect("written");
        let error = read(dir.path()).expect_err("no hash").to_string();
        assert!(error.contains("generations.json is damaged: \"../../secret\" is not a hash"), "{error}");
    }
}

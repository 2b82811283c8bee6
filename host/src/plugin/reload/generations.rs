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
        code_store::{KEPT, clean_up, keep, kept},
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
    update(data_dir, &[], |standings| {
        let Some(standing) = standings.get_mut(name) else { return };
        let mut shifted = standing.clone();
        done = shifted.shift(shift).and_then(|wanted| {
            if let (RolloutCommand::RollBack { .. }, Some(wanted)) = (shift, &wanted) {
                kept(data_dir, &wanted.hash).map_err(RolloutError::NotKept)?;
            }
            wanted.as_ref().map_or(Ok(()), |wanted| rehearse(&shifted, wanted))?;
            Ok(wanted)
        });
        if done.is_ok() {
            *standing = shifted;
        }
    })?;
    done
}

const FILE: StateFile = StateFile { name: "generations.json", bears: "the held and rolled-back generations" };

/// Path of the file that the generations are kept in.
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
    let dir = directory(data_dir).join(KEPT);
    let failed = |source| Error::DataDirectory { dir: dir.clone(), source };
    code.iter().try_for_each(|(hash, code)| keep(&dir, hash, code)).map_err(failed)?;
    let changed = FILE.change(data_dir, |standings: &mut Rollouts| {
        change(standings);
        standings.retain(|_, standing| !standing.is_empty());
    })?;
    changed.map_or(Ok(()), |standings| clean_up(&dir, &standings)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::contract::{diff::Comparison, hash::digest};
    use std::fs;

    fn making(version: &str) -> Artifact {
        Artifact { hash: digest(version.as_bytes()), version: version.into(), settings: String::new() }
    }

    /// Rollout with version 2 active and version 1 before it.
    fn standing() -> Rollout {
        let mut standing = Rollout::default();
        standing.take(making("1"));
        standing.take(making("2"));
        standing
    }

    fn versions(standing: &Rollout) -> [&str; 2] {
        [&standing.current, &standing.previous].map(|making| making.as_ref().map_or("", |making| &making.version))
    }

    #[test]
    fn two_rollbacks_restore_the_initial_state() {
        let mut standing = standing();
        let before = standing.clone();
        standing.shift(&RolloutCommand::RollBack { from: None }).expect("there is one before");
        assert_eq!(versions(&standing), ["1", "2"]);
        assert!(standing.sets_aside(&making("2")) && !standing.sets_aside(&making("3")));
        assert_eq!(standing.rolled_back_from, Some(making("2").hash));
        standing.shift(&RolloutCommand::RollBack { from: None }).expect("there is one before");
        assert_eq!(standing, before);
    }

    #[test]
    fn promotion_requires_the_hash_of_the_held_candidate() {
        let mut standing = standing();
        standing.hold(making("4"), Comparison::default(), 0.1);
        let before = standing.clone();
        let other = standing.shift(&RolloutCommand::Promote { hash: Some(making("3").hash) });
        assert!(matches!(other, Err(RolloutError::OtherHeld(hash)) if hash == making("4").hash));
        assert_eq!(standing, before);
        standing.shift(&RolloutCommand::Promote { hash: Some(making("4").hash) }).expect("held");
        assert!(standing.wants(&making("4")));
    }

    #[test]
    fn a_grant_change_makes_no_generation() {
        let mut standing = standing();
        standing.take(Artifact { settings: "[grant]\nhooks = []".into(), ..making("2") });
        assert_eq!(versions(&standing), ["2", "1"]);
        assert_eq!(standing.current.expect("in force").settings, "[grant]\nhooks = []");
    }

    #[test]
    fn a_repeated_rollback_does_not_roll_forward() {
        let (mut standing, from) = (standing(), Some(making("2").hash));
        standing.shift(&RolloutCommand::RollBack { from: from.clone() }).expect("there is one before");
        let again = standing.shift(&RolloutCommand::RollBack { from });
        assert!(matches!(again, Err(RolloutError::OtherInForce(hash)) if hash == making("1").hash));
        assert_eq!(versions(&standing), ["1", "2"]);
    }

    #[test]
    fn a_held_candidate_is_promoted_or_dropped_once() {
        let mut held = standing();
        held.hold(making("3"), Comparison::default(), 0.1);
        assert!(held.sets_aside(&making("3")) && !held.wants(&making("3")));

        let mut promoted = held.clone();
        promoted.shift(&RolloutCommand::Promote { hash: None }).expect("held");
        assert!(promoted.wants(&making("3")) && !promoted.sets_aside(&making("3")));
        assert!(matches!(promoted.shift(&RolloutCommand::Promote { hash: None }), Err(RolloutError::NothingHeld)));
        promoted.take(making("3"));
        assert_eq!(versions(&promoted), ["3", "2"]);

        held.shift(&RolloutCommand::Drop).expect("held");
        assert!(held.sets_aside(&making("3")));
        assert!(matches!(held.shift(&RolloutCommand::Promote { hash: None }), Err(RolloutError::NothingHeld)));
        assert!(matches!(held.shift(&RolloutCommand::Drop), Err(RolloutError::NothingHeld)));
    }

    #[test]
    fn a_rollback_of_the_active_generation_keeps_the_held_candidate() {
        let mut standing = standing();
        standing.hold(making("3"), Comparison::default(), 0.1);
        standing.shift(&RolloutCommand::RollBack { from: None }).expect("there is one before");
        assert_eq!(versions(&standing), ["1", "2"]);
        standing.shift(&RolloutCommand::Promote { hash: None }).expect("still held");
        assert!(standing.wants(&making("3")));
    }

    #[test]
    fn settings_compare_equal_without_comments_grants_secret_and_enabled() {
        let with = |settings: &str| Artifact { settings: settings.into(), ..making("1") };
        assert!(with("order = 1").is(&with("# first\norder = 1\nenabled = false")));
        let secret = "webhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        assert!(with("order = 1").is(&with(&format!("order = 1\n{secret}\n[grant]\neffects = [\"webhook\"]"))));
        assert!(!with("order = 1").is(&with("order = 2")));
        assert!(with("= =").is(&with("= =")) && !with("= =").is(&with("=")));
    }

    #[test]
    fn code_is_kept_while_a_rollback_needs_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let code = |version: &str| kept(dir.path(), &making(version).hash);
        for version in ["1", "2", "3"] {
            let (hash, take) = (making(version).hash, |standing: &mut Rollout| standing.take(making(version)));
            let change = |standings: &mut Rollouts| take(standings.entry("a".into()).or_default());
            update(dir.path(), &[(&hash, version.as_bytes())], change).expect("written");
        }
        assert!(code("1").is_err());
        assert_eq!((code("2"), code("3")), (Ok(b"2".to_vec()), Ok(b"3".to_vec())));
        let good = |_: &Rollout, _: &Artifact| Ok(());
        assert!(matches!(shift(dir.path(), "b", &RolloutCommand::Drop, good), Err(RolloutError::Unknown)));
        let file = directory(dir.path()).join(KEPT).join(format!("{}.wasm", making("2").hash));
        let back = || shift(dir.path(), "a", &RolloutCommand::RollBack { from: None }, good);
        fs::write(&file, "x").expect("written");
        assert!(code("2").expect_err("damaged").ends_with("is damaged"));
        assert!(matches!(back(), Err(RolloutError::NotKept(_))));
        fs::write(&file, "2").expect("written");
        back().expect("there is one before");
        assert_eq!(versions(&read(dir.path()).expect("read")["a"]), ["2", "3"]);
    }

    #[test]
    fn invalid_generations_are_not_read_and_foreign_files_are_not_deleted() {
        let dir = tempfile::tempdir().expect("a folder");
        let kept = directory(dir.path()).join(KEPT);
        fs::create_dir_all(kept.join("copies")).expect("a folder");
        fs::write(kept.join("notes.txt"), "mine").expect("written");
        let left_by_a_killed_process = kept.join(format!(".{}.wasm.x7Kq2P.part", making("1").hash));
        fs::write(&left_by_a_killed_process, "half").expect("written");
        let take = |standings: &mut Rollouts| standings.entry("a".into()).or_default().take(making("1"));
        update(dir.path(), &[], take).expect("written");
        assert!(kept.join("copies").exists() && kept.join("notes.txt").exists());
        assert!(!left_by_a_killed_process.exists());

        let text = fs::read_to_string(file(dir.path())).expect("there");
        fs::write(file(dir.path()), text.replace(&making("1").hash, "../../secret")).expect("written");
        let error = read(dir.path()).expect_err("no hash").to_string();
        assert!(error.contains("generations.json is damaged: \"../../secret\" is not a hash"), "{error}");
    }
}

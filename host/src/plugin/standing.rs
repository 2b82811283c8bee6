//! Which generation of each plugin is in force and which was before it, kept across restarts in
//! `<data dir>/plugin-state/generations.json`, with their code beside it by hash.
//!
//! What stands in the plugin directory is not always what is in force: the gate holds a reload, an operator drops it
//! or brings the generation before back. Each of these is a change of this file alone, under a lock, so that the
//! command line makes it in the same way as a running server, which takes note by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest, Sha256};

use super::{
    Comparison,
    error::Error,
    file,
    settings::PluginSettings,
    state_file::{self, StateFile, directory, replace},
};

pub(super) type Standings = BTreeMap<String, Standing>;

/// The generations of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Standing {
    /// What is in force, or was when the plugin last was.
    pub(super) current: Option<Making>,
    pub(super) previous: Option<Making>,
    /// The hash of what was in force when the generation before it was brought back.
    pub(super) rolled_back_from: Option<String>,
    /// What stands in the directory and is not taken.
    pub(super) aside: Option<Aside>,
    /// What an operator let through the gate.
    promoted: Option<Making>,
}

/// What a generation is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Making {
    /// SHA-256 of the code.
    #[serde(deserialize_with = "hash")]
    pub(super) hash: String,
    pub(super) version: String,
    /// The text of `<name>.toml`.
    pub(super) settings: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Aside {
    #[serde(flatten)]
    pub(super) making: Making,
    pub(super) why: Why,
    pub(super) reason: String,
    /// What the gate saw.
    pub(super) comparison: Option<Comparison>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Why {
    /// By the gate, until an operator says what is to become of it.
    Held,
    Dropped,
    RolledBack,
}

/// What an operator does about a plugin's generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shift {
    /// Puts in force what the gate holds; with a hash, only if that is what it holds.
    Promote { hash: Option<String> },
    /// Forgets what the gate holds, until the files change again.
    Drop,
    /// Brings back the generation before the one in force; with a hash, only if that is the one in force.
    RollBack { from: Option<String> },
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ShiftError {
    #[error("there is no such plugin")]
    Unknown,
    #[error("nothing of this plugin is held")]
    NothingHeld,
    #[error("another candidate is held: {0}")]
    OtherHeld(String),
    #[error("no generation before the one in force is known")]
    NothingBefore,
    #[error("the generation before the one in force cannot be brought back: {0}")]
    NotKept(String),
    #[error("another generation is in force: {0}")]
    OtherInForce(String),
    #[error("it would not come into force, so nothing was changed: {0}")]
    Useless(String),
    /// What was found out about it beforehand held no more.
    #[error("it was written down, and did not come into force: {0}")]
    NotInForce(String),
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Making {
    /// Whether both make the same plugin. Comments do not count, nor what an operator says of every generation: whether
    /// it takes part, what it is granted, what signs its webhooks.
    pub(super) fn is(&self, other: &Self) -> bool {
        let every = PluginSettings::default();
        let settings = |text| PluginSettings::parse(text).map(|settings| settings.allowed_by(&every));
        self.hash == other.hash
            && (self.settings == other.settings
                || settings(&self.settings).is_ok_and(|own| Ok(own) == settings(&other.settings)))
    }
}

impl Standing {
    /// Whether these files are not to be taken.
    pub(super) fn sets_aside(&self, files: &Making) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.making.is(files))
    }

    /// Whether an operator wants these files in force, whatever they change.
    pub(super) fn wants(&self, files: &Making) -> bool {
        [&self.current, &self.promoted].into_iter().flatten().any(|wanted| wanted.is(files))
    }

    /// Takes note that what stands in the directory is in force.
    pub(super) fn take(&mut self, files: Making) {
        let old = self.current.take().filter(|old| !old.is(&files));
        let previous = old.or_else(|| self.previous.take());
        *self = Self { current: Some(files), previous, ..Self::default() };
    }

    /// Puts aside what would change more than `max_change` lets pass.
    pub(super) fn hold(&mut self, making: Making, comparison: Comparison, max_change: f64) {
        let Comparison { differing, role_events, .. } = comparison;
        let reason = format!(
            "of {role_events} answers to recent events it would change {differing}, which is more than \
             gate.max_change = {max_change} lets pass: promote it or drop it"
        );
        self.aside = Some(Aside { making, why: Why::Held, reason, comparison: Some(comparison) });
        self.promoted = None;
    }

    /// Returns what is to come into force by it.
    fn shift(&mut self, shift: &Shift) -> Result<Option<Making>, ShiftError> {
        match shift {
            Shift::Promote { hash } => {
                let held = self.held()?.making.clone();
                if hash.as_ref().is_some_and(|hash| *hash != held.hash) {
                    return Err(ShiftError::OtherHeld(held.hash));
                }
                (self.aside, self.promoted) = (None, Some(held));
                Ok(self.promoted.clone())
            }
            Shift::Drop => {
                let held = self.held()?;
                held.why = Why::Dropped;
                held.reason = "it was dropped; it is looked at again when it changes".into();
                Ok(None)
            }
            Shift::RollBack { from } => {
                self.roll_back(from.as_deref())?;
                Ok(self.current.clone())
            }
        }
    }

    fn held(&mut self) -> Result<&mut Aside, ShiftError> {
        self.aside.as_mut().filter(|aside| aside.why == Why::Held).ok_or(ShiftError::NothingHeld)
    }

    fn roll_back(&mut self, from: Option<&str>) -> Result<(), ShiftError> {
        let (Some(current), Some(previous)) = (&self.current, &self.previous) else {
            return Err(ShiftError::NothingBefore);
        };
        if from.is_some_and(|from| from != current.hash) {
            return Err(ShiftError::OtherInForce(current.hash.clone()));
        }
        // Brought back once, the generation before the one in force is the one that was taken back.
        let from = current.hash.clone();
        self.rolled_back_from = if self.rolled_back_from.is_some() { None } else { Some(from) };
        self.promoted = None;
        self.aside = match self.aside.take() {
            Some(aside) => Some(aside).filter(|aside| !aside.making.is(previous)),
            // The directory has what is in force until now.
            None => Some(Aside {
                making: current.clone(),
                why: Why::RolledBack,
                reason: "it was rolled back; it is taken again when it changes, or by another rollback".into(),
                comparison: None,
            }),
        };
        std::mem::swap(&mut self.current, &mut self.previous);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn hashes(&self) -> impl Iterator<Item = &str> {
        [&self.current, &self.previous].into_iter().flatten().map(|making| making.hash.as_str())
    }
}

/// Does it in the file, and returns what is to come into force by it; a running server takes note by itself.
///
/// `rehearse` finds out whether it would: once it is written down, nothing else is loaded, at the next start neither.
pub(super) fn shift(
    data_dir: &Path,
    name: &str,
    shift: &Shift,
    rehearse: impl FnOnce(&Standing, &Making) -> Result<(), ShiftError>,
) -> Result<Option<Making>, ShiftError> {
    let mut done = Err(ShiftError::Unknown);
    update(data_dir, &[], |standings| {
        let Some(standing) = standings.get_mut(name) else { return };
        let mut shifted = standing.clone();
        done = shifted.shift(shift).and_then(|wanted| {
            if let (Shift::RollBack { .. }, Some(wanted)) = (shift, &wanted) {
                kept(data_dir, &wanted.hash).map_err(ShiftError::NotKept)?;
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

const FILE: StateFile =
    StateFile { name: "generations.json", bears: "which generations are held, rolled back, or can be" };

/// The file that the generations are kept in.
pub(super) fn file(data_dir: &Path) -> PathBuf {
    FILE.path(data_dir)
}

pub(super) fn read(data_dir: &Path) -> Result<Standings, Error> {
    FILE.read(data_dir)
}

/// Changes what is written down, and keeps the code of new generations, by its hash, so that they can be brought back
/// whatever becomes of their files. Nothing is written when nothing changed.
pub(super) fn update(
    data_dir: &Path,
    code: &[(&str, &[u8])],
    change: impl FnOnce(&mut Standings),
) -> Result<(), Error> {
    let _lock = state_file::lock(data_dir)?;
    let dir = directory(data_dir).join(KEPT);
    let failed = |source| Error::DataDirectory { dir: dir.clone(), source };
    code.iter().try_for_each(|(hash, code)| keep(&dir, hash, code)).map_err(failed)?;
    let changed = FILE.change(data_dir, |standings: &mut Standings| {
        change(standings);
        standings.retain(|_, standing| !standing.is_empty());
    })?;
    changed.map_or(Ok(()), |standings| clean_up(&dir, &standings)).map_err(failed)
}

fn keep(dir: &Path, hash: &str, code: &[u8]) -> io::Result<()> {
    let file = dir.join(format!("{hash}.wasm"));
    match file::read(&file, MAX_KEPT) {
        Ok(known) if known == code => Ok(()),
        _ => fs::create_dir_all(dir).and_then(|()| replace(&file, code)),
    }
}

/// The code of a generation; an error says what is wrong with what was kept.
pub(super) fn kept(data_dir: &Path, hash: &str) -> Result<Vec<u8>, String> {
    let file = directory(data_dir).join(KEPT).join(format!("{hash}.wasm"));
    let code = file::read(&file, MAX_KEPT).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    if digest(&code) != hash {
        return Err(format!("{} is damaged", file.display()));
    }
    Ok(code)
}

pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// It names a file.
fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_hash(&text) {
        return Ok(text);
    }
    Err(de::Error::custom(format_args!("the hash {text:?} is none: expected a SHA-256 in hexadecimal")))
}

/// Below the directory of the records, which is watched; what is in here is not.
const KEPT: &str = "kept";
/// The most that a component may have under any limit.
const MAX_KEPT: u64 = 1 << 30;

/// Deletes the code of generations that nobody can bring back.
fn clean_up(dir: &Path, standings: &Standings) -> io::Result<()> {
    let wanted: BTreeSet<&str> = standings.values().flat_map(Standing::hashes).collect();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // Whatever else somebody has put there is not ours.
        let hash = name
            .and_then(|name| name.strip_suffix(".wasm").or(name.strip_suffix(".next")))
            .filter(|hash| is_hash(hash));
        if hash.is_some_and(|hash| !wanted.contains(hash)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making(version: &str) -> Making {
        Making { hash: digest(version.as_bytes()), version: version.into(), settings: String::new() }
    }

    /// In force: 2, before it: 1.
    fn standing() -> Standing {
        let mut standing = Standing::default();
        standing.take(making("1"));
        standing.take(making("2"));
        standing
    }

    fn versions(standing: &Standing) -> [&str; 2] {
        [&standing.current, &standing.previous].map(|making| making.as_ref().map_or("", |making| &making.version))
    }

    #[test]
    fn rolling_back_twice_is_where_it_began() {
        let mut standing = standing();
        let before = standing.clone();
        standing.shift(&Shift::RollBack { from: None }).expect("there is one before");
        assert_eq!(versions(&standing), ["1", "2"]);
        assert!(standing.sets_aside(&making("2")) && !standing.sets_aside(&making("3")));
        assert_eq!(standing.rolled_back_from, Some(making("2").hash));
        standing.shift(&Shift::RollBack { from: None }).expect("there is one before");
        assert_eq!(standing, before);
    }

    #[test]
    fn only_the_candidate_that_was_looked_at_is_promoted() {
        let mut standing = standing();
        standing.hold(making("4"), Comparison::default(), 0.1);
        let before = standing.clone();
        let other = standing.shift(&Shift::Promote { hash: Some(making("3").hash) });
        assert!(matches!(other, Err(ShiftError::OtherHeld(hash)) if hash == making("4").hash));
        assert_eq!(standing, before);
        standing.shift(&Shift::Promote { hash: Some(making("4").hash) }).expect("held");
        assert!(standing.wants(&making("4")));
    }

    #[test]
    fn a_grant_makes_no_generation() {
        let mut standing = standing();
        standing.take(Making { settings: "[grant]\nhooks = []".into(), ..making("2") });
        assert_eq!(versions(&standing), ["2", "1"]);
        assert_eq!(standing.current.expect("in force").settings, "[grant]\nhooks = []");
    }

    #[test]
    fn a_call_that_is_repeated_by_mistake_does_not_roll_forward() {
        let (mut standing, from) = (standing(), Some(making("2").hash));
        standing.shift(&Shift::RollBack { from: from.clone() }).expect("there is one before");
        let again = standing.shift(&Shift::RollBack { from });
        assert!(matches!(again, Err(ShiftError::OtherInForce(hash)) if hash == making("1").hash));
        assert_eq!(versions(&standing), ["1", "2"]);
    }

    #[test]
    fn what_is_held_is_promoted_or_dropped_once() {
        let mut held = standing();
        held.hold(making("3"), Comparison::default(), 0.1);
        assert!(held.sets_aside(&making("3")) && !held.wants(&making("3")));

        let mut promoted = held.clone();
        promoted.shift(&Shift::Promote { hash: None }).expect("held");
        assert!(promoted.wants(&making("3")) && !promoted.sets_aside(&making("3")));
        assert!(matches!(promoted.shift(&Shift::Promote { hash: None }), Err(ShiftError::NothingHeld)));
        promoted.take(making("3"));
        assert_eq!(versions(&promoted), ["3", "2"]);

        held.shift(&Shift::Drop).expect("held");
        assert!(held.sets_aside(&making("3")));
        assert!(matches!(held.shift(&Shift::Promote { hash: None }), Err(ShiftError::NothingHeld)));
        assert!(matches!(held.shift(&Shift::Drop), Err(ShiftError::NothingHeld)));
    }

    #[test]
    fn what_is_held_stays_held_when_the_one_in_force_is_rolled_back() {
        let mut standing = standing();
        standing.hold(making("3"), Comparison::default(), 0.1);
        standing.shift(&Shift::RollBack { from: None }).expect("there is one before");
        assert_eq!(versions(&standing), ["1", "2"]);
        standing.shift(&Shift::Promote { hash: None }).expect("still held");
        assert!(standing.wants(&making("3")));
    }

    #[test]
    fn settings_are_the_same_whatever_their_comments_grants_and_secret_and_whether_it_takes_part() {
        let with = |settings: &str| Making { settings: settings.into(), ..making("1") };
        assert!(with("order = 1").is(&with("# first\norder = 1\nenabled = false")));
        let secret = "webhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        assert!(with("order = 1").is(&with(&format!("order = 1\n{secret}\n[grant]\neffects = [\"webhook\"]"))));
        assert!(!with("order = 1").is(&with("order = 2")));
        assert!(with("= =").is(&with("= =")) && !with("= =").is(&with("=")));
    }

    #[test]
    fn code_is_kept_as_long_as_it_can_be_brought_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let code = |version: &str| kept(dir.path(), &making(version).hash);
        for version in ["1", "2", "3"] {
            let (hash, take) = (making(version).hash, |standing: &mut Standing| standing.take(making(version)));
            let change = |standings: &mut Standings| take(standings.entry("a".into()).or_default());
            update(dir.path(), &[(&hash, version.as_bytes())], change).expect("written");
        }
        assert!(code("1").is_err());
        assert_eq!((code("2"), code("3")), (Ok(b"2".to_vec()), Ok(b"3".to_vec())));
        let good = |_: &Standing, _: &Making| Ok(());
        assert!(matches!(shift(dir.path(), "b", &Shift::Drop, good), Err(ShiftError::Unknown)));
        let file = directory(dir.path()).join(KEPT).join(format!("{}.wasm", making("2").hash));
        let back = || shift(dir.path(), "a", &Shift::RollBack { from: None }, good);
        fs::write(&file, "x").expect("written");
        assert!(code("2").expect_err("damaged").ends_with("is damaged"));
        assert!(matches!(back(), Err(ShiftError::NotKept(_))));
        fs::write(&file, "2").expect("written");
        back().expect("there is one before");
        assert_eq!(versions(&read(dir.path()).expect("read")["a"]), ["2", "3"]);
    }

    #[test]
    fn what_is_no_generation_is_not_read_and_what_is_no_code_is_not_deleted() {
        let dir = tempfile::tempdir().expect("a folder");
        let kept = directory(dir.path()).join(KEPT);
        fs::create_dir_all(kept.join("copies")).expect("a folder");
        fs::write(kept.join("notes.txt"), "mine").expect("written");
        let take = |standings: &mut Standings| standings.entry("a".into()).or_default().take(making("1"));
        update(dir.path(), &[], take).expect("written");
        assert!(kept.join("copies").exists() && kept.join("notes.txt").exists());

        let text = fs::read_to_string(file(dir.path())).expect("there");
        fs::write(file(dir.path()), text.replace(&making("1").hash, "../../secret")).expect("written");
        let error = read(dir.path()).expect_err("no hash").to_string();
        assert!(error.contains("generations.json is damaged: the hash \"../../secret\" is none"), "{error}");
    }
}

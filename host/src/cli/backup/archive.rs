//! Format of a backup: a tar archive, compressed with zstd, whose last file is a manifest with the checksums of all
//! others.
//!
//! Only files that belong to a backup are extracted, each to its one place. Any other entry, such as a path that leads
//! elsewhere or a link, makes the whole archive refused.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    domain::{plugin_name::PluginName, time::Timestamp},
    store::copy::Contents,
};

/// Version of the format.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const MAX_MANIFEST: u64 = 64 << 20;

/// Manifest of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupManifest {
    pub(crate) format: u32,
    /// Version of the program that wrote it.
    pub(crate) leadwire: String,
    pub(crate) created_at: Timestamp,
    pub(crate) database: Contents,
    pub(crate) files: Vec<ArchivedFile>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchivedFile {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// Place of a file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchivePlace {
    Database,
    Config,
    /// Below the data directory.
    Data(PathBuf),
    /// In the plugin folder.
    Plugin(String),
}

impl ArchivePlace {
    pub(crate) const SECRET: &str = "data/jwt-secret";

    /// Parses the path of an archive entry.
    ///
    /// # Errors
    /// When no file of a backup has such a path.
    pub(crate) fn parse(path: &str) -> Result<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let place = match parts[..] {
            ["database.db"] => Self::Database,
            ["leadwire.toml"] => Self::Config,
            ["data", "jwt-secret"] => Self::Data("jwt-secret".into()),
            ["data", "plugin-state", name] if is_named(name, "json", is_plain) => Self::Data(path[5..].into()),
            ["data", "plugin-state", "kept", name] if is_named(name, "wasm", is_hash) => Self::Data(path[5..].into()),
            ["plugins", name] if is_named(name, "wasm", is_plugin) || is_named(name, "toml", is_plugin) => {
                Self::Plugin(name.into())
            }
            _ => bail!("{path:?} does not belong in a backup"),
        };
        Ok(place)
    }
}

fn is_named(name: &str, extension: &str, is_stem: fn(&str) -> bool) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, found)| found == extension && is_stem(stem))
}

fn is_plain(stem: &str) -> bool {
    !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn is_hash(stem: &str) -> bool {
    stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_plugin(stem: &str) -> bool {
    stem.parse::<PluginName>().is_ok()
}

impl fmt::Display for ArchivePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database => formatter.write_str("database.db"),
            Self::Config => formatter.write_str("leadwire.toml"),
            Self::Data(path) => write!(formatter, "data/{}", path.display()),
            Self::Plugin(name) => write!(formatter, "plugins/{name}"),
        }
    }
}

/// Archive that is being written.
pub(crate) struct ArchiveWriter {
    tar: tar::Builder<zstd::Encoder<'static, File>>,
    files: Vec<ArchivedFile>,
}

impl ArchiveWriter {
    pub(crate) fn new(file: File) -> Result<Self> {
        let mut encoder = zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self { tar: tar::Builder::new(encoder), files: Vec::new() })
    }

    pub(crate) fn add(&mut self, place: &ArchivePlace, content: &mut dyn Read, size: u64) -> Result<()> {
        let path = place.to_string();
        let mut hashing = Hashing::new(content);
        append(&mut self.tar, &path, &mut hashing, size).with_context(|| format!("cannot write {path}"))?;
        let (read, sha256) = hashing.finish();
        if read != size {
            bail!("{path} changed size while it was being read");
        }
        self.files.push(ArchivedFile { path, size, sha256 });
        Ok(())
    }

    /// Adds the manifest and syncs the archive.
    pub(crate) fn finish(mut self, database: Contents, created_at: Timestamp) -> Result<()> {
        let leadwire = env!("CARGO_PKG_VERSION").to_owned();
        let manifest = BackupManifest { format: FORMAT, leadwire, created_at, database, files: self.files };
        let bytes = serde_json::to_vec_pretty(&manifest)?;
        append(&mut self.tar, MANIFEST, &mut bytes.as_slice(), bytes.len() as u64)?;
        self.tar.into_inner()?.finish()?.sync_all()?;
        Ok(())
    }
}

fn append(
    tar: &mut tar::Builder<zstd::Encoder<'static, File>>,
    path: &str,
    content: &mut dyn Read,
    size: u64,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o600);
    tar.append_data(&mut header, path, content)
}

/// Passes each file of an archive to `take`, in order, and verifies the whole archive against the manifest.
///
/// # Errors
/// When the archive is damaged or has another format. `take` may have been called before: its output must not be used.
pub(crate) fn read(
    archive: &Path,
    mut take: impl FnMut(&ArchivePlace, &mut dyn Read) -> Result<()>,
) -> Result<BackupManifest> {
    let unread = || format!("cannot read {}", archive.display());
    if !fs::metadata(archive).with_context(unread)?.is_file() {
        bail!("{} is not a file", archive.display());
    }
    let decoder = zstd::Decoder::new(BufReader::new(File::open(archive).with_context(unread)?)).with_context(unread)?;
    let mut tar = tar::Archive::new(decoder);
    let (mut found, mut manifest) = (BTreeMap::new(), None);
    for entry in tar.entries().with_context(unread)? {
        let mut entry = entry.with_context(|| format!("{} is damaged or not a backup", archive.display()))?;
        let path = String::from_utf8(entry.path_bytes().into_owned()).context("a path in it is not UTF-8")?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            bail!("{path:?} is not a regular file");
        }
        if manifest.is_some() {
            bail!("{path:?} comes after the manifest, expected the manifest last");
        }
        if path == MANIFEST {
            let mut text = String::new();
            entry.take(MAX_MANIFEST).read_to_string(&mut text).context("cannot read its manifest")?;
            manifest = Some(serde_json::from_str::<BackupManifest>(&text).context("cannot parse its manifest")?);
            continue;
        }
        let place = ArchivePlace::parse(&path)?;
        let mut hashing = Hashing::new(&mut entry);
        take(&place, &mut hashing)?;
        io::copy(&mut hashing, &mut io::sink()).with_context(unread)?;
        let (size, sha256) = hashing.finish();
        if found.insert(path.clone(), ArchivedFile { path: path.clone(), size, sha256 }).is_some() {
            bail!("{path:?} appears twice");
        }
    }
    // The checksum of the compressed stream is at its end.
    io::copy(&mut tar.into_inner(), &mut io::sink()).with_context(unread)?;
    let manifest = manifest.context("it has no manifest: the backup is incomplete")?;
    if manifest.format != FORMAT {
        bail!("it has format {}: expected {FORMAT}; it was made by leadwire {}", manifest.format, manifest.leadwire);
    }
    for content in &manifest.files {
        match found.remove(&content.path) {
            Some(read) if read == *content => {}
            Some(_) => bail!("{:?} is damaged: checksum mismatch", content.path),
            None => bail!("{:?} is missing", content.path),
        }
    }
    if let Some(path) = found.keys().next() {
        bail!("{path:?} is not in its manifest");
    }
    Ok(manifest)
}

/// Reader that counts and hashes what is read through it.
struct Hashing<'a> {
    content: &'a mut dyn Read,
    digest: Sha256,
    size: u64,
}

impl<'a> Hashing<'a> {
    fn new(content: &'a mut dyn Read) -> Self {
        Self { content, digest: Sha256::new(), size: 0 }
    }

    fn finish(self) -> (u64, String) {
        (self.size, hex::encode(self.digest.finalize()))
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.digest.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::counter::Seq;

    fn contents() -> Contents {
        Contents { epoch: "e".into(), head: Seq(7), migration: 1, leads: 2, users: 1 }
    }

    /// Archive with these entries and a matching manifest.
    fn forge(dir: &Path, entries: &[(&str, tar::EntryType)]) -> PathBuf {
        let path = dir.join("forged");
        let mut writer = ArchiveWriter::new(File::create(&path).expect("made")).expect("begun");
        for (name, kind) in entries {
            let mut header = tar::Header::new_gnu();
            // Written by hand, because the library refuses to write such paths.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(0);
            header.set_mode(0o600);
            if !matches!(kind, tar::EntryType::Regular) {
                header.set_link_name("/etc/passwd").expect("short");
            }
            header.set_cksum();
            writer.tar.append(&header, io::empty()).expect("written");
            let sha256 = Hashing::new(&mut io::empty()).finish().1;
            writer.files.push(ArchivedFile { path: (*name).into(), size: 0, sha256 });
        }
        writer.finish(contents(), Timestamp::from_millis(0).expect("in range")).expect("finished");
        path
    }

    #[test]
    fn an_archive_with_an_escaping_path_or_a_link_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        use tar::EntryType::{Link, Regular, Symlink};
        for (name, kind) in [
            ("../database.db", Regular),
            ("/database.db", Regular),
            ("./database.db", Regular),
            ("plugins/../../x.wasm", Regular),
            ("plugins/..", Regular),
            ("plugins/a/b.wasm", Regular),
            ("plugins/.wasm", Regular),
            ("plugins/x.sh", Regular),
            ("data/plugin-state/../jwt-secret", Regular),
            ("data/plugin-state/kept/a.wasm", Regular),
            ("data/sockets.json", Regular),
            ("plugins/x.wasm", Symlink),
            ("database.db", Link),
        ] {
            let taken = read(&forge(dir.path(), &[(name, kind)]), |place, _| panic!("{place} is taken"));
            assert!(taken.is_err(), "{name}");
        }
        let twice = forge(dir.path(), &[("database.db", Regular), ("database.db", Regular)]);
        assert!(read(&twice, |_, _| Ok(())).expect_err("refused").to_string().contains("twice"));
        let good = forge(dir.path(), &[("database.db", Regular), ("plugins/x.wasm", Regular)]);
        assert_eq!(read(&good, |_, _| Ok(())).expect("read").database, contents());
    }

    #[test]
    fn a_modified_or_truncated_archive_is_detected() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("backup");
        let mut writer = ArchiveWriter::new(File::create(&path).expect("made")).expect("begun");
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        writer.add(&ArchivePlace::Database, &mut content.as_slice(), content.len() as u64).expect("added");
        writer.finish(contents(), Timestamp::from_millis(0).expect("in range")).expect("finished");
        let drain = |_: &ArchivePlace, content: &mut dyn Read| Ok(io::copy(content, &mut io::sink()).map(drop)?);
        read(&path, drain).expect("whole");

        let whole = fs::read(&path).expect("there");
        for length in [0, 10, whole.len() / 2, whole.len() - 5] {
            fs::write(&path, &whole[..length]).expect("written");
            assert!(read(&path, drain).is_err(), "{length} bytes of {}", whole.len());
        }
        for at in [20, whole.len() / 3, whole.len() - 100] {
            let mut changed = whole.clone();
            changed[at] ^= 0x40;
            fs::write(&path, &changed).expect("written");
            assert!(read(&path, drain).is_err(), "byte {at} of {}", whole.len());
        }
    }
}

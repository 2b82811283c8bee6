//! Bounded reads of files that others name or put in place, and atomic replacement of files.
//!
//! Only regular files are read, and symbolic links that lead to one. A FIFO, a device or a socket would block the
//! reader or never end, so none is opened. The open itself does not block either, in case the file is replaced
//! meanwhile.

use std::{
    fs::{self, File, FileType, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// Also when the path leads to something other than a regular file, whose kind the error names, and when the file is
/// too large.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Opening some devices has side effects, so the kind is checked before and after.
    require_regular(metadata(path)?.file_type())?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    require_regular(metadata.file_type())?;

    let mut bytes = Vec::new();
    if metadata.len() <= max {
        // One byte more detects a file that grows.
        file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    let length = metadata.len().max(bytes.len() as u64);
    if length > max {
        let why = format!("the file has {length} bytes; {max} are allowed");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Reads a text file, like [`read`].
///
/// # Errors
/// Also when the file is not UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    let not_text = |error| io::Error::new(io::ErrorKind::InvalidData, format!("the file is not UTF-8: {error}"));
    String::from_utf8(read(path, max)?).map_err(|error| not_text(error.utf8_error()))
}

fn metadata(path: &Path) -> io::Result<Metadata> {
    fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => {
            io::Error::new(io::ErrorKind::InvalidInput, "it is a dangling symbolic link")
        }
        _ => error,
    })
}

fn require_regular(kind: FileType) -> io::Result<()> {
    let found = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "of an unknown kind",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {found}: expected a regular file")))
}

/// End of the name of a hidden file with new content.
const PART: &str = ".part";

/// Permissions of a file that is replaced atomically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// 0600, for files that may contain secrets.
    Owner,
    /// Mode of the replaced file; for a new file, 0666 without the bits of the umask.
    Inherited,
}

/// Replaces a file atomically: readers see the old content or the new one, and so does the next process after a crash.
///
/// The new content is written to a hidden file in the same folder, synced, and renamed.
///
/// # Errors
/// The old file is unchanged, and nothing is left beside it.
pub fn replace(file: &Path, bytes: &[u8], access: FileAccess) -> io::Result<()> {
    let part = write_aside(file, bytes, access)?;
    part.as_file().sync_all()?;
    part.persist(file)?;
    File::open(folder(file))?.sync_all()
}

/// Same as [`replace`], without waiting for the disk: after a power cut the file may be empty.
///
/// # Errors
/// The old file is unchanged, and nothing is left beside it.
pub fn replace_unsynced(file: &Path, bytes: &[u8], access: FileAccess) -> io::Result<()> {
    write_aside(file, bytes, access)?.persist(file)?;
    Ok(())
}

fn write_aside(file: &Path, bytes: &[u8], access: FileAccess) -> io::Result<NamedTempFile> {
    let name = file.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the file has no name"))?;
    let old = fs::metadata(file).ok().filter(|_| access == FileAccess::Inherited).map(|old| old.permissions());
    let mode = if access == FileAccess::Inherited { 0o666 } else { 0o600 };
    let mut part = tempfile::Builder::new()
        .prefix(&format!(".{}.", name.to_string_lossy()))
        .suffix(PART)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder(file))?;
    if let Some(old) = old {
        part.as_file().set_permissions(old)?;
    }
    part.write_all(bytes)?;
    Ok(part)
}

/// Returns the name of the file that a [`replace`] was to replace, if this is the name of its hidden file: a process
/// that is killed meanwhile leaves it.
pub fn unfinished(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(PART)?.rsplit_once('.').map(|(name, _)| name)
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn a_special_file_is_refused_by_kind_without_blocking() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        mkfifoat(CWD, path("fifo"), Mode::RWXU).expect("made");
        let _socket = UnixListener::bind(path("socket")).expect("made");
        fs::create_dir(path("directory")).expect("made");
        symlink("/dev/zero", path("zero")).expect("made");
        symlink(path("fifo"), path("link to a fifo")).expect("made");
        symlink(path("nothing"), path("dangling")).expect("made");
        let error = read(&path("dangling"), 10).expect_err("dangling").to_string();
        assert_eq!(error, "it is a dangling symbolic link");
        assert_eq!(read(&path("nothing"), 10).expect_err("nothing").kind(), io::ErrorKind::NotFound);
        let kinds = [
            ("fifo", "a FIFO"),
            ("socket", "a socket"),
            ("directory", "a directory"),
            ("zero", "a device"),
            ("link to a fifo", "a FIFO"),
        ];
        for (name, kind) in kinds {
            let error = read(&path(name), 10).expect_err(name).to_string();
            assert_eq!(error, format!("it is {kind}: expected a regular file"));
        }
    }

    #[test]
    fn a_file_is_read_up_to_the_limit_also_through_a_symlink() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "ten bytes!").expect("written");
        symlink(&file, &link).expect("made");
        assert_eq!(read_text(&link, 10).expect("read"), "ten bytes!");
        let error = read(&link, 9).expect_err("too large").to_string();
        assert_eq!(error, "the file has 10 bytes; 9 are allowed");
        fs::write(&file, [0xff]).expect("written");
        assert!(read_text(&file, 10).expect_err("no text").to_string().starts_with("the file is not UTF-8: "));
    }

    #[test]
    fn a_file_is_replaced_atomically_without_leftovers() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.wasm");
        replace(&file, b"one", FileAccess::Inherited).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a change of mode");
        replace(&file, b"two", FileAccess::Inherited).expect("written");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&file).expect("there"), b"two");
        assert_eq!(dir.path().read_dir().expect("a folder").count(), 1);
    }

    #[test]
    fn leftovers_of_a_killed_process_are_recognized_by_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let part = write_aside(&dir.path().join("a.wasm"), b"half", FileAccess::Owner).expect("written");
        let name = part.path().file_name().and_then(|name| name.to_str()).expect("a name");
        assert_eq!(unfinished(name), Some("a.wasm"));
        assert_eq!([".a.wasm", "a.wasm.x.part", "a.wasm"].map(unfinished), [None; 3]);
    }
}

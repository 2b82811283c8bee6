//! Checks of disks, owners and modes, and of other processes that use the files.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{fs::statvfs, process::geteuid};

use crate::{
    auth::settings::MIN_SECRET_BYTES,
    cli::doctor::finding::{Examined, Findings},
    files,
    server::claim,
    store::lock::{self, Holder},
};

const LITTLE: u64 = 1 << 30;
const NEXT_TO_NOTHING: u64 = 64 << 20;

pub(crate) fn disk(patient: &Examined, findings: &mut Findings) {
    let mut seen = Vec::new();
    for path in [&patient.database, &patient.data_dir] {
        let folder = existing(path);
        let (Ok(system), Ok(metadata)) = (statvfs(&folder), fs::metadata(&folder)) else { continue };
        if seen.contains(&metadata.dev()) {
            continue;
        }
        seen.push(metadata.dev());
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let size = fs::metadata(&patient.database).map_or(0, |found| found.len());
        let (mib, folder) = (free >> 20, folder.display());
        if system.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            findings.problem("read_only", format!("{folder} is on a read-only file system"), "mount it writable");
        } else if free < NEXT_TO_NOTHING {
            findings.problem(
                "disk_full",
                format!("{mib} MiB are free at {folder}: writes fail, or soon will"),
                "make room; docs/BACKUP.md lists what grows",
            );
        } else if free < LITTLE || free < size {
            findings.warn(
                "disk_low",
                format!("{mib} MiB are free at {folder}: a backup or a migration may not fit"),
                "make room: as much as the database has, and 1 GiB",
            );
        } else {
            findings.ok(format!("{mib} MiB are free at {folder}"));
        }
    }
}

/// Nearest existing folder.
fn existing(path: &Path) -> PathBuf {
    let above =
        path.ancestors().skip(1).map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let own = Some(path).filter(|path| path.is_dir());
    own.into_iter().chain(above).find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

pub(crate) fn data_dir(patient: &Examined, findings: &mut Findings) {
    let before = findings.all.len();
    let beside = ["", "-wal", "-shm"].map(|suffix| {
        let mut path = patient.database.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    });
    for path in beside.iter().chain([&patient.data_dir]) {
        if let Ok(metadata) = fs::metadata(path) {
            ours(path, &metadata, findings);
        }
    }
    if !patient.data_dir.exists() {
        let action = "nothing, if no server has run here yet; else check --data-dir";
        let message = format!("there is no data directory {}", patient.data_dir.display());
        return findings.warn("no_data_dir", message, action);
    }
    if findings.all.len() == before {
        findings.ok(format!("{} and the database belong to this user alone", patient.data_dir.display()));
    }
}

/// Checks that a file belongs to this user and is readable for nobody else.
fn ours(path: &Path, metadata: &Metadata, findings: &mut Findings) {
    let (owner, me, mode) = (metadata.uid(), geteuid().as_raw(), metadata.mode() & 0o777);
    let path = path.display();
    if owner != me && me != 0 {
        findings.problem(
            "other_owner",
            format!("{path} belongs to user {owner}, and this is user {me}"),
            format!("run leadwire as its owner, or `chown {me} {path}`"),
        );
    }
    if mode & 0o077 != 0 {
        let private = if metadata.is_dir() { "0700" } else { "0600" };
        findings.problem(
            "open_to_others",
            format!("{path} has mode {mode:04o}: other users of this machine can access it"),
            format!("chmod {private} {path}"),
        );
    }
}

pub(crate) fn secret(patient: &Examined, findings: &mut Findings) {
    if patient.config.auth.jwt_secret.is_some() {
        return findings.ok("the secret that signs tokens is configured");
    }
    let path = patient.data_dir.join("jwt-secret");
    let shown = path.display();
    match files::read(&path, 1 << 20) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => findings.warn(
            "no_secret",
            format!("there is no {shown}: the next start generates one, which invalidates every session"),
            "nothing for a new server; else restore it from a backup",
        ),
        Err(error) => {
            findings.problem("secret_unread", format!("{shown} cannot be read: {error}"), "check its owner and mode");
        }
        Ok(bytes) if bytes.trim_ascii().len() < MIN_SECRET_BYTES => findings.problem(
            "short_secret",
            format!("{shown} has less than {MIN_SECRET_BYTES} bytes: the server refuses it"),
            "restore it from a backup, or delete it, which invalidates every session",
        ),
        Ok(_) => {
            let before = findings.all.len();
            if let Ok(metadata) = fs::metadata(&path) {
                ours(&path, &metadata, findings);
            }
            if findings.all.len() == before {
                findings.ok("the secret that signs tokens is in the data directory");
            }
        }
    }
}

pub(crate) fn process(patient: &Examined, findings: &mut Findings) {
    let holder = |path: &Path, findings: &mut Findings| match Holder::of(path) {
        Ok(holder) => holder,
        Err(error) => {
            let message = format!("{} cannot be read: {error}", path.display());
            findings.problem("lock_unread", message, "check its owner and mode");
            None
        }
    };
    let before = findings.all.len();
    let by_database = holder(&claim::database_lock(&patient.database), findings);
    let by_data_dir = holder(&claim::data_dir_lock(&patient.data_dir), findings);
    let (database, data_dir) = (patient.database.display(), patient.data_dir.display());
    match (by_database, by_data_dir) {
        (None, None) if findings.all.len() > before => {}
        (None, None) => findings.ok("no server runs on the database or the data directory"),
        (Some(one), Some(other)) if one == other => findings.ok(match one.command.as_str() {
            lock::SERVE => format!("a server runs, pid {}", one.pid),
            _ => format!("{one}, is at work"),
        }),
        (Some(one), None) if one.command != lock::SERVE => findings.ok(format!("{one}, writes to the database")),
        (one, other) => {
            for (holder, has, other) in [
                (one, format!("the database {database}"), "--data-dir"),
                (other, format!("the data directory {data_dir}"), "--database"),
            ] {
                let Some(holder) = holder else { continue };
                findings.warn(
                    "other_process",
                    format!("{holder}, has {has}, and not what belongs to it here"),
                    format!("give the doctor the {other} of that process"),
                );
            }
        }
    }
}

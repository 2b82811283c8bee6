//! Checks of the database: its file, the log, and the write-ahead log.

use std::{ffi::OsString, fs};

use serde::Deserialize;

use crate::{
    cli::doctor::finding::{Examined, Findings},
    domain::{counter::Seq, id::Epoch},
    store::examine::Migrations,
};

/// A write-ahead log that is emptied in time stays smaller.
const LARGE_WAL: u64 = 64 << 20;

pub(crate) fn database(patient: &Examined, findings: &mut Findings) {
    let file = patient.database.display();
    let examination = match &patient.examination {
        None => {
            return findings.problem(
                "no_database",
                format!("there is no database {file}"),
                "check --database and the folder; `leadwire migrate` makes a new one, `leadwire restore` brings a backup back",
            );
        }
        Some(Err(error)) => {
            let error = anyhow::anyhow!("{error}");
            return findings.problem(
                "cannot_open",
                format!("{file} cannot be read: {error:#}"),
                "check that it is the right file and that this user may read it; else restore a backup",
            );
        }
        Some(Ok(examination)) => examination,
    };
    if !examination.damage.is_empty() {
        findings.problem(
            "damaged",
            format!("{file} is damaged: {}", examination.damage.join("; ")),
            "stop the server, keep a copy of the file, and restore the newest good backup; look at the disk",
        );
    }
    for (table, count) in &examination.orphans {
        findings.problem(
            "orphans",
            format!("{count} rows of {table} refer to rows that do not exist"),
            "the file was changed by another program: restore a backup, or repair it with sqlite3",
        );
    }
    match examination.migrations {
        Migrations::UpToDate => {}
        Migrations::Behind(count) => findings.warn(
            "older",
            format!("{file} is from an older version: {count} migrations are to be made"),
            "make a backup; the next `leadwire serve` or `leadwire migrate` brings it up to date",
        ),
        Migrations::Newer(version) => findings.problem(
            "newer",
            format!("{file} is from a newer version: it has migration {version}"),
            "run the newer leadwire, or restore the backup made before the upgrade",
        ),
    }
    let is_whole = examination.damage.is_empty() && examination.orphans.is_empty();
    if is_whole && examination.migrations == Migrations::UpToDate {
        findings.ok(format!("{file} can be read and is consistent"));
    }
}

/// Content of `log.json`, a server's note about the log.
#[derive(Deserialize)]
struct NoteContent {
    epoch: Epoch,
    /// Last seq that a client may have seen, in digits.
    issued: String,
}

impl NoteContent {
    fn parse(bytes: &[u8]) -> Result<(Epoch, Seq), String> {
        let note: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let issued = note.issued.parse();
        Ok((note.epoch, issued.map_err(|_| format!("issued: expected digits, found {:?}", note.issued))?))
    }
}

pub(crate) fn log(patient: &Examined, findings: &mut Findings) {
    let Some(Ok(examination)) = &patient.examination else { return };
    let Some((epoch, head)) = &examination.log else { return };
    let path = patient.data_dir.join("log.json");
    let restart = "nothing: the next start gives the log another epoch, and clients fetch again";
    let note = match &patient.note {
        Ok(bytes) => NoteContent::parse(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match head {
                &Seq::START => findings.ok("the log is empty"),
                _ => findings.warn(
                    "no_note",
                    format!("the log is at {head}, and no server noted that in {}", path.display()),
                    restart,
                ),
            };
        }
        Err(error) => {
            let action = "check its owner and mode";
            return findings.problem("note_unread", format!("{} cannot be read: {error}", path.display()), action);
        }
    };
    match note {
        Err(error) => findings.warn(
            "note_damaged",
            format!("{} is damaged: {error}", path.display()),
            restart,
        ),
        Ok((noted, _)) if noted != *epoch => findings.warn(
            "other_log",
            format!("the data directory knows the log {noted:?}, the database has {epoch:?}"),
            "check that --database and --data-dir belong together; if they do, the next start gives the log another epoch",
        ),
        Ok((_, issued)) if issued > *head => findings.warn(
            "older_copy",
            format!("the log ends at {head} and was at {issued} before: the database is an older copy"),
            restart,
        ),
        Ok(_) => findings.ok(format!("the log is at {head}, epoch {epoch}")),
    }
}

pub(crate) fn wal(patient: &Examined, findings: &mut Findings) {
    let mut path = OsString::from(&patient.database);
    path.push("-wal");
    let Ok(metadata) = fs::metadata(&path) else { return };
    let (size, mib) = (metadata.len(), metadata.len() >> 20);
    if size > LARGE_WAL {
        return findings.warn(
            "large_wal",
            format!("the write-ahead log has {mib} MiB: something reads the database without end, or writes a lot"),
            "end backups, shells and tools that hold the database open; it is emptied when no process reads it",
        );
    }
    findings.ok(format!("the write-ahead log has {mib} MiB"));
}

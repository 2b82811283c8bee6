//! Errors of the database, by what a caller or an operator can do about them.

use std::{fmt, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the database {}", path.display())]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("the database is newer than this program (it has migration {0}): run the newer leadwire")]
    Newer(i64),
    #[error("the database is older than this program: bring it up to date with `leadwire migrate`")]
    Older,
    #[error("cannot migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The value must be unique and exists already.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// All connections are in use; a retry may succeed.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    /// The database cannot be used for the moment. Nothing was changed; it works again once the reason is gone.
    #[error("the database cannot be used at the moment: {outage}")]
    Unavailable { outage: Outage, source: sqlx::Error },
    /// A page of the file, or a value in it, is not what was written: a disk fault, or a manual edit.
    #[error("the database is damaged, {table} cannot be read: {reason}")]
    Corrupt { table: &'static str, reason: String },
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl Error {
    /// Outage behind the error, if it is one.
    pub(crate) fn outage(&self) -> Option<Outage> {
        match self {
            Self::Unavailable { outage, .. } => Some(*outage),
            _ => None,
        }
    }
}

/// Reason why the database cannot be used for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    DiskFull,
    ReadOnly,
    Io,
    OutOfMemory,
    CannotOpen,
    /// Another process has held the write lock for longer than the busy timeout.
    Locked,
    /// The file at that path is not the one that was opened.
    Replaced,
    /// A read was open for longer than the limit.
    TookTooLong,
}

impl Outage {
    /// Stable name in snake_case, for readiness, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::Io => "io_error",
            Self::OutOfMemory => "out_of_memory",
            Self::CannotOpen => "cannot_open",
            Self::Locked => "locked",
            Self::Replaced => "replaced",
            Self::TookTooLong => "took_too_long",
        }
    }

    pub(crate) fn error(self, detail: &str) -> Error {
        Error::Unavailable { outage: self, source: sqlx::Error::Protocol(detail.into()) }
    }

    fn of(error: &sqlx::Error) -> Option<Self> {
        if let sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed = error {
            return Some(Self::Io);
        }
        Some(match primary_code(error)? {
            5 | 6 | 15 => Self::Locked,
            7 => Self::OutOfMemory,
            8 => Self::ReadOnly,
            9 => Self::TookTooLong,
            10 => Self::Io,
            13 => Self::DiskFull,
            14 => Self::CannotOpen,
            _ => return None,
        })
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk is full",
            Self::ReadOnly => "the file system or the database file is read-only",
            Self::Io => "the disk reports an error, or a quota or a limit on the size of files is reached",
            Self::OutOfMemory => "the server is out of memory",
            Self::CannotOpen => "the database file cannot be opened",
            Self::Locked => "another process holds the lock of the database",
            Self::Replaced => "the database file was deleted or replaced",
            Self::TookTooLong => "it took too long",
        })
    }
}

/// Failure of a statement after its reason was determined, passed through sqlx's error type.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Explained {
    #[error("{outage}")]
    Outage { outage: Outage, source: sqlx::Error },
    #[error("{table} is damaged")]
    Damage { table: &'static str, source: sqlx::Error },
}

impl From<Explained> for sqlx::Error {
    fn from(explained: Explained) -> Self {
        Self::AnyDriverError(Box::new(explained))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let error = match error {
            sqlx::Error::AnyDriverError(inner) => match inner.downcast::<Explained>() {
                Ok(explained) => return (*explained).into(),
                Err(inner) => sqlx::Error::AnyDriverError(inner),
            },
            error => error,
        };
        if let sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed = error {
            return Self::Busy(error);
        }
        if is_corrupt(&error) {
            return Explained::Damage { table: "a table", source: error }.into();
        }
        match Outage::of(&error) {
            Some(outage) => Self::Unavailable { outage, source: error },
            None => Self::Database(error),
        }
    }
}

impl From<Explained> for Error {
    fn from(explained: Explained) -> Self {
        match explained {
            Explained::Outage { outage, source } => Self::Unavailable { outage, source },
            Explained::Damage { table, source } => Self::Corrupt { table, reason: source.to_string() },
        }
    }
}

/// Outage behind a failed statement, if it is one.
pub(crate) fn outage(error: &sqlx::Error) -> Option<Outage> {
    match error {
        sqlx::Error::AnyDriverError(inner) => match inner.downcast_ref::<Explained>()? {
            Explained::Outage { outage, .. } => Some(*outage),
            Explained::Damage { .. } => None,
        },
        error => Outage::of(error),
    }
}

/// True for SQLITE_CORRUPT and SQLITE_NOTADB.
pub(crate) fn is_corrupt(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(11 | 26))
}

/// True for SQLITE_CONSTRAINT: the statement was undone, the transaction is unchanged.
pub(crate) fn is_constraint(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(19)
}

/// SQLite's primary result code, without the extended part.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(inner) = error else { return None };
    inner.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn taken(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(inner) if inner.is_unique_violation() => Error::Taken("email"),
        _ => error.into(),
    }
}

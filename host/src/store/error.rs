//! What can go wrong between us and the database.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not a database: expected a file path or sqlite:<path>")]
    Url(String),
    #[error("cannot open the database {}", path.display())]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("the database is newer than this program (it has migration {0}): run the newer leadwire")]
    Newer(i64),
    #[error("the database is older than this program: bring it up to date with `leadwire migrate`")]
    Older,
    #[error("cannot bring the database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Something else has this value already.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// All connections are busy, or another process holds the write lock: trying again later may help.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    #[error("a row of {table} cannot be read: {reason}")]
    Corrupt { table: &'static str, reason: String },
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy(error),
            // SQLITE_BUSY and its extended forms.
            sqlx::Error::Database(inner) if matches!(inner.code().as_deref(), Some("5" | "261" | "517")) => {
                Self::Busy(error)
            }
            _ => Self::Database(error),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

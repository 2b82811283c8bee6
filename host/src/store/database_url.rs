//! Database URL of the configuration: the one place that reads it.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

/// Database that the configuration names: an SQLite file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseUrl {
    file: PathBuf,
}

/// Refusal of a text that names no SQLite file. It does not repeat the text, because a URL may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("database: expected a file such as \"sqlite://leadwire.db\"")]
pub struct InvalidDatabaseUrl;

impl DatabaseUrl {
    /// Path of the database file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn into_file(self) -> PathBuf {
        self.file
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    /// Reads a path, or a URL that begins with `sqlite://` or `sqlite:`.
    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")).unwrap_or(text);
        if path.is_empty() || path.contains("://") || path.contains('?') || path == ":memory:" {
            return Err(InvalidDatabaseUrl);
        }
        Ok(Self { file: path.into() })
    }
}

/// Takes the path as it is, without looking for a scheme.
impl From<PathBuf> for DatabaseUrl {
    fn from(file: PathBuf) -> Self {
        Self { file }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sqlite_files_are_accepted() {
        for text in ["data/leads.db", "sqlite:data/leads.db", "sqlite://data/leads.db"] {
            assert_eq!(text.parse(), Ok(DatabaseUrl::from(PathBuf::from("data/leads.db"))), "{text}");
        }
        for text in ["", "sqlite:", "sqlite://", "sqlite::memory:", ":memory:", "leads.db?mode=ro"] {
            assert_eq!(text.parse::<DatabaseUrl>(), Err(InvalidDatabaseUrl), "{text:?}");
        }
        for text in ["postgres://ann:hidden@localhost/leads", "mysql://localhost/leads"] {
            let refusal = text.parse::<DatabaseUrl>().expect_err("another engine").to_string();
            assert_eq!(refusal, "database: expected a file such as \"sqlite://leadwire.db\"");
        }
    }
}

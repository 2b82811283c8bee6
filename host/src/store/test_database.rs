//! Database of a unit test: the one place that decides which engine these tests use.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::store::{database_url::DatabaseUrl, error::Result, handle::Store};

/// Database in a temporary folder, which is deleted with this value.
pub(crate) struct TestDatabase {
    dir: TempDir,
}

impl TestDatabase {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().expect("a temporary folder") }
    }

    /// Opens the database; the first call creates it.
    pub(crate) async fn open(&self) -> Store {
        self.try_open().await.expect("opens")
    }

    pub(crate) async fn try_open(&self) -> Result<Store> {
        Store::open(&self.url()).await
    }

    pub(crate) fn url(&self) -> DatabaseUrl {
        self.file().into()
    }

    /// Path of the file, for tests of SQLite itself.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("test.db")
    }
}

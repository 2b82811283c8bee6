//! Conversion of columns to domain types: text that should parse and does not is a corrupt row, never a panic.

use std::{fmt::Display, str::FromStr};

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Decode, Row, Sqlite, Type,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{
    domain::{
        counter::{Generation, Seq},
        plugin_name::PluginName,
        user::UserRef,
    },
    store::error::{Error, Result},
};

/// Statement whose values are bound by the type that is written.
pub(crate) type WriteQuery<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Row with the name of its table, for error messages.
pub(crate) struct Columns<'r> {
    pub(crate) table: &'static str,
    pub(crate) row: &'r SqliteRow,
}

impl Columns<'_> {
    pub(crate) fn text(&self, column: &str) -> Result<String> {
        self.get(column)
    }

    pub(crate) fn maybe_text(&self, column: &str) -> Result<Option<String>> {
        self.get(column)
    }

    pub(crate) fn integer(&self, column: &str) -> Result<i64> {
        self.get(column)
    }

    pub(crate) fn maybe_integer(&self, column: &str) -> Result<Option<i64>> {
        self.get(column)
    }

    pub(crate) fn seq(&self, column: &str) -> Result<Seq> {
        self.get(column)
    }

    pub(crate) fn generation(&self, column: &str) -> Result<Generation> {
        self.get(column)
    }

    pub(crate) fn plugin(&self, column: &str) -> Result<PluginName> {
        self.get(column)
    }

    /// Boolean, which SQLite stores as 0 or 1.
    pub(crate) fn flag(&self, column: &str) -> Result<bool> {
        self.get(column)
    }

    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T> {
        self.parse(column, &self.text(column)?)
    }

    pub(crate) fn maybe<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>> {
        self.maybe_text(column)?.map(|text| self.parse(column, &text)).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.corrupt(column, &error))
    }

    /// Item of a closed set, by its serde name.
    pub(crate) fn named<T>(&self, column: &str, from_name: impl Fn(&str) -> Option<T>) -> Result<T> {
        let name = self.text(column)?;
        from_name(&name).ok_or_else(|| self.corrupt(column, &format!("{name:?} is unknown")))
    }

    /// User from a join whose columns are named `<prefix>_name` and `<prefix>_email`.
    pub(crate) fn user(&self, id: &str, prefix: &str) -> Result<Option<UserRef>> {
        let Some(id) = self.maybe(id)? else { return Ok(None) };
        let name = self.text(&format!("{prefix}_name"))?;
        let email = self.text(&format!("{prefix}_email"))?;
        Ok(Some(UserRef { id, name, email }))
    }

    pub(crate) fn required_user(&self, id: &str, prefix: &str) -> Result<UserRef> {
        self.user(id, prefix)?.ok_or_else(|| self.corrupt(id, &"it is null"))
    }

    pub(crate) fn corrupt(&self, column: &str, reason: &dyn Display) -> Error {
        Error::Corrupt { table: self.table, reason: format!("{column}: {reason}") }
    }

    /// A value whose type differs from the column's is damage; a missing column is a bug of ours.
    fn get<'a, T: Decode<'a, Sqlite> + Type<Sqlite>>(&'a self, column: &str) -> Result<T> {
        self.row.try_get(column).map_err(|error| match error {
            sqlx::Error::ColumnDecode { source, .. } => self.corrupt(column, &source),
            error => error.into(),
        })
    }

    fn parse<T: FromStr<Err: Display>>(&self, column: &str, text: &str) -> Result<T> {
        text.parse().map_err(|error| self.corrupt(column, &error))
    }
}

/// JSON text for a column.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("domain values are plain JSON")
}

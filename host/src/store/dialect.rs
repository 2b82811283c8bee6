//! SQL that has no wording common to SQLite and PostgreSQL, with the wording of the other engine.
//!
//! Every other statement of `store` is one that both accept. Not collected here are the modules that work on a database
//! *file*, which have no counterpart: `connection`, `copy`, `examine`, `file_guard`, `maintenance` and `watch`. Sorted
//! and compared text needs `COLLATE "C"` on the columns of PostgreSQL, or cursors compare otherwise than lists sort.

use sqlx::{QueryBuilder, Sqlite};

/// Begins a snapshot. PostgreSQL: `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`.
pub(crate) const BEGIN_READ: &str = "BEGIN";

/// Begins a writing transaction with the write lock. PostgreSQL: `BEGIN`, and locks of rows.
// A deferred SQLite transaction starts as a reader; once another writer commits it can no longer write.
pub(crate) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// Number of tables with a name. PostgreSQL: `information_schema.tables`.
pub(crate) const COUNT_TABLES: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = $1";

/// Tables with a `lead_id` column, in no order. PostgreSQL: `information_schema.columns`.
pub(crate) const TABLES_ABOUT_LEADS: &str = "SELECT DISTINCT m.name FROM sqlite_schema m, pragma_table_info(m.name) c
     WHERE m.type = 'table' AND c.name = 'lead_id'";

/// Condition that a text contains another, as a literal for `concat!`. PostgreSQL: `strpos`.
///
/// LIKE is no common wording: it ignores the case of ASCII letters in SQLite only, and the text must be escaped.
macro_rules! contains {
    ($text:literal, $part:literal) => {
        concat!("instr(", $text, ", ", $part, ") > 0")
    };
}

/// Adds the condition that the text of an expression contains `part`.
pub(crate) fn push_contains(query: &mut QueryBuilder<Sqlite>, expression: &str, part: String) {
    query.push("instr(").push(expression).push(", ").push_bind(part).push(") > 0");
}

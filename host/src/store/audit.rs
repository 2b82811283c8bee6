//! Audit table: who changed accounts, sessions and plugins, and who failed to sign in.
//!
//! A change is recorded in the transaction that makes it ([`Tx::audit`]). Events that anybody can cause are coalesced
//! by the caller and have a retention limit of their own, so that a flood cannot displace the records of
//! administrators' actions.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use crate::{
    domain::time::Timestamp,
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::{Columns, json as to_text},
    },
};

/// Kind of an audit entry, by its name in the table, in the log and in `GET /api/audit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditKind {
    /// A login with a wrong password, of an unknown or of an inactive account.
    LoginFailed,
    /// A login or a password change that a rate limit refused before the password was verified.
    LoginLimited,
    /// A password change with a wrong current password.
    PasswordRefused,
    /// A Socket.IO handshake that was refused.
    ConnectDenied,
    /// A refresh token that was used twice: its session ended.
    RefreshTokenReused,
    UserCreated,
    UserChanged,
    /// An account that became an active administrator.
    AdministratorAdded,
    /// A user's change of their own password.
    PasswordChanged,
    /// All sessions of a user ended at once.
    SessionsEnded,
    PluginPromoted,
    PluginDropped,
    PluginRolledBack,
    PluginEnabled,
    PluginDisabled,
    PluginRemoved,
    /// An order about a plugin that was accepted and recorded, but then not carried out.
    PluginOrderFailed,
    EffectRetried,
    EffectDropped,
    /// A lead that was permanently erased; the subject is its id.
    LeadErased,
}

impl AuditKind {
    pub const ALL: [Self; 20] = [
        Self::LoginFailed,
        Self::LoginLimited,
        Self::PasswordRefused,
        Self::ConnectDenied,
        Self::RefreshTokenReused,
        Self::UserCreated,
        Self::UserChanged,
        Self::AdministratorAdded,
        Self::PasswordChanged,
        Self::SessionsEnded,
        Self::PluginPromoted,
        Self::PluginDropped,
        Self::PluginRolledBack,
        Self::PluginEnabled,
        Self::PluginDisabled,
        Self::PluginRemoved,
        Self::PluginOrderFailed,
        Self::EffectRetried,
        Self::EffectDropped,
        Self::LeadErased,
    ];

    pub const NAMES: [&str; 20] = names!(Self::ALL);

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoginFailed => "login_failed",
            Self::LoginLimited => "login_limited",
            Self::PasswordRefused => "password_refused",
            Self::ConnectDenied => "connect_denied",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::UserCreated => "user_created",
            Self::UserChanged => "user_changed",
            Self::AdministratorAdded => "administrator_added",
            Self::PasswordChanged => "password_changed",
            Self::SessionsEnded => "sessions_ended",
            Self::PluginPromoted => "plugin_promoted",
            Self::PluginDropped => "plugin_dropped",
            Self::PluginRolledBack => "plugin_rolled_back",
            Self::PluginEnabled => "plugin_enabled",
            Self::PluginDisabled => "plugin_disabled",
            Self::PluginRemoved => "plugin_removed",
            Self::PluginOrderFailed => "plugin_order_failed",
            Self::EffectRetried => "effect_retried",
            Self::EffectDropped => "effect_dropped",
            Self::LeadErased => "lead_erased",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// True if it can be caused without being signed in, and so any number of times.
    pub fn is_anonymous(self) -> bool {
        matches!(self, Self::LoginFailed | Self::LoginLimited | Self::PasswordRefused | Self::ConnectDenied)
    }
}

/// Audit entry to be recorded.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: AuditKind,
    /// Id of a user, or `operator`.
    pub actor: Option<String>,
    /// Id of a user or of a lead, or name of a plugin.
    pub subject: Option<String>,
    pub address: Option<IpAddr>,
    pub request: Option<String>,
    /// Contains no secrets and no e-mail addresses, because it is logged as well.
    pub detail: Map<String, Value>,
}

impl Entry {
    pub fn new(kind: AuditKind) -> Self {
        Self { kind, actor: None, subject: None, address: None, request: None, detail: Map::new() }
    }

    /// Sets the subject of the entry.
    #[must_use]
    pub fn about(mut self, subject: impl ToString) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(name.into(), value.into());
        self
    }

    /// Writes the entry to the process log, in the form that docs/SECURITY.md describes.
    pub fn log(&self) {
        let Self { kind, actor, subject, address, request, detail } = self;
        log(kind.as_str(), &[&address.map(|address| address.to_string()), request, actor, subject], detail);
    }
}

fn log(kind: &str, [client, request, actor, subject]: &[&Option<String>; 4], detail: &Map<String, Value>) {
    let show = |text: &Option<String>| text.clone().map(tracing::field::display);
    tracing::info!(
        target: "leadwire::audit",
        client = show(client),
        request = show(request),
        actor = show(actor),
        subject = show(subject),
        detail = (!detail.is_empty()).then(|| tracing::field::display(to_text(detail))),
        "{kind}"
    );
}

/// Row of the audit table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    #[serde(skip)]
    pub id: i64,
    pub at: Timestamp,
    pub last_at: Timestamp,
    pub count: i64,
    pub kind: String,
    pub actor: Option<String>,
    pub subject: Option<String>,
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub detail: Map<String, Value>,
}

/// Filter for rows of the audit table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditFilter {
    /// Kinds to return; all when empty.
    pub kinds: Vec<&'static str>,
    /// Actor or subject.
    pub user: Option<String>,
    pub since: Option<Timestamp>,
}

impl Reader {
    /// Returns at most `limit` rows, newest first, older than `before`.
    pub async fn audit_rows(&mut self, filter: &AuditFilter, before: Option<i64>, limit: u32) -> Result<Vec<AuditRow>> {
        let mut query = QueryBuilder::<Sqlite>::new(concat!("SELECT ", columns!(audit), " FROM audit WHERE id < "));
        query.push_bind(before.unwrap_or(i64::MAX));
        if !filter.kinds.is_empty() {
            query.push(" AND kind IN (");
            let mut kinds = query.separated(", ");
            for kind in &filter.kinds {
                kinds.push_bind(*kind);
            }
            query.push(")");
        }
        if let Some(user) = &filter.user {
            query.push(" AND (actor = ").push_bind(user).push(" OR subject = ").push_bind(user).push(")");
        }
        if let Some(since) = filter.since {
            query.push(" AND last_at >= ").push_bind(since.to_string());
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&mut *self.tx).await?.iter().map(audit_row).collect()
    }

    /// Id of the newest row; 0 when the table is empty.
    pub async fn newest_audit_row(&mut self) -> Result<i64> {
        let newest = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM audit");
        Ok(newest.fetch_one(&mut *self.tx).await?)
    }

    /// Returns some of the rows after `after` that operators caused from the command line, oldest first.
    pub async fn operators_rows(&mut self, after: i64) -> Result<Vec<AuditRow>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(audit),
            " FROM audit WHERE id > $1 AND actor = 'operator' ORDER BY id LIMIT 100"
        ))
        .bind(after)
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(audit_row).collect()
    }
}

impl Tx<'_> {
    /// Records an entry in the transaction that makes the change.
    pub async fn audit(&mut self, entry: &Entry, at: Timestamp) -> Result<()> {
        self.insert_audit(entry, at, at, 1).await.map(drop)
    }

    /// Records an entry that occurred `count` times and returns the id of its row.
    pub async fn insert_audit(&mut self, entry: &Entry, at: Timestamp, last_at: Timestamp, count: u32) -> Result<i64> {
        let id = sqlx::query_scalar(
            "INSERT INTO audit (at, last_at, count, kind, anonymous, actor, subject, address, request_id, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
        )
        .bind(at.to_string())
        .bind(last_at.to_string())
        .bind(count)
        .bind(entry.kind.as_str())
        .bind(entry.kind.is_anonymous())
        .bind(&entry.actor)
        .bind(&entry.subject)
        .bind(entry.address.map(|address| address.to_string()))
        .bind(&entry.request)
        .bind(to_text(&entry.detail))
        .fetch_one(&mut *self.reader.tx)
        .await?;
        Ok(id)
    }

    /// Adds repetitions to a row, unless it was pruned meanwhile.
    pub async fn repeat_audit(&mut self, id: i64, last_at: Timestamp, more: u32) -> Result<()> {
        sqlx::query("UPDATE audit SET count = count + $1, last_at = $2 WHERE id = $3")
            .bind(more)
            .bind(last_at.to_string())
            .bind(id)
            .execute(&mut *self.reader.tx)
            .await?
            .at_most_one("audit")?;
        Ok(())
    }

    /// Deletes at most `limit` rows per class that are older than `since` or not among the newest `keep` of their
    /// class. Returns how many.
    pub async fn prune_audit(&mut self, since: Timestamp, keep: u32, limit: u32) -> Result<u64> {
        let mut pruned = 0;
        for anonymous in [false, true] {
            let done = sqlx::query(
                "DELETE FROM audit WHERE id IN (
                     SELECT id FROM audit WHERE anonymous = $1 AND (last_at < $2 OR id <= COALESCE(
                         (SELECT id FROM audit WHERE anonymous = $1 ORDER BY id DESC LIMIT 1 OFFSET $3), -1))
                     ORDER BY id LIMIT $4)",
            )
            .bind(anonymous)
            .bind(since.to_string())
            .bind(keep)
            .bind(limit)
            .execute(&mut *self.reader.tx)
            .await?;
            pruned += done.any_number();
        }
        Ok(pruned)
    }
}

fn audit_row(row: &SqliteRow) -> Result<AuditRow> {
    let columns = Columns { table: "audit", row };
    Ok(AuditRow {
        id: columns.integer("id")?,
        at: columns.parsed("at")?,
        last_at: columns.parsed("last_at")?,
        count: columns.integer("count")?,
        kind: columns.text("kind")?,
        actor: columns.maybe_text("actor")?,
        subject: columns.maybe_text("subject")?,
        address: columns.maybe_text("address")?,
        request_id: columns.maybe_text("request_id")?,
        detail: columns.json("detail")?,
    })
}

impl AuditRow {
    /// Writes the row to the process log like [`Entry::log`], for an action of another process.
    pub fn log(&self) {
        log(&self.kind, &[&self.address, &self.request_id, &self.actor, &self.subject], &self.detail);
    }

    /// Row as administrators see it.
    pub fn to_json(&self) -> Value {
        let mut row = json!(self);
        row["id"] = self.id.to_string().into();
        row
    }
}

//! The audit table: who did what to accounts, sessions and plugins, and who failed to sign in.
//!
//! What changes something is recorded in the transaction that changes it ([`Tx::audit`]). What anybody can cause is
//! coalesced by the caller and has a retention limit of its own, so that a flood cannot push out what administrators did.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteRow;

use super::{Reader, Result, Tx, row::Columns, row::json as to_text};
use crate::domain::time::Timestamp;

/// Kind of an audit entry, by its name in the table, in the log and in `GET /api/audit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A login with a wrong password, of an unknown or of an inactive account.
    LoginFailed,
    /// A login or a password change that was refused untried.
    LoginLimited,
    /// A password change with a wrong current password.
    PasswordRefused,
    /// A Socket.IO handshake that was refused.
    ConnectDenied,
    /// A refresh token that was used twice: its session ended.
    RefreshTokenReused,
    UserCreated,
    UserChanged,
    /// An account is an active administrator now and was none before.
    AdministratorAdded,
    /// The user's own change of the password.
    PasswordChanged,
    /// All sessions of a user ended at once.
    SessionsEnded,
    PluginPromoted,
    PluginDropped,
    PluginRolledBack,
    PluginEnabled,
    PluginDisabled,
    PluginRemoved,
    /// An order about a plugin that was given, recorded and then not carried out.
    PluginOrderFailed,
    EffectRetried,
    EffectDropped,
    /// A lead that was erased for good; the subject is its id.
    LeadErased,
}

impl Kind {
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

    pub fn as_str(self) -> &'static str {
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

    /// Whether it can be caused without having signed in, and so as often as somebody likes.
    pub fn is_anonymous(self) -> bool {
        matches!(self, Self::LoginFailed | Self::LoginLimited | Self::PasswordRefused | Self::ConnectDenied)
    }
}

/// One thing that happened, to be recorded.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: Kind,
    /// A user's id, or `operator`.
    pub actor: Option<String>,
    /// The id of a user or of a lead, or a plugin's name.
    pub subject: Option<String>,
    pub address: Option<IpAddr>,
    pub request: Option<String>,
    /// No secrets and no e-mail addresses: it goes to the log as well.
    pub detail: Map<String, Value>,
}

impl Entry {
    pub fn new(kind: Kind) -> Self {
        Self { kind, actor: None, subject: None, address: None, request: None, detail: Map::new() }
    }

    /// Names what it was done to.
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

    /// Writes it to the log of the process, in the form that docs/SECURITY.md describes.
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

/// One row of the table.
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

/// Which rows a reader asks for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditFilter {
    /// All kinds when empty.
    pub kinds: Vec<&'static str>,
    /// Actor or subject.
    pub user: Option<String>,
    pub since: Option<Timestamp>,
}

impl Reader {
    /// At most `limit` rows, newest first, from the one before `before`.
    pub async fn audit_rows(&mut self, filter: &AuditFilter, before: Option<i64>, limit: u32) -> Result<Vec<AuditRow>> {
        let kinds = (!filter.kinds.is_empty()).then(|| to_text(&filter.kinds));
        let rows = sqlx::query(
            "SELECT * FROM audit
             WHERE id < ?1 AND (?2 IS NULL OR kind IN (SELECT value FROM json_each(?2)))
               AND (?3 IS NULL OR actor = ?3 OR subject = ?3) AND (?4 IS NULL OR last_at >= ?4)
             ORDER BY id DESC LIMIT ?5",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(kinds)
        .bind(&filter.user)
        .bind(filter.since.map(|since| since.to_string()))
        .bind(limit)
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(audit_row).collect()
    }

    /// The newest row, 0 where there is none.
    pub async fn newest_audit_row(&mut self) -> Result<i64> {
        let newest = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM audit");
        Ok(newest.fetch_one(&mut *self.tx).await?)
    }

    /// What operators did from the command line: some of the rows that follow `after`, oldest first.
    pub async fn operators_rows(&mut self, after: i64) -> Result<Vec<AuditRow>> {
        let rows = sqlx::query("SELECT * FROM audit WHERE id > ? AND actor = 'operator' ORDER BY id LIMIT 100")
            .bind(after)
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(audit_row).collect()
    }
}

impl Tx<'_> {
    /// Records something in the transaction that does it.
    pub async fn audit(&mut self, entry: &Entry, at: Timestamp) -> Result<()> {
        self.insert_audit(entry, at, at, 1).await.map(drop)
    }

    /// Records what happened `count` times; the row's id.
    pub async fn insert_audit(&mut self, entry: &Entry, at: Timestamp, last_at: Timestamp, count: u32) -> Result<i64> {
        let done = sqlx::query(
            "INSERT INTO audit (at, last_at, count, kind, anonymous, actor, subject, address, request_id, detail)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        .execute(&mut *self.reader.tx)
        .await?;
        Ok(done.last_insert_rowid())
    }

    /// Adds to a row of something that goes on.
    pub async fn repeat_audit(&mut self, id: i64, last_at: Timestamp, more: u32) -> Result<()> {
        sqlx::query("UPDATE audit SET count = count + ?, last_at = ? WHERE id = ?")
            .bind(more)
            .bind(last_at.to_string())
            .bind(id)
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    /// Deletes at most `limit` rows that are older than `since`, or not among the newest `keep` of their class; how many.
    pub async fn prune_audit(&mut self, since: Timestamp, keep: u32, limit: u32) -> Result<u64> {
        let mut pruned = 0;
        for anonymous in [false, true] {
            let done = sqlx::query(
                "DELETE FROM audit WHERE id IN (
                     SELECT id FROM audit WHERE anonymous = ?1 AND (last_at < ?2 OR id <= COALESCE(
                         (SELECT id FROM audit WHERE anonymous = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?3), -1))
                     ORDER BY id LIMIT ?4)",
            )
            .bind(anonymous)
            .bind(since.to_string())
            .bind(keep)
            .bind(limit)
            .execute(&mut *self.reader.tx)
            .await?;
            pruned += done.rows_affected();
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
    /// As [`Entry::log`], for what another process did.
    pub fn log(&self) {
        log(&self.kind, &[&self.address, &self.request_id, &self.actor, &self.subject], &self.detail);
    }

    /// As administrators see it.
    pub fn to_json(&self) -> Value {
        let mut row = json!(self);
        row["id"] = self.id.to_string().into();
        row
    }
}

//! Filter and order of a list of leads, and positions in it.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use crate::{
    domain::{
        id::{LeadId, UserId},
        lead::LeadStatus,
        policy::Scope,
        time::Timestamp,
    },
    store::{error::Result, row::Columns},
};

/// Filter and order of a list of leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeadFilter {
    /// Set to list only deleted leads; otherwise they are left out.
    pub deleted: bool,
    /// Accepted statuses; all when empty.
    pub statuses: Vec<LeadStatus>,
    pub owner: Option<OwnerFilter>,
    pub source: Option<String>,
    pub created_after: Option<Timestamp>,
    // Omitted when absent, so that cursors issued before this field existed stay valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// Text that one of the fields contains, ignoring case, accents and Unicode forms.
    pub text: Option<String>,
    pub sort: LeadSort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OwnerFilter {
    Unassigned,
    User(UserId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LeadSort {
    pub key: LeadSortKey,
    pub descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LeadSortKey {
    UpdatedAt,
    CreatedAt,
    LastActivityAt,
    Title,
    Company,
    // Renamed when the order became that of the pipeline, so that a cursor of the order before is refused.
    #[serde(rename = "Pipeline")]
    Status,
    ValueCents,
}

impl LeadSortKey {
    pub const ALL: [Self; 7] = [
        Self::UpdatedAt,
        Self::CreatedAt,
        Self::LastActivityAt,
        Self::Title,
        Self::Company,
        Self::Status,
        Self::ValueCents,
    ];

    /// Names of the members, in the same order.
    pub const NAMES: [&str; 7] = names!(Self::ALL);

    /// Member of the lead that the list is sorted by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpdatedAt => "updatedAt",
            Self::CreatedAt => "createdAt",
            Self::LastActivityAt => "lastActivityAt",
            Self::Title => "title",
            Self::Company => "company",
            Self::Status => "status",
            Self::ValueCents => "valueCents",
        }
    }

    /// Column of `leads` with the sort key; never null, so that positions compare.
    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::UpdatedAt => "updated_at",
            Self::CreatedAt => "created_at",
            Self::LastActivityAt => "activity_key",
            Self::Title => "title_key",
            Self::Company => "company_key",
            Self::Status => "stage",
            Self::ValueCents => "value_key",
        }
    }

    const fn is_number(self) -> bool {
        matches!(self, Self::Status | Self::ValueCents)
    }
}

/// Position in a sorted list: after the lead with this key and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeadPosition {
    pub key: SortValue,
    pub id: LeadId,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortValue {
    Number(i64),
    Text(String),
}

impl LeadSort {
    pub(crate) const fn direction(self) -> &'static str {
        if self.descending { "DESC" } else { "ASC" }
    }

    /// Comparison that is true for what follows a position.
    pub(crate) const fn follows(self) -> &'static str {
        if self.descending { "<" } else { ">" }
    }

    pub(crate) fn order(self, one: &LeadPosition, other: &LeadPosition) -> Ordering {
        if self.descending { other.cmp(one) } else { one.cmp(other) }
    }
}

impl LeadFilter {
    /// True if the index of the order does not know all that the filter asks for.
    pub(crate) fn needs_check(&self) -> bool {
        self.text.is_some() || self.source.is_some() || (self.has_time() && !self.is_sorted_by_time())
    }

    pub(crate) fn has_time(&self) -> bool {
        self.created_after.is_some() || self.created_before.is_some()
    }

    pub(crate) fn is_sorted_by_time(&self) -> bool {
        self.sort.key == LeadSortKey::CreatedAt
    }
}

impl LeadPosition {
    pub(crate) fn read(row: &SqliteRow, key: LeadSortKey) -> Result<Self> {
        let columns = Columns { table: "leads", row };
        let value = if key.is_number() {
            SortValue::Number(columns.integer("sort_key")?)
        } else {
            SortValue::Text(columns.text("sort_key")?)
        };
        Ok(Self { key: value, id: columns.parsed("id")? })
    }
}

/// User whose view of the leads a list shows.
pub struct Viewpoint {
    pub user: UserId,
    pub scope: Scope,
    /// Members of the lead that `text` may search.
    pub searchable: Vec<&'static str>,
}

/// Adds the condition that a time is between two others.
pub(crate) fn push_time(
    query: &mut QueryBuilder<Sqlite>,
    column: &str,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
) {
    for (comparison, time) in [(">", after), ("<", before)] {
        if let Some(time) = time {
            query.push(format_args!(" AND {column} {comparison} ")).push_bind(time.to_string());
        }
    }
}

/// Adds the condition that a lead `l` has one of the statuses, if there are any.
pub(crate) fn push_statuses(query: &mut QueryBuilder<Sqlite>, statuses: &[LeadStatus]) {
    if statuses.is_empty() {
        return;
    }
    query.push(" AND l.status IN (");
    let mut names = query.separated(", ");
    for status in statuses {
        names.push_bind(status.as_str());
    }
    query.push(")");
}

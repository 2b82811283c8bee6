//! Walk along the index of a list's order: one range of the index for each owner and stage that the list shows, merged.
//!
//! SQLite merges the ranges as it reads them, so that a part of a list costs what it contains, however long the list is.

use sqlx::{QueryBuilder, Sqlite};

use crate::{
    domain::{id::UserId, lead::LeadStatus, policy::Scope},
    store::lead_filter::{
        LeadFilter, LeadPosition, LeadSortKey, OwnerFilter, SortValue, Viewpoint, push_statuses, push_time,
    },
};

/// Owners whose leads a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    All,
    /// Only these; `None` stands for leads without an owner.
    Only(Vec<Option<UserId>>),
}

impl Owners {
    /// Owners in the viewpoint's scope that the filter accepts as well.
    pub(crate) fn of(viewpoint: &Viewpoint, filter: Option<OwnerFilter>) -> Self {
        let filter = filter.map(|owner| match owner {
            OwnerFilter::Unassigned => None,
            OwnerFilter::User(user) => Some(user),
        });
        let in_scope = match viewpoint.scope {
            Scope::All => return filter.map_or(Self::All, |owner| Self::Only(vec![owner])),
            Scope::Own => vec![Some(viewpoint.user)],
            Scope::OwnAndUnassigned => vec![Some(viewpoint.user), None],
        };
        Self::Only(in_scope.into_iter().filter(|owner| filter.is_none_or(|filter| filter == *owner)).collect())
    }
}

/// Walk along a list.
pub(crate) struct LeadWalk<'f> {
    pub(crate) filter: &'f LeadFilter,
    pub(crate) owners: Owners,
    pub(crate) after: Option<LeadPosition>,
    /// Set for a walk along all leads of the owners, whatever else the filter says.
    pub(crate) all: bool,
}

impl LeadWalk<'_> {
    /// True if no range has leads after the position.
    pub(crate) fn is_at_end(&self) -> bool {
        matches!(&self.owners, Owners::Only(owners) if owners.is_empty()) || self.stages().is_empty()
    }

    /// Adds a query for the `sort_key`, the `id` and further columns of at most `limit` leads behind those to skip.
    pub(crate) fn push(&self, query: &mut QueryBuilder<Sqlite>, columns: &str, limit: u32, skip: u32) {
        let owners: Vec<Option<Option<UserId>>> = match &self.owners {
            Owners::All => vec![None],
            Owners::Only(owners) => owners.iter().copied().map(Some).collect(),
        };
        let mut separator = "";
        for owner in owners {
            for stage in self.stages() {
                query.push(separator);
                self.push_range(query, columns, owner, stage);
                separator = " UNION ALL ";
            }
        }
        query.push(format_args!(" ORDER BY sort_key {0}, id {0} LIMIT ", self.filter.sort.direction()));
        query.push_bind(limit);
        if skip > 0 {
            query.push(" OFFSET ").push_bind(skip);
        }
    }

    fn push_range(
        &self,
        query: &mut QueryBuilder<Sqlite>,
        columns: &str,
        owner: Option<Option<UserId>>,
        stage: LeadStatus,
    ) {
        let sort = self.filter.sort.key;
        query.push(format_args!("SELECT {} AS sort_key, id{columns} FROM leads WHERE is_deleted = ", sort.column()));
        query.push(i32::from(self.filter.deleted));
        match owner {
            None => {}
            Some(None) => {
                query.push(" AND owner_id IS NULL");
            }
            Some(Some(owner)) => {
                query.push(" AND owner_id = ").push_bind(owner.to_string());
            }
        }
        query.push(format_args!(" AND stage = {}", stage as u8));
        match &self.after {
            Some(after) if sort != LeadSortKey::Status => self.push_after(query, "", after),
            // Within a stage, the list is in the order of ids.
            Some(LeadPosition { key, id }) if *key == SortValue::Number(stage as i64) => {
                query.push(format_args!(" AND id {} ", self.filter.sort.follows())).push_bind(id.to_string());
            }
            Some(_) | None => {}
        }
        self.push_times(query);
    }

    /// Adds the conditions of the walk on a lead `l` that was found otherwise.
    pub(crate) fn push_conditions(&self, query: &mut QueryBuilder<Sqlite>) {
        query.push(format_args!(" AND l.is_deleted = {} AND (FALSE", i32::from(self.filter.deleted)));
        match &self.owners {
            Owners::All => {
                query.push(" OR TRUE");
            }
            Owners::Only(owners) => {
                for owner in owners {
                    match owner {
                        Some(owner) => query.push(" OR l.owner_id = ").push_bind(owner.to_string()),
                        None => query.push(" OR l.owner_id IS NULL"),
                    };
                }
            }
        }
        query.push(")");
        // By name: with `stage`, SQLite would seek each stage for each lead.
        push_statuses(query, &self.filter.statuses);
        if let Some(after) = &self.after {
            self.push_after(query, "l.", after);
        }
    }

    /// Adds that a lead is after a position.
    fn push_after(&self, query: &mut QueryBuilder<Sqlite>, prefix: &str, after: &LeadPosition) {
        let sort = self.filter.sort;
        query.push(format_args!(" AND ({prefix}{}, {prefix}id) {} (", sort.key.column(), sort.follows()));
        match &after.key {
            SortValue::Number(number) => query.push_bind(*number),
            SortValue::Text(text) => query.push_bind(text.clone()),
        };
        query.push(", ").push_bind(after.id.to_string()).push(")");
    }

    /// Adds the bounds of a list in the order of time. The position of a page replaces the bound at which the list
    /// begins: with both, SQLite may seek the bound and read everything up to the position.
    fn push_times(&self, query: &mut QueryBuilder<Sqlite>) {
        let LeadFilter { created_after, created_before, sort, .. } = self.filter;
        if self.all || !self.filter.is_sorted_by_time() {
            return;
        }
        let is_first = self.after.is_none();
        let later = created_after.filter(|_| is_first || sort.descending);
        let earlier = created_before.filter(|_| is_first || !sort.descending);
        push_time(query, "created_at", later, earlier);
    }

    /// Stages of the list with leads after the position, in no order.
    fn stages(&self) -> Vec<LeadStatus> {
        let LeadFilter { statuses, sort, .. } = self.filter;
        let is_wanted = |stage: LeadStatus| self.all || statuses.is_empty() || statuses.contains(&stage);
        let is_left = |stage: LeadStatus| match &self.after {
            Some(LeadPosition { key: SortValue::Number(at), .. }) if sort.key == LeadSortKey::Status => {
                if sort.descending { stage as i64 <= *at } else { stage as i64 >= *at }
            }
            _ => true,
        };
        LeadStatus::ALL.into_iter().filter(|stage| is_wanted(*stage) && is_left(*stage)).collect()
    }
}

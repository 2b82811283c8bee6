//! Lists of leads: filter, order, position, and the choice of how a part of a list is read.
//!
//! A list is a walk along the index of its order, see `lead_walk`. A filter that the index does not know is checked
//! lead by lead: where few leads have the value, they are collected and sorted instead, and otherwise the walk pauses
//! after a bounded number of leads. Every way returns the same order, so a cursor of one is valid for the others.

use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use crate::{
    domain::{lead::Lead, time::Timestamp},
    store::{
        error::Result,
        handle::Reader,
        lead::{SELECT, lead},
        lead_filter::{
            LeadFilter, LeadPosition, LeadSort, LeadSortKey, OwnerFilter, Viewpoint, push_statuses, push_time,
        },
        lead_walk::{LeadWalk, Owners},
        row::Columns,
        search,
        trigram::TrigramQuery,
    },
};

/// Lead of a list.
pub struct FoundLead {
    pub position: LeadPosition,
    pub lead: Lead,
    /// True if the filter accepts it.
    pub matches: bool,
    /// Length of the texts that can be long.
    bytes: usize,
}

/// Part of a list.
pub struct FoundLeads {
    /// In the order of the list.
    pub leads: Vec<FoundLead>,
    pub rest: ListRest<LeadPosition>,
}

/// Rest of a list behind the items that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListRest<P> {
    Nothing,
    /// More, after the last item that was read.
    More,
    /// Items after this position were not examined, because enough were before it.
    After(P),
}

impl<P> ListRest<P> {
    /// Rest after a read of at most `limit` items that found `count`: fewer are the last.
    pub fn of(count: usize, limit: u32) -> Self {
        if count < limit as usize { Self::Nothing } else { Self::More }
    }
}

/// Size and kind of a read.
#[derive(Clone, Copy, Debug)]
pub struct ListRead {
    pub limit: u32,
    /// A read ends with the lead at which the long texts reach this number of bytes.
    pub max_bytes: usize,
    /// Set to read all leads in the viewpoint's scope, each marked whether it matches, so that the duration reveals
    /// nothing; otherwise only those that the filter accepts are read.
    pub all: bool,
}

/// Whole rows of the leads `w`, and a condition to continue. SQLite reads the tables of a CROSS JOIN in their order.
const OF_PAGE: &str = " CROSS JOIN leads l LEFT JOIN users o ON o.id = l.owner_id CROSS JOIN users c \
    WHERE l.id = w.id AND c.id = l.created_by";

/// Number of leads that the first part of a walk with a further condition examines; later parts examine more.
const FIRST_PART: u32 = 256;
const MIN_PART: u32 = 64;
/// Maximum factor from one part of a walk to the next.
const GROWTH: u32 = 4;
/// Bounds of the number of leads that a walk examines before it pauses.
const MIN_EXAMINED: u32 = 4096;
const MAX_EXAMINED: u32 = 8192;
/// Maximum number of leads that are collected where a walk found none.
const MAX_COLLECTED: u32 = 50_000;

impl Reader {
    /// Reads a part of a list, after the position `after`.
    pub async fn leads(
        &mut self,
        filter: &LeadFilter,
        viewpoint: &Viewpoint,
        after: Option<&LeadPosition>,
        read: ListRead,
    ) -> Result<FoundLeads> {
        let owners = Owners::of(viewpoint, filter.owner.filter(|_| !read.all));
        let walk = LeadWalk { filter, owners, after: after.cloned(), all: read.all };
        let found = if walk.is_at_end() {
            FoundLeads { leads: Vec::new(), rest: ListRest::Nothing }
        } else if read.all || !filter.needs_check() {
            let leads = self.found(of_walk(&walk, viewpoint, read), filter.sort).await?;
            FoundLeads::of(leads, read.limit)
        } else {
            self.checked(walk, viewpoint, read.limit).await?
        };
        Ok(found.cut(read.max_bytes))
    }

    /// Reads leads with a condition that the index of the order does not know.
    async fn checked(&mut self, mut walk: LeadWalk<'_>, viewpoint: &Viewpoint, limit: u32) -> Result<FoundLeads> {
        let few = self.few(limit).await?;
        let candidates = Candidates::of(self, walk.filter).await?;
        if let Some(leads) = self.collected(&walk, viewpoint, &candidates, limit, few).await? {
            return Ok(FoundLeads::of(leads, limit));
        }

        let most = (2 * few).clamp(MIN_EXAMINED, MAX_EXAMINED);
        let (mut leads, mut part, mut examined) = (Vec::new(), FIRST_PART, 0);
        loop {
            leads.extend(self.found(of_part(&walk, viewpoint, part), walk.filter.sort).await?);
            if leads.len() >= limit as usize {
                leads.truncate(limit as usize);
                return Ok(FoundLeads { leads, rest: ListRest::More });
            }
            let Some(end) = self.position(&walk, part - 1).await? else {
                return Ok(FoundLeads { leads, rest: ListRest::Nothing });
            };
            examined += part;
            if examined >= most {
                // Those that match are elsewhere in the list. They may still be few enough for one read.
                if leads.is_empty()
                    && let Some(leads) = self.collected(&walk, viewpoint, &candidates, limit, MAX_COLLECTED).await?
                {
                    return Ok(FoundLeads::of(leads, limit));
                }
                return Ok(FoundLeads { leads, rest: ListRest::After(end) });
            }
            walk.after = Some(end);
            part = next_part(part, examined, leads.len(), limit).min(most - examined);
        }
    }

    /// Number of leads that are cheaper to collect and sort than to find in a walk.
    ///
    /// If `n` of all leads match, a walk examines `limit * all / n` of them: both cost the same at the square root.
    async fn few(&mut self, limit: u32) -> Result<u32> {
        let all = search::size(&mut self.tx).await?;
        Ok((all as f64 * f64::from(limit)).sqrt().max(f64::from(FIRST_PART)) as u32)
    }

    /// Reads leads by collecting all that may match and sorting them, where some condition selects at most `few`.
    async fn collected(
        &mut self,
        walk: &LeadWalk<'_>,
        viewpoint: &Viewpoint,
        candidates: &[Candidates<'_>],
        limit: u32,
        few: u32,
    ) -> Result<Option<Vec<FoundLead>>> {
        for candidates in candidates {
            let mut count = QueryBuilder::new("SELECT count(*) FROM (");
            candidates.push(&mut count, few + 1);
            let count: i64 = count.push(") AS c").build_query_scalar().fetch_one(&mut *self.tx).await?;
            if count > i64::from(few) {
                continue;
            }

            let query = of_candidates(candidates, walk, viewpoint, limit, few);
            return self.found(query, walk.filter.sort).await.map(Some);
        }
        Ok(None)
    }

    /// Position of the lead of a walk behind those to skip; `None` if there is none.
    async fn position(&mut self, walk: &LeadWalk<'_>, skip: u32) -> Result<Option<LeadPosition>> {
        let row = of_position(walk, skip).build().fetch_optional(&mut *self.tx).await?;
        row.map(|row| LeadPosition::read(&row, walk.filter.sort.key)).transpose()
    }

    /// Reads the leads of a query, and sorts them: a join keeps no order.
    async fn found(&mut self, mut query: QueryBuilder<Sqlite>, sort: LeadSort) -> Result<Vec<FoundLead>> {
        let rows = query.build().fetch_all(&mut *self.tx).await?;
        let mut leads = rows.iter().map(|row| FoundLead::read(row, sort.key)).collect::<Result<Vec<_>>>()?;
        leads.sort_by(|one, other| sort.order(&one.position, &other.position));
        Ok(leads)
    }
}

impl FoundLead {
    fn read(row: &SqliteRow, key: LeadSortKey) -> Result<Self> {
        let matches = Columns { table: "leads", row }.flag("matches")?;
        let (custom, description): (&str, Option<&str>) = (row.try_get("custom")?, row.try_get("description")?);
        let bytes = custom.len() + description.map_or(0, str::len);
        Ok(Self { position: LeadPosition::read(row, key)?, lead: lead(row)?, matches, bytes })
    }
}

impl FoundLeads {
    /// Result of a read of at most `limit` leads.
    fn of(leads: Vec<FoundLead>, limit: u32) -> Self {
        Self { rest: ListRest::of(leads.len(), limit), leads }
    }

    /// Ends the part with the lead at which the long texts reach `max_bytes`.
    fn cut(mut self, max_bytes: usize) -> Self {
        let mut bytes = 0;
        let last = self.leads.iter().position(|found| {
            bytes += found.bytes;
            bytes >= max_bytes
        });
        if let Some(last) = last {
            self.leads.truncate(last + 1);
            self.rest = ListRest::More;
        }
        self
    }
}

/// Number of leads to examine next: half as many again as will contain those that are missing, if the rest of the list
/// is like what was examined.
fn next_part(part: u32, examined: u32, found: usize, limit: u32) -> u32 {
    let (examined, found, limit) = (u64::from(examined), found as u64, u64::from(limit));
    let likely = (limit.saturating_sub(found) * examined * 3).checked_div(found * 2).unwrap_or(u64::MAX);
    likely.clamp(u64::from(MIN_PART), u64::from(part.max(MIN_PART) * GROWTH)) as u32
}

/// Query for the leads of a walk.
fn of_walk(walk: &LeadWalk<'_>, viewpoint: &Viewpoint, read: ListRead) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(SELECT);
    query.push(", w.sort_key, ");
    if read.all {
        // A comparison with NULL yields NULL.
        query.push("coalesce((TRUE");
        push_filter(&mut query, walk.filter, viewpoint);
        query.push("), FALSE)");
    } else {
        query.push("TRUE");
    }
    query.push(" AS matches FROM (");
    walk.push(&mut query, "", read.limit, 0);
    query.push(") AS w").push(texts_of("w", walk.filter.text.is_some() && read.all)).push(OF_PAGE);
    query
}

/// Query for those of the next `part` leads of a walk that pass the checks.
fn of_part(walk: &LeadWalk<'_>, viewpoint: &Viewpoint, part: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(SELECT);
    query.push(", w.sort_key, TRUE AS matches FROM (");
    let checked = if walk.filter.source.is_some() || walk.filter.has_time() { ", source, created_at" } else { "" };
    walk.push(&mut query, checked, part, 0);
    query.push(") AS w").push(texts_of("w", walk.filter.text.is_some())).push(OF_PAGE);
    push_checks(&mut query, "w", walk.filter, viewpoint);
    query
}

/// Query for the position of the lead of a walk behind those to skip.
fn of_position(walk: &LeadWalk<'_>, skip: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("");
    walk.push(&mut query, "", 1, skip);
    query
}

/// Query for the first leads of a list among a few candidates, which it sorts.
fn of_candidates(
    candidates: &Candidates<'_>,
    walk: &LeadWalk<'_>,
    viewpoint: &Viewpoint,
    limit: u32,
    few: u32,
) -> QueryBuilder<Sqlite> {
    let (filter, sort) = (walk.filter, walk.filter.sort);
    let mut query = QueryBuilder::new(SELECT);
    query.push(", w.sort_key, TRUE AS matches FROM (SELECT DISTINCT l.");
    query.push(sort.key.column()).push(" AS sort_key, l.id AS id FROM (");
    candidates.push(&mut query, few);
    query.push(") AS c CROSS JOIN leads l").push(texts_of("l", filter.text.is_some())).push(" WHERE l.id = c.id");
    walk.push_conditions(&mut query);
    push_checks(&mut query, "l", filter, viewpoint);
    query.push(format_args!(" ORDER BY sort_key {0}, id {0} LIMIT ", sort.direction())).push_bind(limit);
    query.push(") AS w").push(OF_PAGE);
    query
}

/// Join of the texts of a lead, if they are needed and there are any.
fn texts_of(row: &str, are_needed: bool) -> String {
    if are_needed { format!(" LEFT JOIN lead_search s ON s.lead_id = {row}.id") } else { String::new() }
}

/// Condition by which the leads that may match are found without a walk.
enum Candidates<'f> {
    Text(TrigramQuery),
    Source(&'f str),
    Created(Option<Timestamp>, Option<Timestamp>),
}

impl<'f> Candidates<'f> {
    /// Conditions of the filter, the one that is likely to select the fewest leads first.
    async fn of(reader: &mut Reader, filter: &'f LeadFilter) -> Result<Vec<Self>> {
        let text = match &filter.text {
            Some(text) => TrigramQuery::of(&mut reader.tx, text).await?.map(Self::Text),
            None => None,
        };
        let source = filter.source.as_deref().map(Self::Source);
        let created = filter.has_time().then_some(Self::Created(filter.created_after, filter.created_before));
        Ok([text, source, created].into_iter().flatten().collect())
    }

    /// Adds a query for the `id` of at most so many leads.
    fn push(&self, query: &mut QueryBuilder<Sqlite>, most: u32) {
        match self {
            Self::Text(text) => {
                query.push("SELECT s.lead_id AS id FROM (");
                text.push(query, most);
                query.push(") AS t CROSS JOIN lead_search s WHERE s.place = t.place");
                return;
            }
            Self::Source(source) => {
                query.push("SELECT id FROM leads WHERE source = ").push_bind((*source).to_owned());
            }
            Self::Created(after, before) => {
                query.push("SELECT id FROM leads WHERE TRUE");
                push_time(query, "created_at", *after, *before);
            }
        }
        query.push(" LIMIT ").push_bind(most);
    }
}

/// Adds the conditions of the filter on a lead `l` and its texts `s`.
fn push_filter(query: &mut QueryBuilder<Sqlite>, filter: &LeadFilter, viewpoint: &Viewpoint) {
    push_statuses(query, &filter.statuses);
    match filter.owner {
        None => {}
        Some(OwnerFilter::Unassigned) => {
            query.push(" AND l.owner_id IS NULL");
        }
        Some(OwnerFilter::User(id)) => {
            query.push(" AND l.owner_id = ").push_bind(id.to_string());
        }
    }
    push_checks(query, "l", filter, viewpoint);
}

/// Adds the conditions that no index of an order knows, on a row with the columns of a lead and its texts `s`.
fn push_checks(query: &mut QueryBuilder<Sqlite>, row: &str, filter: &LeadFilter, viewpoint: &Viewpoint) {
    if let Some(source) = &filter.source {
        query.push(format_args!(" AND {row}.source = ")).push_bind(source.clone());
    }
    push_time(query, &format!("{row}.created_at"), filter.created_after, filter.created_before);
    if let Some(text) = &filter.text {
        search::narrow(query, text, &viewpoint.searchable);
    }
}

#[cfg(test)]
mod tests;

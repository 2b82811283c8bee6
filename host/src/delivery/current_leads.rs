//! Current leads: who sees a lead now decides if what an older line of the log says about it may still be sent.
//!
//! Thousands of sockets that catch up ask about the same leads: one query reads those of a batch of lines, plugins
//! are asked once per lead and role, and both are cached until the tail passes a line about the lead. A caller waits
//! for the tail to pass what was committed when it asked, so nothing in the cache is older than that.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quick_cache::{Weighter, unsync::Cache};
use tokio::{sync::watch, time::timeout};

use crate::{
    domain::{
        audience::Audience,
        counter::{Generation, Seq},
        event::{Event, size_in_memory},
        id::LeadId,
        lead::Lead,
        role::Role,
    },
    plugin::Unavailable,
    store::{self, handle::Store},
};

/// Delay before a failing plugin is asked again about a line, however many sockets wait for it.
pub(crate) const HELD_FOR: Duration = Duration::from_millis(200);

/// Approximate memory limit of the cached leads.
const CAPACITY_BYTES: u64 = 16 * 1024 * 1024;
const TYPICAL_LEAD_BYTES: u64 = 4 * 1024;
/// Maximum age of a cached lead: plugins may decide by the clock, so they are asked again after this time.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// Longest wait for the tail; if it is further behind, the database is read instead.
const TAIL_PATIENCE: Duration = Duration::from_millis(20);
/// Number of lines that are remembered after the tail passed them: a lead that was read before one of them is not
/// cached.
const PASSED: usize = 1024;

/// Cache of leads as they are now, for readers of older lines.
pub struct CurrentLeads {
    store: Arc<Store>,
    /// Newest line that the tail has passed.
    tail: watch::Sender<Seq>,
    cache: Mutex<CurrentLeadCache>,
    /// Locked by the one caller that reads the database: the others then find the leads in `cache`.
    reading: tokio::sync::Mutex<()>,
}

struct CurrentLeadCache {
    leads: Cache<LeadId, Arc<CurrentLead>, LeadWeighter>,
    passed: VecDeque<(Seq, LeadId)>,
}

/// Lead as it is now; empty if it no longer exists.
pub struct CurrentLead {
    pub(crate) lead: Option<Lead>,
    read_at: Instant,
    is_outdated: AtomicBool,
    pub(crate) verdicts: Mutex<Vec<AudienceVerdict>>,
}

pub(crate) struct AudienceVerdict {
    pub(crate) role: Role,
    pub(crate) generation: Generation,
    pub(crate) audience: Result<Audience, Unavailable>,
    pub(crate) at: Instant,
}

impl CurrentLeads {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let items = (CAPACITY_BYTES / TYPICAL_LEAD_BYTES) as usize;
        let leads = Cache::with_weighter(items, CAPACITY_BYTES, LeadWeighter);
        let cache = Mutex::new(CurrentLeadCache { leads, passed: VecDeque::new() });
        let tail = watch::Sender::new(*store.appended().borrow());
        Self { store, tail, cache, reading: tokio::sync::Mutex::new(()) }
    }

    /// Returns these leads as they are now; those that are not cached are read with one query.
    pub async fn of(&self, leads: &[LeadId]) -> Result<HashMap<LeadId, Arc<CurrentLead>>, store::Error> {
        let committed = *self.store.appended().borrow();
        let mut passed = self.tail.subscribe();
        if timeout(TAIL_PATIENCE, passed.wait_for(|seq| *seq >= committed)).await.is_err() {
            let (current, _) = self.read(leads).await?;
            return Ok(current.into_iter().collect());
        }

        let mut found = self.known(leads);
        if leads.iter().all(|lead| found.contains_key(lead)) {
            return Ok(found);
        }
        let _reading = self.reading.lock().await;
        found = self.known(leads);
        let missing: Vec<LeadId> = leads.iter().copied().filter(|lead| !found.contains_key(lead)).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let (current, head) = self.read(&missing).await?;
        self.insert(&current, head);
        found.extend(current);
        Ok(found)
    }

    /// Reads the leads from the database; also returns the line of the log as of which they were read.
    async fn read(&self, leads: &[LeadId]) -> Result<(Vec<(LeadId, Arc<CurrentLead>)>, Seq), store::Error> {
        let mut reader = self.store.read().await?;
        let head = reader.head().await?;
        let mut found: HashMap<LeadId, Lead> =
            reader.leads_of(leads).await?.into_iter().map(|lead| (lead.id, lead)).collect();
        let current = leads.iter().map(|id| (*id, Arc::new(CurrentLead::new(found.remove(id)))));
        Ok((current.collect(), head))
    }

    fn known(&self, leads: &[LeadId]) -> HashMap<LeadId, Arc<CurrentLead>> {
        let cache = self.cache.lock();
        let known = |id: &LeadId| Some((*id, cache.leads.get(id).filter(|lead| lead.is_fresh())?.clone()));
        leads.iter().filter_map(known).collect()
    }

    /// Caches leads as they were at line `head`, except those of which the tail has passed a later line.
    fn insert(&self, leads: &[(LeadId, Arc<CurrentLead>)], head: Seq) {
        let mut cache = self.cache.lock();
        // Further back than `passed` reaches, it is not known any more which lines were passed.
        let is_known = cache.passed.len() < PASSED || cache.passed.front().is_some_and(|(seq, _)| *seq <= head);
        if !is_known {
            return;
        }
        let passed: Vec<LeadId> = cache.passed.iter().filter(|(seq, _)| *seq > head).map(|(_, lead)| *lead).collect();
        for (id, lead) in leads.iter().filter(|(id, _)| !passed.contains(id)) {
            cache.leads.insert(*id, lead.clone());
        }
    }

    /// Drops the cached lead of a line that the tail passes: it may be different now.
    pub(crate) fn pass(&self, event: &Event) {
        if let Some(lead) = event.lead_id {
            let mut cache = self.cache.lock();
            if cache.passed.len() == PASSED {
                cache.passed.pop_front();
            }
            cache.passed.push_back((event.seq, lead));
            if let Some((_, outdated)) = cache.leads.remove(&lead) {
                outdated.is_outdated.store(true, Ordering::Relaxed);
            }
        }
        self.tail.send_replace(event.seq);
    }
}

impl CurrentLead {
    pub(crate) fn new(lead: Option<Lead>) -> Self {
        Self { lead, read_at: Instant::now(), is_outdated: AtomicBool::default(), verdicts: Mutex::default() }
    }

    /// Returns true if the lead was read recently and the tail has passed no line about it since.
    pub fn is_fresh(&self) -> bool {
        !self.is_outdated.load(Ordering::Relaxed) && self.read_at.elapsed() < FRESH_FOR
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.lead.is_none()
    }
}

struct LeadWeighter;

impl Weighter<LeadId, Arc<CurrentLead>> for LeadWeighter {
    fn weight(&self, _: &LeadId, current: &Arc<CurrentLead>) -> u64 {
        let Some(lead) = &current.lead else { return 256 };
        let fields = &lead.fields;
        let custom: u64 = fields.custom.iter().map(|(key, value)| key.len() as u64 + size_in_memory(value)).sum();
        2048 + custom + fields.description.as_ref().map_or(0, |text| text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{domain::time::Timestamp, store::test_database::TestDatabase};

    fn id(number: u128) -> LeadId {
        LeadId(Uuid::from_u128(number))
    }

    fn event(seq: Seq, lead: LeadId) -> Event {
        let (name, at) = ("lead:updated".into(), Timestamp::from_millis(0).expect("in range"));
        let (rooms, payload, context) = (Vec::new(), json!({}).into(), json!({}));
        Event { seq, name, rooms, lead_id: Some(lead), payload, context, at }
    }

    async fn current_leads(database: &TestDatabase) -> CurrentLeads {
        CurrentLeads::new(Arc::new(database.open().await))
    }

    #[tokio::test]
    async fn a_lead_is_cached_until_the_tail_passes_an_event_about_it() {
        let database = TestDatabase::new();
        let current_leads = current_leads(&database).await;
        let (one, other) = (id(1), id(2));
        let first = current_leads.of(&[one, other]).await.expect("reads");
        let again = current_leads.of(&[other, one]).await.expect("reads");
        assert!(first.iter().all(|(id, lead)| Arc::ptr_eq(lead, &again[id]) && lead.is_gone()));
        current_leads.pass(&event(Seq(1), one));
        assert!(!first[&one].is_fresh() && first[&other].is_fresh());
        let later = current_leads.of(&[one, other]).await.expect("reads");
        assert!(!Arc::ptr_eq(&later[&one], &first[&one]) && Arc::ptr_eq(&later[&other], &first[&other]));
    }

    #[tokio::test]
    async fn a_read_older_than_a_passed_event_is_not_cached() {
        let database = TestDatabase::new();
        let current_leads = current_leads(&database).await;
        let read = |lead| [(lead, Arc::new(CurrentLead::new(None)))];
        // The lead was read at line 4, and line 5 was passed before it could be cached.
        current_leads.pass(&event(Seq(5), id(1)));
        current_leads.insert(&read(id(1)), Seq(4));
        current_leads.insert(&read(id(2)), Seq(4));
        assert_eq!(current_leads.known(&[id(1), id(2)]).into_keys().collect::<Vec<_>>(), [id(2)]);
        current_leads.insert(&read(id(1)), Seq(5));
        assert_eq!(current_leads.known(&[id(1)]).len(), 1);
        // For lines that were passed longer ago, it is not known which lead they were about.
        (6..).take(PASSED).for_each(|seq| current_leads.pass(&event(Seq(seq), id(3))));
        current_leads.insert(&read(id(4)), Seq(5));
        assert!(current_leads.known(&[id(4)]).is_empty());
    }
}

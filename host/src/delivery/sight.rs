//! Who sees a lead now, which decides whether what an older line of the log tells of it may still be told.
//!
//! Thousands of sockets that catch up ask about the same leads: one query reads those of a batch of lines, plugins
//! are asked once for each lead and role, and both are kept until the tail passes a line about the lead. Whoever asks
//! waits for the tail to pass what was committed by then, so that nothing that is kept is older than that.

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

use super::shape::{HELD_FOR, Shaper};
use crate::{
    domain::{
        event::{Audience, Event, size_in_memory},
        id::LeadId,
        lead::Lead,
        role::Role,
        user::User,
    },
    plugin::{Pinned, Unavailable},
    store::{self, Store},
};

/// The memory that kept leads may take, roughly.
const CAPACITY_BYTES: u64 = 16 * 1024 * 1024;
const TYPICAL_LEAD_BYTES: u64 = 4 * 1024;
/// What plugins decide by the clock is asked again after this long.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// A tail that is further behind is not waited for: the database is read.
const TAIL_PATIENCE: Duration = Duration::from_millis(20);
/// Lines that the tail passed just now: a lead that was read before one of them is not kept.
const PASSED: usize = 1024;

/// Leads as they are now, for those who read older lines.
pub struct Sights {
    store: Arc<Store>,
    /// The newest line that the tail has passed.
    tail: watch::Sender<u64>,
    kept: Mutex<Kept>,
    /// Held by the one who reads the database: the others will find the leads in `kept`.
    reading: tokio::sync::Mutex<()>,
}

struct Kept {
    leads: Cache<LeadId, Arc<CurrentLead>, ByBytes>,
    passed: VecDeque<(u64, LeadId)>,
}

/// A lead as it is now, or that there is none any more.
pub struct CurrentLead {
    lead: Option<Lead>,
    read_at: Instant,
    is_outdated: AtomicBool,
    verdicts: Mutex<Vec<Verdict>>,
}

struct Verdict {
    role: Role,
    generation: u64,
    audience: Result<Audience, Unavailable>,
    at: Instant,
}

impl Sights {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let items = (CAPACITY_BYTES / TYPICAL_LEAD_BYTES) as usize;
        let leads = Cache::with_weighter(items, CAPACITY_BYTES, ByBytes);
        let kept = Mutex::new(Kept { leads, passed: VecDeque::new() });
        let tail = watch::Sender::new(*store.appended().borrow());
        Self { store, tail, kept, reading: tokio::sync::Mutex::new(()) }
    }

    /// These leads as they are now; those that are not known are read by one query.
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
        self.keep(&current, head);
        found.extend(current);
        Ok(found)
    }

    /// The leads as they are at the line that is returned with them.
    async fn read(&self, leads: &[LeadId]) -> Result<(Vec<(LeadId, Arc<CurrentLead>)>, u64), store::Error> {
        let mut reader = self.store.read().await?;
        let head = reader.head().await?;
        let mut found: HashMap<LeadId, Lead> =
            reader.leads_of(leads).await?.into_iter().map(|lead| (lead.id, lead)).collect();
        let current = leads.iter().map(|id| (*id, Arc::new(CurrentLead::new(found.remove(id)))));
        Ok((current.collect(), head))
    }

    fn known(&self, leads: &[LeadId]) -> HashMap<LeadId, Arc<CurrentLead>> {
        let kept = self.kept.lock();
        let known = |id: &LeadId| Some((*id, kept.leads.get(id).filter(|lead| lead.is_fresh())?.clone()));
        leads.iter().filter_map(known).collect()
    }

    /// Keeps leads as they were at the line `head`, but for those that the tail has passed a later line of.
    fn keep(&self, leads: &[(LeadId, Arc<CurrentLead>)], head: u64) {
        let mut kept = self.kept.lock();
        // Further back, it is not known any more what was passed.
        let is_known = kept.passed.len() < PASSED || kept.passed.front().is_some_and(|(seq, _)| *seq <= head);
        if !is_known {
            return;
        }
        let passed: Vec<LeadId> = kept.passed.iter().filter(|(seq, _)| *seq > head).map(|(_, lead)| *lead).collect();
        for (id, lead) in leads.iter().filter(|(id, _)| !passed.contains(id)) {
            kept.leads.insert(*id, lead.clone());
        }
    }

    /// The tail passes a line: what was known of its lead may be otherwise.
    pub(super) fn pass(&self, event: &Event) {
        if let Some(lead) = event.lead_id {
            let mut kept = self.kept.lock();
            if kept.passed.len() == PASSED {
                kept.passed.pop_front();
            }
            kept.passed.push_back((event.seq, lead));
            if let Some((_, outdated)) = kept.leads.remove(&lead) {
                outdated.is_outdated.store(true, Ordering::Relaxed);
            }
        }
        self.tail.send_replace(event.seq);
    }
}

impl CurrentLead {
    pub(super) fn new(lead: Option<Lead>) -> Self {
        Self { lead, read_at: Instant::now(), is_outdated: AtomicBool::default(), verdicts: Mutex::default() }
    }

    /// Whether nothing has been told of the lead since it was read.
    pub fn is_fresh(&self) -> bool {
        !self.is_outdated.load(Ordering::Relaxed) && self.read_at.elapsed() < FRESH_FOR
    }

    pub(super) fn is_gone(&self) -> bool {
        self.lead.is_none()
    }

    /// Whether the user sees the lead.
    ///
    /// # Errors
    /// When a plugin that is to say so does not.
    pub fn is_seen_by(&self, user: &User, shaper: &Shaper, plugins: &Pinned) -> Result<bool, Unavailable> {
        self.audience(user.role, shaper, plugins).map(|audience| audience.includes(user.id))
    }

    /// Who of a role sees the lead.
    pub(super) fn audience(&self, role: Role, shaper: &Shaper, plugins: &Pinned) -> Result<Audience, Unavailable> {
        let Some(lead) = &self.lead else { return Ok(Audience::Nobody) };
        let (generation, now) = (plugins.generation(), Instant::now());
        let mut verdicts = self.verdicts.lock();
        verdicts.retain(|verdict| {
            verdict.generation == generation && (verdict.audience.is_ok() || now - verdict.at < HELD_FOR)
        });
        if let Some(known) = verdicts.iter().find(|verdict| verdict.role == role) {
            return known.audience.clone();
        }
        let audience = shaper.sight_of_role(plugins, lead, role);
        verdicts.push(Verdict { role, generation, audience: audience.clone(), at: now });
        audience
    }
}

struct ByBytes;

impl Weighter<LeadId, Arc<CurrentLead>> for ByBytes {
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
    use crate::domain::time::Timestamp;

    fn id(number: u128) -> LeadId {
        LeadId(Uuid::from_u128(number))
    }

    fn event(seq: u64, lead: LeadId) -> Event {
        let (name, at) = ("lead:updated".into(), Timestamp::from_millis(0).expect("in range"));
        let (rooms, payload, context) = (Vec::new(), json!({}).into(), json!({}));
        Event { seq, name, rooms, lead_id: Some(lead), payload, context, at }
    }

    async fn sights(dir: &tempfile::TempDir) -> Sights {
        let store = Store::open(dir.path().join("test.db").to_str().expect("utf-8")).await.expect("opens");
        Sights::new(Arc::new(store))
    }

    #[tokio::test]
    async fn a_lead_is_read_once_until_the_tail_passes_a_line_about_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let sights = sights(&dir).await;
        let (one, other) = (id(1), id(2));
        let first = sights.of(&[one, other]).await.expect("reads");
        let again = sights.of(&[other, one]).await.expect("reads");
        assert!(first.iter().all(|(id, lead)| Arc::ptr_eq(lead, &again[id]) && lead.is_gone()));
        sights.pass(&event(1, one));
        assert!(!first[&one].is_fresh() && first[&other].is_fresh());
        let later = sights.of(&[one, other]).await.expect("reads");
        assert!(!Arc::ptr_eq(&later[&one], &first[&one]) && Arc::ptr_eq(&later[&other], &first[&other]));
    }

    #[tokio::test]
    async fn what_was_read_before_a_line_that_the_tail_has_passed_is_not_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let sights = sights(&dir).await;
        let read = |lead| [(lead, Arc::new(CurrentLead::new(None)))];
        // Read at line 4, and only then was line 5 passed, before it could be kept.
        sights.pass(&event(5, id(1)));
        sights.keep(&read(id(1)), 4);
        sights.keep(&read(id(2)), 4);
        assert_eq!(sights.known(&[id(1), id(2)]).into_keys().collect::<Vec<_>>(), [id(2)]);
        sights.keep(&read(id(1)), 5);
        assert_eq!(sights.known(&[id(1)]).len(), 1);
        // Of lines that were passed longer ago nobody knows what they were about.
        (6..).take(PASSED).for_each(|seq| sights.pass(&event(seq, id(3))));
        sights.keep(&read(id(4)), 5);
        assert!(sights.known(&[id(4)]).is_empty());
    }
}

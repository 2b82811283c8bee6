//! Asks one plugin about one occasion after the other: lines of the log, reminders that came due, and what was parked
//! and is tried again. The answer, the plugin's state and its new place in the log are written together.

use std::{mem::take, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use tokio::{select, sync::watch, task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Shared, Step, wait};
use crate::{
    app::{
        self,
        effect::{occasion_of_event, occasion_of_reminder},
    },
    domain::{
        event::{Cause, Event},
        time::Timestamp,
    },
    plugin::after::{AfterError, Occasion, Outcome, REMINDER},
    store::{
        Store,
        effect::{Effect, GAP, QUESTION},
        follower::Reminder,
    },
};

/// Lines that are read from the log at once.
const BATCH: u32 = 64;
/// A chain of plugins that answer one another ends with the effects of the fourth.
const MAX_CHAIN: usize = 4;
/// A place in the log that only went past what nobody wanted is written down this late.
const LAZY: Duration = Duration::from_millis(250);

pub(super) struct Asking {
    shared: Arc<Shared>,
    plugin: String,
    stop: CancellationToken,
    /// Where the plugin is, and where the database has it.
    seq: u64,
    written: u64,
    written_at: Instant,
    /// Lines that were not asked about since.
    stopped: u64,
    /// Reminders and the log take turns.
    log_first: bool,
    trouble: Option<Trouble>,
}

/// The plugin gave no answer, and is asked again about the same before anything else.
struct Trouble {
    occasion: String,
    in_log: bool,
    attempts: u32,
    until: Instant,
    /// There is no room to park it.
    is_stuck: bool,
    /// A new one may do better: it is asked at once.
    generation: u64,
}

/// Something that happened, as the plugin is asked about it.
struct Asked {
    id: String,
    seq: Option<u64>,
    at: Timestamp,
    name: String,
    payload: Arc<Value>,
    context: Value,
    /// What led to it.
    cause: Cause,
    source: Source,
}

enum Source {
    Log(u64),
    Reminder(Reminder),
    /// Parked, and put back.
    Parked(Effect),
}

impl Asking {
    pub(super) fn new(shared: Arc<Shared>, plugin: String, stop: CancellationToken) -> Self {
        let written_at = Instant::now();
        let (seq, written, stopped, log_first, trouble) = (0, 0, 0, false, None);
        Self { shared, plugin, stop, seq, written, written_at, stopped, log_first, trouble }
    }

    /// Runs until it is stopped, or the plugin is removed.
    pub(super) async fn run(mut self) {
        let (mut appended, mut staged) = (self.store().appended(), self.store().staged());
        let mut changed = self.shared.app.plugins().changed();
        while !self.stop.is_cancelled() {
            let (_, _, _) = (appended.borrow_and_update(), staged.borrow_and_update(), changed.borrow_and_update());
            let outcome = self.step().await;
            let until = match Step::of(outcome, &self.plugin, "ask the plugin what follows") {
                Step::Again => continue,
                Step::Gone => return,
                Step::Wait(until) => until,
            };
            select! {
                () = self.stop.cancelled() => {}
                () = wait(until) => {}
                () = any_of(&mut appended, &mut staged, &mut changed) => {}
            }
        }
        // What nobody wanted need not be looked at again after a restart.
        if self.seq > self.written {
            let _ = self.write_place().await;
        }
    }

    fn store(&self) -> &Arc<Store> {
        self.shared.app.store()
    }

    async fn step(&mut self) -> app::Result<Step> {
        let Some(follower) = self.store().read().await?.follower(&self.plugin).await? else { return Ok(Step::Gone) };
        if follower.seq != self.written {
            (self.seq, self.written, self.stopped) = (follower.seq, follower.seq, 0);
        }
        let Some(generation) = self.shared.generation(&self.plugin) else { return Ok(Step::Wait(None)) };
        if let Some(trouble) = &mut self.trouble {
            if trouble.generation != generation {
                (trouble.generation, trouble.attempts) = (generation, 0);
            } else if trouble.until > Instant::now()
                // Somebody may have made room.
                && !(trouble.is_stuck && self.shared.has_room(&self.plugin).await?)
            {
                return Ok(Step::Wait(Some(trouble.until)));
            }
        }
        let state = follower.state;
        if let Some(Trouble { in_log, .. }) = self.trouble {
            let step = self.look(in_log, &state).await?;
            if self.trouble.as_ref().is_some_and(|trouble| trouble.until <= Instant::now()) {
                // It did not come up again: a reminder was replaced, say.
                self.trouble = None;
                return Ok(Step::Again);
            }
            return Ok(step);
        }
        self.log_first = !self.log_first;
        let mut next = None;
        for in_log in [self.log_first, !self.log_first] {
            match self.look(in_log, &state).await? {
                Step::Wait(until) if self.trouble.is_none() => next = next.into_iter().chain(until).min(),
                step => return Ok(step),
            }
        }
        Ok(Step::Wait(next))
    }

    async fn look(&mut self, in_log: bool, state: &Option<String>) -> app::Result<Step> {
        if in_log { self.ask_about_log(state).await } else { self.ask_about_others(state).await }
    }

    /// Goes on in the log up to the next line that the plugin wants.
    async fn ask_about_log(&mut self, state: &Option<String>) -> app::Result<Step> {
        let mut reader = self.store().read().await?;
        let (head, events) = (reader.head().await?, reader.events_after(self.seq, BATCH).await?);
        drop(reader);
        let oldest = events.first().map_or(head + 1, |event| event.seq);
        if self.seq > head || oldest != self.seq + 1 {
            return self.leap(oldest - 1).await;
        }
        let is_last = events.len() < BATCH as usize;
        for event in events {
            let (seq, wanted) = (event.seq, self.wants(&event));
            if !wanted {
                self.seq = seq;
                continue;
            }
            let asked = Asked::about_event(event, self.store().epoch());
            let step = self.ask(asked, state).await?;
            if let Step::Again = step {
                self.seq = self.seq.max(seq);
            }
            return Ok(step);
        }
        if !is_last {
            return Ok(Step::Again);
        }
        match self.seq > self.written {
            true if self.written_at.elapsed() >= LAZY => {
                self.write_place().await?;
                Ok(Step::Wait(None))
            }
            true => Ok(Step::Wait(Some(self.written_at + LAZY))),
            false => Ok(Step::Wait(None)),
        }
    }

    /// What was put back, and reminders that came due.
    async fn ask_about_others(&mut self, state: &Option<String>) -> app::Result<Step> {
        let now = self.shared.app.now();
        let mut reader = self.store().read().await?;
        let question = reader.pending_effects(&self.plugin, QUESTION, 1).await?.pop();
        let reminder = reader.next_reminder(&self.plugin).await?;
        drop(reader);
        let due =
            [question.as_ref().map(|question| question.due_at), reminder.as_ref().map(|reminder| reminder.due_at)];
        if let Some(question) = question.filter(|question| question.due_at <= now) {
            return match self.asked_again(&question).await? {
                Some(asked) => self.ask(asked, state).await,
                None => self.shared.fail(&question, "the log no longer has it", None).await.map(|()| Step::Again),
            };
        }
        if let Some(reminder) = reminder.filter(|reminder| reminder.due_at <= now) {
            let asked = self.about_reminder(reminder.clone(), Source::Reminder(reminder)).await?;
            return self.ask(asked, state).await;
        }
        let next = due.into_iter().flatten().min();
        Ok(Step::Wait(next.map(|due| Instant::now() + due.since(now))))
    }

    /// Whether the plugin is to be asked about a line of the log.
    fn wants(&mut self, event: &Event) -> bool {
        // A line without a room tells nodes of what changes rights, and nobody else.
        if event.rooms.is_empty() || !self.shared.app.plugins().follows(&self.plugin, &event.name) {
            return false;
        }
        let chain = event.cause().plugins;
        if chain.last() == Some(&self.plugin) {
            return false;
        }
        if chain.len() >= MAX_CHAIN {
            let (plugin, chain) = (&self.plugin, chain.join(" > "));
            warn!(
                plugin,
                event.seq = event.seq,
                "{plugin} is not asked about {}: {chain} answered one another",
                event.name
            );
            metrics::counter!("leadwire_effect_chains_stopped_total", "plugin" => plugin.clone()).increment(1);
            self.stopped += 1;
            return false;
        }
        true
    }

    async fn ask(&mut self, asked: Asked, state: &Option<String>) -> app::Result<Step> {
        let (plugins, plugin, state) = (self.shared.app.plugins().clone(), self.plugin.clone(), state.clone());
        // A guest may take its whole deadline, for every event of the log: not on a thread that serves clients.
        let answered = spawn_blocking(move || {
            let occasion = Occasion {
                id: &asked.id,
                seq: asked.seq,
                at: asked.at,
                name: &asked.name,
                payload: &asked.payload,
                context: &asked.context,
                state: state.as_deref(),
            };
            let outcome = plugins.after(&plugin, &occasion);
            (asked, outcome)
        });
        let (asked, outcome) = answered.await.map_err(|broken| app::Error::Internal(broken.into()))?;
        let outcome = match outcome {
            Ok(outcome) => outcome.unwrap_or_default(),
            Err(AfterError::Gone) => return Ok(Step::Wait(None)),
            Err(AfterError::Unavailable(unavailable)) => return self.failed(asked, unavailable.reason).await,
        };
        let occasion = asked.id.clone();
        if let Some(reason) = self.settle(&asked, outcome).await? {
            return self.failed(asked, reason).await;
        }
        self.trouble = self.trouble.take().filter(|trouble| trouble.occasion != occasion);
        Ok(Step::Again)
    }

    /// Writes an answer down, and with it that there is one; or says why it cannot be taken.
    async fn settle(&mut self, asked: &Asked, outcome: Outcome) -> app::Result<Option<String>> {
        if let Source::Log(_) = asked.source
            && outcome == Outcome::default()
        {
            // Nothing follows: to be asked once more, should the process end now, does no harm.
            return Ok(None);
        }
        let now = self.shared.app.now();
        let store = self.store().clone();
        let mut tx = store.write().await?;
        let ours = match &asked.source {
            Source::Log(seq) => tx.advance(&self.plugin, self.written, *seq, self.stopped).await?,
            Source::Reminder(reminder) => tx.take_reminder(&self.plugin, reminder.id).await?,
            Source::Parked(effect) => tx.finish_effect(effect.id, now).await?,
        };
        if !ours {
            // Removed, replaced or given up while the plugin was thinking: the next look will show.
            return Ok(None);
        }
        let wanted = outcome.effects.len() as u64;
        if wanted > 0 {
            let most = self.shared.most_open(&self.plugin);
            let open = tx.open_effects(&self.plugin, most).await?;
            if open + wanted > most {
                let reason = format!(
                    "it wants {wanted} effects where {open} are pending or parked: limits.open_effects = {most} does \
                     not let so many be"
                );
                return Ok(Some(reason));
            }
        }
        if let Some(state) = &outcome.state {
            tx.keep_state(&self.plugin, state).await?;
        }
        let cause = asked.cause.followed_by(&self.plugin, &asked.id);
        let effects = outcome.effects.iter().map(|effect| (effect.name.as_str(), &effect.input));
        tx.stage(&self.plugin, &cause, effects, asked.at, now).await?;
        tx.commit().await?;
        if let Source::Log(seq) = asked.source {
            self.moved_to(seq);
        }
        Ok(None)
    }

    /// Decides whether the plugin is asked again about an occasion.
    async fn failed(&mut self, asked: Asked, reason: String) -> app::Result<Step> {
        if let Source::Parked(effect) = &asked.source {
            // Out of its order already, so that nothing else has to wait for it.
            self.shared.fail(effect, &reason, self.shared.wait(effect.attempts + 1)).await?;
            return Ok(Step::Again);
        }
        let known = self.trouble.take().filter(|trouble| trouble.occasion == asked.id);
        let attempts = known.map_or(0, |trouble| trouble.attempts) + 1;
        let plugin = &self.plugin;
        let again_in = self.shared.wait(attempts);
        let is_stuck = again_in.is_none() && !self.shared.has_room(plugin).await?;
        let wait = match again_in {
            Some(wait) => wait,
            None if is_stuck => {
                warn!(
                    plugin,
                    occasion = asked.id,
                    "{plugin} goes no further than {}: limits.open_effects lets nothing more of it be parked: {reason}",
                    asked.name
                );
                self.shared.settings.longest_delay
            }
            None => {
                warn!(
                    plugin,
                    occasion = asked.id,
                    "{plugin} gave no answer about {} and is not asked again: {reason}",
                    asked.name
                );
                self.park(asked, &reason).await?;
                return Ok(Step::Again);
            }
        };
        let (occasion, in_log, until) = (asked.id, asked.seq.is_some(), Instant::now() + wait);
        let generation = self.shared.generation(&self.plugin).unwrap_or_default();
        self.trouble = Some(Trouble { occasion, in_log, attempts, until, is_stuck, generation });
        Ok(Step::Wait(Some(until)))
    }

    /// Leaves an occasion for people to look at, and goes on.
    async fn park(&mut self, asked: Asked, reason: &str) -> app::Result<()> {
        let now = self.shared.app.now();
        let (input, ours);
        let store = self.store().clone();
        let mut tx = store.write().await?;
        match &asked.source {
            Source::Log(seq) => {
                input = object(json!({"seq": seq, "event": asked.name}));
                ours = tx.advance(&self.plugin, self.written, *seq, self.stopped).await?;
            }
            Source::Reminder(reminder) => {
                input = reminder.to_input();
                ours = tx.take_reminder(&self.plugin, reminder.id).await?;
            }
            Source::Parked(_) => return Ok(()),
        }
        if !ours {
            return Ok(());
        }
        let cause = Cause { plugins: asked.cause.plugins, occasion: asked.id };
        tx.park(&self.plugin, QUESTION, &input, &cause, asked.at, reason, now).await?;
        tx.commit().await?;
        metrics::counter!("leadwire_effects_parked_total", "plugin" => self.plugin.clone()).increment(1);
        if let Source::Log(seq) = asked.source {
            self.moved_to(seq);
        }
        Ok(())
    }

    /// Goes on where the log does, and leaves a note of what it no longer has.
    async fn leap(&mut self, to: u64) -> app::Result<Step> {
        let (plugin, from, now) = (&self.plugin, self.seq + 1, self.shared.app.now());
        let reason = if to >= from {
            format!("the log no longer has lines {from} to {to}, which the plugin was not asked about")
        } else {
            format!("the log ends at line {to}; the plugin was at {}", self.seq)
        };
        warn!(plugin, "{plugin} goes on at line {}: {reason}", to + 1);
        let occasion = format!("{}:{from}-{to}", self.store().epoch());
        let store = self.store().clone();
        let mut tx = store.write().await?;
        if tx.advance(plugin, self.written, to, self.stopped).await? {
            let cause = Cause { plugins: Vec::new(), occasion };
            tx.park(plugin, GAP, &object(json!({"from": from, "to": to})), &cause, now, &reason, now).await?;
            tx.commit().await?;
            self.moved_to(to);
        }
        Ok(Step::Again)
    }

    async fn write_place(&mut self) -> app::Result<()> {
        let (seq, store) = (self.seq, self.store().clone());
        let mut tx = store.write().await?;
        if tx.advance(&self.plugin, self.written, seq, self.stopped).await? {
            tx.commit().await?;
            self.moved_to(seq);
        }
        Ok(())
    }

    fn moved_to(&mut self, seq: u64) {
        (self.seq, self.written, self.written_at) = (seq, seq, Instant::now());
        take(&mut self.stopped);
    }

    /// What was parked, as it was; none when the log no longer has it.
    async fn asked_again(&self, question: &Effect) -> app::Result<Option<Asked>> {
        let source = Source::Parked(question.clone());
        if let Some(seq) = question.input.get("seq").and_then(Value::as_u64) {
            let events = self.store().read().await?.events_after(seq.saturating_sub(1), 1).await?;
            let event = events.into_iter().find(|event| event.seq == seq);
            return Ok(event.map(|event| Asked { source, ..Asked::about_event(event, self.store().epoch()) }));
        }
        match Reminder::from_input(&question.input, question.cause.clone()) {
            Some(reminder) => self.about_reminder(reminder, source).await.map(Some),
            None => Ok(None),
        }
    }

    async fn about_reminder(&self, reminder: Reminder, source: Source) -> app::Result<Asked> {
        let lead = match reminder.lead_id {
            Some(id) => self.store().read().await?.lead(id).await?,
            None => None,
        };
        let Reminder { key, due_at, lead_id, data, .. } = &reminder;
        Ok(Asked {
            id: occasion_of_reminder(&reminder),
            seq: None,
            at: *due_at,
            name: REMINDER.into(),
            payload: Arc::new(json!({"key": key, "at": due_at, "leadId": lead_id, "data": data})),
            context: lead.map_or_else(|| json!({}), |lead| json!({"lead": lead})),
            cause: reminder.cause,
            source,
        })
    }
}

impl Asked {
    fn about_event(event: Event, epoch: &str) -> Self {
        let cause = event.cause();
        let Event { seq, name, payload, context, at, .. } = event;
        let (id, source) = (occasion_of_event(epoch, seq), Source::Log(seq));
        Self { id, seq: Some(seq), at, name, payload, context, cause, source }
    }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { unreachable!("written as an object") };
    members
}

/// Returns once one of them changed. They live as long as the store and the plugins, which outlive every task.
async fn any_of(
    appended: &mut watch::Receiver<u64>,
    staged: &mut watch::Receiver<()>,
    changed: &mut watch::Receiver<u64>,
) {
    select! {
        _ = appended.changed() => {}
        _ = staged.changed() => {}
        _ = changed.changed() => {}
    }
}

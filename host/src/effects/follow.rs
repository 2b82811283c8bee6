//! Follower: asks one plugin about one occasion after the other. Occasions are lines of the log, reminders that are
//! due, and parked questions that are retried.
//!
//! The answer, the plugin's state and its new cursor in the log are written in one transaction.

use std::{mem::take, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use tokio::{sync::watch, task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    app::{
        self, App,
        effect::{occasion_of_event, occasion_of_reminder},
    },
    domain::{
        actor::Cause,
        counter::{Generation, Seq},
        event::Event,
        id::Epoch,
        plugin_name::PluginName,
        time::Timestamp,
    },
    effects::{
        context::EffectsContext,
        task::{EffectTask, TaskStep},
    },
    plugin::{AfterError, AfterOutcome, Occasion, REMINDER},
    store::{
        effect::{GAP, QUESTION, StoredEffect},
        follower::Reminder,
        handle::Store,
    },
};

/// Log lines per read.
const BATCH: u32 = 64;
/// Maximum length of a chain of plugins that react to one another: it ends with the effects of the fourth.
const MAX_CHAIN: usize = 4;
/// Delay before the cursor is written if it only went past lines that the plugin did not want.
const LAZY: Duration = Duration::from_millis(250);

pub(crate) struct FollowTask {
    shared: Arc<EffectsContext>,
    plugin: PluginName,
    appended: watch::Receiver<Seq>,
    /// Cursor of the plugin in the log; `written` is the cursor in the database.
    seq: Seq,
    written: Seq,
    written_at: Instant,
    /// Number of lines since then that were not asked about, because their chain was too long.
    stopped: u64,
    /// Set when the log is looked at first: reminders and the log take turns.
    log_first: bool,
    /// Generation of the plugin at the beginning of the step.
    generation: Generation,
    trouble: Option<Retry>,
}

/// Retry of an occasion on which the plugin gave no answer: it is asked again about this one before anything else.
struct Retry {
    occasion: String,
    in_log: bool,
    attempts: u32,
    until: Instant,
    /// Set when there is no room to park the occasion.
    is_stuck: bool,
    /// Generation that failed. A new one may do better, so it is asked at once.
    generation: Generation,
}

/// Occasion as the plugin is asked about it.
struct PendingOccasion {
    id: String,
    seq: Option<Seq>,
    at: Timestamp,
    name: String,
    payload: Arc<Value>,
    context: Value,
    /// Cause of the occasion.
    cause: Cause,
    source: OccasionSource,
}

enum OccasionSource {
    Log(Seq),
    Reminder(Reminder),
    /// Parked question that was put back.
    Parked(StoredEffect),
}

impl FollowTask {
    pub(crate) fn new(shared: Arc<EffectsContext>, plugin: PluginName) -> Self {
        Self {
            appended: shared.app.store().appended(),
            shared,
            plugin,
            seq: Seq::START,
            written: Seq::START,
            written_at: Instant::now(),
            stopped: 0,
            log_first: false,
            generation: Generation::NONE,
            trouble: None,
        }
    }

    /// Runs until `stop`, or until the plugin is removed.
    pub(crate) async fn run(mut self, stop: &CancellationToken) {
        self.run_until(stop).await;
        // Lines that the plugin did not want need not be looked at again after a restart.
        if stop.is_cancelled() && self.seq > self.written {
            let _ = self.write_place().await;
        }
    }

    fn store(&self) -> &Arc<Store> {
        self.shared.app.store()
    }

    async fn look(&mut self, in_log: bool, state: &Option<String>) -> app::Result<TaskStep> {
        if in_log { self.ask_about_log(state).await } else { self.ask_about_others(state).await }
    }

    /// Advances in the log to the next line that the plugin wants, and asks about it.
    async fn ask_about_log(&mut self, state: &Option<String>) -> app::Result<TaskStep> {
        let mut reader = self.store().read().await?;
        let (head, events) = (reader.head().await?, reader.events_after(self.seq, BATCH).await?);
        drop(reader);
        let oldest = events.first().map_or(head.next(), |event| event.seq);
        if self.seq > head || oldest != self.seq.next() {
            return self.skip_gap(oldest.before()).await;
        }
        let is_last = events.len() < BATCH as usize;
        for event in events {
            let (seq, wanted) = (event.seq, self.wants(&event));
            if !wanted {
                self.seq = seq;
                continue;
            }
            let asked = PendingOccasion::about_event(event, self.store().epoch());
            let step = self.ask(asked, state).await?;
            if let TaskStep::Again = step {
                self.seq = self.seq.max(seq);
            }
            return Ok(step);
        }
        if !is_last {
            return Ok(TaskStep::Again);
        }
        match self.seq > self.written {
            true if self.written_at.elapsed() >= LAZY => {
                self.write_place().await?;
                Ok(TaskStep::Wait(None))
            }
            true => Ok(TaskStep::Wait(Some(self.written_at + LAZY))),
            false => Ok(TaskStep::Wait(None)),
        }
    }

    /// Asks about questions that were put back, and about reminders that are due.
    async fn ask_about_others(&mut self, state: &Option<String>) -> app::Result<TaskStep> {
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
                None => self.shared.fail(&question, "it is no longer in the log", None).await.map(|()| TaskStep::Again),
            };
        }
        if let Some(reminder) = reminder.filter(|reminder| reminder.due_at <= now) {
            let asked = self.about_reminder(reminder.clone(), OccasionSource::Reminder(reminder)).await?;
            return self.ask(asked, state).await;
        }
        let next = due.into_iter().flatten().min();
        Ok(TaskStep::Wait(next.map(|due| Instant::now() + due.since(now))))
    }

    /// Returns true if the plugin has to be asked about a line of the log.
    fn wants(&mut self, event: &Event) -> bool {
        // A line without a room is for the nodes alone: it tells them about a change of rights.
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
                plugin = plugin.as_str(),
                event.seq = event.seq.0,
                "plugin loop detected, skipping {} for {plugin}: chain {chain}",
                event.name
            );
            metrics::counter!("leadwire_effect_chains_stopped_total", "plugin" => plugin.to_string()).increment(1);
            self.stopped += 1;
            return false;
        }
        true
    }

    async fn ask(&mut self, asked: PendingOccasion, state: &Option<String>) -> app::Result<TaskStep> {
        let (plugins, plugin, state) = (self.shared.app.plugins().clone(), self.plugin.clone(), state.clone());
        // A guest may take its whole deadline for every event of the log, so it must not run on a thread that serves
        // clients.
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
            Err(AfterError::Gone) => return Ok(TaskStep::Wait(None)),
            Err(AfterError::Unavailable(unavailable)) => {
                return self.failed(asked, unavailable.reason).await;
            }
        };
        let occasion = asked.id.clone();
        if let Some(reason) = self.settle(&asked, outcome).await? {
            return self.failed(asked, reason).await;
        }
        self.trouble = self.trouble.take().filter(|trouble| trouble.occasion != occasion);
        Ok(TaskStep::Again)
    }

    /// Writes an answer, together with the fact that the occasion was answered; or returns the reason why the answer
    /// cannot be accepted.
    async fn settle(&mut self, asked: &PendingOccasion, outcome: AfterOutcome) -> app::Result<Option<String>> {
        if let OccasionSource::Log(_) = asked.source
            && outcome == AfterOutcome::default()
        {
            // The answer is empty: if the process ends now, asking once more does no harm.
            return Ok(None);
        }
        let now = self.shared.app.now();
        let store = self.store().clone();
        let mut tx = store.write().await?;
        let ours = match &asked.source {
            OccasionSource::Log(seq) => tx.advance(&self.plugin, self.written, *seq, self.stopped).await?,
            OccasionSource::Reminder(reminder) => tx.take_reminder(&self.plugin, reminder.id).await?,
            OccasionSource::Parked(effect) => tx.finish_effect(effect.id, now).await?,
        };
        if !ours {
            // The occasion was removed, replaced or given up while the plugin was thinking; the next step finds that.
            return Ok(None);
        }
        let wanted = outcome.effects.len() as u64;
        if wanted > 0 {
            let most = self.shared.most_open(&self.plugin);
            let open = tx.open_effects(&self.plugin, most).await?;
            if open + wanted > most {
                let reason = format!(
                    "open effect limit reached: {wanted} more with {open} pending or parked \
                     (limits.open_effects = {most})"
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
        if let OccasionSource::Log(seq) = asked.source {
            self.moved_to(seq);
        }
        Ok(None)
    }

    /// Decides if the plugin is asked again about an occasion, or the occasion is parked.
    async fn failed(&mut self, asked: PendingOccasion, reason: String) -> app::Result<TaskStep> {
        if let OccasionSource::Parked(effect) = &asked.source {
            // It is out of its order already, so nothing else has to wait for it.
            self.shared.fail(effect, &reason, self.shared.wait(effect.attempts + 1)).await?;
            return Ok(TaskStep::Again);
        }
        if self.shared.generation(&self.plugin) != Some(self.generation) {
            // It was replaced while it answered. Its successor may do better, or have room: it is asked at once. Not
            // `Again`, which goes past the event.
            return Ok(TaskStep::Wait(Some(Instant::now())));
        }
        let known = self.trouble.take().filter(|trouble| trouble.occasion == asked.id);
        let attempts = known.map_or(0, |trouble| trouble.attempts) + 1;
        let plugin = self.plugin.as_str();
        let again_in = self.shared.wait(attempts);
        let is_stuck = again_in.is_none() && !self.shared.has_room(&self.plugin).await?;
        let wait = match again_in {
            Some(wait) => wait,
            None if is_stuck => {
                warn!(
                    plugin,
                    occasion = asked.id,
                    "{plugin} is blocked at {}: limits.open_effects reached, cannot park it: {reason}",
                    asked.name
                );
                self.shared.settings.longest_delay
            }
            None => {
                warn!(plugin, occasion = asked.id, "parking {} of {plugin} after last retry: {reason}", asked.name);
                self.park(asked, &reason).await?;
                return Ok(TaskStep::Again);
            }
        };
        let (occasion, in_log, until) = (asked.id, asked.seq.is_some(), Instant::now() + wait);
        let generation = self.generation;
        self.trouble = Some(Retry { occasion, in_log, attempts, until, is_stuck, generation });
        Ok(TaskStep::Wait(Some(until)))
    }

    /// Parks an occasion for people to look at (dead letter), and goes on.
    async fn park(&mut self, asked: PendingOccasion, reason: &str) -> app::Result<()> {
        let now = self.shared.app.now();
        let (input, ours);
        let store = self.store().clone();
        let mut tx = store.write().await?;
        match &asked.source {
            OccasionSource::Log(seq) => {
                input = object(json!({"seq": seq, "event": asked.name}));
                ours = tx.advance(&self.plugin, self.written, *seq, self.stopped).await?;
            }
            OccasionSource::Reminder(reminder) => {
                input = reminder.to_input();
                ours = tx.take_reminder(&self.plugin, reminder.id).await?;
            }
            OccasionSource::Parked(_) => return Ok(()),
        }
        if !ours {
            return Ok(());
        }
        let cause = Cause { plugins: asked.cause.plugins, occasion: asked.id };
        tx.park(&self.plugin, QUESTION, &input, &cause, asked.at, reason, now).await?;
        tx.commit().await?;
        metrics::counter!("leadwire_effects_parked_total", "plugin" => self.plugin.to_string()).increment(1);
        if let OccasionSource::Log(seq) = asked.source {
            self.moved_to(seq);
        }
        Ok(())
    }

    /// Skips a gap: goes on where the log does, and parks a record of the lines that it no longer has.
    async fn skip_gap(&mut self, to: Seq) -> app::Result<TaskStep> {
        let (plugin, from, now) = (&self.plugin, self.seq.next(), self.shared.app.now());
        let reason = if to >= from {
            format!("events {from} to {to} are no longer in the log and were skipped")
        } else {
            format!("the log ends at event {to}, but the plugin was at {}", self.seq)
        };
        warn!(plugin = plugin.as_str(), "{plugin} resumes at event {}: {reason}", to.next());
        let occasion = format!("{}:{from}-{to}", self.store().epoch());
        let store = self.store().clone();
        let mut tx = store.write().await?;
        if tx.advance(plugin, self.written, to, self.stopped).await? {
            let cause = Cause { plugins: Vec::new(), occasion };
            tx.park(plugin, GAP, &object(json!({"from": from, "to": to})), &cause, now, &reason, now).await?;
            tx.commit().await?;
            self.moved_to(to);
        }
        Ok(TaskStep::Again)
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

    fn moved_to(&mut self, seq: Seq) {
        (self.seq, self.written, self.written_at) = (seq, seq, Instant::now());
        take(&mut self.stopped);
    }

    /// Restores a parked occasion as it was; `None` if the log no longer has it.
    async fn asked_again(&self, question: &StoredEffect) -> app::Result<Option<PendingOccasion>> {
        let source = OccasionSource::Parked(question.clone());
        if let Some(seq) = question.input.get("seq").and_then(Value::as_u64).map(Seq) {
            let events = self.store().read().await?.events_after(seq.before(), 1).await?;
            let event = events.into_iter().find(|event| event.seq == seq);
            return Ok(event
                .map(|event| PendingOccasion { source, ..PendingOccasion::about_event(event, self.store().epoch()) }));
        }
        match Reminder::from_input(&question.input, question.cause.clone()) {
            Some(reminder) => self.about_reminder(reminder, source).await.map(Some),
            None => Ok(None),
        }
    }

    async fn about_reminder(&self, reminder: Reminder, source: OccasionSource) -> app::Result<PendingOccasion> {
        let lead = match reminder.lead_id {
            Some(id) => self.store().read().await?.lead(id).await?,
            None => None,
        };
        let Reminder { key, due_at, lead_id, data, .. } = &reminder;
        Ok(PendingOccasion {
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

impl EffectTask for FollowTask {
    const ACTION: &str = "call the after hook of the plugin";

    fn app(&self) -> &App {
        &self.shared.app
    }

    fn plugin(&self) -> &str {
        &self.plugin
    }

    async fn step(&mut self) -> app::Result<TaskStep> {
        self.appended.mark_unchanged();
        let Some(follower) = self.store().read().await?.follower(&self.plugin).await? else {
            return Ok(TaskStep::Gone);
        };
        if follower.seq != self.written {
            (self.seq, self.written, self.stopped) = (follower.seq, follower.seq, 0);
        }
        let Some(generation) = self.shared.generation(&self.plugin) else { return Ok(TaskStep::Wait(None)) };
        self.generation = generation;
        if let Some(trouble) = &mut self.trouble {
            if trouble.generation != generation {
                (trouble.generation, trouble.attempts) = (generation, 0);
            } else if trouble.until > Instant::now()
                // Somebody may have made room.
                && !(trouble.is_stuck && self.shared.has_room(&self.plugin).await?)
            {
                return Ok(TaskStep::Wait(Some(trouble.until)));
            }
        }
        let state = follower.state;
        if let Some(Retry { in_log, .. }) = self.trouble {
            let step = self.look(in_log, &state).await?;
            if self.trouble.as_ref().is_some_and(|trouble| trouble.until <= Instant::now()) {
                // The occasion did not come up again: a reminder was replaced, say.
                self.trouble = None;
                return Ok(TaskStep::Again);
            }
            return Ok(step);
        }
        self.log_first = !self.log_first;
        let mut next = None;
        for in_log in [self.log_first, !self.log_first] {
            match self.look(in_log, &state).await? {
                TaskStep::Wait(until) if self.trouble.is_none() => next = next.into_iter().chain(until).min(),
                step => return Ok(step),
            }
        }
        Ok(TaskStep::Wait(next))
    }

    async fn woken(&mut self) {
        // Never fails: the store outlives every task.
        let _ = self.appended.changed().await;
    }
}

impl PendingOccasion {
    fn about_event(event: Event, epoch: &Epoch) -> Self {
        let cause = event.cause();
        let Event { seq, name, payload, context, at, .. } = event;
        let (id, source) = (occasion_of_event(epoch, seq), OccasionSource::Log(seq));
        Self { id, seq: Some(seq), at, name, payload, context, cause, source }
    }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { unreachable!("written as an object") };
    members
}

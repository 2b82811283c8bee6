//! Shadow mode: what plugins would have done to live events, commands and users, counted by role.
//!
//! They are asked on a thread of their own about copies of what happened, so that nobody waits for them and their
//! answers have no effect. A full queue drops further questions; what a shadow was not asked for that reason is
//! counted as well.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use serde_json::{Map, Value};

use crate::{
    domain::{
        actor::{ActorAccount, ActorKind},
        event::{Event, size_in_memory},
        role::Role,
        room::Room,
        user::User,
    },
    plugin::{
        active::{
            observed::AnswerCounts,
            plugin::Plugin,
            set::{Set, SetMember, Shadow},
        },
        contract::{
            answer::{Decision, Ruling},
            effect::{AfterOutcome, Occasion},
            question::ProposedCommand,
        },
        hooks::{after, authorize, before, shape},
    },
};

const QUEUE: usize = 256;
const QUEUE_BYTES: u64 = 16 << 20;

/// Something that happened, for plugins in shadow mode to be asked about.
pub(crate) enum ShadowQuestion {
    Event(Event),
    /// A command that was carried out.
    Command {
        name: String,
        actor: ActorAccount,
        input: Map<String, Value>,
        lead: Option<Value>,
        activity: Option<Value>,
    },
    /// A user who was admitted to the server, or to a room.
    Entered {
        user: User,
        room: Option<Room>,
        lead: Option<Value>,
    },
}

impl Shadow {
    /// Creates the shadow of a plugin. `others` makes the set of the active plugins, with one more if one is given.
    pub(crate) fn new(plugin: &Arc<Plugin>, others: impl Fn(Option<Arc<Plugin>>) -> Set) -> Self {
        let (without, with) = (others(None), others(Some(plugin.clone())));
        Self { plugin: plugin.clone(), without, with, alone: Set::alone(plugin.clone()) }
    }

    fn member(&self) -> &SetMember {
        &self.alone.members()[0]
    }

    pub(crate) fn follows(&self, name: &str) -> bool {
        self.plugin.hooks.after && self.plugin.wants.include(name)
    }

    pub(crate) fn guards(&self, command: &str) -> bool {
        self.alone.guards(command).next().is_some()
    }

    pub(crate) fn authorizes(&self) -> bool {
        self.plugin.hooks.authorize
    }

    pub(crate) fn is_about(&self, event: &Event) -> bool {
        self.shapes(event) || self.follows(&event.name)
    }

    fn shapes(&self, event: &Event) -> bool {
        self.member().wants(&event.name) && !event.is_about_rights()
    }

    fn is_concerned(&self, happened: &ShadowQuestion) -> bool {
        match happened {
            ShadowQuestion::Event(event) => self.is_about(event),
            ShadowQuestion::Command { name, .. } => self.guards(name),
            ShadowQuestion::Entered { .. } => self.authorizes(),
        }
    }

    fn look_at(&self, happened: &ShadowQuestion) {
        match happened {
            ShadowQuestion::Event(event) => {
                if self.shapes(event) {
                    let shape = |set| shape::run(set, &event.name, &event.payload, &event.context, &Role::ALL);
                    let (without, with) = (shape(&self.without), shape(&self.with));
                    self.plugin.observed.lock().events.add(event, &without, &with);
                }
                if self.follows(&event.name) {
                    self.follow(event);
                }
            }
            ShadowQuestion::Command { name, actor, input, lead, activity } => {
                let (lead, activity) = (lead.as_ref(), activity.as_ref());
                let question = ProposedCommand { name, actor, input: input.clone(), lead, activity };
                let ruling = before::run(&self.alone, &question, |_| Ok(()));
                self.count(name, actor.kind, |answers| match ruling {
                    Ok(Ruling::Accepted) => {}
                    Ok(Ruling::Amended { .. }) => answers.changed += 1,
                    Ok(Ruling::Refused(_)) => answers.refused += 1,
                    Err(_) => answers.faulted += 1,
                });
            }
            ShadowQuestion::Entered { user, room, lead } => {
                let decision = authorize::authorize(&self.alone, user, room.as_ref(), lead.as_ref());
                let question = if room.is_some() { "subscribe" } else { "connect" };
                self.count(question, ActorKind::User(user.role), |answers| match decision {
                    Ok(Decision::Allow) => {}
                    Ok(Decision::Deny(_)) => answers.denied += 1,
                    Err(_) => answers.faulted += 1,
                });
            }
        }
    }

    /// Counts the effects that the plugin requests; none is executed.
    fn follow(&self, event: &Event) {
        let (id, state) = (event.seq.to_string(), self.plugin.observed.lock().state.clone());
        let occasion = Occasion {
            id: &id,
            seq: Some(event.seq),
            at: event.at,
            name: &event.name,
            payload: &event.payload,
            context: &event.context,
            state: state.as_deref(),
        };
        let outcome = after::run(&self.alone, self.plugin.name(), &occasion);
        let mut observed = self.plugin.observed.lock();
        observed.after.asked += 1;
        match outcome {
            Ok(outcome) => {
                let AfterOutcome { effects, state } = outcome.unwrap_or_default();
                effects.iter().for_each(|effect| *observed.after.effects.entry(effect.name).or_default() += 1);
                observed.state = state.or_else(|| observed.state.take());
            }
            Err(_) => observed.after.faulted += 1,
        }
    }

    fn count(&self, question: &str, by: ActorKind, count: impl FnOnce(&mut AnswerCounts)) {
        let mut observed = self.plugin.observed.lock();
        let answers = observed.questions.entry((question.into(), by)).or_default();
        answers.asked += 1;
        count(answers);
    }
}

/// Queue of questions for plugins in shadow mode, served by its own thread.
pub(crate) struct Queue {
    waiting: SyncSender<QueuedQuestion>,
    bytes: Arc<AtomicU64>,
}

struct QueuedQuestion {
    /// Set that was active when it happened.
    set: Arc<Set>,
    happened: ShadowQuestion,
    bytes: u64,
}

impl Queue {
    /// Starts the queue and its thread, which ends with the queue.
    pub(crate) fn start() -> Self {
        let (waiting, queued) = sync_channel(QUEUE);
        let bytes = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&bytes);
        let spawned = thread::Builder::new().name("plugin-shadow".into()).spawn(move || look_on(&queued, &left));
        if let Err(error) = spawned {
            tracing::error!("plugins in shadow mode are not called: {error}");
        }
        Self { waiting, bytes }
    }

    /// Queues a question, or drops and counts it when the queue is full. Never blocks.
    pub(crate) fn offer(&self, set: Arc<Set>, happened: ShadowQuestion) {
        let bytes = happened.bytes();
        if self.bytes.fetch_add(bytes, Relaxed) + bytes > QUEUE_BYTES {
            self.drop_it(&set, &happened, bytes);
        } else if let Err(error) = self.waiting.try_send(QueuedQuestion { set, happened, bytes }) {
            let (TrySendError::Full(it) | TrySendError::Disconnected(it)) = error;
            self.drop_it(&it.set, &it.happened, bytes);
        }
    }

    fn drop_it(&self, set: &Set, happened: &ShadowQuestion, bytes: u64) {
        self.bytes.fetch_sub(bytes, Relaxed);
        for shadow in set.shadows().iter().filter(|shadow| shadow.is_concerned(happened)) {
            shadow.plugin.observed.lock().dropped += 1;
        }
    }
}

fn look_on(queued: &Receiver<QueuedQuestion>, bytes: &AtomicU64) {
    // Nobody waits for this thread. On Linux, `nice` is about the calling thread alone.
    let _ = rustix::process::nice(10);
    while let Ok(waiting) = queued.recv() {
        for shadow in waiting.set.shadows().iter().filter(|shadow| shadow.is_concerned(&waiting.happened)) {
            shadow.look_at(&waiting.happened);
        }
        bytes.fetch_sub(waiting.bytes, Relaxed);
    }
}

impl ShadowQuestion {
    pub(crate) fn command(question: &ProposedCommand<'_>) -> Self {
        Self::Command {
            name: question.name.into(),
            actor: question.actor.clone(),
            input: question.input.clone(),
            lead: question.lead.cloned(),
            activity: question.activity.cloned(),
        }
    }

    /// Estimates its size in memory.
    fn bytes(&self) -> u64 {
        let maybe = |value: &Option<Value>| value.as_ref().map_or(0, size_in_memory);
        match self {
            Self::Event(event) => size_in_memory(&event.payload) + size_in_memory(&event.context),
            Self::Command { input, lead, activity, .. } => {
                input.values().map(size_in_memory).sum::<u64>() + maybe(lead) + maybe(activity)
            }
            Self::Entered { lead, .. } => maybe(lead),
        }
    }
}

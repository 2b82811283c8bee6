//! Plugins in shadow mode: what they would have done to live events, commands and users, counted by role.
//!
//! They are asked on a thread of their own about copies of what happened, so that nobody waits for them and
//! nothing comes of their answers. A queue that is full takes no more: what a shadow was not asked for that reason
//! is counted as well.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Comparison,
    after::{self, EffectName, Occasion, Outcome},
    before::{self, Question, Ruling},
    loaded::Plugin,
    pipeline::{self, Decision},
    set::{Member, Set},
};
use crate::domain::{
    event::{Event, size_in_memory},
    role::Role,
    room::Room,
    time::Timestamp,
    user::User,
};

const QUEUE: usize = 256;
const QUEUE_BYTES: u64 = 16 << 20;

/// What a plugin in shadow mode would have done since it was loaded.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowReport {
    pub since: Timestamp,
    /// Questions that were not asked because too many were waiting.
    pub dropped: u64,
    /// How events would differ. `held` counts those about which the plugin failed.
    pub events: Comparison,
    /// About commands and users.
    pub questions: Vec<QuestionCount>,
    pub after: Followed,
}

/// What a plugin in shadow mode would have wanted done about events of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    pub asked: u64,
    pub faulted: u64,
    /// By the effect's name.
    pub effects: BTreeMap<EffectName, u64>,
}

/// How often a plugin in shadow mode was asked one thing about users of one role, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuestionCount {
    /// A command's name, `connect` or `subscribe`.
    pub question: String,
    pub role: Role,
    #[serde(flatten)]
    pub answers: Answers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answers {
    pub asked: u64,
    /// Commands whose input it would have amended.
    pub changed: u64,
    /// Commands that it would have refused.
    pub refused: u64,
    /// Users whom it would not have let in.
    pub denied: u64,
    /// It gave no answer.
    pub faulted: u64,
}

/// What has been counted so far.
pub(super) struct Observed {
    since: Timestamp,
    dropped: u64,
    events: Comparison,
    questions: BTreeMap<(String, Role), Answers>,
    after: Followed,
    /// What `after` asked to be kept, until the plugin is loaded again.
    state: Option<String>,
}

impl Observed {
    pub(super) fn new() -> Self {
        let (events, questions, after) = (Comparison::default(), BTreeMap::new(), Followed::default());
        Self { since: Timestamp::now(), dropped: 0, events, questions, after, state: None }
    }

    pub(super) fn report(&self) -> ShadowReport {
        let questions = self.questions.iter().map(|((question, role), answers)| QuestionCount {
            question: question.clone(),
            role: *role,
            answers: *answers,
        });
        ShadowReport {
            since: self.since,
            dropped: self.dropped,
            events: self.events.clone(),
            questions: questions.collect(),
            after: self.after.clone(),
        }
    }
}

/// A plugin that looks on, and the sets that tell what would be different with it.
pub(super) struct Shadow {
    pub(super) plugin: Arc<Plugin>,
    /// The plugins in force; their health is not touched by what is asked here.
    without: Set,
    /// The same, and this one.
    with: Set,
    alone: Set,
}

/// Something that happened, for shadows to look at.
pub(super) enum Happened {
    Event(Event),
    /// A command that was carried out.
    Command {
        name: String,
        user: User,
        input: Map<String, Value>,
        lead: Option<Value>,
        activity: Option<Value>,
    },
    /// A user who was let in: to the server, or to a room.
    Entered {
        user: User,
        room: Option<Room>,
        lead: Option<Value>,
    },
}

impl Shadow {
    /// `others` makes the set of the plugins in force, with as many more as it is given.
    pub(super) fn new(plugin: &Arc<Plugin>, others: impl Fn(Option<Arc<Plugin>>) -> Set) -> Self {
        let (without, with) = (others(None), others(Some(plugin.clone())));
        Self { plugin: plugin.clone(), without, with, alone: Set::alone(plugin.clone()) }
    }

    fn member(&self) -> &Member {
        &self.alone.members()[0]
    }

    pub(super) fn follows(&self, name: &str) -> bool {
        self.plugin.hooks.after && self.plugin.wants.include(name)
    }

    pub(super) fn guards(&self, command: &str) -> bool {
        self.alone.guards(command).next().is_some()
    }

    pub(super) fn authorizes(&self) -> bool {
        self.plugin.hooks.authorize
    }

    pub(super) fn is_about(&self, event: &Event) -> bool {
        self.shapes(event) || self.follows(&event.name)
    }

    fn shapes(&self, event: &Event) -> bool {
        self.member().wants(&event.name) && !event.is_about_rights()
    }

    fn is_concerned(&self, happened: &Happened) -> bool {
        match happened {
            Happened::Event(event) => self.is_about(event),
            Happened::Command { name, .. } => self.guards(name),
            Happened::Entered { .. } => self.authorizes(),
        }
    }

    fn look_at(&self, happened: &Happened) {
        match happened {
            Happened::Event(event) => {
                if self.shapes(event) {
                    let shape = |set| pipeline::run(set, &event.name, &event.payload, &event.context, &Role::ALL);
                    let (without, with) = (shape(&self.without), shape(&self.with));
                    self.plugin.observed.lock().events.add(event, &without, &with);
                }
                if self.follows(&event.name) {
                    self.follow(event);
                }
            }
            Happened::Command { name, user, input, lead, activity } => {
                let (lead, activity) = (lead.as_ref(), activity.as_ref());
                let question = Question { name, user, input: input.clone(), lead, activity };
                let ruling = before::run(&self.alone, &question, |_| Ok(()));
                self.count(name, user.role, |answers| match ruling {
                    Ok(Ruling::Accepted) => {}
                    Ok(Ruling::Amended { .. }) => answers.changed += 1,
                    Ok(Ruling::Refused(_)) => answers.refused += 1,
                    Err(_) => answers.faulted += 1,
                });
            }
            Happened::Entered { user, room, lead } => {
                let decision = pipeline::authorize(&self.alone, user, room.as_ref(), lead.as_ref());
                let question = if room.is_some() { "subscribe" } else { "connect" };
                self.count(question, user.role, |answers| match decision {
                    Ok(Decision::Allow) => {}
                    Ok(Decision::Deny(_)) => answers.denied += 1,
                    Err(_) => answers.faulted += 1,
                });
            }
        }
    }

    /// Counts what the plugin wants done; none of it is.
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
                let Outcome { effects, state } = outcome.unwrap_or_default();
                effects.iter().for_each(|effect| *observed.after.effects.entry(effect.name).or_default() += 1);
                observed.state = state.or_else(|| observed.state.take());
            }
            Err(_) => observed.after.faulted += 1,
        }
    }

    fn count(&self, question: &str, role: Role, count: impl FnOnce(&mut Answers)) {
        let mut observed = self.plugin.observed.lock();
        let answers = observed.questions.entry((question.into(), role)).or_default();
        answers.asked += 1;
        count(answers);
    }
}

/// What waits to be looked at, and the thread that does so.
pub(super) struct Queue {
    waiting: SyncSender<Waiting>,
    bytes: Arc<AtomicU64>,
}

struct Waiting {
    /// The plugins that were in force when it happened.
    set: Arc<Set>,
    happened: Happened,
    bytes: u64,
}

impl Queue {
    /// The thread ends with the queue.
    pub(super) fn start() -> Self {
        let (waiting, queued) = sync_channel(QUEUE);
        let bytes = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&bytes);
        let spawned = thread::Builder::new().name("plugin-shadow".into()).spawn(move || look_on(&queued, &left));
        if let Err(error) = spawned {
            tracing::error!("plugins in shadow mode are asked nothing: {error}");
        }
        Self { waiting, bytes }
    }

    /// Never waits.
    pub(super) fn offer(&self, set: Arc<Set>, happened: Happened) {
        let bytes = happened.bytes();
        if self.bytes.fetch_add(bytes, Relaxed) + bytes > QUEUE_BYTES {
            self.drop_it(&set, &happened, bytes);
        } else if let Err(error) = self.waiting.try_send(Waiting { set, happened, bytes }) {
            let (TrySendError::Full(it) | TrySendError::Disconnected(it)) = error;
            self.drop_it(&it.set, &it.happened, bytes);
        }
    }

    fn drop_it(&self, set: &Set, happened: &Happened, bytes: u64) {
        self.bytes.fetch_sub(bytes, Relaxed);
        for shadow in set.shadows().iter().filter(|shadow| shadow.is_concerned(happened)) {
            shadow.plugin.observed.lock().dropped += 1;
        }
    }
}

fn look_on(queued: &Receiver<Waiting>, bytes: &AtomicU64) {
    // Nobody waits for it. On Linux this is about the calling thread alone.
    let _ = rustix::process::nice(10);
    while let Ok(waiting) = queued.recv() {
        for shadow in waiting.set.shadows().iter().filter(|shadow| shadow.is_concerned(&waiting.happened)) {
            shadow.look_at(&waiting.happened);
        }
        bytes.fetch_sub(waiting.bytes, Relaxed);
    }
}

impl Happened {
    pub(super) fn command(question: &Question<'_>) -> Self {
        Self::Command {
            name: question.name.into(),
            user: question.user.clone(),
            input: question.input.clone(),
            lead: question.lead.cloned(),
            activity: question.activity.cloned(),
        }
    }

    /// About what it takes in memory.
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

//! Explains why a role, or a user, got what it got of an event when that was delivered.
//!
//! The event is shaped again as the tail shaped it: by the plugins that were in use for it, from their recorded bytes
//! and settings, and under the `[visibility]` of that time. What a socket that catches up is sent of it now is
//! another matter, see `recalled`.

pub(crate) mod outcome;
pub(crate) mod recalled;

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{
    delivery::{
        explain::{
            outcome::{ExplainedOutcome, Narrowed, RevokedInstead, addressed, is_addressed, read},
            recalled::CurrentRules,
        },
        line::Slice,
        shape::Shaper,
    },
    domain::{
        audience::Audience,
        counter::{Generation, Seq},
        event::{Event, InForce},
        id::{Epoch, LeadId, UserId},
        role::Role,
        room::Room,
        time::Timestamp,
        user::User,
    },
    plugin::{self, HistoricalSets, PinnedSet, Plugins, Said, TraceStep},
    store::{
        self,
        generation::{GenerationMember, StoredGeneration, Switch},
        handle::{self, Store},
    },
};

pub use recalled::Replayed;

/// Role or user whose view of an event is explained.
#[derive(Clone, Debug)]
pub enum Viewer {
    Role(Role),
    User(UserId),
}

/// Outcome of an event for a role or a user, with the reasons.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub seq: Seq,
    pub name: String,
    pub at: Timestamp,
    pub lead_id: Option<LeadId>,
    pub rooms: Vec<String>,
    pub role: Role,
    /// Set when the viewer is a user; `role` is then the user's role today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Generation of the plugin set that shaped the event, 0 for none; `in_use_since` is the first event that it
    /// shaped.
    pub generation: Generation,
    pub in_use_since: Seq,
    /// True if later events are shaped by other plugins, settings or visibility.
    pub changed_since: bool,
    pub plugins: Vec<GenerationMember>,
    /// Each decision, in order.
    pub steps: Vec<Reason>,
    pub outcome: ExplainedOutcome,
    /// Users of the role who got it; nobody yet if it was held back.
    pub audience: Audience,
    /// Payload that they got.
    pub payload: Option<Value>,
    /// Users who were told instead that the lead is no longer visible to them, and the payload of that notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<RevokedInstead>,
    /// False if the answer may have been different at the time; `notes` says why.
    pub exact: bool,
    pub notes: Vec<String>,
    /// Verdict on the event for a socket that catches up now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replayed>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Reason {
    Step(TraceStep),
    Visibility(Narrowed),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no event {seq}: the log ends at {head}")]
    Ahead { seq: Seq, head: Seq },
    #[error("event {0} is no longer in the log")]
    Gone(Seq),
    #[error("user not found")]
    NoUser,
    /// The event exists, but cannot be explained.
    #[error("event {seq} cannot be explained: {reason}")]
    Unexplained { seq: Seq, reason: String },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("explain task failed")]
    Broken(#[source] tokio::task::JoinError),
}

/// Explains events of one log, one at a time.
pub struct Explainer {
    store: Arc<Store>,
    past: Arc<HistoricalSets>,
    /// Held by one explanation at a time: compiling and asking guests takes memory and a thread, and nobody needs two
    /// explanations at once.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Explainer {
    /// Creates an explainer; `past` rebuilds the plugin sets of earlier times.
    pub fn new(store: Arc<Store>, past: HistoricalSets) -> Self {
        Self { store, past: Arc::new(past), turn: Arc::default() }
    }

    /// Explains which decisions were made about an event, by whom, and what the viewer got of it when it was delivered.
    ///
    /// # Errors
    /// When there is no such event or user, or the plugin set that shaped the event was not kept or cannot be loaded
    /// any more.
    pub async fn explain(&self, seq: Seq, viewer: &Viewer) -> Result<Explanation, Error> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let mut reader = self.store.read().await?;
        let Some(event) = reader.event(seq).await? else {
            let head = reader.head().await?;
            return Err(if seq == Seq::START || seq > head { Error::Ahead { seq, head } } else { Error::Gone(seq) });
        };
        let user = match viewer {
            Viewer::Role(_) => None,
            Viewer::User(id) => Some(reader.user(*id).await?.ok_or(Error::NoUser)?),
        };
        let role = match (viewer, &user) {
            (Viewer::Role(role), _) => *role,
            (Viewer::User(_), user) => user.as_ref().ok_or(Error::NoUser)?.role,
        };
        let unexplained = |reason: &str| Error::Unexplained { seq, reason: reason.into() };
        let switch = reader.switch_before(seq).await?;
        let switch = switch.ok_or_else(|| unexplained("the plugins that shaped it were not recorded"))?;
        let changed_since = reader.switch_before(Seq::END).await? != Some(switch);
        let then = self.recorded(&mut reader, seq, switch.in_force.generation).await?;
        let today = CurrentRules::read(&mut reader, &event, role, user.as_ref()).await?;
        let now = match &today {
            Some(today) => self.recorded(&mut reader, seq, today.in_force.generation).await.ok(),
            None => None,
        };
        drop(reader);

        let (past, epoch) = (Arc::clone(&self.past), self.store.epoch().to_owned());
        let shaping = move || {
            // Released when the work ends, even if the caller no longer waits for it.
            let _turn = turn;
            let plugins = then.plugins(&past).map_err(|error| refused(seq, &error))?;
            let in_force = now.and_then(|now| now.plugins(&past).ok());
            // Log output of the guests is suppressed: it says nothing about what the server does now.
            let quiet = tracing::subscriber::NoSubscriber::default();
            let _quiet = tracing::subscriber::set_default(quiet);
            let plain = explanation(&event, role, &plugins, &switch, &epoch);
            let replay = today.zip(in_force).map(|(today, plugins)| today.replay(&event, &plugins, &epoch));
            let members = then.generation.map(|generation| generation.members).unwrap_or_default();
            let explanation = Explanation { changed_since, plugins: members, replay, ..plain };
            Ok(match user {
                Some(user) => explanation.for_user(&event, &user),
                None => explanation,
            })
        };
        spawn_blocking(shaping).await.map_err(Error::Broken)?
    }

    /// Reads a plugin set as it was recorded, with the files that are needed to rebuild it.
    async fn recorded(
        &self,
        reader: &mut handle::Reader,
        seq: Seq,
        generation: Generation,
    ) -> Result<RecordedSet, Error> {
        if generation == Generation::NONE {
            return Ok(RecordedSet::default());
        }
        let reason = || format!("generation {generation} of the plugins was not kept");
        let found = reader.generation(generation).await?;
        let generation = found.ok_or_else(|| Error::Unexplained { seq, reason: reason() })?;
        let files = match self.past.get(generation.id) {
            Some(_) => BTreeMap::new(),
            None => reader.plugin_files(&generation).await?,
        };
        Ok(RecordedSet { generation: Some(generation), files })
    }
}

/// Plugin set that was in force at some time.
#[derive(Default)]
struct RecordedSet {
    generation: Option<StoredGeneration>,
    files: BTreeMap<String, Vec<u8>>,
}

impl RecordedSet {
    /// Rebuilds the set; blocks while its plugins are compiled.
    fn plugins(&self, past: &HistoricalSets) -> Result<PinnedSet, plugin::Error> {
        let Some(generation) = &self.generation else { return Ok(Plugins::none().pinned()) };
        match past.get(generation.id) {
            Some(plugins) => Ok(plugins),
            None => past.load(generation, &self.files),
        }
    }
}

fn refused(seq: Seq, error: &plugin::Error) -> Error {
    Error::Unexplained { seq, reason: error.to_string() }
}

/// Shapes the event for the role and collects the explanation.
fn explanation(event: &Event, role: Role, plugins: &PinnedSet, switch: &Switch, epoch: &Epoch) -> Explanation {
    let InForce { generation, visibility } = switch.in_force;
    let shaper = Shaper::new(Plugins::none(), visibility, epoch);
    let (slice, steps) = shaper.explain(plugins, event, role);
    let mut notes = Vec::new();
    for step in &steps {
        let TraceStep::Plugin(step) = step else { continue };
        if step.may_differ {
            notes.push(format!(
                "{} asked for the time or for random numbers: its answer may have been different then",
                step.plugin
            ));
        }
        if let Said::Nothing { held: true, .. } = step.said {
            notes.push(format!("{} returned no verdict: once it did, the plugins active then decided", step.plugin));
        }
    }
    let exact = !steps.iter().any(|step| matches!(step, TraceStep::Plugin(step) if step.may_differ));
    let mut steps: Vec<Reason> = steps.into_iter().map(Reason::Step).collect();
    let narrowed = event.audience(&visibility, role);
    if narrowed != Audience::Everyone && slice.is_some() {
        let scope = visibility.scope(role);
        steps.push(Reason::Visibility(Narrowed { by: "visibility", scope, audience: narrowed }));
    }
    let mut explanation = Explanation {
        seq: event.seq,
        name: event.name.clone(),
        at: event.at,
        lead_id: event.lead_id,
        rooms: event.rooms.iter().map(Room::to_string).collect(),
        role,
        user_id: None,
        generation,
        in_use_since: switch.seq.next(),
        changed_since: false,
        plugins: Vec::new(),
        steps,
        outcome: ExplainedOutcome::Internal,
        audience: Audience::Nobody,
        payload: None,
        revoked: None,
        exact,
        notes,
        replay: None,
    };
    match slice.filter(|_| !event.rooms.is_empty()) {
        None => explanation.notes.push("events of this kind are not sent to clients".into()),
        Some(Slice::Held(_) | Slice::Withheld) => explanation.outcome = ExplainedOutcome::Held,
        Some(Slice::Sent { message, audience, revoked }) => {
            if audience == Audience::Nobody {
                explanation.outcome = ExplainedOutcome::Withheld;
            } else {
                (explanation.outcome, explanation.payload) = (ExplainedOutcome::Sent, Some(read(&message)));
            }
            explanation.audience = audience;
            explanation.revoked =
                revoked.map(|revoked| RevokedInstead { payload: read(&revoked.message), audience: revoked.saw_it });
            explanation.notes.extend(addressed(&event.rooms));
        }
    }
    explanation
}

impl Explanation {
    /// Narrows the explanation to one user of the role.
    fn for_user(mut self, event: &Event, user: &User) -> Self {
        self.user_id = Some(user.id);
        if !user.active {
            self.notes.push("the account is deactivated today".into());
        }
        self.notes.push(format!("{} is the user's role today; it may have been another then", user.role));
        if matches!(self.outcome, ExplainedOutcome::Held | ExplainedOutcome::Internal) {
            return self;
        }
        let revoked = self.revoked.take().filter(|revoked| revoked.audience.includes(user.id));
        (self.outcome, self.payload) = match revoked {
            _ if !is_addressed(event, user) => (ExplainedOutcome::Withheld, None),
            _ if self.audience.includes(user.id) => (ExplainedOutcome::Sent, self.payload),
            Some(revoked) => (ExplainedOutcome::Revoked, Some(revoked.payload)),
            None => (ExplainedOutcome::Withheld, None),
        };
        self
    }
}

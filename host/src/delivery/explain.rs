//! Why a role, or a user, got what it got of an event when that was delivered.
//!
//! The event is shaped again as the tail of the log shaped it: by the plugins that were in use for it, from their
//! recorded bytes and settings, and under the `[visibility]` of the time. What a socket that catches up is sent of it
//! is another matter, see `recalled`.

mod recalled;

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

pub use self::recalled::Replayed;
use self::recalled::Today;
use super::shape::{Shaper, Slice};
use crate::{
    domain::{
        event::{Audience, Event, InForce},
        id::{LeadId, UserId},
        policy::Scope,
        role::Role,
        room::Room,
        time::Timestamp,
        user::User,
    },
    plugin::{self, Past, Pinned, Plugins, Said, Step},
    store::{
        self, Store,
        generation::{Generation, Member, Switch},
    },
};

/// Whose view of an event is asked for.
#[derive(Clone, Debug)]
pub enum Viewer {
    Role(Role),
    User(UserId),
}

/// What became of an event for a role or a user, and why.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub seq: u64,
    pub name: String,
    pub at: Timestamp,
    pub lead_id: Option<LeadId>,
    pub rooms: Vec<String>,
    pub role: Role,
    /// Set when a user was asked about; the role is that of today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The set of plugins that shaped the event, 0 for none, and the first event that it shaped.
    pub generation: u64,
    pub in_use_since: u64,
    /// Whether later events are shaped by other plugins, settings or visibility.
    pub changed_since: bool,
    pub plugins: Vec<Member>,
    /// Each decision, in order.
    pub steps: Vec<Reason>,
    pub outcome: Outcome,
    /// Who of the role got it; those who had it held back, nobody yet.
    pub audience: Audience,
    /// What they got.
    pub payload: Option<Value>,
    /// Who was told instead that the lead is out of their sight, and in what words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<RevokedInstead>,
    /// False when the answer may have been another at the time; `notes` say why.
    pub exact: bool,
    pub notes: Vec<String>,
    /// What a socket that catches up is sent of it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replayed>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Reason {
    Step(Step),
    Visibility(Narrowed),
}

/// What `[visibility]` of the configuration left of an audience.
#[derive(Clone, Debug, Serialize)]
pub struct Narrowed {
    /// Always `visibility`.
    pub by: &'static str,
    pub scope: Scope,
    pub audience: Audience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// To all or some of the role, or to the user.
    Sent,
    /// The user was told that the lead is out of sight instead.
    Revoked,
    /// A plugin gave no verdict: it was sent later, once there was one.
    Held,
    /// To nobody of the role, or not to the user.
    Withheld,
    /// Events of this kind are sent to nobody.
    Internal,
    /// Of a replay: whoever has not got this event is sent `sync:reset` in place of it and all others.
    Reset,
}

#[derive(Clone, Debug, Serialize)]
pub struct RevokedInstead {
    pub audience: Audience,
    pub payload: Value,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no event {seq}: the log ends at {head}")]
    Ahead { seq: u64, head: u64 },
    #[error("event {0} is older than what the log keeps")]
    Gone(u64),
    #[error("there is no such user")]
    NoUser,
    /// It is there, but cannot be told.
    #[error("event {seq} cannot be explained: {reason}")]
    Unexplained { seq: u64, reason: String },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("explaining broke down")]
    Broken(#[source] tokio::task::JoinError),
}

/// Explains events of one log, one at a time.
pub struct Explainer {
    store: Arc<Store>,
    past: Arc<Past>,
    /// Compiling and asking guests takes memory and a thread: nobody needs two explanations at once.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Explainer {
    /// `past` makes the plugins of the time again.
    pub fn new(store: Arc<Store>, past: Past) -> Self {
        Self { store, past: Arc::new(past), turn: Arc::default() }
    }

    /// Tells who decided what about an event, and what the viewer got of it when it was delivered.
    ///
    /// # Errors
    /// When there is no such event or user, or what shaped the event was not kept or is not loaded any more.
    pub async fn explain(&self, seq: u64, viewer: &Viewer) -> Result<Explanation, Error> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let mut reader = self.store.read().await?;
        let Some(event) = reader.event(seq).await? else {
            let head = reader.head().await?;
            return Err(if seq == 0 || seq > head { Error::Ahead { seq, head } } else { Error::Gone(seq) });
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
        let switch = switch.ok_or_else(|| unexplained("it was not written down which plugins shaped it"))?;
        let changed_since = reader.switch_before(u64::MAX).await? != Some(switch);
        let then = self.recorded(&mut reader, seq, switch.in_force.generation).await?;
        let today = Today::read(&mut reader, &event, role, user.as_ref()).await?;
        let now = match &today {
            Some(today) => self.recorded(&mut reader, seq, today.in_force.generation).await.ok(),
            None => None,
        };
        drop(reader);

        let (past, epoch) = (Arc::clone(&self.past), self.store.epoch().to_owned());
        let shaping = move || {
            // Ends with the work, whether or not somebody still waits for that.
            let _turn = turn;
            let plugins = then.plugins(&past).map_err(|error| refused(seq, &error))?;
            let in_force = now.and_then(|now| now.plugins(&past).ok());
            // What guests log now is no news of the server's.
            let quiet = tracing::subscriber::NoSubscriber::default();
            let _quiet = tracing::subscriber::set_default(quiet);
            let plain = tell(&event, role, &plugins, &switch, &epoch);
            let replay = today.zip(in_force).map(|(today, plugins)| today.tell(&event, &plugins, &epoch));
            let members = then.generation.map(|generation| generation.members).unwrap_or_default();
            let told = Explanation { changed_since, plugins: members, replay, ..plain };
            Ok(match user {
                Some(user) => told.for_user(&event, &user),
                None => told,
            })
        };
        spawn_blocking(shaping).await.map_err(Error::Broken)?
    }

    /// A set as it was recorded, with the files that are needed to make it again.
    async fn recorded(&self, reader: &mut store::Reader, seq: u64, generation: u64) -> Result<Recorded, Error> {
        if generation == 0 {
            return Ok(Recorded::default());
        }
        let reason = || format!("generation {generation} of the plugins was not kept");
        let found = reader.generation(generation).await?;
        let generation = found.ok_or_else(|| Error::Unexplained { seq, reason: reason() })?;
        let files = match self.past.get(generation.id) {
            Some(_) => BTreeMap::new(),
            None => reader.plugin_files(&generation).await?,
        };
        Ok(Recorded { generation: Some(generation), files })
    }
}

/// A set of plugins that was in force once.
#[derive(Default)]
struct Recorded {
    generation: Option<Generation>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Recorded {
    /// Blocks while they are compiled.
    fn plugins(&self, past: &Past) -> Result<Pinned, plugin::Error> {
        let Some(generation) = &self.generation else { return Ok(Plugins::none().pinned()) };
        match past.get(generation.id) {
            Some(plugins) => Ok(plugins),
            None => past.load(generation, &self.files),
        }
    }
}

fn refused(seq: u64, error: &plugin::Error) -> Error {
    Error::Unexplained { seq, reason: error.to_string() }
}

/// Shapes the event for the role, and puts together what that says.
fn tell(event: &Event, role: Role, plugins: &Pinned, switch: &Switch, epoch: &str) -> Explanation {
    let InForce { generation, visibility } = switch.in_force;
    let shaper = Shaper::new(Plugins::none(), visibility, epoch);
    let (slice, steps) = shaper.explain(plugins, event, role);
    let mut notes = Vec::new();
    for step in &steps {
        let Step::Plugin(step) = step else { continue };
        if step.may_differ {
            notes.push(format!("{} asked for the time or for random numbers: it may have said else then", step.plugin));
        }
        if let Said::Nothing { held: true, .. } = step.said {
            notes.push(format!("{} gave no verdict: once it did, the plugins in force then decided", step.plugin));
        }
    }
    let exact = !steps.iter().any(|step| matches!(step, Step::Plugin(step) if step.may_differ));
    let mut steps: Vec<Reason> = steps.into_iter().map(Reason::Step).collect();
    let narrowed = event.audience(&visibility, role);
    if narrowed != Audience::Everyone && slice.is_some() {
        let scope = visibility.scope(role);
        steps.push(Reason::Visibility(Narrowed { by: "visibility", scope, audience: narrowed }));
    }
    let mut told = Explanation {
        seq: event.seq,
        name: event.name.clone(),
        at: event.at,
        lead_id: event.lead_id,
        rooms: event.rooms.iter().map(Room::to_string).collect(),
        role,
        user_id: None,
        generation,
        in_use_since: switch.seq + 1,
        changed_since: false,
        plugins: Vec::new(),
        steps,
        outcome: Outcome::Internal,
        audience: Audience::Nobody,
        payload: None,
        revoked: None,
        exact,
        notes,
        replay: None,
    };
    match slice.filter(|_| !event.rooms.is_empty()) {
        None => told.notes.push("events of this kind are sent to nobody".into()),
        Some(Slice::Held(_) | Slice::Withheld) => told.outcome = Outcome::Held,
        Some(Slice::Sent { message, audience, revoked }) => {
            if audience == Audience::Nobody {
                told.outcome = Outcome::Withheld;
            } else {
                (told.outcome, told.payload) = (Outcome::Sent, Some(read(&message.body)));
            }
            told.audience = audience;
            told.revoked = revoked
                .map(|revoked| RevokedInstead { payload: read(&revoked.message.body), audience: revoked.saw_it });
            told.notes.extend(addressed(&event.rooms));
        }
    }
    told
}

impl Explanation {
    /// The same for one user of the role.
    fn for_user(mut self, event: &Event, user: &User) -> Self {
        self.user_id = Some(user.id);
        if !user.active {
            self.notes.push("the account is deactivated today".into());
        }
        self.notes.push(format!("{} is the user's role today; it may have been another then", user.role));
        if matches!(self.outcome, Outcome::Held | Outcome::Internal) {
            return self;
        }
        let revoked = self.revoked.take().filter(|revoked| revoked.audience.includes(user.id));
        (self.outcome, self.payload) = match revoked {
            _ if !is_addressed(event, user) => (Outcome::Withheld, None),
            _ if self.audience.includes(user.id) => (Outcome::Sent, self.payload),
            Some(revoked) => (Outcome::Revoked, Some(revoked.payload)),
            None => (Outcome::Withheld, None),
        };
        self
    }
}

/// Whether the event is for the user's sockets, if they listen.
fn is_addressed(event: &Event, user: &User) -> bool {
    event.rooms.iter().any(|room| !matches!(room, Room::User(id) if *id != user.id))
}

/// Who else had to be listening.
fn addressed(rooms: &[Room]) -> Option<String> {
    match rooms {
        [Room::User(id)] => Some(format!("it is addressed to the user {id} alone")),
        [Room::Lead(id)] => Some(format!("it is for sockets that had subscribed to lead {id}")),
        _ => None,
    }
}

fn read(body: &serde_json::value::RawValue) -> Value {
    serde_json::from_str(body.get()).unwrap_or_else(|error| json!({"unreadable": error.to_string()}))
}

//! What a client may ask for, and the answers, in the order in which it asks.
//!
//! socketioxide spawns every handler, so that two packets of one socket may overtake each other. Here they
//! go through one bounded queue to one task a socket instead.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json, value::to_raw_value};
use socketioxide::{adapter::LocalAdapter, handler::MessageHandler, socket::Socket};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    Door, Settings,
    client::{Client, Output},
    limits::{self, Pace},
    outbox::Source,
    refusal::Refusal,
    session::Lease,
};
use crate::{
    app::{self, IdempotencyKey, Outcome},
    auth::{self, Authenticated, Origin, Principal},
    delivery::shape::Message,
    domain::{
        activity::ActivityFields,
        command::{Command, new_owner},
        id::LeadId,
        input::{Input, Invalid, MAX_SAFE_INTEGER, inexact_number},
        lead::LeadFields,
        number,
        room::{MAX_LEAD_ROOM_CHARS, Room},
        user::User,
    },
    plugin::Decision,
    transport::event_names::STAND_IN,
};

/// When to try again after too much was waiting.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// One event as it came: a JSON array of its name and its arguments.
struct Packet {
    json: Box<str>,
    has_attachments: bool,
    ack: Option<i64>,
}

/// The near end of the queue: takes every event of a socket, and refuses what does not fit.
pub(super) struct Intake {
    queue: mpsc::Sender<Packet>,
    queued_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
    pace: Pace,
    client: Arc<Client>,
}

/// The far end of the queue.
pub(super) struct Inbox {
    queue: mpsc::Receiver<Packet>,
    queued_bytes: Arc<AtomicUsize>,
}

/// Puts into a client's queue what a lost socket of its login has left it.
pub(super) struct Heir {
    queue: mpsc::Sender<Packet>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Heir {
    /// Has the client follow these rooms of leads as if it had asked to, with what went by after `since`.
    pub(super) async fn follow(&self, rooms: Vec<Room>, since: u64) {
        for room in rooms {
            let Room::Lead(lead) = room else { continue };
            let json = json!(["lead:subscribe", {"leadId": lead, "since": since}]).to_string().into_boxed_str();
            self.queued_bytes.fetch_add(json.len(), Ordering::Relaxed);
            if self.queue.send(Packet { json, has_attachments: false, ack: None }).await.is_err() {
                return;
            }
        }
    }
}

pub(super) fn queue(client: Arc<Client>, settings: &Settings, limits: &limits::Settings) -> (Intake, Inbox) {
    let (sender, receiver) = mpsc::channel(settings.inbound_packets);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let max_bytes = settings.inbound_bytes;
    client.set_heir(Heir { queue: sender.clone(), queued_bytes: queued_bytes.clone() });
    let intake =
        Intake { queue: sender, queued_bytes: queued_bytes.clone(), max_bytes, pace: Pace::new(limits), client };
    (intake, Inbox { queue: receiver, queued_bytes })
}

impl MessageHandler<LocalAdapter, Self> for Intake {
    fn call(&self, _: Arc<Socket>, data: socketioxide_core::Value, ack: Option<i64>) {
        if self.client.flooding().is_cancelled() {
            return;
        }
        let (json, has_attachments) = match data {
            // Copied, because a slice would keep the whole buffer that it was read into.
            socketioxide_core::Value::Str(text, attachments) => (text.as_str().into(), attachments.is_some()),
            socketioxide_core::Value::Bytes(_) => (Box::default(), true),
        };
        let packet = Packet { json, has_attachments, ack };
        if let Err(wait) = self.pace.take() {
            let message = "too many events in too short a time, send them more slowly";
            return self.refuse(&packet, &Refusal::rate_limited("events", message, wait));
        }
        if let Err(packet) = self.push(packet) {
            let message = "too many packets are waiting, send them more slowly";
            self.refuse(&packet, &Refusal::rate_limited("queue", message, QUEUE_WAIT));
        }
    }
}

impl Intake {
    /// Answers what is not even looked at; who is answered so again and again is cut.
    fn refuse(&self, packet: &Packet, refusal: &Refusal) {
        // A client that floods us and reads nothing has to do without answers.
        for output in refused(refusal, packet.name().as_deref(), packet.ack) {
            self.client.try_reply(&output);
        }
        if self.pace.refuse(Instant::now()) {
            self.client.flooding().cancel();
        }
    }

    fn push(&self, packet: Packet) -> Result<(), Packet> {
        let bytes = packet.json.len();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A packet that alone is over the limit still goes through an empty queue.
        let fits = queued == 0 || queued + bytes <= self.max_bytes;
        let pushed = match fits {
            true => self.queue.try_send(packet).map_err(TrySendError::into_inner),
            false => Err(packet),
        };
        if pushed.is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        pushed
    }
}

/// Answers what the client asks for, until the socket is closed and everything it said is done.
pub(super) async fn run(door: Arc<Door>, client: Arc<Client>, origin: Origin, mut inbox: Inbox) {
    // A socket that is gone counts as long as there is work that it left behind.
    let _place = client.vacate();
    let asker = Asker { door, client, origin };
    loop {
        let packet = tokio::select! {
            biased;
            packet = inbox.queue.recv() => packet,
            () = asker.client.closed().cancelled() => inbox.queue.try_recv().ok(),
        };
        let Some(packet) = packet else { return };
        inbox.queued_bytes.fetch_sub(packet.json.len(), Ordering::Relaxed);
        let (outputs, entered) = asker.answer(packet).await;
        for output in outputs {
            asker.client.reply(output).await;
        }
        asker.client.answered();
        if let Some(lead) = entered {
            asker.door.source.presence.welcome(&asker.client, lead);
        }
    }
}

struct Asker {
    door: Arc<Door>,
    client: Arc<Client>,
    origin: Origin,
}

/// What a request led to: an event that says so, where the request has one, and the ack.
struct Answer {
    event: Option<Message>,
    ack: Value,
    /// The lead that the client follows now.
    entered: Option<LeadId>,
}

impl Answer {
    fn new(event: Option<Message>, ack: Value) -> Self {
        Self { event, ack, entered: None }
    }
}

impl Asker {
    /// Does what one packet asks for; what to send in return, in order, and the lead that is followed from then on.
    async fn answer(&self, packet: Packet) -> (Vec<Output>, Option<LeadId>) {
        let ack = packet.ack;
        let inexact = number::inexact(&packet.json);
        let (name, payload) = match packet.parse() {
            Ok(parsed) => parsed,
            Err(refusal) => return (refused(&refusal, None, ack), None),
        };
        if let Some(field) = inexact {
            let field = field.split_once('.').map_or(field.as_str(), |(_, field)| field).to_owned();
            return (refused(&inexact_number(field).into(), Some(&name), ack), None);
        }
        if name == "sync:since" {
            // Answered by the writer, when it has sent what was missed.
            let asked = object(payload).and_then(|payload| self.sync_since(payload, ack));
            return (asked.err().map_or_else(Vec::new, |refusal| refused(&refusal, Some(&name), ack)), None);
        }
        match self.handle(&name, payload).await {
            Ok(answer) => {
                let event = answer.event.map(Output::Event);
                (event.into_iter().chain(ack.map(|id| self::ack(id, &answer.ack))).collect(), answer.entered)
            }
            Err(refusal) => (refused(&refusal, Some(&name), ack), None),
        }
    }

    async fn handle(&self, name: &str, payload: Option<Value>) -> Result<Answer, Refusal> {
        if self.client.has_ended() {
            return Err(Refusal::bad_token());
        }
        match name {
            // What is no object names no token, and no lead.
            "auth:refresh" => self.refresh(members(payload)).await,
            "lead:subscribe" => self.subscribe(members(payload)).await,
            "lead:unsubscribe" => self.unsubscribe(members(payload)),
            "lead:create" => self.create_lead(object(payload)?).await,
            "lead:update" => self.update_lead(members(payload)).await,
            "lead:delete" => self.delete_lead(members(payload)).await,
            "lead:assign" => self.assign_lead(members(payload)).await,
            "activity:create" => self.create_activity(members(payload)).await,
            _ => Err(Refusal::new("unknown_event", "there is no such event")),
        }
    }

    /// Lets the socket stay for as long as another token of the same user is good.
    async fn refresh(&self, mut payload: Map<String, Value>) -> Result<Answer, Refusal> {
        let token = match payload.shift_remove("token") {
            Some(Value::String(token)) if !token.is_empty() => token,
            None | Some(Value::Null | Value::String(_)) => return Err(Refusal::no_token()),
            Some(_) => return Err(Refusal::bad_token()),
        };
        let lease = self.lease(&token).await?;
        let is_moving = self.client.lease().is_none_or(|held| held.session != lease.session);
        self.client.renew(lease);
        // The other session may have ended after it was looked up and before its end meant this socket.
        if is_moving && let Err(refusal) = self.lease(&token).await {
            self.client.end();
            return Err(refusal);
        }
        let body = json!({"tokenExpiresAt": lease.expires_at});
        let mut ack = body.clone();
        ack["ok"] = true.into();
        Ok(Answer::new(Some(Message::new("auth:refreshed", &body)), ack))
    }

    async fn lease(&self, token: &str) -> Result<Lease, Refusal> {
        let Authenticated { user, credentials, .. } = match self.door.auth.authenticate(token).await {
            Ok(authenticated) => authenticated,
            Err(auth::Error::Unauthenticated | auth::Error::TokenExpired) => return Err(Refusal::bad_token()),
            Err(error) => return Err(app::Error::from(error).into()),
        };
        if user.id != self.client.user().id {
            return Err(Refusal::bad_token());
        }
        Ok(Lease::renewed(credentials, self.door.app.now()))
    }

    async fn subscribe(&self, mut payload: Map<String, Value>) -> Result<Answer, Refusal> {
        let lead_id = lead_id(&mut payload)?;
        let since = match payload.shift_remove("since") {
            None | Some(Value::Null) => None,
            Some(since) => Some(seq("since", &since)?),
        };
        let room = room(&lead_id);
        let followed = may_follow(&self.door.source, &self.client.user(), &room).await?;
        let is_judged = followed == Followed::Judged;
        // Who looks at a lead is told to those who see it, so that nothing is told while that is not known.
        let entered = room.lead().filter(|_| followed != Followed::Unseen);
        if !is_judged {
            self.client.leave_unjudged(&room);
        }
        let registry = &self.door.source.registry;
        let joined = registry.join(&self.client, room.clone(), since, self.door.limits.subscriptions);
        let seq = match joined {
            Ok(seq) => seq,
            Err(too_many) => {
                // A room that is not joined is not waited for either.
                self.client.exit(&room);
                return Err(too_many.into());
            }
        };
        if is_judged {
            self.client.judge(&room, seq);
        }
        let event = Message::new("lead:subscribed", &json!({"leadId": lead_id}));
        if let Some(lead) = entered {
            self.door.source.presence.enter(&self.client, lead);
        }
        let ack = json!({"ok": true, "leadId": lead_id, "seq": seq});
        Ok(Answer { entered, ..Answer::new(Some(event), ack) })
    }

    /// Lets the writer send what was missed since a seq, and say so.
    fn sync_since(&self, mut payload: Map<String, Value>, ack: Option<i64>) -> Result<(), Refusal> {
        if self.client.has_ended() {
            return Err(Refusal::bad_token());
        }
        let since = seq("seq", &payload.shift_remove("seq").unwrap_or_default())?;
        let epoch = epoch(payload.shift_remove("epoch"))?;
        let source = &self.door.source;
        // The numbers of another log say nothing here, as if they were yet to come.
        let since = if epoch == source.replay.epoch() { since } else { u64::MAX };
        let reset_line = source.registry.reset_line(&self.client);
        Ok(self.client.sync(since, ack, source.registry.position(), reset_line)?)
    }

    fn unsubscribe(&self, mut payload: Map<String, Value>) -> Result<Answer, Refusal> {
        let lead_id = lead_id(&mut payload)?;
        let (room, source) = (room(&lead_id), &self.door.source);
        source.registry.leave(&self.client, &room);
        if let Some(lead) = room.lead() {
            source.presence.leave(&self.client, lead);
        }
        let event = Message::new("lead:unsubscribed", &json!({"leadId": lead_id}));
        Ok(Answer::new(Some(event), json!({"ok": true, "leadId": lead_id})))
    }

    async fn create_lead(&self, mut payload: Map<String, Value>) -> Result<Answer, Refusal> {
        let key = idempotency_key(&mut payload)?;
        self.execute(Command::CreateLead { fields: LeadFields::parse(payload)? }, key).await
    }

    async fn update_lead(&self, mut payload: Map<String, Value>) -> Result<Answer, Refusal> {
        let (lead, key) = (known_lead(&mut payload)?, idempotency_key(&mut payload)?);
        let patch = match payload.shift_remove("patch") {
            Some(Value::Object(patch)) => patch,
            None | Some(Value::Null) => return Err(Invalid::one("patch", "required", "patch is required").into()),
            Some(_) => return Err(Invalid::one("patch", "wrong_type", "patch must be an object").into()),
        };
        let version = version(&mut payload)?;
        Input::new(payload).finish()?;
        self.execute(Command::UpdateLead { lead, patch, version }, key).await
    }

    async fn delete_lead(&self, mut payload: Map<String, Value>) -> Result<Answer, Refusal> {
        let (lead, key) = (known_lead(&mut payload)?, idempotency_key(&mut payload)?);
        let version = version(&mut payload)?;
        Input::new(payload).finish()?;
        let mut answer = self.execute(Command::DeleteLead { lead, version }, key).await?;
        answer.ack["leadId"] = json!(lead);
        Ok(answer)
    }

    async fn assign_lead(&self, mut payload: Map<String, Value>) -> Result<Answer, Refusal> {
        let (lead, key) = (known_lead(&mut payload)?, idempotency_key(&mut payload)?);
        let version = version(&mut payload)?;
        let owner = new_owner(payload)?;
        self.execute(Command::AssignLead { lead, owner, version }, key).await
    }

    async fn create_activity(&self, mut payload: Map<String, Value>) -> Result<Answer, Refusal> {
        let (lead, key) = (known_lead(&mut payload)?, idempotency_key(&mut payload)?);
        let fields = ActivityFields::parse(payload)?;
        self.execute(Command::CreateActivity { lead, fields }, key).await
    }

    async fn execute(&self, command: Command, key: Option<IdempotencyKey>) -> Result<Answer, Refusal> {
        let Some(lease) = self.client.lease() else { return Err(Refusal::bad_token()) };
        let caller = Principal::of_token(&self.client.user(), lease.credentials, self.origin.clone());
        let ack = match self.door.app.execute(&caller, command, key).await? {
            Outcome::Lead { lead, .. } => json!({"ok": true, "lead": lead}),
            Outcome::Activity { activity, .. } => json!({"ok": true, "activity": activity}),
            Outcome::Deleted => json!({"ok": true}),
        };
        // Everybody who may see it, the client too, is told by the log.
        Ok(Answer::new(None, ack))
    }
}

/// What came of the wish to follow a lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// Plugins have nothing against it.
    Judged,
    /// There is no such lead for the user: plugins were not asked, and are before anything is sent.
    Unseen,
    /// The same as far as anybody is told, but that no plugin says so: once one does, it may be seen.
    Withheld,
}

/// Asks plugins whether a user may follow a lead.
///
/// Only about one that the user sees: of one that is out of sight, or that no plugin gives a verdict on, nothing else
/// is said than of one that does not exist.
pub(super) async fn may_follow(source: &Source, user: &User, room: &Room) -> Result<Followed, Refusal> {
    let Some(id) = room.lead() else { return Ok(Followed::Unseen) };
    let Some(lead) = source.app.store().read().await?.lead(id).await? else { return Ok(Followed::Unseen) };
    let sight = source.shaper.sight(&source.shaper.pinned(), &lead, &[user.role]);
    if !sight.sees(user) {
        return Ok(if sight.is_held() { Followed::Withheld } else { Followed::Unseen });
    }
    match source.app.plugins().authorize_subscribe(user, room, Some(&json!(lead)))? {
        Decision::Allow => Ok(Followed::Judged),
        Decision::Deny(reason) => Err(Refusal::new("forbidden", reason)),
    }
}

impl Packet {
    /// The event's name alone, for an answer that is not worth reading the rest.
    fn name(&self) -> Option<String> {
        let rest = self.json.trim_start().strip_prefix('[')?;
        match serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()? {
            Value::String(name) if name == STAND_IN => None,
            name => name_of(&name),
        }
    }

    /// The event's name and its first argument.
    fn parse(&self) -> Result<(String, Option<Value>), Refusal> {
        if self.has_attachments {
            return Err(Refusal::malformed("binary attachments are not taken"));
        }
        let unreadable = |_| Refusal::malformed("the packet is not a JSON array of a name and its arguments");
        let mut parts = serde_json::from_str::<Vec<Value>>(&self.json).map_err(unreadable)?.into_iter();
        let name = match parts.next() {
            Some(Value::String(name)) if name == STAND_IN => parts.next(),
            name => name,
        };
        let Some(name) = name.as_ref().and_then(name_of) else {
            return Err(Refusal::malformed("the packet has no event name, expected a text or a number"));
        };
        Ok((name, parts.next()))
    }
}

/// An event's name, which may be a number as well.
fn name_of(name: &Value) -> Option<String> {
    match name {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The members of the payload; none where it is no object.
fn members(payload: Option<Value>) -> Map<String, Value> {
    match payload {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// The payload as an object; none at all is an empty one.
fn object(payload: Option<Value>) -> Result<Map<String, Value>, Refusal> {
    match payload {
        Some(Value::Object(members)) => Ok(members),
        None | Some(Value::Null) => Ok(Map::new()),
        Some(_) => Err(Refusal::malformed("the payload must be an object")),
    }
}

/// Any text names a room, whether or not there is such a lead.
fn lead_id(payload: &mut Map<String, Value>) -> Result<String, Refusal> {
    let id = match payload.shift_remove("leadId") {
        Some(Value::String(id)) => id,
        None | Some(Value::Null) => String::new(),
        Some(_) => return Err(Invalid::one("leadId", "wrong_type", "leadId must be a text").into()),
    };
    if id.is_empty() {
        return Err(Invalid::one("leadId", "required", "Lead ID is required").into());
    }
    if id.chars().count() > MAX_LEAD_ROOM_CHARS {
        let message = format!("leadId may have at most {MAX_LEAD_ROOM_CHARS} characters");
        return Err(Invalid::one("leadId", "too_long", message).into());
    }
    Ok(id)
}

/// A place in the log. Clients keep it in storage for texts, so it may be one.
pub(super) fn seq(field: &'static str, value: &Value) -> Result<u64, Invalid> {
    let number = match value {
        Value::Null => return Err(Invalid::one(field, "required", format!("{field} is required"))),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        value => value.as_u64(),
    };
    number.ok_or_else(|| Invalid::one(field, "wrong_type", format!("{field} must be a whole number, 0 or more")))
}

/// Which log a place is in.
pub(super) fn epoch(value: Option<Value>) -> Result<String, Invalid> {
    match value {
        Some(Value::String(epoch)) => Ok(epoch),
        None | Some(Value::Null) => Err(Invalid::one("epoch", "required", "epoch is required")),
        Some(_) => Err(Invalid::one("epoch", "wrong_type", "epoch must be a text")),
    }
}

/// A lead's id has other spellings (capitals, no hyphens), but its events go to one room.
fn room(lead_id: &str) -> Room {
    Room::Lead(lead_id.parse().map_or_else(|_| lead_id.to_owned(), |id: LeadId| id.to_string()))
}

fn known_lead(payload: &mut Map<String, Value>) -> Result<LeadId, Refusal> {
    let id = lead_id(payload)?;
    id.parse().map_err(|_| app::Error::NotFound("lead").into())
}

/// The version of the lead that the client has seen, where it cares.
fn version(payload: &mut Map<String, Value>) -> Result<Option<i64>, Refusal> {
    let Some(version) = payload.shift_remove("version") else { return Ok(None) };
    let mut input = Input::new(Map::from_iter([("version".to_owned(), version)]));
    let version = input.integer("version", 1, MAX_SAFE_INTEGER);
    input.finish()?;
    Ok(version)
}

fn idempotency_key(payload: &mut Map<String, Value>) -> Result<Option<IdempotencyKey>, Refusal> {
    match payload.shift_remove("idempotencyKey") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(key)) => Ok(Some(IdempotencyKey::parse("idempotencyKey", &key)?)),
        Some(_) => Err(Invalid::one("idempotencyKey", "wrong_type", "idempotencyKey must be a text").into()),
    }
}

/// The longest part of an unknown event's name that is told back.
const MAX_ECHO_CHARS: usize = 100;

fn refused(refusal: &Refusal, name: Option<&str>, ack: Option<i64>) -> Vec<Output> {
    let name = name.map(|name| name.chars().take(MAX_ECHO_CHARS).collect::<String>());
    let event = Output::Event(Message::new("error", &refusal.event(name.as_deref())));
    [event].into_iter().chain(ack.map(|id| self::ack(id, &refusal.ack()))).collect()
}

pub(super) fn ack(id: i64, body: &Value) -> Output {
    Output::Ack(id, to_raw_value(body).expect("what we send is plain JSON with text keys").into())
}

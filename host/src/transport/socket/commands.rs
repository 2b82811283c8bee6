//! Commands of a client, and their acknowledgements, in the order in which the client sends them.
//!
//! socketioxide spawns every handler, so two packets of one socket may overtake each other. Here they go through one
//! bounded queue instead, to one task that runs while there is something in it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    app::{self, IdempotencyKey, outcome::CommandOutcome},
    auth::{self, Authenticated, Principal, RequestOrigin},
    delivery::line::Message,
    domain::{
        activity::ActivityFields,
        command::{Command, PATCH, new_owner},
        counter::Seq,
        event_name::EventName,
        id::{Epoch, LeadId},
        input::{Input, Invalid, inexact_number},
        lead::LeadFields,
        number,
        room::{MAX_LEAD_ROOM_CHARS, Room},
    },
    transport::{
        record,
        socket::{
            client::Client,
            context::HandshakeContext,
            error::SocketError,
            follow::{FollowOutcome, may_follow},
            inbox::{IncomingEvent, members},
            intake::refused,
            packet::OutgoingPacket,
            schema::incoming::{ClientEvent, EPOCH, EventPayload, IDEMPOTENCY_KEY, ROOM, SEQ, SINCE, TOKEN, VERSION},
            session::lease::Lease,
        },
    },
};

/// Answers the commands in the inbox of a client, also those that a socket which is gone left behind.
pub(crate) async fn run(context: Arc<HandshakeContext>, client: Arc<Client>, origin: RequestOrigin) {
    let asker = CommandRunner { context, client, origin };
    while let Some(packet) = asker.client.inbox().and_then(|inbox| inbox.next()) {
        let (outputs, entered) = asker.answer(packet).await;
        for output in outputs {
            asker.client.reply(output).await;
        }
        asker.client.answered();
        if let Some(lead) = entered {
            asker.context.shared.presence.welcome(&asker.client, lead);
        }
    }
    if asker.client.closed().is_cancelled() {
        // It counted for its user until now.
        asker.client.vacate();
    }
}

struct CommandRunner {
    context: Arc<HandshakeContext>,
    client: Arc<Client>,
    origin: RequestOrigin,
}

/// Answer to a command: the event that reports the outcome, if the command has one, and the acknowledgement.
struct CommandAnswer {
    event: Option<Message>,
    ack: Value,
    /// Lead that the client follows now.
    entered: Option<LeadId>,
}

impl CommandAnswer {
    fn new(event: Option<Message>, ack: Value) -> Self {
        Self { event, ack, entered: None }
    }
}

impl CommandRunner {
    /// Executes the command of one packet; returns what to send in return, in order, and the lead that is followed from
    /// then on.
    async fn answer(&self, packet: IncomingEvent) -> (Vec<OutgoingPacket>, Option<LeadId>) {
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
        if ClientEvent::from_name(&name) == Some(ClientEvent::SyncSince) {
            // Answered by the writer, when it has sent what was missed.
            let asked = object(payload)
                .and_then(|members| self.sync_since(EventPayload::new(ClientEvent::SyncSince, members), ack));
            return (asked.err().map_or_else(Vec::new, |refusal| refused(&refusal, Some(&name), ack)), None);
        }
        match self.handle(&name, payload).await {
            Ok(answer) => {
                if ack.is_some() {
                    record::ack(&name, &answer.ack);
                }
                let event = answer.event.map(OutgoingPacket::Event);
                (
                    event
                        .into_iter()
                        .chain(ack.map(|id| crate::transport::socket::packet::ack(id, &answer.ack)))
                        .collect(),
                    answer.entered,
                )
            }
            Err(refusal) => (refused(&refusal, Some(&name), ack), None),
        }
    }

    async fn handle(&self, name: &str, payload: Option<Value>) -> Result<CommandAnswer, SocketError> {
        if self.client.has_ended() {
            return Err(SocketError::bad_token());
        }
        let Some(event) = ClientEvent::from_name(name) else {
            return Err(SocketError::new("unknown_event", "unknown event"));
        };
        // Where a `leadId` or a `token` is needed, a payload that is not an object counts as one without it.
        let members = if event == ClientEvent::LeadCreate { object(payload)? } else { members(payload) };
        let payload = EventPayload::new(event, members);
        match event {
            ClientEvent::AuthRefresh => self.refresh(payload).await,
            ClientEvent::LeadSubscribe => self.subscribe(payload).await,
            ClientEvent::LeadUnsubscribe => self.unsubscribe(payload),
            ClientEvent::LeadCreate => self.create_lead(payload).await,
            ClientEvent::LeadUpdate => self.update_lead(payload).await,
            ClientEvent::LeadDelete => self.delete_lead(payload).await,
            ClientEvent::LeadAssign => self.assign_lead(payload).await,
            ClientEvent::ActivityCreate => self.create_activity(payload).await,
            ClientEvent::SyncSince => unreachable!("the writer answers it"),
        }
    }

    /// Renews the lease: the socket may stay for as long as another token of the same user is good.
    async fn refresh(&self, mut payload: EventPayload) -> Result<CommandAnswer, SocketError> {
        let token = match payload.take(&TOKEN) {
            Some(Value::String(token)) if !token.is_empty() => token,
            None | Some(Value::Null | Value::String(_)) => return Err(SocketError::no_token()),
            Some(_) => return Err(SocketError::bad_token()),
        };
        let lease = self.lease(&token).await?;
        let is_moving = self.client.lease().is_none_or(|held| held.session != lease.session);
        self.client.renew(lease);
        // The other session may have ended after it was looked up and before its end applied to this socket.
        if is_moving && let Err(refusal) = self.lease(&token).await {
            self.client.end();
            return Err(refusal);
        }
        let body = json!({"tokenExpiresAt": lease.expires_at});
        let mut ack = body.clone();
        ack["ok"] = true.into();
        Ok(CommandAnswer::new(Some(Message::new(EventName::AuthRefreshed.as_str(), &body)), ack))
    }

    async fn lease(&self, token: &str) -> Result<Lease, SocketError> {
        let Authenticated { user, credentials, .. } = match self.context.auth.authenticate(token).await {
            Ok(authenticated) => authenticated,
            Err(auth::Error::Unauthenticated | auth::Error::TokenExpired) => return Err(SocketError::bad_token()),
            Err(error) => return Err(app::Error::from(error).into()),
        };
        if user.id != self.client.user().id {
            return Err(SocketError::bad_token());
        }
        Ok(Lease::renewed(credentials, self.context.app.now()))
    }

    async fn subscribe(&self, mut payload: EventPayload) -> Result<CommandAnswer, SocketError> {
        let lead_id = lead_id(&mut payload)?;
        let since = match payload.take(&SINCE) {
            None | Some(Value::Null) => None,
            Some(since) => Some(seq("since", &since)?),
        };
        let room = room(&lead_id);
        let followed = may_follow(&self.context.shared, &self.client.user(), &room).await?;
        let is_judged = followed == FollowOutcome::Judged;
        // Viewers are shown only to those who see the lead, so a withheld lead does no harm here: nothing is sent while
        // it is not known who sees it.
        let entered = room.lead().filter(|_| followed != FollowOutcome::Unseen);
        if !is_judged {
            self.client.leave_unjudged(&room);
        }
        let registry = &self.context.shared.registry;
        let joined = registry.join(&self.client, room.clone(), since, self.context.limits.subscriptions);
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
        let event = Message::new(EventName::LeadSubscribed.as_str(), &json!({"leadId": lead_id}));
        if let Some(lead) = entered {
            self.context.shared.presence.enter(&self.client, lead);
        }
        let ack = json!({"ok": true, "leadId": lead_id, "seq": seq});
        Ok(CommandAnswer { entered, ..CommandAnswer::new(Some(event), ack) })
    }

    /// Has the writer send what was missed since a seq (catch-up), and acknowledge that.
    fn sync_since(&self, mut payload: EventPayload, ack: Option<i64>) -> Result<(), SocketError> {
        if self.client.has_ended() {
            return Err(SocketError::bad_token());
        }
        let since = seq("seq", &payload.take(&SEQ).unwrap_or_default())?;
        let epoch = epoch(payload.take(&EPOCH))?;
        let shared = &self.context.shared;
        // A seq of another log means nothing here; it is treated like one that is yet to come.
        let since = if epoch == *shared.replay.epoch() { since } else { Seq::END };
        let reset_line = shared.registry.reset_line(&self.client);
        Ok(self.client.sync(since, ack, shared.registry.position(), reset_line)?)
    }

    fn unsubscribe(&self, mut payload: EventPayload) -> Result<CommandAnswer, SocketError> {
        let lead_id = lead_id(&mut payload)?;
        let (room, shared) = (room(&lead_id), &self.context.shared);
        shared.registry.leave(&self.client, &room);
        if let Some(lead) = room.lead() {
            shared.presence.leave(&self.client, lead);
        }
        let event = Message::new(EventName::LeadUnsubscribed.as_str(), &json!({"leadId": lead_id}));
        Ok(CommandAnswer::new(Some(event), json!({"ok": true, "leadId": lead_id})))
    }

    async fn create_lead(&self, mut payload: EventPayload) -> Result<CommandAnswer, SocketError> {
        let key = idempotency_key(&mut payload)?;
        self.execute(Command::CreateLead { fields: LeadFields::parse(payload.rest())? }, key).await
    }

    async fn update_lead(&self, mut payload: EventPayload) -> Result<CommandAnswer, SocketError> {
        let (lead, key) = (known_lead(&mut payload)?, idempotency_key(&mut payload)?);
        let patch = match payload.take(&PATCH) {
            Some(Value::Object(patch)) => patch,
            None | Some(Value::Null) => return Err(Invalid::one("patch", "required", "patch is required").into()),
            Some(_) => return Err(Invalid::one("patch", "wrong_type", "patch must be an object").into()),
        };
        let version = version(&mut payload)?;
        Input::expect_empty(payload.rest())?;
        self.execute(Command::UpdateLead { lead, patch, version }, key).await
    }

    async fn delete_lead(&self, mut payload: EventPayload) -> Result<CommandAnswer, SocketError> {
        let (lead, key) = (known_lead(&mut payload)?, idempotency_key(&mut payload)?);
        let version = version(&mut payload)?;
        Input::expect_empty(payload.rest())?;
        let mut answer = self.execute(Command::DeleteLead { lead, version }, key).await?;
        answer.ack["leadId"] = json!(lead);
        Ok(answer)
    }

    async fn assign_lead(&self, mut payload: EventPayload) -> Result<CommandAnswer, SocketError> {
        let (lead, key) = (known_lead(&mut payload)?, idempotency_key(&mut payload)?);
        let version = version(&mut payload)?;
        let owner = new_owner(payload.rest())?;
        self.execute(Command::AssignLead { lead, owner, version }, key).await
    }

    async fn create_activity(&self, mut payload: EventPayload) -> Result<CommandAnswer, SocketError> {
        let (lead, key) = (known_lead(&mut payload)?, idempotency_key(&mut payload)?);
        let fields = ActivityFields::parse(payload.rest())?;
        self.execute(Command::CreateActivity { lead, fields }, key).await
    }

    async fn execute(&self, command: Command, key: Option<IdempotencyKey>) -> Result<CommandAnswer, SocketError> {
        let Some(lease) = self.client.lease() else { return Err(SocketError::bad_token()) };
        let caller = Principal::of_token(&self.client.user(), lease.credentials, self.origin.clone());
        let ack = match self.context.app.execute(&caller, command, key).await? {
            CommandOutcome::Lead { lead, seq, .. } => json!({"ok": true, "lead": lead, "seq": seq}),
            CommandOutcome::Activity { activity, seq, .. } => json!({"ok": true, "activity": activity, "seq": seq}),
            CommandOutcome::Deleted { seq } => json!({"ok": true, "seq": seq}),
        };
        // Everybody who may see it, including this client, gets the event from the log.
        Ok(CommandAnswer::new(None, ack))
    }
}

/// Returns the payload as an object; a missing payload is an empty one.
fn object(payload: Option<Value>) -> Result<Map<String, Value>, SocketError> {
    match payload {
        Some(Value::Object(members)) => Ok(members),
        None | Some(Value::Null) => Ok(Map::new()),
        Some(_) => Err(SocketError::malformed("the payload must be an object")),
    }
}

/// Reads the id of a lead. Any text names a room, even if there is no such lead.
fn lead_id(payload: &mut EventPayload) -> Result<String, SocketError> {
    let id = match payload.take(&ROOM) {
        Some(Value::String(id)) => id,
        None | Some(Value::Null) => String::new(),
        Some(_) => return Err(Invalid::one("leadId", "wrong_type", "leadId must be a string").into()),
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

/// Reads a seq. Clients keep it in storage for texts, so it may be a text.
pub(crate) fn seq(field: &'static str, value: &Value) -> Result<Seq, Invalid> {
    let number = match value {
        Value::Null => return Err(Invalid::one(field, "required", format!("{field} is required"))),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        value => value.as_u64(),
    };
    number
        .map(Seq)
        .ok_or_else(|| Invalid::one(field, "wrong_type", format!("{field} must be a whole number, 0 or more")))
}

/// Reads the epoch, which names the log of a seq.
pub(crate) fn epoch(value: Option<Value>) -> Result<Epoch, Invalid> {
    match value {
        Some(Value::String(epoch)) => Ok(Epoch::from(epoch)),
        None | Some(Value::Null) => Err(Invalid::one("epoch", "required", "epoch is required")),
        Some(_) => Err(Invalid::one("epoch", "wrong_type", "epoch must be a string")),
    }
}

/// Returns the room of a lead. The id has other spellings (capitals, no hyphens), but its events go to one room.
pub(crate) fn room(lead_id: &str) -> Room {
    Room::Lead(lead_id.parse().map_or_else(|_| lead_id.to_owned(), |id: LeadId| id.to_string()))
}

fn known_lead(payload: &mut EventPayload) -> Result<LeadId, SocketError> {
    let id = lead_id(payload)?;
    id.parse().map_err(|_| app::Error::NotFound("lead").into())
}

/// Reads the version of the lead that the client has seen, if it gives one.
fn version(payload: &mut EventPayload) -> Result<Option<i64>, SocketError> {
    let Some(version) = payload.take(&VERSION) else { return Ok(None) };
    let members = Map::from_iter([("version".to_owned(), version)]);
    Ok(Input::parse(members, &[&VERSION], |input| Some(input.integer(&VERSION)))?)
}

fn idempotency_key(payload: &mut EventPayload) -> Result<Option<IdempotencyKey>, SocketError> {
    match payload.take(&IDEMPOTENCY_KEY) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(key)) => Ok(Some(IdempotencyKey::parse("idempotencyKey", &key)?)),
        Some(_) => Err(Invalid::one("idempotencyKey", "wrong_type", "idempotencyKey must be a string").into()),
    }
}

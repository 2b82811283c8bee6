//! Events that the server sends: to whom, whether they are in the log, and their members.

use crate::{
    domain::{event_name::EventName, role::Role},
    transport::http::schema::shape::{
        AnySchema, ObjectShape, flag, id, list, nullable, open_names, reference, text, time, whole,
    },
};

/// Description of an event that the server sends.
pub(crate) struct ServerEvent {
    pub(crate) about: &'static str,
    /// Sockets that get it.
    pub(crate) audience: &'static str,
    /// True if it has a `seq` and is replayed.
    pub(crate) is_logged: bool,
    pub(crate) payload: ObjectShape,
}

const EVERYONE: &str = "everyone who may see the lead";
const SUBSCRIBERS: &str = "subscribers of the lead who may see it";
const ONE_USER: &str = "one user";
const ONE_SOCKET: &str = "one socket";

/// Describes an event; nothing if it is never sent.
pub(crate) fn describe(event: EventName) -> Option<ServerEvent> {
    let logged = |audience, about, payload: ObjectShape| {
        let epoch = text().description(Some("Log that the `seq` is of."));
        let seq = whole().description(Some("Position in the log."));
        let payload = payload.with("timestamp", time()).with("seq", seq).with("epoch", epoch);
        Some(ServerEvent { about, audience, is_logged: true, payload })
    };
    let sent = |audience, about, payload| Some(ServerEvent { about, audience, is_logged: false, payload });
    let new = || ObjectShape::new("");
    let lead = || new().with("lead", reference("Lead"));
    let activity = || new().with("activity", reference("Activity")).with("leadId", id());
    let actor = || reference("Actor");
    match event {
        EventName::LeadCreated => logged(
            EVERYONE,
            "A lead was created, or restored.",
            lead().hideable("createdBy", actor()).maybe("restored", flag()),
        ),
        EventName::LeadUpdated => logged(
            EVERYONE,
            "A lead was changed.",
            lead()
                .hideable("updatedBy", actor())
                .with("changes", list(text()).description(Some("Names of the changed members."))),
        ),
        EventName::LeadAssigned => logged(
            EVERYONE,
            "A lead has another owner, or none.",
            lead().hideable("previousOwnerId", nullable(id())).hideable("assignedBy", actor()),
        ),
        EventName::LeadDeleted => logged(
            EVERYONE,
            "A lead was deleted, or erased for good.",
            new().with("leadId", id()).hideable("deletedBy", actor()).maybe("erased", flag()),
        ),
        EventName::LeadRevoked => logged(
            "users who saw the lead before and may no longer see it",
            "A change took the lead out of sight; it has the place and the `seq` of that change.",
            new().with("leadId", id()),
        ),
        EventName::ActivityCreated => {
            logged(SUBSCRIBERS, "An activity was added.", activity().hideable("createdBy", actor()))
        }
        EventName::ActivityUpdated => {
            logged(SUBSCRIBERS, "An activity was changed.", activity().hideable("updatedBy", actor()))
        }
        EventName::ActivityDeleted => logged(
            SUBSCRIBERS,
            "An activity was deleted.",
            new().with("activityId", id()).with("leadId", id()).hideable("deletedBy", actor()),
        ),
        EventName::Notification => {
            let kinds = ["lead_assigned", "lead_unassigned"];
            let kind = open_names(&kinds, "Kind, or a plugin's own word.");
            logged(
                ONE_USER,
                "Something happened that concerns the user.",
                new().with("kind", kind).with("leadId", nullable(id())),
            )
        }
        EventName::SessionUpdated => logged(
            ONE_USER,
            "The role, the name or the state of the user has changed.",
            new().with("userRole", reference("Role")),
        ),
        EventName::LeadViewers => sent(
            SUBSCRIBERS,
            "Viewers of a lead, the whole list each time: the first hundred by name, and how many there are in all.",
            new().with("leadId", id()).hideable("users", list(reference("Person"))).hideable("total", whole()),
        ),
        EventName::LeadSubscribed => {
            sent(ONE_SOCKET, "The socket is subscribed to the lead.", new().with("leadId", text()))
        }
        EventName::LeadUnsubscribed => {
            sent(ONE_SOCKET, "The socket is not subscribed to the lead any more.", new().with("leadId", text()))
        }
        EventName::Connected => sent(
            ONE_SOCKET,
            "The server has accepted the socket. What is fetched from now on misses no event.",
            new()
                .with("message", text())
                .with("userId", id())
                .with("userRole", open_names(&Role::NAMES, "Role of the user."))
                .with("timestamp", time())
                .with("seq", whole().description(Some("Head of the log.")))
                .with("epoch", text())
                .with("recovered", flag().description(Some("True if what was missed follows.")))
                .with("tokenExpiresAt", time()),
        ),
        EventName::SyncDone => sent(ONE_SOCKET, "Everything up to this `seq` was sent.", new().with("seq", whole())),
        EventName::SyncReset => sent(
            ONE_SOCKET,
            "Events were left out, or cannot make lists right: fetch again what you show.",
            new().with("seq", whole()).with("epoch", text()),
        ),
        EventName::AuthExpiring => {
            sent(ONE_SOCKET, "The token of the socket expires soon.", new().with("expiresAt", time()))
        }
        EventName::AuthRefreshed => {
            sent(ONE_SOCKET, "The socket has a new token.", new().with("tokenExpiresAt", time()))
        }
        EventName::ServerDraining => {
            sent(ONE_SOCKET, "The server is stopping, and closes the transport.", new().with("retryAfterMs", whole()))
        }
        EventName::Error => sent(
            ONE_SOCKET,
            "An event of the client was refused, or a subscription has ended.",
            refusal("Refusal of an event.")
                .maybe("event", nullable(text().description(Some("Name of the event that was refused."))))
                .maybe("leadId", text()),
        ),
        EventName::LeadRead
        | EventName::ActivityRead
        | EventName::SessionEnded
        | EventName::DeliverySwitched
        | EventName::DeliveryReleased => None,
    }
}

/// Members of a refusal.
fn refusal(about: &str) -> ObjectShape {
    let limits = ["events", "queue", "subscriptions", "replays", "login"];
    ObjectShape::new(about)
        .with("message", text().description(Some("Message for people.")))
        .with("code", text().description(Some("Code, the same as over HTTP; base your logic on it.")))
        .maybe("errors", list(reference("FieldError")))
        .maybe("current", reference("Lead"))
        .maybe("limit", open_names(&limits, "Limit that was exceeded."))
        .maybe("retryAfterMs", whole())
}

/// Acknowledgement of an event that was refused.
pub(crate) fn refused_ack() -> AnySchema {
    ObjectShape::new("It was refused; nothing was done.")
        .with("ok", flag().enum_values(Some([false])))
        .with("error", refusal("Why."))
        .into()
}

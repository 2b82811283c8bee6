//! Names of events, with the text of each in one place: those in the log, those that are only sent, and those that
//! Socket.IO keeps for itself.

/// Event that Leadwire appends to the log or sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventName {
    LeadCreated,
    LeadUpdated,
    LeadAssigned,
    LeadDeleted,
    /// Sent in place of a change to users who no longer see the lead.
    LeadRevoked,
    /// Shaping of a lead that is read; neither in the log nor sent.
    LeadRead,
    LeadViewers,
    LeadSubscribed,
    LeadUnsubscribed,
    ActivityCreated,
    ActivityUpdated,
    ActivityDeleted,
    /// Shaping of an activity that is read; neither in the log nor sent.
    ActivityRead,
    Notification,
    SessionUpdated,
    SessionEnded,
    DeliverySwitched,
    DeliveryReleased,
    Connected,
    SyncDone,
    SyncReset,
    AuthExpiring,
    AuthRefreshed,
    ServerDraining,
}

/// Names that a Socket.IO client emits by itself; an event with such a name would look like one of them.
pub const SOCKET_IO_RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

impl EventName {
    pub const ALL: [Self; 24] = [
        Self::LeadCreated,
        Self::LeadUpdated,
        Self::LeadAssigned,
        Self::LeadDeleted,
        Self::LeadRevoked,
        Self::LeadRead,
        Self::LeadViewers,
        Self::LeadSubscribed,
        Self::LeadUnsubscribed,
        Self::ActivityCreated,
        Self::ActivityUpdated,
        Self::ActivityDeleted,
        Self::ActivityRead,
        Self::Notification,
        Self::SessionUpdated,
        Self::SessionEnded,
        Self::DeliverySwitched,
        Self::DeliveryReleased,
        Self::Connected,
        Self::SyncDone,
        Self::SyncReset,
        Self::AuthExpiring,
        Self::AuthRefreshed,
        Self::ServerDraining,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeadCreated => "lead:created",
            Self::LeadUpdated => "lead:updated",
            Self::LeadAssigned => "lead:assigned",
            Self::LeadDeleted => "lead:deleted",
            Self::LeadRevoked => "lead:revoked",
            Self::LeadRead => "lead:read",
            Self::LeadViewers => "lead:viewers",
            Self::LeadSubscribed => "lead:subscribed",
            Self::LeadUnsubscribed => "lead:unsubscribed",
            Self::ActivityCreated => "activity:created",
            Self::ActivityUpdated => "activity:updated",
            Self::ActivityDeleted => "activity:deleted",
            Self::ActivityRead => "activity:read",
            Self::Notification => "notification",
            Self::SessionUpdated => "session:updated",
            Self::SessionEnded => "session:ended",
            Self::DeliverySwitched => "delivery:switched",
            Self::DeliveryReleased => "delivery:released",
            Self::Connected => "connected",
            Self::SyncDone => "sync:done",
            Self::SyncReset => "sync:reset",
            Self::AuthExpiring => "auth:expiring",
            Self::AuthRefreshed => "auth:refreshed",
            Self::ServerDraining => "server:draining",
        }
    }

    /// Returns the event with this name; plugins and older versions may use others.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

impl PartialEq<EventName> for str {
    fn eq(&self, other: &EventName) -> bool {
        self == other.as_str()
    }
}

impl PartialEq<EventName> for String {
    fn eq(&self, other: &EventName) -> bool {
        self == other.as_str()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_name_stands_for_one_event_and_none_is_reserved() {
        let names: HashSet<&str> = EventName::ALL.into_iter().map(EventName::as_str).collect();
        assert_eq!(names.len(), EventName::ALL.len());
        assert!(EventName::ALL.into_iter().all(|event| EventName::parse(event.as_str()) == Some(event)));
        assert!(SOCKET_IO_RESERVED.iter().all(|name| !names.contains(name)));
    }
}

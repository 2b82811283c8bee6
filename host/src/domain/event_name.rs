//! Names of events, with the text of each in one place: those in the log, those that are only sent, and those that
//! Socket.IO keeps for itself.

macro_rules! event_names {
    ($($(#[$doc:meta])* $event:ident = $text:literal,)+) => {
        /// Event that Leadwire appends to the log or sends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventName {
            $($(#[$doc])* $event,)+
        }

        impl EventName {
            pub const ALL: &[Self] = &[$(Self::$event),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$event => $text,)+
                }
            }

            /// Returns the event with this name; plugins and older versions may use others.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$event),)+
                    _ => None,
                }
            }
        }
    };
}

event_names! {
    LeadCreated = "lead:created",
    LeadUpdated = "lead:updated",
    LeadAssigned = "lead:assigned",
    LeadDeleted = "lead:deleted",
    /// Sent in place of a change to users who no longer see the lead.
    LeadRevoked = "lead:revoked",
    /// Shaping of a lead that is read; neither in the log nor sent.
    LeadRead = "lead:read",
    LeadViewers = "lead:viewers",
    LeadSubscribed = "lead:subscribed",
    LeadUnsubscribed = "lead:unsubscribed",
    ActivityCreated = "activity:created",
    ActivityUpdated = "activity:updated",
    ActivityDeleted = "activity:deleted",
    /// Shaping of an activity that is read; neither in the log nor sent.
    ActivityRead = "activity:read",
    Notification = "notification",
    SessionUpdated = "session:updated",
    SessionEnded = "session:ended",
    DeliverySwitched = "delivery:switched",
    DeliveryReleased = "delivery:released",
    Connected = "connected",
    SyncDone = "sync:done",
    SyncReset = "sync:reset",
    AuthExpiring = "auth:expiring",
    AuthRefreshed = "auth:refreshed",
    ServerDraining = "server:draining",
    /// An event of the client was refused.
    Error = "error",
}

/// Names that a Socket.IO client emits by itself; an event with such a name would look like one of them.
pub const SOCKET_IO_RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

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
    fn event_names_are_unique_and_not_reserved() {
        let names: HashSet<&str> = EventName::ALL.iter().map(|event| event.as_str()).collect();
        assert_eq!(names.len(), EventName::ALL.len());
        assert!(EventName::ALL.iter().all(|event| EventName::parse(event.as_str()) == Some(*event)));
        assert!(SOCKET_IO_RESERVED.iter().all(|name| !names.contains(name)));
    }
}

//! The Socket.IO contract as data: AsyncAPI 3.0.
//!
//! Clients emit a [`ClientEvent`](incoming::ClientEvent), by which the handlers are chosen; what the server
//! sends is an [`EventName`](crate::domain::event_name::EventName). Neither can be added without its description.

pub(crate) mod document;
pub(crate) mod incoming;
pub(crate) mod outgoing;

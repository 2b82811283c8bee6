//! Clients without a transport, for unit tests.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    auth::Credentials,
    domain::{
        counter::Seq,
        id::UserId,
        role::{Role, Roles},
        room::Room,
        time::Timestamp,
        user::User,
    },
    transport::socket::{client::Client, session::lease::Lease, settings::SocketConfig},
};

pub(crate) const ROLE: Role = Role::Sales;

pub(crate) fn user() -> User {
    let at = Timestamp::from_millis(0).expect("in range");
    let (email, name) = ("sam@example.com".into(), "Sam".into());
    User { id: UserId(Uuid::nil()), email, name, role: ROLE, active: true, created_at: at, updated_at: at }
}

/// Creates a client in the room of everyone, which has read everything up to 10.
pub(crate) fn client(outbox_packets: usize) -> Arc<Client> {
    let at = user().created_at;
    let lease = Lease::new(Credentials { session: None, issued_at: at, expires_at: at, roles: Roles::ALL });
    let client = Client::new(user(), lease, Seq(10), &SocketConfig { outbox_packets, ..SocketConfig::default() });
    client.enter(&Room::Everyone, Seq(10));
    client
}

/// Creates such a client that is live.
pub(crate) fn live_client() -> Arc<Client> {
    let client = client(8);
    assert!(client.go_live(|| Seq(10)));
    client
}

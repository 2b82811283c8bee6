//! Registry of subscriptions: the sockets of each room, and the [`Publisher`] that offers each event to those of its
//! rooms (fan-out).
//!
//! socketioxide's own rooms cannot say which socket could not take a packet, and no packet may be lost silently. So
//! this registry has the rooms, and socketioxide's own stay empty.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::{
    delivery::{Publisher, RightsChange, line::DeliveredLine},
    domain::{
        counter::{AtomicSeq, Seq},
        event::Resets,
        id::{SessionId, UserId},
        role::Role,
        room::Room,
    },
    transport::socket::{
        client::Client,
        conn::admission::pace,
        error::TooManyRooms,
        fan_out::fan_out,
        members::{Members, place},
        presence::Presence,
        session::resume::Rooms,
    },
};

/// Number of rooms that a client is in without asking: `org:global` and `user:<id>`.
const OWN_ROOMS: usize = 2;

/// Registry of every connected socket.
pub struct Registry {
    /// Newest line that was, or is just being, handed out.
    position: AtomicSeq,
    /// Newest line that was handed out to everybody.
    handed_out: AtomicSeq,
    /// Newest reset line of each role, in the order of [`Role::ALL`], as far as the tail is.
    resets: [AtomicSeq; Role::ALL.len()],
    /// Locked before any client, never while one is locked.
    rooms: RwLock<HashMap<Room, Members>>,
    /// Presence, which is informed of what may change who sees whom before any client is.
    presence: Arc<Presence>,
}

impl Registry {
    pub(crate) fn new(presence: Arc<Presence>) -> Self {
        let (position, handed_out) = (AtomicSeq::default(), AtomicSeq::default());
        Self { position, handed_out, resets: Default::default(), rooms: RwLock::default(), presence }
    }

    /// Returns the newest line that was, or is just being, handed out.
    pub fn position(&self) -> Seq {
        self.position.load()
    }

    /// Returns the newest line that was handed out to everybody.
    pub(crate) fn handed_out(&self) -> Seq {
        self.handed_out.load()
    }

    /// Returns the newest line past which events alone do not keep the client's lists right.
    pub(crate) fn reset_line(&self, client: &Client) -> Seq {
        let of_role = self.resets[place(client.user().role)].load();
        of_role.max(client.rights())
    }

    /// Resets a client that was just added, if the tail has passed a reset line of its role since the handshake.
    pub(crate) fn reset_newcomer(&self, client: &Client) {
        let line = self.resets[place(client.user().role)].load();
        client.owe_reset(line, false, Instant::now());
    }

    /// Applies a reset line to one client, which may not have been there when the line was handed out. It is reset at
    /// `due` at the latest.
    pub(crate) fn reset_one(&self, client: &Client, seq: Seq, whom: &Resets, due: Instant) {
        let user = client.user();
        let (concerns, is_own) = match whom {
            Resets::Roles(roles) => (roles.contains(&user.role), false),
            Resets::User(id) => (*id == user.id, true),
        };
        if concerns {
            client.owe_reset(seq, is_own, due);
        }
    }

    /// Subscribes a client to the rooms it begins with.
    ///
    /// It gets what follows its cursor, in each room no earlier than from the seq given with it.
    pub(crate) fn add(&self, client: &Arc<Client>, rooms: impl IntoIterator<Item = (Room, Seq)>) {
        let mut index = self.rooms.write();
        for (room, since) in rooms {
            let since = since.max(client.cursor());
            if let Some(role) = client.enter(&room, since) {
                index.entry(room).or_default().add(client, role);
            }
        }
    }

    /// Subscribes a client to a room; returns the seq from which on it listens, once it was sent what follows `since`.
    pub(crate) fn join(
        &self,
        client: &Arc<Client>,
        room: Room,
        since: Option<Seq>,
        limit: usize,
    ) -> Result<Seq, TooManyRooms> {
        let mut index = self.rooms.write();
        let position = self.position();
        if !client.is_in(&room) {
            if client.rooms() >= OWN_ROOMS + limit {
                return Err(TooManyRooms(limit));
            }
            if let Some(role) = client.enter(&room, position) {
                index.entry(room.clone()).or_default().add(client, role);
            }
        }
        if let Some(since) = since {
            // Asked while nothing can be handed out, so that nothing newer goes ahead.
            client.ask(&room, since, position, self.reset_line(client));
        }
        Ok(position)
    }

    /// Returns the sockets of a login session that are here.
    pub(crate) fn siblings(&self, user: UserId, session: SessionId) -> Vec<Arc<Client>> {
        let index = self.rooms.read();
        let Some(members) = index.get(&Room::User(user)) else { return Vec::new() };
        let is_sibling = |client: &Arc<Client>| client.lease().and_then(|lease| lease.session) == Some(session);
        members.clients().filter(|client| is_sibling(client)).cloned().collect()
    }

    pub(crate) fn leave(&self, client: &Client, room: &Room) {
        let mut index = self.rooms.write();
        if let Some(role) = client.exit(room) {
            drop_member(&mut index, room, client.id(), role);
        }
    }

    /// Forgets a client for good; it can enter no room any more. Returns the rooms it was in, the first time.
    ///
    /// `keep` is given them before anybody can find that the client is gone.
    pub(crate) fn remove(&self, client: &Client, keep: impl FnOnce(&Rooms)) -> Option<Rooms> {
        let mut index = self.rooms.write();
        let (rooms, role) = client.close()?;
        for room in rooms.keys() {
            drop_member(&mut index, room, client.id(), role);
        }
        keep(&rooms);
        Some(rooms)
    }

    /// Calls `visit` for every client while no client can come or go; `begin` is called before that, under the same
    /// lock.
    pub(crate) fn survey<T>(&self, begin: impl FnOnce() -> T, mut visit: impl FnMut(&mut T, &Client)) -> T {
        let index = self.rooms.read();
        let mut seen = begin();
        if let Some(members) = index.get(&Room::Everyone) {
            members.clients().for_each(|client| visit(&mut seen, client));
        }
        seen
    }

    /// Applies a line of the log about a user's rights to one of their sockets, unless that knows a newer one already.
    pub(crate) fn apply_to(&self, client: &Client, seq: Seq, change: &RightsChange) {
        self.presence.learn(seq, change);
        let mut index = self.rooms.write();
        let Some((rooms, from, to)) = client.learn(seq, change) else { return };
        for room in &rooms {
            if let Some(members) = index.get_mut(room) {
                members.change_role(from, to);
            }
        }
    }

    /// Returns the number of sockets that listen to something.
    pub fn clients(&self) -> usize {
        self.rooms.read().get(&Room::Everyone).map_or(0, Members::len)
    }

    /// Returns the number of rooms that have somebody in them.
    pub fn rooms(&self) -> usize {
        self.rooms.read().len()
    }

    pub(crate) fn everyone(&self) -> Vec<Arc<Client>> {
        self.clients_of(&Room::Everyone)
    }

    fn clients_of(&self, room: &Room) -> Vec<Arc<Client>> {
        self.rooms.read().get(room).map_or_else(Vec::new, |members| members.clients().cloned().collect())
    }
}

impl Publisher for Registry {
    fn begin(&self, seq: Seq) {
        self.position.store(seq);
    }

    fn end(&self, seq: Seq) {
        self.handed_out.store(seq);
    }

    fn roles(&self, rooms: &[Room]) -> Vec<Role> {
        let index = self.rooms.read();
        let members: Vec<&Members> = rooms.iter().filter_map(|room| index.get(room)).collect();
        let listens = |role: &Role| members.iter().any(|members| members.has_role(*role));
        Role::ALL.into_iter().filter(listens).collect()
    }

    async fn publish(&self, lines: Arc<[DeliveredLine]>) {
        walk_step!("publish");
        lines.iter().for_each(|of| self.presence.note(&of.line.event));
        let mut chunks = Vec::new();
        {
            let index = self.rooms.read();
            // Everybody is in the room of everyone. A client in two other rooms is offered a line twice, and takes it
            // once.
            let rooms = lines.first().map_or(&[][..], |of| &of.line.event.rooms);
            let of_all = rooms.iter().find(|room| **room == Room::Everyone).map(std::slice::from_ref);
            for members in of_all.unwrap_or(rooms).iter().filter_map(|room| index.get(room)) {
                chunks.extend_from_slice(members.chunks());
            }
        }
        fan_out(lines, chunks).await;
    }

    fn reset(&self, seq: Seq, whom: &Resets) {
        match whom {
            Resets::User(user) => {
                for client in self.clients_of(&Room::User(*user)) {
                    client.owe_reset(seq, true, Instant::now());
                }
            }
            Resets::Roles(roles) => {
                for role in roles {
                    self.resets[place(*role)].raise(seq);
                }
                let mut clients = self.clients_of(&Room::Everyone);
                clients.retain(|client| roles.contains(&client.user().role));
                // Each will fetch its lists again, so they are spread: not all in one instant.
                let moments = pace(clients.len());
                for (client, moment) in clients.iter().zip(moments) {
                    client.owe_reset(seq, false, moment);
                }
            }
        }
    }

    fn apply(&self, seq: Seq, change: &RightsChange) {
        // Applies also to a user who has no socket any more.
        self.presence.learn(seq, change);
        for client in self.clients_of(&Room::User(change.user())) {
            self.apply_to(&client, seq, change);
        }
    }

    fn lost(&self) {
        self.presence.note_all();
        for client in self.clients_of(&Room::Everyone) {
            client.fall_behind();
        }
    }
}

fn drop_member(index: &mut HashMap<Room, Members>, room: &Room, client: u64, role: Role) {
    let Some(members) = index.get_mut(room) else { return };
    members.remove(client, role);
    if members.len() == 0 {
        index.remove(room);
    }
}

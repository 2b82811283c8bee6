//! Members of a room, in chunks that are shared: whoever hands out an event takes a copy of the list of chunks, and needs
//! no lock while it sends.

use std::sync::Arc;

use crate::{domain::role::Role, transport::socket::client::Client};

/// Number of members that are sent to before other tasks get their turn.
pub(crate) const CHUNK: usize = 128;

/// Some members of a room.
pub(crate) type MemberChunk = Arc<Vec<Member>>;

#[derive(Clone)]
pub(crate) struct Member {
    /// Kept beside the client, because members are searched for by it.
    id: u64,
    pub(crate) client: Arc<Client>,
}

#[derive(Default)]
pub(crate) struct Members {
    chunks: Vec<MemberChunk>,
    count: usize,
    /// Number of members per role, in the order of [`Role::ALL`].
    roles: [usize; Role::ALL.len()],
}

impl Members {
    pub(crate) fn add(&mut self, client: &Arc<Client>, role: Role) {
        let member = Member { id: client.id(), client: client.clone() };
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => Arc::make_mut(chunk).push(member),
            None => self.chunks.push(Arc::new(vec![member])),
        }
        self.count += 1;
        self.roles[place(role)] += 1;
    }

    pub(crate) fn remove(&mut self, client: u64, role: Role) {
        let find = |chunk: &MemberChunk| chunk.iter().position(|member| member.id == client);
        let found = self.chunks.iter().enumerate().find_map(|(at, chunk)| Some((at, find(chunk)?)));
        let Some((at, member)) = found else { return };
        let is_last = at + 1 == self.chunks.len();
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        chunk.swap_remove(member);
        match chunk.len() {
            0 => drop(self.chunks.swap_remove(at)),
            short if short < CHUNK / 2 && !is_last => self.refill(at),
            _ => {}
        }
        self.count -= 1;
        self.roles[place(role)] -= 1;
    }

    /// Moves members of the last chunk to one that has become short, so that chunks do not become many.
    fn refill(&mut self, at: usize) {
        let Some(last) = self.chunks.pop() else { return };
        let room = CHUNK - self.chunks[at].len();
        let moved = last.len().saturating_sub(room);
        Arc::make_mut(&mut self.chunks[at]).extend_from_slice(&last[moved..]);
        if moved > 0 {
            self.chunks.push(Arc::new(last[..moved].to_vec()));
        }
    }

    /// Counts a member for another role than before.
    pub(crate) fn change_role(&mut self, from: Role, to: Role) {
        self.roles[place(from)] -= 1;
        self.roles[place(to)] += 1;
    }

    pub(crate) fn has_role(&self, role: Role) -> bool {
        self.roles[place(role)] > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn chunks(&self) -> &[MemberChunk] {
        &self.chunks
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|member| &member.client)
    }
}

/// Returns the place of a role in [`Role::ALL`].
pub(crate) fn place(role: Role) -> usize {
    Role::ALL.iter().position(|known| *known == role).expect("ALL has every role")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::transport::socket::client::testing::client;

    #[test]
    fn members_come_and_go_and_a_copy_of_the_chunks_stays_as_it_was() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let (mut members, mut expected) = (Members::default(), Vec::new());
        for round in 0..6 {
            for _ in 0..400 {
                if expected.is_empty() || random.random_bool(if round % 2 == 0 { 0.8 } else { 0.2 }) {
                    let client = client(1);
                    members.add(&client, Role::Sales);
                    expected.push(client.id());
                } else {
                    let gone = expected.swap_remove(random.random_range(0..expected.len()));
                    members.remove(gone, Role::Sales);
                }
            }
            let ids = |members: &Members| members.clients().map(|client| client.id()).collect::<HashSet<_>>();
            assert_eq!(ids(&members), expected.iter().copied().collect());
            assert_eq!((members.len(), members.has_role(Role::Sales)), (expected.len(), !expected.is_empty()));
            assert!(members.chunks().len() <= 2 * expected.len().div_ceil(CHUNK) + 1);
            let (copy, before) = (members.chunks().to_vec(), ids(&members));
            for id in std::mem::take(&mut expected) {
                members.remove(id, Role::Sales);
            }
            let copied: HashSet<u64> = copy.iter().flat_map(|chunk| chunk.iter()).map(|member| member.id).collect();
            assert_eq!(copied, before);
            assert!(members.len() == 0 && !members.has_role(Role::Sales) && members.chunks().is_empty());
        }
    }
}

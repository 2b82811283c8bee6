//! Admission queue of password hashes: bounded, with three priority lanes, and fair between networks.
//!
//! A hash takes tens of milliseconds of a core, so attempts wait in line. Known devices have a lane of their own, ahead
//! of all others; then come networks without a recent failure, then the rest. Within a lane, networks take turns. When
//! too many wait, the network with the most waiters in the lowest lane loses one, so that a flood crowds out only
//! itself.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Priority lane, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A device that signed in before, or a signed-in user.
    Known,
    /// A network without a recent failure.
    Fresh,
    /// A network from which a login failed recently.
    Suspect,
}

const LANES: usize = 3;
/// Assumed duration of a hash before one was measured.
const FIRST_GUESS: Duration = Duration::from_millis(50);

/// Priority of a waiter: its lane, and the network whose turns it shares.
#[derive(Clone, Copy, Debug)]
pub struct QueuePriority {
    pub lane: Lane,
    /// Waiters of one network share its turns.
    pub network: Option<IpAddr>,
}

impl QueuePriority {
    /// Priority of signed-in users and of the program itself.
    pub const TRUSTED: Self = Self { lane: Lane::Known, network: None };
}

/// The queue is full; a retry makes sense after `retry_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    pub retry_after: Duration,
}

#[derive(Clone)]
pub(crate) struct HashQueue(Arc<Mutex<QueueState>>);

struct QueueState {
    /// Number of hashes that may run at once, and how many more may begin now.
    places: usize,
    free: usize,
    /// Maximum number of waiters: of known devices, and of all others.
    waiting: usize,
    lanes: [Ring; LANES],
    /// Running mean.
    hash_time: Duration,
}

/// Networks of a lane; the next one is first.
#[derive(Default)]
struct Ring(VecDeque<(Option<IpAddr>, VecDeque<Waiter>)>);

type Waiter = oneshot::Sender<HashPermit>;

/// Permit to run one hash; when it is dropped, the next hash may run.
pub(crate) struct HashPermit {
    queue: HashQueue,
    since: Instant,
}

impl HashQueue {
    pub(crate) fn new(places: usize, waiting: usize) -> Self {
        let lanes = [Ring::default(), Ring::default(), Ring::default()];
        Self(Arc::new(Mutex::new(QueueState { places, free: places, waiting, lanes, hash_time: FIRST_GUESS })))
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// [`Full`], at once or as soon as the waiter is displaced by another one.
    pub(crate) async fn turn(&self, priority: QueuePriority) -> Result<HashPermit, Full> {
        let waiter = {
            let mut state = self.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(HashPermit { queue: self.clone(), since: Instant::now() });
            }
            if !state.make_room(priority) {
                return Err(state.full());
            }
            let (waiter, turn) = oneshot::channel();
            state.lanes[priority.lane as usize].push(priority.network, waiter);
            turn
        };
        waiter.await.map_err(|_| self.0.lock().full())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().len(0..LANES)
    }
}

impl Drop for HashPermit {
    fn drop(&mut self) {
        let next = {
            let mut state = self.queue.0.lock();
            let lasted = self.since.elapsed();
            // A permit that was given to a waiter that had just left is not a measurement.
            if lasted > Duration::from_millis(1) {
                state.hash_time = (state.hash_time * 7 + lasted) / 8;
            }
            let next = state.lanes.iter_mut().find_map(Ring::pop);
            state.free += usize::from(next.is_none());
            next
        };
        // Outside the lock: a waiter that has just left drops the permit, which takes the lock again.
        if let Some(waiter) = next {
            let _ = waiter.send(Self { queue: self.queue.clone(), since: Instant::now() });
        }
    }
}

impl QueueState {
    /// Makes room for one more waiter, by displacing one of lower priority if necessary; false when there is no room.
    fn make_room(&mut self, priority: QueuePriority) -> bool {
        let lane = priority.lane as usize;
        let line = if priority.lane == Lane::Known { 0..1 } else { 1..LANES };
        if self.len(line.clone()) >= self.waiting {
            // Waiters that gave up stay in line until their turn comes.
            self.lanes[line.clone()].iter_mut().for_each(Ring::forget_the_gone);
        }
        if self.len(line.clone()) < self.waiting {
            return true;
        }
        let Some(lowest) = line.rev().find(|lane| self.lanes[*lane].len() > 0) else { return false };
        let own = if lane == lowest { self.lanes[lane].len_of(priority.network) } else { 0 };
        // Within one lane, networks share the places: a network that has as many as the greediest gets no more.
        lane <= lowest && self.lanes[lowest].give_one_up(if lane < lowest { 1 } else { own + 2 })
    }

    fn len(&self, lanes: std::ops::Range<usize>) -> usize {
        self.lanes[lanes].iter().map(Ring::len).sum()
    }

    fn full(&self) -> Full {
        let rounds = u32::try_from(self.len(0..LANES) / self.places.max(1)).unwrap_or(u32::MAX);
        Full { retry_after: self.hash_time.saturating_mul(rounds).max(Duration::from_secs(1)) }
    }
}

impl Ring {
    fn len(&self) -> usize {
        self.0.iter().map(|(_, waiters)| waiters.len()).sum()
    }

    fn len_of(&self, network: Option<IpAddr>) -> usize {
        self.0.iter().find(|(known, _)| *known == network).map_or(0, |(_, waiters)| waiters.len())
    }

    fn push(&mut self, network: Option<IpAddr>, waiter: Waiter) {
        match self.0.iter_mut().find(|(known, _)| *known == network) {
            Some((_, waiters)) => waiters.push_back(waiter),
            None => self.0.push_back((network, VecDeque::from([waiter]))),
        }
    }

    /// Next waiter that still waits; its network moves to the end of the line.
    fn pop(&mut self) -> Option<Waiter> {
        while let Some((network, mut waiters)) = self.0.pop_front() {
            let next = std::iter::from_fn(|| waiters.pop_front()).find(|waiter| !waiter.is_closed());
            if !waiters.is_empty() {
                self.0.push_back((network, waiters));
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    fn forget_the_gone(&mut self) {
        self.0.iter_mut().for_each(|(_, waiters)| waiters.retain(|waiter| !waiter.is_closed()));
        self.0.retain(|(_, waiters)| !waiters.is_empty());
    }

    /// Displaces the newest waiter of the network with the most waiters, if it has at least `least`.
    fn give_one_up(&mut self, least: usize) -> bool {
        let Some((_, waiters)) = self.0.iter_mut().max_by_key(|(_, waiters)| waiters.len()) else { return false };
        if waiters.len() < least {
            return false;
        }
        waiters.pop_back();
        self.0.retain(|(_, waiters)| !waiters.is_empty());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    fn priority(lane: Lane, network: u8) -> QueuePriority {
        QueuePriority { lane, network: Some(IpAddr::from([10, 0, 0, network])) }
    }

    /// Polls once, so that a future that has to wait is in line.
    async fn poll<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            Poll::Ready(match future.as_mut().poll(context) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn networks_are_served_round_robin_and_known_devices_first() {
        let queue = HashQueue::new(1, 8);
        let running = queue.turn(QueuePriority::TRUSTED).await.expect("the place is free");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting: Vec<_> = [
            (1, priority(Lane::Fresh, 1)),
            (2, priority(Lane::Fresh, 1)),
            (3, priority(Lane::Fresh, 1)),
            (4, priority(Lane::Suspect, 3)),
            (5, priority(Lane::Fresh, 2)),
            (6, priority(Lane::Known, 9)),
        ]
        .into_iter()
        .map(|(number, priority)| {
            let (queue, order) = (queue.clone(), order.clone());
            Box::pin(async move {
                let place = queue.turn(priority).await.expect("there is room");
                order.lock().push(number);
                place
            })
        })
        .collect();
        for turn in &mut waiting {
            assert!(poll(&mut turn.as_mut()).await.is_none(), "in line, in this order");
        }
        drop(running);
        // Awaited one by one: while one keeps its permit, no other runs.
        for next in [5, 0, 4, 1, 2, 3] {
            drop(waiting[next].as_mut().await);
        }
        assert_eq!(*order.lock(), [6, 1, 5, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_flooding_network_evicts_only_its_own_requests() {
        let queue = HashQueue::new(1, 4);
        let _running = queue.turn(QueuePriority::TRUSTED).await.expect("the place is free");
        let flood = priority(Lane::Fresh, 1);
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(queue.turn(flood))).collect();
        for turn in &mut waiting {
            assert!(poll(&mut turn.as_mut()).await.is_none());
        }
        let mut fifth = pin!(queue.turn(flood));
        assert!(matches!(poll(&mut fifth).await, Some(Err(Full { .. }))), "answered at once");
        let mut other = pin!(queue.turn(priority(Lane::Fresh, 2)));
        assert!(poll(&mut other).await.is_none(), "another network is let in");
        assert!(matches!(poll(&mut waiting[3].as_mut()).await, Some(Err(_))), "in the place of the newest");
        let mut known = pin!(queue.turn(priority(Lane::Known, 1)));
        assert!(poll(&mut known).await.is_none(), "known devices have a line of their own");
    }

    #[tokio::test]
    async fn a_network_with_failures_is_evicted_for_one_without() {
        let queue = HashQueue::new(1, 2);
        let _running = queue.turn(QueuePriority::TRUSTED).await.expect("the place is free");
        let (mut first, mut second) =
            (pin!(queue.turn(priority(Lane::Suspect, 1))), pin!(queue.turn(priority(Lane::Suspect, 2))));
        assert!(poll(&mut first).await.is_none() && poll(&mut second).await.is_none());
        let mut third = pin!(queue.turn(priority(Lane::Suspect, 3)));
        assert!(matches!(poll(&mut third).await, Some(Err(_))), "all of these have one");
        let mut fresh = pin!(queue.turn(priority(Lane::Fresh, 4)));
        assert!(poll(&mut fresh).await.is_none());
        assert_eq!(queue.len(), 2);
        let mut late = pin!(queue.turn(priority(Lane::Suspect, 5)));
        assert!(matches!(poll(&mut late).await, Some(Err(_))));
    }

    #[tokio::test]
    async fn an_abandoned_wait_takes_no_place_and_no_turn() {
        let queue = HashQueue::new(1, 1);
        let running = queue.turn(QueuePriority::TRUSTED).await.expect("the place is free");
        {
            let mut gone = pin!(queue.turn(priority(Lane::Fresh, 1)));
            assert!(poll(&mut gone).await.is_none());
        }
        let mut next = pin!(queue.turn(priority(Lane::Fresh, 2)));
        assert!(poll(&mut next).await.is_none());
        drop(running);
        let place = next.await.expect("its turn");
        drop(place);
        queue.turn(QueuePriority::TRUSTED).await.expect("the place is free again");
    }
}

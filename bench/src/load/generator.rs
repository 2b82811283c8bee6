//! The loop of the load: sockets, HTTP connections, and what they received.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use mio::{Events, Interest, Poll, Token};

use crate::{
    load::{
        http::{Answers, Channel},
        poller::Poller,
        sink::Sink,
        socket::Socket,
    },
    machine,
};

/// Time without any progress after which what is awaited counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
const BUFFER: usize = 256 * 1024;
/// Tokens from here on are HTTP connections.
const CHANNELS: usize = 1 << 32;
/// Tokens from here on are polling clients.
const POLLERS: usize = 1 << 33;
/// Sockets of one source address: less than there are ports.
const PER_ADDRESS: usize = 20_000;

pub struct Generator {
    poll: Poll,
    events: Events,
    pub sockets: Vec<Socket>,
    pub channels: Vec<Channel>,
    pollers: Vec<Poller>,
    buffer: Box<[u8]>,
    pub sink: Sink,
    pub answers: Answers,
    /// Processor time of this thread when the measurement began.
    began: Duration,
}

impl Generator {
    /// Counts events that begin with `wanted`.
    pub fn new(wanted: &'static [u8]) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            sockets: Vec::new(),
            channels: Vec::new(),
            pollers: Vec::new(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            sink: Sink::new(wanted),
            answers: Answers::default(),
            began: machine::own_cpu(),
        })
    }

    /// Connects `count` more sockets, at most `window` at a time, and waits until all are greeted.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        count: usize,
        window: usize,
        auth: impl Fn(usize) -> String,
    ) -> Result<()> {
        let (first, end) = (self.sockets.len(), self.sockets.len() + count);
        let already = self.sink.live;
        while self.sockets.len() < end {
            let index = self.sockets.len();
            let from = u8::try_from(1 + index / PER_ADDRESS)?;
            let mut socket = Socket::open(address, from, &auth(index))?;
            self.poll.registry().register(&mut socket.stream, Token(index), Interest::READABLE)?;
            self.sockets.push(socket);
            let opened = self.sockets.len() - first;
            self.until("sockets to connect", |load| opened - (load.sink.live - already) < window)?;
        }
        self.until("sockets to connect", |load| load.sink.live - already == count)
    }

    /// The same with clients that poll.
    pub fn connect_polling(
        &mut self,
        address: SocketAddr,
        count: usize,
        window: usize,
        auth: impl Fn(usize) -> String,
    ) -> Result<()> {
        let already = self.sink.live;
        for index in 0..count {
            let mut poller = Poller::open(address, 1, &auth(index))?;
            self.poll.registry().register(&mut poller.stream, Token(POLLERS + index), Interest::READABLE)?;
            self.pollers.push(poller);
            self.until("clients to connect", |load| index + 1 - (load.sink.live - already) < window)?;
        }
        self.until("clients to connect", |load| load.sink.live - already == count)
    }

    /// Opens an HTTP connection; returns its index.
    pub fn channel(&mut self, address: SocketAddr) -> Result<usize> {
        let index = self.channels.len();
        let mut channel = Channel::open(address)?;
        self.poll.registry().register(&mut channel.stream, Token(CHANNELS + index), Interest::READABLE)?;
        self.channels.push(channel);
        Ok(index)
    }

    /// Stops reading a socket; [`Self::sip`] reads it from now on.
    pub fn detach(&mut self, socket: usize) -> Result<()> {
        let socket = &mut self.sockets[socket];
        socket.counts = false;
        Ok(self.poll.registry().deregister(&mut socket.stream)?)
    }

    /// Reads at most `bytes` of a detached socket.
    pub fn sip(&mut self, socket: usize, bytes: usize) -> Result<()> {
        self.sockets[socket].sip(&mut self.buffer[..bytes], &mut self.sink)
    }

    /// Waits at most `wait` for something to read, and reads it.
    pub fn turn(&mut self, wait: Option<Duration>) -> Result<()> {
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            let Token(index) = event.token();
            if index >= POLLERS {
                self.pollers[index - POLLERS].readable(&mut self.buffer, &mut self.sink)?;
            } else if index >= CHANNELS {
                let index = index - CHANNELS;
                self.sink.progress += 1;
                self.channels[index].readable(&mut self.buffer, index, &mut self.answers)?;
            } else {
                self.sockets[index].readable(&mut self.buffer, &mut self.sink)?;
            }
        }
        Ok(())
    }

    /// Reads until `done`.
    ///
    /// # Errors
    /// When nothing arrives for [`PATIENCE`], because what is awaited is lost.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let (mut progress, mut since) = (self.sink.progress, Instant::now());
        while !done(self) {
            self.turn(Some(Duration::from_millis(100)))?;
            if self.sink.progress != progress {
                (progress, since) = (self.sink.progress, Instant::now());
            } else if since.elapsed() > PATIENCE {
                let Sink { live, deliveries, .. } = self.sink;
                bail!(
                    "waited for {what} in vain: {live} of {} sockets live, {deliveries} deliveries",
                    self.sockets.len()
                );
            }
        }
        Ok(())
    }

    /// Reads for a fixed time.
    pub fn idle(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.turn(Some(left))?;
        }
        Ok(())
    }

    /// Sends `total` requests, one at a time on each of the channels, and waits for all answers.
    pub fn requests(&mut self, channels: &[usize], total: u64, mut make: impl FnMut(u64) -> Vec<u8>) -> Result<()> {
        self.answers.free.clear();
        let begun = self.answers.count;
        let mut sent = 0;
        let mut free = channels.to_vec();
        loop {
            for channel in free.drain(..).take(usize::try_from(total - sent)?) {
                self.channels[channel].send(&make(sent), Instant::now())?;
                sent += 1;
            }
            if self.answers.count - begun >= total {
                return Ok(());
            }
            self.until("answers", |load| !load.answers.free.is_empty())?;
            free = std::mem::take(&mut self.answers.free);
        }
    }

    /// Begins a measurement.
    pub fn restart(&mut self) {
        self.sink.restart();
        self.answers.count = 0;
        self.answers.latency.reset();
        self.answers.free.clear();
        self.began = machine::own_cpu();
    }

    /// Processor time of this thread since the measurement began.
    pub fn cpu(&self) -> Duration {
        machine::own_cpu().saturating_sub(self.began)
    }

    /// Fails if an event was doubled or came out of order.
    pub fn check(&self) -> Result<()> {
        let Sink { duplicates, inversions, .. } = self.sink;
        if duplicates + inversions > 0 {
            bail!("{duplicates} events were doubled, {inversions} came out of order");
        }
        Ok(())
    }
}

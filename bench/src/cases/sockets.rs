//! Sockets that were connected to a fresh server, and what that cost.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    cases::Bench,
    load::{clock::Sent, generator::Generator},
    peers::{Launch, Peer},
    report::{Metric, metric::*},
    stats::{micros_each, quantile_ms, rate, shown},
};

/// Event that all sockets get.
pub const UPDATED: &[u8] = b"42[\"lead:updated\"";

/// Time in which a server ends what connecting left to do, before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// Bytes that a slow reader reads at a time, and how often.
const SIP: usize = 1024;
const PAUSE: Duration = Duration::from_millis(50);

/// Sockets of one server.
///
/// Fields are dropped in order: the server first, so that it does not count what leaves.
pub struct Sockets {
    pub peer: Peer,
    pub load: Generator,
    pub count: usize,
    /// Connection of whoever makes the changes.
    pub channel: usize,
    pub connect_cpu: Duration,
    pub connect_time: Duration,
    pub kib: f64,
    /// The first sockets, which are detached, that are read slowly.
    pub sippers: usize,
    sipped: Instant,
}

/// Transport of the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Polling,
}

impl Sockets {
    pub fn connect(bench: &Bench<'_>, launch: &Launch, count: usize, window: usize) -> Result<Self> {
        Self::open(bench, launch, count, window, Transport::WebSocket)
    }

    pub fn open(bench: &Bench<'_>, launch: &Launch, count: usize, window: usize, transport: Transport) -> Result<Self> {
        let mut peer = Peer::start(bench.programs, launch)?;
        let mut load = Generator::new(UPDATED)?;
        let channel = load.channel(peer.address)?;
        let (memory, cpu, begun) = (peer.resident_kib()?, peer.cpu()?, Instant::now());
        match transport {
            Transport::WebSocket => load.connect(peer.address, count, window, |socket| peer.auth(socket))?,
            Transport::Polling => load.connect_polling(peer.address, count, window, |socket| peer.auth(socket))?,
        }
        let connect_time = begun.elapsed();
        load.idle(SETTLE)?;
        let connect_cpu = peer.cpu()?.saturating_sub(cpu);
        let kib = peer.resident_kib()?.saturating_sub(memory) as f64 / count.max(1) as f64;
        let (sippers, sipped) = (0, Instant::now());
        Ok(Self { peer, load, count, channel, connect_cpu, connect_time, kib, sippers, sipped })
    }

    /// Connects more sockets, which are from now on the ones that count.
    pub fn join(&mut self, count: usize) -> Result<()> {
        self.load.connect(self.peer.address, count, 64, |socket| self.peer.auth(socket))?;
        self.count = count;
        Ok(())
    }

    /// Lets slow readers read when it is time.
    fn sip(&mut self) -> Result<()> {
        if self.sippers > 0 && self.sipped.elapsed() >= PAUSE {
            (0..self.sippers).try_for_each(|socket| self.load.sip(socket, SIP))?;
            self.sipped = Instant::now();
        }
        Ok(())
    }

    pub fn connect_micros(&self) -> f64 {
        micros_each(self.connect_cpu, self.count as u64)
    }

    /// One event to all sockets, then the next: a closed loop.
    pub fn closed_loop(&mut self, events: u64) -> Result<()> {
        for _ in 0..events {
            self.sip()?;
            let due = self.load.sink.deliveries + self.count as u64;
            let request = self.peer.change(0);
            let now = Instant::now();
            self.load.sink.sent = Sent::At(now);
            let answers = self.load.answers.count + 1;
            self.load.channels[self.channel].send(&request, now)?;
            self.load.until("an event at all sockets", |load| {
                load.sink.deliveries >= due && load.answers.count >= answers
            })?;
        }
        self.load.check()
    }

    /// Measures a closed loop; returns its figures.
    pub fn measure(&mut self, events: u64) -> Result<Vec<(Metric, f64)>> {
        self.closed_loop((events / 20).clamp(3, 50))?;
        self.load.restart();
        let (cpu, begun) = (self.peer.cpu()?, Instant::now());
        self.closed_loop(events)?;
        let time = begun.elapsed();
        let cpu = self.peer.cpu()?.saturating_sub(cpu);
        Ok(self.figures(cpu, time))
    }

    /// Figures of the deliveries since the load was restarted.
    pub fn figures(&self, cpu: Duration, time: Duration) -> Vec<(Metric, f64)> {
        let sink = &self.load.sink;
        let deliveries = sink.deliveries;
        vec![
            (CPU, micros_each(cpu, deliveries)),
            (RATE, rate(deliveries, time)),
            (P50, quantile_ms(&sink.latency, 0.5)),
            (P99, quantile_ms(&sink.latency, 0.99)),
            (LOAD, micros_each(self.load.cpu(), deliveries)),
            (BYTES, sink.bytes as f64 / deliveries.max(1) as f64),
        ]
    }
}

/// Name of a case with so many sockets.
pub fn named(count: usize) -> String {
    format!("{} sockets", shown(count as f64, 0))
}

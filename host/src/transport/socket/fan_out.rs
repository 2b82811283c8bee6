//! Fan-out: offers lines of the log to the members of their rooms, on as many workers as there are.
//!
//! Members are taken chunk by chunk, and nobody holds a lock for more than one client. All have been offered the lines
//! before the next lines follow.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use metrics::counter;
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::yield_now};

use crate::{
    delivery::line::DeliveredLine,
    transport::socket::{
        members::MemberChunk,
        packet::{Fall, count_sent},
        queue::{OfferedLine, OfferedRun},
    },
};

/// Lines that are being handed out, and those who have yet to be offered them.
struct FanOut {
    lines: Arc<[DeliveredLine]>,
    chunks: Vec<MemberChunk>,
    next: AtomicUsize,
    totals: Mutex<FanOutTotals>,
}

#[derive(Default)]
struct FanOutTotals {
    run: OfferedRun,
    full: u64,
    held: u64,
}

/// Offers the lines to everybody in the chunks; returns when all were offered them.
pub(crate) async fn fan_out(lines: Arc<[DeliveredLine]>, chunks: Vec<MemberChunk>) {
    walk_step!("fan_out");
    let workers = Handle::current().metrics().num_workers().min(chunks.len());
    let fan_out = Arc::new(FanOut { lines, chunks, next: AtomicUsize::new(0), totals: Mutex::default() });
    let helpers: Vec<_> = (1..workers).map(|_| tokio::spawn(fan_out.clone().walk())).collect();
    fan_out.clone().walk().await;
    for helper in helpers {
        helper.await.expect("offering a line does not panic");
    }
    let totals = fan_out.totals.lock();
    counter!("leadwire_events_delivered_total", "how" => "live").increment(totals.run.taken);
    count_sent(totals.run.written, totals.run.bytes);
    for (reason, count) in [("full", totals.full), ("held", totals.held)] {
        counter!("leadwire_sockets_fell_behind_total", "reason" => reason).increment(count);
    }
}

impl FanOut {
    async fn walk(self: Arc<Self>) {
        while let Some(chunk) = self.chunks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let totals = self.offer_to(chunk);
            self.totals.lock().add(&totals);
            yield_now().await;
        }
    }

    fn offer_to(&self, chunk: &MemberChunk) -> FanOutTotals {
        let lines: Vec<OfferedLine<'_>> = self.lines.iter().map(|of| (&of.line.event, &*of.slices)).collect();
        let mut totals = FanOutTotals::default();
        for member in chunk.iter() {
            totals.note(member.client.offer(&lines));
        }
        totals
    }
}

impl FanOutTotals {
    fn note(&mut self, run: OfferedRun) {
        self.run.taken += run.taken;
        self.run.written += run.written;
        self.run.bytes += run.bytes;
        match run.fell {
            Some(Fall::Full) => self.full += 1,
            Some(Fall::Held) => self.held += 1,
            Some(Fall::Unjudged) | None => {}
        }
    }

    fn add(&mut self, other: &Self) {
        self.note(OfferedRun { fell: None, ..other.run });
        self.full += other.full;
        self.held += other.held;
    }
}

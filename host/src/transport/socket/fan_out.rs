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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        delivery::{line::LogLine, shape::Shaper},
        domain::{counter::Seq, event::Event, id::Epoch, policy::Visibility, role::Role, room::Room, time::Timestamp},
        plugin::Plugins,
        transport::socket::{client::testing, members::Members},
    };

    #[tokio::test]
    async fn others_get_their_turn_while_thousands_of_sockets_are_sent_to() {
        let mut members = Members::default();
        let clients: Vec<_> = (0..10_000).map(|_| testing::live_client()).collect();
        clients.iter().for_each(|client| members.add(client, testing::ROLE));
        let (rooms, at) = (vec![Room::Everyone], Timestamp::from_millis(0).expect("in range"));
        let (name, payload, context) = ("lead:updated".into(), json!({}).into(), json!({}));
        let line = Arc::new(LogLine::new(Event { seq: Seq(11), name, rooms, lead_id: None, payload, context, at }));
        let shaper = Shaper::new(Plugins::none(), Visibility::default(), &Epoch::from("epoch"));
        let slices = shaper.slices(&line, &[Role::Sales]);

        let chunks = members.chunks().len();
        let sending = tokio::spawn(fan_out(Arc::from([DeliveredLine { line, slices }]), members.chunks().to_vec()));
        let mut turns = 0;
        while !sending.is_finished() {
            turns += 1;
            yield_now().await;
        }
        sending.await.expect("it ends");
        assert!(turns >= chunks, "{turns} turns in {chunks} chunks");
        assert!(clients.iter().all(|client| client.queued().0 == 1));
    }
}

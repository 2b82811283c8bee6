//! Reading of the log for one socket: catch-up from the cursor, ranges that the client missed, and the check of leads
//! that the user now sees.

use std::{sync::Arc, time::Duration};

use metrics::counter;
use serde_json::json;
use tokio::time::Instant;
use tracing::error;

use crate::{
    delivery::{
        current_leads::CurrentLead,
        line::{LogLine, Message},
    },
    domain::{counter::Seq, event_name::EventName, id::LeadId, room::Room},
    store,
    transport::socket::{
        client::CatchUpRange,
        conn::admission::LONGEST,
        follow::{FollowOutcome, may_follow},
        packet::OutgoingPacket,
        writer::{WorkEnd, Writer},
    },
};

/// Log lines per read.
const BATCH: u32 = 32;

/// Batch of lines that were missed.
struct CatchUpBatch {
    lines: Vec<Arc<LogLine>>,
    /// Seq up to which no other line was missed.
    upto: Seq,
}

impl Writer {
    /// Reads on in the log: some lines, or to the end of what was handed out, from where the client is live.
    pub(crate) async fn catch_up(&mut self, cursor: Seq) -> Result<(), WorkEnd> {
        let shared = self.shared.clone();
        // Never further than the tail: what it has not applied may change this client's rights. Nor past a reset line;
        // the tail records those before it goes on.
        let position = shared.registry.position();
        let position = position.min(self.client.upto());
        if cursor >= position {
            if let Some(acks) = self.client.synced() {
                self.send(&OutgoingPacket::Event(Message::new(EventName::SyncDone.as_str(), &json!({"seq": cursor}))))
                    .await?;
                return self.acknowledge(acks, &json!({"ok": true, "recovered": true, "seq": cursor})).await;
            }
            if self.client.go_live(|| shared.registry.position()) && self.client.take_fallen() {
                counter!("leadwire_sockets_caught_up_total").increment(1);
            }
            return Ok(());
        }
        let lines = self.read(cursor).await?;
        if lines.first().is_none_or(|line| line.event.seq != cursor.next()) {
            return self.reset().await;
        }
        let lines: Vec<_> = lines.into_iter().take_while(|line| line.event.seq <= position).collect();
        let wanted = lines.iter().filter(|line| self.client.wants(&line.event).is_some());
        self.look_up(wanted.filter_map(|line| line.lead_in_content()).collect()).await?;
        for line in &lines {
            if let Some(whom) = line.event.resets() {
                // The tail, which is at this line, sets the time; this only keeps what is newer from going ahead.
                shared.registry.reset_one(&self.client, line.event.seq, &whom, Instant::now() + LONGEST);
            }
            self.replay(line).await?;
            self.flush().await?;
        }
        self.leads.clear();
        Ok(())
    }

    /// Sends a range that the client asks for, of what went by before it listened.
    pub(crate) async fn make_up_for(&mut self, missed: &CatchUpRange) -> Result<(), WorkEnd> {
        let mut cursor = missed.since;
        let is_past_reset = missed.upto > self.client.upto();
        if cursor > missed.upto || is_past_reset || cursor < self.shared.registry.reset_line(&self.client) {
            return self.reset().await;
        }
        // Nothing is looked up for a lead that is not visible, as for one that does not exist.
        while cursor < missed.upto && !self.client.is_unjudged(missed) {
            let Some(batch) = self.read_missed(missed, cursor).await? else { return self.reset().await };
            let upto = missed.upto;
            let lines: Vec<_> = batch.lines.into_iter().take_while(|line| line.event.seq <= upto).collect();
            let wanted = lines.iter().filter(|line| self.client.wants_missed(&line.event, missed).is_some());
            self.look_up(wanted.filter_map(|line| line.lead_in_content()).collect()).await?;
            for line in &lines {
                if !self.offer(line, |client| client.wants_missed(&line.event, missed)).await? {
                    return Ok(());
                }
                self.flush().await?;
            }
            self.leads.clear();
            cursor = batch.upto;
        }
        self.client.was_sent_missed();
        Ok(())
    }

    /// Reads some of the missed lines that follow `seq`; `None` if the log is no longer kept that far back.
    async fn read_missed(&mut self, missed: &CatchUpRange, seq: Seq) -> Result<Option<CatchUpBatch>, WorkEnd> {
        let Some(lead) = missed.lead() else {
            let lines = self.read(seq).await?;
            let is_next = lines.first().is_some_and(|line| line.event.seq == seq.next());
            let upto = lines.last().map_or(seq, |line| line.event.seq);
            return Ok(is_next.then_some(CatchUpBatch { lines, upto }));
        };
        loop {
            match self.shared.replay.about_lead(lead, seq, BATCH).await {
                Ok(lines) => return Ok(lines.map(CatchUpBatch::of_lead)),
                Err(error) => self.wait_for_log(&error).await?,
            }
        }
    }

    /// Reads some lines that follow `seq`; retries while the database fails.
    pub(crate) async fn read(&mut self, seq: Seq) -> Result<Vec<Arc<LogLine>>, WorkEnd> {
        loop {
            match self.shared.replay.after(seq, BATCH).await {
                Ok(lines) => return Ok(lines),
                Err(error) => self.wait_for_log(&error).await?,
            }
        }
    }

    pub(crate) async fn wait_for_log(&mut self, error: &store::Error) -> Result<(), WorkEnd> {
        error!("cannot read the log for a socket, retrying: {error}");
        self.pause(Duration::from_secs(1), false).await
    }

    /// Reads leads as they are now; retries while the database fails.
    async fn look_up(&mut self, mut leads: Vec<LeadId>) -> Result<(), WorkEnd> {
        leads.sort_unstable();
        leads.dedup();
        loop {
            match self.shared.replay.current_leads().of(&leads).await {
                Ok(current) => {
                    self.leads.extend(current);
                    return Ok(());
                }
                Err(error) => self.wait_for_log(&error).await?,
            }
        }
    }

    /// Returns the lead of a line as it is now, if that matters; reads it again if something happened to it.
    pub(crate) async fn current(&mut self, line: &LogLine) -> Result<Option<Arc<CurrentLead>>, WorkEnd> {
        let Some(id) = line.lead_in_content() else { return Ok(None) };
        if !self.leads.get(&id).is_some_and(|lead| lead.is_fresh()) {
            self.look_up(vec![id]).await?;
        }
        Ok(self.leads.get(&id).cloned())
    }

    /// Asks plugins about a room that the client listens to, now that the user may see its lead. What it is sent there
    /// follows `since`.
    pub(crate) async fn judge(&mut self, room: Room, since: Seq) -> Result<(), WorkEnd> {
        let shared = self.shared.clone();
        let refusal = match may_follow(&shared, &self.client.user(), &room).await {
            Ok(FollowOutcome::Unseen | FollowOutcome::Withheld) => return Ok(()),
            Ok(FollowOutcome::Judged) => {
                if let Some(lead) = room.lead().filter(|_| self.client.judge(&room, since)) {
                    shared.presence.enter(&self.client, lead);
                    shared.presence.welcome(&self.client, lead);
                }
                return Ok(());
            }
            // A plugin may allow it later; until then, nothing is sent there.
            Err(refusal) if !refusal.is_forbidden() => return Ok(()),
            Err(refusal) => refusal,
        };
        shared.registry.leave(&self.client, &room);
        if let Some(lead) = room.lead() {
            shared.presence.leave(&self.client, lead);
        }
        let Room::Lead(lead_id) = &room else { return Ok(()) };
        let mut error = refusal.event(Some("lead:subscribe"));
        error["leadId"] = json!(lead_id);
        self.send(&OutgoingPacket::Event(Message::new(EventName::Error.as_str(), &error))).await
    }

    async fn replay(&mut self, line: &LogLine) -> Result<(), WorkEnd> {
        if let Some(room) = self.client.awaits(&line.event) {
            let slices = self.shared.shaper.slices(line, &[self.client.user().role]);
            let user = self.client.user();
            if slices.iter().any(|(_, slice)| slice.includes(&user)) {
                self.judge(room, line.event.seq.before()).await?;
            }
        }
        if self.offer(line, |client| client.wants(&line.event)).await? {
            self.client.advance(line.event.seq);
        }
        Ok(())
    }
}

impl CatchUpBatch {
    /// Creates the batch of a lead's own lines: these are all that there are, unless the batch is full.
    fn of_lead(lines: Vec<Arc<LogLine>>) -> Self {
        let is_full = lines.len() >= BATCH as usize;
        let upto = lines.last().filter(|_| is_full).map_or(Seq::END, |line| line.event.seq);
        Self { lines, upto }
    }
}

//! Release of holds: a task asks the plugins again about withheld leads, with back-off, and releases those on which
//! there is a verdict. A release is a line of the log; the tail applies it.

use std::{sync::Arc, time::Instant};

use tokio::{
    select,
    task::yield_now,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    delivery::{
        holds::{FIRST_GAP, Holds, LONGEST_GAP},
        shape::Shaper,
    },
    domain::{id::LeadId, lead::Lead, role::Role},
    store,
};

impl Holds {
    /// Asks the plugins again about withheld leads and releases them when there is a verdict, until `stop`.
    pub async fn run(self: Arc<Self>, shaper: Arc<Shaper>, stop: CancellationToken) {
        stop.run_until_cancelled(self.ask_again(&shaper)).await;
    }

    async fn ask_again(&self, shaper: &Shaper) {
        let mut plugins = shaper.changed();
        let mut gaps = Backoff::new(FIRST_GAP, LONGEST_GAP);
        let mut last_release = None::<Instant>;
        loop {
            match self.answered(shaper).await {
                Ok(answered) if answered.is_empty() => {}
                Ok(answered) => match self.release(&answered).await {
                    Ok(()) => {
                        if last_release.is_none_or(|last| last.elapsed() >= LONGEST_GAP) {
                            gaps.reset();
                        }
                        last_release = Some(Instant::now());
                        sleep(gaps.next()).await;
                    }
                    Err(error) => self.complain(&error).await,
                },
                Err(error) => self.complain(&error).await,
            }
            let due = self.state.read().holds.values().map(|hold| hold.due).min();
            let due = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            select! {
                () = due => {}
                () = self.sooner.notified() => {}
                _ = plugins.changed() => self.ask_all_at_once(),
            }
        }
    }

    /// Returns the due holds on which the plugins give a verdict again, or whose lead no longer exists.
    pub(crate) async fn answered(&self, shaper: &Shaper) -> store::Result<Vec<(Role, LeadId)>> {
        let now = Instant::now();
        let due: Vec<(Role, LeadId)> =
            self.state.read().holds.iter().filter(|(_, hold)| hold.due <= now).map(|(of, _)| *of).collect();
        let mut answered = Vec::new();
        for (role, lead) in due {
            let found = self.store.read().await?.lead(lead).await?;
            let is_answered = found.is_none_or(|found| has_verdict(shaper, &found, role));
            self.put_off((role, lead));
            if is_answered {
                answered.push((role, lead));
            }
            yield_now().await;
        }
        Ok(answered)
    }
}

fn has_verdict(shaper: &Shaper, lead: &Lead, role: Role) -> bool {
    !shaper.lead_audience(&shaper.pinned(), lead, &[role]).is_held()
}

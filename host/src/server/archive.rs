//! Sets of plugins in the database: what the plugins, which do not know it, are given to be recorded in.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    delivery::switch::{Swap, Switches},
    domain::{event::InForce, policy::Visibility, time::Timestamp},
    plugin,
    store::{
        self, Store,
        generation::{Generation, Member},
    },
};

pub(super) struct Archive {
    pub(super) runtime: Handle,
    pub(super) store: Arc<Store>,
    pub(super) switches: Arc<Switches>,
    pub(super) visibility: Visibility,
}

impl plugin::Archive for Archive {
    fn last(&self) -> Result<Option<Generation>, String> {
        self.block_on::<_, store::Error>(async { self.store.read().await?.last_generation().await })
    }

    fn record(&self, members: &[Member], files: &[(&str, &[u8])]) -> Result<u64, String> {
        self.block_on::<_, store::Error>(async {
            let mut tx = self.store.write().await?;
            let id = tx.record_generation(members, files, Timestamp::now()).await?;
            tx.forget_generations().await?;
            tx.commit().await?;
            Ok(id)
        })
    }

    fn switch(&self, generation: u64, resets: bool, swap: Swap) -> Result<(), String> {
        let in_force = InForce { generation, visibility: self.visibility };
        self.block_on(self.switches.announce(&self.store, in_force, resets, swap))
    }
}

impl Archive {
    fn block_on<T, E: std::error::Error>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
        self.runtime.block_on(work).map_err(|error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }
}

//! Archive of plugin sets in the database, behind a trait, because the plugin module does not know the database.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    delivery::switch::{Swap, Switches},
    domain::{counter::Generation, event::InForce, policy::Visibility, time::Timestamp},
    plugin,
    store::{
        self,
        generation::{GenerationMember, StoredGeneration},
        handle::Store,
    },
};

pub(crate) struct StoreArchive {
    pub(crate) runtime: Handle,
    pub(crate) store: Arc<Store>,
    pub(crate) switches: Arc<Switches>,
    pub(crate) visibility: Visibility,
}

impl plugin::Archive for StoreArchive {
    fn last(&self) -> Result<Option<StoredGeneration>, String> {
        self.block_on::<_, store::Error>(async { self.store.read().await?.last_generation().await })
    }

    fn record(&self, members: &[GenerationMember], files: &[(&str, &[u8])]) -> Result<Generation, String> {
        self.block_on::<_, store::Error>(async {
            let mut tx = self.store.write().await?;
            let id = tx.record_generation(members, files, Timestamp::now()).await?;
            tx.forget_generations().await?;
            tx.commit().await?;
            Ok(id)
        })
    }

    fn switch(&self, generation: Generation, resets: bool, swap: Swap) -> Result<(), String> {
        let in_force = InForce { generation, visibility: self.visibility };
        self.block_on(self.switches.announce(&self.store, in_force, resets, swap))
    }
}

impl StoreArchive {
    fn block_on<T, E: std::error::Error>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
        self.runtime.block_on(work).map_err(|error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }
}

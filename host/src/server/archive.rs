//! Sets of plugins in the database: what the plugins, which do not know it, are given to be recorded in.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    domain::time::Timestamp,
    plugin,
    store::{
        self, Store,
        generation::{Generation, Member},
    },
};

pub(super) struct Archive {
    pub(super) runtime: Handle,
    pub(super) store: Arc<Store>,
}

impl plugin::Archive for Archive {
    fn last(&self) -> Result<Option<Generation>, String> {
        self.block_on(async { self.store.read().await?.last_generation().await })
    }

    fn record(&self, members: &[Member], files: &[(&str, &[u8])]) -> Result<u64, String> {
        self.block_on(async {
            let mut tx = self.store.write().await?;
            let id = tx.record_generation(members, files, Timestamp::now()).await?;
            tx.forget_generations().await?;
            tx.commit().await?;
            Ok(id)
        })
    }
}

impl Archive {
    fn block_on<T>(&self, work: impl Future<Output = Result<T, store::Error>>) -> Result<T, String> {
        self.runtime.block_on(work).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }
}

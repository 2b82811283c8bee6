//! Application layer: everything the server can do, whoever asks. [`App::execute`] changes things, the queries beside
//! it read.
//!
//! Both transports hold an `App` and nothing below it. `domain` decides a command; the change and its events are
//! written in one transaction; the answer is shaped for the caller. Plugins are asked before and after a transaction,
//! never inside one.

mod audit;
mod batch;
mod before;
mod cursor;
pub mod effect;
pub mod erase;
mod error;
mod execute;
mod idempotency;
mod once;
pub(crate) mod outcome;
mod page;
mod query;
mod user;
mod visibility;
mod write;

use std::sync::Arc;

use crate::{
    auth::password::Passwords,
    domain::{policy::Visibility, time::Timestamp},
    plugin::Plugins,
    store::Store,
};

pub use crate::auth::clock::{Clock, SystemClock};
pub use batch::CommandBatch;
pub use cursor::Cursors;
pub use error::{Error, Result};
pub use idempotency::IdempotencyKey;
pub use outcome::CommandOutcome;
pub use page::{DEFAULT_LIMIT, MAX_LIMIT, Page, PageRequest, Withheld};
pub use query::{SeenLead, ShownHold};

/// Application state shared by both transports.
#[derive(Clone)]
pub struct App(Arc<AppInner>);

struct AppInner {
    store: Arc<Store>,
    plugins: Plugins,
    visibility: Visibility,
    passwords: Passwords,
    cursors: Cursors,
    clock: Arc<dyn Clock>,
}

impl App {
    pub fn new(
        store: Arc<Store>,
        plugins: Plugins,
        visibility: Visibility,
        passwords: Passwords,
        cursors: Cursors,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(AppInner { store, plugins, visibility, passwords, cursors, clock }))
    }

    pub fn plugins(&self) -> &Plugins {
        &self.0.plugins
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

#[cfg(test)]
mod tests;

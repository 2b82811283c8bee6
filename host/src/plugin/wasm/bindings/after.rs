//! Bindings of the `after` interface: what a plugin wants, what it is asked, and its answer.
//!
//! The answer is still unchecked; `wasm::check` checks it.

use crate::plugin::{
    contract::effect::Occasion,
    wasm::bindings::{Guest, StoreContextMut, v1::exports::leadwire::plugin::after as wit},
    wasm::imports::GuestState,
};

impl Guest {
    pub(crate) fn wants(&self, store: StoreContextMut<'_, GuestState>) -> wasmtime::Result<wit::Wanted> {
        let nothing = || wit::Wanted { events: Vec::new(), effects: Vec::new(), webhook_hosts: Vec::new() };
        self.after.as_ref().map_or_else(|| Ok(nothing()), |after| after.call_wants(store))
    }

    pub(crate) fn after(
        &self,
        store: StoreContextMut<'_, GuestState>,
        occasion: &Occasion<'_>,
        event: &crate::plugin::wasm::bindings::EventQuestion<'_>,
    ) -> crate::plugin::wasm::bindings::GuestAnswer<wit::Outcome> {
        let Some(after) = &self.after else { return Ok(Ok(wit::Outcome { effects: Vec::new(), state: None })) };
        let at = occasion.at.to_string();
        // An `f64` is exact up to 2^53, and no log has that many events.
        let seq = occasion.seq.map(|seq| seq.0 as f64);
        let (fields, state) = (event.listed(), occasion.state);
        after.call_after(store, wit::Occasion { id: occasion.id, seq, at: &at, event: event.lower(&fields), state })
    }
}

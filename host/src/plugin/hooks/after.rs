//! `after` hooks: effects that plugins request once something has happened.
//!
//! A plugin that follows the log is asked about one event at a time and answers with effects. Nothing is executed
//! here: the caller executes the effects, keeps the state, and asks again where there was no answer. So a failure is
//! neither open nor closed, but it counts for the plugin's circuit breaker like any other.

use crate::plugin::{
    active::set::{Set, WorkingPlugin},
    contract::effect::{AfterError, AfterOutcome, Occasion, REMINDER},
    hooks::facts::{Facts, Sources},
    wasm::bindings::EventQuestion,
};

pub(crate) fn wants(set: &Set, name: &str, event: &str) -> bool {
    set.followers().any(|working| working.plugin.name() == name && working.plugin.wants.include(event))
}

pub(crate) fn run(set: &Set, name: &str, occasion: &Occasion<'_>) -> Result<Option<AfterOutcome>, AfterError> {
    let working = set.followers().find(|working| working.plugin.name() == name).ok_or(AfterError::Gone)?;
    if !working.plugin.wants.include(occasion.name) {
        return Ok(None);
    }
    Ok(Some(put(set, working, occasion, |event| working.plugin.after(occasion, event))?))
}

/// Asks about an occasion, with the fields that the plugin may see.
pub(crate) fn put<T>(
    set: &Set,
    working: &WorkingPlugin,
    occasion: &Occasion<'_>,
    ask: impl FnOnce(&EventQuestion<'_>) -> T,
) -> T {
    let mut facts = Facts::new(set, Sources::of_event(occasion.payload, occasion.context));
    // The payload of a reminder is the plugin's own, so it needs neither a declaration nor a grant.
    let own = (occasion.name == REMINDER).then(|| occasion.payload.to_string());
    facts.with_event(occasion.name, working, |event| {
        ask(&EventQuestion { payload: own.as_deref().or(event.payload), ..*event })
    })
}

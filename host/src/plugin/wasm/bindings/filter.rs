//! Bindings of the `filter` interface, in both of its forms: what a guest is asked, and its answer.
//!
//! The answer is still unchecked; `wasm::check` checks it.

use crate::{
    domain::role::Role,
    plugin::{
        wasm::bindings::{
            EventQuestion, Guest, GuestAnswer, StoreContextMut,
            v1::exports::leadwire::plugin::{filter as by_name, filter_lines as by_line},
        },
        wasm::imports::GuestState,
    },
};

/// Verdicts of a guest that are still unchecked.
pub(crate) enum Verdicts {
    ByName(Vec<by_name::Verdict>),
    /// In the order of the roles that were asked about.
    InOrder(Vec<by_line::Verdict>),
}

impl Guest {
    pub(crate) fn hides(&self, store: StoreContextMut<'_, GuestState>) -> wasmtime::Result<Vec<by_name::Hidden>> {
        if let Some(filter) = &self.filter_lines {
            let hidden = filter.call_hides(store)?.into_iter();
            return Ok(hidden.map(|by_line::Hidden { role, pointers }| by_name::Hidden { role, pointers }).collect());
        }
        self.filter.as_ref().map_or(Ok(Vec::new()), |filter| filter.call_hides(store))
    }

    pub(crate) fn filter(
        &self,
        store: StoreContextMut<'_, GuestState>,
        event: &EventQuestion<'_>,
        roles: &[Role],
    ) -> GuestAnswer<Verdicts> {
        if let Some(filter) = &self.filter_lines {
            let verdicts = filter.call_filter(store, &question(event, roles), event.payload)?;
            return Ok(verdicts.map(Verdicts::InOrder));
        }
        let Some(filter) = &self.filter else { return Ok(Ok(Verdicts::InOrder(Vec::new()))) };
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let verdicts = filter.call_filter(store, event.lower(&event.listed()), &names)?;
        Ok(verdicts.map(Verdicts::ByName))
    }
}

/// Writes the lines of `filter-lines`. JSON as the host writes it has no line feed in it, nor has a name.
fn question(event: &EventQuestion<'_>, roles: &[Role]) -> String {
    let fields = event.fields.iter().map(|field| field.json.unwrap_or_default());
    let room = event.name.len() + 10 * roles.len() + fields.clone().map(|json| json.len() + 1).sum::<usize>() + 2;
    let mut lines = String::with_capacity(room);
    lines.push_str(event.name);
    lines.push('\n');
    for (place, role) in roles.iter().enumerate() {
        if place > 0 {
            lines.push(' ');
        }
        lines.push_str(role.as_str());
    }
    lines.push('\n');
    for json in fields {
        lines.push_str(json);
        lines.push('\n');
    }
    lines
}

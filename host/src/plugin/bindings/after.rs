//! `after` of the interface: what a plugin wants, what it is asked, and its answer, checked.

use super::{Fault, Guest, Limits, StoreContextMut, host::State, no_more, v1::exports::leadwire::plugin::after as wit};
use crate::plugin::{
    after::{Effect, EffectName, Occasion, Outcome, Wants},
    host::cut,
};

impl Guest {
    pub(in crate::plugin) fn wants(&self, store: StoreContextMut<'_, State>) -> wasmtime::Result<wit::Wanted> {
        let nothing = || wit::Wanted { events: Vec::new(), effects: Vec::new(), webhook_hosts: Vec::new() };
        self.after.as_ref().map_or_else(|| Ok(nothing()), |after| after.call_wants(store))
    }

    pub(in crate::plugin) fn after(
        &self,
        store: StoreContextMut<'_, State>,
        occasion: &Occasion<'_>,
        event: &super::Shown<'_>,
    ) -> super::Answer<wit::Outcome> {
        let Some(after) = &self.after else { return Ok(Ok(wit::Outcome { effects: Vec::new(), state: None })) };
        let at = occasion.at.to_string();
        // A log would need 2^53 events for its numbers to be no exact `f64` any more.
        let seq = occasion.seq.map(|seq| seq as f64);
        let (fields, state) = (event.listed(), occasion.state);
        after.call_after(store, wit::Occasion { id: occasion.id, seq, at: &at, event: event.lower(&fields), state })
    }
}

pub(in crate::plugin) fn check_wants(wants: wit::Wanted) -> Result<Wants, Fault> {
    let wit::Wanted { events, effects, webhook_hosts } = wants;
    Wants::check(events, &effects, webhook_hosts).map_err(Fault::Invalid)
}

/// Takes effects that the plugin asked for, and no others.
pub(in crate::plugin) fn check_outcome(
    outcome: wit::Outcome,
    wants: &Wants,
    limits: &Limits,
) -> Result<Outcome, Fault> {
    let wit::Outcome { effects, state } = outcome;
    no_more(effects.len(), "effects", limits.effects)?;
    no_more(state.as_ref().map_or(0, String::len), "bytes of state", limits.effect_bytes)?;
    let effects = effects.into_iter().map(|effect| check_effect(effect, wants, limits)).collect::<Result<_, _>>()?;
    Ok(Outcome { effects, state })
}

fn check_effect(effect: wit::Effect, wants: &Wants, limits: &Limits) -> Result<Effect, Fault> {
    let wit::Effect { name, input } = effect;
    let name: EffectName = name.parse().map_err(Fault::Invalid)?;
    if !wants.effects.contains(&name) {
        return Err(Fault::Invalid(format!("the effect {name}, which it does not list in wants")));
    }
    no_more(input.len(), &format!("bytes of input for the effect {name}"), limits.effect_bytes)?;
    let input = serde_json::from_str(&input).map_err(|error| {
        let reason = error.to_string();
        Fault::Invalid(format!("the input of the effect {name} is no JSON object: {}", cut(&reason, 200)))
    })?;
    Ok(Effect { name, input })
}

//! Trials on events of the log: of a plugin that is not active yet, and of two sets side by side.
//!
//! Answers are only checked or compared.

use crate::{
    domain::{event::Event, role::Role},
    plugin::{
        active::set::{Set, SetMember},
        contract::{diff::Comparison, error::Fault},
        hooks::{
            facts::{Facts, Sources},
            shape::run,
        },
    },
};

/// Asks a plugin that is not yet active about an event of the log; its answer is only checked.
pub(crate) fn try_on(alone: &Set, event: &Event) -> Result<(), (&'static str, Fault)> {
    let mut facts = Facts::new(alone, Sources::of_event(&event.payload, &event.context));
    for member in alone.members().iter().filter(|member| member.wants(&event.name)) {
        let SetMember::Working(working) = member else { continue };
        let roles: Vec<Role> = member.roles().iter().collect();
        if working.plugin.hooks.enrich {
            let edits = facts.with_event(&event.name, working, |event| working.plugin.try_enrich(event));
            edits.map_err(|fault| ("enrich", fault))?;
        }
        if working.plugin.hooks.filter {
            let verdicts = facts.with_event(&event.name, working, |event| working.plugin.try_filter(event, &roles));
            verdicts.map_err(|fault| ("filter", fault))?;
        }
    }
    Ok(())
}

impl Comparison {
    /// Shapes one event with both sets and adds the result. Skips events that no plugin is asked about.
    pub(crate) fn try_both(&mut self, before: &Set, after: &Set, event: &Event) {
        if event.rooms.is_empty() || event.is_about_rights() {
            return;
        }
        let shape = |set: &Set| run(set, &event.name, &event.payload, &event.context, &Role::ALL);
        self.add(event, &shape(before), &shape(after));
    }
}

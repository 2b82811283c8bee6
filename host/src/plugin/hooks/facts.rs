//! Facts: the declared fields of one question, as JSON text for the plugins that are asked.
//!
//! A field is found and serialised once, even if several plugins read it.

use serde_json::Value;

use crate::plugin::{
    active::set::{Set, WorkingPlugin},
    contract::{
        manifest::{FieldSource, PluginField},
        pointer,
    },
    wasm::bindings::{self, DeclaredField, EventQuestion},
};

/// Sources that declared fields are taken from.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) payload: &'a Value,
    pub(crate) lead: Option<&'a Value>,
    pub(crate) before: Option<&'a Value>,
    pub(crate) user: Option<&'a Value>,
    pub(crate) activity: Option<&'a Value>,
}

impl<'a> Sources<'a> {
    pub(crate) fn of_event(payload: &'a Value, context: &'a Value) -> Self {
        Self { payload, lead: context.get("lead"), before: context.get("before"), user: None, activity: None }
    }

    fn find(&self, field: &PluginField) -> Option<&'a Value> {
        let source = match field.source() {
            FieldSource::Payload => Some(self.payload),
            FieldSource::Lead => self.lead,
            FieldSource::Before => self.before,
            FieldSource::User => self.user,
            FieldSource::Activity => self.activity,
        };
        pointer::find(source?, field.within_source())
    }
}

/// Declared fields of one event as JSON text, each serialised once for all plugins that read it.
pub(crate) struct Facts<'a> {
    set: &'a Set,
    sources: Sources<'a>,
    /// Texts by the index of the field in the set; the inner `None` is a pointer that leads nowhere.
    texts: Vec<Option<Option<String>>>,
    whole: Option<String>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(set: &'a Set, sources: Sources<'a>) -> Self {
        Self { set, sources, texts: Vec::new(), whole: None }
    }

    pub(crate) fn with_event<T>(
        &mut self,
        name: &str,
        asking: &WorkingPlugin,
        ask: impl FnOnce(&EventQuestion<'_>) -> T,
    ) -> T {
        if asking.plugin.manifest.whole_payload && self.whole.is_none() {
            self.whole = Some(self.sources.payload.to_string());
        }
        self.extract(asking);
        let payload = self.whole.as_deref().filter(|_| asking.plugin.manifest.whole_payload);
        ask(&EventQuestion { name, fields: &self.read(asking), payload, lead: self.sources.lead })
    }

    pub(crate) fn fields(&mut self, asking: &WorkingPlugin) -> Vec<bindings::Field<'_>> {
        self.extract(asking);
        bindings::listed(&self.read(asking)).collect()
    }

    fn extract(&mut self, asking: &WorkingPlugin) {
        self.texts.resize(self.set.fields().len(), None);
        for &number in &asking.fields {
            let text = &mut self.texts[number];
            if text.is_none() {
                let value = self.sources.find(&self.set.fields()[number]);
                *text =
                    Some(value.map(|value| serde_json::to_string(value).expect("a value is JSON with string keys")));
            }
        }
    }

    fn read(&self, asking: &WorkingPlugin) -> Vec<DeclaredField<'_>> {
        let declared = asking.fields.iter().map(|&number| {
            let json = self.texts[number].as_ref().and_then(Option::as_deref);
            DeclaredField { pointer: self.set.fields()[number].pointer(), json }
        });
        declared.collect()
    }
}

//! How one event is shaped for each role: all `enrich` edits first, then every `filter` sees that one result.

use std::sync::Arc;

use serde_json::Value;

use crate::domain::event::Audience;

/// What an `authorize` hook said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// The reason reaches the client word for word.
    Deny(String),
}

/// A plugin that must be asked gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} is not answering: {reason}")]
pub struct Unavailable {
    pub plugin: String,
    pub reason: String,
}

/// What a role gets of a payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Shaped {
    /// Roles whose edits are equal share one payload.
    Sent { payload: Arc<Value>, audience: Audience },
    /// A filter gave no verdict: nobody of the role may get the payload yet.
    Held { plugin: String, reason: String },
}

impl Shaped {
    pub(super) fn whole(payload: &Arc<Value>) -> Self {
        Self::Sent { payload: payload.clone(), audience: Audience::Everyone }
    }
}

/// JSON Pointers that filters may hide from one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    pointers: Vec<String>,
}

impl Hidden {
    pub fn is_empty(&self) -> bool {
        self.pointers.is_empty()
    }

    /// Whether the value at `pointer` may be hidden: it or something above it is listed.
    pub fn covers(&self, pointer: &str) -> bool {
        self.pointers.iter().any(|hidden| is_within(pointer, hidden))
    }

    /// Removes from `value`, which stands at `pointer`, all that may be hidden below it.
    ///
    /// For places that show a part of a lead outside of a payload, as its history does.
    pub fn prune(&self, pointer: &str, value: &mut Value) {
        for hidden in &self.pointers {
            let Some(rest) = hidden.strip_prefix(pointer).filter(|rest| rest.starts_with('/')) else { continue };
            let Some((parent, key)) = rest.rsplit_once('/') else { continue };
            let key = key.replace("~1", "/").replace("~0", "~");
            match value.pointer_mut(parent) {
                Some(Value::Object(members)) => drop(members.shift_remove(&key)),
                Some(Value::Array(items)) => {
                    if let Some(item) = key.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                        *item = Value::Null;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether `pointer` is `ancestor` or leads to something inside of it.
fn is_within(pointer: &str, ancestor: &str) -> bool {
    pointer.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

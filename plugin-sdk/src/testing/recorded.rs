//! Questions that a real server asked plugins, as recorded.

use serde_json::Value;

const GOLDEN: &str = include_str!("../../fixtures/golden.json");

/// Event of a real server, with the context that the host added; created by [`recorded`].
///
/// ```
/// use leadwire_plugin_sdk::testing;
///
/// let read = testing::recorded().into_iter().find(|event| event.name == "lead:read").unwrap();
/// assert_eq!(read.payload["lead"]["title"], "New roof");
/// assert_eq!(read.context["lead"], read.payload["lead"]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Name of the event, such as `lead:updated`.
    pub name: String,
    /// Payload before any plugin edits it.
    pub payload: Value,
    /// Context that the host adds: `{"lead": …, "before": …}`, as far as these exist.
    pub context: Value,
}

/// Returns the questions about a morning's work, in order: every kind of event, and the answers to reads.
///
/// ```
/// use leadwire_plugin_sdk::testing;
///
/// let events = testing::recorded();
/// assert_eq!(events[0].name, "lead:created");
/// assert!(events.iter().any(|event| event.name == "activity:read"));
/// ```
pub fn recorded() -> Vec<Recorded> {
    let mut golden: Value = serde_json::from_str(GOLDEN).unwrap_or_default();
    let Value::Array(events) = golden["events"].take() else { return Vec::new() };
    let event = |mut event: Value| Recorded {
        name: event["name"].as_str().unwrap_or_default().to_owned(),
        payload: event["payload"].take(),
        context: event["context"].take(),
    };
    events.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{activity, lead};

    fn members(value: &Value) -> Vec<&String> {
        let mut members: Vec<&String> = value.as_object().expect("an object").keys().collect();
        members.sort();
        members
    }

    #[test]
    fn sample_leads_and_activities_have_all_real_fields() {
        let events = recorded();
        for (name, noun, item) in [("lead:read", "lead", lead()), ("activity:read", "activity", activity())] {
            let real = events.iter().find(|event| event.name == name).expect("it is recorded");
            assert_eq!(members(&item), members(&real.payload[noun]), "{noun}");
        }
        let created = events.iter().find(|event| event.name == "lead:created").expect("it is recorded");
        assert_eq!(members(&lead()["createdBy"]), members(&created.payload["lead"]["createdBy"]));
    }
}

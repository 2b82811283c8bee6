//! Implied fields: places of a payload that disclose another field, such as `assignedBy` of a lead that its new owner
//! took.
//!
//! A pointer that filters may hide from a role hides these places too. They are removed whatever their value is: a
//! place that is missing only where it would disclose something discloses it. Not in the table are times (whoever gets
//! an event knows when it happened) and `lead.createdBy`, which names the first owner where a salesperson made the
//! lead: both are fields of their own, for a plugin to list.

use serde_json::Value;

use crate::{
    domain::event_name::EventName,
    plugin::contract::{
        answer::Hidden,
        pointer::{find, is_within},
    },
};

/// Place of some payloads, and the field that it discloses, or parts of it.
struct Implication {
    payloads: &'static [&'static str],
    /// Set when it applies only where the activity is one that the server wrote about a change of a lead.
    of_change: bool,
    field: &'static str,
    place: &'static str,
}

const fn implies(payloads: &'static [&'static str], field: &'static str, place: &'static str) -> Implication {
    Implication { payloads, of_change: false, field, place }
}

const fn change_tells(payloads: &'static [&'static str], field: &'static str, place: &'static str) -> Implication {
    Implication { of_change: true, ..implies(payloads, field, place) }
}

/// Name of a line of a lead's history in the table; it is not an event.
pub(crate) const HISTORY: &str = "history";

const TABLE: [Implication; 11] = [
    implies(&[EventName::LeadCreated.as_str()], "/lead/createdBy", "/createdBy"),
    // A salesperson owns the leads that they make, and changes and assigns only their own leads and unowned ones.
    implies(&[EventName::LeadCreated.as_str()], "/lead/owner", "/createdBy"),
    implies(&[EventName::LeadUpdated.as_str()], "/lead/owner", "/updatedBy"),
    implies(&[EventName::LeadAssigned.as_str()], "/lead/owner", "/assignedBy"),
    implies(&[EventName::LeadAssigned.as_str()], "/lead/owner/id", "/previousOwnerId"),
    implies(&[HISTORY], "/lead/owner", "/changedBy"),
    change_tells(&[EventName::ActivityCreated.as_str()], "/lead/owner", "/createdBy"),
    change_tells(
        &[EventName::ActivityCreated.as_str(), EventName::ActivityRead.as_str()],
        "/lead/owner",
        "/activity/creator",
    ),
    implies(&[EventName::ActivityCreated.as_str()], "/activity/creator", "/createdBy"),
    // A salesperson changes and deletes only their own activities.
    implies(&[EventName::ActivityUpdated.as_str()], "/activity/creator", "/updatedBy"),
    implies(&[EventName::ActivityDeleted.as_str()], "/activity/creator", "/deletedBy"),
];

/// Disclosures of one payload: fields that it implies besides the places where they are.
#[derive(Default)]
pub(crate) struct Implied {
    implications: Vec<&'static Implication>,
    /// Fields that the whole payload discloses.
    disclosed: &'static [&'static str],
}

impl Implied {
    /// Finds the disclosures of a payload as the server made it: a plugin's edit of the activity's type does not count.
    pub(crate) fn of(name: &str, payload: &Value, context: &Value) -> Self {
        let activity = [payload, context].into_iter().find_map(|source| find(source, "/activity/type"));
        let disclosed: &[&str] = match (activity.and_then(Value::as_str), payload.get("kind").and_then(Value::as_str)) {
            (Some("STATUS_CHANGE"), _) => &["/lead/status"],
            (Some("ASSIGNMENT"), _) => &["/lead/owner/id", "/lead/owner/name"],
            (_, Some("lead_assigned" | "lead_unassigned")) if *name == EventName::Notification => &["/lead/owner/id"],
            _ => &[],
        };
        let is_change = activity.is_some() && !disclosed.is_empty();
        let concerns = |row: &&Implication| row.payloads.contains(&name) && (is_change || !row.of_change);
        Self { implications: TABLE.iter().filter(concerns).collect(), disclosed }
    }

    /// Returns true if nobody from whom these fields may be hidden may get the payload.
    pub(crate) fn withholds(&self, hidden: &Hidden) -> bool {
        self.disclosed.iter().any(|field| hidden.covers(field))
    }

    /// Returns true if there is something for [`Implied::conceal`] to remove.
    pub(crate) fn discloses(&self, payload: &Value, hidden: &Hidden) -> bool {
        let is_about = |row: &&Implication| hidden.covers(row.field) || hidden.covers_part(row.field);
        let is_disclosed = |row: &&Implication| payload.pointer(row.place).is_some() && is_about(row);
        !hidden.is_empty()
            && (self.implications.iter().any(is_disclosed) || changes(payload).any(|it| hidden.covers_change(it)))
    }

    /// Removes the places that disclose hidden fields, besides the fields themselves.
    pub(crate) fn conceal(&self, payload: &mut Value, hidden: &Hidden) {
        if hidden.is_empty() {
            return;
        }
        if let Some(Value::Array(changes)) = payload.get_mut("changes") {
            changes.retain(|field| field.as_str().is_none_or(|field| !hidden.covers_change(field)));
        }
        for row in &self.implications {
            if hidden.covers(row.field) {
                remove(payload, row.place);
            } else if let Some(value) = payload.pointer_mut(row.place) {
                hidden.prune(row.field, value);
            }
        }
    }

    /// Lists every place of the payload that discloses something, and the parts of each, for people.
    pub(crate) fn places(&self, payload: &Value) -> Vec<String> {
        let mut places: Vec<String> = changes(payload).map(|field| format!("changes: {field}")).collect();
        for row in &self.implications {
            let Some(value) = payload.pointer(row.place) else { continue };
            let place = &row.place[1..];
            places.push(place.to_owned());
            places.extend(value.as_object().into_iter().flatten().map(|(part, _)| format!("{place}/{part}")));
        }
        places.sort();
        places.dedup();
        places
    }
}

/// Lists what is in `before` and not in `after`; a place that is gone as a whole is listed once.
pub(crate) fn gone(before: Vec<String>, after: &[String]) -> Vec<String> {
    let gone: Vec<String> = before.into_iter().filter(|place| !after.contains(place)).collect();
    let is_part = |place: &String| gone.iter().any(|whole| whole != place && is_within(place, whole));
    gone.iter().filter(|place| !is_part(place)).cloned().collect()
}

impl Hidden {
    /// Removes from a line of a lead's history who made the change, where that discloses a field that may be hidden.
    pub fn conceal_history(&self, line: &mut Value) {
        Implied::of(HISTORY, line, &Value::Null).conceal(line, self);
    }
}

fn changes(payload: &Value) -> impl Iterator<Item = &str> {
    payload.get("changes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn remove(payload: &mut Value, place: &str) {
    let Some((parent, member)) = place.rsplit_once('/') else { return };
    if let Some(members) = payload.pointer_mut(parent).and_then(Value::as_object_mut) {
        members.shift_remove(member);
    }
}

#[cfg(test)]
mod tests;

//! What payloads tell of a field beside the place where it stands: `assignedBy` of a lead that its new owner took.
//!
//! A pointer that filters may hide from a role takes these places along. They go whatever their value is, because a
//! place that is missing only where it would tell something tells it. Not in the table are times (who is sent an event
//! knows when it happened) and `lead.createdBy`, which names the first owner where a salesperson made the lead: both
//! are fields of their own, for a plugin to list.

use serde_json::Value;

use super::{
    pipeline::Hidden,
    pointer::{find, is_within},
};

/// A place of some payloads, and the field that it tells, or parts of it.
struct Implication {
    payloads: &'static [&'static str],
    /// Only where the activity is one that the server wrote about a change of a lead.
    of_change: bool,
    field: &'static str,
    place: &'static str,
}

const fn tells(payloads: &'static [&'static str], field: &'static str, place: &'static str) -> Implication {
    Implication { payloads, of_change: false, field, place }
}

const fn change_tells(payloads: &'static [&'static str], field: &'static str, place: &'static str) -> Implication {
    Implication { of_change: true, ..tells(payloads, field, place) }
}

/// What a line of a lead's history is called here; it is no event.
pub(super) const HISTORY: &str = "history";

const TABLE: [Implication; 11] = [
    tells(&["lead:created"], "/lead/createdBy", "/createdBy"),
    // A salesperson owns what it makes, and changes and assigns nothing but its own and what nobody owns.
    tells(&["lead:created"], "/lead/owner", "/createdBy"),
    tells(&["lead:updated"], "/lead/owner", "/updatedBy"),
    tells(&["lead:assigned"], "/lead/owner", "/assignedBy"),
    tells(&["lead:assigned"], "/lead/owner/id", "/previousOwnerId"),
    tells(&[HISTORY], "/lead/owner", "/changedBy"),
    change_tells(&["activity:created"], "/lead/owner", "/createdBy"),
    change_tells(&["activity:created", "activity:read"], "/lead/owner", "/activity/creator"),
    tells(&["activity:created"], "/activity/creator", "/createdBy"),
    // A salesperson changes and deletes no activities but its own.
    tells(&["activity:updated"], "/activity/creator", "/updatedBy"),
    tells(&["activity:deleted"], "/activity/creator", "/deletedBy"),
];

/// What one payload tells of fields beside them.
#[derive(Default)]
pub(super) struct Implied {
    implications: Vec<&'static Implication>,
    /// The whole payload tells these.
    tells: &'static [&'static str],
}

impl Implied {
    /// As the server made the payload: what a plugin makes of its activity's type is of no account.
    pub(super) fn of(name: &str, payload: &Value, context: &Value) -> Self {
        let activity = [payload, context].into_iter().find_map(|source| find(source, "/activity/type"));
        let tells: &[&str] = match (activity.and_then(Value::as_str), payload.get("kind").and_then(Value::as_str)) {
            (Some("STATUS_CHANGE"), _) => &["/lead/status"],
            (Some("ASSIGNMENT"), _) => &["/lead/owner/id", "/lead/owner/name"],
            (_, Some("lead_assigned" | "lead_unassigned")) if name == "notification" => &["/lead/owner/id"],
            _ => &[],
        };
        let is_change = activity.is_some() && !tells.is_empty();
        let concerns = |row: &&Implication| row.payloads.contains(&name) && (is_change || !row.of_change);
        Self { implications: TABLE.iter().filter(concerns).collect(), tells }
    }

    /// Whether nobody may get the payload from whom these fields may be hidden.
    pub(super) fn withholds(&self, hidden: &Hidden) -> bool {
        self.tells.iter().any(|field| hidden.covers(field))
    }

    /// Whether there is something for [`Implied::conceal`] to take out.
    pub(super) fn is_told(&self, payload: &Value, hidden: &Hidden) -> bool {
        let is_about = |row: &&Implication| hidden.covers(row.field) || hidden.covers_part(row.field);
        let is_told = |row: &&Implication| payload.pointer(row.place).is_some() && is_about(row);
        !hidden.is_empty()
            && (self.implications.iter().any(is_told) || changes(payload).any(|it| hidden.covers_change(it)))
    }

    /// Takes out what tells of hidden fields beside the fields themselves.
    pub(super) fn conceal(&self, payload: &mut Value, hidden: &Hidden) {
        if hidden.is_empty() {
            return;
        }
        if let Some(Value::Array(changes)) = payload.get_mut("changes") {
            changes.retain(|field| field.as_str().is_none_or(|field| !hidden.covers_change(field)));
        }
        for row in &self.implications {
            if hidden.covers(row.field) {
                remove(payload, row.place);
            } else if let Some(told) = payload.pointer_mut(row.place) {
                hidden.prune(row.field, told);
            }
        }
    }

    /// Every place of the payload that tells something, and the parts of each, for people.
    pub(super) fn places(&self, payload: &Value) -> Vec<String> {
        let mut places: Vec<String> = changes(payload).map(|field| format!("changes: {field}")).collect();
        for row in &self.implications {
            let Some(told) = payload.pointer(row.place) else { continue };
            let place = &row.place[1..];
            places.push(place.to_owned());
            places.extend(told.as_object().into_iter().flatten().map(|(part, _)| format!("{place}/{part}")));
        }
        places.sort();
        places.dedup();
        places
    }
}

/// What is in `before` and not in `after`; what is gone as a whole is named once.
pub(super) fn gone(before: Vec<String>, after: &[String]) -> Vec<String> {
    let gone: Vec<String> = before.into_iter().filter(|place| !after.contains(place)).collect();
    let is_part = |place: &String| gone.iter().any(|whole| whole != place && is_within(place, whole));
    gone.iter().filter(|place| !is_part(place)).cloned().collect()
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

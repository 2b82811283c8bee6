//! Comparison of two sets of plugins on the same events.
//!
//! Both sets shape each event of the log for every role. What the role would get is compared: its audience, and the
//! payload leaf by leaf. Values stay out of the report unless they are asked for. Only `enrich` and `filter` are
//! compared: there is no record of who asked for what, so `authorize` and `before` cannot be asked again.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    domain::{audience::Audience, counter::Seq, event::Event, role::Role},
    plugin::contract::answer::Shaped,
};

/// Number of fields that are reported one by one; the others are only counted.
const MAX_FIELDS: usize = 200;
/// Length of the longest pointer that is reported.
const MAX_POINTER: usize = 256;
const EXAMPLES: usize = 3;

/// Differences of a second set of plugins from a first, counted over any number of events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Comparison {
    /// Number of events that both have shaped.
    pub events: u64,
    /// Number of pairs of an event and a role.
    pub role_events: u64,
    /// Number of these pairs that differ.
    pub differing: u64,
    /// Compared events, by name and role.
    pub by_event: Vec<EventDifference>,
    pub by_field: Vec<FieldDifference>,
    /// Number of differences that are not in `by_field`, which is bounded.
    pub fields_left_out: u64,
    #[serde(skip)]
    detail: Detail,
}

/// Differences in the events of one name, for one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventDifference {
    pub event: String,
    pub role: Role,
    /// Number of compared events.
    pub seen: u64,
    /// Number of events that some or all users of the role would no longer get.
    pub hidden: u64,
    /// Number of events that some or all users of the role would get who do not get them now.
    pub shown: u64,
    /// Number of events whose payload would be different.
    pub changed: u64,
    /// Number of events for which a plugin would give no verdict.
    pub held: u64,
    /// Number of events for which a plugin gives no verdict now, and every plugin would.
    pub released: u64,
    /// Seqs of some events that are hidden, shown, held or released.
    pub examples: Vec<Seq>,
}

/// Differences in one field of payloads, for one role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDifference {
    pub role: Role,
    pub pointer: String,
    pub change: Change,
    /// Number of events with this difference.
    pub events: u64,
    pub examples: Vec<Example>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The field is there now and would not be.
    Hidden,
    /// The field is not there now and would be.
    Shown,
    /// The field would have another value.
    Changed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    pub seq: Seq,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Detail {
    examples: usize,
    values: bool,
}

impl Default for Detail {
    fn default() -> Self {
        Self { examples: EXAMPLES, values: false }
    }
}

impl Comparison {
    /// Creates a comparison with at most `examples` examples per difference; `values` includes the values in them.
    pub fn new(examples: usize, values: bool) -> Self {
        Self { detail: Detail { examples, values }, ..Self::default() }
    }

    /// Share of the compared pairs that differ, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.role_events == 0 { 0.0 } else { self.differing as f64 / self.role_events as f64 }
    }

    /// Adds one event as two sets shaped it, for the same roles in the same order.
    pub fn add(&mut self, event: &Event, before: &[(Role, Shaped)], after: &[(Role, Shaped)]) {
        self.events += 1;
        for ((role, before), (_, after)) in before.iter().zip(after) {
            self.role_events += 1;
            let differs = self.add_for(event, *role, before, after);
            self.differing += u64::from(differs);
        }
    }

    fn add_for(&mut self, event: &Event, role: Role, before: &Shaped, after: &Shaped) -> bool {
        let row = self.row(&event.name, role);
        self.by_event[row].seen += 1;
        let (old, new) = match (before, after) {
            (Shaped::Sent { payload: old, audience: from }, Shaped::Sent { payload: new, audience: to }) => {
                let (hidden, shown) = (!reaches(to, from), !reaches(from, to));
                self.by_event[row].hidden += u64::from(hidden);
                self.by_event[row].shown += u64::from(shown);
                if hidden || shown {
                    self.point_at(row, event.seq);
                }
                if *from == Audience::Nobody || *to == Audience::Nobody || Arc::ptr_eq(old, new) || old == new {
                    return hidden || shown;
                }
                (old, new)
            }
            (Shaped::Held { .. }, Shaped::Held { .. }) => return false,
            (Shaped::Sent { .. }, Shaped::Held { .. }) => {
                self.by_event[row].held += 1;
                self.point_at(row, event.seq);
                return true;
            }
            (Shaped::Held { .. }, Shaped::Sent { .. }) => {
                self.by_event[row].released += 1;
                self.point_at(row, event.seq);
                return true;
            }
        };
        self.by_event[row].changed += 1;
        differences(&mut String::new(), Some(old), Some(new), &mut |pointer, old, new| {
            self.add_field(event.seq, role, pointer, old, new);
        });
        true
    }

    fn row(&mut self, event: &str, role: Role) -> usize {
        let place = self.by_event.binary_search_by(|row| row.event.as_str().cmp(event).then(row.role.cmp(&role)));
        place.unwrap_or_else(|place| {
            self.by_event.insert(place, EventDifference::none(event, role));
            place
        })
    }

    fn point_at(&mut self, row: usize, seq: Seq) {
        let examples = &mut self.by_event[row].examples;
        if examples.len() < self.detail.examples {
            examples.push(seq);
        }
    }

    fn add_field(&mut self, seq: Seq, role: Role, pointer: &str, old: Option<&Value>, new: Option<&Value>) {
        let change = match (old, new) {
            (Some(_), None) => Change::Hidden,
            (None, _) => Change::Shown,
            (Some(_), Some(_)) => Change::Changed,
        };
        let wanted = (role, pointer, change);
        let order = |field: &FieldDifference| (field.role, field.pointer.as_str(), field.change).cmp(&wanted);
        let place = match self.by_field.binary_search_by(order) {
            Ok(place) => Some(place),
            Err(_) if self.by_field.len() >= MAX_FIELDS || pointer.len() > MAX_POINTER => None,
            Err(place) => {
                let pointer = pointer.to_owned();
                let field = FieldDifference { role, pointer, change, events: 0, examples: Vec::new() };
                self.by_field.insert(place, field);
                Some(place)
            }
        };
        let Some(place) = place else {
            self.fields_left_out += 1;
            return;
        };
        let field = &mut self.by_field[place];
        field.events += 1;
        if field.examples.len() < self.detail.examples {
            let value = |value: Option<&Value>| value.filter(|_| self.detail.values).cloned();
            field.examples.push(Example { seq, before: value(old), after: value(new) });
        }
    }
}

impl EventDifference {
    fn none(event: &str, role: Role) -> Self {
        let event = event.to_owned();
        Self { event, role, seen: 0, hidden: 0, shown: 0, changed: 0, held: 0, released: 0, examples: Vec::new() }
    }
}

/// Returns true if everybody in `inner` is in `outer`.
fn reaches(outer: &Audience, inner: &Audience) -> bool {
    match (outer, inner) {
        (Audience::Everyone, _) | (_, Audience::Nobody) => true,
        (Audience::Only(outer), Audience::Only(inner)) => inner.is_subset(outer),
        (Audience::Nobody, _) | (Audience::Only(_), Audience::Everyone) => false,
    }
}

/// Reports each leaf that differs. A list is a leaf: a removed item would make all items behind it look changed.
fn differences(
    pointer: &mut String,
    old: Option<&Value>,
    new: Option<&Value>,
    visit: &mut impl FnMut(&str, Option<&Value>, Option<&Value>),
) {
    if old == new {
        return;
    }
    let (was, is) = (members(old), members(new));
    if was.is_none() && is.is_none() {
        return visit(pointer, old, new);
    }
    // Where one side has members, the value that the other has in their place is a leaf that is added or removed.
    if old.is_some_and(|old| !old.is_object()) {
        visit(pointer, old, None);
    }
    if new.is_some_and(|new| !new.is_object()) {
        visit(pointer, None, new);
    }
    let keys: BTreeSet<&String> = was.into_iter().chain(is).flat_map(Map::keys).collect();
    for key in keys {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        differences(pointer, was.and_then(|was| was.get(key)), is.and_then(|is| is.get(key)), visit);
        pointer.truncate(length);
    }
}

/// Returns the members of an object that has any.
fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|members| !members.is_empty())
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, role_events, differing, .. } = self;
        let percent = self.share() * 100.0;
        write!(f, "{events} events, {role_events} with each role: {differing} would differ ({percent:.1}%)")?;
        for EventDifference { event, role, hidden, shown, held, released, examples, .. } in &self.by_event {
            let parts = [
                (hidden, "would no longer reach some users"),
                (shown, "would newly reach some users"),
                (held, "would be held back"),
                (released, "would no longer be held back"),
            ];
            for (times, what) in parts.into_iter().filter(|(times, _)| **times > 0) {
                write!(f, "\n{role}: {event} {what}, {times} times")?;
                as_in(f, examples.iter().copied())?;
            }
        }
        for FieldDifference { role, pointer, change, events, examples } in &self.by_field {
            let change = match change {
                Change::Hidden => "would no longer see",
                Change::Shown => "would newly see",
                Change::Changed => "would see another value at",
            };
            let plural = if *events == 1 { "" } else { "s" };
            write!(f, "\n{role} {change} {pointer} in {events} event{plural}")?;
            as_in(f, examples.iter().map(|example| example.seq))?;
            for Example { seq, before, after } in examples {
                match (before, after) {
                    (None, None) => {}
                    (Some(before), None) => write!(f, "\n    {seq}: {before}")?,
                    (None, Some(after)) => write!(f, "\n    {seq}: {after}")?,
                    (Some(before), Some(after)) => write!(f, "\n    {seq}: {before} -> {after}")?,
                }
            }
        }
        match self.fields_left_out {
            0 => Ok(()),
            more => write!(f, "\nand {more} more differences of fields"),
        }
    }
}

fn as_in(f: &mut fmt::Formatter<'_>, seqs: impl Iterator<Item = Seq>) -> fmt::Result {
    for (index, seq) in seqs.enumerate() {
        write!(f, "{}{seq}", if index == 0 { ", as in " } else { ", " })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{id::UserId, room::Room, time::Timestamp};

    fn event(seq: Seq) -> Event {
        let at = Timestamp::from_millis(0).expect("in range");
        let (payload, context) = (json!({}), json!({}));
        Event {
            seq,
            name: "lead:updated".into(),
            rooms: vec![Room::Everyone],
            lead_id: None,
            payload: payload.into(),
            context,
            at,
        }
    }

    fn sent(payload: Value) -> Shaped {
        Shaped::Sent { payload: Arc::new(payload), audience: Audience::Everyone }
    }

    fn only(users: &[u128]) -> Shaped {
        let users = users.iter().map(|id| UserId(uuid::Uuid::from_u128(*id))).collect();
        Shaped::Sent { payload: Arc::default(), audience: Audience::Only(users) }
    }

    fn nobody() -> Shaped {
        Shaped::Sent { payload: Arc::default(), audience: Audience::Nobody }
    }

    fn held() -> Shaped {
        Shaped::Held { plugin: "a".parse().expect("a name"), reason: "b".into(), audience: Audience::Everyone }
    }

    fn compare(before: Shaped, after: Shaped) -> Comparison {
        let mut comparison = Comparison::new(3, true);
        comparison.add(&event(Seq(7)), &[(Role::Viewer, before)], &[(Role::Viewer, after)]);
        comparison
    }

    fn fields(before: Value, after: Value) -> Vec<(String, Change)> {
        let fields = compare(sent(before), sent(after)).by_field;
        fields.into_iter().map(|field| (field.pointer, field.change)).collect()
    }

    #[test]
    fn payloads_are_compared_leaf_by_leaf() {
        let before =
            json!({"lead": {"email": "a", "phone": "b", "owner": {"id": 1, "a/b": 2}, "custom": {}}, "l": [1, 2]});
        let after = json!({"lead": {"email": "***", "owner": null, "score": {"now": 3}, "custom": {"x": 1}}, "l": [2]});
        let found = [
            ("/l", Change::Changed),
            ("/lead/custom/x", Change::Shown),
            ("/lead/email", Change::Changed),
            ("/lead/owner", Change::Shown),
            ("/lead/owner/a~1b", Change::Hidden),
            ("/lead/owner/id", Change::Hidden),
            ("/lead/phone", Change::Hidden),
            ("/lead/score/now", Change::Shown),
        ];
        assert_eq!(fields(before.clone(), after), found.map(|(pointer, change)| (pointer.to_owned(), change)));
        assert_eq!(fields(before.clone(), before), []);
    }

    #[test]
    fn a_narrower_audience_hides_and_a_wider_one_shows() {
        let counts = |before, after| {
            let row = compare(before, after).by_event.remove(0);
            (row.hidden, row.shown, row.held, row.released)
        };
        assert_eq!(counts(sent(json!({})), nobody()), (1, 0, 0, 0));
        assert_eq!(counts(sent(json!({})), only(&[1])), (1, 0, 0, 0));
        assert_eq!(counts(only(&[1, 2]), only(&[2, 3])), (1, 1, 0, 0));
        assert_eq!(counts(only(&[1]), only(&[1, 2])), (0, 1, 0, 0));
        assert_eq!(counts(nobody(), only(&[1])), (0, 1, 0, 0));
        assert_eq!(counts(nobody(), nobody()), (0, 0, 0, 0));
        assert_eq!(counts(sent(json!({})), held()), (0, 0, 1, 0));
        assert_eq!(counts(held(), nobody()), (0, 0, 0, 1));
        assert_eq!(counts(held(), held()), (0, 0, 0, 0));
    }

    #[test]
    fn a_payload_without_recipients_is_not_compared_further() {
        let comparison = compare(sent(json!({"lead": 1})), nobody());
        assert!(comparison.by_field.is_empty() && comparison.differing == 1);
    }

    #[test]
    fn a_report_counts_every_difference_and_names_a_few_events() {
        let mut comparison = Comparison::default();
        for seq in 1..=14 {
            let (before, after) = (sent(json!({"lead": {"email": "a"}})), sent(json!({"lead": {}})));
            let same = sent(json!({}));
            let before = [(Role::Admin, same.clone()), (Role::Viewer, before)];
            comparison.add(&event(Seq(seq)), &before, &[(Role::Admin, same), (Role::Viewer, after)]);
        }
        assert!((comparison.share() - 0.5).abs() < f64::EPSILON);
        assert_eq!(
            comparison.to_string(),
            "14 events, 28 with each role: 14 would differ (50.0%)\n\
             VIEWER would no longer see /lead/email in 14 events, as in 1, 2, 3"
        );
        let text = serde_json::to_string(&comparison).expect("serialises");
        assert!(!text.contains("\"a\""), "values were not asked for: {text}");
        assert_eq!(serde_json::from_str::<Comparison>(&text).expect("reads back"), comparison);
    }

    #[test]
    fn a_report_contains_values_on_request() {
        let comparison = compare(sent(json!({"a": 1})), sent(json!({"a": 2})));
        assert!(
            comparison.to_string().ends_with("VIEWER would see another value at /a in 1 event, as in 7\n    7: 1 -> 2")
        );
    }

    #[test]
    fn a_report_is_bounded_for_any_payload() {
        let many: Map<String, Value> = (0..1000).map(|key| (format!("k{key}"), json!(1))).collect();
        let comparison = compare(sent(json!({"custom": many, "x".repeat(300): 1})), sent(json!({"custom": 1})));
        assert_eq!((comparison.by_field.len(), comparison.fields_left_out), (MAX_FIELDS, 1002 - MAX_FIELDS as u64));
    }
}

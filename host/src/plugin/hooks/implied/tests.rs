//! Tests of implied fields: everything that can happen is shaped twice, for two people whose fields are hidden.
//!
//! If the results differ, a payload discloses a hidden field.

use serde_json::{Map, json};
use uuid::Uuid;

use crate::{
    domain::{
        activity::{Activity, ActivityFields, ActivityType},
        actor::{Actor, ActorKind},
        event::{DomainEvent, NotificationKind},
        id::{ActivityId, LeadId, UserId},
        lead::{Lead, LeadFields, LeadStatus},
        role::Role,
        time::Timestamp,
        user::{User, UserRef},
    },
    plugin::{
        contract::pointer::{self, Edit, Pointer},
        hooks::implied::*,
    },
};

/// Creates a person who may own leads and act on them.
fn person(number: u128, email: &str) -> UserRef {
    UserRef { id: UserId(Uuid::from_u128(number)), name: format!("N{number}"), email: email.into() }
}

fn actor(person: &UserRef, role: Role) -> Actor {
    Actor { id: person.id, email: person.email.clone(), kind: ActorKind::User(role) }
}

fn at() -> Timestamp {
    Timestamp::from_millis(0).expect("in range")
}

fn lead(owner: Option<&UserRef>, creator: &UserRef) -> Lead {
    // Built from JSON fields, so that a field that is added later does not concern these tests.
    let mut lead = json!({
        "id": LeadId(Uuid::nil()), "owner": owner, "createdBy": creator, "lastActivityAt": null, "version": 1,
        "rev": 1, "createdAt": at(), "updatedAt": at(),
    });
    let fields = LeadFields::parse(json!({"title": "Roof"}).as_object().expect("object").clone()).expect("valid");
    let Ok(Value::Object(fields)) = serde_json::to_value(fields) else { unreachable!("fields are an object") };
    lead.as_object_mut().expect("an object").extend(fields);
    serde_json::from_value(lead).expect("a lead")
}

fn note() -> ActivityFields {
    ActivityFields { kind: ActivityType::Note, body: None, due_at: None, completed_at: None, meta: Map::new() }
}

fn activity(fields: ActivityFields, creator: &UserRef) -> Activity {
    let (id, lead_id) = (ActivityId(Uuid::nil()), LeadId(Uuid::nil()));
    Activity { id, lead_id, fields, creator: creator.clone(), created_at: at(), updated_at: at() }
}

/// Lists everything that can happen, done by or to `x`, the person whom the hidden fields are about.
fn happenings(x: &UserRef) -> Vec<(Actor, DomainEvent)> {
    let boss = person(9, "boss@example.com");
    let (sales, manager) = (actor(x, Role::Sales), actor(&boss, Role::Manager));
    let (free, own) = (lead(None, &boss), lead(Some(x), &boss));
    let user = User {
        id: boss.id,
        email: boss.email.clone(),
        name: boss.name.clone(),
        role: Role::Viewer,
        active: true,
        created_at: at(),
        updated_at: at(),
    };
    let assignment = ActivityFields::assignment(None, Some(x));
    let move_on = ActivityFields::status_change(LeadStatus::New, LeadStatus::Won);
    let created =
        |fields: ActivityFields| DomainEvent::ActivityCreated { activity: activity(fields, x), lead: own.clone() };
    let notification = |kind| DomainEvent::Notification { to: person(5, "").id, kind, lead: own.clone() };
    vec![
        (sales.clone(), DomainEvent::LeadCreated { lead: lead(Some(x), x), restored: false }),
        (manager.clone(), DomainEvent::LeadCreated { lead: lead(Some(x), x), restored: true }),
        (sales.clone(), DomainEvent::LeadUpdated { before: own.clone(), lead: own.clone(), changes: vec!["title"] }),
        (manager.clone(), DomainEvent::LeadDeleted { lead: own.clone() }),
        (sales.clone(), DomainEvent::LeadAssigned { before: free.clone(), lead: own.clone() }),
        (manager.clone(), DomainEvent::LeadAssigned { before: own.clone(), lead: free }),
        (sales.clone(), created(note())),
        (sales.clone(), created(assignment)),
        (sales.clone(), created(move_on)),
        (sales.clone(), DomainEvent::ActivityUpdated { activity: activity(note(), x), lead: own.clone() }),
        (sales, DomainEvent::ActivityDeleted { activity: activity(note(), x), lead: own.clone() }),
        (manager.clone(), notification(NotificationKind::LeadAssigned)),
        (manager.clone(), notification(NotificationKind::LeadUnassigned)),
        (manager.clone(), DomainEvent::SessionUpdated { user, resets: true }),
        (manager.clone(), DomainEvent::SessionsEnded { user: boss.id, session: None }),
        (manager, DomainEvent::LeadErased { lead: own.id }),
    ]
}

/// Fails to compile when something new can happen: add it to `happenings`, and what it discloses to the table.
fn number(happening: &DomainEvent) -> usize {
    match happening {
        DomainEvent::LeadCreated { .. } => 0,
        DomainEvent::LeadUpdated { .. } => 1,
        DomainEvent::LeadDeleted { .. } => 2,
        DomainEvent::LeadAssigned { .. } => 3,
        DomainEvent::ActivityCreated { .. } => 4,
        DomainEvent::ActivityUpdated { .. } => 5,
        DomainEvent::ActivityDeleted { .. } => 6,
        DomainEvent::Notification { .. } => 7,
        DomainEvent::SessionUpdated { .. } => 8,
        DomainEvent::SessionsEnded { .. } => 9,
        DomainEvent::LeadErased { .. } => 10,
    }
}

/// Returns what a role gets from whom a filter hides these pointers.
fn seen(name: &str, mut payload: Value, context: &Value, pointers: &[&str]) -> Option<Value> {
    let pointers: Vec<Pointer> =
        pointers.iter().map(|text| Pointer::parse((*text).into()).expect("a pointer")).collect();
    let hidden = Hidden::new(pointers.clone());
    let implied = Implied::of(name, &payload, context);
    if implied.withholds(&hidden) {
        return None;
    }
    let removals: Vec<Edit> = pointers.into_iter().map(Edit::Remove).collect();
    pointer::apply(&mut payload, &removals);
    let discloses = implied.discloses(&payload, &hidden);
    let before = payload.clone();
    implied.conceal(&mut payload, &hidden);
    assert!(discloses || before == payload, "{name}: {before} was left as it is");
    Some(payload)
}

/// Lists all that can be read about `x`, by event name, as a role gets it from whom a filter hides these pointers.
fn all_seen(x: &UserRef, pointers: &[&str]) -> Vec<(String, Option<Value>)> {
    let mut all = Vec::new();
    for (actor, happening) in happenings(x) {
        let draft = happening.draft(&actor, at());
        all.push((draft.name.to_owned(), seen(draft.name, draft.payload, &draft.context, pointers)));
    }
    for fields in [note(), ActivityFields::status_change(LeadStatus::New, LeadStatus::Won)] {
        let payload = json!({"activity": activity(fields, x), "leadId": LeadId(Uuid::nil())});
        all.push(("activity:read".into(), seen("activity:read", payload, &json!({}), pointers)));
    }
    let line = json!({"id": "1", "field": "title", "from": "A", "to": "B", "changedBy": actor(x, Role::Sales)});
    all.push((HISTORY.into(), seen(HISTORY, line, &json!({}), pointers)));
    let viewers = json!({"leadId": LeadId(Uuid::nil()), "users": [{"id": person(5, "").id, "name": "N5"}], "total": 1});
    all.push(("lead:viewers".into(), seen("lead:viewers", viewers, &json!({}), pointers)));
    all
}

#[test]
fn no_event_discloses_a_person_whose_fields_are_hidden() {
    let known: std::collections::BTreeSet<usize> =
        happenings(&person(1, "")).iter().map(|(_, happening)| number(happening)).collect();
    assert_eq!(known.len(), 11, "every kind");

    let whole = ["/lead/owner", "/lead/createdBy", "/activity/creator"];
    let (one, other) = (person(1, "one@example.com"), person(2, "other@example.com"));
    assert_eq!(all_seen(&one, &whole), all_seen(&other, &whole));
    let emails = ["/lead/owner/email", "/lead/createdBy/email", "/activity/creator/email"];
    let renamed = UserRef { email: "new@example.com".into(), ..one.clone() };
    assert_eq!(all_seen(&one, &emails), all_seen(&renamed, &emails));
    let ids = ["/lead/owner/id", "/lead/createdBy/id", "/activity/creator/id"];
    let doubled = UserRef { id: other.id, ..one.clone() };
    assert_eq!(all_seen(&one, &ids), all_seen(&doubled, &ids));

    // The test can fail: without a plugin that hides something, everything discloses the person.
    let pairs = |pointers| all_seen(&one, pointers).into_iter().zip(all_seen(&other, pointers));
    let differing = pairs(&[]).filter(|(one, other)| one != other).count();
    assert!(differing >= 12, "{differing}");
}

#[test]
fn the_actor_is_shown_where_it_discloses_no_hidden_field() {
    let x = person(1, "one@example.com");
    let all = all_seen(&x, &["/lead/email", "/lead/owner/name"]);
    let member = |name: &str, member: &str| {
        all.iter().filter(|(known, _)| known == name).filter_map(|(_, payload)| payload.as_ref()?.get(member)).count()
    };
    assert_eq!((member("lead:updated", "updatedBy"), member("lead:assigned", "assignedBy")), (1, 2));
    assert_eq!((member("lead:assigned", "previousOwnerId"), member("notification", "kind")), (2, 2));
    assert_eq!(member("lead:created", "createdBy"), 2);
    // The server's own text names the new owner.
    assert_eq!(all.iter().filter(|(name, payload)| name == "activity:created" && payload.is_none()).count(), 1);

    let all = all_seen(&x, &["/lead/owner"]);
    let deleted = all.iter().find(|(name, _)| name == "lead:deleted").and_then(|(_, payload)| payload.clone());
    assert_eq!(deleted.expect("sent")["deletedBy"]["email"], "boss@example.com");
    assert!(all.iter().filter(|(name, _)| name == "notification").all(|(_, payload)| payload.is_none()));
}

#[test]
fn a_removed_subtree_is_listed_once() {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let before =
        texts(&["assignedBy", "assignedBy/email", "assignedBy/id", "changes: email", "updatedBy", "updatedBy/id"]);
    assert_eq!(gone(before, &texts(&["updatedBy"])), ["assignedBy", "changes: email", "updatedBy/id"]);
}

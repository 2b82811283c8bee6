//! Tests of commands and queries, without a transport.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    app::{
        page::{Fetched, Reading},
        visibility::ItemView,
        *,
    },
    auth::{Principal, settings::PasswordHashConfig},
    domain::{
        activity::ActivityFields,
        actor::{Actor, Cause},
        command::Command,
        counter::Seq,
        id::{LeadId, UserId},
        lead::{Lead, LeadFields, LeadStatus},
        policy::Scope,
        role::Role,
        user::{NewUser, UserPatch},
    },
    store::{
        lead_filter::{LeadFilter, LeadSort, LeadSortKey},
        test_database::TestDatabase,
    },
};

mod effects;
mod group;

struct AppDesk {
    app: App,
    admin: Principal,
    _database: TestDatabase,
}

impl AppDesk {
    async fn open() -> Self {
        Self::with(Visibility::default()).await
    }

    async fn with(visibility: Visibility) -> Self {
        let database = TestDatabase::new();
        let store = Arc::new(database.open().await);
        let costs = PasswordHashConfig { memory_kib: 64, iterations: 1, parallelism: 1 };
        let passwords = Passwords::new(&costs).expect("valid costs");
        let cursors = Cursors::new(b"a secret of the tests");
        let app = App::new(store, Plugins::none(), visibility, passwords, cursors, Arc::new(SystemClock));
        let admin = user(&app, &Principal::operator(), "admin", Role::Admin).await;
        Self { app, admin, _database: database }
    }

    async fn user(&self, name: &str, role: Role) -> Principal {
        user(&self.app, &self.admin, name, role).await
    }

    async fn lead(&self, actor: &Principal, body: Value) -> Lead {
        let fields = LeadFields::parse(object(body)).expect("valid");
        self.seen_lead(self.app.execute(actor, Command::CreateLead { fields }, None).await)
    }

    async fn update(
        &self,
        actor: &Principal,
        lead: LeadId,
        patch: Value,
        version: Option<i64>,
    ) -> Result<CommandOutcome> {
        self.app.execute(actor, Command::UpdateLead { lead, patch: object(patch), version }, None).await
    }

    fn seen_lead(&self, outcome: Result<CommandOutcome>) -> Lead {
        let Ok(CommandOutcome::Lead { lead, .. }) = outcome else { panic!("not a lead: {outcome:?}") };
        serde_json::from_value(lead).expect("a lead")
    }

    async fn log(&self) -> Vec<(String, Vec<String>)> {
        let events = self.app.store().read().await.expect("reads").events_after(Seq(0), 10_000).await.expect("reads");
        let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=events.len() as u64).map(Seq).collect::<Vec<_>>(), "seqs have no gap");
        let rooms = |event: &crate::domain::event::Event| event.rooms.iter().map(ToString::to_string).collect();
        events.iter().map(|event| (event.name.clone(), rooms(event))).collect()
    }
}

async fn user(app: &App, admin: &Principal, name: &str, role: Role) -> Principal {
    let email = format!("{name}@example.com");
    let new = NewUser { email, name: name.into(), role, active: true, password: "a long password".into() };
    Principal::of_account(&app.create_user(admin, new, None).await.expect("creates a user"))
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn code(result: Result<impl Sized>) -> String {
    result.err().expect("refused").code()
}

/// Larger than any page in these tests.
const MAX_BYTES: usize = 1024 * 1024;

fn all_leads() -> LeadFilter {
    LeadFilter {
        deleted: false,
        statuses: Vec::new(),
        owner: None,
        source: None,
        created_after: None,
        created_before: None,
        text: None,
        sort: LeadSort { key: LeadSortKey::UpdatedAt, descending: true },
    }
}

#[tokio::test]
async fn a_status_change_writes_an_event_a_history_entry_and_an_activity() {
    let desk = AppDesk::open().await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    let patched = desk.seen_lead(desk.update(&desk.admin, lead.id, json!({"status": "WON", "phone": "1"}), None).await);
    assert_eq!((patched.version, patched.fields.status), (2, LeadStatus::Won));

    let room = format!("lead:{}", lead.id);
    let expected = [
        ("lead:created".to_owned(), vec!["org:global".to_owned()]),
        ("lead:updated".to_owned(), vec!["org:global".to_owned(), room.clone()]),
        ("activity:created".to_owned(), vec![room]),
    ];
    assert_eq!(desk.log().await, expected);

    let page = PageRequest { limit: 10, cursor: None, max_bytes: MAX_BYTES };
    let history = desk.app.history(&desk.admin, lead.id, &page).await.expect("reads").values();
    let changed: Vec<_> = history.iter().map(|entry| (&entry["field"], &entry["from"], &entry["to"])).collect();
    assert_eq!(
        changed,
        [(&json!("phone"), &json!(null), &json!("1")), (&json!("status"), &json!("NEW"), &json!("WON"))]
    );
    let activities = desk.app.activities(&desk.admin, lead.id, &page).await.expect("reads").values();
    assert_eq!(
        (&activities[0]["type"], &activities[0]["meta"]),
        (&json!("STATUS_CHANGE"), &json!({"from": "NEW", "to": "WON"}))
    );
}

#[tokio::test]
async fn a_patch_that_changes_nothing_writes_nothing() {
    let desk = AppDesk::open().await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof", "custom": {"a": 1}})).await;
    let same =
        desk.seen_lead(desk.update(&desk.admin, lead.id, json!({"title": "Roof", "custom": {"a": 1}}), None).await);
    assert_eq!(same, lead);
    assert_eq!(desk.log().await.len(), 1);
}

#[tokio::test]
async fn an_outdated_version_is_refused_with_the_current_lead() {
    let desk = AppDesk::open().await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    desk.update(&desk.admin, lead.id, json!({"title": "Wall"}), Some(1)).await.expect("the version is right");
    let Err(Error::Conflict { current, .. }) =
        desk.update(&desk.admin, lead.id, json!({"title": "Door"}), Some(1)).await
    else {
        panic!("not a conflict")
    };
    assert_eq!((&current["title"], &current["version"]), (&json!("Wall"), &json!(2)));
}

#[tokio::test]
async fn a_sales_user_takes_an_unassigned_lead_and_a_reassignment_notifies_both_owners() {
    let desk = AppDesk::open().await;
    let (ann, bob) = (desk.user("ann", Role::Sales).await, desk.user("bob", Role::Sales).await);
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    let assign = |actor: Principal, owner: Option<UserId>| {
        let app = desk.app.clone();
        async move { app.execute(&actor, Command::AssignLead { lead: lead.id, owner, version: None }, None).await }
    };
    assert_eq!(desk.seen_lead(assign(ann.clone(), Some(ann.id)).await).owner.map(|owner| owner.id), Some(ann.id));
    assert_eq!(code(assign(bob.clone(), Some(bob.id)).await), "forbidden");
    assign(desk.admin.clone(), Some(bob.id)).await.expect("an administrator assigns");

    let names: Vec<_> = desk.log().await.into_iter().skip(1).collect();
    let room = format!("lead:{}", lead.id);
    let assigned = || ("lead:assigned".to_owned(), vec!["org:global".to_owned(), room.clone()]);
    let activity = || ("activity:created".to_owned(), vec![room.clone()]);
    let note = |user: &Actor| ("notification".to_owned(), vec![format!("user:{}", user.id)]);
    assert_eq!(names, [assigned(), activity(), note(&ann), assigned(), activity(), note(&ann), note(&bob)]);
}

#[tokio::test]
async fn a_lead_cannot_be_assigned_to_a_user_who_cannot_own_leads() {
    let desk = AppDesk::open().await;
    let viewer = desk.user("vic", Role::Viewer).await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    for owner in [viewer.id, UserId(uuid::Uuid::now_v7())] {
        let result = desk
            .app
            .execute(&desk.admin, Command::AssignLead { lead: lead.id, owner: Some(owner), version: None }, None)
            .await;
        assert_eq!(code(result), "invalid");
    }
}

#[tokio::test]
async fn a_deleted_lead_and_its_activities_are_hidden_until_it_is_restored() {
    let desk = AppDesk::open().await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    let fields = ActivityFields::parse(object(json!({"type": "NOTE", "body": "hi"}))).expect("valid");
    let created = desk.app.execute(&desk.admin, Command::CreateActivity { lead: lead.id, fields }, None).await;
    let Ok(CommandOutcome::Activity { id: activity, .. }) = created else { panic!("{created:?}") };
    desk.app.execute(&desk.admin, Command::DeleteLead { lead: lead.id, version: None }, None).await.expect("deletes");
    assert_eq!(code(desk.app.lead(&desk.admin, lead.id).await), "lead_not_found");
    assert_eq!(code(desk.app.activity(&desk.admin, activity).await), "activity_not_found");
    let restored = desk.app.execute(&desk.admin, Command::RestoreLead { lead: lead.id, version: None }, None).await;
    assert_eq!(desk.seen_lead(restored).version, 2);
    desk.app.activity(&desk.admin, activity).await.expect("it is back");
    let again = desk.app.execute(&desk.admin, Command::RestoreLead { lead: lead.id, version: None }, None).await;
    assert_eq!(desk.seen_lead(again).version, 2, "restoring twice is restoring once");
}

#[tokio::test]
async fn only_writes_to_a_lead_increment_its_rev() {
    let desk = AppDesk::open().await;
    let ann = desk.user("ann", Role::Sales).await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    let id = lead.id;
    let mut rev = lead.rev;
    assert_eq!(rev, 1);
    let fields = ActivityFields::parse(object(json!({"type": "NOTE"}))).expect("valid");
    let commands = [
        (Command::UpdateLead { lead: id, patch: object(json!({"title": "Wall"})), version: None }, true),
        (Command::UpdateLead { lead: id, patch: object(json!({"title": "Wall"})), version: None }, false),
        (Command::CreateActivity { lead: id, fields }, true),
        (Command::AssignLead { lead: id, owner: Some(ann.id), version: None }, true),
        (Command::AssignLead { lead: id, owner: Some(ann.id), version: None }, false),
        (Command::DeleteLead { lead: id, version: None }, true),
        (Command::RestoreLead { lead: id, version: None }, true),
    ];
    for (command, is_write) in commands {
        let name = command.name();
        let outcome = desk.app.execute(&desk.admin, command, None).await.expect(name);
        let mut reader = desk.app.store().read().await.expect("reads");
        let found = match reader.lead(id).await.expect("reads") {
            Some(lead) => lead,
            None => reader.deleted_lead(id).await.expect("reads").expect("it is kept"),
        };
        assert_eq!(found.rev > rev, is_write, "{name}: {rev} to {}", found.rev);
        if let CommandOutcome::Lead { lead, .. } = outcome {
            assert_eq!(lead["rev"], found.rev, "{name}");
        }
        rev = found.rev;
    }
    // Events contain the row's `rev` at that time, so that a client can see which copy is newer.
    let events = desk.app.store().read().await.expect("reads").events_after(Seq(0), 100).await.expect("reads");
    let revs: Vec<i64> = events.iter().filter_map(|event| event.payload.pointer("/lead/rev")?.as_i64()).collect();
    assert!(revs.is_sorted_by(|before, after| before < after), "{revs:?}");
}

#[tokio::test]
async fn a_command_with_an_idempotency_key_runs_once() {
    let desk = AppDesk::open().await;
    let key = || Some(IdempotencyKey::parse("Idempotency-Key", "k1").expect("valid"));
    let create = |title: &str| Command::CreateLead {
        fields: LeadFields::parse(object(json!({"title": title}))).expect("valid"),
    };
    let (first, second) = tokio::join!(
        desk.app.execute(&desk.admin, create("Roof"), key()),
        desk.app.execute(&desk.admin, create("Roof"), key())
    );
    let first = desk.seen_lead(first);
    assert_eq!(first, desk.seen_lead(second));
    desk.update(&desk.admin, first.id, json!({"title": "Wall"}), None).await.expect("updates");
    let later = desk.app.execute(&desk.admin, create("Roof"), key()).await;
    assert_eq!(desk.seen_lead(later), first, "the first outcome, not the lead of today");
    assert_eq!(code(desk.app.execute(&desk.admin, create("Door"), key()).await), "idempotency_key_reused");
    let other = desk.user("ann", Role::Manager).await;
    let theirs = desk.app.execute(&other, create("Roof"), key()).await;
    assert_ne!(desk.seen_lead(theirs).id, first.id, "keys of two users have nothing to do with each other");
}

#[tokio::test]
async fn visibility_hides_a_reassigned_lead_without_one_event_per_affected_user() {
    let visibility = Visibility { sales: Scope::OwnAndUnassigned, ..Visibility::default() };
    let desk = AppDesk::with(visibility).await;
    let (ann, bob) = (desk.user("ann", Role::Sales).await, desk.user("bob", Role::Sales).await);
    for name in ["cid", "dan", "eve"] {
        desk.user(name, Role::Sales).await;
    }
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    desk.app.lead(&bob, lead.id).await.expect("unassigned leads are seen");
    desk.app
        .execute(&ann, Command::AssignLead { lead: lead.id, owner: Some(ann.id), version: None }, None)
        .await
        .expect("takes it");
    assert_eq!(code(desk.app.lead(&bob, lead.id).await), "lead_not_found");
    assert_eq!(code(desk.update(&bob, lead.id, json!({"title": "Mine"}), None).await), "lead_not_found");
    let page = PageRequest { limit: 10, cursor: None, max_bytes: MAX_BYTES };
    assert!(desk.app.leads(&bob, &all_leads(), &page).await.expect("reads").items.is_empty());
    let names: Vec<_> = desk.log().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["lead:created", "lead:assigned", "activity:created", "notification"]);
}

#[tokio::test]
async fn unchanged_items_appear_exactly_once_while_paging_under_writes() {
    let desk = AppDesk::open().await;
    let mut steady = BTreeSet::new();
    let mut busy = Vec::new();
    for number in 0..40 {
        let lead = desk.lead(&desk.admin, json!({"title": format!("Lead {number}")})).await;
        if number % 4 == 0 { busy.push(lead.id) } else { assert!(steady.insert(lead.id.to_string())) }
    }
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = desk
            .app
            .leads(&desk.admin, &all_leads(), &PageRequest { limit: 7, cursor, max_bytes: MAX_BYTES })
            .await
            .expect("reads");
        seen.extend(page.values().iter().map(|lead| lead["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page.next_cursor else { break };
        cursor = Some(next);
        if let Some(id) = busy.pop() {
            desk.update(&desk.admin, id, json!({"description": "changed in the meantime"}), None)
                .await
                .expect("updates");
        }
    }
    let found: Vec<_> = seen.iter().filter(|id| steady.contains(*id)).collect();
    assert_eq!(found.len(), steady.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), steady.len());
}

#[tokio::test]
async fn a_cursor_is_refused_for_another_list() {
    let desk = AppDesk::open().await;
    for _ in 0..3 {
        desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    }
    let page = desk
        .app
        .leads(&desk.admin, &all_leads(), &PageRequest { limit: 1, cursor: None, max_bytes: MAX_BYTES })
        .await
        .expect("reads");
    let other = LeadFilter { text: Some("Roof".into()), ..all_leads() };
    assert_eq!(
        code(
            desk.app
                .leads(&desk.admin, &other, &PageRequest { limit: 1, cursor: page.next_cursor, max_bytes: MAX_BYTES })
                .await
        ),
        "invalid_query"
    );
    let forged = PageRequest { limit: 1, cursor: Some("e30".into()), max_bytes: MAX_BYTES };
    assert_eq!(code(desk.app.leads(&desk.admin, &all_leads(), &forged).await), "invalid_query");
}

#[tokio::test]
async fn a_search_matches_percent_signs_literally() {
    let desk = AppDesk::open().await;
    desk.lead(&desk.admin, json!({"title": "50% off"})).await;
    desk.lead(&desk.admin, json!({"title": "500 off"})).await;
    let filter = LeadFilter { text: Some("50% OFF".into()), ..all_leads() };
    let found = desk
        .app
        .leads(&desk.admin, &filter, &PageRequest { limit: 10, cursor: None, max_bytes: MAX_BYTES })
        .await
        .expect("reads")
        .values();
    assert_eq!(found.iter().map(|lead| &lead["title"]).collect::<Vec<_>>(), ["50% off"]);
}

#[tokio::test]
async fn concurrent_writers_leave_no_gap_in_the_log() {
    let desk = AppDesk::open().await;
    let lead = desk.lead(&desk.admin, json!({"title": "Roof"})).await;
    let writers = (0..32).map(|writer| {
        let (app, admin) = (desk.app.clone(), desk.admin.clone());
        tokio::spawn(async move {
            for round in 0..5 {
                let patch = object(json!({"description": format!("{writer}.{round}")}));
                let command = Command::UpdateLead { lead: lead.id, patch, version: None };
                app.execute(&admin, command, None).await.expect("updates");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no writer panics");
    }
    assert_eq!(desk.log().await.len(), 161);
    assert_eq!(desk.app.lead(&desk.admin, lead.id).await.expect("reads").version, 161);
}

#[tokio::test]
async fn the_last_administrator_cannot_be_demoted_or_deactivated() {
    let desk = AppDesk::open().await;
    let demote = UserPatch { role: Some(Role::Viewer), ..UserPatch::default() };
    assert_eq!(code(desk.app.update_user(&desk.admin, desk.admin.id, demote.clone()).await), "invalid");
    desk.user("eve", Role::Admin).await;
    desk.app.update_user(&desk.admin, desk.admin.id, demote).await.expect("there is another one");
}

#[tokio::test]
async fn a_deactivated_user_is_refused_on_an_open_socket() {
    let desk = AppDesk::open().await;
    let ann = desk.user("ann", Role::Manager).await;
    let lead = desk.lead(&ann, json!({"title": "Roof"})).await;
    let leave = UserPatch { active: Some(false), ..UserPatch::default() };
    desk.app.update_user(&desk.admin, ann.id, leave).await.expect("deactivates");
    assert_eq!(code(desk.update(&ann, lead.id, json!({"title": "Wall"}), None).await), "unauthenticated");
}

#[tokio::test]
async fn a_role_change_applies_at_once_on_an_open_socket() {
    let desk = AppDesk::open().await;
    let ann = desk.user("ann", Role::Manager).await;
    let lead = desk.lead(&ann, json!({"title": "Roof"})).await;
    let demote = UserPatch { role: Some(Role::Viewer), ..UserPatch::default() };
    desk.app.update_user(&desk.admin, ann.id, demote).await.expect("demotes");
    assert_eq!(code(desk.update(&ann, lead.id, json!({"title": "Wall"}), None).await), "forbidden");
}

#[tokio::test]
async fn a_repeated_request_does_not_disclose_a_lead_that_is_now_hidden() {
    let visibility = Visibility { sales: Scope::Own, ..Visibility::default() };
    let desk = AppDesk::with(visibility).await;
    let (ann, bob) = (desk.user("ann", Role::Sales).await, desk.user("bob", Role::Sales).await);
    let key = || Some(IdempotencyKey::parse("Idempotency-Key", "k1").expect("valid"));
    let create = || Command::CreateLead { fields: LeadFields::parse(object(json!({"title": "Roof"}))).expect("valid") };
    let lead = desk.seen_lead(desk.app.execute(&ann, create(), key()).await);
    let give = Command::AssignLead { lead: lead.id, owner: Some(bob.id), version: None };
    desk.app.execute(&desk.admin, give, None).await.expect("assigns");
    let Ok(CommandOutcome::Lead { lead: answer, .. }) = desk.app.execute(&ann, create(), key()).await else {
        panic!("not answered")
    };
    assert_eq!(answer, json!({"id": lead.id}));
}

#[tokio::test]
async fn a_cursor_continues_after_the_last_item_and_discloses_nothing() {
    let cursors = Cursors::new(b"a secret");
    let page = PageRequest { limit: 2, cursor: None, max_bytes: MAX_BYTES };
    let fetch = |behind: Option<String>, limit: u32| async move {
        let first = behind.map_or(0, |last| last["number ".len()..].parse::<u32>().expect("a number") + 1);
        let items = (first..300).take(limit as usize);
        Ok(Fetched::of(items.map(|number| (format!("number {number}"), number)).collect(), limit))
    };
    let third =
        |number: u32| Ok(if number.is_multiple_of(3) { ItemView::Shown(json!(number)) } else { ItemView::Hidden });
    let reading = Reading::by_page(&page);
    let first = page.fill(&cursors, &"numbers", reading, fetch, third).await.expect("fills");
    assert_eq!(first.items.iter().map(|item| item.get()).collect::<Vec<_>>(), ["0", "3"]);
    let cursor = first.next_cursor.expect("there is more");
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, &cursor).expect("base64");
    assert!(!bytes.windows(6).any(|window| window == b"number"));
    let next = PageRequest { limit: 200, cursor: Some(cursor.clone()), max_bytes: MAX_BYTES };
    let rest = next.fill(&cursors, &"numbers", reading, fetch, third).await.expect("fills");
    assert_eq!((rest.items.len(), rest.next_cursor), (98, None));
    let rest =
        next.fill(&Cursors::new(b"a secret"), &"numbers", reading, fetch, third).await.expect("fills after a restart");
    assert_eq!(rest.items.len(), 98);

    let mut edited = bytes;
    *edited.last_mut().expect("not empty") ^= 1;
    let edited = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, edited);
    let edited = PageRequest { limit: 200, cursor: Some(edited), max_bytes: MAX_BYTES };
    for (page, cursors) in [(&edited, &cursors), (&next, &Cursors::new(b"another secret"))] {
        assert_eq!(code(page.fill(cursors, &"numbers", reading, fetch, third).await), "invalid_query");
    }
}

#[tokio::test]
async fn the_fingerprint_of_a_key_includes_the_password() {
    let desk = AppDesk::open().await;
    let key = || Some(IdempotencyKey::parse("Idempotency-Key", "k1").expect("valid"));
    let ann = |password: &str| NewUser {
        email: "ann@example.com".into(),
        name: "Ann".into(),
        role: Role::Sales,
        active: true,
        password: password.into(),
    };
    let made = desk.app.create_user(&desk.admin, ann("a long password"), key()).await.expect("creates");
    assert_eq!(desk.app.create_user(&desk.admin, ann("a long password"), key()).await.expect("repeats"), made);
    assert_eq!(code(desk.app.create_user(&desk.admin, ann("another password"), key()).await), "idempotency_key_reused");
}

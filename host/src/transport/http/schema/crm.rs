//! Shapes of what users work with: leads, activities, accounts, sessions and presence.

use serde_json::json;

use crate::{
    domain::{
        activity::{ActivityFields, ActivityType},
        command::ASSIGNMENT,
        lead::{LeadFields, LeadStatus},
        role::Role,
        user::ACCOUNT,
    },
    transport::http::schema::{
        member::{change, creation, shown},
        shape::{
            AnySchema, NamedSchema, ObjectShape, any, either, flag, id, list, nullable, open_names, reference,
            reference_or_null, text, time, whole,
        },
    },
};

/// Components, by name.
pub(crate) fn components() -> Vec<NamedSchema> {
    let mut components = leads();
    components.extend(activities());
    components.extend(people());
    components
}

/// Page of a list.
pub(crate) fn page(of: &str) -> AnySchema {
    let withheld = either([flag(), whole()]);
    ObjectShape::new("Page of a list.")
        .with("items", list(reference(of)))
        .with(
            "nextCursor",
            nullable(text().description(Some("`cursor` of the next page; null if this is the last one."))),
        )
        .maybe("withheld", withheld)
        .into()
}

fn withheld() -> AnySchema {
    flag().description(Some("True if no plugin gave a verdict: then no other members are here but the id.")).into()
}

fn leads() -> Vec<NamedSchema> {
    let mut lead = ObjectShape::new(
        "Lead, as the caller may see it. A plugin may hide members from a role, or add its own: only `id` is certain.",
    )
    .with("id", id());
    for field in LeadFields::TABLE {
        lead = match field.name {
            "status" => lead.hideable(field.name, reference("LeadStatus")),
            name => lead.hideable(name, shown(field)),
        };
    }
    let version = whole().description(Some("Number of changes of what clients write, for `If-Match`."));
    let rev = whole().description(Some("Number of writes: of two copies of a lead, the larger one is newer."));
    let lead = lead
        .hideable("owner", reference_or_null("Person"))
        .hideable("createdBy", reference("Person"))
        .hideable("lastActivityAt", nullable(time()))
        .maybe("version", version)
        .maybe("rev", rev)
        .hideable("createdAt", time())
        .hideable("updatedAt", time())
        .maybe("withheld", withheld())
        .open()
        .example(json!({
            "id": "0190a8c1-7b4e-7c3a-9f11-3a5d0c6f2b10", "title": "New roof", "status": "NEW",
            "contactName": "Kim Berg", "company": "Berg AS", "email": "kim@berg.example", "phone": "+47 22 00 00 00",
            "source": "web", "valueCents": 1_250_000, "currency": "EUR", "description": null,
            "custom": {"territory": "north"}, "owner": null,
            "createdBy": {"id": "0190a8bf-0000-7000-8000-000000000001", "name": "Ann", "email": "ann@example.com"},
            "lastActivityAt": null, "version": 1, "rev": 1,
            "createdAt": "2023-12-01T00:00:00.000Z", "updatedAt": "2023-12-01T00:00:00.000Z"
        }));
    let create = creation("New lead. A lead that a SALES user creates belongs to that user.", LeadFields::TABLE);
    let patch = change("JSON merge patch (RFC 7396) of a lead: null removes a member.", LeadFields::TABLE);
    let history = ObjectShape::new("One changed field of a lead.")
        .with("id", text())
        .with("field", text().description(Some("Name of the member, or `deleted`.")))
        .maybe("from", any())
        .maybe("to", any())
        .hideable("changedBy", reference_or_null("Actor"))
        .with("changedAt", time());
    vec![
        ("LeadStatus", open_names(&LeadStatus::NAMES, "Stage in the pipeline.")),
        ("Lead", lead.into()),
        ("LeadCreate", create.example(json!({"title": "New roof", "valueCents": 1_250_000})).into()),
        ("LeadPatch", patch.example(json!({"status": "WON", "phone": null})).into()),
        ("LeadPage", page("Lead")),
        ("LeadAssignment", creation("New owner of a lead.", ASSIGNMENT).example(json!({"ownerId": null})).into()),
        ("LeadChange", history.into()),
        ("LeadChangePage", page("LeadChange")),
    ]
}

fn activities() -> Vec<NamedSchema> {
    let mut activity = ObjectShape::new(
        "Activity of a lead, as the caller may see it. A plugin may hide members from a role, or add its own.",
    )
    .with("id", id())
    .maybe("leadId", id());
    for field in ActivityFields::TABLE {
        activity = match field.name {
            "type" => activity.hideable(field.name, reference("ActivityType")),
            name => activity.hideable(name, shown(field)),
        };
    }
    let activity = activity
        .hideable("creator", reference("Person"))
        .hideable("createdAt", time())
        .hideable("updatedAt", time())
        .maybe("withheld", withheld())
        .open();
    let create = creation("New activity of a lead.", ActivityFields::TABLE);
    let patch = change("JSON merge patch (RFC 7396) of an activity.", ActivityFields::TABLE);
    let names = ActivityType::ALL.map(ActivityType::as_str);
    vec![
        ("ActivityType", open_names(&names, "`STATUS_CHANGE` and `ASSIGNMENT` are written by the server alone.")),
        ("Activity", activity.into()),
        ("ActivityCreate", create.example(json!({"type": "CALL", "body": "Wants an offer by Friday"})).into()),
        ("ActivityPatch", patch.example(json!({"completedAt": "2023-12-01T00:00:00Z"})).into()),
        ("ActivityPage", page("Activity")),
    ]
}

fn people() -> Vec<NamedSchema> {
    let person = ObjectShape::new("Reference to a user.")
        .with("id", id())
        .hideable("name", text())
        .hideable("email", text())
        .open();
    let mut roles = Role::NAMES.to_vec();
    roles.push("PLUGIN");
    let actor = ObjectShape::new("User who caused a change, or a plugin with the role `PLUGIN`.")
        .with("id", id())
        .maybe("email", text())
        .maybe("role", open_names(&roles, "Role at that time; `PLUGIN` is no user."));
    let user = ObjectShape::new("Account, as administrators and its user see it.")
        .with("id", id())
        .with("email", text())
        .with("name", text())
        .with("role", reference("Role"))
        .with("active", flag())
        .with("createdAt", time())
        .with("updatedAt", time());
    let assignable = ObjectShape::new("User who can own a lead.").with("id", id()).with("name", text());
    let tokens = ObjectShape::new("Access token, and the refresh token that gets the next one.")
        .with("accessToken", text())
        .with("refreshToken", text())
        .with("expiresIn", whole().description(Some("Seconds until the access token expires.")))
        .with("user", reference("User"));
    let online = ObjectShape::new("User who is online.")
        .with("id", id())
        .with("name", text())
        .with("online", flag())
        .with("since", time().description(Some("Time at which the user's first socket connected.")));
    let viewers = ObjectShape::new("Viewers of a lead: the first hundred by name, and how many there are in all.")
        .with("leadId", text())
        .hideable("users", list(reference("Person")))
        .hideable("total", whole());
    vec![
        ("Role", open_names(&Role::NAMES, "Role of a user.")),
        ("Person", person.into()),
        ("Actor", actor.into()),
        ("User", user.into()),
        ("UserCreate", creation("New account.", ACCOUNT).into()),
        ("UserPatch", change("Change of an account.", ACCOUNT).into()),
        ("UserPage", page("User")),
        ("AssignableUser", assignable.into()),
        ("AssignableUserPage", page("AssignableUser")),
        ("Tokens", tokens.into()),
        ("OnlineUser", online.into()),
        (
            "OnlineUsers",
            ObjectShape::new("Users who are online, by name.").with("users", list(reference("OnlineUser"))).into(),
        ),
        ("Viewers", viewers.into()),
    ]
}

//! Lead: its fields, their validation, and the result of a merge patch.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    field::{Field, FieldKind, MAX_SAFE_INTEGER},
    id::LeadId,
    input::{Input, Invalid},
    time::Timestamp,
    user::UserRef,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LeadStatus {
    #[default]
    New,
    Contacted,
    Qualified,
    Proposal,
    Negotiation,
    Won,
    Lost,
    Unqualified,
}

impl LeadStatus {
    pub const ALL: [Self; 8] = [
        Self::New,
        Self::Contacted,
        Self::Qualified,
        Self::Proposal,
        Self::Negotiation,
        Self::Won,
        Self::Lost,
        Self::Unqualified,
    ];

    pub const NAMES: [&str; 8] = names!(Self::ALL);

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Contacted => "CONTACTED",
            Self::Qualified => "QUALIFIED",
            Self::Proposal => "PROPOSAL",
            Self::Negotiation => "NEGOTIATION",
            Self::Won => "WON",
            Self::Lost => "LOST",
            Self::Unqualified => "UNQUALIFIED",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// Fields of a lead that a client may write, in the order in which a lead shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeadFields {
    pub title: String,
    pub status: LeadStatus,
    pub contact_name: Option<String>,
    pub company: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub source: Option<String>,
    pub value_cents: Option<i64>,
    pub currency: String,
    pub description: Option<String>,
    /// Left out where there is none: payloads of the log from before it existed have none either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    pub custom: Map<String, Value>,
}

/// Lead as it is stored and, before plugins shape it, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lead {
    pub id: LeadId,
    #[serde(flatten)]
    pub fields: LeadFields,
    pub owner: Option<UserRef>,
    pub created_by: UserRef,
    pub last_activity_at: Option<Timestamp>,
    /// Number of client writes.
    pub version: i64,
    /// Number of writes to the row: of two copies of a lead, the one with the larger `rev` is newer.
    #[serde(default)]
    pub rev: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One changed field, for the history of a lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    pub field: &'static str,
    pub from: Value,
    pub to: Value,
}

const TITLE: Field =
    Field::new("title", FieldKind::Text { min: 1, max: 200 }, "Short name of what is to be sold.").required();
const STATUS: Field =
    Field::new("status", FieldKind::OneOf(&LeadStatus::NAMES), "Stage in the pipeline; any may follow any other.")
        .default("\"NEW\"");
const CONTACT_NAME: Field = Field::text("contactName", 200, "Person to talk to.");
const COMPANY: Field = Field::text("company", 200, "Company of that person.");
const EMAIL: Field = Field::new("email", FieldKind::Email, "E-mail address of the contact.");
const PHONE: Field = Field::text("phone", 40, "Phone number of the contact, as it was written.");
const SOURCE: Field = Field::text("source", 100, "Where the lead came from.");
const VALUE_CENTS: Field = Field::new(
    "valueCents",
    FieldKind::Integer { min: 0, max: MAX_SAFE_INTEGER },
    "Expected value in hundredths of the currency.",
);
const CURRENCY: Field =
    Field::new("currency", FieldKind::Currency, "ISO 4217 code of the currency.").default("\"USD\"");
const DESCRIPTION: Field = Field::text("description", 10_000, "Free text.");
const EXTERNAL_ID: Field =
    Field::text("externalId", 200, "Id of the lead in another system, such as the one that it was imported from.");
const CUSTOM: Field = Field::new("custom", FieldKind::Object, "Members of your own choice.");

impl LeadFields {
    /// Fields that a client may write, in the order in which a lead shows it.
    pub const TABLE: &[&Field] = &[
        &TITLE,
        &STATUS,
        &CONTACT_NAME,
        &COMPANY,
        &EMAIL,
        &PHONE,
        &SOURCE,
        &VALUE_CENTS,
        &CURRENCY,
        &DESCRIPTION,
        &EXTERNAL_ID,
        &CUSTOM,
    ];

    pub fn parse(body: Map<String, Value>) -> Result<Self, Invalid> {
        Input::parse(body, Self::TABLE, Self::read)
    }

    /// Reads the fields; `None` when a problem was added.
    fn read(input: &mut Input) -> Option<Self> {
        input.refuse("ownerId", "read_only", "ownerId cannot be set here: assign the lead instead");
        let title = input.text(&TITLE);
        let status = input.one_of(&STATUS, LeadStatus::from_name).unwrap_or_default();
        let contact_name = input.text(&CONTACT_NAME);
        let company = input.text(&COMPANY);
        let email = input.email(&EMAIL);
        let phone = input.text(&PHONE);
        let source = input.text(&SOURCE);
        let value_cents = input.integer(&VALUE_CENTS);
        let currency = input.currency(&CURRENCY).unwrap_or_else(|| "USD".into());
        let description = input.text(&DESCRIPTION);
        let external_id = input.text(&EXTERNAL_ID);
        let custom = input.object(&CUSTOM).unwrap_or_default();
        Some(Self {
            title: title?,
            status,
            contact_name,
            company,
            email,
            phone,
            source,
            value_cents,
            currency,
            description,
            external_id,
            custom,
        })
    }

    fn members(&self) -> Map<String, Value> {
        let Value::Object(members) = serde_json::to_value(self).expect("fields are plain JSON") else {
            unreachable!("a struct serialises to an object")
        };
        members
    }

    /// Differences, in the order of the fields.
    pub fn changes(&self, next: &Self) -> Vec<FieldChange> {
        let (mut before, mut after) = (self.members(), next.members());
        Self::TABLE
            .iter()
            .map(|field| field.name)
            .map(|field| FieldChange {
                field,
                from: before.remove(field).unwrap_or_default(),
                to: after.remove(field).unwrap_or_default(),
            })
            .filter(|change| change.from != change.to)
            .collect()
    }
}

impl Lead {
    /// Returns the fields after a merge patch (RFC 7396) and the changes; no changes when nothing differs.
    pub fn update(&self, patch: &Map<String, Value>) -> Result<(LeadFields, Vec<FieldChange>), Invalid> {
        walk_step!("update");
        let mut merged = Value::Object(self.fields.members());
        json_patch::merge(&mut merged, &Value::Object(patch.clone()));
        let Value::Object(mut members) = merged else { unreachable!("merging objects makes an object") };
        // Merging drops the members that the patch nulls. Put the nulls back, so that their names are checked as well.
        for (key, _) in patch.iter().filter(|(_, value)| value.is_null()) {
            members.insert(key.clone(), Value::Null);
        }
        let fields = Input::parse_changed(members, LeadFields::TABLE, LeadFields::read)?;
        let changes = self.fields.changes(&fields);
        Ok((fields, changes))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    fn lead() -> Lead {
        let person = UserRef {
            id: crate::domain::id::UserId(uuid::Uuid::nil()),
            name: "Ann".into(),
            email: "ann@example.com".into(),
        };
        Lead {
            id: LeadId(uuid::Uuid::nil()),
            fields: LeadFields::parse(object(
                json!({"title": "Roof", "email": "a@b.example", "custom": {"a": 1, "b": {"c": 2}}}),
            ))
            .expect("valid"),
            owner: None,
            created_by: person,
            last_activity_at: None,
            version: 1,
            rev: 1,
            created_at: Timestamp::from_millis(0).expect("in range"),
            updated_at: Timestamp::from_millis(0).expect("in range"),
        }
    }

    fn codes(result: Result<impl Sized, Invalid>) -> Vec<(String, &'static str)> {
        let Err(Invalid(errors)) = result else { return Vec::new() };
        errors.into_iter().map(|error| (error.field, error.code)).collect()
    }

    #[test]
    fn only_title_is_required_to_create_a_lead() {
        let fields = LeadFields::parse(object(json!({"title": "  Roof  "}))).expect("valid");
        assert_eq!((fields.title.as_str(), fields.status, fields.currency.as_str()), ("Roof", LeadStatus::New, "USD"));
        assert_eq!(codes(LeadFields::parse(Map::new())), [("title".into(), "required")]);
    }

    #[test]
    fn all_invalid_fields_are_reported_together() {
        let body = json!({"title": "", "status": "OPEN", "email": "nobody", "valueCents": -1, "currency": "usd", "ownerId": "x", "colour": 1});
        let mut found = codes(LeadFields::parse(object(body)));
        found.sort();
        assert_eq!(
            found,
            [
                ("colour".into(), "unknown_field"),
                ("currency".into(), "invalid_currency"),
                ("email".into(), "invalid_email"),
                ("ownerId".into(), "read_only"),
                ("status".into(), "unknown_value"),
                ("title".into(), "too_short"),
                ("valueCents".into(), "out_of_range"),
            ]
        );
    }

    #[test]
    fn a_patch_merges_and_reports_the_changed_fields() {
        let (fields, changes) = lead()
            .update(&object(json!({"email": null, "custom": {"b": {"c": null}}, "title": "Roof"})))
            .expect("valid");
        assert_eq!(fields.email, None);
        assert_eq!(Value::Object(fields.custom), json!({"a": 1, "b": {}}));
        assert_eq!(changes.iter().map(|change| change.field).collect::<Vec<_>>(), ["email", "custom"]);
    }

    #[test]
    fn a_patch_cannot_remove_required_or_unknown_fields() {
        let mut found = codes(lead().update(&object(json!({"title": null, "status": null, "colour": null}))));
        found.sort();
        assert_eq!(
            found,
            [("colour".into(), "unknown_field"), ("status".into(), "required"), ("title".into(), "required")]
        );
    }
}

//! Requires fields per status of a lead, and normalises e-mail addresses and phone numbers.

mod phone;

use std::collections::BTreeMap;

use leadwire_plugin_sdk::*;

use phone::{Country, Phones};

const STATUSES: [&str; 8] = ["NEW", "CONTACTED", "QUALIFIED", "PROPOSAL", "NEGOTIATION", "WON", "LOST", "UNQUALIFIED"];
const FIELDS: [&str; 7] = ["contactName", "company", "email", "phone", "source", "valueCents", "description"];

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Required fields of a lead by status.
    required: BTreeMap<Status, Vec<Field>>,
    /// True to write e-mail addresses in lower case.
    lowercase_email: bool,
    /// Country whose phone numbers may be written without a country code.
    default_country: Option<Country>,
    invalid_phone: InvalidPhone,
}

/// Handling of an impossible phone number.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InvalidPhone {
    /// The command is refused.
    Refuse,
    /// The number is stored unchanged.
    Keep,
}

impl Default for Config {
    fn default() -> Self {
        let owned = |fields: &[&str]| fields.iter().map(|&field| Field(field.into())).collect();
        let required = [
            ("QUALIFIED", owned(&["contactName", "email"])),
            ("PROPOSAL", owned(&["contactName", "email", "valueCents"])),
            ("NEGOTIATION", owned(&["contactName", "email", "valueCents"])),
            ("WON", owned(&["contactName", "company", "email", "valueCents"])),
        ];
        let required = required.into_iter().map(|(status, fields)| (Status(status.into()), fields)).collect();
        Self { required, lowercase_email: true, default_country: None, invalid_phone: InvalidPhone::Refuse }
    }
}

struct ValidateLead {
    config: Config,
    phones: Phones,
}

impl Plugin for ValidateLead {
    type Config = Config;

    fn manifest() -> Manifest {
        let both = FIELDS.into_iter().chain(["status"]);
        Manifest::new().fields(both.flat_map(|field| [format!("/input/{field}"), format!("/context/lead/{field}")]))
    }

    fn init(config: Config) -> Result<Self, String> {
        Ok(Self { phones: Phones::new(config.default_country), config })
    }
}

impl Before for ValidateLead {
    fn commands(&self) -> Vec<String> {
        vec!["lead:create".into(), "lead:update".into()]
    }

    fn before(&self, command: &Command) -> Result<Ruling, String> {
        if let Some(refusal) = self.lacking(command) {
            return Ok(refusal.into());
        }
        Ok(self.tidied(command).map_or_else(Ruling::from, Ruling::from))
    }
}

plugin!(ValidateLead: before);

impl ValidateLead {
    /// Returns a required field that the lead would lack in its new status. A lead that already lacked the field may
    /// still be changed: only a change to that status, or removing the field, requires it.
    fn lacking(&self, command: &Command) -> Option<Refusal> {
        let status = command.after("status")?.as_str()?;
        let moves = command.lead().is_none_or(|lead| lead.status() != Some(status));
        let required = self.config.required.iter().find(|(of, _)| of.0 == status)?.1;
        let lacks = |field: &&Field| {
            let touched = command.get(&format!("/input/{}", field.0)).is_some();
            (moves || touched) && command.after(&field.0).is_none_or(is_blank)
        };
        let Field(field) = required.iter().find(lacks)?;
        let message = format!("a lead that is {status} needs {field}");
        Some(Refusal::new(format!("{}_required", snake_case(field)), message).on(field))
    }

    fn tidied(&self, command: &Command) -> Result<Amendment, Refusal> {
        let mut amendment = Amendment::new();
        if let Some(email) = command.text("/input/email") {
            let trimmed = email.trim();
            let tidy = if self.config.lowercase_email { trimmed.to_lowercase() } else { trimmed.to_owned() };
            if tidy != email {
                amendment = amendment.set("email", tidy);
            }
        }
        match changed_phone(command).map(|phone| (phone, self.phones.tidy(phone))) {
            Some((phone, Some(tidy))) if tidy != phone => Ok(amendment.set("phone", tidy)),
            Some((_, None)) if self.config.invalid_phone == InvalidPhone::Refuse => Err(self.no_such_phone()),
            _ => Ok(amendment),
        }
    }

    fn no_such_phone(&self) -> Refusal {
        let message = match self.config.default_country {
            Some(_) => "this is not a phone number; for a number of another country, start with + and its code",
            None => "this is not a phone number: start with + and the country code, as in +44 20 7946 0018",
        };
        Refusal::new("phone_invalid", message).on("phone")
    }
}

/// Phone number that the command would write, unless the lead already has it: forms also send unchanged fields.
fn changed_phone(command: &Command) -> Option<&str> {
    let phone = command.text("/input/phone").filter(|phone| !phone.trim().is_empty())?;
    let known = command.lead().and_then(leadwire_plugin_sdk::Lead::phone);
    (known != Some(phone)).then_some(phone)
}

fn is_blank(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// Converts `valueCents` to the form of codes: `value_cents`.
fn snake_case(field: &str) -> String {
    let lower = |c: char| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.into() };
    field.chars().map(lower).collect()
}

/// An existing status.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Status(String);

impl TryFrom<String> for Status {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if STATUSES.contains(&name.as_str()) {
            return Ok(Self(name));
        }
        Err(format!("unknown status `{name}`: expected one of {}", STATUSES.join(", ")))
    }
}

/// An optional field of a lead.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Field(String);

impl TryFrom<String> for Field {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if FIELDS.contains(&name.as_str()) {
            return Ok(Self(name));
        }
        Err(format!("`{name}` cannot be required: expected one of {}", FIELDS.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruled(config: Value, name: &str, input: Value, lead: Option<Value>) -> Result<Value, Refusal> {
        let plugin: ValidateLead = testing::plugin(config).expect("valid settings");
        let mut context = json!({"user": {"id": "u1", "role": "SALES"}});
        if let Some(lead) = lead {
            context["lead"] = lead;
        }
        testing::ruled(&plugin, name, &input, &context).expect("a ruling")
    }

    fn update(input: Value) -> Result<Value, Refusal> {
        ruled(json!({}), "lead:update", input, Some(testing::lead()))
    }

    fn refusal(config: Value) -> String {
        testing::plugin::<ValidateLead>(config).err().expect("refused")
    }

    #[test]
    fn a_new_lead_needs_the_fields_of_its_status() {
        let create = |input| ruled(json!({}), "lead:create", input, None);
        assert!(create(json!({"title": "Roof", "status": "NEW", "email": null})).is_ok());
        let refused = create(json!({"title": "Roof", "status": "QUALIFIED", "contactName": "Bob", "email": " "}));
        let refused = refused.expect_err("it has no e-mail address");
        assert_eq!((refused.code(), refused.field()), ("email_required", Some("email")));
        assert_eq!(refused.message(), "a lead that is QUALIFIED needs email");
    }

    #[test]
    fn stored_fields_count_as_present() {
        assert!(update(json!({"status": "WON"})).is_ok());
        let refused = update(json!({"status": "WON", "valueCents": null})).expect_err("no value");
        assert_eq!((refused.code(), refused.field()), ("value_cents_required", Some("valueCents")));
    }

    #[test]
    fn a_field_required_by_the_status_cannot_be_removed() {
        let mut lead = testing::lead();
        lead["status"] = json!("WON");
        let refused = ruled(json!({}), "lead:update", json!({"company": null}), Some(lead)).expect_err("it is won");
        assert_eq!(refused.code(), "company_required");
    }

    #[test]
    fn a_lead_with_fields_already_missing_can_still_be_changed() {
        let mut lead = testing::lead();
        (lead["status"], lead["email"]) = (json!("WON"), json!(null));
        assert!(ruled(json!({}), "lead:update", json!({"source": "fair"}), Some(lead)).is_ok());
    }

    #[test]
    fn an_email_address_is_trimmed_and_lower_cased() {
        let input = json!({"title": "Roof", "email": " Bob@Example.COM "});
        let tidy = |config| ruled(config, "lead:create", input.clone(), None).expect("accepted");
        assert_eq!(tidy(json!({})), json!({"title": "Roof", "email": "bob@example.com"}));
        assert_eq!(tidy(json!({"lowercase_email": false}))["email"], "Bob@Example.COM");
        assert_eq!(update(json!({"email": null})), Ok(json!({"email": null})));
    }

    #[test]
    fn a_phone_number_is_written_in_e164_format() {
        let tidy = |config, phone: &str| ruled(config, "lead:create", json!({"phone": phone}), None);
        let us = json!({"default_country": "US"});
        assert_eq!(tidy(us.clone(), "(202) 555-0143"), Ok(json!({"phone": "+12025550143"})));
        assert_eq!(tidy(us, "+44 20 7946 0018"), Ok(json!({"phone": "+442079460018"})));
        assert_eq!(update(json!({"phone": "+12025550143"})), Ok(json!({"phone": "+12025550143"})));
        for empty in [json!(null), json!("")] {
            assert_eq!(update(json!({"phone": empty})), Ok(json!({"phone": empty})));
        }
    }

    #[test]
    fn an_invalid_number_is_refused_or_kept_unchanged() {
        let refused = update(json!({"phone": "555"})).expect_err("too short");
        assert_eq!((refused.code(), refused.field()), ("phone_invalid", Some("phone")));
        assert!(refused.message().contains("+44 20 7946 0018"), "{}", refused.message());
        let keep = json!({"invalid_phone": "keep"});
        let amended = ruled(keep, "lead:create", json!({"phone": "555", "email": "A@b.example"}), None);
        assert_eq!(amended, Ok(json!({"phone": "555", "email": "a@b.example"})));
    }

    #[test]
    fn an_invalid_stored_number_does_not_block_other_changes() {
        let mut lead = testing::lead();
        lead["phone"] = json!("555");
        let patch = json!({"phone": "555", "title": "Barn"});
        assert_eq!(ruled(json!({}), "lead:update", patch.clone(), Some(lead)), Ok(patch));
    }

    #[test]
    fn other_commands_are_accepted() {
        let plugin: ValidateLead = testing::plugin(json!({})).expect("valid settings");
        for name in ["lead:delete", "lead:assign", "activity:create"] {
            assert_eq!(testing::ruled(&plugin, name, &json!({}), &json!({})), Ok(Ok(json!({}))), "{name}");
        }
    }

    #[test]
    fn a_mistyped_status_field_or_key_is_refused_by_name() {
        assert!(refusal(json!({"required": {"WIN": []}})).contains("unknown status `WIN`"));
        assert!(refusal(json!({"required": {"WON": ["emial"]}})).contains("`emial` cannot be required"));
        assert!(refusal(json!({"default_country": "UK"})).contains("unknown country `UK`"));
        assert!(refusal(json!({"invalid_phone": "drop"})).contains("expected `refuse` or `keep`"));
        assert!(refusal(json!({"require": {}})).contains("unknown field `require`"));
    }
}

//! Hides contact data from the roles that should not see it.
//!
//! It reads no fields: its verdict depends only on its settings, so `init` turns them into edits once.

use leadwire_plugin_sdk::*;

const ROLES: [&str; 4] = ["ADMIN", "MANAGER", "SALES", "VIEWER"];

/// Fields of a lead that may be hidden. Clients need `id` and `version`.
const FIELDS: [&str; 12] = [
    "contactName",
    "company",
    "email",
    "phone",
    "source",
    "valueCents",
    "currency",
    "description",
    "custom",
    "owner",
    "createdBy",
    "lastActivityAt",
];

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    roles: Vec<String>,
    fields: Vec<String>,
    mask: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { roles: owned(&["VIEWER"]), fields: owned(&["email", "phone", "valueCents"]), mask: None }
    }
}

struct RedactContact {
    roles: Vec<String>,
    edits: Vec<Edit>,
}

impl Plugin for RedactContact {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new().events(["*"])
    }

    fn init(config: Config) -> Result<Self, String> {
        if let Some((at, role)) = config.roles.iter().enumerate().find(|(_, role)| !ROLES.contains(&role.as_str())) {
            return Err(format!("config.roles[{at}]: unknown role `{role}`; expected one of {}", ROLES.join(", ")));
        }
        let edit = |pointer: String| match &config.mask {
            Some(text) => Edit::mask(pointer, text.as_str()),
            None => Edit::remove(pointer),
        };
        let edits = config.fields.iter().enumerate().map(|(at, field)| Ok(edit(pointer(at, field)?)));
        Ok(Self { edits: edits.collect::<Result<_, String>>()?, roles: config.roles })
    }
}

impl Filter for RedactContact {
    fn hides(&self) -> Hides {
        let pointers = || self.edits.iter().map(Edit::pointer);
        self.roles.iter().fold(Hides::nothing(), |hides, role| hides.from(role, pointers()))
    }

    fn filter(&self, _event: &Event, role: &str) -> Result<Verdict, String> {
        let hidden = self.roles.iter().any(|hidden| hidden == role);
        Ok(if hidden { Verdict::everyone().edits(self.edits.clone()) } else { Verdict::everyone() })
    }
}

plugin!(RedactContact: filter);

/// Checks names, because a mistyped name would silently hide nothing; a path is used unchanged.
fn pointer(at: usize, field: &str) -> Result<String, String> {
    if FIELDS.contains(&field) {
        return Ok(format!("/lead/{field}"));
    }
    if field.len() > 1 && field.starts_with('/') {
        return Ok(format!("/lead{field}"));
    }
    Err(format!(
        "config.fields[{at}]: `{field}` is no field of a lead that can be hidden; expected one of {}, or a path below \
         the lead such as `/custom/region`",
        FIELDS.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(config: Value) -> RedactContact {
        testing::plugin(config).expect("valid settings")
    }

    fn sent(plugin: &RedactContact, name: &str, payload: Value, role: &str) -> Value {
        let context = json!({"lead": testing::lead()});
        let (audience, sent) = testing::filtered(plugin, name, &payload, &context, role).expect("a verdict");
        assert_eq!(audience, Audience::Everyone);
        sent
    }

    fn refusal(config: Value) -> String {
        testing::plugin::<RedactContact>(config).err().expect("refused")
    }

    #[test]
    fn a_viewer_sees_no_email_phone_or_value_in_any_event() {
        let plugin = redact(json!({}));
        for name in ["lead:created", "lead:updated", "lead:assigned", "lead:read"] {
            let lead = sent(&plugin, name, json!({"lead": testing::lead()}), "VIEWER");
            for field in ["email", "phone", "valueCents"] {
                assert_eq!(lead["lead"].get(field), None, "{field} in {name}");
            }
            assert_eq!(lead["lead"]["title"], "New roof");
        }
    }

    #[test]
    fn no_lead_of_any_shape_shows_a_viewer_what_is_hidden() {
        for plugin in [redact(json!({})), redact(json!({"mask": "hidden"}))] {
            for pointer in ["/lead/email", "/lead/phone", "/lead/valueCents"] {
                assert_eq!(testing::check_hidden(&plugin, "VIEWER", pointer), Ok(()));
            }
            assert!(testing::check_hidden(&plugin, "SALES", "/lead/email").is_err());
        }
    }

    #[test]
    fn the_other_roles_see_everything() {
        let (plugin, payload) = (redact(json!({})), json!({"lead": testing::lead()}));
        for role in ["ADMIN", "MANAGER", "SALES"] {
            assert_eq!(sent(&plugin, "lead:updated", payload.clone(), role), payload);
        }
    }

    #[test]
    fn roles_and_fields_are_configurable_and_hides_follows() {
        let plugin = redact(json!({"roles": ["SALES", "VIEWER"], "fields": ["company", "/custom/region"]}));
        let mut lead = testing::lead();
        lead["custom"] = json!({"region": "north", "size": 3});
        for role in ["SALES", "VIEWER"] {
            let sent = sent(&plugin, "lead:read", json!({"lead": lead}), role);
            assert_eq!((sent["lead"].get("company"), &sent["lead"]["custom"]), (None, &json!({"size": 3})));
            assert!(sent["lead"].get("email").is_some());
            assert!(plugin.hides().covers(role, "/lead/custom/region"));
        }
        assert!(!plugin.hides().covers("ADMIN", "/lead/company"));
    }

    #[test]
    fn a_mask_replaces_the_value() {
        let plugin = redact(json!({"fields": ["email"], "mask": "hidden"}));
        let sent = sent(&plugin, "lead:read", json!({"lead": testing::lead()}), "VIEWER");
        assert_eq!(sent["lead"]["email"], "hidden");
    }

    #[test]
    fn a_mistyped_role_field_or_key_is_refused_by_name() {
        assert!(refusal(json!({"roles": ["VIEWR"]})).starts_with("config.roles[0]: unknown role `VIEWR`"));
        assert!(refusal(json!({"fields": ["email", "emial"]})).starts_with("config.fields[1]: `emial` is no field"));
        assert!(refusal(json!({"field": ["email"]})).contains("unknown field `field`"));
        assert_eq!(
            refusal(json!({"roles": "VIEWER"})),
            "config.roles: invalid type: string \"VIEWER\", expected a sequence"
        );
    }
}

//! Posts selected fields of selected events to another system, signed by the host.

use http::Uri;
use leadwire_plugin_sdk::*;

/// Top-level members of all events.
const ROOTS: [&str; 11] = [
    "/lead",
    "/leadId",
    "/previousOwnerId",
    "/restored",
    "/changes",
    "/activity",
    "/activityId",
    "/createdBy",
    "/updatedBy",
    "/deletedBy",
    "/assignedBy",
];

/// Default fields: actor, change and lead, but no personal data of the contact.
const USUAL: [&str; 15] = [
    "/lead/id",
    "/lead/title",
    "/lead/status",
    "/lead/owner",
    "/lead/version",
    "/leadId",
    "/previousOwnerId",
    "/changes",
    "/activity/id",
    "/activity/type",
    "/activityId",
    "/createdBy",
    "/updatedBy",
    "/deletedBy",
    "/assignedBy",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// URL to which events are posted.
    url: String,
    /// Event names, `lead:*` or `*`.
    #[serde(default = "all_events")]
    events: Vec<String>,
    /// Fields of each event that are sent, as JSON Pointers.
    #[serde(default = "usual_fields")]
    fields: Vec<String>,
}

fn all_events() -> Vec<String> {
    ["lead:*", "activity:*"].map(Into::into).into()
}

fn usual_fields() -> Vec<String> {
    USUAL.map(Into::into).into()
}

struct AuditWebhook {
    config: Config,
    /// Host of the URL, with its port if given: the operator must grant it.
    host: String,
}

impl Plugin for AuditWebhook {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new().fields(ROOTS)
    }

    fn init(config: Config) -> Result<Self, String> {
        let host = host_of(&config.url).ok_or_else(|| {
            format!("config.url is {:?}: expected a URL such as https://hooks.example.com/leads", config.url)
        })?;
        if config.events.is_empty() {
            return Err("config.events must name at least one event".into());
        }
        for (index, field) in config.fields.iter().enumerate() {
            let below =
                |root: &&str| field.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if !ROOTS.iter().any(below) {
                let roots = ROOTS.join(", ");
                return Err(format!(
                    "config.fields[{index}] is {field:?}: expected one of {roots}, or a pointer below"
                ));
            }
        }
        Ok(Self { config, host })
    }
}

impl After for AuditWebhook {
    fn wants(&self) -> Wants {
        Wants::events(&self.config.events).to_call([&self.host])
    }

    fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {
        let event = occasion.event();
        let mut data = json!({"seq": occasion.seq()});
        for field in &self.config.fields {
            if let Some(value) = event.get(field) {
                put(&mut data, field, value);
            }
        }
        // Standard Webhooks separates the words of a type with full stops.
        Ok(Effect::webhook(&self.config.url, event.name().replace(':', "."), data).into())
    }
}

plugin!(AuditWebhook: after);

/// Returns the host with its port, if given. A user name or password is not part of it, and the host refuses it.
fn host_of(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let host = url.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    let is_web = matches!(url.scheme_str(), Some("https" | "http"));
    let has_user = url.authority()?.as_str().contains('@');
    (is_web && !has_user).then(|| url.port_u16().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

/// Writes the value to its path in the event.
fn put(data: &mut Value, pointer: &str, value: &Value) {
    let mut place = data;
    for key in pointer.split('/').skip(1) {
        let key = key.replace("~1", "/").replace("~0", "~");
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = value.clone();
}

#[cfg(test)]
mod tests {
    use leadwire_plugin_sdk::testing::Follower;

    use super::*;

    const URL: &str = "https://Hooks.example.com:8443/in?team=7";

    fn posted(config: Value, name: &str, payload: &Value) -> Effect {
        let mut follower = Follower::<AuditWebhook>::new(testing::plugin(config).expect("valid settings"));
        let mut effects = follower.tell(name, payload, &json!({"lead": testing::lead()})).expect("answers");
        assert_eq!(effects.len(), 1, "{effects:?}");
        effects.remove(0)
    }

    fn refusal(config: Value) -> String {
        testing::plugin::<AuditWebhook>(config).err().expect("refused")
    }

    #[test]
    fn an_event_is_posted_with_the_fields_that_were_chosen() {
        let fields = ["/lead/id", "/lead/owner/email", "/changes", "/lead/nothing"];
        let payload = json!({"lead": testing::lead(), "changes": ["status"], "updatedBy": {"id": "u1"}});
        let effect = posted(json!({"url": URL, "fields": fields}), "lead:updated", &payload);
        assert_eq!((effect.get("/url"), effect.get("/type")), (Some(&json!(URL)), Some(&json!("lead.updated"))));
        let data = effect.get("/data").expect("data");
        let owner = json!({"email": "ann@example.com"});
        assert_eq!(data["lead"], json!({"id": testing::lead()["id"], "owner": owner}));
        assert_eq!(data["changes"], json!(["status"]));
        assert!(data["seq"].is_number() && data.get("updatedBy").is_none(), "{data}");
    }

    #[test]
    fn default_fields_contain_no_personal_data() {
        let payload = json!({"lead": testing::lead(), "createdBy": {"id": "u1"}});
        let effect = posted(json!({"url": URL}), "lead:created", &payload);
        let data = effect.get("/data").expect("data").to_string();
        assert!(data.contains("New roof") && data.contains("u1"), "{data}");
        for personal in ["bob@miller.example", "555 0100", "Bob Miller", "Miller & Sons"] {
            assert!(!data.contains(personal), "{data}");
        }
        let payload = json!({"activity": testing::activity(), "leadId": "l1"});
        let data = posted(json!({"url": URL}), "activity:created", &payload).get("/data").expect("data").to_string();
        assert!(data.contains("CALL") && !data.contains("Call back"), "{data}");
    }

    #[test]
    fn overlapping_pointers_and_pointers_into_lists_are_safe() {
        let fields = ["/changes/0", "/changes", "/changes/1", "/lead", "/lead/id"];
        let payload = json!({"lead": testing::lead(), "changes": ["status", "title"]});
        let effect = posted(json!({"url": URL, "fields": fields}), "lead:updated", &payload);
        assert_eq!(effect.get("/data/lead"), Some(&testing::lead()));
        assert_eq!(effect.get("/data/changes"), Some(&json!({"1": "title"})));
    }

    #[test]
    fn it_wants_its_events_and_the_host_of_its_url() {
        let plugin: AuditWebhook = testing::plugin(json!({"url": URL, "events": ["lead:deleted"]})).expect("valid");
        assert_eq!(plugin.wants(), Wants::events(["lead:deleted"]).to_call(["hooks.example.com:8443"]));
        assert_eq!(host_of("http://[::1]/in").as_deref(), Some("[::1]"));
    }

    #[test]
    fn invalid_settings_are_refused_by_name() {
        for url in ["", "hooks.example.com", "/in", "ftp://a.example/", "https://user:pass@a.example/"] {
            assert!(refusal(json!({"url": url})).contains("config.url"), "{url}");
        }
        assert!(refusal(json!({"url": URL, "events": []})).contains("config.events"));
        assert!(
            refusal(json!({"url": URL, "fields": ["/changes", "/leads"]})).contains("config.fields[1] is \"/leads\"")
        );
        assert!(refusal(json!({"url": URL, "fields": [""]})).contains("config.fields[0]"));
        assert!(refusal(json!({"url": URL, "feilds": []})).contains("unknown field `feilds`"));
        assert!(refusal(json!({})).contains("url"));
    }
}

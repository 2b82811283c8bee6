//! Test helpers: call hooks natively, under `cargo test`, the way the host does.

mod follower;
mod laws;
mod recorded;

use std::cell::Cell;

use serde_json::{Value, json};

use crate::{
    Before, Command, Edit, Event, Filter, Plugin, Refusal, Ruling, Subject, Timestamp, Verdict,
    command::names,
    event::{find_mut, owned, unescape},
    hook::from_config,
};

pub use follower::Follower;
pub use laws::{check_filter, check_hidden};
pub use recorded::{Recorded, recorded};

thread_local! {
    static CLOCK: Cell<Option<f64>> = const { Cell::new(None) };
}

/// Creates the plugin from settings, parsed like the host does.
///
/// # Errors
///
/// The text that an operator would get.
///
/// ```
/// # use leadwire_plugin_sdk::{Manifest, NoConfig, Plugin, json, testing};
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new() }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// assert!(testing::plugin::<Mine>(json!({})).is_ok());
/// ```
pub fn plugin<P: Plugin>(config: Value) -> Result<P, String> {
    P::init(from_config(config)?)
}

/// Event as `P` would see it: of payload and context, only what its manifest declares.
///
/// `context` is the data that the host adds: `{"lead": …, "before": …}`.
///
/// ```
/// # use leadwire_plugin_sdk::{Manifest, NoConfig, Plugin, json, testing};
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new().fields(["/lead/status"]) }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// let lead = testing::lead();
/// let event = testing::event::<Mine>("lead:read", &json!({"lead": lead}), &json!({"lead": lead}));
/// assert_eq!(event.text("/lead/status"), Some("NEW")); // declared
/// assert_eq!(event.text("/lead/email"), None); // not declared
/// ```
pub fn event<P: Plugin>(name: &str, payload: &Value, context: &Value) -> Event {
    let manifest = P::manifest();
    let whole = manifest.whole_payload.then(|| payload.clone());
    Event::new(name.to_owned(), whole, owned(declared(&manifest.fields, payload, context)))
}

/// User as `P` would see them: of user and lead, only what its manifest declares.
///
/// ```
/// # use leadwire_plugin_sdk::{Manifest, NoConfig, Plugin, json, testing};
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new().fields(["/context/lead/status"]) }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// let who = testing::subject::<Mine>(&json!({"id": "u1", "role": "SALES"}), Some(&testing::lead()));
/// assert_eq!((who.user_id(), who.role()), ("u1", "SALES"));
/// assert_eq!(who.lead().unwrap().status(), Some("NEW"));
/// ```
pub fn subject<P: Plugin>(user: &Value, lead: Option<&Value>) -> Subject {
    let mut context = json!({"user": user});
    if let Some(lead) = lead {
        context["lead"] = lead.clone();
    }
    let text = |name: &str| user[name].as_str().unwrap_or_default().to_owned();
    Subject::from_fields(text("id"), text("role"), declared(&P::manifest().fields, &Value::Null, &context))
}

/// Command as `P` would see it: of input and context, only what its manifest declares.
///
/// `context` is the data that the host adds: `{"user": …, "lead": …, "activity": …}`.
///
/// ```
/// # use leadwire_plugin_sdk::{Manifest, NoConfig, Plugin, json, testing};
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new().fields(["/input/email"]) }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// let context = json!({"user": {"id": "u1", "role": "SALES"}});
/// let command = testing::command::<Mine>("lead:create", &json!({"title": "Roof", "email": "a@b.example"}), &context);
/// assert_eq!((command.role(), command.text("/input/email")), ("SALES", Some("a@b.example")));
/// assert_eq!(command.text("/input/title"), None); // not declared
/// ```
pub fn command<P: Plugin>(name: &str, input: &Value, context: &Value) -> Command {
    let text = |name: &str| context["user"][name].as_str().unwrap_or_default().to_owned();
    let fields = P::manifest().fields;
    Command::from_fields(name, text("id"), text("role"), declared(&fields, &json!({"input": input}), context))
}

/// Input with which a command would run, or the refusal: asks the plugin if it wants to be asked about such a command,
/// and applies its amendments. Only the server knows if the result is valid.
///
/// # Errors
///
/// The plugin's own error; or, as the host would report it, that its refusal is invalid.
///
/// ```
/// # use leadwire_plugin_sdk::{*, json, testing};
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new().fields(["/input/source"]) }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// # impl Before for Mine {
/// #     fn before(&self, command: &Command) -> Result<Ruling, String> {
/// #         Ok(match command.text("/input/source") {
/// #             Some(_) => Ruling::Accept,
/// #             None => Amendment::new().set("source", "web").into(),
/// #         })
/// #     }
/// # }
/// let ruled = testing::ruled(&Mine, "lead:create", &json!({"title": "Roof"}), &json!({})).unwrap();
/// assert_eq!(ruled, Ok(json!({"title": "Roof", "source": "web"})));
/// ```
pub fn ruled<P: Before>(
    plugin: &P,
    name: &str,
    input: &Value,
    context: &Value,
) -> Result<Result<Value, Refusal>, String> {
    if !plugin.commands().iter().any(|pattern| names(pattern, name)) {
        return Ok(Ok(input.clone()));
    }
    let ruling = plugin.before(&command::<P>(name, input, context))?;
    ruling.check()?;
    match ruling {
        Ruling::Accept => Ok(Ok(input.clone())),
        Ruling::Amend(amendment) => Ok(Ok(edited(json!({"input": input}), amendment.edits())["input"].take())),
        Ruling::Refuse(refusal) => Ok(Err(refusal)),
    }
}

/// Payload that clients of a role would get, and their audience: asks the filter, and applies its edits.
///
/// # Errors
///
/// The filter's own error; or, as the host would report it, that it edits a field that `hides` does not list.
///
/// ```
/// # use leadwire_plugin_sdk::{*, json, testing};
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new() }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// # impl Filter for Mine {
/// #     fn hides(&self) -> Hides { Hides::nothing().from("VIEWER", ["/lead/email"]) }
/// #     fn filter(&self, _: &Event, _: &str) -> Result<Verdict, String> { Ok(Verdict::everyone().remove("/lead/email")) }
/// # }
/// let lead = testing::lead();
/// let (audience, sent) = testing::filtered(&Mine, "lead:read", &json!({"lead": lead}), &json!({"lead": lead}), "VIEWER").unwrap();
/// assert_eq!(audience, Audience::Everyone);
/// assert!(sent["lead"].get("email").is_none());
/// ```
pub fn filtered<P: Filter>(
    plugin: &P,
    name: &str,
    payload: &Value,
    context: &Value,
    role: &str,
) -> Result<(crate::Audience, Value), String> {
    let verdict = plugin.filter(&event::<P>(name, payload, context), role)?;
    verdict.check()?;
    let Verdict { audience, edits } = verdict;
    let hides = plugin.hides();
    hides.check()?;
    if let Some(edit) = edits.iter().find(|edit| !hides.covers(role, edit.pointer())) {
        return Err(format!("the filter edits {} for {role}, which its hides does not list", edit.pointer()));
    }
    Ok((audience, edited(payload.clone(), &edits)))
}

/// Payload after these edits, applied in the host's order.
///
/// ```
/// use leadwire_plugin_sdk::{Edit, json, testing};
///
/// let edits = [Edit::remove("/lead/a"), Edit::set("/lead/a", 1), Edit::remove("/activity/body")];
/// assert_eq!(testing::edited(json!({"lead": {}}), &edits), json!({"lead": {}}));
/// ```
pub fn edited(mut payload: Value, edits: &[Edit]) -> Value {
    let rank = |edit: &&Edit| match edit {
        Edit::Set { .. } => 0,
        Edit::Mask { .. } => 1,
        Edit::Remove { .. } => 2,
    };
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(rank);
    for edit in edits {
        apply(&mut payload, edit);
    }
    payload
}

fn apply(payload: &mut Value, edit: &Edit) {
    let Some((parent, key)) = edit.pointer().rsplit_once('/') else { return };
    let key = unescape(key);
    match edit {
        Edit::Remove { .. } => match find_mut(payload, parent) {
            Some(Value::Object(members)) => drop(members.shift_remove(key.as_ref())),
            Some(Value::Array(items)) => {
                if let Some(index) = key.parse().ok().filter(|&index: &usize| index < items.len()) {
                    items.remove(index);
                }
            }
            _ => {}
        },
        Edit::Mask { pointer, text } => {
            if let Some(value) = find_mut(payload, pointer) {
                *value = text.as_str().into();
            }
        }
        Edit::Set { pointer, value } => {
            if let Some(Value::Object(members)) = find_mut(payload, parent) {
                members.insert(key.into_owned(), value.clone());
            } else if let Some(place) = find_mut(payload, pointer) {
                *place = value.clone();
            }
        }
    }
}

/// Stops the clock of this test's thread at `now`.
///
/// ```
/// use leadwire_plugin_sdk::{Timestamp, host, testing};
///
/// let noon = Timestamp::parse("2026-06-01T12:00:00Z").unwrap();
/// testing::at(noon);
/// assert_eq!(host::now(), noon);
/// ```
pub fn at(now: Timestamp) {
    CLOCK.set(Some(now.millis() as f64));
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn stopped_clock() -> Option<f64> {
    CLOCK.get()
}

/// Sample lead with every member, as a starting point.
///
/// ```
/// use leadwire_plugin_sdk::{json, testing};
///
/// let mut lead = testing::lead();
/// lead["status"] = json!("WON");
/// assert_eq!(lead["title"], "New roof");
/// ```
pub fn lead() -> Value {
    let ann = json!({"id": "01980000-0000-7000-8000-0000000000aa", "name": "Ann", "email": "ann@example.com"});
    json!({
        "id": "01980000-0000-7000-8000-000000000001",
        "title": "New roof",
        "status": "NEW",
        "contactName": "Bob Miller",
        "company": "Miller & Sons",
        "email": "bob@miller.example",
        "phone": "+1 555 0100",
        "source": "fair",
        "valueCents": 1_250_000,
        "currency": "USD",
        "description": "Wants a quote by June.",
        "custom": {},
        "owner": ann,
        "createdBy": ann,
        "lastActivityAt": "2026-01-15T09:30:00.000Z",
        "version": 3,
        "rev": 5,
        "createdAt": "2026-01-01T08:00:00.000Z",
        "updatedAt": "2026-01-15T09:30:00.000Z",
    })
}

/// Sample activity with every member, about [`lead`].
///
/// ```
/// use leadwire_plugin_sdk::testing;
///
/// assert_eq!(testing::activity()["leadId"], testing::lead()["id"]);
/// ```
pub fn activity() -> Value {
    let lead = lead();
    json!({
        "id": "01980000-0000-7000-8000-000000000002",
        "leadId": lead["id"],
        "type": "CALL",
        "body": "Call back on Monday.",
        "dueAt": null,
        "completedAt": "2026-01-15T09:30:00.000Z",
        "meta": {"minutes": 4},
        "creator": lead["owner"],
        "createdAt": "2026-01-15T09:30:00.000Z",
        "updatedAt": "2026-01-15T09:30:00.000Z",
    })
}

fn declared<'a>(fields: &'a [String], payload: &Value, context: &Value) -> Vec<(&'a str, Value)> {
    let find = |pointer: &str| match pointer.strip_prefix("/context") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => context.pointer(rest).cloned(),
        _ => payload.pointer(pointer).cloned(),
    };
    fields.iter().filter_map(|pointer| Some((pointer.as_str(), find(pointer)?))).collect()
}

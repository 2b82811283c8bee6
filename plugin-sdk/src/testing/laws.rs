//! Laws that hold for every filter, checked with many events: recorded ones, and variants in which a member is missing,
//! empty or of another type.

use serde_json::{Value, json};

use super::{
    event, filtered,
    recorded::{Recorded, recorded},
};
use crate::{Audience, Filter, command::names};

const ROLES: [&str; 4] = ["ADMIN", "MANAGER", "SALES", "VIEWER"];

/// Asks a filter about the events that a real server [recorded](super::recorded), for every role that it wants to be
/// asked about, and about variants of each kind of event with one member changed.
///
/// # Errors
///
/// When the filter fails to answer, gives two answers to one question, or makes an edit that the host would refuse. The
/// text names the event, the role and the problem.
///
/// ```
/// # use leadwire_plugin_sdk::{*, json, testing};
/// struct NoPhones;
/// # impl Plugin for NoPhones {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new().events(["*"]).roles(["VIEWER"]) }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
///
/// impl Filter for NoPhones {
///     fn filter(&self, _: &Event, _: &str) -> Result<Verdict, String> {
///         Ok(Verdict::everyone().remove("/lead/phone"))
///     }
/// }
///
/// let error = testing::check_filter(&NoPhones).unwrap_err();
/// assert_eq!(error, "lead:created for VIEWER: the filter edits /lead/phone for VIEWER, which its hides does not list");
/// ```
pub fn check_filter<P: Filter>(plugin: &P) -> Result<(), String> {
    plugin.hides().check()?;
    for Recorded { name, payload, context } in cases().into_iter().filter(|case| wants::<P>(&case.name)) {
        for role in roles::<P>() {
            let ask = || plugin.filter(&event::<P>(&name, &payload, &context), &role);
            let failed = |what: String| format!("{name} for {role}: {what}");
            let verdict = ask().map_err(failed)?;
            filtered(plugin, &name, &payload, &context, &role).map_err(failed)?;
            if ask() != Ok(verdict) {
                return Err(failed("the same question got two different answers".into()));
            }
        }
    }
    Ok(())
}

/// Checks that a role is never shown the value at a pointer, whatever the event and its other members.
///
/// # Errors
///
/// When somebody of the role would be sent the value itself, or a text in its place that contains it; and every error
/// of [`check_filter`].
///
/// ```
/// # use leadwire_plugin_sdk::{*, json, testing};
/// struct NoPhones;
/// # impl Plugin for NoPhones {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new().events(["*"]).roles(["VIEWER"]) }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
///
/// impl Filter for NoPhones {
///     fn hides(&self) -> Hides {
///         Hides::nothing().from("VIEWER", ["/lead/phone"])
///     }
///     fn filter(&self, event: &Event, _: &str) -> Result<Verdict, String> {
///         // Forgets the answers to reads.
///         let edit = event.name() != "lead:read";
///         Ok(if edit { Verdict::everyone().remove("/lead/phone") } else { Verdict::everyone() })
///     }
/// }
///
/// let error = testing::check_hidden(&NoPhones, "VIEWER", "/lead/phone").unwrap_err();
/// assert_eq!(error, "lead:read for VIEWER: /lead/phone is shown: \"+1 555 0199\"");
/// ```
pub fn check_hidden<P: Filter>(plugin: &P, role: &str, pointer: &str) -> Result<(), String> {
    check_filter(plugin)?;
    if !roles::<P>().iter().any(|asked| asked == role) {
        return Err(format!("{role}: the manifest does not list that role"));
    }
    let mut looked = false;
    for Recorded { name, payload, context } in cases() {
        let Some(value) = payload.pointer(pointer).filter(|value| !value.is_null()) else { continue };
        looked = true;
        if !wants::<P>(&name) {
            return Err(format!(
                "{name} for {role}: {pointer} is shown, because the manifest does not list that event"
            ));
        }
        let (audience, sent) = filtered(plugin, &name, &payload, &context, role)?;
        let survives = |shown: &Value| match (value, shown) {
            (Value::String(value), Value::String(shown)) => !value.is_empty() && shown.contains(value.as_str()),
            _ => value == shown,
        };
        let nobody = matches!(&audience, Audience::Nobody(_)) || audience == Audience::Only(Vec::new());
        if !nobody && sent.pointer(pointer).is_some_and(survives) {
            return Err(format!("{name} for {role}: {pointer} is shown: {value}"));
        }
    }
    if looked { Ok(()) } else { Err(format!("{pointer} is in no event")) }
}

fn wants<P: Filter>(name: &str) -> bool {
    // A plugin that wants any event about a lead is asked about its reads as well.
    let noun = name.strip_suffix("read");
    let tells = |pattern: &str| pattern != "lead:viewers" && noun.is_some_and(|noun| pattern.starts_with(noun));
    P::manifest().events.iter().any(|pattern| names(pattern, name) || tells(pattern))
}

fn roles<P: Filter>() -> Vec<String> {
    let asked = P::manifest().roles;
    if asked.is_empty() { ROLES.map(str::to_owned).to_vec() } else { asked }
}

/// All recorded events, and the first of each kind with every variant of its lead or activity.
fn cases() -> Vec<Recorded> {
    let mut cases: Vec<Recorded> = recorded();
    let mut kinds: Vec<Recorded> = Vec::new();
    for event in &cases {
        if !kinds.iter().any(|kind| kind.name == event.name) {
            kinds.push(event.clone());
        }
    }
    for kind in kinds {
        for noun in ["lead", "activity"].into_iter().filter(|noun| kind.payload[noun].is_object()) {
            for item in variants(kind.payload[noun].clone()) {
                let mut case = kind.clone();
                if noun == "lead" && case.context.is_object() {
                    case.context["lead"] = item.clone();
                }
                case.payload[noun] = item;
                cases.push(case);
            }
        }
    }
    cases
}

/// For each member: the object without it, and with a value of each type in its place.
fn variants(item: Value) -> Vec<Value> {
    let keys: Vec<String> = item.as_object().map(|members| members.keys().cloned().collect()).unwrap_or_default();
    let mut variants = Vec::new();
    for key in &keys {
        let mut without = item.clone();
        if let Some(members) = without.as_object_mut() {
            members.remove(key);
        }
        variants.push(without);
        for value in [Value::Null, json!(""), json!("öä@x.example"), json!(-7), json!({"id": "u9"}), json!(["a"])] {
            let mut changed = item.clone();
            changed[key.as_str()] = value;
            variants.push(changed);
        }
    }
    variants.push(json!({}));
    variants
}

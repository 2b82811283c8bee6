//! `authorize` hooks: a plugin may deny a user who connects or subscribes to a room.
//!
//! A denial wins. A plugin that fails closed makes the decision unavailable, unless another plugin denies.

use serde_json::Value;

use crate::{
    domain::{room::Room, user::User},
    plugin::{
        active::set::{Set, SetMember},
        contract::answer::{Decision, Unavailable},
        hooks::facts::{Facts, Sources},
        wasm::bindings::UserQuestion,
    },
};

/// Asks the plugins if this user may connect, or subscribe to `room`.
pub(crate) fn authorize(
    set: &Set,
    user: &User,
    room: Option<&Room>,
    lead: Option<&Value>,
) -> Result<Decision, Unavailable> {
    if set.authorizers().next().is_none() {
        return Ok(Decision::Allow);
    }
    let (id, room) = (user.id.to_string(), room.map(Room::to_string));
    let user_json = serde_json::to_value(user).expect("a user is plain JSON");
    let nothing = Value::Null;
    let sources = Sources { payload: &nothing, lead, before: None, user: Some(&user_json), activity: None };
    let mut facts = Facts::new(set, sources);
    let mut failing = None;
    for member in set.authorizers() {
        let decision = match member {
            SetMember::Absent(absent) => Err(absent.unavailable()),
            SetMember::Working(working) => {
                let fields = facts.fields(working);
                let who = UserQuestion { user_id: &id, role: user.role, fields: &fields };
                let decision = match &room {
                    Some(room) => working.plugin.subscribe(&who, room),
                    None => working.plugin.connect(&who),
                };
                decision.or_else(
                    |unavailable| if working.plugin.is_closed() { Err(unavailable) } else { Ok(Decision::Allow) },
                )
            }
        };
        match decision {
            Ok(Decision::Allow) => {}
            Ok(Decision::Deny(reason)) => return Ok(Decision::Deny(reason)),
            Err(unavailable) => failing = failing.or(Some(unavailable)),
        }
    }
    failing.map_or(Ok(Decision::Allow), Err)
}

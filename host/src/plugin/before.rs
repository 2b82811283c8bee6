//! What plugins say of a command before it runs.
//!
//! They are asked one after the other, in their operators' order, and each sees what those before it made of the
//! input. A refusal ends it. One that cannot say, or whose amendment is not valid, keeps the command from running.

use serde_json::{Map, Value, json};

use super::{
    bindings::Asked,
    pipeline::{Facts, Sources, Unavailable},
    pointer::{self, Edit},
    set::{Member, Set},
};
use crate::domain::{role::Role, user::User};

/// Where plugins find the input, and all that they may change.
pub(super) const INPUT: &str = "/input";

/// A command that nobody has carried out yet.
pub struct Question<'a> {
    /// As `Command::name` has it.
    pub name: &'a str,
    pub user: &'a User,
    pub input: Map<String, Value>,
    /// The lead that it is about, as it is.
    pub lead: Option<&'a Value>,
    /// The activity that it is about, as it is.
    pub activity: Option<&'a Value>,
}

/// What all plugins together say.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    Accepted,
    /// To be carried out with another input; `by` is the plugin that had the last word on it.
    Amended {
        input: Map<String, Value>,
        by: String,
    },
    Refused(Refusal),
}

/// Why not, for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Snake_case, and never one of the server's own.
    pub code: String,
    pub message: String,
    /// The member of the input that is to blame.
    pub field: Option<String>,
}

/// The codes that the server itself answers with; so is every other one that ends with `_not_found`.
const OWN_CODES: &[&str] = &[
    "database_corrupt",
    "database_unavailable",
    "field_hidden",
    "forbidden",
    "idempotency_key_reused",
    "internal",
    "invalid",
    "invalid_credentials",
    "invalid_query",
    "malformed",
    "method_not_allowed",
    "not_explained",
    "not_found",
    "not_in_force",
    "nothing_before",
    "nothing_held",
    "other_held",
    "other_in_force",
    "payload_too_large",
    "plugin_unavailable",
    "rate_limited",
    "refresh_token_reused",
    "request_timeout",
    "timeout",
    "unauthenticated",
    "unavailable",
    "unknown_event",
    "unsupported_media_type",
    "version_conflict",
];

/// Whether the server itself answers with this code: clients act on it, so that no plugin may use it as it is.
pub fn is_own_code(code: &str) -> bool {
    OWN_CODES.contains(&code) || code.ends_with("_not_found")
}

/// The code of a plugin's refusal as clients get it: `plugin_forbidden` where the plugin said `forbidden`.
pub(super) fn distinct(code: String) -> String {
    if is_own_code(&code) { format!("plugin_{code}") } else { code }
}

impl Refusal {
    /// The field that is to blame, as a list of faulty fields has it.
    pub fn errors(&self) -> Option<Value> {
        let Self { code, message, field } = self;
        field.as_ref().map(|field| json!([{"field": field, "code": code, "message": message}]))
    }
}

/// What one plugin says, checked by itself.
pub(super) enum Answered {
    Accept,
    Amend(Vec<Edit>),
    Refuse(Refusal),
}

/// What one plugin's answer means.
enum Step {
    Same,
    Changed(Value),
    Refused(Refusal),
}

pub(super) fn run(
    set: &Set,
    question: &Question<'_>,
    check: impl Fn(&Map<String, Value>) -> Result<(), String>,
) -> Result<Ruling, Unavailable> {
    let (id, user) = (question.user.id.to_string(), serde_json::to_value(question.user).expect("a user is plain JSON"));
    let mut document = json!({"input": question.input});
    let mut by = None;
    for member in set.guards(question.name) {
        // A plugin that does something by an effect has said already what it thinks of it.
        if question.user.role == Role::Plugin && question.user.name == member.name() {
            continue;
        }
        let working = match member {
            Member::Working(working) => working,
            Member::Absent(absent) => return Err(absent.unavailable()),
        };
        let (lead, activity) = (question.lead, question.activity);
        let sources = Sources { payload: &document, lead, before: None, user: Some(&user), activity };
        let mut facts = Facts::new(set, sources);
        let asked =
            Asked { name: question.name, user_id: &id, role: question.user.role, fields: &facts.fields(working) };
        match working.plugin.before(&asked, |answered| step(&document, answered, &check)) {
            Ok(Step::Same) => {}
            Ok(Step::Changed(changed)) => {
                document = changed;
                by = Some(working.plugin.name().to_owned());
            }
            Ok(Step::Refused(refusal)) => return Ok(Ruling::Refused(refusal)),
            Err(unavailable) if working.plugin.is_closed() => return Err(unavailable),
            Err(_) => {}
        }
    }
    Ok(match (by, document["input"].take()) {
        (Some(by), Value::Object(input)) => Ruling::Amended { input, by },
        _ => Ruling::Accepted,
    })
}

pub(super) fn blame(set: &Set, name: &str, reason: &str) -> Unavailable {
    let reason = format!("the amended input is not valid: {reason}");
    let blamed = set.members().iter().find_map(|member| match member {
        Member::Working(working) if working.plugin.name() == name => Some(working.plugin.blame("before", &reason)),
        _ => None,
    });
    blamed.unwrap_or_else(|| Unavailable { plugin: name.into(), reason })
}

fn step(
    document: &Value,
    answered: Answered,
    check: impl Fn(&Map<String, Value>) -> Result<(), String>,
) -> Result<Step, String> {
    let mut edits = match answered {
        Answered::Accept => return Ok(Step::Same),
        Answered::Refuse(refusal) => return Ok(Step::Refused(refusal)),
        Answered::Amend(edits) => edits,
    };
    let mut changed = document.clone();
    pointer::order(&mut edits);
    pointer::apply(&mut changed, &edits);
    if changed == *document {
        return Ok(Step::Same);
    }
    let input = changed["input"].as_object().expect("edits are below the input");
    check(input).map_err(|why| format!("the amended input is not valid: {why}"))?;
    Ok(Step::Changed(changed))
}

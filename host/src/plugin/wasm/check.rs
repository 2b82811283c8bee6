//! Checks of what a guest returns, so that nothing invalid gets further.
//!
//! Refused are, for example, an invalid pointer, a verdict for a role that nobody asked about, and an edit outside of
//! what the filter said it hides.

use std::collections::BTreeSet;

use crate::{
    domain::{
        audience::Audience,
        command::Command,
        role::{Role, Roles},
    },
    plugin::{
        contract::{
            answer::{Answered, Decision, Hides, Verdict},
            effect::{AfterOutcome, EffectName, RequestedEffect, Wants},
            error::Fault,
            limits::Limits,
            manifest::Events,
            pointer::{Edit, Pointer},
            question::INPUT,
            refusal::{Refusal, distinct},
            text::cut,
        },
        wasm::bindings::{
            filter::Verdicts,
            v1::{
                exports::leadwire::plugin::{
                    after as wit, authorize, before, filter as by_name, filter_lines as by_line,
                },
                leadwire::plugin::types,
            },
        },
    },
};

const MAX_HIDDEN: usize = 256;
const MAX_REASON: usize = 500;
const MAX_CODE: usize = 64;

pub(crate) fn check_decision(decision: authorize::Decision, limits: &Limits) -> Result<Decision, Fault> {
    match decision {
        authorize::Decision::Allow => Ok(Decision::Allow),
        authorize::Decision::Deny(reason) => Ok(Decision::Deny(bounded(reason, "the reason of a denial", limits)?)),
    }
}

pub(crate) fn check_commands(patterns: Vec<String>) -> Result<Events, Fault> {
    let commands = Events::parse(patterns).map_err(Fault::Invalid)?;
    // A name that no command has would be a guard that never runs.
    for pattern in commands.patterns() {
        let single = Events::parse(vec![pattern.clone()]).map_err(Fault::Invalid)?;
        if !Command::NAMES.iter().any(|name| single.include(name)) {
            let names = Command::NAMES.join(", ");
            return Err(Fault::Invalid(format!("{pattern:?} is not a command: expected one of {names}")));
        }
    }
    Ok(commands)
}

pub(crate) fn check_ruling(ruling: before::Ruling, limits: &Limits) -> Result<Answered, Fault> {
    match ruling {
        before::Ruling::Accept => Ok(Answered::Accept),
        before::Ruling::Amend(edits) => {
            let edits = check_edits(edits, limits)?;
            let outside = |edit: &&Edit| edit.pointer().as_str() == INPUT || !edit.pointer().is_within(INPUT);
            match edits.iter().find(outside) {
                Some(edit) => Err(Fault::Invalid(format!("an edit of {}, which is not below {INPUT}", edit.pointer()))),
                None => Ok(Answered::Amend(edits)),
            }
        }
        before::Ruling::Refuse(before::Refusal { code, message, field }) => {
            check_code(&code)?;
            let message = bounded(message, "the message of a refusal", limits)?;
            let field = field.map(|field| bounded(field, "the field of a refusal", limits)).transpose()?;
            if message.trim().is_empty() || field.as_ref().is_some_and(String::is_empty) {
                return Err(Fault::Invalid("a refusal without a message, or with a field without a name".into()));
            }
            Ok(Answered::Refuse(Refusal { code: distinct(code), message, field }))
        }
    }
}

fn check_code(code: &str) -> Result<(), Fault> {
    let snake_case = code.len() <= MAX_CODE
        && code.starts_with(|first: char| first.is_ascii_lowercase())
        && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if snake_case {
        return Ok(());
    }
    let shown: String = code.chars().take(MAX_CODE).collect();
    Err(Fault::Invalid(format!("a refusal with the code {shown:?}: expected snake_case of at most {MAX_CODE} letters")))
}

pub(crate) fn check_edits(edits: Vec<types::Edit>, limits: &Limits) -> Result<Vec<Edit>, Fault> {
    check_edits_at(edits, limits, check_pointer)
}

fn check_edits_at(
    edits: Vec<types::Edit>,
    limits: &Limits,
    check: impl Fn(String) -> Result<Pointer, Fault>,
) -> Result<Vec<Edit>, Fault> {
    no_more(edits.len(), "edits", limits.edits)?;
    edits.into_iter().map(|edit| check_edit(edit, limits, &check)).collect()
}

fn check_edit(
    edit: types::Edit,
    limits: &Limits,
    check_pointer: impl Fn(String) -> Result<Pointer, Fault>,
) -> Result<Edit, Fault> {
    use types::{Edit as Raw, Masking, Setting};

    let edit = match edit {
        Raw::Remove(pointer) => Edit::Remove(check_pointer(pointer)?),
        Raw::Mask(Masking { pointer, text }) => {
            Edit::Mask(check_pointer(pointer)?, bounded(text, "the text of a mask", limits)?)
        }
        Raw::Set(Setting { pointer, json }) => {
            let pointer = check_pointer(pointer)?;
            let value = serde_json::from_str(&json)
                .map_err(|error| Fault::Invalid(format!("the value set at {pointer} is not valid JSON: {error}")))?;
            Edit::Set(pointer, value)
        }
    };
    Ok(edit)
}

fn check_pointer(text: String) -> Result<Pointer, Fault> {
    let pointer = Pointer::parse(text).map_err(Fault::Invalid)?;
    if pointer.is_reserved() {
        return Err(Fault::Invalid(format!("{pointer} is written by the server alone")));
    }
    Ok(pointer)
}

fn bounded(text: String, what: &str, limits: &Limits) -> Result<String, Fault> {
    if text.len() as u64 > limits.text_bytes {
        let (found, allowed) = (text.len(), limits.text_bytes);
        return Err(Fault::Invalid(format!("{what} has {found} bytes; {allowed} are allowed")));
    }
    Ok(text)
}

fn no_more(found: usize, what: &str, allowed: u64) -> Result<(), Fault> {
    if found as u64 > allowed {
        return Err(Fault::Invalid(format!("{found} {what}; {allowed} are allowed")));
    }
    Ok(())
}

pub(crate) fn check_wants(wants: wit::Wanted) -> Result<Wants, Fault> {
    let wit::Wanted { events, effects, webhook_hosts } = wants;
    Wants::check(events, &effects, webhook_hosts).map_err(Fault::Invalid)
}

/// Accepts effects that the plugin listed in `wants`, and no others.
pub(crate) fn check_outcome(outcome: wit::Outcome, wants: &Wants, limits: &Limits) -> Result<AfterOutcome, Fault> {
    let wit::Outcome { effects, state } = outcome;
    no_more(effects.len(), "effects", limits.effects)?;
    no_more(state.as_ref().map_or(0, String::len), "bytes of state", limits.effect_bytes)?;
    let effects = effects.into_iter().map(|effect| check_effect(effect, wants, limits)).collect::<Result<_, _>>()?;
    Ok(AfterOutcome { effects, state })
}

fn check_effect(effect: wit::Effect, wants: &Wants, limits: &Limits) -> Result<RequestedEffect, Fault> {
    let wit::Effect { name, input } = effect;
    let name: EffectName = name.parse().map_err(Fault::Invalid)?;
    if !wants.effects.contains(&name) {
        return Err(Fault::Invalid(format!("the effect {name}, which it does not list in wants")));
    }
    no_more(input.len(), &format!("bytes of input for the effect {name}"), limits.effect_bytes)?;
    let input = serde_json::from_str(&input).map_err(|error| {
        let reason = error.to_string();
        Fault::Invalid(format!("the input of the effect {name} is not a JSON object: {}", cut(&reason, 200)))
    })?;
    Ok(RequestedEffect { name, input })
}

/// Accepts a pointer that is listed in `hides`, or leads into something that is.
fn check_hidden(hides: &Hides, role: Role, text: String) -> Result<Pointer, Fault> {
    let hidden = hides.of(role);
    // Most edits are of a listed pointer itself, which was checked when it was listed.
    let pointer = match hidden.iter().find(|hidden| hidden.as_str() == text) {
        Some(hidden) => return Ok(hidden.clone()),
        None => check_pointer(text)?,
    };
    if hidden.iter().any(|hidden| pointer.is_within(hidden.as_str())) {
        return Ok(pointer);
    }
    Err(Fault::Unlisted(format!("an edit of {pointer} for {role}, which it does not list in hides")))
}

pub(crate) fn check_hides(hidden: Vec<by_name::Hidden>) -> Result<Hides, Fault> {
    let mut hides = Hides::default();
    for by_name::Hidden { role, pointers } in hidden {
        let role: Role = role.parse().map_err(|error| Fault::Invalid(format!("hides: {error}")))?;
        for text in pointers {
            hides.insert(role, check_pointer(text)?);
        }
        if hides.of(role).len() > MAX_HIDDEN {
            return Err(Fault::Invalid(format!("it hides more than {MAX_HIDDEN} pointers from {role}")));
        }
    }
    Ok(hides)
}

/// Accepts one verdict per role asked, no more and no fewer.
pub(crate) fn check_verdicts(
    verdicts: Verdicts,
    asked: &[Role],
    hides: &Hides,
    limits: &Limits,
) -> Result<Vec<Verdict>, Fault> {
    match verdicts {
        Verdicts::ByName(verdicts) => check_by_name(verdicts, asked, hides, limits),
        Verdicts::InOrder(verdicts) if verdicts.len() != asked.len() => {
            Err(Fault::Undecided(format!("{} verdicts for {} roles", verdicts.len(), asked.len())))
        }
        Verdicts::InOrder(verdicts) => {
            let verdicts = verdicts.into_iter().zip(asked);
            let check = |(verdict, &role): (by_line::Verdict, _)| {
                check_verdict(role, verdict.audience.into(), verdict.edits, hides, limits)
            };
            verdicts.map(check).collect()
        }
    }
}

fn check_by_name(
    verdicts: Vec<by_name::Verdict>,
    asked: &[Role],
    hides: &Hides,
    limits: &Limits,
) -> Result<Vec<Verdict>, Fault> {
    let mut missing = Roles::NONE;
    asked.iter().for_each(|role| missing.insert(*role));
    let mut checked = Vec::with_capacity(asked.len());
    for by_name::Verdict { role, audience, edits } in verdicts {
        let known = role.parse::<Role>().ok().filter(|role| missing.contains(*role));
        let Some(role) = known else {
            let shown: String = role.chars().take(40).collect();
            return Err(Fault::Undecided(format!("a verdict for {shown:?}, which was not asked or has one already")));
        };
        missing.remove(role);
        checked.push(check_verdict(role, audience, edits, hides, limits)?);
    }
    match missing.iter().next() {
        Some(role) => Err(Fault::Undecided(format!("no verdict for {role}"))),
        None => Ok(checked),
    }
}

fn check_verdict(
    role: Role,
    audience: by_name::Audience,
    edits: Vec<types::Edit>,
    hides: &Hides,
    limits: &Limits,
) -> Result<Verdict, Fault> {
    let edits = check_edits_at(edits, limits, |pointer| check_hidden(hides, role, pointer))?;
    let (audience, reason) = check_audience(audience, limits)?;
    Ok(Verdict { role, audience, reason, edits })
}

fn check_audience(audience: by_name::Audience, limits: &Limits) -> Result<(Audience, Option<String>), Fault> {
    let users = match audience {
        by_name::Audience::Everyone => return Ok((Audience::Everyone, None)),
        by_name::Audience::Nobody(reason) => {
            return Ok((Audience::Nobody, Some(cut(&reason, MAX_REASON).to_owned())));
        }
        by_name::Audience::Only(users) if users.is_empty() => return Ok((Audience::Nobody, None)),
        by_name::Audience::Only(users) => users,
    };
    no_more(users.len(), "users in an audience", limits.audience_users)?;
    let parse =
        |user: String| user.parse().map_err(|_| Fault::Invalid("an audience contains an invalid user id".into()));
    Ok((Audience::Only(users.into_iter().map(parse).collect::<Result<BTreeSet<_>, _>>()?), None))
}

impl From<by_line::Audience> for by_name::Audience {
    fn from(audience: by_line::Audience) -> Self {
        match audience {
            by_line::Audience::Everyone => Self::Everyone,
            by_line::Audience::Nobody(reason) => Self::Nobody(reason),
            by_line::Audience::Only(users) => Self::Only(users),
        }
    }
}

//! `before` hooks: plugins accept, amend or refuse a command before it runs.
//!
//! They are asked one after the other, in their operators' order, and each sees the input as those before it amended
//! it. A refusal ends the sequence. A plugin without an answer, or with an amendment that is not valid, keeps the
//! command from running, unless it fails open.

use serde_json::{Map, Value, json};

use crate::{
    domain::{actor::ActorKind, plugin_name::PluginName},
    plugin::{
        active::set::{Set, SetMember},
        contract::{
            answer::{Answered, Ruling, Unavailable},
            pointer,
            question::ProposedCommand,
            refusal::Refusal,
        },
        hooks::facts::{Facts, Sources},
        wasm::bindings::CommandQuestion,
    },
};

/// Effect of one plugin's answer on the command.
enum AnswerEffect {
    Same,
    Changed(Value),
    Refused(Refusal),
}

pub(crate) fn run(
    set: &Set,
    question: &ProposedCommand<'_>,
    check: impl Fn(&Map<String, Value>) -> Result<(), String>,
) -> Result<Ruling, Unavailable> {
    walk_step!("run");
    let (id, user) =
        (question.actor.id.to_string(), serde_json::to_value(question.actor).expect("an account is plain JSON"));
    let mut document = json!({"input": question.input});
    let mut by = None;
    for member in set.guards(question.name) {
        // A plugin that acts through an effect has already decided about it.
        if question.actor.kind == ActorKind::Plugin && *member.name() == question.actor.name {
            continue;
        }
        let working = match member {
            SetMember::Working(working) => working,
            SetMember::Absent(absent) => return Err(absent.unavailable()),
        };
        let (lead, activity) = (question.lead, question.activity);
        let sources = Sources { payload: &document, lead, before: None, user: Some(&user), activity };
        let mut facts = Facts::new(set, sources);
        let asked = CommandQuestion {
            name: question.name,
            user_id: &id,
            role: question.actor.kind.as_str(),
            fields: &facts.fields(working),
        };
        match working.plugin.before(&asked, |answered| step(&document, answered, &check)) {
            Ok(AnswerEffect::Same) => {}
            Ok(AnswerEffect::Changed(changed)) => {
                document = changed;
                by = Some(working.plugin.name().to_owned());
            }
            Ok(AnswerEffect::Refused(refusal)) => return Ok(Ruling::Refused(refusal)),
            Err(unavailable) if working.plugin.is_closed() => return Err(unavailable),
            Err(_) => {}
        }
    }
    Ok(match (by, document["input"].take()) {
        (Some(by), Value::Object(input)) => Ruling::Amended { input, by },
        _ => Ruling::Accepted,
    })
}

pub(crate) fn blame(set: &Set, name: &PluginName, reason: &str) -> Unavailable {
    let reason = format!("the amended input is not valid: {reason}");
    let blamed = set.members().iter().find_map(|member| match member {
        SetMember::Working(working) if working.plugin.name() == name => Some(working.plugin.blame("before", &reason)),
        _ => None,
    });
    blamed.unwrap_or_else(|| Unavailable { plugin: name.clone(), reason })
}

fn step(
    document: &Value,
    answered: Answered,
    check: impl Fn(&Map<String, Value>) -> Result<(), String>,
) -> Result<AnswerEffect, String> {
    let mut edits = match answered {
        Answered::Accept => return Ok(AnswerEffect::Same),
        Answered::Refuse(refusal) => return Ok(AnswerEffect::Refused(refusal)),
        Answered::Amend(edits) => edits,
    };
    let mut changed = document.clone();
    pointer::order(&mut edits);
    pointer::apply(&mut changed, &edits);
    if changed == *document {
        return Ok(AnswerEffect::Same);
    }
    let input = changed["input"].as_object().expect("edits are below the input");
    check(input).map_err(|why| format!("the amended input is not valid: {why}"))?;
    Ok(AnswerEffect::Changed(changed))
}

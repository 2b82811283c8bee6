//! Shaping of one event for each role, by the `enrich` and `filter` hooks.
//!
//! All `enrich` edits come first, then every `filter` sees that one result. Audiences intersect and deny wins;
//! `set` comes before `mask` and `mask` before `remove`. So the order of plugins cannot bring back what one of
//! them removed. A filter that gives no verdict holds the event back for the roles it was asked about.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    domain::{audience::Audience, role::Role},
    plugin::{
        active::set::{Set, SetMember},
        contract::{
            answer::{Hidden, Shaped, Unavailable},
            pointer::{self, Edit},
        },
        hooks::{
            facts::{Facts, Sources},
            implied::Implied,
            trace::Observer,
        },
    },
};

/// Shapes a payload that is about to be sent under `name`, for each of these roles.
pub(crate) fn run(set: &Set, name: &str, payload: &Arc<Value>, context: &Value, roles: &[Role]) -> Vec<(Role, Shaped)> {
    run_observed(set, name, payload, context, roles, &mut ())
}

/// Like [`run`], and reports to the observer who decided what.
pub(crate) fn run_observed(
    set: &Set,
    name: &str,
    payload: &Arc<Value>,
    context: &Value,
    roles: &[Role],
    observer: &mut impl Observer,
) -> Vec<(Role, Shaped)> {
    walk_step!("run_observed", event = name);
    if set.is_indifferent_to(name) {
        let whole = |&role| (role, Shaped::Sent { payload: payload.clone(), audience: Audience::Everyone });
        return roles.iter().map(whole).collect();
    }
    let mut facts = Facts::new(set, Sources::of_event(payload, context));
    let base = match enrich(set, name, payload, &mut facts, observer) {
        Ok(base) => base,
        Err(unavailable) => return roles.iter().map(|&role| (role, unavailable.clone().into())).collect(),
    };
    let implied = Implied::of(name, payload, context);
    let mut drafts: Vec<RoleDraft> =
        roles.iter().map(|&role| RoleDraft::new(role, set.hidden(role), &implied)).collect();
    if !Arc::ptr_eq(&base, payload) {
        facts = Facts::new(set, Sources::of_event(&base, context));
    }
    drafts.iter().filter(|draft| draft.audience == Audience::Nobody).for_each(|draft| observer.withheld(draft.role));
    filter(set, name, &mut facts, &mut drafts, observer);
    finish(set, &base, &implied, drafts, observer)
}

/// Applies the edits of every enriching plugin, each of which sees the original payload.
fn enrich(
    set: &Set,
    name: &str,
    payload: &Arc<Value>,
    facts: &mut Facts<'_>,
    observer: &mut impl Observer,
) -> Result<Arc<Value>, Unavailable> {
    let mut edits = Vec::new();
    for member in set.enrichers().filter(|member| member.wants(name)) {
        let working = match member {
            SetMember::Working(working) => working,
            SetMember::Absent(absent) => {
                let unavailable = absent.unavailable();
                observer.failed(member, "enrich", &unavailable, absent.enrich_holds);
                if absent.enrich_holds {
                    return Err(unavailable);
                }
                continue;
            }
        };
        match facts.with_event(name, working, |event| working.plugin.enrich(event)) {
            Ok(found) => {
                observer.enriched(&working.plugin, &found);
                edits.extend(found);
            }
            Err(unavailable) => {
                let is_closed = working.plugin.enrich_is_closed();
                observer.failed(member, "enrich", &unavailable, is_closed);
                if is_closed {
                    return Err(unavailable);
                }
            }
        }
    }
    if edits.is_empty() {
        return Ok(payload.clone());
    }
    let mut enriched = Value::clone(payload);
    pointer::order(&mut edits);
    pointer::apply(&mut enriched, &edits);
    keep_identity(payload, &mut enriched);
    Ok(enriched.into())
}

/// Restores `id` and `rev` of the lead: clients need them, whatever a plugin puts in the place of the whole lead.
fn keep_identity(before: &Value, after: &mut Value) {
    let Some(Value::Object(lead)) = before.get("lead") else { return };
    let Some(Value::Object(edited)) = after.get_mut("lead") else { return };
    for key in ["id", "rev"] {
        if let Some(value) = lead.get(key) {
            edited.insert(key.into(), value.clone());
        }
    }
}

/// Intermediate result for one role's payload.
struct RoleDraft {
    role: Role,
    audience: Audience,
    edits: Vec<Edit>,
    held: Option<Unavailable>,
}

impl RoleDraft {
    /// Starts with everyone, or with nobody where the whole payload discloses a field that may be hidden from the role.
    fn new(role: Role, hidden: &Hidden, implied: &Implied) -> Self {
        let audience = if implied.withholds(hidden) { Audience::Nobody } else { Audience::Everyone };
        Self { role, audience, edits: Vec::new(), held: None }
    }
}

fn filter(set: &Set, name: &str, facts: &mut Facts<'_>, drafts: &mut [RoleDraft], observer: &mut impl Observer) {
    for member in set.filters().filter(|member| member.wants(name)) {
        let concerned = |draft: &RoleDraft| draft.audience != Audience::Nobody && member.roles().contains(draft.role);
        let mut asked: Vec<Role> = drafts.iter().filter(|draft| concerned(draft)).map(|draft| draft.role).collect();
        asked.sort_unstable();
        asked.dedup();
        if asked.is_empty() {
            continue;
        }
        let (verdicts, is_closed) = match member {
            SetMember::Working(working) => {
                let verdicts = facts.with_event(name, working, |event| working.plugin.filter(event, &asked));
                if let Ok(verdicts) = &verdicts {
                    verdicts.iter().for_each(|verdict| observer.filtered(&working.plugin, verdict));
                }
                (verdicts, working.plugin.is_closed())
            }
            SetMember::Absent(absent) => (Err(absent.unavailable()), true),
        };
        if let Err(unavailable) = &verdicts {
            observer.failed(member, "filter", unavailable, is_closed);
            if !is_closed {
                continue;
            }
        }
        for draft in drafts.iter_mut().filter(|draft| asked.contains(&draft.role)) {
            match &verdicts {
                Ok(verdicts) => {
                    let Some(verdict) = verdicts.iter().find(|verdict| verdict.role == draft.role) else { continue };
                    let so_far = std::mem::take(&mut draft.audience);
                    draft.audience = so_far.intersect(verdict.audience.clone());
                    draft.edits.extend_from_slice(&verdict.edits);
                }
                Err(unavailable) => draft.held = draft.held.take().or_else(|| Some(unavailable.clone())),
            }
        }
    }
}

/// Applies the edits, once for all roles that have the same ones.
fn finish(
    set: &Set,
    base: &Arc<Value>,
    implied: &Implied,
    mut drafts: Vec<RoleDraft>,
    observer: &mut impl Observer,
) -> Vec<(Role, Shaped)> {
    drafts.iter_mut().for_each(|draft| pointer::order(&mut draft.edits));
    let mut shaped: Vec<(Role, Shaped)> = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let alike = |other: &RoleDraft| other.edits == draft.edits && set.hidden(other.role) == set.hidden(draft.role);
        let result = match (&draft.audience, &draft.held) {
            // A denial is final, whatever the plugin that gives no verdict would answer.
            (Audience::Nobody, _) => Shaped::Sent { payload: Arc::default(), audience: Audience::Nobody },
            (audience, Some(Unavailable { plugin, reason })) => {
                Shaped::Held { plugin: plugin.clone(), reason: reason.clone(), audience: audience.clone() }
            }
            (audience, None) => {
                let twin = drafts[..index].iter().zip(&shaped).find_map(|(other, (_, result))| match result {
                    Shaped::Sent { payload, audience } if *audience != Audience::Nobody && alike(other) => {
                        Some(payload)
                    }
                    _ => None,
                });
                let hidden = set.hidden(draft.role);
                observer.edited(base, &draft.edits, hidden, implied);
                let payload = twin.cloned().unwrap_or_else(|| edited(base, &draft.edits, hidden, implied));
                Shaped::Sent { payload, audience: audience.clone() }
            }
        };
        shaped.push((draft.role, result));
    }
    shaped
}

fn edited(base: &Arc<Value>, edits: &[Edit], hidden: &Hidden, implied: &Implied) -> Arc<Value> {
    if edits.is_empty() && !implied.discloses(base, hidden) {
        return base.clone();
    }
    let mut payload = Value::clone(base);
    pointer::apply(&mut payload, edits);
    keep_identity(base, &mut payload);
    implied.conceal(&mut payload, hidden);
    Arc::new(payload)
}

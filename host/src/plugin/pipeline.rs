//! How one event is shaped for each role, and how a user is let in.
//!
//! All `enrich` edits come first, then every `filter` sees that one result. Audiences intersect and deny wins;
//! `set` comes before `mask` and `mask` before `remove`. So the order of plugins cannot bring back what one of
//! them took away. A filter that gives no verdict holds the event back for the roles it was asked about.

use std::sync::Arc;

use serde_json::Value;

use super::{
    bindings::{self, Declared, Shown, Subject},
    error::Fault,
    implied::{HISTORY, Implied},
    manifest::{Field, Source},
    pointer::{self, Edit, is_within},
    set::{Member, Set, Working},
    trace::Observer,
};
use crate::domain::{
    event::{Audience, Event},
    role::Role,
    room::Room,
    user::User,
};

/// What an `authorize` hook said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// The reason reaches the client word for word.
    Deny(String),
}

/// A plugin that must be asked gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} is not answering: {reason}")]
pub struct Unavailable {
    pub plugin: String,
    pub reason: String,
}

/// What a role gets of a payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Shaped {
    /// Roles whose edits are equal share one payload. For nobody, there is none.
    Sent { payload: Arc<Value>, audience: Audience },
    /// A filter gave no verdict: nobody of the role may get the payload yet. The others leave this audience.
    Held { plugin: String, reason: String, audience: Audience },
}

impl From<Unavailable> for Shaped {
    fn from(Unavailable { plugin, reason }: Unavailable) -> Self {
        Self::Held { plugin, reason, audience: Audience::Everyone }
    }
}

/// JSON Pointers that filters may hide from one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    pointers: Vec<pointer::Pointer>,
}

impl Hidden {
    pub(super) fn new(mut pointers: Vec<pointer::Pointer>) -> Self {
        pointers.sort();
        pointers.dedup();
        Self { pointers }
    }

    pub fn is_empty(&self) -> bool {
        self.pointers.is_empty()
    }

    /// Whether the value at `pointer` may be hidden: it or something above it is listed.
    pub fn covers(&self, pointer: &str) -> bool {
        self.pointers.iter().any(|hidden| is_within(pointer, hidden.as_str()))
    }

    /// Whether a part of the value at `pointer` may be hidden.
    pub(super) fn covers_part(&self, pointer: &str) -> bool {
        self.pointers.iter().any(|hidden| hidden.as_str() != pointer && hidden.is_within(pointer))
    }

    /// Takes out of a line of a lead's history who made the change, where that tells of what may be hidden.
    pub fn conceal_history(&self, line: &mut Value) {
        Implied::of(HISTORY, line, &Value::Null).conceal(line, self);
    }

    /// Whether a list of changes may not name this field of a lead.
    pub(super) fn covers_change(&self, field: &str) -> bool {
        let is_it = |hidden: &str| hidden == "/lead" || hidden.strip_prefix("/lead/") == Some(field);
        self.pointers.iter().any(|hidden| is_it(hidden.as_str()))
    }

    /// Removes from `value`, which stands at `pointer`, all that may be hidden below it.
    ///
    /// For places that show a part of a lead outside of a payload, as its history does.
    pub fn prune(&self, pointer: &str, value: &mut Value) {
        let below = self.pointers.iter().filter(|hidden| hidden.as_str() != pointer && hidden.is_within(pointer));
        let inside = below.filter_map(|hidden| pointer::Pointer::parse(hidden.as_str()[pointer.len()..].into()).ok());
        let mut removals = inside.map(Edit::Remove).collect();
        pointer::order(&mut removals);
        pointer::apply(value, &removals);
    }
}

/// What each role gets of a payload that is about to leave under `name`.
pub(super) fn run(set: &Set, name: &str, payload: &Arc<Value>, context: &Value, roles: &[Role]) -> Vec<(Role, Shaped)> {
    run_observed(set, name, payload, context, roles, &mut ())
}

/// As [`run`], and tells the observer who decided what.
pub(super) fn run_observed(
    set: &Set,
    name: &str,
    payload: &Arc<Value>,
    context: &Value,
    roles: &[Role],
    observer: &mut impl Observer,
) -> Vec<(Role, Shaped)> {
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
    let mut drafts: Vec<Draft> = roles.iter().map(|&role| Draft::new(role, set.hidden(role), &implied)).collect();
    if !Arc::ptr_eq(&base, payload) {
        facts = Facts::new(set, Sources::of_event(&base, context));
    }
    drafts.iter().filter(|draft| draft.audience == Audience::Nobody).for_each(|draft| observer.withheld(draft.role));
    filter(set, name, &mut facts, &mut drafts, observer);
    finish(set, &base, &implied, drafts, observer)
}

/// The payload with the edits of every enriching plugin, each of which saw the original.
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
            Member::Working(working) => working,
            Member::Absent(absent) => {
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

/// Which lead it is and how new, clients have to know whatever a plugin puts in the place of the whole lead.
fn keep_identity(before: &Value, after: &mut Value) {
    let Some(Value::Object(lead)) = before.get("lead") else { return };
    let Some(Value::Object(edited)) = after.get_mut("lead") else { return };
    for key in ["id", "rev"] {
        if let Some(value) = lead.get(key) {
            edited.insert(key.into(), value.clone());
        }
    }
}

/// What is known so far of one role's payload.
struct Draft {
    role: Role,
    audience: Audience,
    edits: Vec<Edit>,
    held: Option<Unavailable>,
}

impl Draft {
    /// Nobody gets what as a whole tells of a field that may be hidden from them.
    fn new(role: Role, hidden: &Hidden, implied: &Implied) -> Self {
        let audience = if implied.withholds(hidden) { Audience::Nobody } else { Audience::Everyone };
        Self { role, audience, edits: Vec::new(), held: None }
    }
}

fn filter(set: &Set, name: &str, facts: &mut Facts<'_>, drafts: &mut [Draft], observer: &mut impl Observer) {
    for member in set.filters().filter(|member| member.wants(name)) {
        let concerned = |draft: &Draft| draft.audience != Audience::Nobody && member.roles().contain(draft.role);
        let mut asked: Vec<Role> = drafts.iter().filter(|draft| concerned(draft)).map(|draft| draft.role).collect();
        asked.sort_unstable();
        asked.dedup();
        if asked.is_empty() {
            continue;
        }
        let (verdicts, is_closed) = match member {
            Member::Working(working) => {
                let verdicts = facts.with_event(name, working, |event| working.plugin.filter(event, &asked));
                if let Ok(verdicts) = &verdicts {
                    verdicts.iter().for_each(|verdict| observer.filtered(&working.plugin, verdict));
                }
                (verdicts, working.plugin.is_closed())
            }
            Member::Absent(absent) => (Err(absent.unavailable()), true),
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

/// Makes the edits, once for all roles that have the same ones.
fn finish(
    set: &Set,
    base: &Arc<Value>,
    implied: &Implied,
    mut drafts: Vec<Draft>,
    observer: &mut impl Observer,
) -> Vec<(Role, Shaped)> {
    drafts.iter_mut().for_each(|draft| pointer::order(&mut draft.edits));
    let mut shaped: Vec<(Role, Shaped)> = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let alike = |other: &Draft| other.edits == draft.edits && set.hidden(other.role) == set.hidden(draft.role);
        let result = match (&draft.audience, &draft.held) {
            // A denial stands, whatever the plugin that gives no verdict would say.
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
    if edits.is_empty() && !implied.is_told(base, hidden) {
        return base.clone();
    }
    let mut payload = Value::clone(base);
    pointer::apply(&mut payload, edits);
    keep_identity(base, &mut payload);
    implied.conceal(&mut payload, hidden);
    Arc::new(payload)
}

/// May this user connect, or subscribe to `room`?
pub(super) fn authorize(
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
            Member::Absent(absent) => Err(absent.unavailable()),
            Member::Working(working) => {
                let fields = facts.fields(working);
                let who = Subject { user_id: &id, role: user.role, fields: &fields };
                let decision = match &room {
                    Some(room) => working.plugin.subscribe(&who, room),
                    None => working.plugin.connect(&who),
                };
                decision.or_else(|unavailable| match working.plugin.is_closed() {
                    true => Err(unavailable),
                    false => Ok(Decision::Allow),
                })
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

/// Shows a plugin that is not yet in force an event of the log; what it answers is only checked.
pub(super) fn try_on(alone: &Set, event: &Event) -> Result<(), (&'static str, Fault)> {
    let mut facts = Facts::new(alone, Sources::of_event(&event.payload, &event.context));
    for member in alone.members().iter().filter(|member| member.wants(&event.name)) {
        let Member::Working(working) = member else { continue };
        let roles: Vec<Role> = member.roles().iter().collect();
        if working.plugin.hooks.enrich {
            let edits = facts.with_event(&event.name, working, |event| working.plugin.try_enrich(event));
            edits.map_err(|fault| ("enrich", fault))?;
        }
        if working.plugin.hooks.filter {
            let verdicts = facts.with_event(&event.name, working, |event| working.plugin.try_filter(event, &roles));
            verdicts.map_err(|fault| ("filter", fault))?;
        }
    }
    Ok(())
}

/// Where declared fields are taken from.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) payload: &'a Value,
    pub(super) lead: Option<&'a Value>,
    pub(super) before: Option<&'a Value>,
    pub(super) user: Option<&'a Value>,
    pub(super) activity: Option<&'a Value>,
}

impl<'a> Sources<'a> {
    pub(super) fn of_event(payload: &'a Value, context: &'a Value) -> Self {
        Self { payload, lead: context.get("lead"), before: context.get("before"), user: None, activity: None }
    }

    fn find(&self, field: &Field) -> Option<&'a Value> {
        let source = match field.source() {
            Source::Payload => Some(self.payload),
            Source::Lead => self.lead,
            Source::Before => self.before,
            Source::User => self.user,
            Source::Activity => self.activity,
        };
        pointer::find(source?, field.within_source())
    }
}

/// The declared fields of one event as JSON text, each written once for all plugins that read it.
pub(super) struct Facts<'a> {
    set: &'a Set,
    sources: Sources<'a>,
    /// By the number of the field in the set; the inner `None` is a pointer that leads nowhere.
    texts: Vec<Option<Option<String>>>,
    whole: Option<String>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(set: &'a Set, sources: Sources<'a>) -> Self {
        Self { set, sources, texts: Vec::new(), whole: None }
    }

    pub(super) fn with_event<T>(&mut self, name: &str, asking: &Working, ask: impl FnOnce(&Shown<'_>) -> T) -> T {
        if asking.plugin.manifest.whole_payload && self.whole.is_none() {
            self.whole = Some(self.sources.payload.to_string());
        }
        self.extract(asking);
        let payload = self.whole.as_deref().filter(|_| asking.plugin.manifest.whole_payload);
        ask(&Shown { name, fields: &self.read(asking), payload, lead: self.sources.lead })
    }

    pub(super) fn fields(&mut self, asking: &Working) -> Vec<bindings::Field<'_>> {
        self.extract(asking);
        bindings::listed(&self.read(asking)).collect()
    }

    fn extract(&mut self, asking: &Working) {
        self.texts.resize(self.set.fields().len(), None);
        for &number in &asking.fields {
            let text = &mut self.texts[number];
            if text.is_none() {
                let value = self.sources.find(&self.set.fields()[number]);
                *text = Some(value.map(|value| serde_json::to_string(value).expect("a value is JSON with text keys")));
            }
        }
    }

    fn read(&self, asking: &Working) -> Vec<Declared<'_>> {
        let declared = asking.fields.iter().map(|&number| {
            let json = self.texts[number].as_ref().and_then(Option::as_deref);
            Declared { pointer: self.set.fields()[number].pointer(), json }
        });
        declared.collect()
    }
}

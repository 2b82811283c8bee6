//! `filter` of the interface, in both of its forms: what a guest is asked, and its answer, checked.

use std::collections::BTreeSet;

use super::{
    Answer, Fault, Guest, Limits, Shown, StoreContextMut, check_edits_at, check_pointer,
    host::{State, cut},
    no_more,
    v1::{
        exports::leadwire::plugin::{filter as by_name, filter_lines as by_line},
        leadwire::plugin::types,
    },
};
use crate::{
    domain::{event::Audience, role::Role},
    plugin::{
        manifest::Roles,
        pointer::{Edit, Pointer},
    },
};

const MAX_HIDDEN: usize = 256;
const MAX_REASON: usize = 500;

/// What a filter says about one role.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plugin) struct Verdict {
    pub role: Role,
    pub audience: Audience,
    /// Why nobody gets it, for operators.
    pub reason: Option<String>,
    pub edits: Vec<Edit>,
}

/// What a filter may hide, by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::plugin) struct Hides([Vec<Pointer>; 4]);

impl Hides {
    pub(in crate::plugin) fn of(&self, role: Role) -> &[Pointer] {
        &self.0[role as usize]
    }

    pub(in crate::plugin) fn insert(&mut self, role: Role, pointer: Pointer) {
        let pointers = &mut self.0[role as usize];
        if !pointers.contains(&pointer) {
            pointers.push(pointer);
        }
    }

    /// Takes a pointer that is listed, or leads into something that is.
    fn check(&self, role: Role, text: String) -> Result<Pointer, Fault> {
        let hidden = self.of(role);
        // Most edits are of what is listed itself, which was checked then.
        let pointer = match hidden.iter().find(|hidden| hidden.as_str() == text) {
            Some(hidden) => return Ok(hidden.clone()),
            None => check_pointer(text)?,
        };
        if hidden.iter().any(|hidden| pointer.is_within(hidden.as_str())) {
            return Ok(pointer);
        }
        Err(Fault::Unlisted(format!("an edit of {pointer} for {role}, which it does not list in hides")))
    }
}

/// Verdicts that are yet to be checked.
pub(in crate::plugin) enum Verdicts {
    ByName(Vec<by_name::Verdict>),
    /// In the order of the roles that were asked about.
    InOrder(Vec<by_line::Verdict>),
}

impl Guest {
    pub(in crate::plugin) fn hides(&self, store: StoreContextMut<'_, State>) -> wasmtime::Result<Vec<by_name::Hidden>> {
        if let Some(filter) = &self.filter_lines {
            let hidden = filter.call_hides(store)?.into_iter();
            return Ok(hidden.map(|by_line::Hidden { role, pointers }| by_name::Hidden { role, pointers }).collect());
        }
        self.filter.as_ref().map_or(Ok(Vec::new()), |filter| filter.call_hides(store))
    }

    pub(in crate::plugin) fn filter(
        &self,
        store: StoreContextMut<'_, State>,
        event: &Shown<'_>,
        roles: &[Role],
    ) -> Answer<Verdicts> {
        if let Some(filter) = &self.filter_lines {
            let verdicts = filter.call_filter(store, &question(event, roles), event.payload)?;
            return Ok(verdicts.map(Verdicts::InOrder));
        }
        let Some(filter) = &self.filter else { return Ok(Ok(Verdicts::InOrder(Vec::new()))) };
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let verdicts = filter.call_filter(store, event.lower(&event.listed()), &names)?;
        Ok(verdicts.map(Verdicts::ByName))
    }
}

/// The lines of `filter-lines`. JSON as the host writes it has no line feed in it, nor has a name.
fn question(event: &Shown<'_>, roles: &[Role]) -> String {
    let fields = event.fields.iter().map(|field| field.json.unwrap_or_default());
    let room = event.name.len() + 10 * roles.len() + fields.clone().map(|json| json.len() + 1).sum::<usize>() + 2;
    let mut lines = String::with_capacity(room);
    lines.push_str(event.name);
    lines.push('\n');
    for (place, role) in roles.iter().enumerate() {
        if place > 0 {
            lines.push(' ');
        }
        lines.push_str(role.as_str());
    }
    lines.push('\n');
    for json in fields {
        lines.push_str(json);
        lines.push('\n');
    }
    lines
}

pub(in crate::plugin) fn check_hides(hidden: Vec<by_name::Hidden>) -> Result<Hides, Fault> {
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

/// Takes one verdict for each role asked, no more and no fewer.
pub(in crate::plugin) fn check_verdicts(
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
        let known = role.parse::<Role>().ok().filter(|role| missing.contain(*role));
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
    let edits = check_edits_at(edits, limits, |pointer| hides.check(role, pointer))?;
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
    let parse = |user: String| user.parse().map_err(|_| Fault::Invalid("an audience names what is no user id".into()));
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

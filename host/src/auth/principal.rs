//! Who acts, and what lets them: judged at the head of a request, and again inside of every transaction that writes.
//!
//! Between the two lie the request's body, plugins and the queue of password hashes. A caller whose account, role or
//! session was taken away meanwhile, or whose token expired, changes nothing any more.

use std::{net::IpAddr, ops::Deref, sync::Arc, time::Duration};

use super::{Error, token::CLOCK_SKEW};
use crate::{
    domain::{
        event::Actor,
        id::{SessionId, UserId},
        role::{Role, Roles},
        time::Timestamp,
        user::User,
    },
    store::{
        Reader,
        audit::{Entry, Kind},
    },
};

/// What an access token says besides whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// None when the token was issued elsewhere.
    pub session: Option<SessionId>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// The roles that a token of its key may act as.
    pub roles: Roles,
}

/// Where a call came from, for the audit table and the limits.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub address: Option<IpAddr>,
    pub request: Option<Arc<str>>,
}

/// Someone who acts. It dereferences to the [`Actor`] as of the head of the request, which reads are judged by.
#[derive(Clone, Debug)]
pub struct Principal {
    actor: Actor,
    basis: Basis,
    origin: Origin,
}

/// What lets a principal act.
#[derive(Clone, Copy, Debug)]
enum Basis {
    Token(Credentials),
    /// The account alone.
    Account,
    /// A plugin, whose effects are done in its name.
    Plugin,
    /// Whoever can write to the database.
    Operator,
}

impl Principal {
    /// A user who has shown a token.
    pub fn of_token(user: &User, credentials: Credentials, origin: Origin) -> Self {
        Self { actor: Actor::from(user), basis: Basis::Token(credentials), origin }
    }

    /// A user in whose name the program itself acts, without a token.
    pub fn of_account(user: &User) -> Self {
        Self { actor: Actor::from(user), basis: Basis::Account, origin: Origin::default() }
    }

    pub fn plugin(actor: Actor) -> Self {
        Self { actor, basis: Basis::Plugin, origin: Origin::default() }
    }

    /// The command line: whoever can write to the database may do what an administrator may.
    pub fn operator() -> Self {
        let actor = Actor { id: UserId(uuid::Uuid::nil()), email: "operator".into(), role: Role::Admin };
        Self { actor, basis: Basis::Operator, origin: Origin::default() }
    }

    /// Judges account, session and token as they are now, and returns the actor as of now.
    ///
    /// Called in the transaction that writes, before anything else is done in it.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when any of them lets the caller act no longer.
    pub async fn authorize(&self, reader: &mut Reader, now: Timestamp) -> Result<Actor, Error> {
        let user = match &self.basis {
            Basis::Operator => return Ok(self.actor.clone()),
            Basis::Token(credentials) => credentials.judge(reader, self.actor.id, now).await?,
            Basis::Account => reader.user(self.actor.id).await?.filter(|user| user.active),
            Basis::Plugin => reader.plugin_actor(self.actor.id).await?,
        };
        user.map(|user| Actor::from(&user)).ok_or(Error::Unauthenticated)
    }

    /// The session that the caller's token belongs to.
    pub fn session(&self) -> Option<SessionId> {
        match &self.basis {
            Basis::Token(credentials) => credentials.session,
            _ => None,
        }
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// An audit entry of something that the caller does.
    pub fn entry(&self, kind: Kind) -> Entry {
        let actor = match &self.basis {
            Basis::Operator => "operator".into(),
            _ => self.actor.id.to_string(),
        };
        Entry { actor: Some(actor), ..self.origin.entry(kind) }
    }
}

impl Deref for Principal {
    type Target = Actor;

    fn deref(&self) -> &Actor {
        &self.actor
    }
}

impl Origin {
    /// An audit entry of something that somebody unknown does.
    pub fn entry(&self, kind: Kind) -> Entry {
        let request = self.request.as_deref().map(str::to_owned);
        Entry { address: self.address, request, ..Entry::new(kind) }
    }
}

impl Credentials {
    /// The user, if account, session and token let them act now.
    pub(super) async fn judge(
        &self,
        reader: &mut Reader,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<User>, crate::store::Error> {
        let Some(standing) = reader.standing(user, self.session, now).await? else { return Ok(None) };
        // A token says its time in whole seconds, and by a clock that may be ahead.
        let skew = Duration::from_secs(CLOCK_SKEW.unsigned_abs());
        let is_refused = || standing.tokens_not_before.is_some_and(|moment| self.issued_at <= moment.plus(skew));
        let is_good = match self.session {
            Some(_) => standing.has_live_session,
            None => !is_refused(),
        };
        let user = standing.user;
        Ok((is_good && user.active && now < self.expires_at && self.roles.contains(user.role)).then_some(user))
    }
}

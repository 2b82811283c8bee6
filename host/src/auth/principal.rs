//! Principals: who acts, and on what basis. Authorised at the start of a request, and again inside every writing
//! transaction.
//!
//! In between are the request's body, plugins and the queue of password hashes. A caller whose account, role or session
//! was taken away meanwhile, or whose token expired, can no longer change anything.

use std::{net::IpAddr, ops::Deref, sync::Arc, time::Duration};

use crate::{
    auth::{Error, settings::CLOCK_SKEW},
    domain::{
        actor::{Actor, ActorKind},
        id::{SessionId, UserId},
        role::{Role, Roles},
        time::Timestamp,
        user::User,
    },
    store::{
        audit::{AuditKind, Entry},
        handle::Reader,
    },
};

/// Claims of an access token, apart from its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `None` when the token was issued elsewhere.
    pub session: Option<SessionId>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Roles that tokens signed with its key may act as.
    pub roles: Roles,
}

/// Origin of a call, for the audit table and the rate limits.
#[derive(Clone, Debug, Default)]
pub struct RequestOrigin {
    pub address: Option<IpAddr>,
    pub request: Option<Arc<str>>,
}

/// Acting user, plugin or operator. Dereferences to the [`Actor`] as of the start of the request, which is used for
/// reads.
#[derive(Clone, Debug)]
pub struct Principal {
    actor: Actor,
    basis: Basis,
    origin: RequestOrigin,
}

/// Basis on which a principal acts.
#[derive(Clone, Copy, Debug)]
enum Basis {
    Token(Credentials),
    /// The account alone, without a token.
    Account,
    /// Plugin that is the actor of its effects.
    Plugin,
    /// Command line: anybody who can write to the database.
    Operator,
}

impl Principal {
    /// Principal of a user with a token.
    pub fn of_token(user: &User, credentials: Credentials, origin: RequestOrigin) -> Self {
        Self { actor: Actor::from(user), basis: Basis::Token(credentials), origin }
    }

    /// Principal of a user for whom the program itself acts, without a token.
    pub fn of_account(user: &User) -> Self {
        Self { actor: Actor::from(user), basis: Basis::Account, origin: RequestOrigin::default() }
    }

    pub fn plugin(actor: Actor) -> Self {
        Self { actor, basis: Basis::Plugin, origin: RequestOrigin::default() }
    }

    /// Principal of the command line: anybody who can write to the database has an administrator's rights.
    pub fn operator() -> Self {
        let actor =
            Actor { id: UserId(uuid::Uuid::nil()), email: "operator".into(), kind: ActorKind::User(Role::Admin) };
        Self { actor, basis: Basis::Operator, origin: RequestOrigin::default() }
    }

    /// Checks account, session and token as they are now, and returns the present actor.
    ///
    /// Call it in the writing transaction, before anything else is done in it.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when any of them no longer permits the caller to act.
    pub async fn authorize(&self, reader: &mut Reader, now: Timestamp) -> Result<Actor, Error> {
        let user = match &self.basis {
            Basis::Operator => return Ok(self.actor.clone()),
            Basis::Plugin => {
                let account = reader.plugin_actor(self.actor.id).await?;
                return account.as_ref().map(Actor::from).ok_or(Error::Unauthenticated);
            }
            Basis::Token(credentials) => credentials.judge(reader, self.actor.id, now).await?,
            Basis::Account => reader.user(self.actor.id).await?.filter(|user| user.active),
        };
        user.as_ref().map(Actor::from).ok_or(Error::Unauthenticated)
    }

    /// Session that the caller's token belongs to.
    pub fn session(&self) -> Option<SessionId> {
        match &self.basis {
            Basis::Token(credentials) => credentials.session,
            _ => None,
        }
    }

    pub fn origin(&self) -> &RequestOrigin {
        &self.origin
    }

    /// Audit entry for an action of the caller.
    pub fn entry(&self, kind: AuditKind) -> Entry {
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

impl RequestOrigin {
    /// Audit entry for an action of an unknown caller.
    pub fn entry(&self, kind: AuditKind) -> Entry {
        let request = self.request.as_deref().map(str::to_owned);
        Entry { address: self.address, request, ..Entry::new(kind) }
    }
}

impl Credentials {
    /// Returns the user if account, session and token permit them to act now.
    pub(crate) async fn judge(
        &self,
        reader: &mut Reader,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<User>, crate::store::Error> {
        let Some(account) = reader.account_status(user, self.session, now).await? else { return Ok(None) };
        // A token's times are whole seconds, by a clock that may be ahead of ours.
        let skew = Duration::from_secs(CLOCK_SKEW.unsigned_abs());
        let is_refused = || account.tokens_not_before.is_some_and(|moment| self.issued_at <= moment.plus(skew));
        let is_good = match self.session {
            Some(_) => account.has_live_session,
            None => !is_refused(),
        };
        let user = account.user;
        Ok((is_good && user.active && now < self.expires_at && self.roles.contains(user.role)).then_some(user))
    }
}

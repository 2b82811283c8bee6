//! Sessions: from login to logout. HTTP and sockets ask the same questions here.
//!
//! A session is a family of refresh tokens, of which one at a time is fresh. Access tokens name their
//! session and are worth nothing once it has ended. Endings are lines of the log, written in the same
//! transaction, so that every node closes the sockets of a session at the same place.

use std::{net::IpAddr, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    BadSettings, Error, Settings,
    limit::Limits,
    password::{Passwords, Verdict},
    token::{RefreshToken, Subject, Tokens},
};
use crate::{
    domain::{
        event::{Actor, Happening},
        id::{SessionId, UserId},
        time::Timestamp,
        user::User,
    },
    store::{self, Store, Tx},
};

/// What time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Tokens in, users out. Clones share one state.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    clock: Clock,
    tokens: Tokens,
    passwords: Passwords,
    limits: Limits,
    access_ttl: Duration,
    refresh_ttl: Duration,
    reuse_window: Duration,
}

/// A user who has shown a good access token.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub user: User,
    /// None when the token was issued elsewhere.
    pub session: Option<SessionId>,
    pub expires_at: Timestamp,
    /// The line of the log as of which this is so: whatever changes it follows.
    pub seq: u64,
}

/// What a login or a refresh gives out.
pub struct Grant {
    pub access_token: String,
    pub refresh_token: String,
    pub expires_in: Duration,
    pub user: User,
}

impl Auth {
    /// Hashes a password on the way, so it takes some tens of milliseconds.
    ///
    /// # Errors
    /// When a secret, a key or the hash's costs will not do.
    pub fn new(settings: &Settings, store: Arc<Store>, clock: Clock) -> Result<Self, BadSettings> {
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            tokens: Tokens::new(settings)?,
            passwords: Passwords::new(&settings.password_hash)?,
            limits: Limits::new(&settings.login_limits),
            access_ttl: settings.access_token_ttl,
            refresh_ttl: settings.refresh_token_ttl,
            reuse_window: settings.refresh_reuse_window,
        })))
    }

    /// For whoever makes accounts or sets passwords.
    pub fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], after the same time whether the account is unknown, deactivated
    /// or has another password; [`Error::TooManyAttempts`] per account and per address.
    pub async fn login(&self, email: &str, password: String, address: Option<IpAddr>) -> Result<Grant, Error> {
        let inner = &*self.0;
        inner.limits.attempt(email, address)?;
        let account = inner.store.read().await?.user_by_email(email).await?;
        let stored = account.as_ref().map(|(_, hash)| hash.clone());
        let verdict = inner.passwords.verify(password.clone(), stored).await?;
        let (Some((user, tried)), Verdict::Right { outdated }) = (account, verdict) else {
            return Err(Error::InvalidCredentials);
        };
        let rehashed = if outdated { Some(inner.passwords.hash(password).await?) } else { None };

        let mut tx = inner.store.write().await?;
        // The account may have changed while its password was being tried.
        let user = match tx.user_by_email(&user.email).await? {
            Some((user, hash)) if user.active && hash == tried => user,
            _ => return Err(Error::InvalidCredentials),
        };
        if let Some(hash) = rehashed {
            tx.save_password_hash(user.id, &hash).await?;
        }
        let (now, session) = (inner.now(), SessionId(Uuid::now_v7()));
        let refresh = RefreshToken::random();
        tx.insert_session(session, user.id, &refresh.hashed(), now, now.plus(inner.refresh_ttl)).await?;
        tx.commit().await?;
        Ok(inner.grant(user, session, refresh, now))
    }

    /// Exchanges a refresh token for a new pair.
    ///
    /// A token that was used a moment ago (two tabs, a lost answer) gets the successor it got then.
    ///
    /// # Errors
    /// [`Error::RefreshTokenReused`] when it was used earlier: somebody has a copy, and the session ends.
    pub async fn refresh(&self, token: String) -> Result<Grant, Error> {
        let inner = &*self.0;
        let presented = RefreshToken::presented(token);
        let hash = presented.hashed();
        // Whoever sends made-up tokens must not hold up those who write.
        if inner.store.read().await?.refresh_token(&hash).await?.is_none() {
            return Err(Error::Unauthenticated);
        }
        let mut tx = inner.store.write().await?;
        let now = inner.now();
        let Some(stored) = tx.refresh_token(&hash).await? else { return Err(Error::Unauthenticated) };
        let store::session::RefreshToken { session, user, expires_at, used_at, session_ended } = stored;
        if used_at.is_some_and(|used_at| now.since(used_at) > inner.reuse_window) {
            end(&mut tx, &user, session, now).await?;
            tx.commit().await?;
            return Err(Error::RefreshTokenReused);
        }
        if session_ended || !user.active || expires_at <= now {
            return Err(Error::Unauthenticated);
        }
        if used_at.is_none() {
            let successor = inner.tokens.successors(&presented).next().expect("today's secret is always there");
            let expires_at = now.plus(inner.refresh_ttl);
            tx.rotate_refresh_token(&hash, session, &successor.hashed(), now, expires_at).await?;
            tx.commit().await?;
            return Ok(inner.grant(user, session, successor, now));
        }
        // The secret may have been replaced in between; the successor is the one that is known.
        for successor in inner.tokens.successors(&presented) {
            if tx.refresh_token(&successor.hashed()).await?.is_some() {
                return Ok(inner.grant(user, session, successor, now));
            }
        }
        Err(Error::Unauthenticated)
    }

    /// Ends the session of a refresh token; one that is not known has nothing left to end.
    pub async fn logout(&self, token: String) -> Result<(), Error> {
        let inner = &*self.0;
        let hash = RefreshToken::presented(token).hashed();
        let stored = inner.store.read().await?.refresh_token(&hash).await?;
        let Some(stored) = stored else { return Ok(()) };
        let mut tx = inner.store.write().await?;
        end(&mut tx, &stored.user, stored.session, inner.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Ends every session of a user.
    pub async fn logout_all(&self, user: &User) -> Result<(), Error> {
        let inner = &*self.0;
        let mut tx = inner.store.write().await?;
        end_all(&mut tx, &Actor::from(user), user.id, inner.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Sets a new password, already checked for its form, and ends the user's other sessions.
    ///
    /// # Errors
    /// [`Error::WrongPassword`]; tries count like those of a login.
    pub async fn change_password(
        &self,
        who: &Authenticated,
        current: String,
        new: String,
        address: Option<IpAddr>,
    ) -> Result<(), Error> {
        let inner = &*self.0;
        inner.limits.attempt(&who.user.email, address)?;
        let tried = inner.store.read().await?.password_hash(who.user.id).await?;
        if inner.passwords.verify(current, tried.clone()).await? == Verdict::Wrong {
            return Err(Error::WrongPassword);
        }
        let hash = inner.passwords.hash(new).await?;

        let mut tx = inner.store.write().await?;
        if tx.password_hash(who.user.id).await? != tried {
            return Err(Error::WrongPassword);
        }
        tx.save_password_hash(who.user.id, &hash).await?;
        let now = inner.now();
        for session in tx.end_sessions(who.user.id, who.session, now).await? {
            let ended = Happening::SessionsEnded { user: who.user.id, session: Some(session) };
            tx.append(&ended.draft(&Actor::from(&who.user), now)).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Who shows this access token.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when anything is wrong with it, its session or its user.
    pub async fn authenticate(&self, token: &str) -> Result<Authenticated, Error> {
        let inner = &*self.0;
        let now = inner.now();
        let (subject, expires_at) = inner.tokens.verify(token, now).ok_or(Error::Unauthenticated)?;
        let mut reader = inner.store.read().await?;
        let (user, session) = match subject {
            Subject::Session(user, session) => {
                let owner = reader.session_user(session, now).await?.filter(|owner| owner.id == user);
                (owner, Some(session))
            }
            Subject::Elsewhere(name) => match name.parse::<UserId>() {
                Ok(id) => (reader.user(id).await?, None),
                Err(_) => (reader.user_by_email(&name).await?.map(|(user, _)| user), None),
            },
        };
        let seq = reader.head().await?;
        match user {
            Some(user) if user.active => Ok(Authenticated { user, session, expires_at, seq }),
            _ => Err(Error::Unauthenticated),
        }
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn grant(&self, user: User, session: SessionId, refresh: RefreshToken, now: Timestamp) -> Grant {
        let access_token = self.tokens.issue(user.id, session, now, now.plus(self.access_ttl));
        Grant { access_token, refresh_token: refresh.into_string(), expires_in: self.access_ttl, user }
    }
}

/// Ends every session of a user, and those of tokens issued elsewhere, in one line of the log.
pub async fn end_all(tx: &mut Tx<'_>, actor: &Actor, user: UserId, now: Timestamp) -> store::Result<()> {
    tx.end_sessions(user, None, now).await?;
    tx.append(&Happening::SessionsEnded { user, session: None }.draft(actor, now)).await?;
    Ok(())
}

async fn end(tx: &mut Tx<'_>, user: &User, session: SessionId, now: Timestamp) -> store::Result<()> {
    if tx.end_session(session, now).await? {
        let ended = Happening::SessionsEnded { user: user.id, session: Some(session) };
        tx.append(&ended.draft(&Actor::from(user), now)).await?;
    }
    Ok(())
}

//! Sessions, from login to logout, for HTTP and sockets alike.
//!
//! A session is a family of refresh tokens, of which one at a time is fresh (refresh token rotation). Access tokens
//! name their session and are worthless once it has ended. The end of a session is an event of the log, written in the
//! same transaction, so that every node closes the session's sockets at the same position.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use uuid::Uuid;

use crate::{
    auth::{
        BadSettings, Error,
        audit_log::AuditLog,
        clock::Clock,
        login_limiter::{Limited, LoginLimiter, network},
        password::{PasswordCheck, Passwords},
        principal::{Credentials, Principal, RequestOrigin},
        settings::AuthConfig,
        token::{RefreshToken, TokenFlaw, TokenSubject, Tokens},
    },
    domain::{
        actor::Actor,
        counter::Seq,
        event::DomainEvent,
        id::{SessionId, UserId},
        time::Timestamp,
        user::User,
    },
    store::{
        self,
        audit::{AuditKind, Entry},
        handle::{Store, Tx},
    },
};

/// Authentication service; clones share one state.
#[derive(Clone)]
pub struct Auth(Arc<AuthInner>);

struct AuthInner {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    tokens: Tokens,
    passwords: Passwords,
    limits: LoginLimiter,
    audit_log: AuditLog,
    /// Set when another issuer may issue tokens.
    has_trusted_keys: bool,
    known_for: Duration,
    access_ttl: Duration,
    refresh_ttl: Duration,
    reuse_window: Duration,
}

/// User who presented a valid access token.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub user: User,
    pub credentials: Credentials,
    /// Seq of the log as of which this is true: any change of it follows.
    pub seq: Seq,
}

/// Tokens issued by a login or a refresh.
pub struct TokenPair {
    pub access_token: String,
    pub refresh_token: String,
    pub expires_in: Duration,
    pub user: User,
}

impl Auth {
    /// Creates the service. It hashes a password, which takes some tens of milliseconds.
    ///
    /// # Errors
    /// When a secret, a key or the costs of the hash are not acceptable.
    pub fn new(settings: &AuthConfig, store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Self, BadSettings> {
        let waiting = settings.login_limits.waiting.get() as usize;
        Ok(Self(Arc::new(AuthInner {
            tokens: Tokens::new(settings)?,
            passwords: Passwords::new(&settings.password_hash)?.with_waiting(waiting),
            limits: LoginLimiter::new(&settings.login_limits),
            audit_log: AuditLog::new(Arc::clone(&store), Arc::clone(&clock), settings.audit.clone()),
            has_trusted_keys: !settings.trusted_keys.is_empty(),
            known_for: settings.login_limits.known_for,
            store,
            clock,
            access_ttl: settings.access_token_ttl,
            refresh_ttl: settings.refresh_token_ttl,
            reuse_window: settings.refresh_reuse_window,
        })))
    }

    /// Password hasher, for callers that create accounts or set passwords.
    pub fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    /// Audit log of events that anybody can cause.
    pub fn audit_log(&self) -> &AuditLog {
        &self.0.audit_log
    }

    /// Begins a session.
    ///
    /// # Errors
    /// - [`Error::InvalidCredentials`], after the same time whether the account is unknown, deactivated or has another
    ///   password.
    /// - [`Error::TooManyAttempts`], limited per account and network.
    /// - [`Error::Overloaded`] when too many passwords wait to be verified.
    pub async fn login(&self, email: &str, password: String, origin: &RequestOrigin) -> Result<TokenPair, Error> {
        let inner = &*self.0;
        let from = origin.address.map(network);
        let (account, is_known) = {
            let mut reader = inner.store.read().await?;
            let account = reader.user_by_email(email).await?;
            let (id, since) = (account.as_ref().map(|(user, _)| user.id), inner.now().minus(inner.known_for));
            let known = from.map(|network| network.to_string()).unwrap_or_default();
            (account, reader.is_known_network(id, &known, since).await?)
        };
        let subject = account.as_ref().map(|(user, _)| user.id.to_string());
        let note = |kind, name, why: &str| {
            inner.audit_log.note(Entry { subject: subject.clone(), ..origin.entry(kind) }.with(name, why));
        };
        let priority = inner.limits.login(email, from, is_known).map_err(|limited| {
            note(AuditKind::LoginLimited, "limit", limited.limit);
            Error::from(limited)
        })?;
        let stored = account.as_ref().map(|(_, hash)| hash.clone());
        let verdict = inner.passwords.verify(priority, password.clone(), stored).await.inspect_err(|error| {
            if matches!(error, Error::Overloaded { .. }) {
                note(AuditKind::LoginLimited, "limit", "queue");
            }
        })?;
        let fail = |reason| {
            inner.limits.went(from, false);
            note(AuditKind::LoginFailed, "reason", reason);
            Err(Error::InvalidCredentials)
        };
        let Some((user, tried)) = account else { return fail("unknown_account") };
        let PasswordCheck::Right { outdated } = verdict else { return fail("wrong_password") };
        let rehashed = if outdated { Some(inner.passwords.hash(password).await?) } else { None };

        let begin = BeginSession {
            email: user.email,
            tried,
            rehashed,
            network: from.map(|network| network.to_string()),
            session: SessionId(Uuid::now_v7()),
            refresh: RefreshToken::random(),
        };
        let auth = self.clone();
        match inner.store.write_in_group(|tx| async move { begin.run(&auth.0, tx).await }.boxed()).await {
            Ok(pair) => {
                inner.limits.went(from, true);
                Ok(pair)
            }
            Err(Error::InvalidCredentials) => fail("inactive_account"),
            Err(error) => Err(error),
        }
    }

    /// Exchanges a refresh token for a new pair.
    ///
    /// A token that was used a moment ago (two tabs, a lost answer) gets the same successor again.
    ///
    /// # Errors
    /// [`Error::RefreshTokenReused`] when it was used earlier: somebody has a copy, and the session ends.
    pub async fn refresh(&self, token: String, origin: &RequestOrigin) -> Result<TokenPair, Error> {
        let inner = &*self.0;
        let presented = RefreshToken::presented(token);
        let hash = presented.hashed();
        // A read first: clients that send made-up tokens must not delay writers.
        if inner.store.read().await?.refresh_token(&hash).await?.is_none() {
            return Err(Error::Unauthenticated);
        }
        let (auth, origin) = (self.clone(), origin.clone());
        let job = async move |tx: &mut Tx<'_>| auth.0.exchange(tx, &presented, &hash, &origin).await;
        match inner.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await? {
            Exchanged::Granted(pair) => Ok(*pair),
            Exchanged::Reused(entry) => {
                if let Some(entry) = entry {
                    entry.log();
                }
                Err(Error::RefreshTokenReused)
            }
        }
    }

    /// Ends the session of a refresh token; an unknown token is no error.
    pub async fn logout(&self, token: String) -> Result<(), Error> {
        let inner = &*self.0;
        let hash = RefreshToken::presented(token).hashed();
        let stored = inner.store.read().await?.refresh_token(&hash).await?;
        let Some(stored) = stored else { return Ok(()) };
        let now = inner.now();
        let job = async move |tx: &mut Tx<'_>| end(tx, &stored.user, stored.session, now).await;
        let ended: store::Result<bool> = inner.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await;
        Ok(ended.map(drop)?)
    }

    /// Ends every session of the caller's user.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the caller may not act any more.
    pub async fn logout_all(&self, caller: &Principal) -> Result<(), Error> {
        let inner = &*self.0;
        let (auth, caller) = (self.clone(), caller.clone());
        let job = async move |tx: &mut Tx<'_>| -> Result<Entry, Error> {
            let now = auth.0.now();
            let actor = caller.authorize(tx, now).await?;
            end_all(tx, &actor, actor.id, now).await?;
            let entry = caller.entry(AuditKind::SessionsEnded).about(actor.id);
            tx.audit(&entry, now).await?;
            Ok(entry)
        };
        let entry = inner.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await?;
        entry.log();
        Ok(())
    }

    /// Sets a new, already validated password and ends the user's other sessions. Tokens issued elsewhere are refused
    /// from then on, including the caller's own.
    ///
    /// # Errors
    /// [`Error::WrongPassword`]; attempts are limited per session, so that nobody else can use them up.
    pub async fn change_password(&self, caller: &Principal, current: String, new: String) -> Result<(), Error> {
        let inner = &*self.0;
        let id = caller.id;
        let note = |kind, name, why: &str| inner.audit_log.note(caller.entry(kind).about(id).with(name, why));
        let key = caller.session().map_or(id.0, |session| session.0);
        let from = caller.origin().address.map(network);
        let priority = inner.limits.signed_in(key, from).map_err(|limited| {
            note(AuditKind::LoginLimited, "limit", limited.limit);
            Error::from(limited)
        })?;
        let tried = {
            let mut reader = inner.store.read().await?;
            // Do not verify a password for a caller who was signed in only at the start of the request.
            caller.authorize(&mut reader, inner.now()).await?;
            reader.password_hash(id).await?
        };
        if inner.passwords.verify(priority, current, tried.clone()).await? == PasswordCheck::Wrong {
            note(AuditKind::PasswordRefused, "reason", "wrong_password");
            return Err(Error::WrongPassword);
        }
        let hash = inner.passwords.hash(new).await?;

        let (auth, caller) = (self.clone(), caller.clone());
        let job = async move |tx: &mut Tx<'_>| -> Result<Entry, Error> {
            let now = auth.0.now();
            let actor = caller.authorize(tx, now).await?;
            if tx.password_hash(id).await? != tried {
                return Err(Error::WrongPassword);
            }
            tx.save_password_hash(id, &hash).await?;
            tx.refuse_older_tokens(id, now).await?;
            let mut ended: Vec<_> = tx.end_sessions(id, caller.session(), now).await?.into_iter().map(Some).collect();
            if auth.0.has_trusted_keys {
                // Sockets with such a token belong to no session that could be named. The caller's own reconnect by
                // themselves.
                ended = vec![None];
            }
            for session in ended {
                tx.append(&DomainEvent::SessionsEnded { user: id, session }.draft(&actor, now)).await?;
            }
            let entry = caller.entry(AuditKind::PasswordChanged).about(id);
            tx.audit(&entry, now).await?;
            Ok(entry)
        };
        let entry = inner.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await?;
        entry.log();
        Ok(())
    }

    /// Returns the user of an access token.
    ///
    /// # Errors
    /// [`Error::TokenExpired`] when it has expired, [`Error::Unauthenticated`] when anything else is wrong with it, its
    /// session or its user.
    pub async fn authenticate(&self, token: &str) -> Result<Authenticated, Error> {
        let inner = &*self.0;
        let now = inner.now();
        let (subject, credentials) = inner.tokens.verify(token, now).map_err(|flaw| match flaw {
            TokenFlaw::Expired => Error::TokenExpired,
            TokenFlaw::Bad => Error::Unauthenticated,
        })?;
        let mut reader = inner.store.read().await?;
        let id = match subject {
            TokenSubject::User(id) => Some(id),
            TokenSubject::Elsewhere(name) => match name.parse::<UserId>() {
                Ok(id) => Some(id),
                Err(_) => reader.user_by_email(&name).await?.map(|(user, _)| user.id),
            },
        };
        let user = match id {
            Some(id) => credentials.judge(&mut reader, id, now).await?,
            None => None,
        };
        let seq = reader.head().await?;
        user.map(|user| Authenticated { user, credentials, seq }).ok_or(Error::Unauthenticated)
    }
}

impl Authenticated {
    /// Principal of the user.
    pub fn principal(&self, origin: RequestOrigin) -> Principal {
        Principal::of_token(&self.user, self.credentials, origin)
    }
}

impl From<Limited> for Error {
    fn from(limited: Limited) -> Self {
        Self::TooManyAttempts { retry_after: limited.retry_after }
    }
}

impl AuthInner {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Exchanges a refresh token that was presented, in the job that writes it.
    async fn exchange(
        &self,
        tx: &mut Tx<'_>,
        presented: &RefreshToken,
        hash: &str,
        origin: &RequestOrigin,
    ) -> Result<Exchanged, Error> {
        let now = self.now();
        let Some(stored) = tx.refresh_token(hash).await? else { return Err(Error::Unauthenticated) };
        let store::session::StoredRefreshToken { session, user, expires_at, used_at, session_ended } = stored;
        if used_at.is_some_and(|used_at| now.since(used_at) > self.reuse_window) {
            if !end(tx, &user, session, now).await? {
                return Ok(Exchanged::Reused(None));
            }
            let entry = origin.entry(AuditKind::RefreshTokenReused).about(user.id);
            tx.audit(&entry, now).await?;
            return Ok(Exchanged::Reused(Some(entry)));
        }
        if session_ended || !user.active || expires_at <= now {
            return Err(Error::Unauthenticated);
        }
        if used_at.is_none() {
            let successor = self.tokens.successors(presented).next().expect("the current secret always exists");
            let expires_at = now.plus(self.refresh_ttl);
            tx.rotate_refresh_token(hash, session, &successor.hashed(), now, expires_at).await?;
            if let Some(network) = origin.address.map(network) {
                tx.know_network(user.id, &network.to_string(), now).await?;
            }
            return Ok(Exchanged::Granted(Box::new(self.grant(user, session, successor, now))));
        }
        // The secret may have been replaced in between; the successor is the one that is stored.
        for successor in self.tokens.successors(presented) {
            if tx.refresh_token(&successor.hashed()).await?.is_some() {
                return Ok(Exchanged::Granted(Box::new(self.grant(user, session, successor, now))));
            }
        }
        Err(Error::Unauthenticated)
    }

    fn grant(&self, user: User, session: SessionId, refresh: RefreshToken, now: Timestamp) -> TokenPair {
        let access_token = self.tokens.issue(user.id, session, now, now.plus(self.access_ttl));
        TokenPair { access_token, refresh_token: refresh.into_string(), expires_in: self.access_ttl, user }
    }
}

/// Outcome of presenting a refresh token.
enum Exchanged {
    Granted(Box<TokenPair>),
    /// It was used before; with the audit entry if that has ended its session.
    Reused(Option<Entry>),
}

/// Session of a user whose password was verified.
struct BeginSession {
    email: String,
    /// Hash that the password was verified against.
    tried: String,
    rehashed: Option<String>,
    network: Option<String>,
    session: SessionId,
    refresh: RefreshToken,
}

impl BeginSession {
    /// Begins it.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] when the account changed while its password was being verified.
    async fn run(self, auth: &AuthInner, tx: &mut Tx<'_>) -> Result<TokenPair, Error> {
        let user = match tx.user_by_email(&self.email).await? {
            Some((user, hash)) if user.active && hash == self.tried => user,
            _ => return Err(Error::InvalidCredentials),
        };
        if let Some(hash) = self.rehashed {
            tx.save_password_hash(user.id, &hash).await?;
        }
        if let Some(network) = self.network {
            tx.know_network(user.id, &network, auth.now()).await?;
        }
        let now = auth.now();
        tx.insert_session(self.session, user.id, &self.refresh.hashed(), now, now.plus(auth.refresh_ttl)).await?;
        Ok(auth.grant(user, self.session, self.refresh, now))
    }
}

/// Ends every session of a user and revokes tokens issued elsewhere, with one event of the log.
pub async fn end_all(tx: &mut Tx<'_>, actor: &Actor, user: UserId, now: Timestamp) -> store::Result<()> {
    tx.end_sessions(user, None, now).await?;
    tx.refuse_older_tokens(user, now).await?;
    tx.append(&DomainEvent::SessionsEnded { user, session: None }.draft(actor, now)).await?;
    Ok(())
}

/// Ends one session; false if it had ended before.
async fn end(tx: &mut Tx<'_>, user: &User, session: SessionId, now: Timestamp) -> store::Result<bool> {
    let has_ended = tx.end_session(session, now).await?;
    if has_ended {
        let ended = DomainEvent::SessionsEnded { user: user.id, session: Some(session) };
        tx.append(&ended.draft(&Actor::from(user), now)).await?;
    }
    Ok(has_ended)
}

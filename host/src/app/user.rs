//! Accounts: administrators create and change them; every user can list possible owners of a lead.

use futures_util::FutureExt;
use serde::Serialize;
use serde_json::json;

use crate::{
    app::{
        App,
        error::{Error, Result},
        idempotency::IdempotencyKey,
        page::{Fetched, Page, PageRequest, Reading, text},
        visibility::ItemView,
    },
    auth::{self, Principal, QueuePriority, password::PasswordCheck, session},
    domain::{
        actor::Actor,
        event::DomainEvent,
        id::UserId,
        input::Invalid,
        policy::{Action, may},
        role::Role,
        time::Timestamp,
        user::{NewUser, User, UserPatch},
    },
    store::{
        audit::{AuditKind, Entry},
        handle::{Reader, Tx},
    },
};

impl App {
    /// Creates an account, once per idempotency key.
    pub async fn create_user(&self, caller: &Principal, new: NewUser, key: Option<IdempotencyKey>) -> Result<User> {
        may(caller, Action::Administer)?;
        // Without the password: a fast hash of it must not be stored in the database.
        let key = key.map(|key| key.for_request(&("user", &new.email, &new.name, new.role, new.active)));
        if let Some(key) = &key {
            // In a statement of its own, so that the reader is returned before the password is verified.
            let made = key.look_up(&mut self.0.store.read().await?, caller, self.now()).await?;
            if let Some(user) = made {
                return self.same_password(user, new.password).await;
            }
        }
        // Do not hash a password for a caller who was an administrator only at the start of the request.
        administrator(&mut self.0.store.read().await?, caller, self.now()).await?;
        let NewUser { email, name, role, active, password } = new;
        let hash = self.0.passwords.hash(password.clone()).await?;
        let (at, id) = (self.now(), UserId(self.0.clock.id()));
        let caller = caller.clone();
        let job = async move |tx: &mut Tx<'_>| -> Result<MadeUser> {
            let actor = &administrator(tx, &caller, at).await?;
            if let Some(key) = &key
                && let Some(user) = key.look_up(tx, actor, at).await?
            {
                return Ok(MadeUser::Before(user));
            }
            let user = User { id, email, name, role, active, created_at: at, updated_at: at };
            tx.insert_user(&user, &hash).await?;
            let entries = entries(&caller, None, &user, false);
            for entry in &entries {
                tx.audit(entry, at).await?;
            }
            if let Some(key) = &key {
                key.remember(tx, actor, &user, at).await?;
            }
            Ok(MadeUser::Now(user, entries))
        };
        match self.0.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await? {
            MadeUser::Now(user, entries) => {
                entries.iter().for_each(Entry::log);
                Ok(user)
            }
            MadeUser::Before(user) => self.same_password(user, password).await,
        }
    }

    /// Account that the same request created earlier, provided that the password is the same as well.
    async fn same_password(&self, user: User, password: String) -> Result<User> {
        let stored = self.0.store.read().await?.password_hash(user.id).await?;
        match self.0.passwords.verify(QueuePriority::TRUSTED, password, stored).await? {
            PasswordCheck::Right { .. } => Ok(user),
            PasswordCheck::Wrong => Err(Error::KeyReused),
        }
    }

    /// Changes an account. A new role, name or `active` flag reaches open sockets at its position in the log.
    pub async fn update_user(&self, caller: &Principal, id: UserId, patch: UserPatch) -> Result<User> {
        may(caller, Action::Administer)?;
        let hash = match patch.password {
            Some(password) => {
                administrator(&mut self.0.store.read().await?, caller, self.now()).await?;
                Some(self.0.passwords.hash(password).await?)
            }
            None => None,
        };
        let (at, caller) = (self.now(), caller.clone());
        let UserPatch { email, name, role, active, .. } = patch;
        let job = async move |tx: &mut Tx<'_>| -> Result<(User, Vec<Entry>)> {
            let actor = &administrator(tx, &caller, at).await?;
            let before = tx.user(id).await?.ok_or(Error::NotFound("user"))?;
            let mut user = User {
                email: email.unwrap_or_else(|| before.email.clone()),
                name: name.unwrap_or_else(|| before.name.clone()),
                role: role.unwrap_or(before.role),
                active: active.unwrap_or(before.active),
                ..before.clone()
            };
            if user == before && hash.is_none() {
                return Ok((before, Vec::new()));
            }
            keep_an_administrator(tx, &before, &user).await?;
            user.updated_at = at;
            tx.save_user(&user).await?;
            if let Some(hash) = &hash {
                tx.save_password_hash(id, hash).await?;
            }
            if (user.role, &user.name, user.active) != (before.role, &before.name, before.active) {
                let resets = (user.role, user.active) != (before.role, before.active);
                tx.append(&DomainEvent::SessionUpdated { user: user.clone(), resets }.draft(actor, at)).await?;
            }
            if hash.is_some() || (before.active && !user.active) {
                session::end_all(tx, actor, id, at).await?;
            }
            let entries = entries(&caller, Some(&before), &user, hash.is_some());
            for entry in &entries {
                tx.audit(entry, at).await?;
            }
            Ok((user, entries))
        };
        let (user, entries) = self.0.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await?;
        entries.iter().for_each(Entry::log);
        Ok(user)
    }

    pub async fn user(&self, actor: &Actor, id: UserId) -> Result<User> {
        may(actor, Action::Administer)?;
        self.0.store.read().await?.user(id).await?.ok_or(Error::NotFound("user"))
    }

    /// All accounts, in order of creation.
    pub async fn users(&self, actor: &Actor, page: &PageRequest) -> Result<Page> {
        may(actor, Action::Administer)?;
        let fetch = |behind: Option<UserId>, limit| async move {
            let users = self.0.store.read().await?.users(behind, limit).await?;
            Ok(Fetched::of(users.into_iter().map(|user| (user.id, user)).collect(), limit))
        };
        let show = |user| Ok(ItemView::Shown(json!(user)));
        Ok(page.fill(&self.0.cursors, &"users", Reading::by_page(page), fetch, show).await?.into())
    }

    /// Users who can own a lead, as `{id, name}`, for every signed-in user.
    pub async fn assignable_users(&self) -> Result<Page> {
        let users = self.0.store.read().await?.assignable_users().await?;
        let items = users.into_iter().map(|user| text(&AssignableUser { id: user.id, name: user.name })).collect();
        Ok(Page { items, next_cursor: None, withheld: None })
    }
}

/// Account that a request has created.
enum MadeUser {
    Now(User, Vec<Entry>),
    /// By the same request before.
    Before(User),
}

/// User who can own a lead, as every signed-in user sees them.
#[derive(Serialize)]
struct AssignableUser {
    id: UserId,
    name: String,
}

/// Returns the caller's present actor, who must still be an administrator.
pub(crate) async fn administrator(reader: &mut Reader, caller: &Principal, now: Timestamp) -> Result<Actor> {
    let actor = caller.authorize(reader, now).await?;
    may(&actor, Action::Administer)?;
    Ok(actor)
}

/// Audit entries for a new or changed account.
fn entries(caller: &Principal, before: Option<&User>, after: &User, has_new_password: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    match before {
        None => {
            let created = caller.entry(AuditKind::UserCreated).about(after.id);
            entries.push(created.with("role", after.role.as_str()).with("active", after.active));
        }
        Some(before) => {
            let mut changed = caller.entry(AuditKind::UserChanged).about(after.id);
            if before.role != after.role {
                changed = changed.with("role", json!([before.role, after.role]));
            }
            if before.active != after.active {
                changed = changed.with("active", json!([before.active, after.active]));
            }
            // Names and addresses are not recorded: that they changed is what matters.
            let parts = [
                ("email", before.email != after.email),
                ("name", before.name != after.name),
                ("password", has_new_password),
            ];
            for (name, _) in parts.into_iter().filter(|(_, has_changed)| *has_changed) {
                changed = changed.with(name, "changed");
            }
            entries.push(changed);
            if has_new_password || (before.active && !after.active) {
                entries.push(caller.entry(AuditKind::SessionsEnded).about(after.id));
            }
        }
    }
    if is_administrator(after) && !before.is_some_and(is_administrator) {
        entries.push(caller.entry(AuditKind::AdministratorAdded).about(after.id));
    }
    entries
}

fn is_administrator(user: &User) -> bool {
    user.active && user.role == Role::Admin
}

/// Refuses to remove the last administrator, because nobody could undo it.
async fn keep_an_administrator(tx: &mut Tx<'_>, before: &User, after: &User) -> Result<()> {
    if !is_administrator(before) || is_administrator(after) || tx.users_of_role(Role::Admin).await?.len() > 1 {
        return Ok(());
    }
    let field = if after.active { "role" } else { "active" };
    Err(Invalid::one(field, "last_admin", "the last active administrator cannot be demoted or deactivated").into())
}

impl From<auth::Error> for Error {
    fn from(error: auth::Error) -> Self {
        let message = error.to_string();
        match error {
            auth::Error::InvalidCredentials => Self::Unauthenticated { code: "invalid_credentials", message },
            auth::Error::Unauthenticated | auth::Error::TokenExpired => {
                Self::Unauthenticated { code: "unauthenticated", message }
            }
            auth::Error::RefreshTokenReused => Self::Unauthenticated { code: "refresh_token_reused", message },
            auth::Error::WrongPassword => Invalid::one("currentPassword", "wrong_password", message).into(),
            auth::Error::TooManyAttempts { retry_after } => Self::RateLimited { retry_after },
            auth::Error::Overloaded { retry_after } => Self::Overloaded { retry_after },
            auth::Error::Store(error) => error.into(),
            error @ auth::Error::Internal { .. } => Self::Internal(error.into()),
        }
    }
}

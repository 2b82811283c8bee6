//! Erasure of a person's data, as the law may demand: the data that a deletion keeps for a restore is gone afterwards.
//!
//! Plugins are not asked: they decide about business rules, and erasure is a legal duty independent of them.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    app::{
        App,
        error::{Error, Result},
        user::administrator,
    },
    auth::Principal,
    domain::{
        event::DomainEvent,
        id::{LeadId, UserId},
        policy::{Action, may},
        user::{User, UserPatch},
    },
    store::{
        audit::AuditKind,
        erase::{Erased, MAX_NAMED, Mention},
    },
};

/// Time that an erasure waits for the search index to be rid of what was erased.
const MERGE: Duration = Duration::from_secs(5);
/// Name of an account whose person was erased.
const NOBODY: &str = "Erased";
/// Domain that can never be resolved (RFC 2606).
const NOWHERE: &str = "erased.invalid";

/// Result of an erasure: what was erased, and what could not be reached.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Erasure {
    pub erased: Erased,
    /// Account that no longer identifies a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<ErasedAccount>,
    /// Places that still contain the address, for example other leads. People have to check these.
    pub mentions: Vec<Mention>,
    /// Data that no server can erase.
    pub remains: Vec<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErasedAccount {
    pub id: UserId,
    pub email: String,
    /// Number of replaced copies of the name and address, in the log and in histories.
    pub copies: u64,
}

const BACKUPS: &str =
    "backups and other copies of the database that were made before: delete them, or erase again after a restore";
const RECEIVERS: &str = "what clients, webhooks and plugins received, and the server's own log output";
const READERS: &str =
    "the write-ahead log of the database, because it was being read: it is emptied at the next checkpoint";
const INDEX: &str = "traces in the index of the search, because it could not be written: the server removes them later";

const UNLISTED: &str = "more mentions of the address: only the first 100 are listed per column";
const UNSEARCHED: &str = "perhaps mentions of the address elsewhere: the database could not be searched for them";

impl App {
    /// Erases one lead, deleted or not.
    ///
    /// # Errors
    /// On an error, nothing was changed.
    pub async fn erase_lead(&self, caller: &Principal, id: LeadId) -> Result<Erasure> {
        may(caller, Action::Administer)?;
        let lead = self.0.store.read().await?.any_lead(id).await?.ok_or(Error::NotFound("lead"))?;
        // A failing plugin must not prevent an erasure.
        match self.lead_for(caller, &lead) {
            Ok(Some(_)) | Err(Error::PluginUnavailable(_)) => {}
            Ok(None) => return Err(Error::NotFound("lead")),
            Err(error) => return Err(error),
        }
        let erased = self.erase_leads(caller, &[id]).await?;
        if erased.leads == 0 {
            return Err(Error::NotFound("lead"));
        }
        self.finish(erased, None, Some(Vec::new())).await
    }

    /// Erases all leads with an e-mail address, and anonymises the account with that address.
    ///
    /// # Errors
    /// `NotFound` when neither exists.
    pub async fn erase_person(&self, caller: &Principal, email: &str) -> Result<Erasure> {
        may(caller, Action::Administer)?;
        let mut reader = self.0.store.read().await?;
        let leads = reader.leads_with_email(email).await?;
        let account = reader.user_by_email(email).await?.map(|(user, _)| user);
        drop(reader);
        if leads.is_empty() && account.is_none() {
            return Err(Error::NotFound("person"));
        }

        let account = match account {
            Some(user) => Some(self.erase_account(caller, user).await?),
            None => None,
        };
        let erased = self.erase_leads(caller, &leads).await?;
        // The erasure stands, even if a large database cannot be searched within the time limit of a read.
        let mentions = match self.0.store.read().await {
            Ok(mut reader) => reader.mentions(email).await.ok(),
            Err(_) => None,
        };
        self.finish(erased, account, mentions).await
    }

    async fn erase_leads(&self, caller: &Principal, leads: &[LeadId]) -> Result<Erased> {
        let mut all = Erased::default();
        for id in leads {
            // One transaction per lead, so that others can write in between.
            let at = self.now();
            let mut tx = self.0.store.write().await?;
            let actor = &administrator(&mut tx, caller, at).await?;
            let erased = tx.erase_lead(*id).await?;
            let entry = caller.entry(AuditKind::LeadErased).about(id);
            if erased.leads > 0 {
                // After the blanked events, so that every client that knows the lead drops it.
                tx.append(&DomainEvent::LeadErased { lead: *id }.draft(actor, at)).await?;
                tx.audit(&entry, at).await?;
            }
            tx.commit().await?;
            if erased.leads > 0 {
                entry.log();
            }
            all = all.and(erased);
        }
        Ok(all)
    }

    /// Anonymises the account and disables its login. The account itself stays, because history and activities refer to
    /// it.
    async fn erase_account(&self, caller: &Principal, user: User) -> Result<ErasedAccount> {
        let email = format!("{}@{NOWHERE}", user.id);
        let patch = UserPatch {
            email: Some(email.clone()),
            name: Some(NOBODY.into()),
            active: Some(false),
            password: Some(Uuid::new_v4().to_string()),
            ..UserPatch::default()
        };
        self.update_user(caller, user.id, patch).await?;

        let mut tx = self.0.store.write().await?;
        administrator(&mut tx, caller, self.now()).await?;
        tx.delete_sessions(user.id).await?;
        tx.forget_networks(user.id).await?;
        let copies = tx.scrub_user(&user, &email, NOBODY).await?;
        tx.commit().await?;
        Ok(ErasedAccount { id: user.id, email, copies })
    }

    async fn finish(
        &self,
        erased: Erased,
        account: Option<ErasedAccount>,
        mentions: Option<Vec<Mention>>,
    ) -> Result<Erasure> {
        let mut remains = vec![BACKUPS, RECEIVERS];
        if mentions.is_none() {
            remains.push(UNSEARCHED);
        }
        let mut mentions = mentions.unwrap_or_default();
        let mut columns: HashMap<_, usize> = HashMap::new();
        mentions.iter().for_each(|mention| *columns.entry((mention.table, mention.column)).or_default() += 1);
        if columns.values().any(|count| *count >= MAX_NAMED) {
            remains.push(UNLISTED);
        }
        mentions.sort();
        mentions.dedup();
        // What is not merged in time is merged in the background.
        if !matches!(timeout(MERGE, self.0.store.purge_texts()).await, Ok(Ok(()))) {
            remains.push(INDEX);
        }
        // The erasure stands: a write-ahead log that cannot be emptied now is reported and is not a failure.
        if !self.0.store.truncate_wal().await.unwrap_or(false) {
            remains.push(READERS);
        }
        Ok(Erasure { erased, account, mentions, remains })
    }
}

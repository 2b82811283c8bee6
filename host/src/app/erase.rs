//! Erasing a person, as the law may demand it: what a deletion keeps for a restore is gone afterwards.
//!
//! Plugins are not asked: they say what may be done in the trade, and this is a duty beside it.

use serde::Serialize;
use uuid::Uuid;

use super::{App, Error, Result, user::administrator};
use crate::{
    auth::Principal,
    domain::{
        event::Happening,
        id::{LeadId, UserId},
        policy::{Deed, may},
        user::{User, UserPatch},
    },
    store::{
        audit::Kind,
        erase::{Erased, Mention},
    },
};

/// Name of an account whose person was erased.
const NOBODY: &str = "Erased";
/// A name that can never be looked up (RFC 2606).
const NOWHERE: &str = "erased.invalid";

/// What the erasure of a person did, and what it could not reach.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Erasure {
    pub erased: Erased,
    /// The account that no longer names anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<ErasedAccount>,
    /// Where the address still stands: in other leads, say. People have to look at these.
    pub mentions: Vec<Mention>,
    /// What no server can erase.
    pub remains: Vec<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErasedAccount {
    pub id: UserId,
    pub email: String,
    /// Copies of the name and address that were replaced, in the log and in histories.
    pub copies: u64,
}

const BACKUPS: &str =
    "backups and other copies of the database that were made before: delete them, or erase again after a restore";
const RECEIVERS: &str = "what clients, webhooks and plugins received, and the server's own log output";
const READERS: &str =
    "the write-ahead log of the database, because somebody kept reading it: it is emptied at the next checkpoint";

const UNSEARCHED: &str = "perhaps mentions of the address elsewhere: the database could not be searched for them";

impl App {
    /// Erases one lead, deleted or not.
    ///
    /// # Errors
    /// Nothing was changed.
    pub async fn erase_lead(&self, caller: &Principal, id: LeadId) -> Result<Erasure> {
        may(caller, Deed::Administer)?;
        let lead = self.0.store.read().await?.any_lead(id).await?.ok_or(Error::NotFound("lead"))?;
        // A plugin that fails must not keep a person from being erased.
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

    /// Erases the leads with an e-mail address, and makes an account with it nobody's.
    ///
    /// # Errors
    /// `NotFound` when there is neither.
    pub async fn erase_person(&self, caller: &Principal, email: &str) -> Result<Erasure> {
        may(caller, Deed::Administer)?;
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
        // What is done is done, also when a large database cannot be searched in the time that a read may take.
        let mentions = match self.0.store.read().await {
            Ok(mut reader) => reader.mentions(email).await.ok(),
            Err(_) => None,
        };
        self.finish(erased, account, mentions).await
    }

    async fn erase_leads(&self, caller: &Principal, leads: &[LeadId]) -> Result<Erased> {
        let mut all = Erased::default();
        for id in leads {
            // Each by itself: others can write between them.
            let at = self.now();
            let mut tx = self.0.store.write().await?;
            let actor = &administrator(&mut tx, caller, at).await?;
            let erased = tx.erase_lead(*id).await?;
            let entry = caller.entry(Kind::LeadErased).about(id);
            if erased.leads > 0 {
                // Behind the blanked lines, so that everybody who knows the lead drops it.
                tx.append(&Happening::LeadErased { lead: *id }.draft(actor, at)).await?;
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

    /// The account stays, because history and activities are its work; it names nobody, and nobody can sign in to it.
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
        mentions.sort();
        mentions.dedup();
        // What is done is done: a log that cannot be emptied now is told, and is no failure.
        if !self.0.store.truncate_wal().await.unwrap_or(false) {
            remains.push(READERS);
        }
        Ok(Erasure { erased, account, mentions, remains })
    }
}

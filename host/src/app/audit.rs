//! Audit table as administrators read it, and the recording of orders before they are carried out.

use futures_util::FutureExt;
use serde_json::{Map, Value};

use crate::{
    app::{
        App,
        error::Result,
        page::{Fetched, Page, PageRequest, Reading},
        user::administrator,
        visibility::ItemView,
    },
    auth::Principal,
    domain::{
        actor::Actor,
        policy::{Action, may},
    },
    store::{
        audit::{AuditFilter, AuditKind, AuditRow, Entry},
        handle::Tx,
    },
};

impl App {
    /// Returns rows of the audit table, newest first.
    pub async fn audit_rows(&self, actor: &Actor, filter: &AuditFilter, page: &PageRequest) -> Result<Page> {
        may(actor, Action::Administer)?;
        let fetch = |before: Option<i64>, limit| async move {
            let rows = self.0.store.read().await?.audit_rows(filter, before, limit).await?;
            Ok(Fetched::of(rows.into_iter().map(|row| (row.id, row)).collect(), limit))
        };
        let show = |row: AuditRow| Ok(ItemView::Shown(row.to_json()));
        Ok(page.fill(&self.0.cursors, &("audit", filter), Reading::by_page(page), fetch, show).await?.into())
    }

    /// Records an administrator's order that is not a database write. Call it right before the order is carried out.
    ///
    /// # Errors
    /// When the caller is not an administrator any more: then the order must not be carried out.
    pub async fn order(
        &self,
        caller: &Principal,
        kind: AuditKind,
        subject: &str,
        detail: Map<String, Value>,
    ) -> Result<()> {
        let entry = Entry { detail, ..caller.entry(kind).about(subject) };
        let (at, caller) = (self.now(), caller.clone());
        let job = async move |tx: &mut Tx<'_>| -> Result<Entry> {
            administrator(tx, &caller, at).await?;
            tx.audit(&entry, at).await?;
            Ok(entry)
        };
        self.0.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await?.log();
        Ok(())
    }

    /// Records that an order was not carried out, and why.
    pub async fn order_failed(&self, caller: &Principal, kind: AuditKind, subject: &str, reason: &str) -> Result<()> {
        let entry = caller.entry(AuditKind::PluginOrderFailed).about(subject);
        let entry = entry.with("order", kind.as_str()).with("reason", reason);
        let at = self.now();
        let job = async move |tx: &mut Tx<'_>| -> Result<Entry> {
            tx.audit(&entry, at).await?;
            Ok(entry)
        };
        self.0.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await?.log();
        Ok(())
    }
}

//! `leadwire erase`: erases a person, beside a running server or none.
//!
//! It writes to the database as `leadwire user` does; a running server reads of it in the log, and forgets what it has
//! read before.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::{Options, app, runtime, say};
use crate::{
    app::erase::Erasure,
    auth::{Principal, password::Passwords},
    domain::id::LeadId,
    server::claim,
};

#[derive(Args)]
pub(super) struct Erase {
    #[command(flatten)]
    whom: Whom,
    /// Also rebuild the database file, which removes what versions before this one left in it; nobody can write meanwhile
    #[arg(long)]
    vacuum: bool,
    /// Print JSON for a program
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// Every lead with this address, and the account with it
    #[arg(long)]
    email: Option<String>,
    /// One lead by its id
    #[arg(long, value_name = "ID")]
    lead: Option<String>,
}

pub(super) fn run(erase: &Erase, options: &Options) -> Result<()> {
    let config = options.load()?;
    let file = config.database_file()?;
    if !file.exists() {
        bail!("there is no database {}", file.display());
    }
    let erasure = runtime()?.block_on(async {
        let store = Arc::new(claim::open_for_command(&config, "erase").await?);
        let app = app(&config, Arc::clone(&store), Passwords::new(&config.auth.password_hash)?);
        let erasure = match (&erase.whom.email, &erase.whom.lead) {
            (Some(email), _) => {
                let erased = app.erase_person(&Principal::operator(), email.trim()).await;
                erased.with_context(|| format!("cannot erase {email:?}"))?
            }
            (None, Some(lead)) => {
                let id: LeadId = lead.parse().ok().with_context(|| format!("{lead:?} is no id of a lead"))?;
                app.erase_lead(&Principal::operator(), id).await.with_context(|| format!("cannot erase lead {lead}"))?
            }
            (None, None) => bail!("expected --email or --lead"),
        };
        if erase.vacuum {
            store.vacuum().await.context("the person is erased, but the file could not be rebuilt")?;
        }
        store.close().await;
        anyhow::Ok(erasure)
    })?;
    if erase.json {
        return say(format_args!("{:#}", json!(erasure)));
    }
    say(text(&erasure))
}

fn text(erasure: &Erasure) -> String {
    let erased = &erasure.erased;
    let mut lines = vec![format!(
        "erased {} leads, {} activities, {} changes, {} idempotency outcomes, {} effects, {} reminders and {} other rows; \
         blanked {} lines of the log",
        erased.leads,
        erased.activities,
        erased.changes,
        erased.idempotency_outcomes,
        erased.effects,
        erased.reminders,
        erased.others,
        erased.events,
    )];
    if let Some(account) = &erasure.account {
        let (id, copies) = (account.id, account.copies);
        lines.push(format!("the account {id} names nobody any more and is deactivated; {copies} copies were replaced"));
    }
    for mention in &erasure.mentions {
        let lead = mention.lead_id.as_ref().map(|id| format!(" of lead {id}")).unwrap_or_default();
        lines.push(format!("still mentioned in {}.{}{lead}: look at it", mention.table, mention.column));
    }
    lines.extend(erasure.remains.iter().map(|what| format!("what remains: {what}")));
    lines.join("\n")
}

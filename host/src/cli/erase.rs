//! `leadwire erase`: erases a person, with or without a running server.
//!
//! It writes to the database like `leadwire user`. A running server learns of it from the log, and drops the events
//! that it has in memory.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use crate::{
    app::erase::Erasure,
    auth::{Principal, password::Passwords},
    cli::{
        options::Options,
        print::say,
        runtime::{app, runtime},
    },
    domain::id::LeadId,
    server::claim,
};

#[derive(Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    whom: Whom,
    /// Also rebuild the database file, which removes what earlier versions left in it; nobody can write meanwhile
    #[arg(long)]
    vacuum: bool,
    /// Print machine-readable JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// All leads with this address, and the account with it
    #[arg(long)]
    email: Option<String>,
    /// One lead by its id
    #[arg(long, value_name = "ID")]
    lead: Option<String>,
}

pub(crate) fn run(erase: &Erase, options: &Options) -> Result<()> {
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
                let id: LeadId = lead.parse().ok().with_context(|| format!("{lead:?} is not a lead id"))?;
                app.erase_lead(&Principal::operator(), id).await.with_context(|| format!("cannot erase lead {lead}"))?
            }
            (None, None) => bail!("expected --email or --lead"),
        };
        if erase.vacuum {
            store.vacuum().await.context("the person was erased, but VACUUM failed")?;
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
        lines.push(format!("the account {id} is anonymised and deactivated; {copies} copies were replaced"));
    }
    for mention in &erasure.mentions {
        let lead = mention.lead_id.as_ref().map(|id| format!(" of lead {id}")).unwrap_or_default();
        lines.push(format!("still mentioned in {}.{}{lead}: review it", mention.table, mention.column));
    }
    lines.extend(erasure.remains.iter().map(|what| format!("what remains: {what}")));
    lines.join("\n")
}

//! `leadwire seed`: a small firm's leads, the same every time but for the dates, which end today.
//!
//! It goes through commands, so that history, the server's own activities and the log are what they would be
//! had people done it; all of it in one transaction, so that a database is seeded whole or not at all. Everybody knows
//! the passwords, so it takes `mode = "demo"`; and it does not run beside a server.

mod story;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use uuid::Uuid;

use self::story::{LEADS, Person};
use super::{Options, runtime, say};
use crate::{
    app::Batch,
    auth::password::Passwords,
    config::{Config, Mode},
    domain::{
        activity::ActivityFields,
        command::Command,
        event::Actor,
        id::{LeadId, UserId},
        lead::LeadFields,
        time::Timestamp,
        user::User,
    },
    server::claim,
};

#[derive(Args)]
pub(super) struct Seed {
    /// Outside of mode = "demo" too
    #[arg(long)]
    force: bool,
}

pub(super) fn run(seed_it: &Seed, options: &Options) -> Result<()> {
    let config = options.load()?;
    if config.mode != Mode::Demo && !seed_it.force {
        bail!(
            "seed adds an administrator whose password everybody knows, so it takes mode = \"demo\" (or --mode demo), or \
             --force"
        );
    }
    runtime()?.block_on(seed(&config))
}

async fn seed(config: &Config) -> Result<()> {
    let store = Arc::new(claim::open_for_command_alone(config, "seed").await?);
    let passwords = Passwords::new(&config.auth.password_hash)?;
    let app = super::app(config, Arc::clone(&store), passwords.clone());
    let mut batch = app.batch().await?;
    if !batch.tx().users(None, 1).await?.is_empty() {
        return say("the database has users already: nothing was added");
    }

    let now = Timestamp::now();
    let mut actors = Vec::new();
    for person in Person::ALL {
        actors.push(add_user(&mut batch, &passwords, person, story::begin(now)).await?);
    }
    let mut leads: [Option<LeadId>; LEADS] = [None; LEADS];
    for step in story::write(now) {
        let lead = &mut leads[step.lead];
        let command = command(step.deed, *lead, &actors)?;
        *lead = batch.execute(&actors[step.by as usize], step.at, command).await?;
    }
    batch.commit().await?;
    store.close().await;

    say(format_args!("added 4 users, {LEADS} leads and {} activities; sign in with:", story::ACTIVITIES))?;
    Person::ALL.into_iter().try_for_each(|person| say(format_args!("  {:26}{}", person.email(), person.password())))
}

async fn add_user(batch: &mut Batch<'_>, passwords: &Passwords, person: Person, at: Timestamp) -> Result<Actor> {
    let user = User {
        id: UserId(Uuid::now_v7()),
        email: person.email(),
        name: person.name().into(),
        role: person.role(),
        active: true,
        created_at: at,
        updated_at: at,
    };
    let hash = passwords.hash(person.password()).await?;
    batch.tx().insert_user(&user, &hash).await?;
    Ok(Actor::from(&user))
}

fn command(deed: story::Deed, lead: Option<LeadId>, actors: &[Actor]) -> Result<Command> {
    let lead = || lead.context("a step is told before its lead is made");
    Ok(match deed {
        story::Deed::Create(body) => Command::CreateLead { fields: LeadFields::parse(body)? },
        story::Deed::Update(patch) => Command::UpdateLead { lead: lead()?, patch, version: None },
        story::Deed::Assign(person) => {
            Command::AssignLead { lead: lead()?, owner: Some(actors[person as usize].id), version: None }
        }
        story::Deed::Note(body) => Command::CreateActivity { lead: lead()?, fields: ActivityFields::parse(body)? },
    })
}

//! `leadwire seed`: fills a database with the leads of a small company, the same every time except for the dates, which
//! end today.
//!
//! It uses commands, so that history, the server's own activities and the log are as if people had done it. Everything
//! is one transaction, so that a database is seeded completely or not at all. The passwords are public, so it requires
//! `mode = "demo"`; and it does not run beside a server.

mod story;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use uuid::Uuid;

use crate::{
    app::CommandBatch,
    auth::password::Passwords,
    cli::{
        options::Options,
        print::say,
        runtime::runtime,
        seed::story::{LEADS, StoryPerson},
    },
    config::{Config, ServerMode},
    domain::{
        activity::ActivityFields,
        actor::Actor,
        command::Command,
        id::{LeadId, UserId},
        lead::LeadFields,
        time::Timestamp,
        user::User,
    },
    server::claim,
};

#[derive(Args)]
pub(crate) struct Seed {
    /// Run outside mode = "demo" as well
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(seed_it: &Seed, options: &Options) -> Result<()> {
    let config = options.load()?;
    if config.mode != ServerMode::Demo && !seed_it.force {
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
    let app = crate::cli::runtime::app(config, Arc::clone(&store), passwords.clone());
    let mut batch = app.batch().await?;
    if !batch.tx().users(None, 1).await?.is_empty() {
        return say("the database has users already: nothing was added");
    }

    let now = Timestamp::now();
    let mut actors = Vec::new();
    for person in StoryPerson::ALL {
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
    StoryPerson::ALL
        .into_iter()
        .try_for_each(|person| say(format_args!("  {:26}{}", person.email(), person.password())))
}

async fn add_user(
    batch: &mut CommandBatch<'_>,
    passwords: &Passwords,
    person: StoryPerson,
    at: Timestamp,
) -> Result<Actor> {
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

fn command(deed: story::StoryAction, lead: Option<LeadId>, actors: &[Actor]) -> Result<Command> {
    let lead = || lead.context("a step refers to a lead that does not exist yet");
    Ok(match deed {
        story::StoryAction::Create(body) => Command::CreateLead { fields: LeadFields::parse(body)? },
        story::StoryAction::Update(patch) => Command::UpdateLead { lead: lead()?, patch, version: None },
        story::StoryAction::Assign(person) => {
            Command::AssignLead { lead: lead()?, owner: Some(actors[person as usize].id), version: None }
        }
        story::StoryAction::Note(body) => {
            Command::CreateActivity { lead: lead()?, fields: ActivityFields::parse(body)? }
        }
    })
}

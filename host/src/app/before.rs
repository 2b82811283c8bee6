//! Plugins' say in a command, before its transaction: they accept, amend or refuse.
//!
//! They are asked only about what the server itself would carry out, so the rights and the input are checked
//! first. They judge a lead as it was read; [`About::holds`] tells inside of the transaction whether it still is
//! so, because two commands that are each fine alone may not be so together.

use serde_json::{Map, Value, json};

use super::{App, Error, Result, write};
use crate::{
    domain::{
        activity::Activity,
        command::Command,
        event::Actor,
        lead::Lead,
        policy::{Deed, may},
    },
    plugin::{Question, Ruling},
    store::Reader,
};

/// What a command is about, as it stands.
#[derive(Default)]
pub(super) struct About {
    pub(super) lead: Option<Lead>,
    pub(super) activity: Option<Activity>,
}

impl About {
    /// Whether it is still as it was. A lead that only had something done about it is.
    pub(super) async fn holds(&self, reader: &mut Reader) -> Result<bool> {
        if let Some(lead) = &self.lead {
            let now = match reader.lead(lead.id).await? {
                Some(now) => Some(now),
                None => reader.deleted_lead(lead.id).await?,
            };
            if now.is_none_or(|now| now.version != lead.version) {
                return Ok(false);
            }
        }
        match &self.activity {
            Some(activity) => Ok(reader.activity(activity.id).await?.as_ref() == Some(activity)),
            None => Ok(true),
        }
    }

    fn values(&self) -> (Option<Value>, Option<Value>) {
        (self.lead.as_ref().map(|lead| json!(lead)), self.activity.as_ref().map(|activity| json!(activity)))
    }

    /// What the server has against a command, as far as this tells.
    fn check(&self, actor: &Actor, command: &Command) -> Result<()> {
        match (command, &self.lead, &self.activity) {
            (Command::CreateLead { .. }, ..) => may(actor, Deed::CreateLead)?,
            (Command::UpdateLead { patch, .. }, Some(lead), _) => {
                may(actor, Deed::UpdateLead(lead))?;
                lead.update(patch)?;
            }
            (Command::AssignLead { owner, .. }, Some(lead), _) => may(actor, Deed::AssignLead(lead, *owner))?,
            (Command::DeleteLead { .. }, ..) => may(actor, Deed::DeleteLead)?,
            (Command::RestoreLead { .. }, ..) => may(actor, Deed::RestoreLead)?,
            (Command::CreateActivity { .. }, ..) => may(actor, Deed::CreateActivity)?,
            (Command::UpdateActivity { patch, .. }, _, Some(activity)) => {
                may(actor, Deed::ChangeActivity(activity))?;
                activity.fields.update(patch)?;
            }
            (Command::DeleteActivity { .. }, _, Some(activity)) => may(actor, Deed::ChangeActivity(activity))?,
            (Command::UpdateLead { .. } | Command::AssignLead { .. }, None, _) => return Err(Error::NotFound("lead")),
            (Command::UpdateActivity { .. } | Command::DeleteActivity { .. }, _, None) => {
                return Err(Error::NotFound("activity"));
            }
        }
        Ok(())
    }
}

impl App {
    /// The command as plugins let it run.
    pub(super) async fn ask_plugins(&self, actor: &Actor, command: Command, about: &About) -> Result<Command> {
        if let (Some(version), Some(lead)) = (command.version(), &about.lead)
            && version != lead.version
        {
            return Err(self.conflict(actor, lead)?);
        }
        about.check(actor, &command)?;
        let mut reader = self.0.store.read().await?;
        check_owner(&mut reader, &command).await?;
        let user = write::account(&mut reader, actor).await?.ok_or(Error::NotFound("user"))?;
        drop(reader);

        let (lead, activity) = about.values();
        let (lead, activity) = (lead.as_ref(), activity.as_ref());
        let question = Question { name: command.name(), user: &user, input: command.input(), lead, activity };
        let with = |input: &Map<String, Value>| -> Result<Command> {
            let amended = command.clone().with_input(input.clone())?;
            about.check(actor, &amended)?;
            Ok(amended)
        };
        let check = |input: &Map<String, Value>| with(input).map(drop).map_err(|error| error.to_string());
        match self.0.plugins.before(&question, check)? {
            Ruling::Accepted => Ok(command),
            Ruling::Refused(refusal) => Err(Error::Refused(refusal)),
            Ruling::Amended { input, by } => {
                let amended = with(&input)?;
                match check_owner(&mut self.0.store.read().await?, &amended).await {
                    Err(Error::Invalid(invalid)) => Err(self.0.plugins.blame(&by, &invalid.to_string()).into()),
                    checked => checked.map(|()| amended),
                }
            }
        }
    }
}

impl App {
    /// Shows plugins in shadow mode what was carried out and how things were before. Nobody waits for it.
    pub(super) fn show_shadows(&self, actor: &Actor, command: Command, about: About) {
        let (app, actor) = (self.clone(), actor.clone());
        tokio::spawn(async move {
            let user = async { write::account(&mut app.0.store.read().await?, &actor).await }.await;
            let Ok(Some(user)) = user else { return };
            let (lead, activity) = about.values();
            let (lead, activity) = (lead.as_ref(), activity.as_ref());
            let question = Question { name: command.name(), user: &user, input: command.input(), lead, activity };
            app.0.plugins.show_command(&question);
        });
    }
}

async fn check_owner(reader: &mut Reader, command: &Command) -> Result<()> {
    match command {
        Command::AssignLead { owner: Some(owner), .. } => write::assignable(reader, *owner).await.map(drop),
        _ => Ok(()),
    }
}

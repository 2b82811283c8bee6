//! Calls of `before` plugins, which accept, amend or refuse a command before its transaction.
//!
//! They are asked only about commands that the server itself would carry out, so permissions and input are checked
//! first. They judge a lead as it was read. [`About::read_again`] checks inside the transaction that it is still the
//! same, because two commands that are each fine alone may not be fine together.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    app::{
        App,
        error::{Error, Result},
        write,
    },
    domain::{
        activity::Activity,
        actor::Actor,
        command::Command,
        lead::Lead,
        policy::{Action, may},
    },
    plugin::{ProposedCommand, Ruling},
    store::Reader,
};

/// Lead and activity that a command is about, as they were read.
#[derive(Default)]
pub(crate) struct About {
    pub(crate) lead: Option<Lead>,
    pub(crate) activity: Option<Activity>,
}

/// Lead that was read again and is as it was.
#[derive(Default)]
pub(crate) struct Unchanged {
    /// The lead, unless it is deleted.
    pub(crate) lead: Option<Lead>,
}

impl About {
    /// Reads the same again; `None` if anything relevant changed. A new activity on the lead does not count as a change.
    pub(crate) async fn read_again(&self, reader: &mut Reader) -> Result<Option<Unchanged>> {
        let mut unchanged = Unchanged::default();
        if let Some(lead) = &self.lead {
            unchanged.lead = reader.lead(lead.id).await?;
            let now = match &unchanged.lead {
                Some(now) => Some(now.version),
                None => reader.deleted_lead(lead.id).await?.map(|now| now.version),
            };
            if now != Some(lead.version) {
                return Ok(None);
            }
        }
        if let Some(activity) = &self.activity
            && reader.activity(activity.id).await?.as_ref() != Some(activity)
        {
            return Ok(None);
        }
        Ok(Some(unchanged))
    }

    fn values(&self) -> (Option<Value>, Option<Value>) {
        (self.lead.as_ref().map(|lead| json!(lead)), self.activity.as_ref().map(|activity| json!(activity)))
    }

    /// Returns the server's own refusal of a command, as far as the data read here can tell.
    fn check(&self, actor: &Actor, command: &Command) -> Result<()> {
        match (command, &self.lead, &self.activity) {
            (Command::CreateLead { .. }, ..) => may(actor, Action::CreateLead)?,
            (Command::UpdateLead { patch, .. }, Some(lead), _) => {
                may(actor, Action::UpdateLead(lead))?;
                lead.update(patch)?;
            }
            (Command::AssignLead { owner, .. }, Some(lead), _) => may(actor, Action::AssignLead(lead, *owner))?,
            (Command::DeleteLead { .. }, ..) => may(actor, Action::DeleteLead)?,
            (Command::RestoreLead { .. }, ..) => may(actor, Action::RestoreLead)?,
            (Command::CreateActivity { .. }, ..) => may(actor, Action::CreateActivity)?,
            (Command::UpdateActivity { patch, .. }, _, Some(activity)) => {
                may(actor, Action::ChangeActivity(activity))?;
                activity.fields.update(patch)?;
            }
            (Command::DeleteActivity { .. }, _, Some(activity)) => may(actor, Action::ChangeActivity(activity))?,
            (Command::UpdateLead { .. } | Command::AssignLead { .. }, None, _) => return Err(Error::NotFound("lead")),
            (Command::UpdateActivity { .. } | Command::DeleteActivity { .. }, _, None) => {
                return Err(Error::NotFound("activity"));
            }
        }
        Ok(())
    }
}

impl App {
    /// Asks the `before` plugins and returns the command as they allow or amend it.
    pub(crate) async fn ask_plugins(&self, actor: &Actor, command: Command, about: &About) -> Result<Command> {
        walk_step!("ask_plugins");
        if let (Some(version), Some(lead)) = (command.version(), &about.lead)
            && version != lead.version
        {
            return Err(self.conflict(actor, lead)?);
        }
        about.check(actor, &command)?;
        let mut reader = self.0.store.read().await?;
        check_owner(&mut reader, &command).await?;
        let account = write::account(&mut reader, actor).await?.ok_or(Error::NotFound("user"))?;
        drop(reader);

        let (lead, activity) = about.values();
        let (lead, activity) = (lead.as_ref(), activity.as_ref());
        let question =
            ProposedCommand { name: command.name(), actor: &account, input: command.input(), lead, activity };
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
    /// Shows plugins in shadow mode the command that was carried out and the state before it. Nobody waits for it.
    pub(crate) fn show_shadows(&self, actor: &Actor, command: Command, about: Arc<About>) {
        let (app, actor) = (self.clone(), actor.clone());
        tokio::spawn(async move {
            let account = async { write::account(&mut app.0.store.read().await?, &actor).await }.await;
            let Ok(Some(account)) = account else { return };
            let (lead, activity) = about.values();
            let (lead, activity) = (lead.as_ref(), activity.as_ref());
            let question =
                ProposedCommand { name: command.name(), actor: &account, input: command.input(), lead, activity };
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

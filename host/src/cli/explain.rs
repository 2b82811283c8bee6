//! `leadwire explain SEQ`: explains who decided what about an event.
//!
//! It reads the database, with or without a running server.

use std::{fmt::Write as _, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    cli::{options::Options, print::say, runtime::runtime},
    delivery::explain::{Explainer, Explanation, Reason, Viewer, outcome::ExplainedOutcome, recalled::Replayed},
    domain::{
        audience::Audience,
        counter::{Generation, Seq},
        id::UserId,
        role::Role,
        text::one_line,
    },
    plugin::{self, Edited, HistoricalSets, PluginStep, Said, TraceStep},
    store::Store,
};

#[derive(Args)]
pub(crate) struct Explain {
    /// Seq of the event
    seq: u64,
    #[command(flatten)]
    viewer: Whose,
    /// Print the JSON that `GET /api/events/{seq}/explain` returns
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Show what that role received: ADMIN, MANAGER, SALES or VIEWER
    #[arg(long, ignore_case = true)]
    role: Option<String>,
    /// Show what that user received: an id or an e-mail address
    #[arg(long)]
    user: Option<String>,
}

pub(crate) fn run(explain: &Explain, options: &Options) -> Result<()> {
    let config = options.load()?;
    let file = config.database_file()?;
    if !file.exists() {
        bail!("there is no database {}", file.display());
    }
    let explanation = runtime()?.block_on(async {
        let store = Arc::new(Store::open_read_only(&config.database_url()?).await?);
        let viewer = explain.viewer.find(&store).await?;
        let past = HistoricalSets::new(plugin::cache_dir(&config.data_dir()?), config.plugins.limits.clone());
        let explainer = Explainer::new(Arc::clone(&store), past);
        let explanation = explainer.explain(Seq(explain.seq), &viewer).await;
        store.close().await;
        explanation.map_err(anyhow::Error::from)
    })?;
    if explain.json {
        return say(serde_json::to_string_pretty(&explanation)?);
    }
    say(describe(&explanation)?)
}

impl Whose {
    async fn find(&self, store: &Store) -> Result<Viewer> {
        if let Some(role) = &self.role {
            return Ok(Viewer::Role(role.to_uppercase().parse::<Role>()?));
        }
        let text = self.user.as_deref().context("expected --role or --user")?;
        if let Ok(id) = text.parse::<UserId>() {
            return Ok(Viewer::User(id));
        }
        let found = store.read().await?.user_by_email(text).await?;
        let (user, _) = found.with_context(|| format!("there is no account {text:?}"))?;
        Ok(Viewer::User(user.id))
    }
}

fn describe(explanation: &Explanation) -> Result<String> {
    let Explanation { seq, name, at, role, generation, in_use_since, .. } = explanation;
    let mut text = format!("event {seq}: {name} at {at}");
    if !explanation.rooms.is_empty() {
        write!(text, ", to {}", explanation.rooms.join(" and "))?;
    }
    match generation {
        &Generation::NONE => write!(text, "\nno plugins were active, from event {in_use_since} on")?,
        _ => write!(text, "\nshaped by generation {generation} of the plugins, in use from event {in_use_since} on")?,
    }
    if explanation.changed_since {
        text.push_str("; later events are shaped differently");
    }
    let whom = explanation.user_id.map_or_else(|| role.to_string(), |id| format!("user {id} ({role})"));
    let outcome = match explanation.outcome {
        ExplainedOutcome::Sent if explanation.user_id.is_some() => "got it".into(),
        ExplainedOutcome::Sent => format!("got it: {}", audience(&explanation.audience)),
        ExplainedOutcome::Revoked => "got lead:revoked instead".into(),
        ExplainedOutcome::Held => "did not get it live: held back".into(),
        ExplainedOutcome::Withheld => "did not get it".to_owned(),
        ExplainedOutcome::Internal => "is not sent events of this kind".into(),
        // Occurs only in a replay.
        ExplainedOutcome::Reset => "got sync:reset".into(),
    };
    write!(text, "\n{whom} {outcome}")?;
    for (index, step) in explanation.steps.iter().enumerate() {
        write!(text, "\n  {}. {}", index + 1, reason(step))?;
    }
    if let Some(revoked) = &explanation.revoked {
        write!(text, "\nlead:revoked instead: {}", audience(&revoked.audience))?;
    }
    if let Some(replay) = &explanation.replay {
        write!(text, "\nin a replay now: {}", replayed(replay))?;
    }
    for note in &explanation.notes {
        write!(text, "\nnote: {}", one_line(note))?;
    }
    if let Some(payload) = &explanation.payload {
        // JSON escapes the ASCII control characters, but no others.
        let payload = serde_json::to_string_pretty(payload)?;
        payload.lines().try_for_each(|line| write!(text, "\n{}", one_line(line)))?;
    }
    Ok(text)
}

fn replayed(Replayed { outcome, generation, reason, .. }: &Replayed) -> String {
    let outcome = match outcome {
        ExplainedOutcome::Sent => "sent",
        ExplainedOutcome::Revoked => "lead:revoked instead",
        ExplainedOutcome::Held => "held back",
        ExplainedOutcome::Withheld => "not sent",
        ExplainedOutcome::Internal => "not sent to clients",
        ExplainedOutcome::Reset => "sync:reset instead",
    };
    let by = match generation {
        &Generation::NONE => "without plugins".into(),
        id => format!("by generation {id}"),
    };
    let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{outcome}, {by}{why}")
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Step(TraceStep::Plugin(step)) => plugin_step(step),
        Reason::Step(TraceStep::Server { reason, withheld: true, .. }) => {
            format!("server: withheld from the role, {reason}")
        }
        Reason::Step(TraceStep::Server { reason, removed, .. }) => {
            format!("server: removed {}, {reason}", removed.join(", "))
        }
        Reason::Visibility(narrowed) => format!("[visibility]: {}", audience(&narrowed.audience)),
    }
}

fn plugin_step(step: &PluginStep) -> String {
    let PluginStep { plugin, version, hook, .. } = step;
    let generation = step.generation.map(|generation| format!(", generation {generation}")).unwrap_or_default();
    let said = match &step.said {
        Said::Edits { edits } => list(edits),
        Said::Verdict { audience: who, reason, edits } => {
            let why = reason.as_ref().map(|reason| format!(" ({})", one_line(reason))).unwrap_or_default();
            format!("{}{why}; {}", audience(who), list(edits))
        }
        Said::Nothing { fault, held: true } => format!("no verdict, held back: {}", one_line(fault)),
        Said::Nothing { fault, held: false } => format!("no answer, skipped: {}", one_line(fault)),
    };
    format!("{plugin} {version} ({hook}{generation}): {said}")
}

fn list(edits: &[Edited]) -> String {
    if edits.is_empty() {
        return "no edits".into();
    }
    let edits = edits.iter().map(|edit| match edit {
        Edited::Set { pointer, value } => format!("set {} to {}", one_line(pointer), one_line(&value.to_string())),
        Edited::Mask { pointer, text } => format!("mask {} as {text:?}", one_line(pointer)),
        Edited::Remove { pointer } => format!("remove {}", one_line(pointer)),
    });
    edits.collect::<Vec<_>>().join(", ")
}

fn audience(audience: &Audience) -> String {
    match audience {
        Audience::Everyone => "everyone of the role".into(),
        Audience::Nobody => "nobody of the role".into(),
        Audience::Only(users) => {
            let users: Vec<String> = users.iter().map(UserId::to_string).collect();
            format!("only {}", users.join(", "))
        }
    }
}

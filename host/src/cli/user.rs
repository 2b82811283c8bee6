//! `leadwire user add|list|passwd|role|activate|deactivate`: accounts, for anybody who can write to the database.
//!
//! All subcommands are safe beside a running server, which learns of a change from the log, like of its own.

use std::{
    io::{BufRead, IsTerminal},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    auth::{Principal, password::Passwords},
    cli::{
        options::Options,
        print::say,
        runtime::{app, runtime},
    },
    config::Config,
    domain::{
        role::Role,
        user::{NewUser, User, UserPatch},
    },
    server::claim,
};

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Add an account
    Add {
        #[arg(long)]
        email: String,
        /// Name that others see
        #[arg(long)]
        name: String,
        /// ADMIN, MANAGER, SALES or VIEWER
        #[arg(long, ignore_case = true)]
        role: String,
        #[command(flatten)]
        password: Password,
    },
    /// List the accounts
    List,
    /// Set a password; every session of the account ends
    Passwd {
        #[command(flatten)]
        account: AccountArgs,
        #[command(flatten)]
        password: Password,
    },
    /// Change the role of an account; its open sockets follow at once
    Role {
        email: String,
        /// ADMIN, MANAGER, SALES or VIEWER
        #[arg(ignore_case = true)]
        role: String,
    },
    /// Let a deactivated account sign in again
    Activate(AccountArgs),
    /// Deactivate an account; all its sessions end
    Deactivate(AccountArgs),
}

/// Names an account by its e-mail address.
#[derive(Args)]
pub(crate) struct AccountArgs {
    #[arg(value_name = "EMAIL", required_unless_present = "email")]
    address: Option<String>,
    /// Same as EMAIL, as an option
    #[arg(long, conflicts_with = "address")]
    email: Option<String>,
}

impl AccountArgs {
    fn email(&self) -> &str {
        self.address.as_deref().or(self.email.as_deref()).unwrap_or_default()
    }
}

#[derive(Args)]
pub(crate) struct Password {
    /// Read the password from the first line of stdin instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

pub(crate) fn run(command: UserCommand, options: &Options) -> Result<()> {
    let config = options.load()?;
    runtime()?.block_on(async {
        match command {
            UserCommand::Add { email, name, role, password } => add(&config, &email, &name, &role, &password).await,
            UserCommand::List => list(&config).await,
            UserCommand::Passwd { account, password } => passwd(&config, account.email(), &password).await,
            UserCommand::Role { email, role } => change_role(&config, &email, &role).await,
            UserCommand::Activate(account) => set_active(&config, account.email(), true).await,
            UserCommand::Deactivate(account) => set_active(&config, account.email(), false).await,
        }
    })
}

async fn add(config: &Config, email: &str, name: &str, role: &str, password: &Password) -> Result<()> {
    let role: Role = role.to_uppercase().parse()?;
    let body = json!({"email": email, "name": name, "role": role, "password": password.read()?});
    let new = NewUser::parse(object(body))?;
    let app = open(config).await?;
    let user =
        app.create_user(&Principal::operator(), new, None).await.with_context(|| format!("cannot add {email}"))?;
    app.store().close().await;
    say(format_args!("added {} as {}", user.email, user.role))
}

async fn list(config: &Config) -> Result<()> {
    let users = existing(config).await?.store().read().await?.users(None, u32::MAX).await?;
    let width = users.iter().map(|user| user.email.chars().count()).max().unwrap_or(0).max(5);
    say(format_args!("{:36}  {:width$}  {:7}  ACTIVE  NAME", "ID", "EMAIL", "ROLE"))?;
    users.iter().try_for_each(|user| {
        let active = if user.active { "yes" } else { "no" };
        say(format_args!("{}  {:width$}  {:7}  {active:6}  {}", user.id, user.email, user.role.as_str(), user.name))
    })
}

async fn passwd(config: &Config, email: &str, password: &Password) -> Result<()> {
    refuse_without_database(config)?;
    // Before the database is opened: nobody else can write while this process holds the lock, and typing takes time.
    let patch = UserPatch::parse(object(json!({"password": password.read()?})))?;
    let app = open(config).await?;
    let user = account(&app, email).await?;
    app.update_user(&Principal::operator(), user.id, patch).await?;
    app.store().close().await;
    say(format_args!("{} has a new password; its sessions ended", user.email))
}

async fn change_role(config: &Config, email: &str, role: &str) -> Result<()> {
    let role: Role = role.to_uppercase().parse()?;
    let app = existing(config).await?;
    let user = account(&app, email).await?;
    if user.role == role {
        return say(format_args!("{} is {role} already", user.email));
    }
    let patch = UserPatch { role: Some(role), ..UserPatch::default() };
    app.update_user(&Principal::operator(), user.id, patch).await?;
    app.store().close().await;
    say(format_args!("{} is {role}, no longer {}", user.email, user.role))
}

async fn set_active(config: &Config, email: &str, active: bool) -> Result<()> {
    let app = existing(config).await?;
    let user = account(&app, email).await?;
    let state = if active { "active" } else { "deactivated" };
    if user.active == active {
        return say(format_args!("{} is {state} already", user.email));
    }
    let patch = UserPatch { active: Some(active), ..UserPatch::default() };
    app.update_user(&Principal::operator(), user.id, patch).await?;
    app.store().close().await;
    if active {
        say(format_args!("{} is active and may sign in again", user.email))
    } else {
        say(format_args!("{} is deactivated; its sessions ended", user.email))
    }
}

async fn open(config: &Config) -> Result<App> {
    let store = claim::open_for_command(config, "user").await?;
    Ok(app(config, Arc::new(store), Passwords::new(&config.auth.password_hash)?))
}

/// Same as [`open`], but the database must exist: a mistyped path must not create one.
async fn existing(config: &Config) -> Result<App> {
    refuse_without_database(config)?;
    open(config).await
}

fn refuse_without_database(config: &Config) -> Result<()> {
    let file = config.database_file()?;
    if !file.exists() {
        bail!("there is no database {}", file.display());
    }
    Ok(())
}

async fn account(app: &App, email: &str) -> Result<User> {
    let found = app.store().read().await?.user_by_email(email).await?;
    found.map(|(user, _)| user).with_context(|| format!("there is no account {email:?}"))
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { unreachable!("bodies are written as objects") };
    members
}

impl Password {
    fn read(&self) -> Result<String> {
        if self.password_stdin {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).context("cannot read the password from stdin")?;
            return Ok(line.trim_end_matches(['\n', '\r']).to_owned());
        }
        if !std::io::stdin().is_terminal() {
            bail!("there is no terminal to ask for the password: give it with --password-stdin");
        }
        let password = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Once more: ")? != password {
            bail!("the two passwords differ");
        }
        Ok(password)
    }
}

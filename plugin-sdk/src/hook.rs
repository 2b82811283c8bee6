//! Hooks: one trait per hook. A plugin implements [`Plugin`] and its hooks.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Command, Decision, Edit, Event, Hides, Occasion, Outcome, Reminder, Ruling, Subject, Verdict, Wants};

/// Base of every plugin: its manifest, and its construction from the settings.
///
/// ```
/// use leadwire_plugin_sdk::{Manifest, Plugin, Deserialize};
///
/// #[derive(Deserialize)]
/// struct Config {
///     threshold: i64,
/// }
///
/// struct BigDeals {
///     threshold: i64,
/// }
///
/// impl Plugin for BigDeals {
///     type Config = Config;
///
///     fn manifest() -> Manifest {
///         Manifest::new().events(["lead:*"]).fields(["/lead/valueCents"])
///     }
///
///     fn init(config: Config) -> Result<Self, String> {
///         if config.threshold < 0 {
///             return Err("config.threshold must not be negative".into());
///         }
///         Ok(Self { threshold: config.threshold })
///     }
/// }
/// # let _ = |plugin: BigDeals| plugin.threshold;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a plugin",
    label = "this needs `impl Plugin for {Self}`",
    note = "write `impl Plugin for {Self} {{ type Config = NoConfig; fn manifest() -> Manifest {{ … }} fn init(_: NoConfig) -> Result<Self, String> {{ … }} }}`"
)]
pub trait Plugin: Sized + 'static {
    /// Type of `[config]` in the plugin's settings; [`NoConfig`] if there is none.
    type Config: DeserializeOwned;

    /// Events, roles and fields that the plugin requests. Name and version come from its `Cargo.toml`.
    fn manifest() -> Manifest;

    /// Creates the plugin from its settings.
    ///
    /// # Errors
    ///
    /// When the settings are invalid. The text is for the operator who wrote them: name the key, and what was expected.
    fn init(config: Self::Config) -> Result<Self, String>;
}

/// Hook `authorize`: decides whether a user may connect or subscribe.
///
/// A plugin that fails to answer counts as one that denies.
///
/// ```
/// use leadwire_plugin_sdk::{Authorize, Decision, Manifest, NoConfig, Plugin, Subject, room_lead};
///
/// struct StaffOnly;
///
/// impl Plugin for StaffOnly {
///     type Config = NoConfig;
///     fn manifest() -> Manifest {
///         Manifest::new().fields(["/context/user/email"])
///     }
///     fn init(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
/// }
///
/// impl Authorize for StaffOnly {
///     fn connect(&self, who: &Subject) -> Result<Decision, String> {
///         let email = who.user().email().ok_or("the host gave no e-mail address")?;
///         Ok(if email.ends_with("@example.com") { Decision::Allow } else { Decision::deny("staff only") })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the hook `authorize`",
    label = "this needs `impl Authorize for {Self}`",
    note = "write `impl Authorize for {Self} {{ fn connect(&self, who: &Subject) -> Result<Decision, String> {{ … }} }}`"
)]
pub trait Authorize: Plugin {
    /// Decides whether a user may connect. Allows by default.
    ///
    /// # Errors
    ///
    /// When the plugin cannot decide; the user is then refused.
    fn connect(&self, who: &Subject) -> Result<Decision, String> {
        let _ = who;
        Ok(Decision::Allow)
    }

    /// Decides whether a user may subscribe to a room, such as `lead:<id>`. Allows by default.
    ///
    /// # Errors
    ///
    /// When the plugin cannot decide; the user is then refused.
    fn subscribe(&self, who: &Subject, room: &str) -> Result<Decision, String> {
        let _ = (who, room);
        Ok(Decision::Allow)
    }
}

/// Hook `before`: accepts, amends or refuses a command before anything is written.
///
/// It is asked about commands over HTTP and sockets alike, if the server itself would carry them out. While a plugin
/// fails to answer, the commands that it wants to be asked about do not run.
///
/// ```
/// use leadwire_plugin_sdk::{Amendment, Before, Command, Manifest, NoConfig, Plugin, Refusal, Ruling};
///
/// struct Companies;
///
/// impl Plugin for Companies {
///     type Config = NoConfig;
///     fn manifest() -> Manifest {
///         Manifest::new().fields(["/input/company"])
///     }
///     fn init(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
/// }
///
/// impl Before for Companies {
///     fn commands(&self) -> Vec<String> {
///         vec!["lead:create".into(), "lead:update".into()]
///     }
///
///     fn before(&self, command: &Command) -> Result<Ruling, String> {
///         let Some(company) = command.text("/input/company") else { return Ok(Ruling::Accept) };
///         Ok(match company.strip_suffix(" Incorporated") {
///             Some("") => Refusal::new("company_unnamed", "a company has a name").on("company").into(),
///             Some(name) => Amendment::new().set("company", format!("{name} Inc.")).into(),
///             None => Ruling::Accept,
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the hook `before`",
    label = "this needs `impl Before for {Self}`",
    note = "write `impl Before for {Self} {{ fn before(&self, command: &Command) -> Result<Ruling, String> {{ … }} }}`"
)]
pub trait Before: Plugin {
    /// Commands that the plugin wants to be asked about: names, `lead:*` or `*`; by default all. Asked once, after
    /// `init`. A plugin that names an unknown command is refused when it loads.
    fn commands(&self) -> Vec<String> {
        vec!["*".into()]
    }

    /// Returns the ruling on a command.
    ///
    /// # Errors
    ///
    /// When the plugin cannot decide; the command then does not run, and the user may try again later.
    fn before(&self, command: &Command) -> Result<Ruling, String>;
}

/// Hook `enrich`: edits an event for everyone, before any filter sees it.
///
/// ```
/// use leadwire_plugin_sdk::{Edit, Enrich, Event, Manifest, NoConfig, Plugin};
///
/// struct Initials;
///
/// impl Plugin for Initials {
///     type Config = NoConfig;
///     fn manifest() -> Manifest {
///         Manifest::new().events(["lead:*"]).fields(["/lead/contactName"])
///     }
///     fn init(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
/// }
///
/// impl Enrich for Initials {
///     fn enrich(&self, event: &Event) -> Result<Vec<Edit>, String> {
///         let Some(name) = event.text("/lead/contactName") else { return Ok(vec![]) };
///         let initials: String = name.split_whitespace().filter_map(|word| word.chars().next()).collect();
///         Ok(vec![Edit::set("/lead/initials", initials)])
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the hook `enrich`",
    label = "this needs `impl Enrich for {Self}`",
    note = "write `impl Enrich for {Self} {{ fn enrich(&self, event: &Event) -> Result<Vec<Edit>, String> {{ … }} }}`"
)]
pub trait Enrich: Plugin {
    /// Returns the edits to make.
    ///
    /// # Errors
    ///
    /// When the plugin cannot decide; the event then goes on without its edits, and the fault is counted.
    fn enrich(&self, event: &Event) -> Result<Vec<Edit>, String>;
}

/// Hook `filter`: decides per role who gets an event, and which of its fields.
///
/// While a plugin fails to answer, the event is held back for that role.
///
/// ```
/// use leadwire_plugin_sdk::{Event, Filter, Hides, Manifest, NoConfig, Plugin, Verdict};
///
/// struct NoPhones;
///
/// impl Plugin for NoPhones {
///     type Config = NoConfig;
///     fn manifest() -> Manifest {
///         Manifest::new().events(["*"]).roles(["VIEWER"])
///     }
///     fn init(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
/// }
///
/// impl Filter for NoPhones {
///     fn hides(&self) -> Hides {
///         Hides::nothing().from("VIEWER", ["/lead/phone"])
///     }
///     fn filter(&self, _event: &Event, _role: &str) -> Result<Verdict, String> {
///         Ok(Verdict::everyone().remove("/lead/phone"))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the hook `filter`",
    label = "this needs `impl Filter for {Self}`",
    note = "write `impl Filter for {Self} {{ fn filter(&self, event: &Event, role: &str) -> Result<Verdict, String> {{ … }} }}`"
)]
pub trait Filter: Plugin {
    /// Fields that this filter may hide, by role; by default none. Asked once, after `init`.
    fn hides(&self) -> Hides {
        Hides::nothing()
    }

    /// Returns the verdict for one of the roles that the manifest names.
    ///
    /// # Errors
    ///
    /// When the plugin cannot decide; the event is then held back for the roles in question.
    fn filter(&self, event: &Event, role: &str) -> Result<Verdict, String>;
}

/// Hook `after`: answers an event with effects, which the host executes with the plugin as their actor.
///
/// It is asked after an event is in the log, in the order of the log, and never about events that its own effects
/// caused. While a plugin fails to answer, it is asked again and gets no other event; other plugins continue.
///
/// ```
/// use leadwire_plugin_sdk::{After, Effect, Manifest, NoConfig, Occasion, Outcome, Plugin, Reminder, Wants};
///
/// struct Welcome;
///
/// impl Plugin for Welcome {
///     type Config = NoConfig;
///     fn manifest() -> Manifest {
///         Manifest::new().fields(["/lead/id", "/lead/createdAt", "/context/lead/id", "/context/lead/owner/id"])
///     }
///     fn init(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
/// }
///
/// impl After for Welcome {
///     fn wants(&self) -> Wants {
///         Wants::events(["lead:created"]).to_notify().to_remind()
///     }
///
///     fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {
///         let Some(id) = occasion.event().text("/lead/id") else { return Ok(Outcome::nothing()) };
///         let tomorrow = occasion.at().plus(std::time::Duration::from_secs(86_400));
///         Ok(Effect::remind(tomorrow, id).about(id).into())
///     }
///
///     fn reminded(&self, reminder: &Reminder) -> Result<Outcome, String> {
///         let Some(lead) = reminder.lead() else { return Ok(Outcome::nothing()) };
///         let owner = lead.owner().and_then(|owner| owner.id());
///         let notice = |owner: &str| Effect::notify(owner, "one_day_old", reminder.key());
///         Ok(owner.map(notice).into_iter().collect())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the hook `after`",
    label = "this needs `impl After for {Self}`",
    note = "write `impl After for {Self} {{ fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {{ … }} }}`"
)]
pub trait After: Plugin {
    /// Events that the plugin wants to follow, and the effects that it may answer with. Asked once, after `init`, so it
    /// may depend on the settings. The manifest's `events` are for [`Enrich`] and [`Filter`].
    fn wants(&self) -> Wants;

    /// Returns the effects of an occasion.
    ///
    /// The plugin may be asked about the same occasion again after a crash or a failure; in that case the effects of
    /// its earlier answer were not executed. Everything that it has to remember belongs in [`Outcome::keep`].
    ///
    /// # Errors
    ///
    /// When the plugin cannot decide; it is asked again later, and after some attempts the occasion is parked for an
    /// operator.
    fn after(&self, occasion: &Occasion) -> Result<Outcome, String>;

    /// Returns the effects of a reminder that came due; by default none.
    ///
    /// # Errors
    ///
    /// When the plugin cannot decide; same as for `after`.
    fn reminded(&self, reminder: &Reminder) -> Result<Outcome, String> {
        let _ = reminder;
        Ok(Outcome::nothing())
    }
}

/// Manifest: the data that a plugin requests. The host passes the listed fields and nothing else.
///
/// ```
/// use leadwire_plugin_sdk::Manifest;
///
/// let manifest = Manifest::new()
///     .events(["lead:*", "activity:created"])
///     .roles(["SALES"])
///     .fields(["/lead/status", "/context/lead/custom/region"]);
/// # let _ = manifest;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub(crate) events: Vec<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) fields: Vec<String>,
    pub(crate) whole_payload: bool,
}

impl Manifest {
    /// Creates a manifest that requests nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds events that `enrich` and `filter` want: names, `lead:*` or `*`. Reads are named `lead:read` and
    /// `activity:read`.
    pub fn events(mut self, events: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.events.extend(events.into_iter().map(Into::into));
        self
    }

    /// Adds roles that `filter` wants to be asked about; all roles if none is named.
    pub fn roles(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.roles.extend(roles.into_iter().map(Into::into));
        self
    }

    /// Adds JSON Pointers that the plugin reads: into the payload (`/lead/email`), or into the context that the host
    /// adds (`/context/lead/…`, `/context/before/…`, and for `authorize` `/context/user/…`). `before` reads `/input/…`,
    /// `/context/user/…`, `/context/lead/…` and `/context/activity/…`.
    pub fn fields(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.fields.extend(fields.into_iter().map(Into::into));
        self
    }

    /// Also requests the whole payload; the operator has to grant it.
    pub fn whole_payload(mut self) -> Self {
        self.whole_payload = true;
        self
    }
}

/// Settings type of a plugin without settings: any key in `[config]` is refused.
///
/// ```
/// use leadwire_plugin_sdk::{NoConfig, from_config, json};
///
/// assert!(from_config::<NoConfig>(json!({})).is_ok());
/// assert!(from_config::<NoConfig>(json!({"colour": "red"})).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Parses settings into `C`.
///
/// # Errors
///
/// When the settings do not fit. The text names the key and what was expected.
///
/// ```
/// use leadwire_plugin_sdk::{Deserialize, from_config, json};
///
/// #[derive(Debug, Deserialize)]
/// struct Config {
///     roles: Vec<String>,
/// }
///
/// let error = from_config::<Config>(json!({"roles": ["SALES", 7]})).unwrap_err();
/// assert_eq!(error, "config.roles[1]: invalid type: integer `7`, expected a string");
/// ```
pub fn from_config<C: DeserializeOwned>(config: Value) -> Result<C, String> {
    serde_path_to_error::deserialize(config).map_err(|error| match error.path().to_string().as_str() {
        "." => format!("config: {}", error.inner()),
        path => format!("config.{path}: {}", error.inner()),
    })
}

/// Returns the id in the name of a lead's room; `None` for another kind of room.
///
/// ```
/// use leadwire_plugin_sdk::room_lead;
///
/// assert_eq!(room_lead("lead:42"), Some("42"));
/// assert_eq!(room_lead("org:global"), None);
/// ```
pub fn room_lead(room: &str) -> Option<&str> {
    room.strip_prefix("lead:")
}

//! One trait a hook. A plugin implements [`Plugin`] and the hooks it has.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Command, Decision, Edit, Event, Hides, Occasion, Outcome, Reminder, Ruling, Subject, Verdict, Wants};

/// What every plugin is: what it asks for, and how its settings make one.
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
    message = "`{Self}` is no plugin",
    label = "this needs `impl Plugin for {Self}`",
    note = "write `impl Plugin for {Self} {{ type Config = NoConfig; fn manifest() -> Manifest {{ … }} fn init(_: NoConfig) -> Result<Self, String> {{ … }} }}`"
)]
pub trait Plugin: Sized + 'static {
    /// The shape of `[config]` in the plugin's settings; [`NoConfig`] for none.
    type Config: DeserializeOwned;

    /// The events, roles and fields the plugin asks for. Name and version come from its `Cargo.toml`.
    fn manifest() -> Manifest;

    /// Makes the plugin of its settings, or says what is wrong with them.
    ///
    /// # Errors
    ///
    /// The text is for the operator who wrote the settings: name the key, and what was expected.
    fn init(config: Self::Config) -> Result<Self, String>;
}

/// May this user connect, and may this user subscribe?
///
/// A plugin that fails to answer counts as one that says no.
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
    /// May this user connect? Allows unless written otherwise.
    ///
    /// # Errors
    ///
    /// When it cannot tell; the user is refused then.
    fn connect(&self, who: &Subject) -> Result<Decision, String> {
        let _ = who;
        Ok(Decision::Allow)
    }

    /// May this user subscribe to this room, such as `lead:<id>`? Allows unless written otherwise.
    ///
    /// # Errors
    ///
    /// When it cannot tell; the user is refused then.
    fn subscribe(&self, who: &Subject, room: &str) -> Result<Decision, String> {
        let _ = (who, room);
        Ok(Decision::Allow)
    }
}

/// May this command run, and as it is? Asked before anything is written, over HTTP and sockets alike, about what
/// the server itself would carry out.
///
/// While a plugin fails to answer, the commands it wants to be asked about do not run.
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
    /// The commands to be asked about: names, `lead:*` or `*`; asked once, after `init`. All of them unless written
    /// otherwise. A name that no command has is refused when the plugin loads.
    fn commands(&self) -> Vec<String> {
        vec!["*".into()]
    }

    /// What to do about a command.
    ///
    /// # Errors
    ///
    /// When it cannot tell; the command does not run then, and the user may try again later.
    fn before(&self, command: &Command) -> Result<Ruling, String>;
}

/// Edits for everyone, made before any filter looks.
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
    /// The edits to make.
    ///
    /// # Errors
    ///
    /// When it cannot tell; the event goes on without its edits then, and the fault is counted.
    fn enrich(&self, event: &Event) -> Result<Vec<Edit>, String>;
}

/// Who gets an event, and what of it, role by role.
///
/// A plugin that fails to answer holds the event back for that role until it answers.
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
    /// What this filter may hide from whom; asked once, after `init`. Nothing unless written otherwise.
    fn hides(&self) -> Hides {
        Hides::nothing()
    }

    /// The verdict for one role of those that the manifest names.
    ///
    /// # Errors
    ///
    /// When it cannot tell; the event is held back for the roles asked then.
    fn filter(&self, event: &Event, role: &str) -> Result<Verdict, String>;
}

/// What follows from something that happened: effects, which the host carries out in the plugin's name.
///
/// It is asked once an event is in the log, in the order of the log; never about what its own effects made. While a
/// plugin fails to answer, it is asked again, and is told of nothing else; everybody else goes on.
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
    /// The events to be told of, and the effects to answer with; asked once, after `init`, so it may depend on the
    /// settings. `events` of the manifest is for [`Enrich`] and [`Filter`].
    fn wants(&self) -> Wants;

    /// What is to be done about something that happened.
    ///
    /// It may be asked about the same occasion again, after a crash or a failure; what it answered before was not done
    /// then. Everything that it has to remember belongs into [`Outcome::keep`].
    ///
    /// # Errors
    ///
    /// When it cannot tell; it is asked again later, and after some attempts the occasion is put aside for an operator.
    fn after(&self, occasion: &Occasion) -> Result<Outcome, String>;

    /// What is to be done now that a moment has come that the plugin asked to be reminded of. Nothing unless written
    /// otherwise.
    ///
    /// # Errors
    ///
    /// When it cannot tell; as for `after`.
    fn reminded(&self, reminder: &Reminder) -> Result<Outcome, String> {
        let _ = reminder;
        Ok(Outcome::nothing())
    }
}

/// What a plugin asks for. The host passes what is listed here and nothing else.
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
    /// Asks for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The events that `enrich` and `filter` want: names, `lead:*` or `*`. Reads go by `lead:read` and `activity:read`.
    pub fn events(mut self, events: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.events.extend(events.into_iter().map(Into::into));
        self
    }

    /// The roles that `filter` wants to be asked about; all of them if none is named.
    pub fn roles(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.roles.extend(roles.into_iter().map(Into::into));
        self
    }

    /// JSON Pointers the plugin reads: into the payload (`/lead/email`), or into what the host knows besides
    /// (`/context/lead/…`, `/context/before/…`, and for `authorize` `/context/user/…`). `before` reads `/input/…`,
    /// `/context/user/…`, `/context/lead/…` and `/context/activity/…`.
    pub fn fields(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.fields.extend(fields.into_iter().map(Into::into));
        self
    }

    /// Asks for the whole payload besides; the operator has to grant it.
    pub fn whole_payload(mut self) -> Self {
        self.whole_payload = true;
        self
    }
}

/// For a plugin without settings: any key in `[config]` is refused.
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

/// Reads settings into `C`.
///
/// # Errors
///
/// Names the key and what was expected of it.
///
/// ```
/// use leadwire_plugin_sdk::{Deserialize, from_config, json};
///
/// #[derive(Debug, Deserialize)]
/// #[allow(dead_code)]
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

/// The id in the name of a lead's room; `None` for another kind of room.
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

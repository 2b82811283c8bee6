//! What `before` is asked, and what it answers.

use serde_json::Value;

use crate::{
    Edit,
    bindings::befores::exports::leadwire::plugin::before as wit,
    event::{Fields, Seen},
    view::{Activity, Lead, User},
};

/// A command that a user wants carried out, for [`Before`](crate::Before).
///
/// It holds what the plugin declared in [`Manifest::fields`](crate::Manifest::fields) and nothing else.
///
/// ```
/// use leadwire_plugin_sdk::{Command, json};
///
/// let command = Command::from_fields(
///     "lead:update",
///     "u1",
///     "SALES",
///     [("/input/status", json!("WON")), ("/context/lead/email", json!("bob@example.com"))],
/// );
/// assert_eq!((command.name(), command.role()), ("lead:update", "SALES"));
/// assert_eq!(command.text("/input/status"), Some("WON"));
/// assert_eq!(command.lead().and_then(|lead| lead.email()), Some("bob@example.com"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    name: String,
    user_id: String,
    role: String,
    seen: Seen,
}

impl Command {
    /// A command of which these fields are known: below `/input` and below `/context`.
    pub fn from_fields<'a>(
        name: impl Into<String>,
        user_id: impl Into<String>,
        role: impl Into<String>,
        fields: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Self {
        Self { name: name.into(), user_id: user_id.into(), role: role.into(), seen: Seen::of(fields) }
    }

    pub(crate) fn new(name: String, user_id: String, role: String, fields: Fields) -> Self {
        Self { name, user_id, role, seen: Seen::new(None, fields) }
    }

    /// `lead:create`, `lead:update`, `lead:delete`, `lead:restore`, `lead:assign`, `activity:create`,
    /// `activity:update` or `activity:delete`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the user who wants it; need not be declared.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The user's role; need not be declared.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Whatever was declared at, above or below this JSON Pointer; see [`Event::get`](crate::Event::get).
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.seen.get(pointer)
    }

    /// The text at a pointer; `None` if something else stands there.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.get(pointer)?.as_str()
    }

    /// A field of the lead or activity as it would be if the command ran; `None` when it would be empty.
    ///
    /// That is what the input says of it, and else what is there already. Declare both: `/input/email` and
    /// `/context/lead/email`, or `/context/activity/…` for the field of an activity.
    ///
    /// ```
    /// use leadwire_plugin_sdk::{Command, json};
    ///
    /// let fields = [
    ///     ("/input/phone", json!(null)),
    ///     ("/context/lead/phone", json!("+1 555 0100")),
    ///     ("/context/lead/email", json!("bob@example.com")),
    /// ];
    /// let command = Command::from_fields("lead:update", "u1", "SALES", fields);
    /// assert_eq!(command.after("phone"), None); // taken away
    /// assert_eq!(command.after("email"), Some(&json!("bob@example.com"))); // left alone
    /// ```
    pub fn after(&self, field: &str) -> Option<&Value> {
        let noun = self.name.split(':').next().unwrap_or_default();
        let key = escape(field);
        let value = self.get(&format!("/input/{key}")).or_else(|| self.get(&format!("/context/{noun}/{key}")));
        value.filter(|value| !value.is_null())
    }

    /// What was declared of the user, below `/context/user`.
    pub fn user(&self) -> User<'_> {
        User(self.seen.object("/context/user").unwrap_or(&Value::Null))
    }

    /// The lead as it is, where there is one; declare `/context/lead/…` for it.
    pub fn lead(&self) -> Option<Lead<'_>> {
        self.seen.object("/context/lead").map(Lead)
    }

    /// The activity as it is, for one that is to be changed or deleted; declare `/context/activity/…` for it.
    pub fn activity(&self) -> Option<Activity<'_>> {
        self.seen.object("/context/activity").map(Activity)
    }
}

/// What a plugin says of a command.
///
/// ```
/// use leadwire_plugin_sdk::{Amendment, Refusal, Ruling};
///
/// let ruling: Ruling = Amendment::new().set("email", "bob@example.com").into();
/// assert_eq!(ruling, Ruling::Amend(Amendment::new().set("email", "bob@example.com")));
/// let ruling: Ruling = Refusal::new("email_required", "a qualified lead needs an e-mail address").on("email").into();
/// assert!(matches!(ruling, Ruling::Refuse(_)));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Ruling {
    /// It may run.
    #[default]
    Accept,
    /// It may run with another input.
    Amend(Amendment),
    /// It may not run.
    Refuse(Refusal),
}

impl Ruling {
    /// Whether the host would take it; if not, why. The hook's answer is checked so by itself.
    ///
    /// # Errors
    ///
    /// When an amendment names a field without a name or what is no pointer, or a refusal has a code or a message that
    /// cannot be one.
    ///
    /// ```
    /// use leadwire_plugin_sdk::{Amendment, Refusal, Ruling};
    ///
    /// assert_eq!(Ruling::from(Amendment::new().set("email", "a@b.example")).check(), Ok(()));
    /// assert!(Ruling::from(Amendment::new().set("/custom/~size", 3)).check().is_err());
    /// let error = Ruling::from(Refusal::new("No E-mail", "it has none")).check().unwrap_err();
    /// assert_eq!(error, "a refusal with the code \"No E-mail\": expected snake_case");
    /// ```
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Accept => Ok(()),
            Self::Amend(amendment) => amendment.check(),
            Self::Refuse(refusal) => refusal.check(),
        }
    }
}

/// Changes to what the user sent. The result is checked as if the user had sent it; if it is not valid, that is a
/// failure of the plugin.
///
/// A field is a member of the input (`"email"`), or a JSON Pointer below the input (`"/custom/size"`). Nothing else
/// can be amended.
///
/// ```
/// use leadwire_plugin_sdk::{Amendment, Edit};
///
/// let amendment = Amendment::new().set("email", "bob@example.com").remove("/custom/draft");
/// assert_eq!(
///     amendment.edits(),
///     [Edit::set("/input/email", "bob@example.com"), Edit::remove("/input/custom/draft")]
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amendment(Vec<Edit>);

impl Amendment {
    /// Changes nothing yet; left so, it accepts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a field. In an update, `Value::Null` empties the field; everywhere, a missing member is added.
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.push(Edit::set(below_input(field), value));
        self
    }

    /// Takes a field out of the input. In an update, the field then stays as it is.
    pub fn remove(mut self, field: &str) -> Self {
        self.0.push(Edit::remove(below_input(field)));
        self
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The edits that it makes.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::{Amendment, Edit};
    /// assert_eq!(Amendment::new().remove("phone").edits(), [Edit::remove("/input/phone")]);
    /// ```
    pub fn edits(&self) -> &[Edit] {
        &self.0
    }

    fn check(&self) -> Result<(), String> {
        if self.0.iter().any(|edit| edit.pointer() == "/input/") {
            return Err("an amendment of a field without a name: write the member of the input, as in \"email\"".into());
        }
        self.0.iter().try_for_each(Edit::check)
    }
}

/// Why a command may not run, for the user.
///
/// ```
/// use leadwire_plugin_sdk::Refusal;
///
/// let refusal = Refusal::new("company_required", "a won lead needs a company").on("company");
/// assert_eq!((refusal.code(), refusal.field()), ("company_required", Some("company")));
/// assert_eq!(refusal.message(), "a won lead needs a company");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: String,
    message: String,
    field: Option<String>,
}

impl Refusal {
    /// The code is for programs: lower-case letters, digits and underscores, a letter first. The message reaches
    /// the user word for word.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), field: None }
    }

    /// The member of the input that is to blame, such as `email`.
    pub fn on(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// What programs go by.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What the user reads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The member that is to blame, if one is.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What the host would have against it.
    pub(crate) fn check(&self) -> Result<(), String> {
        let snake_case = (1..=64).contains(&self.code.len())
            && self.code.starts_with(|first: char| first.is_ascii_lowercase())
            && self.code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !snake_case {
            return Err(format!("a refusal with the code {:?}: expected snake_case", self.code));
        }
        if self.message.trim().is_empty() || self.field.as_ref().is_some_and(String::is_empty) {
            return Err(format!("the refusal {} lacks a message, or names a field without a name", self.code));
        }
        Ok(())
    }
}

impl From<Amendment> for Ruling {
    fn from(amendment: Amendment) -> Self {
        if amendment.is_empty() { Self::Accept } else { Self::Amend(amendment) }
    }
}

impl From<Refusal> for Ruling {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl From<Ruling> for wit::Ruling {
    fn from(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Accept => Self::Accept,
            Ruling::Amend(Amendment(edits)) => Self::Amend(edits.into_iter().map(Into::into).collect()),
            Ruling::Refuse(Refusal { code, message, field }) => Self::Refuse(wit::Refusal { code, message, field }),
        }
    }
}

fn below_input(field: &str) -> String {
    if field.starts_with('/') { format!("/input{field}") } else { format!("/input/{}", escape(field)) }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Whether a pattern of [`Before::commands`](crate::Before::commands) names the command.
pub(crate) fn names(pattern: &str, command: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => command.starts_with(prefix),
        None => pattern == command,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_amendment_never_leaves_the_input() {
        let amendment = Amendment::new().set("a/b", 1).set("", 2).remove("seq").remove("/../context");
        assert!(amendment.edits().iter().all(|edit| edit.pointer().starts_with("/input/")), "{amendment:?}");
        assert_eq!(amendment.edits()[0].pointer(), "/input/a~1b");
    }

    #[test]
    fn an_amendment_that_the_host_would_not_take_is_known_before() {
        let refused = |amendment: Amendment| Ruling::from(amendment).check().expect_err("refused");
        assert!(refused(Amendment::new().set("", 1)).contains("without a name"));
        assert!(refused(Amendment::new().remove("/")).contains("without a name"));
        assert!(refused(Amendment::new().set("/custom/~x", 1)).contains("\"/input/custom/~x\" has a \"~\""));
        assert_eq!(Ruling::from(Amendment::new().set("a~b/c", 1).remove("seq")).check(), Ok(()));
    }

    #[test]
    fn an_empty_amendment_accepts() {
        assert_eq!(Ruling::from(Amendment::new()), Ruling::Accept);
    }

    #[test]
    fn after_an_activitys_command_comes_what_its_activity_has() {
        let fields = [("/context/activity/body", json!("old")), ("/context/lead/body", json!("not this"))];
        let command = Command::from_fields("activity:update", "u", "SALES", fields);
        assert_eq!(command.after("body"), Some(&json!("old")));
    }

    #[test]
    fn a_refusal_that_the_host_would_not_take_is_known_before() {
        for code in ["", "Email", "e-mail", "1st", "with space", &"a".repeat(65)] {
            assert!(Refusal::new(code, "no").check().is_err(), "{code}");
        }
        assert!(Refusal::new("no", " ").check().is_err());
        assert!(Refusal::new("no", "no").on("").check().is_err());
        assert_eq!(Refusal::new("line_2_missing", "no").on("email").check(), Ok(()));
    }
}

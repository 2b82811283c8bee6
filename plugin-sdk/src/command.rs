//! Questions and answers of the hook `before`: commands and rulings.

use serde_json::Value;

use crate::{
    Edit,
    bindings::befores::exports::leadwire::plugin::before as wit,
    event::{Fields, Seen},
    view::{Activity, Lead, User},
};

/// Command that a user wants to run, for [`Before`](crate::Before).
///
/// It contains the fields that the plugin declared in [`Manifest::fields`](crate::Manifest::fields) and nothing else.
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
    /// Creates a command with these known fields: below `/input` and below `/context`.
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

    /// Name of the command: `lead:create`, `lead:update`, `lead:delete`, `lead:restore`, `lead:assign`,
    /// `activity:create`, `activity:update` or `activity:delete`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Id of the user who sent the command; need not be declared.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Role of the user; need not be declared.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Value that was declared at, above or below this JSON Pointer; see [`Event::get`](crate::Event::get).
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.seen.get(pointer)
    }

    /// Text at a pointer; `None` if the value is not a text.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.get(pointer)?.as_str()
    }

    /// Field of the lead or activity as it would be after the command; `None` if it would be empty.
    ///
    /// It comes from the input if the input has the field, otherwise from the present item. Declare both:
    /// `/input/email` and `/context/lead/email`, or `/context/activity/…` for the field of an activity.
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

    /// Declared fields of the user, below `/context/user`.
    pub fn user(&self) -> User<'_> {
        User(self.seen.object("/context/user").unwrap_or(&Value::Null))
    }

    /// Lead as it is now, if there is one; declare `/context/lead/…` for it.
    pub fn lead(&self) -> Option<Lead<'_>> {
        self.seen.object("/context/lead").map(Lead)
    }

    /// Activity as it is now, if the command changes or deletes one; declare `/context/activity/…` for it.
    pub fn activity(&self) -> Option<Activity<'_>> {
        self.seen.object("/context/activity").map(Activity)
    }
}

/// Answer of a plugin to a command.
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
    /// The command may run.
    #[default]
    Accept,
    /// The command may run with another input.
    Amend(Amendment),
    /// The command may not run.
    Refuse(Refusal),
}

impl Ruling {
    /// Checks that the host would accept the ruling. Answers of the hook are checked automatically.
    ///
    /// # Errors
    ///
    /// When an amendment has an empty field name or an invalid pointer, or a refusal has an invalid code or message.
    /// The text gives the reason.
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

/// Changes to a user's input. The result is validated as if the user had sent it; an invalid result is a failure of the
/// plugin.
///
/// A field is a member of the input (`"email"`), or a JSON Pointer below the input (`"/custom/size"`). Nothing else can
/// be amended.
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
    /// Creates an amendment without changes; unchanged, it accepts the command.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a field. In an update, `Value::Null` clears the field; in any command, a missing member is added.
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.push(Edit::set(below_input(field), value));
        self
    }

    /// Removes a field from the input. In an update, the field then keeps its present value.
    pub fn remove(mut self, field: &str) -> Self {
        self.0.push(Edit::remove(below_input(field)));
        self
    }

    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Edits of the amendment.
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

/// Reason why a command may not run, for the user.
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
    /// Creates a refusal. The code is for programs: lower-case letters, digits and underscores, starting with a letter.
    /// The user gets the message verbatim.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), field: None }
    }

    /// Names the member of the input that is the cause, such as `email`.
    pub fn on(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Code for programs.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Message for the user.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Member of the input that is the cause, if any.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Checks that the host would accept the refusal.
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

/// True if a pattern of [`Before::commands`](crate::Before::commands) matches the command.
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
    fn an_amendment_stays_below_the_input() {
        let amendment = Amendment::new().set("a/b", 1).set("", 2).remove("seq").remove("/../context");
        assert!(amendment.edits().iter().all(|edit| edit.pointer().starts_with("/input/")), "{amendment:?}");
        assert_eq!(amendment.edits()[0].pointer(), "/input/a~1b");
    }

    #[test]
    fn an_invalid_amendment_is_detected_before_the_host_sees_it() {
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
    fn after_reads_the_activity_of_an_activity_command() {
        let fields = [("/context/activity/body", json!("old")), ("/context/lead/body", json!("not this"))];
        let command = Command::from_fields("activity:update", "u", "SALES", fields);
        assert_eq!(command.after("body"), Some(&json!("old")));
    }

    #[test]
    fn an_invalid_refusal_is_detected_before_the_host_sees_it() {
        for code in ["", "Email", "e-mail", "1st", "with space", &"a".repeat(65)] {
            assert!(Refusal::new(code, "no").check().is_err(), "{code}");
        }
        assert!(Refusal::new("no", " ").check().is_err());
        assert!(Refusal::new("no", "no").on("").check().is_err());
        assert_eq!(Refusal::new("line_2_missing", "no").on("email").check(), Ok(()));
    }
}

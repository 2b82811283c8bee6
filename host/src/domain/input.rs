//! Validation of JSON objects from clients.
//!
//! All problems are collected, each with the name of its field. An unknown member is a problem too. What was read leaves
//! [`Input::parse`] only if there was no problem.

use serde::Serialize;
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use super::{folding::is_blank, time::Timestamp};

/// One problem with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Name of the member; for nested data, a path with dots.
    pub field: String,
    /// Error code, stable and in snake_case.
    pub code: &'static str,
    /// Message for people.
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { field: field.into(), code, message: message.into() }
    }
}

/// All problems of an input; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; "))]
pub struct Invalid(pub Vec<FieldError>);

impl Invalid {
    pub fn one(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self(vec![FieldError::new(field, code, message)])
    }
}

/// Error for a number that cannot be stored and returned exactly as it was written.
pub fn inexact_number(field: String) -> Invalid {
    let message = format!("{field} is a number that cannot be stored exactly: send it as a string");
    Invalid::one(field, "inexact_number", message)
}

/// Largest integer that is exact in JavaScript.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

const MAX_JSON_BYTES: usize = 32 * 1024;
const MAX_JSON_DEPTH: usize = 8;

/// Object being read, inside [`Input::parse`]. Each reader removes a member, so whatever is left at the end is unknown.
pub struct Input {
    members: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Input {
    /// Reads an object with `read`, and returns the result if every member was read and had no problem.
    ///
    /// `read` returns `None` if a required value is missing, but only after it has read all members: one that it did not
    /// get to would count as unknown.
    ///
    /// # Errors
    /// All problems, including the members that nobody read.
    pub fn parse<T>(members: Map<String, Value>, read: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, Invalid> {
        let mut input = Self { members, errors: Vec::new() };
        let value = read(&mut input);
        input.finish()?;
        Ok(value.expect("a reader that returns nothing has added a problem"))
    }

    /// Refuses an object that has any member.
    pub fn expect_empty(members: Map<String, Value>) -> Result<(), Invalid> {
        Self::parse(members, |_| Some(()))
    }

    fn finish(mut self) -> Result<(), Invalid> {
        for key in self.members.keys() {
            let field: String = key.chars().take(100).collect();
            self.errors.push(FieldError::new(
                &field,
                "unknown_field",
                format!("{field} is not a field that can be set here"),
            ));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Invalid(self.errors)) }
    }

    pub fn error(&mut self, field: &str, code: &'static str, message: impl Into<String>) {
        self.errors.push(FieldError::new(field, code, message));
    }

    /// Reads with `read`; adds a problem when the result is nothing and no problem was added so far.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        let value = read(self, key);
        if value.is_none() && !self.errors.iter().any(|error| error.field == key) {
            self.error(key, "required", format!("{key} is required"));
        }
        value
    }

    /// Refuses null for a member that can be changed but not removed.
    pub fn not_null(&mut self, key: &'static str) {
        if self.members.get(key) == Some(&Value::Null) {
            self.members.remove(key);
            self.error(key, "required", format!("{key} cannot be removed"));
        }
    }

    /// Refuses a member that is changed by another command.
    pub fn refuse(&mut self, key: &'static str, code: &'static str, message: &str) {
        if self.members.remove(key).is_some() {
            self.error(key, code, message);
        }
    }

    /// Text of `min` to `max` characters after trimming. Null and absent are `None`, and so is an empty text when `min`
    /// is 0.
    pub fn text(&mut self, key: &'static str, min: usize, max: usize) -> Option<String> {
        let text = self.string(key)?;
        // Text with no visible character counts as empty.
        let text = if is_blank(&text) { "" } else { text.trim() };
        if text.is_empty() && min == 0 {
            return None;
        }
        self.sized(key, text, min, max)
    }

    /// Text that is kept unchanged, spaces included.
    pub fn secret(&mut self, key: &'static str, min: usize, max: usize) -> Option<String> {
        let text = self.string(key)?;
        self.sized(key, &text, min, max)
    }

    pub fn email(&mut self, key: &'static str) -> Option<String> {
        let text: String = self.text(key, 0, 254)?.nfc().collect();
        let options = email_address::Options::default().without_display_text().without_domain_literal();
        match email_address::EmailAddress::parse_with_options(&text, options) {
            Ok(_) => Some(text),
            Err(_) => {
                self.error(key, "invalid_email", format!("{key} must be an e-mail address"));
                None
            }
        }
    }

    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)? {
            Value::Bool(flag) => Some(flag),
            _ => self.wrong_type(key, "true or false"),
        }
    }

    pub fn integer(&mut self, key: &'static str, min: i64, max: i64) -> Option<i64> {
        let value = self.take(key)?;
        match value.as_i64().or_else(|| whole(&value)) {
            Some(number) if (min..=max).contains(&number) => Some(number),
            Some(_) => {
                self.error(key, "out_of_range", format!("{key} must be between {min} and {max}"));
                None
            }
            None => self.wrong_type(key, "a whole number"),
        }
    }

    pub fn time(&mut self, key: &'static str) -> Option<Timestamp> {
        let text = self.string(key)?;
        match text.parse::<Timestamp>() {
            Ok(time) if text.len() <= 64 && time.is_storable() => Some(time),
            _ => {
                self.error(key, "invalid_time", format!("{key} must be an RFC 3339 time between 1970 and 9999"));
                None
            }
        }
    }

    /// One of a closed set of names.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, all: &[T], name: impl Fn(T) -> &'static str) -> Option<T> {
        let text = self.string(key)?;
        let found = all.iter().copied().find(|item| name(*item) == text);
        if found.is_none() {
            let names: Vec<_> = all.iter().map(|item| name(*item)).collect();
            self.error(key, "unknown_value", format!("{key} must be one of {}", names.join(", ")));
        }
        found
    }

    /// Object with members of the client's choice, limited in size and depth.
    pub fn object(&mut self, key: &'static str) -> Option<Map<String, Value>> {
        let value = self.take(key)?;
        let Value::Object(members) = &value else { return self.wrong_type(key, "an object") };
        if depth(&value) > MAX_JSON_DEPTH {
            self.error(key, "too_deep", format!("{key} may be nested at most {MAX_JSON_DEPTH} levels deep"));
        } else if value.to_string().len() > MAX_JSON_BYTES {
            self.error(key, "too_long", format!("{key} may have at most {MAX_JSON_BYTES} bytes"));
        } else if has_nul(&value) {
            self.error(key, "invalid_characters", format!("{key} must not contain U+0000"));
        } else {
            return Some(members.clone());
        }
        None
    }

    pub fn string(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            _ => self.wrong_type(key, "a string"),
        }
    }

    pub(crate) fn sized(&mut self, key: &'static str, text: &str, min: usize, max: usize) -> Option<String> {
        let chars = text.chars().count();
        if chars < min {
            let message = if min == 1 {
                format!("{key} must not be empty")
            } else {
                format!("{key} must have at least {min} characters")
            };
            self.error(key, "too_short", message);
        } else if chars > max {
            self.error(key, "too_long", format!("{key} may have at most {max} characters"));
        } else if text.contains('\0') {
            self.error(key, "invalid_characters", format!("{key} must not contain U+0000"));
        } else {
            return Some(text.to_owned());
        }
        None
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        // `shift_remove` preserves the order of the rest, so that errors come in the order of the input.
        self.members.shift_remove(key).filter(|value| !value.is_null())
    }

    fn wrong_type<T>(&mut self, key: &'static str, expected: &str) -> Option<T> {
        self.error(key, "wrong_type", format!("{key} must be {expected}"));
        None
    }
}

/// Reads a whole number; `1e3` and `5.0` are whole numbers too.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_f64()?;
    let exact = number.fract() == 0.0 && number.abs() <= MAX_SAFE_INTEGER as f64;
    exact.then_some(number as i64)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

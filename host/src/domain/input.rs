//! Validation of JSON objects from clients.
//!
//! Tables of [`Field`]s describe the members; they are read and documented by them. All problems are collected, each
//! with the name of its field. An unknown member is a problem too. What was read leaves [`Input::parse`] only if there
//! was no problem.

use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use super::{
    field::{Field, FieldKind, MAX_EMAIL_CHARS, MAX_JSON_BYTES, MAX_JSON_DEPTH, MAX_SAFE_INTEGER, Need},
    folding::is_blank,
    time::Timestamp,
};

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

/// Object being read, inside [`Input::parse`]. Each reader removes the member that a [`Field`] describes.
pub struct Input {
    members: Map<String, Value>,
    errors: Vec<FieldError>,
    /// Names of the fields that were read; a field of the table that is not is a fault of the reader.
    read: Vec<&'static str>,
    needs: bool,
}

impl Input {
    /// Reads an object that has the members of `fields` with `read`, and returns the result if no member had a problem.
    ///
    /// `read` reads all fields, and returns `None` only if a required value is missing.
    ///
    /// # Errors
    /// All problems, including members that are not among the fields.
    pub fn parse<T>(
        members: Map<String, Value>,
        fields: &[&Field],
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<T, Invalid> {
        Self::new(members, true).finish(fields, read)
    }

    /// Reads a change of an item: a field that is missing stays as it is.
    ///
    /// # Errors
    /// As [`Input::parse`], and for null in place of what cannot be removed.
    pub fn parse_change<T>(
        members: Map<String, Value>,
        fields: &[&Field],
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<T, Invalid> {
        let mut input = Self::new(members, false);
        input.keep(fields);
        input.finish(fields, read)
    }

    /// Reads an item after a change: whole, and without null in place of what cannot be removed.
    ///
    /// # Errors
    /// As [`Input::parse`].
    pub fn parse_changed<T>(
        members: Map<String, Value>,
        fields: &[&Field],
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<T, Invalid> {
        let mut input = Self::new(members, true);
        input.keep(fields);
        input.finish(fields, read)
    }

    /// Refuses an object that has any member.
    pub fn expect_empty(members: Map<String, Value>) -> Result<(), Invalid> {
        Self::parse(members, &[], |_| Some(()))
    }

    /// `needs` is false if a field that is required may be missing.
    fn new(members: Map<String, Value>, needs: bool) -> Self {
        Self { members, errors: Vec::new(), read: Vec::new(), needs }
    }

    fn finish<T>(mut self, fields: &[&Field], read: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, Invalid> {
        let value = read(&mut self);
        for field in fields {
            debug_assert!(self.read.contains(&field.name), "{} is in the table and was not read", field.name);
        }
        debug_assert_eq!(self.read.len(), fields.len(), "read: {:?}", self.read);
        for key in self.members.keys() {
            let field: String = key.chars().take(100).collect();
            self.errors.push(FieldError::new(
                &field,
                "unknown_field",
                format!("{field} is not a field that can be set here"),
            ));
        }
        if !self.errors.is_empty() {
            return Err(Invalid(self.errors));
        }
        Ok(value.expect("a reader that returns nothing has added a problem"))
    }

    /// Refuses null in place of what can be changed but not removed.
    fn keep(&mut self, fields: &[&Field]) {
        for Field { name, .. } in fields.iter().filter(|field| field.is_never_null()) {
            if self.members.get(*name) == Some(&Value::Null) {
                self.members.remove(*name);
                self.error(name, "required", format!("{name} cannot be removed"));
            }
        }
    }

    pub fn error(&mut self, field: &str, code: &'static str, message: impl Into<String>) {
        self.errors.push(FieldError::new(field, code, message));
    }

    /// Refuses a member that is changed by another command.
    pub fn refuse(&mut self, key: &'static str, code: &'static str, message: &str) {
        if self.members.remove(key).is_some() {
            self.error(key, code, message);
        }
    }

    /// Reads a text; null and absent are `None`, and so is an empty text when the field allows it.
    pub fn text(&mut self, field: &Field) -> Option<String> {
        self.read(field, |input, key| {
            let FieldKind::Text { min, max } = field.kind else { unfit(field) };
            let text = input.string(key)?;
            let text = trimmed(&text);
            if text.is_empty() && min == 0 {
                return None;
            }
            input.sized(key, text, min, max)
        })
    }

    /// Reads a text as it is, of any length.
    pub fn opaque(&mut self, field: &Field) -> Option<String> {
        self.read(field, |input, key| {
            let FieldKind::Opaque = field.kind else { unfit(field) };
            input.string(key)
        })
    }

    pub fn secret(&mut self, field: &Field) -> Option<String> {
        self.secret_as(field, |_, text| Some(text))
    }

    /// Reads a secret in a form of its own; `normal` adds a problem if it returns nothing.
    pub fn secret_as(
        &mut self,
        field: &Field,
        normal: impl FnOnce(&mut Self, String) -> Option<String>,
    ) -> Option<String> {
        self.read(field, |input, key| {
            let FieldKind::Secret { min, max } = field.kind else { unfit(field) };
            let text = input.string(key)?;
            let text = normal(input, text)?;
            input.sized(key, &text, min, max)
        })
    }

    pub fn email(&mut self, field: &Field) -> Option<String> {
        self.email_as(field, |_, text| Some(text))
    }

    /// Reads an e-mail address in a form of its own; `normal` adds a problem if it returns nothing.
    pub fn email_as(
        &mut self,
        field: &Field,
        normal: impl FnOnce(&mut Self, String) -> Option<String>,
    ) -> Option<String> {
        self.read(field, |input, key| {
            let FieldKind::Email = field.kind else { unfit(field) };
            let text = input.string(key)?;
            let text = trimmed(&text);
            if text.is_empty() {
                return None;
            }
            let text: String = input.sized(key, text, 0, MAX_EMAIL_CHARS)?.nfc().collect();
            let options = email_address::Options::default().without_display_text().without_domain_literal();
            if email_address::EmailAddress::parse_with_options(&text, options).is_ok() {
                return normal(input, text);
            }
            input.error(key, "invalid_email", format!("{key} must be an e-mail address"));
            None
        })
    }

    pub fn currency(&mut self, field: &Field) -> Option<String> {
        self.read(field, |input, key| {
            let FieldKind::Currency = field.kind else { unfit(field) };
            let code = input.string(key)?;
            if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Some(code);
            }
            let message = format!("{key} must be an ISO 4217 code of three capital letters");
            input.error(key, "invalid_currency", message);
            None
        })
    }

    pub fn flag(&mut self, field: &Field) -> Option<bool> {
        self.read(field, |input, key| {
            let FieldKind::Flag = field.kind else { unfit(field) };
            match input.take(key)? {
                Value::Bool(flag) => Some(flag),
                _ => input.wrong_type(key, "true or false"),
            }
        })
    }

    pub fn integer(&mut self, field: &Field) -> Option<i64> {
        self.read(field, |input, key| {
            let FieldKind::Integer { min, max } = field.kind else { unfit(field) };
            let value = input.take(key)?;
            match value.as_i64().or_else(|| whole(&value)) {
                Some(number) if (min..=max).contains(&number) => Some(number),
                Some(_) => {
                    input.error(key, "out_of_range", format!("{key} must be between {min} and {max}"));
                    None
                }
                None => input.wrong_type(key, "a whole number"),
            }
        })
    }

    pub fn time(&mut self, field: &Field) -> Option<Timestamp> {
        self.read(field, |input, key| {
            let FieldKind::Time = field.kind else { unfit(field) };
            let text = input.string(key)?;
            match text.parse::<Timestamp>() {
                Ok(time) if text.len() <= 64 && time.is_storable() => Some(time),
                _ => {
                    input.error(key, "invalid_time", format!("{key} must be an RFC 3339 time between 1970 and 9999"));
                    None
                }
            }
        })
    }

    /// Reads one of a closed set of names.
    pub fn one_of<T>(&mut self, field: &Field, from_name: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.read(field, |input, key| {
            let FieldKind::OneOf(names) = field.kind else { unfit(field) };
            let text = input.string(key)?;
            let found = names.contains(&&*text).then(|| from_name(&text)).flatten();
            if found.is_none() {
                input.error(key, "unknown_value", format!("{key} must be one of {}", names.join(", ")));
            }
            found
        })
    }

    /// Reads an id; `noun` says of what, for the message.
    pub fn id<T: FromStr>(&mut self, field: &Field, noun: &str) -> Option<T> {
        self.read(field, |input, key| {
            let FieldKind::Id = field.kind else { unfit(field) };
            let id = input.string(key)?.parse().ok();
            if id.is_none() {
                let or_null = if field.need == Need::Explicit { ", or null" } else { "" };
                input.error(key, "invalid_id", format!("{key} must be the id of {noun}{or_null}"));
            }
            id
        })
    }

    /// Reads an object with members of the client's choice.
    pub fn object(&mut self, field: &Field) -> Option<Map<String, Value>> {
        self.read(field, |input, key| {
            let FieldKind::Object = field.kind else { unfit(field) };
            let value = input.take(key)?;
            let Value::Object(members) = &value else { return input.wrong_type(key, "an object") };
            if depth(&value) > MAX_JSON_DEPTH {
                input.error(key, "too_deep", format!("{key} may be nested at most {MAX_JSON_DEPTH} levels deep"));
            } else if value.to_string().len() > MAX_JSON_BYTES {
                input.error(key, "too_long", format!("{key} may have at most {MAX_JSON_BYTES} bytes"));
            } else if has_nul(&value) {
                input.error(key, "invalid_characters", format!("{key} must not contain U+0000"));
            } else {
                return Some(members.clone());
            }
            None
        })
    }

    /// Reads a field with `read`; adds a problem if it is needed, missing, and had no problem so far.
    fn read<T>(&mut self, field: &Field, read: impl FnOnce(&mut Self, &'static str) -> Option<T>) -> Option<T> {
        let key = field.name;
        self.read.push(key);
        let is_absent = !self.members.contains_key(key);
        let value = read(self, key);
        let is_missing = match field.need {
            // In a change, a value that counts as none would leave the field as it is.
            Need::Required => value.is_none() && (self.needs || !is_absent),
            Need::Explicit => is_absent,
            Need::Default(_) | Need::Optional => false,
        };
        if is_missing && !self.errors.iter().any(|error| error.field == key) {
            self.error(key, "required", format!("{key} is required"));
        }
        value
    }

    fn string(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            _ => self.wrong_type(key, "a string"),
        }
    }

    fn sized(&mut self, key: &'static str, text: &str, min: usize, max: usize) -> Option<String> {
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

/// Ends a reader that was given a field of another kind.
fn unfit(field: &Field) -> ! {
    unreachable!("{} is {:?}", field.name, field.kind)
}

/// Trims a text. Text with no visible character counts as empty.
fn trimmed(text: &str) -> &str {
    if is_blank(text) { "" } else { text.trim() }
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

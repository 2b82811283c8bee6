//! User accounts and their validation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use super::{
    field::{Field, FieldKind},
    folding::opaque,
    id::UserId,
    input::{Input, Invalid},
    role::Role,
    time::Timestamp,
};

/// Account, as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub role: Role,
    pub active: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Reference to a user, as leads and activities contain it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRef {
    pub id: UserId,
    pub name: String,
    pub email: String,
}

impl From<&User> for UserRef {
    fn from(user: &User) -> Self {
        Self { id: user.id, name: user.name.clone(), email: user.email.clone() }
    }
}

const EMAIL: Field =
    Field::new("email", FieldKind::Email, "E-mail address to sign in with, unique ignoring the case of ASCII letters.")
        .required();
const NAME: Field = Field::new("name", FieldKind::Text { min: 1, max: 200 }, "Name that others see.").required();
const ROLE: Field =
    Field::new("role", FieldKind::OneOf(&Role::NAMES), "Role, which decides what the user may do.").required();
const ACTIVE: Field =
    Field::new("active", FieldKind::Flag, "False for an account that cannot sign in.").default("true");
const PASSWORD: Field = Field::new("password", NEW_PASSWORD, "Password; control characters are refused.").required();

/// Fields of an account that an administrator may write.
pub const ACCOUNT: &[&Field] = &[&EMAIL, &NAME, &ROLE, &ACTIVE, &PASSWORD];

/// Length of a new password.
pub const NEW_PASSWORD: FieldKind = FieldKind::Secret { min: MIN_PASSWORD_CHARS, max: MAX_PASSWORD_CHARS };
pub const MIN_PASSWORD_CHARS: usize = 10;
pub const MAX_PASSWORD_CHARS: usize = 256;

/// Validated request for a new account. The password is still in plain text: hash it, then drop it.
#[derive(Clone)]
pub struct NewUser {
    pub email: String,
    pub name: String,
    pub role: Role,
    pub active: bool,
    pub password: String,
}

impl NewUser {
    pub fn parse(body: Map<String, Value>) -> Result<Self, Invalid> {
        Input::parse(body, ACCOUNT, |input| {
            let email = email(input);
            let name = input.text(&NAME);
            let role = role(input);
            let active = input.flag(&ACTIVE).unwrap_or(true);
            let password = password(input, &PASSWORD);
            Some(Self { email: email?, name: name?, role: role?, active, password: password? })
        })
    }
}

/// Validated change of an account: absent members stay as they are.
#[derive(Clone, Default)]
pub struct UserPatch {
    pub email: Option<String>,
    pub name: Option<String>,
    pub role: Option<Role>,
    pub active: Option<bool>,
    pub password: Option<String>,
}

impl UserPatch {
    pub fn parse(body: Map<String, Value>) -> Result<Self, Invalid> {
        Input::parse_change(body, ACCOUNT, |input| {
            Some(Self {
                email: email(input),
                name: input.text(&NAME),
                role: role(input),
                active: input.flag(&ACTIVE),
                password: password(input, &PASSWORD),
            })
        })
    }
}

/// Suffix that replaces an e-mail address for plugins that act, after their name.
pub const PLUGIN_DOMAIN: &str = "@plugins";

/// Returns the canonical spelling under which an address is stored and looked up: NFC, with ASCII letters in lower
/// case.
///
/// No other letter is folded, and no letter becomes an ASCII one. Unicode lower case and NFC both turn U+212A (the
/// Kelvin sign) into `k`, so one person's address would become another's.
pub fn canonical_email(email: &str) -> String {
    let becomes_ascii = |letter: char| !letter.is_ascii() && std::iter::once(letter).nfc().all(|nfc| nfc.is_ascii());
    let mut canonical = String::with_capacity(email.len());
    for piece in email.split_inclusive(becomes_ascii) {
        let last = piece.chars().next_back().filter(|letter| becomes_ascii(*letter));
        let plain = &piece[..piece.len() - last.map_or(0, char::len_utf8)];
        canonical.extend(plain.nfc().chain(last));
    }
    canonical.to_ascii_lowercase()
}

/// Reads the address of an account.
fn email(input: &mut Input) -> Option<String> {
    input.email_as(&EMAIL, |input, email| {
        let email = canonical_email(&email);
        if email.ends_with(PLUGIN_DOMAIN) {
            let message = format!("email must not end in {PLUGIN_DOMAIN}: it is reserved for plugins");
            input.error("email", "reserved", message);
            return None;
        }
        Some(email)
    })
}

fn role(input: &mut Input) -> Option<Role> {
    input.one_of(&ROLE, |name| name.parse().ok())
}

/// Reads a new password of 10 to 256 characters. Control characters are refused, because not every keyboard and form
/// lets a person type them again.
pub fn password(input: &mut Input, field: &Field) -> Option<String> {
    input.secret_as(field, |input, password| {
        let password = opaque(&password);
        if password.contains(|char: char| char.is_control() && char != '\0') {
            let message = format!("{} must not contain control characters", field.name);
            input.error(field.name, "invalid_characters", message);
            return None;
        }
        Some(password)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_refuses_what_would_silently_leave_the_field_as_it_is() {
        let faults = |change: Value| {
            let Value::Object(change) = change else { unreachable!("written as an object") };
            let found = UserPatch::parse(change).err().map(|Invalid(errors)| errors).unwrap_or_default();
            found.into_iter().map(|error| (error.field, error.code)).collect::<Vec<_>>()
        };
        assert_eq!(faults(json!({})), []);
        assert_eq!(
            faults(json!({"email": " ", "name": ""})),
            [("email".into(), "required"), ("name".into(), "too_short")]
        );
        assert_eq!(faults(json!({"email": null})), [("email".into(), "required")]);
    }

    #[test]
    fn an_address_is_folded_only_by_normal_form_and_ascii_case() {
        for (written, stored) in [
            ("Ann@Example.COM", "ann@example.com"),
            ("Mu\u{308}ller@example.com", "m\u{fc}ller@example.com"),
            ("M\u{dc}LLER@example.com", "m\u{dc}ller@example.com"),
            ("fran\u{212a}@example.com", "fran\u{212a}@example.com"),
            ("\u{212a}u\u{308}\u{212a}", "\u{212a}\u{fc}\u{212a}"),
            ("\u{130}@example.com", "\u{130}@example.com"),
        ] {
            assert_eq!(canonical_email(written), stored);
            assert_eq!(canonical_email(stored), stored, "once and for all");
        }
    }
}

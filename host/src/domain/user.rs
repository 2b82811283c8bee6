//! User accounts and their validation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use super::{
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
        Input::parse(body, |input| {
            let email = input.required("email", |input, _| email(input));
            let name = input.required("name", |input, key| input.text(key, 1, 200));
            let role = input.required("role", role);
            let active = input.flag("active").unwrap_or(true);
            let password = input.required("password", password);
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
        Input::parse(body, |input| {
            for key in ["email", "name", "role", "active", "password"] {
                input.not_null(key);
            }
            Some(Self {
                email: email(input),
                name: input.text("name", 1, 200),
                role: role(input, "role"),
                active: input.flag("active"),
                password: password(input, "password"),
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
    let email = canonical_email(&input.email("email")?);
    if email.ends_with(PLUGIN_DOMAIN) {
        input.error("email", "reserved", format!("email must not end in {PLUGIN_DOMAIN}: it is reserved for plugins"));
        return None;
    }
    Some(email)
}

fn role(input: &mut Input, key: &'static str) -> Option<Role> {
    input.one_of(key, &Role::ALL, Role::as_str)
}

/// Reads a new password of 10 to 256 characters. Control characters are refused, because not every keyboard and form
/// lets a person type them again.
pub fn password(input: &mut Input, key: &'static str) -> Option<String> {
    let password = opaque(&input.string(key)?);
    if password.contains(|char: char| char.is_control() && char != '\0') {
        input.error(key, "invalid_characters", format!("{key} must not contain control characters"));
        return None;
    }
    input.sized(key, &password, MIN_PASSWORD_CHARS, MAX_PASSWORD_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

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

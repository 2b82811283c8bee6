//! People who sign in, and what a valid account is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    id::UserId,
    input::{Input, Invalid},
    role::Role,
    time::Timestamp,
};

/// An account, as an administrator sees it.
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

/// A user as leads and activities mention them.
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

/// A checked request for an account. The password is still in clear: hash it, then drop it.
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
        let mut input = Input::new(body);
        let email = input.required("email", |input, _| email(input));
        let name = input.required("name", |input, key| input.text(key, 1, 200));
        let role = input.required("role", role);
        let active = input.flag("active").unwrap_or(true);
        let password = input.required("password", password);
        input.finish()?;
        Ok(Self {
            email: email.expect("finish fails without it"),
            name: name.expect("finish fails without it"),
            role: role.expect("finish fails without it"),
            active,
            password: password.expect("finish fails without it"),
        })
    }
}

/// A checked change of an account: absent members stay as they are.
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
        let mut input = Input::new(body);
        for key in ["email", "name", "role", "active", "password"] {
            input.not_null(key);
        }
        let patch = Self {
            email: email(&mut input),
            name: input.text("name", 1, 200),
            role: role(&mut input, "role"),
            active: input.flag("active"),
            password: password(&mut input, "password"),
        };
        input.finish()?;
        Ok(patch)
    }
}

/// What plugins that act have in the place of an address, behind their name.
pub const PLUGIN_DOMAIN: &str = "@plugins";

/// An account's address, in lower case.
fn email(input: &mut Input) -> Option<String> {
    let email = input.email("email")?.to_lowercase();
    if email.ends_with(PLUGIN_DOMAIN) {
        input.error("email", "reserved", format!("an address that ends in {PLUGIN_DOMAIN} is a plugin's"));
        return None;
    }
    Some(email)
}

fn role(input: &mut Input, key: &'static str) -> Option<Role> {
    input.one_of(key, &Role::ALL, Role::as_str)
}

/// Reads a new password; any text of 10 to 256 characters will do.
pub fn password(input: &mut Input, key: &'static str) -> Option<String> {
    input.secret(key, MIN_PASSWORD_CHARS, MAX_PASSWORD_CHARS)
}

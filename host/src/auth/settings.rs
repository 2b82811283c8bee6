//! `[auth]` of the configuration. Secrets never show in `Debug` nor when serialised.

use std::{fmt, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use super::token::AUDIENCE;
use crate::domain::role::Role;

/// HS256 is as strong as its secret: shorter ones than the hash are refused.
pub const MIN_SECRET_BYTES: usize = 32;

/// A text that is not to be seen.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for where it is used.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Signs access tokens (HS256), and derives the successors of refresh tokens. `serve` fills it in when absent.
    pub jwt_secret: Option<Secret>,
    /// The `kid` of tokens signed with `jwt_secret`; derived from the secret when absent.
    pub jwt_key_id: Option<String>,
    /// Accepted as well while a secret is being replaced.
    pub previous_jwt_secret: Option<Secret>,
    pub previous_jwt_key_id: Option<String>,
    #[serde(with = "humantime_serde")]
    pub access_token_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub refresh_token_ttl: Duration,
    /// For so long a refresh token that was used answers with the same successor again.
    #[serde(with = "humantime_serde")]
    pub refresh_reuse_window: Duration,
    /// Who else may issue tokens for our users.
    pub trusted_keys: Vec<TrustedKey>,
    pub password_hash: PasswordHash,
    pub login_limits: LoginLimits,
    pub audit: Audit,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_key_id: None,
            previous_jwt_secret: None,
            previous_jwt_key_id: None,
            access_token_ttl: Duration::from_secs(15 * 60),
            refresh_token_ttl: Duration::from_secs(30 * 24 * 60 * 60),
            refresh_reuse_window: Duration::from_secs(15),
            trusted_keys: Vec::new(),
            password_hash: PasswordHash::default(),
            login_limits: LoginLimits::default(),
            audit: Audit::default(),
        }
    }
}

/// An issuer of EdDSA tokens: `iss` must be `issuer`, `aud` must have `audience`, `sub` is a user's id or e-mail
/// address, and `iat` must be there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    pub kid: String,
    /// Ed25519, as PEM or as the `x` of a JWK.
    pub public_key: String,
    pub issuer: String,
    #[serde(default = "TrustedKey::default_audience")]
    pub audience: String,
    /// The roles that its tokens may act as; a user of another role is refused.
    #[serde(default = "TrustedKey::default_roles")]
    pub roles: Vec<Role>,
    /// How long after its issue a token is good at most, whatever it says itself.
    #[serde(default = "TrustedKey::default_max_age", with = "humantime_serde")]
    pub max_age: Duration,
}

impl TrustedKey {
    /// A key with the defaults of all that can be left out.
    pub fn new(kid: impl Into<String>, public_key: impl Into<String>, issuer: impl Into<String>) -> Self {
        Self {
            kid: kid.into(),
            public_key: public_key.into(),
            issuer: issuer.into(),
            audience: Self::default_audience(),
            roles: Self::default_roles(),
            max_age: Self::default_max_age(),
        }
    }

    fn default_audience() -> String {
        AUDIENCE.into()
    }

    /// All but ADMIN: who holds the key of another issuer could give itself every right otherwise.
    fn default_roles() -> Vec<Role> {
        vec![Role::Manager, Role::Sales, Role::Viewer]
    }

    fn default_max_age() -> Duration {
        Duration::from_secs(60 * 60)
    }
}

/// What argon2id costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordHash {
    pub memory_kib: u32,
    pub iterations: u32,
    pub parallelism: u32,
}

impl Default for PasswordHash {
    /// The minimum that OWASP recommends for argon2id.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, iterations: 2, parallelism: 1 }
    }
}

/// How often passwords may be tried, and how many tries may wait for their turn. Tries that succeed count as well.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginLimits {
    /// Of one account from one network.
    pub per_account_per_minute: NonZeroU32,
    /// From one network, but for accounts that signed in from there before.
    pub per_address_per_minute: NonZeroU32,
    /// Of one account from all networks together from which it has not signed in before.
    pub strangers_per_account_per_minute: NonZeroU32,
    /// How many tries wait at most; those of known devices wait in as long a line of their own, ahead of them.
    pub waiting: NonZeroU32,
    /// For how long a network is known after a login or a refresh from it.
    #[serde(with = "humantime_serde")]
    pub known_for: Duration,
}

impl Default for LoginLimits {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        Self {
            per_account_per_minute: number(10),
            per_address_per_minute: number(60),
            strangers_per_account_per_minute: number(100),
            waiting: number(32),
            known_for: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

/// The audit table's size.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    #[serde(with = "humantime_serde")]
    pub keep_for: Duration,
    /// Rows of what signed-in people did, and as many of what anybody can cause.
    pub keep_rows: u32,
}

impl Default for Audit {
    fn default() -> Self {
        // A year, as such durations are written.
        Self { keep_for: Duration::from_secs(31_557_600), keep_rows: 100_000 }
    }
}

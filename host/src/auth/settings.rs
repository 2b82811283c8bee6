//! `[auth]` of the configuration. Secrets appear neither in `Debug` output nor in serialised form.

use std::{fmt, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use crate::domain::role::Role;

/// HS256 is only as strong as its secret: a secret shorter than the hash is refused.
pub const MIN_SECRET_BYTES: usize = 32;

pub const AUDIENCE: &str = "leadwire";
/// Number of seconds by which another issuer's clock may be ahead of ours. For this long after a reset, its tokens
/// cannot be distinguished from tokens issued before the reset.
pub(crate) const CLOCK_SKEW: i64 = 5;

/// Text that is never displayed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for its intended use.
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
pub struct AuthConfig {
    /// Signs access tokens (HS256), and derives the successors of refresh tokens. `serve` sets it when it is absent.
    pub jwt_secret: Option<Secret>,
    /// `kid` of tokens signed with `jwt_secret`; derived from the secret when absent.
    pub jwt_key_id: Option<String>,
    /// Accepted as well while a secret is being replaced.
    pub previous_jwt_secret: Option<Secret>,
    pub previous_jwt_key_id: Option<String>,
    #[serde(with = "humantime_serde")]
    pub access_token_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub refresh_token_ttl: Duration,
    /// Time during which a used refresh token returns the same successor again.
    #[serde(with = "humantime_serde")]
    pub refresh_reuse_window: Duration,
    /// Other issuers of tokens for our users.
    pub trusted_keys: Vec<TrustedKey>,
    pub password_hash: PasswordHashConfig,
    pub login_limits: LoginLimitsConfig,
    pub audit: AuditConfig,
}

impl Default for AuthConfig {
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
            password_hash: PasswordHashConfig::default(),
            login_limits: LoginLimitsConfig::default(),
            audit: AuditConfig::default(),
        }
    }
}

/// Issuer of EdDSA tokens: `iss` must be `issuer`, `aud` must contain `audience`, `sub` is a user's id or e-mail
/// address, and `iat` is required.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    pub kid: String,
    /// Ed25519 key, as PEM or as the `x` of a JWK.
    pub public_key: String,
    pub issuer: String,
    #[serde(default = "TrustedKey::default_audience")]
    pub audience: String,
    /// Roles that its tokens may act as; a user of another role is refused.
    #[serde(default = "TrustedKey::default_roles")]
    pub roles: Vec<Role>,
    /// Maximum age of a token since its issue, whatever the token itself claims.
    #[serde(default = "TrustedKey::default_max_age", with = "humantime_serde")]
    pub max_age: Duration,
}

impl TrustedKey {
    /// Key with the defaults of all optional settings.
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

    /// All but ADMIN: otherwise the holder of another issuer's key could grant itself every right.
    fn default_roles() -> Vec<Role> {
        vec![Role::Manager, Role::Sales, Role::Viewer]
    }

    fn default_max_age() -> Duration {
        Duration::from_secs(60 * 60)
    }
}

/// Costs of argon2id.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordHashConfig {
    pub memory_kib: u32,
    pub iterations: u32,
    pub parallelism: u32,
}

impl Default for PasswordHashConfig {
    /// Minimum that OWASP recommends for argon2id.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, iterations: 2, parallelism: 1 }
    }
}

/// Rate limits of password attempts and the size of their queue. Successful attempts count as well.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginLimitsConfig {
    /// Attempts on one account from one network.
    pub per_account_per_minute: NonZeroU32,
    /// Attempts from one network, except on accounts that signed in from there before.
    pub per_address_per_minute: NonZeroU32,
    /// Attempts on one account from all networks together that it has not signed in from before.
    pub strangers_per_account_per_minute: NonZeroU32,
    /// Maximum number of waiting attempts. Known devices wait in a queue of their own, equally long and ahead of the
    /// others.
    pub waiting: NonZeroU32,
    /// Time that a network stays known after a login or a refresh from it.
    #[serde(with = "humantime_serde")]
    pub known_for: Duration,
}

impl Default for LoginLimitsConfig {
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

/// Size of the audit table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    #[serde(with = "humantime_serde")]
    pub keep_for: Duration,
    /// Rows about actions of signed-in people, and equally many about events that anybody can cause.
    pub keep_rows: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        // One year, in the length that humantime gives it.
        Self { keep_for: Duration::from_secs(31_557_600), keep_rows: 100_000 }
    }
}

//! `[auth]` of the configuration. Secrets never show in `Debug` nor when serialised.

use std::{fmt, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

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
        }
    }
}

/// An issuer of EdDSA tokens: `iss` must be `issuer`, `aud` must name `leadwire`, `sub` is a user's id or e-mail address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    pub kid: String,
    /// Ed25519, as PEM or as the `x` of a JWK.
    pub public_key: String,
    pub issuer: String,
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

/// How often a password may be tried. Attempts that succeed count as well.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginLimits {
    pub per_account_per_minute: NonZeroU32,
    pub per_address_per_minute: NonZeroU32,
}

impl Default for LoginLimits {
    fn default() -> Self {
        let per_minute = |number| NonZeroU32::new(number).expect("not zero");
        Self { per_account_per_minute: per_minute(10), per_address_per_minute: per_minute(60) }
    }
}

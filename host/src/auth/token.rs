//! Tokens: signed access tokens that last minutes (JWT), and opaque refresh tokens that renew them.
//!
//! Each verification key is tied to one algorithm and one issuer, so a token cannot choose how it is verified. Of a
//! refresh token only the SHA-256 is stored; its successor is derived from it by HMAC.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    BadSettings, crypto,
    principal::Credentials,
    settings::{AuthConfig, MIN_SECRET_BYTES, Secret, TrustedKey},
};
use crate::{
    auth::settings::{AUDIENCE, CLOCK_SKEW},
    domain::{
        id::{SessionId, UserId},
        role::Roles,
        time::Timestamp,
    },
};

pub const ISSUER: &str = "leadwire";

/// Our tokens are about 400 bytes; longer ones are not even parsed.
const MAX_TOKEN_BYTES: usize = 4096;
const MAX_AGE_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;

pub struct Tokens {
    signer: EncodingKey,
    header: Header,
    keys: Vec<SigningKey>,
    /// Secrets that successors of refresh tokens are derived with: the current one, then the previous one.
    secrets: Vec<Secret>,
}

struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
    issuer: String,
    audience: String,
    /// Roles that its tokens may act as.
    roles: Roles,
    /// Maximum age of its tokens since their issue, in seconds; `None` for our own, which have an expiry.
    max_age: Option<i64>,
}

/// Subject of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSubject {
    /// User, of a token issued here in a session.
    User(UserId),
    /// User's id or e-mail address, of a token issued elsewhere.
    Elsewhere(String),
}

/// Reason why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFlaw {
    /// The token was valid before.
    Expired,
    /// Anything else.
    Bad,
}

#[derive(Serialize, Deserialize)]
struct TokenClaims {
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    iss: String,
    aud: OneOrMany,
}

/// RFC 7519 allows one audience or several.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Tokens {
    pub fn new(settings: &AuthConfig) -> Result<Self, BadSettings> {
        crypto::install();
        let bad = |text: String| Err(BadSettings(text));
        let Some(secret) = &settings.jwt_secret else { return bad("auth.jwt_secret is not set".into()) };
        let kid = key_id("auth.jwt_secret", secret, settings.jwt_key_id.as_ref())?;
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.clone());
        let mut keys = vec![SigningKey::own(kid, secret)];
        let mut secrets = vec![secret.clone()];
        if let Some(previous) = &settings.previous_jwt_secret {
            let kid = key_id("auth.previous_jwt_secret", previous, settings.previous_jwt_key_id.as_ref())?;
            keys.push(SigningKey::own(kid, previous));
            secrets.push(previous.clone());
        }
        for trusted in &settings.trusted_keys {
            keys.push(SigningKey::trusted(trusted)?);
        }
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.kid == key.kid) {
                return bad(format!("auth: two keys have the key id {:?}: expected each to have its own", key.kid));
            }
        }
        Ok(Self { signer: EncodingKey::from_secret(secret.reveal().as_bytes()), header, keys, secrets })
    }

    /// Signs an access token for a session.
    pub fn issue(&self, user: UserId, session: SessionId, now: Timestamp, expires_at: Timestamp) -> String {
        let claims = TokenClaims {
            sub: user.to_string(),
            sid: Some(session),
            iat: Some(now.seconds()),
            exp: expires_at.seconds(),
            nbf: None,
            iss: ISSUER.into(),
            aud: OneOrMany::One(AUDIENCE.into()),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.signer).expect("an HMAC key signs any claims")
    }

    /// Verifies a token and returns its subject and other claims.
    ///
    /// # Errors
    /// [`TokenFlaw::Expired`] when the token is otherwise valid.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(TokenSubject, Credentials), TokenFlaw> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFlaw::Bad);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenFlaw::Bad)?;
        let (key, claims) = self
            .keys
            .iter()
            .filter(|key| key.algorithm == header.alg)
            .filter(|key| header.kid.as_ref().is_none_or(|kid| *kid == key.kid))
            .find_map(|key| key.claims(token).map(|claims| (key, claims)))
            .ok_or(TokenFlaw::Bad)?;
        let (subject, credentials) = key.read(claims, now).ok_or(TokenFlaw::Bad)?;
        // To the second and without leeway: sockets are closed at this very moment as well.
        if credentials.expires_at.seconds() <= now.seconds() {
            return Err(TokenFlaw::Expired);
        }
        Ok((subject, credentials))
    }

    /// Possible successors of a refresh token: under the current secret, then under the previous one.
    pub fn successors(&self, refresh: &RefreshToken) -> impl Iterator<Item = RefreshToken> {
        self.secrets.iter().map(|secret| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("any key length is valid");
            // A JWT contains no colon, so this can never be the signature of one.
            mac.update(b"refresh:");
            mac.update(refresh.0.as_bytes());
            RefreshToken(BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        })
    }
}

impl SigningKey {
    fn own(kid: String, secret: &Secret) -> Self {
        let key = DecodingKey::from_secret(secret.reveal().as_bytes());
        let (issuer, audience) = (ISSUER.into(), AUDIENCE.into());
        Self { kid, algorithm: Algorithm::HS256, key, issuer, audience, roles: Roles::ALL, max_age: None }
    }

    fn trusted(trusted: &TrustedKey) -> Result<Self, BadSettings> {
        let TrustedKey { kid, public_key, issuer, audience, roles, max_age } = trusted;
        let bad = |what: &str| BadSettings(format!("auth.trusted_keys {kid:?}: {what}"));
        if issuer.is_empty() || issuer == ISSUER {
            return Err(bad("issuer must be another's name"));
        }
        if audience.is_empty() {
            return Err(bad("audience must not be empty"));
        }
        if roles.is_empty() {
            return Err(bad("roles must name some of ADMIN, MANAGER, SALES and VIEWER"));
        }
        if !(1..=MAX_AGE_SECONDS).contains(&max_age.as_secs()) {
            return Err(bad("max_age must be between 1s and 10 years"));
        }
        let key = if public_key.trim_start().starts_with("-----BEGIN") {
            DecodingKey::from_ed_pem(public_key.as_bytes())
        } else {
            DecodingKey::from_ed_components(public_key.trim())
        };
        let key = key.map_err(|_| bad("public_key must be an Ed25519 key, as PEM or as the x of a JWK"))?;
        // A key of another length would verify nothing.
        match key.try_get_as_bytes() {
            Ok(bytes) if bytes.len() == 32 => {
                let (algorithm, roles) = (Algorithm::EdDSA, roles.iter().copied().collect());
                let (issuer, audience, max_age) = (issuer.clone(), audience.clone(), max_age.as_secs().try_into().ok());
                Ok(Self { kid: kid.clone(), algorithm, key, issuer, audience, roles, max_age })
            }
            _ => Err(bad("public_key must be of 32 bytes")),
        }
    }

    fn claims(&self, token: &str) -> Option<TokenClaims> {
        let mut validation = Validation::new(self.algorithm);
        validation.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        // Times are compared with the server's own clock, in `verify`.
        validation.validate_exp = false;
        jsonwebtoken::decode(token, &self.key, &validation).ok().map(|data| data.claims)
    }

    /// Interprets claims signed with this key; `None` when they are not acceptable.
    fn read(&self, claims: TokenClaims, now: Timestamp) -> Option<(TokenSubject, Credentials)> {
        if claims.nbf.is_some_and(|start| start > now.seconds()) {
            return None;
        }
        let moment = |seconds: i64| Timestamp::from_millis(seconds.checked_mul(1000)?);
        let (subject, session, issued, expires) = match self.max_age {
            None => {
                (TokenSubject::User(claims.sub.parse().ok()?), Some(claims.sid?), claims.iat.unwrap_or(0), claims.exp)
            }
            Some(max_age) => {
                let issued = claims.iat.filter(|issued| *issued <= now.seconds().saturating_add(CLOCK_SKEW))?;
                (TokenSubject::Elsewhere(claims.sub), None, issued, claims.exp.min(issued.checked_add(max_age)?))
            }
        };
        let (issued_at, expires_at) = (moment(issued)?, moment(expires)?);
        Some((subject, Credentials { session, issued_at, expires_at, roles: self.roles }))
    }
}

fn key_id(name: &str, secret: &Secret, set: Option<&String>) -> Result<String, BadSettings> {
    if secret.reveal().len() < MIN_SECRET_BYTES {
        return Err(BadSettings(format!("{name} is too short: expected at least {MIN_SECRET_BYTES} bytes")));
    }
    let derived = || hex::encode(&Sha256::digest(format!("kid:{}", secret.reveal()).as_bytes())[..4]);
    Ok(set.cloned().unwrap_or_else(derived))
}

/// Opaque token of 32 random bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(String);

impl RefreshToken {
    pub fn random() -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
    }

    /// Token as presented by a client; any text is accepted.
    pub fn presented(text: String) -> Self {
        Self(text)
    }

    /// Hash that is stored for the token.
    pub fn hashed(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::domain::role::Role;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ffffffffffffffffffffffffffffffff";
    const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDVGCPRoswzv5WdzNoFH4X3jYXV8ovgdoBIn04oKARN+\n-----END PRIVATE KEY-----\n";
    const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEABQ/8wD8ATMKSCogZTcxVFRjl8uavW8V+vTepRWpF0TE=\n-----END PUBLIC KEY-----\n";

    fn settings() -> AuthConfig {
        AuthConfig { jwt_secret: Some(Secret::new(SECRET)), ..AuthConfig::default() }
    }

    fn tokens(settings: &AuthConfig) -> Tokens {
        Tokens::new(settings).expect("valid settings")
    }

    fn sso(public_key: &str) -> TrustedKey {
        TrustedKey::new("sso", public_key, "https://sso.example")
    }

    /// Token with these claims, signed by that issuer.
    fn foreign(claims: &Value) -> String {
        let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).expect("a key");
        signed(claims, &key, Header { kid: Some("sso".into()), ..Header::new(Algorithm::EdDSA) })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000).expect("in range")
    }

    fn ids() -> (UserId, SessionId) {
        (UserId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)))
    }

    fn claims() -> Value {
        let (user, session) = ids();
        json!({"sub": user, "sid": session, "iat": 0, "exp": 100, "iss": ISSUER, "aud": AUDIENCE})
    }

    fn signed(claims: &Value, key: &EncodingKey, header: Header) -> String {
        jsonwebtoken::encode(&header, claims, key).expect("signs")
    }

    fn hs256(claims: &Value) -> String {
        signed(claims, &EncodingKey::from_secret(SECRET.as_bytes()), Header::default())
    }

    /// Signed by hand, because our signer does not support it.
    fn hs512(claims: &Value) -> String {
        let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "HS512", "typ": "JWT"})), part(claims));
        let mut mac = Hmac::<sha2::Sha512>::new_from_slice(SECRET.as_bytes()).expect("any key length is valid");
        mac.update(signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn a_token_expires_to_the_second() {
        let (user, session) = ids();
        let tokens = tokens(&settings());
        let token = tokens.issue(user, session, at(0), at(100));
        let (subject, credentials) = tokens.verify(&token, at(99)).expect("good");
        assert_eq!((subject, credentials.session), (TokenSubject::User(user), Some(session)));
        assert_eq!((credentials.issued_at, credentials.expires_at), (at(0), at(100)));
        assert_eq!(tokens.verify(&token, at(100)), Err(TokenFlaw::Expired));
    }

    #[test]
    fn a_token_with_any_invalid_claim_is_refused() {
        let tokens = tokens(&settings());
        assert!(tokens.verify(&hs256(&claims()), at(1)).is_ok(), "the baseline is good");
        let wrong = [
            ("iss", json!("else")),
            ("iss", json!(["leadwire"])),
            ("aud", json!("else")),
            ("aud", json!([])),
            ("aud", Value::Null),
            ("sub", json!("somebody")),
            ("sub", Value::Null),
            ("sid", Value::Null),
            ("sid", json!(7)),
            ("exp", Value::Null),
            ("exp", json!("100")),
            ("exp", json!(1e300)),
            ("exp", json!(u64::MAX)),
            ("exp", json!(i64::MAX)),
            ("exp", json!(-1)),
            ("nbf", json!(50)),
            ("sub", json!("x".repeat(5000))),
        ];
        for (claim, value) in wrong {
            let mut claims = claims();
            claims[claim] = value.clone();
            assert!(tokens.verify(&hs256(&claims), at(1)).is_err(), "{claim}: {value}");
        }
    }

    #[test]
    fn a_token_cannot_choose_its_verification_algorithm() {
        let mut settings = settings();
        settings.trusted_keys = vec![sso(ED_PUBLIC)];
        let tokens = tokens(&settings);
        let secret = EncodingKey::from_secret(SECRET.as_bytes());
        let good = hs256(&claims());
        let parts: Vec<&str> = good.split('.').collect();
        let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let with_kid = |algorithm, kid: &str| Header { kid: Some(kid.into()), ..Header::new(algorithm) };
        let bad = [
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            hs512(&claims()),
            signed(&claims(), &secret, with_kid(Algorithm::HS256, "nobody's")),
            // Public key, used as an HMAC secret.
            signed(&claims(), &EncodingKey::from_secret(ED_PUBLIC.as_bytes()), with_kid(Algorithm::HS256, "sso")),
            signed(&claims(), &EncodingKey::from_secret(OTHER.as_bytes()), Header::default()),
            String::new(),
            "..".into(),
            "a.b.c.d".into(),
            "x".repeat(100_000),
        ];
        for token in bad {
            assert_eq!(tokens.verify(&token, at(1)), Err(TokenFlaw::Bad), "{token:.60}");
        }
    }

    #[test]
    fn a_trusted_issuer_identifies_users_but_cannot_issue_our_tokens() {
        let mut settings = settings();
        settings.trusted_keys = vec![sso(ED_PUBLIC)];
        let tokens = tokens(&settings);
        let mut claims = claims();
        assert!(tokens.verify(&foreign(&claims), at(1)).is_err());
        claims["iss"] = "https://sso.example".into();
        claims["aud"] = json!(["other", "leadwire"]);
        let (subject, credentials) = tokens.verify(&foreign(&claims), at(1)).expect("good");
        assert_eq!((subject, credentials.session), (TokenSubject::Elsewhere(ids().0.to_string()), None));
        assert!(!credentials.roles.contains(Role::Admin), "unless the key says so");
        assert!(credentials.roles.contains(Role::Viewer));
    }

    #[test]
    fn a_trusted_key_is_limited_to_its_audience_roles_and_max_age() {
        let mut settings = settings();
        let max_age = std::time::Duration::from_secs(50);
        let roles = vec![Role::Admin];
        settings.trusted_keys = vec![TrustedKey { audience: "crm".into(), max_age, roles, ..sso(ED_PUBLIC) }];
        let tokens = tokens(&settings);
        let good =
            json!({"sub": "ann@example.com", "iat": 100, "exp": 1000, "iss": "https://sso.example", "aud": "crm"});
        let (_, credentials) = tokens.verify(&foreign(&good), at(149)).expect("good");
        assert_eq!((credentials.issued_at, credentials.expires_at), (at(100), at(150)));
        assert!(credentials.roles.contains(Role::Admin) && !credentials.roles.contains(Role::Sales));
        assert_eq!(tokens.verify(&foreign(&good), at(150)), Err(TokenFlaw::Expired), "whatever it says itself");
        for (claim, value) in [
            ("aud", json!("leadwire")),
            ("iat", Value::Null),
            ("iat", json!("100")),
            ("iat", json!(1.5)),
            ("iat", json!(i64::MAX)),
            ("iat", json!(i64::MIN)),
            ("iat", json!(101 + CLOCK_SKEW)),
            ("exp", json!(i64::MIN)),
        ] {
            let mut claims = good.clone();
            claims[claim] = value.clone();
            assert_eq!(tokens.verify(&foreign(&claims), at(100)), Err(TokenFlaw::Bad), "{claim}: {value}");
        }
    }

    #[test]
    fn the_previous_secret_is_accepted_while_it_is_named() {
        let (user, session) = ids();
        let old = tokens(&settings()).issue(user, session, at(0), at(100));
        let mut next = settings();
        next.jwt_secret = Some(Secret::new(OTHER));
        assert_eq!(tokens(&next).verify(&old, at(1)), Err(TokenFlaw::Bad));
        next.previous_jwt_secret = Some(Secret::new(SECRET));
        assert!(tokens(&next).verify(&old, at(1)).is_ok());
    }

    #[test]
    fn the_successor_of_a_refresh_token_is_deterministic() {
        let tokens = tokens(&settings());
        let first = RefreshToken::random();
        let next: Vec<_> = tokens.successors(&first).map(RefreshToken::into_string).collect();
        assert_eq!(next, tokens.successors(&first).map(RefreshToken::into_string).collect::<Vec<_>>());
        assert_ne!(next[0], first.into_string());
    }

    #[test]
    fn invalid_settings_are_named() {
        let refused = |settings: &AuthConfig| Tokens::new(settings).err().expect("refused").to_string();
        assert!(refused(&AuthConfig::default()).contains("auth.jwt_secret is not set"));
        let short = AuthConfig { jwt_secret: Some(Secret::new("short")), ..AuthConfig::default() };
        assert!(refused(&short).contains("at least 32 bytes"));
        for key in ["", "AAAA", "not base64!", "-----BEGIN nonsense"] {
            let mut settings = settings();
            settings.trusted_keys = vec![sso(key)];
            assert!(refused(&settings).contains("auth.trusted_keys \"sso\""), "{key:?}");
        }
        let none = std::time::Duration::ZERO;
        for (key, fault) in [
            (TrustedKey { audience: String::new(), ..sso(ED_PUBLIC) }, "audience must not be empty"),
            (TrustedKey { roles: Vec::new(), ..sso(ED_PUBLIC) }, "roles must name some of ADMIN"),
            (TrustedKey { max_age: none, ..sso(ED_PUBLIC) }, "max_age must be between"),
            (TrustedKey { issuer: ISSUER.into(), ..sso(ED_PUBLIC) }, "issuer must be another's name"),
        ] {
            let found = refused(&AuthConfig { trusted_keys: vec![key], ..settings() });
            assert!(found.contains(fault), "{found}");
        }
        assert!(!format!("{:?}", settings()).contains(SECRET));
    }
}

//! From a request to what a handler asks for: the caller, ids, JSON objects, query parameters, headers.
//!
//! Each extractor refuses with a [`Problem`] that names what was wrong.

use std::{str::FromStr, sync::Arc};

use axum::{
    RequestPartsExt,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{Extensions, HeaderMap, StatusCode, header, request::Parts},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::{Api, problem::Problem};
use crate::{
    app::{self, IdempotencyKey},
    auth::{Authenticated, Origin, Principal},
    domain::event::Actor,
    transport::address::ClientAddress,
};

/// Who is asking, and from where.
pub struct Caller(pub Authenticated, pub Origin);

impl Caller {
    /// The user as of the head of the request: what reads are judged by.
    pub fn actor(&self) -> Actor {
        Actor::from(&self.0.user)
    }

    /// The user as someone who writes, judged again inside of the transaction.
    pub fn principal(&self) -> Principal {
        self.0.principal(self.1.clone())
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
            return Err(Problem::unauthenticated("an access token is required: Authorization: Bearer <token>"));
        };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token else {
            return Err(Problem::unauthenticated("the Authorization header must be Bearer <token>"));
        };
        Ok(Self(api.auth.authenticate(token).await?, origin(&parts.extensions)))
    }
}

/// Where the request came from, as far as the listener tells, and its id.
pub struct RequestOrigin(pub Origin);

impl<S: Sync> FromRequestParts<S> for RequestOrigin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(origin(&parts.extensions)))
    }
}

/// The id of a request, which every answer repeats.
#[derive(Clone)]
pub struct RequestId(pub Arc<str>);

fn origin(extensions: &Extensions) -> Origin {
    let address = extensions.get::<ClientAddress>().map(|client| client.0);
    Origin { address, request: extensions.get::<RequestId>().map(|id| id.0.clone()) }
}

/// The id in the path. One that is no id is the id of nothing.
pub struct Id<T>(pub T);

/// What an id names, for the refusal.
pub trait Named: FromStr {
    const NOUN: &'static str;
}

impl<T: Named, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let not_found = || Problem::from(app::Error::NotFound(T::NOUN));
        let Path(text) = parts.extract::<Path<String>>().await.map_err(|_| not_found())?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// A body that must be a JSON object.
pub struct Object(pub Map<String, Value>);

impl FromRequest<Api> for Object {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let json = is_json(&parts.headers);
        let bytes = read(body, api).await?;
        if !json && !bytes.is_empty() {
            let detail = "the body must be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        object(&bytes).map(Self).map_err(Problem::malformed)
    }
}

/// A body that may be left out: nothing stands for an empty object.
pub struct MaybeObject(pub Map<String, Value>);

impl FromRequest<Api> for MaybeObject {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let bytes = read(request.into_body(), api).await?;
        if bytes.is_empty() { Ok(Self(Map::new())) } else { object(&bytes).map(Self).map_err(Problem::malformed) }
    }
}

async fn read(body: Body, api: &Api) -> Result<Bytes, Problem> {
    let limit = api.settings.body_limit;
    let collected = Limited::new(body, limit).collect();
    let Ok(collected) = tokio::time::timeout(api.settings.body_timeout, collected).await else {
        let detail = "the body took too long to arrive";
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail));
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let detail = format!("the body may take at most {limit} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail))
        }
        Err(_) => Err(Problem::malformed("the body broke off")),
    }
}

/// Merge patches are plain JSON as well.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.eq_ignore_ascii_case("application/merge-patch+json")
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err("the body must be a JSON object".into()),
        Err(error) => Err(format!("the body is not JSON: {error}")),
    }
}

/// The query parameters. Each reader takes one out, so that what is left at the end is unknown; an
/// empty value is the same as none.
pub struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect()))
    }
}

impl Params {
    pub fn all(&mut self, name: &str) -> Vec<String> {
        let taken = self.0.extract_if(.., |(key, _)| key == name);
        taken.map(|(_, value)| value).filter(|value| !value.is_empty()).collect()
    }

    pub fn one(&mut self, name: &str) -> Result<Option<String>, app::Error> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(app::Error::query(name, "may be given once"));
        }
        Ok(values.pop())
    }

    /// Reads a value with `read`; `expected` completes "must be".
    pub fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, app::Error> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| app::Error::query(name, format!("must be {expected}")))
    }

    pub fn page(&mut self) -> Result<app::PageRequest, app::Error> {
        let expected = format!("a whole number from 1 to {}", app::MAX_LIMIT);
        let limit = |text: &str| text.parse().ok().filter(|limit| (1..=app::MAX_LIMIT).contains(limit));
        let limit = self.parsed("limit", &expected, limit)?.unwrap_or(app::DEFAULT_LIMIT);
        Ok(app::PageRequest { limit, cursor: self.one("cursor")? })
    }

    /// Ends the reading: a parameter nobody read is refused by name.
    pub fn finish(self) -> Result<(), app::Error> {
        let Some((name, _)) = self.0.first() else { return Ok(()) };
        let name: String = name.chars().take(100).collect();
        Err(app::Error::query(name, "is not a parameter here"))
    }
}

/// The `Idempotency-Key` of a request that has one.
pub struct Key(pub Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        const NAME: &str = "Idempotency-Key";
        let mut keys = parts.headers.get_all(NAME).iter();
        let Some(key) = keys.next() else { return Ok(Self(None)) };
        if keys.next().is_some() {
            return Err(Problem::malformed(format!("{NAME} may be given once")));
        }
        let key = IdempotencyKey::parse(NAME, key.to_str().unwrap_or_default()).map_err(app::Error::from)?;
        Ok(Self(Some(key)))
    }
}

/// The versions that `If-Match` allows.
pub enum IfMatch {
    Any,
    /// Possibly none: tags that we never gave out match nothing.
    Versions(Vec<i64>),
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut lines = parts.headers.get_all(header::IF_MATCH).iter().peekable();
        if lines.peek().is_none() {
            return Ok(Self::Any);
        }
        let text = lines.map(|line| line.to_str().ok()).collect::<Option<Vec<_>>>().map(|lines| lines.join(","));
        text.as_deref().and_then(if_match).ok_or_else(|| {
            Problem::malformed("If-Match must be * or a list of entity tags in double quotes, such as \"3\"")
        })
    }
}

fn if_match(text: &str) -> Option<IfMatch> {
    if text.trim() == "*" {
        return Some(IfMatch::Any);
    }
    let mut versions = Vec::new();
    for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
        let (weak, tag) = tag.strip_prefix("W/").map_or((false, tag), |tag| (true, tag));
        let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
        // RFC 9110 compares strongly here: a weak tag matches nothing, itself included.
        versions.extend(tag.parse::<i64>().ok().filter(|_| !weak));
    }
    Some(IfMatch::Versions(versions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(text: &str) -> Option<Option<Vec<i64>>> {
        if_match(text).map(|read| match read {
            IfMatch::Any => None,
            IfMatch::Versions(versions) => Some(versions),
        })
    }

    #[test]
    fn if_match_takes_a_star_or_a_list_of_strong_tags() {
        assert_eq!(versions("*"), Some(None));
        assert_eq!(versions(r#""3""#), Some(Some(vec![3])));
        assert_eq!(versions(r#" "3" , "5" "#), Some(Some(vec![3, 5])));
        assert_eq!(versions(r#"W/"3", "abc""#), Some(Some(vec![])));
        for wrong in ["3", "\"3", "'3'", "\"", "*, \"3\""] {
            assert_eq!(versions(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn deep_json_is_malformed_and_repeated_members_are_not() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
        for wrong in
            [deep.as_bytes(), b"", b"[]", b"null", b"{", b"\xff", b"{\"a\":1e999}", b"{\"a\":\"\\ud800\"}", b"{}x"]
        {
            assert!(object(wrong).is_err());
        }
        assert_eq!(object(br#"{"a":1,"a":2}"#).expect("readable")["a"], 2);
    }
}

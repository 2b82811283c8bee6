//! Extractors: turn a request into what a handler asks for (the caller, ids, JSON objects, query parameters, headers).
//!
//! Each extractor refuses with a [`Problem`] that names what was wrong.

use std::{str::FromStr, sync::Arc};

use axum::{
    RequestPartsExt,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{Extensions, HeaderMap, StatusCode, Uri, header, request::Parts},
};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::{
    app::{self, IdempotencyKey},
    auth::{Authenticated, Principal, RequestOrigin},
    domain::{
        actor::Actor,
        field::{Field, FieldKind},
        input::inexact_number,
        number,
    },
    transport::{
        address::ClientAddress,
        http::{api::ApiState, problem::Problem},
    },
};

/// Authenticated caller, and the origin of the request.
pub struct HttpCaller(pub Authenticated, pub RequestOrigin);

impl HttpCaller {
    /// Returns the user as of the head of the request, by which reads are judged.
    pub fn actor(&self) -> Actor {
        Actor::from(&self.0.user)
    }

    /// Returns the user as someone who writes, judged again inside the transaction.
    pub fn principal(&self) -> Principal {
        self.0.principal(self.1.clone())
    }
}

impl FromRequestParts<ApiState> for HttpCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Problem> {
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
        let caller = Self(api.auth.authenticate(token).await?, origin(&parts.extensions));
        api.under_way.is_by(caller.0.user.id, &parts.extensions)?;
        Ok(caller)
    }
}

/// Origin of the request: its address, as far as the listener provides it, and its id.
pub struct OriginExtractor(pub RequestOrigin);

impl<S: Sync> FromRequestParts<S> for OriginExtractor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(origin(&parts.extensions)))
    }
}

/// Id of a request, which every response repeats.
#[derive(Clone)]
pub struct RequestId(pub Arc<str>);

fn origin(extensions: &Extensions) -> RequestOrigin {
    let address = extensions.get::<ClientAddress>().map(|client| client.0);
    RequestOrigin { address, request: extensions.get::<RequestId>().map(|id| id.0.clone()) }
}

/// Id in the path. A text that is not an id is answered like an unknown id.
pub struct Id<T>(pub T);

/// Id of a resource; the noun is for the refusal.
pub trait ResourceId: FromStr {
    const NOUN: &'static str;
}

impl<T: ResourceId, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let not_found = || Problem::from(app::Error::NotFound(T::NOUN));
        let Path(text) = parts.extract::<Path<String>>().await.map_err(|_| not_found())?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// Request body that must be a JSON object.
pub struct JsonBody(pub Map<String, Value>);

impl FromRequest<ApiState> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &ApiState) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let media = MediaType::of(&parts.headers);
        // Judged before the first read if it is known that there is a body: a client that asks with `Expect` if it
        // should send the body is refused.
        if body.size_hint().lower() > 0 {
            media.check()?;
        }
        let bytes = read(body, api).await?;
        if !bytes.is_empty() {
            media.check()?;
        }
        object(&bytes).map(Self)
    }
}

/// Request body that may be left out: no body means an empty object.
pub struct OptionalJsonBody(pub Map<String, Value>);

impl FromRequest<ApiState> for OptionalJsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &ApiState) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let media = MediaType { is_json: true, ..MediaType::of(&parts.headers) };
        let bytes = read(body, api).await?;
        if bytes.is_empty() {
            return Ok(Self(Map::new()));
        }
        media.check()?;
        object(&bytes).map(Self)
    }
}

async fn read(body: Body, api: &ApiState) -> Result<Bytes, Problem> {
    let limit = api.settings.body_limit;
    let too_long = || {
        let detail = format!("the body may have at most {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    };
    // Before the first read, which would tell a client that waits for `100 Continue` to go ahead.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    let collected = Limited::new(body, limit).collect();
    let Ok(collected) = tokio::time::timeout(api.settings.body_timeout, collected).await else {
        let detail = "the body took too long to arrive";
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail));
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
        Err(_) => Err(Problem::malformed("the body is incomplete")),
    }
}

/// Format of a body, according to the headers.
struct MediaType {
    is_json: bool,
    is_utf8: bool,
    is_plain: bool,
}

impl MediaType {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut parts = kind.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        let mut charsets = parts.filter_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
        let codings = headers.get_all(header::CONTENT_ENCODING);
        let identity = |coding: &str| coding.trim().eq_ignore_ascii_case("identity");
        Self {
            // Merge patches are plain JSON as well.
            is_json: is("application/json") || is("application/merge-patch+json"),
            is_utf8: charsets.all(|name| ["utf-8", "utf8"].iter().any(|utf8| name.eq_ignore_ascii_case(utf8))),
            is_plain: codings.iter().all(|line| line.to_str().is_ok_and(|line| line.split(',').all(identity))),
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let detail = match self {
            Self { is_json: false, .. } => "the body must be application/json",
            Self { is_utf8: false, .. } => "the body must be UTF-8: no other charset is accepted",
            Self { is_plain: false, .. } => "the body must have no Content-Encoding",
            _ => return Ok(()),
        };
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    // Some editors and Windows tools begin every file with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(members)) => match std::str::from_utf8(bytes).ok().and_then(number::inexact) {
            Some(field) => Err(app::Error::from(inexact_number(field)).into()),
            None => Ok(members),
        },
        Ok(_) => Err(Problem::malformed("the body must be a JSON object")),
        Err(error) => Err(Problem::malformed(format!("the body is not JSON: {error}"))),
    }
}

/// Query parameters of a request. They can be read only by [`QueryParams::parse`].
pub struct QueryParams(Vec<(String, String)>);

/// Query parameters being read. Each reader takes one out, so that what is left at the end is unknown; an empty value is
/// the same as none.
pub struct QueryReader {
    given: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl<S: Sync> FromRequestParts<S> for QueryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

/// Decodes a name and its value. A value that is not text is refused: a search for it would silently be another one.
fn parameter(pair: &str) -> Result<(String, String), Problem> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        let text = percent_decode_str(&spaced).decode_utf8().ok()?.into_owned();
        (!text.contains('\0')).then_some(text)
    };
    let bad = |parameter: String| app::Error::query(parameter, "must be UTF-8 without U+0000");
    let shown = || percent_decode_str(name).decode_utf8_lossy().replace('\0', "\u{fffd}").chars().take(100).collect();
    let name = decoded(name).ok_or_else(|| bad(shown()))?;
    match decoded(value) {
        Some(value) => Ok((name, value)),
        None => Err(bad(name.chars().take(100).collect()).into()),
    }
}

impl QueryParams {
    /// Parses the query of any request, even of one that takes no parameters.
    ///
    /// # Errors
    /// When a name or a value is not text.
    pub fn of(uri: &Uri) -> Result<Self, Problem> {
        let query = uri.query().unwrap_or_default();
        query.split('&').filter(|pair| !pair.is_empty()).map(parameter).collect::<Result<Vec<_>, _>>().map(Self)
    }

    /// Reads the parameters of some tables with `read`, and returns the result if it has read all of them.
    ///
    /// # Errors
    /// When one is invalid, or nobody read it; the error names it.
    pub fn parse<T>(
        self,
        tables: &[&[&Field]],
        read: impl FnOnce(&mut QueryReader) -> Result<T, app::Error>,
    ) -> Result<T, app::Error> {
        let known = tables.iter().flat_map(|table| table.iter()).map(|field| field.name).collect();
        let mut reader = QueryReader { given: self.0, known };
        let value = read(&mut reader)?;
        let Some((name, _)) = reader.given.first() else { return Ok(value) };
        let name: String = name.chars().take(100).collect();
        Err(app::Error::query(name, "is not a known parameter"))
    }
}

impl QueryReader {
    fn all(&mut self, field: &Field) -> Vec<String> {
        debug_assert!(self.known.contains(&field.name), "{} is not in the table", field.name);
        let taken = self.given.extract_if(.., |(key, _)| key == field.name);
        taken.map(|(_, value)| value).filter(|value| !value.is_empty()).collect()
    }

    pub fn one(&mut self, field: &Field) -> Result<Option<String>, app::Error> {
        let mut values = self.all(field);
        if values.len() > 1 {
            return Err(app::Error::query(field.name, "must be given only once"));
        }
        Ok(values.pop())
    }

    /// Reads a value with `read`; `expected` completes "must be".
    pub fn parsed<T>(
        &mut self,
        field: &Field,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, app::Error> {
        let Some(text) = self.one(field)? else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| app::Error::query(field.name, format!("must be {expected}")))
    }

    pub fn flag(&mut self, field: &Field) -> Result<Option<bool>, app::Error> {
        self.parsed(field, "true or false", |text| text.parse().ok())
    }

    pub fn text(&mut self, field: &Field) -> Result<Option<String>, app::Error> {
        let FieldKind::Text { max, .. } = field.kind else { unreachable!("{} is {:?}", field.name, field.kind) };
        let short = |text: &str| (text.chars().count() <= max).then(|| text.to_owned());
        self.parsed(field, &format!("at most {max} characters long"), short)
    }

    /// Reads names of a closed set, each once, in the order in which they were given.
    pub fn many_of<T: PartialEq>(
        &mut self,
        field: &Field,
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, app::Error> {
        let FieldKind::ManyOf(names) = field.kind else { unreachable!("{} is {:?}", field.name, field.kind) };
        let mut found = Vec::new();
        let given = self.all(field);
        for name in given.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
            let item = from_name(name)
                .ok_or_else(|| app::Error::query(field.name, format!("must be one of {}", names.join(", "))))?;
            if !found.contains(&item) {
                found.push(item);
            }
        }
        Ok(found)
    }

    /// Reads `limit` and `cursor`.
    pub fn page(&mut self, api: &ApiState) -> Result<app::PageRequest, app::Error> {
        let expected = format!("a whole number from 1 to {}", app::MAX_LIMIT);
        let limit = |text: &str| text.parse().ok().filter(|limit| (1..=app::MAX_LIMIT).contains(limit));
        let limit = self.parsed(&LIMIT, &expected, limit)?.unwrap_or(app::DEFAULT_LIMIT);
        Ok(app::PageRequest { limit, cursor: self.one(&CURSOR)?, max_bytes: api.settings.page_bytes })
    }
}

const LIMIT: Field =
    Field::new("limit", FieldKind::Integer { min: 1, max: app::MAX_LIMIT as i64 }, "Most items of the page.")
        .default("50");
const _: () = assert!(app::DEFAULT_LIMIT == 50, "the default of `limit` is documented here");
const CURSOR: Field = Field::new("cursor", FieldKind::Text { min: 0, max: 4096 }, "`nextCursor` of the page before.");

/// Parameters of every list.
pub(crate) const PAGE: &[&Field] = &[&LIMIT, &CURSOR];

/// `Idempotency-Key` of a request, if it has one.
pub struct IdempotencyHeader(pub Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for IdempotencyHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        const NAME: &str = "Idempotency-Key";
        let mut keys = parts.headers.get_all(NAME).iter();
        let Some(key) = keys.next() else { return Ok(Self(None)) };
        if keys.next().is_some() {
            return Err(Problem::malformed(format!("{NAME} must be given only once")));
        }
        let key = IdempotencyKey::parse(NAME, key.to_str().unwrap_or_default()).map_err(app::Error::from)?;
        Ok(Self(Some(key)))
    }
}

/// Versions that `If-Match` allows.
pub enum IfMatch {
    Any,
    /// May be empty: tags that we never gave out match nothing.
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
    fn deep_json_is_malformed_and_duplicate_members_are_accepted() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
        for wrong in
            [deep.as_bytes(), b"", b"[]", b"null", b"{", b"\xff", b"{\"a\":1e999}", b"{\"a\":\"\\ud800\"}", b"{}x"]
        {
            assert!(object(wrong).is_err());
        }
        assert_eq!(object(br#"{"a":1,"a":2}"#).expect("readable")["a"], 2);
        assert_eq!(object(b"\xef\xbb\xbf{\"a\":1}").expect("readable")["a"], 1, "a mark of the byte order");
    }

    #[test]
    fn a_query_parameter_must_be_utf_8_text() {
        let read = |pair: &str| parameter(pair).ok();
        assert_eq!(read("q=a+b%20%C3%A9"), Some(("q".into(), "a b \u{e9}".into())));
        assert_eq!(read("q"), Some(("q".into(), String::new())));
        assert_eq!(read("q=%EF%BF%BD"), Some(("q".into(), "\u{fffd}".into())), "typed by somebody");
        for broken in ["q=%ff", "q=%C3", "q=%ED%A0%80", "q=a%00", "%00=a", "%ff=a"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}

//! Request ids: a request has the id that its caller gave in `x-request-id`, or a new one. It is safe to write to the
//! log, and is repeated in the response.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName},
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns the caller's id if it is safe in a log line, else a new one.
pub(crate) fn request_id(request: &Request) -> String {
    given_request_id(request.headers()).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// Returns the id that a caller gave a request, if it is safe in a log line.
pub(crate) fn given_request_id(headers: &HeaderMap) -> Option<&str> {
    let sane = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        (1..=128).contains(&id.len()) && id.bytes().all(plain)
    };
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sane)
}

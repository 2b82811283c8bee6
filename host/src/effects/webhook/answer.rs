//! Response of a webhook receiver: accepted, refused for good, or to be tried again (retry). Reads `Retry-After`, and a
//! short excerpt of a refusal's body for the reason.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER},
};

use crate::domain::time::Timestamp;

/// Reason why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    pub reason: String,
    /// True if the same message might be accepted later.
    pub retry: bool,
    /// Time to wait before the retry, if the receiver gave one.
    pub retry_after: Option<Duration>,
}

impl SendError {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: false, retry_after: None }
    }

    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: true, retry_after: None }
    }
}

/// Upper limit of the time to wait, however long a receiver asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// Bytes of a refusal's body that are read; `MAX_EXCERPT` is the number of characters of it that are kept.
const MAX_BODY: usize = 4096;
const MAX_EXCERPT: usize = 200;

/// Turns a response into a result. The body of a successful one is not read at all.
pub(crate) async fn judge(host: &str, response: Response, now: Timestamp) -> Result<(), SendError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        let location = text(response.headers(), LOCATION).unwrap_or("nowhere");
        let location = excerpt(location.as_bytes());
        let reason = format!("{host} answered {status}, to {location}: redirects are not followed");
        return Err(SendError::refused(reason));
    }
    let passing = status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    let retry_after = text(response.headers(), RETRY_AFTER).and_then(|text| wait(text, now)).filter(|_| passing);
    let reason = match excerpt(&beginning(response).await) {
        said if said.is_empty() => format!("{host} answered {status}"),
        said => format!("{host} answered {status}: {said}"),
    };
    Err(SendError { reason, retry: passing, retry_after })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Parses `Retry-After`: a number of seconds, or a date in one of three forms (RFC 9110, 5.6.7).
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is above the limit.
        text.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).ok()?)?.since(now)
    };
    Some(wait.min(LONGEST_WAIT))
}

/// Reads the first bytes of a body, however long it is; fewer if it breaks off.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - bytes.len())]);
    }
    bytes
}

/// Reduces untrusted text to one short line.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<_> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(MAX_EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_parsed_as_seconds_or_a_date() {
        let now: Timestamp = "2015-10-21T07:27:30Z".parse().expect("a time");
        for (text, seconds) in [
            ("0", 0),
            (" 120 ", 120),
            ("86400", 3600),
            ("99999999999999999999999", 3600),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 30),
            ("Wednesday, 21-Oct-15 07:28:00 GMT", 30),
            ("Wed Oct 21 07:28:00 2015", 30),
            ("Thu, 22 Oct 2015 07:28:00 GMT", 3600),
            ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
        ] {
            assert_eq!(wait(text, now), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "-1", "soon", "1.5", "2015-10-21T07:28:00Z", "Fri, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(wait(text, now), None, "{text}");
        }
    }

    #[test]
    fn a_response_body_becomes_one_short_line() {
        assert_eq!(excerpt(b"bad\r\n\x1b[31m  signature\0\n"), "bad [31m signature");
        assert_eq!(excerpt(&[b'x'; 5000]).len(), MAX_EXCERPT);
        assert_eq!(excerpt(b"\xff\n"), "\u{fffd}");
    }
}

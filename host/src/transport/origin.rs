//! Origin check (CORS): which web pages may call, over HTTP and over Socket.IO.
//!
//! Browsers name the page behind a request in `Origin`, in one spelling only. So a configured origin must have that
//! spelling, and is compared byte by byte.

use std::collections::HashSet;

use axum::http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use tracing::info;
use url::{Host, Url};

/// Maximum number of refused origins that are remembered, and so logged: a client that makes them up must not fill
/// memory or the log.
const MAX_REMEMBERED: usize = 256;
/// Longest part of an origin that is logged.
const MAX_LOGGED_CHARS: usize = 200;

/// Origins that may call.
#[derive(Debug, Default)]
pub struct Origins {
    is_open: bool,
    /// Set if pages of this machine may call, whatever their port.
    is_open_to_loopback: bool,
    named: Vec<String>,
    refused: Mutex<HashSet<String>>,
}

impl Origins {
    /// Creates the check of the configured origins; `any_is_loopback` makes `*` mean only the pages of this machine.
    pub fn new(configured: &[String], any_is_loopback: bool) -> Self {
        let is_any = configured.iter().any(|origin| origin == "*");
        Self {
            is_open: is_any && !any_is_loopback,
            is_open_to_loopback: is_any && any_is_loopback,
            named: configured.to_vec(),
            refused: Mutex::default(),
        }
    }

    /// Returns true if any page may call.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns true if the origin is configured by name.
    pub fn names(&self, origin: &HeaderValue) -> bool {
        self.named.iter().any(|named| named.as_bytes() == origin.as_bytes())
    }

    /// Returns true if pages of the origin may read responses, in case not any page may.
    pub fn admit(&self, origin: &HeaderValue) -> bool {
        self.names(origin) || (self.is_open_to_loopback && origin.to_str().is_ok_and(is_loopback))
    }

    /// Returns true if a request comes from no page, from a page of this server, or from a page that may call.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        self.is_open || self.admit(origin) || is_same(origin, headers.get(header::HOST))
    }

    /// Logs the origin of a request that is not allowed, once.
    pub fn note_refused(&self, origin: &HeaderValue) {
        let origin: String = String::from_utf8_lossy(origin.as_bytes()).chars().take(MAX_LOGGED_CHARS).collect();
        let mut refused = self.refused.lock();
        if refused.len() >= MAX_REMEMBERED || !refused.insert(origin.clone()) {
            return;
        }
        let is_last = refused.len() == MAX_REMEMBERED;
        drop(refused);

        info!(origin = ?origin, "refused a page: its origin is not among http.cors_origins");
        if is_last {
            info!("further refused origins are not logged");
        }
    }
}

/// Checks one of the configured origins.
///
/// # Errors
/// When browsers never send it: the error says what to write instead.
pub fn check(origin: &str) -> Result<(), String> {
    match (origin, as_sent(origin)) {
        ("*", _) => Ok(()),
        ("null", _) => Err("\"null\" is what every sandboxed page and local file sends: expected an origin".into()),
        (_, Some(sent)) if sent == origin => Ok(()),
        (_, Some(sent)) => Err(format!("browsers never send {origin:?}: expected {sent:?}")),
        (_, None) => Err(format!("expected \"*\" or origins such as \"https://crm.example\", found {origin:?}")),
    }
}

/// Returns the origin of a URL, as browsers send it; `None` if it is not the URL of a page.
fn as_sent(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_name =
        |host: &&str| !host.contains('*') && host.trim_end_matches('.').split('.').all(|label| !label.is_empty());
    let host = url.host_str().filter(is_name)?;
    match url.scheme() {
        "http" | "https" => Some(url.origin().ascii_serialization()),
        "ws" | "wss" | "ftp" | "file" | "javascript" | "data" | "blob" | "about" | "mailto" | "tel" => None,
        // Apps and browser extensions have schemes of their own.
        scheme => Some(match url.port() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }),
    }
}

/// Returns true if pages of that origin come from this machine.
fn is_loopback(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    let is_page = matches!(url.scheme(), "http" | "https") && as_sent(origin).as_deref() == Some(origin);
    is_page
        && match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
}

/// Returns true if a page comes from the host that the request is for.
fn is_same(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), host.map(HeaderValue::to_str)) else { return false };
    let Some((scheme @ ("http" | "https"), authority)) = origin.split_once("://") else { return false };
    // Parsed with the page's scheme, which determines the port that is left out.
    as_sent(&format!("{scheme}://{host}")).is_some_and(|sent| sent == format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_that_browsers_send_can_be_configured() {
        for nowhere in ["javascript://x", "mailto://a", "data://a", "https://crm..example", "https://.example"] {
            assert!(check(nowhere).is_err(), "{nowhere}");
        }
        check("capacitor://localhost").expect("an app's");
        for good in [
            "*",
            "https://crm.example",
            "http://localhost:5173",
            "https://[::1]:8443",
            "chrome-extension://abcdef",
            "capacitor://localhost",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (wrong, instead) in [
            ("https://crm.example/", "https://crm.example"),
            ("https://crm.example/app", "https://crm.example"),
            ("https://CRM.example", "https://crm.example"),
            ("HTTPS://crm.example", "https://crm.example"),
            ("https://crm.example:443", "https://crm.example"),
            ("http://crm.example:80", "http://crm.example"),
            ("https://user@crm.example", "https://crm.example"),
            ("https://crm.example?x", "https://crm.example"),
            ("https://b\u{fc}ro.example", "https://xn--bro-hoa.example"),
        ] {
            let why = check(wrong).expect_err(wrong);
            assert!(why.ends_with(&format!("expected {instead:?}")), "{why}");
        }
        for wrong in
            ["", "null", "crm.example", "localhost:3000", "https://*.crm.example", "wss://crm.example", "https://"]
        {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_same_host_page_may_always_call() {
        let origins = Origins::new(&["https://crm.example".into()], false);
        let allow = |origin: &str, host: &str| {
            let header = |text: &str| text.parse::<HeaderValue>().expect("a header");
            let headers = [(header::ORIGIN, header(origin)), (header::HOST, header(host))];
            origins.allow(&headers.into_iter().collect())
        };
        assert!(allow("https://crm.example", "api.example"));
        assert!(allow("http://localhost:3001", "localhost:3001"));
        assert!(allow("https://api.example", "api.example:443") && allow("https://api.example", "API.example"));
        for (origin, host) in [
            ("http://localhost:3002", "localhost:3001"),
            ("https://api.example", "api.example:80"),
            ("null", "null"),
            ("", ""),
            ("https://evil.example", "api.example"),
            ("http://crm.example", "api.example"),
        ] {
            assert!(!allow(origin, host), "{origin} {host}");
        }
        assert!(origins.allow(&HeaderMap::new()), "what is no browser names no origin");
    }

    #[test]
    fn in_demo_mode_a_wildcard_allows_only_loopback_origins() {
        let origins = Origins::new(&["*".into(), "https://crm.example".into()], true);
        let admit = |origin: &str| origins.admit(&origin.parse().expect("a header"));
        for near in ["http://localhost:5173", "https://localhost", "http://127.0.0.1:8080", "http://[::1]:3000"] {
            assert!(admit(near), "{near}");
        }
        assert!(admit("https://crm.example") && !origins.is_open());
        for far in [
            "https://localhost.evil.example",
            "http://evil.example",
            "null",
            "http://localhost/",
            "ftp://localhost",
            "http://127.0.0.1.evil.example",
        ] {
            assert!(!admit(far), "{far}");
        }
    }

    #[test]
    fn refused_origins_are_recorded_up_to_a_limit() {
        let origins = Origins::new(&[], false);
        for number in 0..2 * MAX_REMEMBERED {
            origins.note_refused(&format!("https://{number}.example").parse().expect("a header"));
        }
        assert_eq!(origins.refused.lock().len(), MAX_REMEMBERED);
    }
}

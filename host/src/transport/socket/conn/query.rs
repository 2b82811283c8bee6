//! Query of a request to the engine, read in the one way in which the engine reads it.
//!
//! The engine looks for the first pair that begins with a name, takes what is before a second `=`, and decodes nothing.
//! A query that another reader could read differently is refused, so that no request is watched as something else than
//! it is.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Returns true if a request is for the engine, by its path as the engine looks at it.
pub(crate) fn is_for_engine(path: &str) -> bool {
    path.strip_prefix("/socket.io").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Query as the engine reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EngineQuery<'q> {
    pub(crate) version: Option<&'q str>,
    pub(crate) transport: Option<&'q str>,
    pub(crate) sid: Option<&'q str>,
}

/// Error: two readers could read the query in two ways.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous;

impl<'q> EngineQuery<'q> {
    pub(crate) fn parse(query: &'q str) -> Result<Self, Ambiguous> {
        let mut read = Self { version: None, transport: None, sid: None };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match &*plain(name) {
                "EIO" => &mut read.version,
                "transport" => &mut read.transport,
                "sid" => &mut read.sid,
                _ => continue,
            };
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            if slot.is_some() || !["EIO", "transport", "sid"].contains(&name) || !value.bytes().all(is_plain) {
                return Err(Ambiguous);
            }
            *slot = Some(value);
        }
        Ok(read)
    }

    pub(crate) fn is_web_socket(&self) -> bool {
        self.transport == Some("websocket")
    }

    /// Returns true if the query asks for a new session, as far as a query can.
    pub(crate) fn opens(&self) -> bool {
        self.sid.is_none() && self.version == Some("4") && matches!(self.transport, Some("polling" | "websocket"))
    }
}

/// Normalizes a name: undoes all the ways to write it otherwise.
fn plain(name: &str) -> Cow<'_, str> {
    let name = percent_decode_str(name).decode_utf8_lossy();
    let name = name.trim_matches(|char: char| char == '+' || char.is_whitespace() || char.is_control());
    match name.to_ascii_lowercase().as_str() {
        "eio" => "EIO".into(),
        "transport" => "transport".into(),
        "sid" => "sid".into(),
        _ => Cow::Owned(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_parsed_like_engine_io_parses_them() {
        let query = EngineQuery::parse("EIO=4&transport=websocket&sid=AAAA_-9&t=P%3D1&b64=1&token=a=b").expect("plain");
        assert_eq!(query, EngineQuery { version: Some("4"), transport: Some("websocket"), sid: Some("AAAA_-9") });
        assert!(query.is_web_socket() && !query.opens());
        assert!(EngineQuery::parse("EIO=4&transport=polling").expect("plain").opens());
        assert!(!EngineQuery::parse("EIO=3&transport=polling").expect("plain").opens());
        // The engine itself reports what is wrong.
        assert_eq!(EngineQuery::parse("transport=grpc").expect("plain").transport, Some("grpc"));
        assert_eq!(EngineQuery::parse("").expect("plain").transport, None);
    }

    #[test]
    fn ambiguous_queries_are_refused() {
        for query in [
            "transport=websocket=x",
            "transport=polling&transport=websocket",
            "transport=websocket&transport=websocket",
            "transport=web%73ocket",
            "t%72ansport=websocket",
            "Transport=websocket&transport=polling",
            "transport=polling&%20transport=websocket",
            "sid=a&sid=b",
            "sid=&sid=b",
            "sid=a=b",
            "EIO=4=3",
            "transport=+websocket",
            "transport=websocket;x",
        ] {
            assert_eq!(EngineQuery::parse(query), Err(Ambiguous), "{query}");
        }
    }
}

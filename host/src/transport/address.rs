//! Client address of a request: the TCP peer or, if that is a trusted proxy, the client that the proxy names.
//!
//! A header is only a claim. Each proxy adds the peer that it saw at the right, so the list is read from the right for
//! as long as trusted proxies vouch for it; whatever a client wrote further left counts for nothing.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::http::{Extensions, HeaderMap, HeaderName, header};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing::field::DisplayValue;

/// Client of a request; the listener puts it into the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// Returns the client's address as a field of the log.
    pub(crate) fn field(extensions: &Extensions) -> Option<DisplayValue<IpAddr>> {
        extensions.get::<Self>().map(|client| tracing::field::display(client.0))
    }
}

/// Trusted proxies in front of the server, and the header in which they name the client.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    pub trusted: Vec<Network>,
    pub header: ForwardedHeader,
}

/// Network such as `10.0.0.0/8`, or a single address without the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// Header that most proxies write: `X-Forwarded-For: 203.0.113.7, 10.0.0.2`.
    #[default]
    XForwardedFor,
    /// RFC 7239: `Forwarded: for=203.0.113.7;proto=https, for="[2001:db8::1]:4711"`.
    Forwarded,
}

impl Proxies {
    /// Returns the client of a request that has these headers and came from `peer`.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let mut client = peer.to_canonical();
        if !self.trust(client) {
            return ClientAddress(client);
        }
        for hop in self.header.hops(headers).into_iter().rev() {
            // `unknown`, a made-up name or nonsense: nobody vouches for what is left of it.
            let Some(address) = hop else { break };
            client = address;
            if !self.trust(address) {
                break;
            }
        }
        ClientAddress(client)
    }

    /// Returns true if an address is that of a trusted proxy.
    pub fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|Network(network)| network.contains(&address))
    }
}

impl ForwardedHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => header::FORWARDED,
        }
    }

    /// Returns every hop that is named, in the order of the header; `None` is one that is not an address.
    fn hops(self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let mut hops = Vec::new();
        // Several lines are one list (RFC 9110, 5.3).
        for line in headers.get_all(self.name()) {
            match line.to_str() {
                // A quote that a client leaves open would swallow what the proxy writes after it.
                Ok(line) if self == Self::Forwarded && line.matches('"').count() % 2 != 0 => hops.push(None),
                Ok(line) if self == Self::Forwarded => hops.extend(elements(line).map(forwarded_for)),
                Ok(line) => hops.extend(line.split(',').map(|hop| node(hop.trim()))),
                Err(_) => hops.push(None),
            }
        }
        hops
    }
}

/// Splits a list into its elements; quoted texts in them may have commas.
fn elements(line: &str) -> impl Iterator<Item = &str> {
    split_unquoted(line, ',').into_iter().filter(|element| !element.trim().is_empty())
}

/// Returns the address in the `for` of an element such as `for=192.0.2.1;proto=http`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = split_unquoted(element, ';').into_iter().filter_map(|pair| pair.trim().split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = named.next()?;
    if named.next().is_some() {
        return None;
    }
    let value = value.trim();
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut is_quoted) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => is_quoted = !is_quoted,
            letter if letter == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Parses an address with or without a port, IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network =
            text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical())));
        network.map(|network: IpNet| Self(network.trunc())).map_err(|_| {
            format!("expected a network or an address such as \"10.0.0.0/8\" or \"127.0.0.1\", found {text:?}")
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn proxies(header: ForwardedHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "127.0.0.1", "2001:db8:ffff::/48"];
        Proxies { trusted: trusted.iter().map(|text| text.parse().expect("a network")).collect(), header }
    }

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| (HeaderName::from_static(name), line.parse().expect("a header"));
        lines.iter().map(line).collect()
    }

    fn by_x_forwarded_for(peer: &str, lines: &[&str]) -> String {
        let proxies = proxies(ForwardedHeader::XForwardedFor);
        proxies.client(peer.parse().expect("an address"), &headers("x-forwarded-for", lines)).0.to_string()
    }

    fn by_forwarded(lines: &[&str]) -> String {
        let proxies = proxies(ForwardedHeader::Forwarded);
        proxies.client(PROXY.parse().expect("an address"), &headers("forwarded", lines)).0.to_string()
    }

    #[test]
    fn headers_of_an_untrusted_peer_are_ignored() {
        assert_eq!(by_x_forwarded_for("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(by_x_forwarded_for("::ffff:203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(by_x_forwarded_for("203.0.113.9", &["198.51.100.1, 10.0.0.1"]), "203.0.113.9");
    }

    #[test]
    fn the_client_is_the_rightmost_untrusted_hop() {
        let client = |lines: &[&str]| by_x_forwarded_for(PROXY, lines);
        assert_eq!(client(&[]), PROXY);
        assert_eq!(client(&["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client(&["198.51.100.1, 203.0.113.7"]), "203.0.113.7", "the first is the client's own invention");
        assert_eq!(client(&["198.51.100.1, 203.0.113.7, 10.9.9.9,127.0.0.1"]), "203.0.113.7");
        assert_eq!(client(&["198.51.100.1", "203.0.113.7", "10.9.9.9"]), "203.0.113.7", "lines are one list");
        assert_eq!(client(&["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "all of them ours");
        assert_eq!(by_x_forwarded_for("::ffff:10.0.0.1", &["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(client(&["2001:db8::7"]), "2001:db8::7");
        assert_eq!(client(&["[2001:db8::7]:4711, 2001:db8:ffff::1"]), "2001:db8::7");
    }

    #[test]
    fn hops_to_the_left_of_an_invalid_hop_are_ignored() {
        for line in ["203.0.113.7, unknown", "203.0.113.7,", "203.0.113.7, 300.1.1.1", "203.0.113.7, fe80::1%eth0"] {
            assert_eq!(by_x_forwarded_for(PROXY, &[line]), PROXY, "{line}");
        }
        assert_eq!(by_x_forwarded_for(PROXY, &["203.0.113.7, _hidden, 10.0.0.2"]), "10.0.0.2");
        let mut strange = headers("x-forwarded-for", &["203.0.113.7"]);
        strange.append("x-forwarded-for", axum::http::HeaderValue::from_bytes(b"\xff").expect("opaque bytes"));
        let client = proxies(ForwardedHeader::XForwardedFor).client(PROXY.parse().expect("an address"), &strange);
        assert_eq!(client.0.to_string(), PROXY);
    }

    #[test]
    fn forwarded_is_parsed_by_rfc_7239() {
        assert_eq!(by_forwarded(&["for=203.0.113.7"]), "203.0.113.7");
        assert_eq!(by_forwarded(&["For=\"203.0.113.7:4711\";proto=https;by=10.0.0.1"]), "203.0.113.7");
        assert_eq!(
            by_forwarded(&["for=198.51.100.1, for=\"[2001:db8:cafe::17]:4711\", for=10.1.1.1"]),
            "2001:db8:cafe::17"
        );
        assert_eq!(by_forwarded(&["for=198.51.100.1", "by=\"a, for=1.2.3.4; b\";for=203.0.113.7"]), "203.0.113.7");
        for line in
            ["for=unknown", "for=_secret", "for=\"203.0.113.7", "for=1.1.1.1;for=2.2.2.2", "proto=https", "for="]
        {
            assert_eq!(by_forwarded(&["for=203.0.113.7", line]), PROXY, "{line}");
        }
    }

    #[test]
    fn an_unclosed_quote_does_not_hide_the_proxys_entry() {
        assert_eq!(by_forwarded(&["for=1.1.1.1;x=\", for=203.0.113.7"]), PROXY);
        assert_eq!(by_forwarded(&["for=1.1.1.1;x=\", for=\"203.0.113.7:80\""]), PROXY);
        assert_eq!(by_forwarded(&["for=1.1.1.1;x=\"\\\", for=203.0.113.7"]), "203.0.113.7");
    }

    #[test]
    fn the_header_that_is_not_configured_is_ignored() {
        let peer = PROXY.parse().expect("an address");
        let proxies = proxies(ForwardedHeader::Forwarded);
        assert_eq!(proxies.client(peer, &headers("x-forwarded-for", &["203.0.113.7"])).0, peer);
    }

    #[test]
    fn a_network_round_trips_through_its_text() {
        let written = |text: &str| text.parse::<Network>().map(|network| network.to_string());
        assert_eq!(written("10.1.2.3/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(written("127.0.0.1").as_deref(), Ok("127.0.0.1/32"));
        assert_eq!(written("::1").as_deref(), Ok("::1/128"));
        for wrong in ["", "10.0.0.0/33", "proxy.example", "10.0.0.1:80"] {
            assert!(written(wrong).is_err(), "{wrong}");
        }
    }
}

//! Address filter of webhooks: they may reach public addresses, and those in networks that the operator granted.
//!
//! The special ranges are those of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890) and of the
//! multicast registries, as of 2025. A block that a registry calls "globally reachable" is blocked all the same if no
//! receiver of webhooks lives in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Addresses that may be connected to for one message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reach {
    /// Networks that are allowed even if they are not public.
    networks: Vec<IpNet>,
    /// Set if public addresses are allowed. Without encryption they are not.
    public: bool,
}

impl Reach {
    pub(crate) fn new(networks: &[IpNet], public: bool) -> Self {
        Self { networks: networks.to_vec(), public }
    }

    pub(crate) fn is_public(&self) -> bool {
        self.public
    }

    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        // The system connects to the IPv4 address when it is given its mapped form.
        let address = address.to_canonical();
        (self.public && is_public(address)) || self.networks.iter().any(|network| network.contains(&address))
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // "this network", RFC 791: connects to this host
    v4(10, 0, 0, 0, 8),       // private use, RFC 1918
    v4(100, 64, 0, 0, 10),    // shared by carriers, RFC 6598
    v4(127, 0, 0, 0, 8),      // loopback, RFC 1122
    v4(168, 63, 129, 16, 32), // the one address of cloud metadata that lies in a public block (Azure)
    v4(169, 254, 0, 0, 16),   // link-local, RFC 3927, with the metadata address of most clouds
    v4(172, 16, 0, 0, 12),    // private use, RFC 1918
    v4(192, 0, 0, 0, 24),     // IETF protocol assignments, RFC 6890
    v4(192, 0, 2, 0, 24),     // documentation, RFC 5737
    v4(192, 88, 99, 0, 24),   // relays of 6to4, given up by RFC 7526
    v4(192, 168, 0, 0, 16),   // private use, RFC 1918
    v4(198, 18, 0, 0, 15),    // benchmarks, RFC 2544
    v4(198, 51, 100, 0, 24),  // documentation, RFC 5737
    v4(203, 0, 113, 0, 24),   // documentation, RFC 5737
    v4(224, 0, 0, 0, 4),      // multicast, RFC 5771
    v4(240, 0, 0, 0, 4),      // reserved, RFC 1112, and broadcast, RFC 919
];

/// The whole range of global unicast (RFC 4291). Loopback, unspecified, IPv4-compatible, unique-local, link-local,
/// discard-only, segment routing, local NAT64 and multicast addresses are outside of it.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

const SPECIAL_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 0, 23),     // IETF protocol assignments, RFC 2928: Teredo, ORCHID, benchmarks
    v6(0x2001, 0xdb8, 0, 32), // documentation, RFC 3849
    v6(0x2002, 0, 0, 16),     // 6to4, RFC 3056: wraps any IPv4 address
    v6(0x3fff, 0, 0, 20),     // documentation, RFC 9637
];

/// NAT64 prefix, RFC 6052: the last 32 bits are the IPv4 address that is reached.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|block| block.contains(&address)),
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|block| block.contains(&address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn public_addresses_require_encryption() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "3fff:1000::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(Reach::new(&[], true).allows(address(text)), "{text}");
            assert!(!Reach::new(&[], false).allows(address(text)), "{text}");
        }
    }

    #[test]
    fn special_addresses_are_refused_in_every_notation() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            let IpAddr::V4(v4) = address(text) else { panic!("{text}") };
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let forms = [
                IpAddr::V4(v4),
                v4.to_ipv6_mapped().into(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low).into(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into(),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low).into(),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into(),
            ];
            for form in forms {
                assert!(!Reach::new(&[], true).allows(form), "{form}");
            }
        }
        for text in [
            "::",
            "::1",
            "100::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "ff02::1",
            "2001::1",
            "2001:1::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:101:101::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!Reach::new(&[], true).allows(address(text)), "{text}");
        }
    }

    #[test]
    fn only_addresses_inside_a_granted_network_are_allowed() {
        let networks = ["10.1.0.0/16", "fd00:1::/32"].map(|text| text.parse().expect("a network"));
        let reach = Reach::new(&networks, false);
        for text in ["10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5"] {
            assert!(reach.allows(address(text)), "{text}");
        }
        for text in ["10.2.0.1", "::ffff:10.2.0.1", "::10.1.2.3", "64:ff9b::10.1.2.3", "fd00:2::5", "1.1.1.1"] {
            assert!(!reach.allows(address(text)), "{text}");
        }
    }
}

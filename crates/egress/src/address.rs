//! Check that all addresses of a name are public.

use super::{EgressError, HostName};
use anteroom_wire::Problem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IPv4 that is not public (IANA's special-purpose registry, RFC 6890), as network and prefix length.
const NON_PUBLIC_V4: [([u8; 4], u8); 16] = [
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // carrier-grade NAT
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, cloud metadata
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 31, 196, 0], 24), // AS112
    ([192, 52, 193, 0], 24), // AMT
    ([192, 88, 99, 0], 24),  // 6to4 relays
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 3),     // multicast, reserved, broadcast
];

/// IPv6 inside global unicast (2000::/3) that is not public, as network and prefix length. Everything outside 2000::/3 is
/// not public: unspecified, loopback, IPv4-mapped, NAT64, unique local, link-local, multicast.
const NON_PUBLIC_V6: [([u16; 8], u8); 4] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments: Teredo, ORCHID, benchmarks
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4: embeds any IPv4 address
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

/// Whether `address` is reachable from the whole Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !NON_PUBLIC_V4.iter().any(|&(network, prefix)| {
            let mask = u32::MAX << (32 - u32::from(prefix));
            u32::from(v4) & mask == u32::from(Ipv4Addr::from(network))
        }),
        IpAddr::V6(v6) => {
            let within = |network: [u16; 8], prefix: u8| {
                let mask = u128::MAX << (128 - u32::from(prefix));
                u128::from(v6) & mask == u128::from(Ipv6Addr::from(network))
            };
            within([0x2000, 0, 0, 0, 0, 0, 0, 0], 3)
                && !NON_PUBLIC_V6.iter().any(|&(network, prefix)| within(network, prefix))
        }
    }
}

/// The masked address for logs and messages: shows the network, not the host (`203.0.x.x`, `2001:db8::x`).
pub fn mask_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, _, _] = v4.octets();
            format!("{a}.{b}.x.x")
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            format!("{a:x}:{b:x}::x")
        }
    }
}

/// Returns the addresses to try: IPv6 and IPv4 alternate (RFC 8305 §4), at most `addresses_max`.
///
/// # Errors
/// [`Problem::EgressPrivate`] if any address is not public: the other answers of such a name server are not trusted either.
/// [`Problem::EgressUnreachable`] if there are no addresses.
pub(super) fn require_public(
    name: &HostName,
    addresses: Vec<SocketAddr>,
    addresses_max: usize,
) -> Result<Vec<SocketAddr>, EgressError> {
    if let Some(private) = addresses.iter().find(|address| !is_public(address.ip())) {
        return Err(EgressError::new(
            Problem::EgressPrivate,
            format!("{name} resolves to {}", mask_address(private.ip())),
        ));
    }
    if addresses.is_empty() {
        return Err(EgressError::new(Problem::EgressUnreachable, format!("resolve {name}: the name has no address")));
    }
    let (mut v6, mut v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    v6.dedup();
    v4.dedup();
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut alternating = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] || alternating.len() >= addresses_max.max(1) {
            break;
        }
        alternating.extend(pair.into_iter().flatten());
    }
    alternating.truncate(addresses_max.max(1));
    Ok(alternating)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 443)
    }

    #[test]
    fn special_purpose_addresses_are_not_public() {
        let non_public = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.88.99.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "fe80::1",
            "febf::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001::1",
            "2001:20::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "100::1",
            "5f00::1",
            "4000::1",
        ];
        for address in non_public {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450::1",
            "2001:200::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn name_with_one_private_address_is_denied() {
        let name = HostName::parse("mixed.example").unwrap();
        let error = require_public(&name, vec![at("1.1.1.1"), at("192.168.0.7")], 8).unwrap_err();
        assert_eq!(error.problem, Problem::EgressPrivate);
        assert_eq!(error.detail, "mixed.example resolves to 192.168.x.x");
    }

    #[test]
    fn addresses_are_tried_alternating_and_not_without_end() {
        let name = HostName::parse("many.example").unwrap();
        let all = vec![at("1.1.1.1"), at("1.1.1.2"), at("1.1.1.3"), at("2606:4700::1"), at("2606:4700::2")];
        assert_eq!(
            require_public(&name, all.clone(), 3).unwrap(),
            [at("2606:4700::1"), at("1.1.1.1"), at("2606:4700::2")]
        );
        assert_eq!(require_public(&name, all, 8).unwrap().len(), 5);
        assert_eq!(require_public(&name, vec![], 8).unwrap_err().problem, Problem::EgressUnreachable);
    }
}

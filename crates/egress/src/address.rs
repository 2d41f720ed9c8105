//! Check that all addresses of a name are public.

use super::{EgressError, HostName};
use anteroom_wire::Problem;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// IPv4 that is not public (IANA's special-purpose registry, RFC 6890): network, prefix length and use.
const NON_PUBLIC_V4: [([u8; 4], u8, &str); 16] = [
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "a private network"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local, cloud metadata"),
    ([172, 16, 0, 0], 12, "a private network"),
    ([192, 0, 0, 0], 24, "protocol assignments"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "AS112"),
    ([192, 52, 193, 0], 24, "AMT"),
    ([192, 88, 99, 0], 24, "6to4 relays"),
    ([192, 168, 0, 0], 16, "a private network"),
    ([198, 18, 0, 0], 15, "benchmarks, fake-IP DNS of Clash, mihomo and sing-box"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 3, "multicast, reserved, broadcast"),
];

/// IPv6 that is not public: network, prefix length and use. The last entries cover what is outside of 2000::/3.
const NON_PUBLIC_V6: [([u16; 8], u8, &str); 14] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol assignments: Teredo, ORCHID, benchmarks"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped"),
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "NAT64"),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "NAT64 of the local network"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local, fake-IP DNS"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
    ([0, 0, 0, 0, 0, 0, 0, 0], 3, "not assigned"),
    ([0x4000, 0, 0, 0, 0, 0, 0, 0], 2, "not assigned"),
    ([0x8000, 0, 0, 0, 0, 0, 0, 0], 1, "not assigned"),
];

/// What no setting can allow: the host itself, its link with the metadata of a cloud, and groups of hosts.
const NEVER: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
];

/// A range of addresses that are not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialRange {
    /// The range.
    pub network: IpNet,
    /// What it is used for: a clause.
    pub used_for: &'static str,
}

/// The range that makes this address not public; `None`: it is reachable from the whole Internet.
pub fn special_range(address: IpAddr) -> Option<SpecialRange> {
    let v4 = NON_PUBLIC_V4.iter().map(|&(network, prefix, used_for)| (IpAddr::from(network), prefix, used_for));
    let v6 = NON_PUBLIC_V6.iter().map(|&(network, prefix, used_for)| (IpAddr::from(network), prefix, used_for));
    v4.chain(v6).find_map(|(network, prefix, used_for)| {
        let network = IpNet::new(network, prefix).ok()?;
        network.contains(&address).then_some(SpecialRange { network, used_for })
    })
}

/// Whether `address` is reachable from the whole Internet.
pub fn is_public(address: IpAddr) -> bool {
    special_range(address).is_none()
}

/// Ranges that are not public and that the operator allows: fake-IP DNS, NAT64, a company's own network (split DNS).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedRanges(Vec<IpNet>);

impl AllowedRanges {
    /// Checks `ranges`.
    ///
    /// # Errors
    /// One sentence for each range that contains this host, its link or groups of hosts.
    pub fn new(ranges: &[IpNet]) -> Result<Self, Vec<String>> {
        let never = NEVER.iter().filter_map(|never| never.parse().ok());
        let never: Vec<IpNet> = never.collect();
        let overlaps = |range: &IpNet| {
            let found = never.iter().find(|never| never.contains(range) || range.contains(*never))?;
            Some(format!("{range} overlaps {found}, which is never allowed"))
        };
        let errors: Vec<String> = ranges.iter().filter_map(overlaps).collect();
        if errors.is_empty() { Ok(Self(ranges.to_vec())) } else { Err(errors) }
    }

    /// Whether a connection may go to `address`. An address of NAT64 leads to the IPv4 address in its last 32 bits, which is checked
    /// too.
    fn admits(&self, address: IpAddr) -> bool {
        match special_range(address) {
            None => true,
            Some(special) if self.0.iter().any(|allowed| allowed.contains(&address)) => match address {
                IpAddr::V6(v6) if special.used_for.starts_with("NAT64") => {
                    let [.., high, low] = v6.segments();
                    self.admits(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into())
                }
                IpAddr::V6(_) | IpAddr::V4(_) => true,
            },
            Some(_) => false,
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
/// [`Problem::EgressPrivate`] if any address is neither public nor allowed: the other answers of such a name server are not trusted
/// either. [`Problem::EgressUnreachable`] if there are no addresses.
pub(super) fn require_public(
    name: &HostName,
    addresses: Vec<SocketAddr>,
    addresses_max: usize,
    allowed: &AllowedRanges,
) -> Result<Vec<SocketAddr>, EgressError> {
    if let Some(refused) = addresses.iter().map(SocketAddr::ip).find(|&address| !allowed.admits(address)) {
        let detail = format!("{name} resolves to {}{}", mask_address(refused), why_refused(refused, allowed));
        return Err(EgressError { refused_answer: Some(refused), ..EgressError::new(Problem::EgressPrivate, detail) });
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

/// Why the answer is refused, and the setting that allows it: a clause after the address.
fn why_refused(address: IpAddr, allowed: &AllowedRanges) -> String {
    let Some(SpecialRange { network, used_for }) = special_range(address) else { return String::new() };
    if allowed.0.iter().any(|range| range.contains(&address)) {
        return format!(", which is in {network} ({used_for}) and leads to an IPv4 address that is not public");
    }
    let setting = match AllowedRanges::new(&[network]) {
        Ok(_) => format!("egress.allowed_special_ranges = [\"{network}\"] allows it"),
        Err(_) => "no setting allows it".to_owned(),
    };
    format!(", which is in {network} ({used_for}); {setting}")
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
        let error = require_public(&name, vec![at("1.1.1.1"), at("192.168.0.7")], 8, &none()).unwrap_err();
        assert_eq!(error.problem, Problem::EgressPrivate);
        assert_eq!(error.refused_answer, Some("192.168.0.7".parse().unwrap()));
        assert_eq!(
            error.detail,
            "mixed.example resolves to 192.168.x.x, which is in 192.168.0.0/16 (a private network); \
             egress.allowed_special_ranges = [\"192.168.0.0/16\"] allows it"
        );
    }

    #[test]
    fn r01_refused_answer_is_named_with_its_range_and_the_setting_that_allows_it() {
        let name = HostName::parse("chatgpt.com").unwrap();
        let error = require_public(&name, vec![at("198.18.0.22")], 8, &none()).unwrap_err();
        let expected = "chatgpt.com resolves to 198.18.x.x, which is in 198.18.0.0/15 (benchmarks, fake-IP DNS of Clash, mihomo and \
                        sing-box); egress.allowed_special_ranges = [\"198.18.0.0/15\"] allows it";
        assert_eq!(error.detail, expected);
        let error = require_public(&name, vec![at("169.254.169.254")], 8, &none()).unwrap_err();
        assert!(error.detail.ends_with("no setting allows it"), "{}", error.detail);
    }

    #[test]
    fn r01_allowed_ranges_admit_fake_ip_nat64_and_split_dns_and_nothing_else() {
        let ranges = ["198.18.0.0/15", "10.20.0.0/16", "64:ff9b::/96", "fc00::/18"].map(|range| range.parse().unwrap());
        let allowed = AllowedRanges::new(&ranges).unwrap();
        let name = HostName::parse("a.example").unwrap();
        for address in ["198.18.0.22", "198.19.255.254", "10.20.3.4", "64:ff9b::808:808", "fc00::5", "1.1.1.1"] {
            assert_eq!(require_public(&name, vec![at(address)], 8, &allowed).unwrap(), [at(address)], "{address}");
        }
        for address in ["10.21.0.1", "64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b:1::808:808", "fd00::5", "127.0.0.1"]
        {
            let error = require_public(&name, vec![at("198.18.0.1"), at(address)], 8, &allowed).unwrap_err();
            assert_eq!(error.problem, Problem::EgressPrivate, "{address}");
        }
    }

    #[test]
    fn r01_this_host_and_its_link_cannot_be_allowed() {
        for range in ["0.0.0.0/0", "127.0.0.0/8", "127.0.0.1/32", "169.254.169.254/32", "::/0", "::1/128", "fe80::/64"]
        {
            let errors = AllowedRanges::new(&[range.parse().unwrap()]).unwrap_err();
            assert!(errors[0].contains("never allowed"), "{range}: {errors:?}");
        }
    }

    fn none() -> AllowedRanges {
        AllowedRanges::default()
    }

    #[test]
    fn addresses_are_tried_alternating_and_not_without_end() {
        let name = HostName::parse("many.example").unwrap();
        let all = vec![at("1.1.1.1"), at("1.1.1.2"), at("1.1.1.3"), at("2606:4700::1"), at("2606:4700::2")];
        assert_eq!(
            require_public(&name, all.clone(), 3, &none()).unwrap(),
            [at("2606:4700::1"), at("1.1.1.1"), at("2606:4700::2")]
        );
        assert_eq!(require_public(&name, all, 8, &none()).unwrap().len(), 5);
        assert_eq!(require_public(&name, vec![], 8, &none()).unwrap_err().problem, Problem::EgressUnreachable);
    }
}

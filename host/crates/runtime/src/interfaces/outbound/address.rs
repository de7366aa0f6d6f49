//! Classification of addresses that do not belong to the public internet. A granted name may resolve only to public
//! addresses, unless its grant has `private = true`. This module does not depend on grants or names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonPublicKind {
    /// This machine: 127.0.0.0/8, ::1.
    Loopback,
    /// A private network: 10.0.0.0/8 and similar, 100.64.0.0/10 (carrier networks), fc00::/7, fec0::/10.
    Private,
    /// A single link: 169.254.0.0/16 (where clouds serve metadata), fe80::/10.
    LinkLocal,
    /// A cloud's internal address for its virtual machines, within a public range.
    Metadata,
    /// Many machines: multicast and broadcast.
    Multicast,
    /// No machine: 0.0.0.0/8, ::.
    Unspecified,
    /// An IPv6 address that represents an IPv4 address.
    Embedded,
    /// Documentation and benchmark networks, and addresses that are not allocated.
    Reserved,
}

impl fmt::Display for NonPublicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Embedded => "embedded IPv4",
            Self::Reserved => "reserved",
        })
    }
}

/// IPv4 networks that are not public, from the IANA registry of special-purpose addresses.
const IPV4: [(Ipv4Addr, u32, NonPublicKind); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, NonPublicKind::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, NonPublicKind::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, NonPublicKind::Private),
    (Ipv4Addr::new(127, 0, 0, 0), 8, NonPublicKind::Loopback),
    // Azure's virtual machines reach their host here.
    (Ipv4Addr::new(168, 63, 129, 16), 32, NonPublicKind::Metadata),
    (Ipv4Addr::new(169, 254, 0, 0), 16, NonPublicKind::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, NonPublicKind::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, NonPublicKind::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, NonPublicKind::Reserved),
    (Ipv4Addr::new(192, 88, 99, 0), 24, NonPublicKind::Reserved),
    (Ipv4Addr::new(192, 168, 0, 0), 16, NonPublicKind::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, NonPublicKind::Reserved),
    (Ipv4Addr::new(198, 51, 100, 0), 24, NonPublicKind::Reserved),
    (Ipv4Addr::new(203, 0, 113, 0), 24, NonPublicKind::Reserved),
    (Ipv4Addr::new(224, 0, 0, 0), 4, NonPublicKind::Multicast),
    (Ipv4Addr::BROADCAST, 32, NonPublicKind::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, NonPublicKind::Reserved),
];

/// IPv6 networks that are not public. An address in none of them is public only within 2000::/3.
const IPV6: [(Ipv6Addr, u32, NonPublicKind); 14] = [
    (Ipv6Addr::UNSPECIFIED, 128, NonPublicKind::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, NonPublicKind::Loopback),
    (Ipv6Addr::UNSPECIFIED, 96, NonPublicKind::Embedded),
    // IPv4-mapped, and IPv4-translated (RFC 2765).
    (
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        96,
        NonPublicKind::Embedded,
    ),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0),
        96,
        NonPublicKind::Embedded,
    ),
    // NAT64 with a prefix chosen by the network, where the position of the IPv4 address is unknown.
    (
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0),
        48,
        NonPublicKind::Embedded,
    ),
    // IETF protocols, including Teredo.
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        23,
        NonPublicKind::Reserved,
    ),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        NonPublicKind::Reserved,
    ),
    // 6to4.
    (
        Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0),
        16,
        NonPublicKind::Embedded,
    ),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        NonPublicKind::Reserved,
    ),
    (
        Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0),
        7,
        NonPublicKind::Private,
    ),
    (
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
        NonPublicKind::LinkLocal,
    ),
    (
        Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0),
        10,
        NonPublicKind::Private,
    ),
    (
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
        NonPublicKind::Multicast,
    ),
];

/// NAT64's well-known prefix, 64:ff9b::/96. The network translates the IPv4 address in the last 32 bits.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// The only part of IPv6 that is allocated for the public internet.
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Returns why an address is not public, or `None` if it is.
pub(crate) fn not_public(address: IpAddr) -> Option<NonPublicKind> {
    match address {
        IpAddr::V4(address) => not_public_v4(address),
        IpAddr::V6(address) => not_public_v6(address),
    }
}

fn not_public_v4(address: Ipv4Addr) -> Option<NonPublicKind> {
    let is_in = |(network, bits, _): &&(Ipv4Addr, u32, NonPublicKind)| {
        (address.to_bits() ^ network.to_bits()).leading_zeros() >= *bits
    };
    IPV4.iter().find(is_in).map(|(_, _, kind)| *kind)
}

fn not_public_v6(address: Ipv6Addr) -> Option<NonPublicKind> {
    let is_in =
        |network: Ipv6Addr, bits| (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits;
    if is_in(NAT64.0, NAT64.1) {
        // A network without IPv4 reaches all IPv4 addresses through this prefix, so the embedded address decides.
        let [.., a, b, c, d] = address.octets();
        return not_public_v4(Ipv4Addr::new(a, b, c, d)).map(|_| NonPublicKind::Embedded);
    }
    let found = IPV6
        .iter()
        .find(|(network, bits, _)| is_in(*network, *bits));
    match found {
        Some((_, _, kind)) => Some(*kind),
        None if is_in(GLOBAL_UNICAST.0, GLOBAL_UNICAST.1) => None,
        None => Some(NonPublicKind::Reserved),
    }
}

#[cfg(test)]
mod tests {
    use super::NonPublicKind::*;
    use super::*;

    #[test]
    fn each_non_public_address_is_classified_by_kind() {
        let cases = [
            ("0.0.0.0", Unspecified),
            ("0.255.255.255", Unspecified),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("100.64.0.0", Private),
            ("100.127.255.255", Private),
            ("100.100.100.200", Private),
            ("127.0.0.1", Loopback),
            ("127.255.255.255", Loopback),
            ("168.63.129.16", Metadata),
            ("169.254.0.0", LinkLocal),
            ("169.254.169.254", LinkLocal),
            ("169.254.255.255", LinkLocal),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("192.0.0.192", Reserved),
            ("192.0.2.1", Reserved),
            ("192.88.99.1", Reserved),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("198.18.0.0", Reserved),
            ("198.19.255.255", Reserved),
            ("198.51.100.7", Reserved),
            ("203.0.113.7", Reserved),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.254", Reserved),
            ("255.255.255.255", Multicast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("::2", Embedded),
            ("::127.0.0.1", Embedded),
            ("::8.8.8.8", Embedded),
            ("::ffff:127.0.0.1", Embedded),
            ("::ffff:10.0.0.1", Embedded),
            ("::ffff:8.8.8.8", Embedded),
            ("::ffff:0:127.0.0.1", Embedded),
            ("64:ff9b::127.0.0.1", Embedded),
            ("64:ff9b::169.254.169.254", Embedded),
            ("64:ff9b::10.0.0.1", Embedded),
            ("64:ff9b:1::8.8.8.8", Embedded),
            ("64:ff9b:1:ffff::", Embedded),
            ("64:ff9b:2::", Reserved),
            ("100::1", Reserved),
            ("2001::1", Reserved),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Reserved),
            ("2001:1ff:ffff::", Reserved),
            ("2001:db8::1", Reserved),
            ("2002:7f00:1::", Embedded),
            ("2002:a9fe:a9fe::", Embedded),
            ("3fff::1", Reserved),
            ("4000::1", Reserved),
            ("5f00::1", Reserved),
            ("fc00::1", Private),
            ("fd00:ec2::254", Private),
            ("fdff:ffff::1", Private),
            ("fe00::1", Reserved),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("fec0::1", Private),
            ("feff::1", Private),
            ("ff02::1", Multicast),
        ];
        for (address, kind) in cases {
            assert_eq!(
                not_public(address.parse().unwrap()),
                Some(kind),
                "{address}"
            );
        }
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
        ];
        for address in public {
            assert_eq!(not_public(address.parse().unwrap()), None, "{address}");
        }
    }

    /// An address that the standard library considers private is never public, in any form.
    #[test]
    fn no_private_address_counts_as_public_in_any_form() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let v4 = Ipv4Addr::from_bits(random.u32(..));
            let is_inner = v4.is_private() || v4.is_loopback() || v4.is_link_local();
            if is_inner || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() {
                assert!(not_public(v4.into()).is_some(), "{v4}");
                let nat64 = Ipv6Addr::from_bits(NAT64.0.to_bits() | u128::from(v4.to_bits()));
                assert!(not_public(nat64.into()).is_some(), "{nat64}");
            }
            assert!(not_public(v4.to_ipv6_mapped().into()).is_some(), "{v4}");
            assert!(not_public(v4.to_ipv6_compatible().into()).is_some(), "{v4}");
            let v6 = Ipv6Addr::from_bits(random.u128(..));
            let is_inner = v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast();
            assert!(!is_inner || not_public(v6.into()).is_some(), "{v6}");
        }
    }
}

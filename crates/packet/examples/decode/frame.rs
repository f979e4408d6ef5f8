//! One line for one frame.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use flannel_packet::ipv4::Ipv4;
use flannel_packet::ipv6::Ipv6;
use flannel_packet::udp::Udp;
use flannel_packet::{Malformed, protocol, wire};

use super::capture::Frame;

/// The frame of link type `link` as text: its packet as tcpdump prints it, the name of what is not IP,
/// and how much is missing where the capture cut it.
pub(crate) fn describe(link: u32, frame: Frame<'_>) -> String {
    let is_cut = frame.bytes.len() < frame.wire_len;
    let mut line = by_link(link, frame.bytes, is_cut);
    if is_cut {
        // Writing to a String cannot fail.
        let _ = write!(line, " (cut to {} of {} bytes)", frame.bytes.len(), frame.wire_len);
    }
    line
}

/// The link types of <https://www.tcpdump.org/linktypes.html> that are read.
fn by_link(link: u32, bytes: &[u8], is_cut: bool) -> String {
    match link {
        linktype::NULL | linktype::LOOP => match bytes.split_first_chunk::<4>() {
            Some((&family, packet)) => by_family(link, family, packet, is_cut),
            None => "[|null]".to_owned(),
        },
        linktype::ETHERNET => match bytes.get(12..) {
            Some(rest) => by_ethertype(rest, is_cut),
            None => "[|ether]".to_owned(),
        },
        linktype::RAW_BSD | linktype::RAW_OPENBSD | linktype::RAW => by_version(bytes, is_cut),
        linktype::IPV4 => ipv4(bytes, is_cut),
        linktype::IPV6 => ipv6(bytes, is_cut),
        linktype::LINUX_SLL => match (bytes.get(2..4), bytes.get(14..)) {
            (Some(hardware), Some(rest)) => cooked(hardware, rest, is_cut),
            _ => "[|sll]".to_owned(),
        },
        linktype::LINUX_SLL2 => match (bytes.get(8..10), bytes.get(..2), bytes.get(20..)) {
            (Some(hardware), Some(protocol), Some(rest)) => {
                cooked(hardware, &[protocol, rest].concat(), is_cut)
            }
            _ => "[|sll2]".to_owned(),
        },
        other => format!("link type {other}, length {}", bytes.len()),
    }
}

/// What follows a protocol of Linux's cooked headers, where `hardware` is the device's ARPHRD.
fn cooked(hardware: &[u8], rest: &[u8], is_cut: bool) -> String {
    match u16::from_be_bytes([hardware[0], hardware[1]]) {
        ARPHRD_NETLINK => format!("netlink, length {}", rest.len().saturating_sub(2)),
        _ => match rest.split_first_chunk() {
            // The kernel's own numbers, below all of Ethernet's: `ETH_P_802_3`, `ETH_P_802_2`.
            Some(([0, 1], rest)) => format!("802.3, length {}", rest.len()),
            Some(([0, 4], rest)) => logical_link(rest),
            _ => by_ethertype(rest, is_cut),
        },
    }
}

/// What begins with an Ethernet type, which a VLAN tag may be.
fn by_ethertype(mut bytes: &[u8], is_cut: bool) -> String {
    let mut tags = String::new();
    loop {
        let Some((kind, rest)) = bytes.split_first_chunk() else { return tags + "[|ether]" };
        let kind = u16::from_be_bytes(*kind);
        match kind {
            VLAN | VLAN_SERVICE | VLAN_OLD => {
                let Some((tag, after)) = rest.split_first_chunk() else { return tags + "[|vlan]" };
                let _ = write!(tags, "vlan {}, ", u16::from_be_bytes(*tag) & 0x0fff);
                bytes = after;
            }
            0..=LONGEST_802_3 => return tags + &logical_link(rest),
            0x0800 => return tags + &ipv4(rest, is_cut),
            0x86dd => return tags + &ipv6(rest, is_cut),
            0x0806 => return tags + &arp(rest),
            _ => {
                let name = match kind {
                    0x0842 => "Wake-on-LAN",
                    0x6558 => "TEB",
                    0x8035 => "RARP",
                    0x8809 => "slow protocol (LACP)",
                    0x8847 | 0x8848 => "MPLS",
                    0x8863 => "PPPoE discovery",
                    0x8864 => "PPPoE",
                    0x888e => "EAPOL",
                    0x88a2 => "ATA over Ethernet",
                    0x88cc => "LLDP",
                    0x88e5 => "MACsec",
                    0x88f7 => "PTP",
                    0x8902 => "CFM",
                    0x8906 => "FCoE",
                    0x9000 => "loopback test",
                    _ => return format!("{tags}ethertype 0x{kind:04x}, length {}", rest.len()),
                };
                return format!("{tags}{name}, length {}", rest.len());
            }
        }
    }
}

/// What follows the length of an IEEE 802.3 frame.
fn logical_link(bytes: &[u8]) -> String {
    let name = match bytes {
        [0x42, 0x42, ..] => "STP",
        [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00, ..] => "CDP",
        [0xaa, 0xaa, 0x03, ..] => "SNAP",
        [0xfe, 0xfe, ..] => "IS-IS",
        _ => "LLC",
    };
    format!("{name}, length {}", bytes.len())
}

/// ARP for IPv4 over Ethernet (RFC 826); of others, the length.
fn arp(bytes: &[u8]) -> String {
    let len = bytes.len();
    let address = |at: usize| {
        bytes.get(at..).and_then(|bytes| bytes.first_chunk::<4>()).map(|&ip| Ipv4Addr::from(ip))
    };
    let addresses = address(14).zip(address(24));
    match (bytes.get(..8), addresses) {
        (Some([0, 1, 8, 0, 6, 4, 0, 1]), Some((sender, target))) => {
            format!("ARP, Request who-has {target} tell {sender}, length {len}")
        }
        (Some([0, 1, 8, 0, 6, 4, 0, 2]), Some((sender, _))) => {
            let mac: Vec<_> = bytes[8..14].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("ARP, Reply {sender} is-at {}, length {len}", mac.join(":"))
        }
        _ => format!("ARP, length {len}"),
    }
}

/// What follows an address family: of the capturing machine's byte order for [`linktype::NULL`], of the
/// network's for [`linktype::LOOP`]. The families of IPv6 are those of Linux, the BSDs and macOS.
fn by_family(link: u32, family: [u8; 4], packet: &[u8], is_cut: bool) -> String {
    let family = match u32::from_be_bytes(family) {
        family if link == linktype::LOOP || family < 0x1_0000 => family,
        family => family.swap_bytes(),
    };
    match family {
        2 => ipv4(packet, is_cut),
        10 | 24 | 28 | 30 => ipv6(packet, is_cut),
        family => format!("address family {family}, length {}", packet.len()),
    }
}

fn by_version(packet: &[u8], is_cut: bool) -> String {
    match packet.first().map(|first| first >> 4) {
        Some(4) => ipv4(packet, is_cut),
        Some(6) => ipv6(packet, is_cut),
        _ => format!("not IP, length {}", packet.len()),
    }
}

fn ipv4(bytes: &[u8], is_cut: bool) -> String {
    match parse_ipv4(bytes, is_cut) {
        Ok(ip) => {
            let mut line = ip.to_string();
            if let Some(inner) = inner(&ip, is_cut) {
                let _ = write!(line, " | {inner}");
            }
            line
        }
        Err(Malformed::TooShort) if is_cut => "[|ip]".to_owned(),
        Err(error) => format!("malformed IP: {error}"),
    }
}

fn ipv6(bytes: &[u8], is_cut: bool) -> String {
    let parse = if is_cut { Ipv6::parse_truncated } else { Ipv6::parse };
    match parse(bytes) {
        Ok(ip) => ip.to_string(),
        Err(Malformed::TooShort) if is_cut => "[|ip6]".to_owned(),
        Err(error) => format!("malformed IP6: {error}"),
    }
}

fn parse_ipv4(bytes: &[u8], is_cut: bool) -> Result<Ipv4<&[u8]>, Malformed> {
    if is_cut { Ipv4::parse_truncated(bytes) } else { Ipv4::parse(bytes) }
}

/// What a datagram of flannel's udp backend carries.
fn inner(outer: &Ipv4<&[u8]>, is_cut: bool) -> Option<String> {
    if outer.protocol() != protocol::UDP || outer.is_fragment() {
        return None;
    }
    let udp = Udp::parse_truncated(outer.payload()).ok()?;
    (udp.destination_port() == wire::DEFAULT_PORT).then(|| {
        match parse_ipv4(udp.payload(), is_cut) {
            Ok(inner) => inner.to_string(),
            Err(Malformed::TooShort) if is_cut => "[|ip]".to_owned(),
            Err(error) => format!("no inner packet: {error}"),
        }
    })
}

/// Numbers of <https://www.tcpdump.org/linktypes.html>.
pub(crate) mod linktype {
    pub(crate) const NULL: u32 = 0;
    pub(crate) const ETHERNET: u32 = 1;
    pub(crate) const RAW_BSD: u32 = 12;
    pub(crate) const RAW_OPENBSD: u32 = 14;
    pub(crate) const RAW: u32 = 101;
    pub(crate) const LOOP: u32 = 108;
    pub(crate) const LINUX_SLL: u32 = 113;
    pub(crate) const IPV4: u32 = 228;
    pub(crate) const IPV6: u32 = 229;
    pub(crate) const LINUX_SLL2: u32 = 276;
}

/// IEEE 802.1Q.
const VLAN: u16 = 0x8100;
/// IEEE 802.1ad, the outer tag of two.
const VLAN_SERVICE: u16 = 0x88a8;
/// The outer tag of two before 802.1ad.
const VLAN_OLD: u16 = 0x9100;
/// Greatest length of an IEEE 802.3 frame, where Ethernet has a type.
const LONGEST_802_3: u16 = 1_500;
/// `linux/if_arp.h`.
const ARPHRD_NETLINK: u16 = 824;

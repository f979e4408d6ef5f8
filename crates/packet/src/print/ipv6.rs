//! IPv6 and its extension headers.

use core::fmt::{self, Display, Formatter};
use core::net::Ipv6Addr;

use super::super::bytes::{array_at, between, from, u8_at, u16_at, u32_at};
use super::super::ipv6::{Ipv6, extension_len};
use super::super::protocol;
use super::Upper;

impl<T: AsRef<[u8]>> Display for Ipv6<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let addresses = [self.source(), self.destination()];
        let is_plain = self.header_len() == Self::HEADER_LEN;
        if !is_plain {
            let [source, destination] = addresses;
            write!(f, "IP6 {source} > {destination}: ")?;
            if fmt_extensions(self, f)? == Then::Nothing {
                return Ok(());
            }
        }
        Upper {
            version: "IP6",
            addresses: is_plain.then_some(addresses),
            ports: self.ports(),
            protocol: self.protocol(),
            payload: self.payload(),
            payload_len: self.upper_len(),
            is_whole: !self.is_truncated() && !self.more_fragments(),
        }
        .fmt(f)
    }
}

/// What tcpdump prints behind an extension header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    TheNext,
    Nothing,
}

/// The extension headers, one after the other, as far as they are there.
fn fmt_extensions<T: AsRef<[u8]>>(
    packet: &Ipv6<T>,
    f: &mut Formatter<'_>,
) -> Result<Then, fmt::Error> {
    let (mut kind, mut at) = (packet.next_header(), Ipv6::<T>::HEADER_LEN);
    while at < packet.header_len() {
        let Some(len) = extension_len(kind, packet.as_bytes(), at) else { break };
        let header = between(packet.as_bytes(), at, at + len);
        at += len;
        let then = match kind {
            protocol::HOP_BY_HOP => f.write_str("HBH ").map(|()| Then::TheNext),
            protocol::DESTINATION_OPTIONS => f.write_str("DSTOPT ").map(|()| Then::TheNext),
            protocol::ROUTING => fmt_routing(header, f),
            protocol::AUTHENTICATION => fmt_authentication(header, f),
            protocol::FRAGMENT => fmt_fragment(header, packet.total_len().saturating_sub(at), f),
            _ => fmt_mobility(header, f),
        }?;
        if then == Then::Nothing {
            return Ok(then);
        }
        kind = u8_at(header, 0);
    }
    Ok(Then::TheNext)
}

/// `len` is the length of what follows the header.
fn fmt_fragment(header: &[u8], len: usize, f: &mut Formatter<'_>) -> Result<Then, fmt::Error> {
    let offset = u16_at(header, 2) & 0xfff8;
    write!(f, "frag ({offset}|{len})")?;
    if offset != 0 {
        return Ok(Then::Nothing);
    }
    f.write_str(" ")?;
    Ok(if len == 0 { Then::Nothing } else { Then::TheNext })
}

fn fmt_authentication(header: &[u8], f: &mut Formatter<'_>) -> Result<Then, fmt::Error> {
    write!(f, "AH(spi={:#010x},seq={:#x},icv=0x", u32_at(header, 4), u32_at(header, 8))?;
    for byte in from(header, 12) {
        write!(f, "{byte:02x}")?;
    }
    f.write_str("): ")?;
    Ok(Then::TheNext)
}

/// Types 0 and 2 (RFC 8200's predecessor, RFC 6275) and segment routing's 4 (RFC 8754).
fn fmt_routing(header: &[u8], f: &mut Formatter<'_>) -> Result<Then, fmt::Error> {
    let (len, kind, left) = (u8_at(header, 1), u8_at(header, 2), u8_at(header, 3));
    let deprecated = if kind == 0 { " [Deprecated]" } else { "" };
    write!(f, "RT6 (len={len}, type={kind}{deprecated}, segleft={left}")?;
    match (kind, u32_at(header, 4)) {
        (0 | 2, 0) => {}
        (0 | 2, reserved) => write!(f, ", rsv={reserved:#x}")?,
        (4, _) => {
            write!(f, ", last-entry={}", u8_at(header, 4))?;
            if u8_at(header, 5) != 0 {
                write!(f, ", flags={:#x}", u8_at(header, 5))?;
            }
            write!(f, ", tag={:x}", u16_at(header, 6))?;
        }
        _ => {
            f.write_str(" (unknown type) (invalid)")?;
            return Ok(Then::Nothing);
        }
    }
    if len % 2 == 1 {
        write!(f, " (invalid length {len}) (invalid)")?;
        return Ok(Then::Nothing);
    }
    for (index, address) in from(header, 8).chunks_exact(16).enumerate() {
        write!(f, ", [{index}]{}", Ipv6Addr::from(array_at::<16>(address, 0)))?;
    }
    f.write_str(") ")?;
    Ok(Then::TheNext)
}

/// A message of Mobile IPv6 (RFC 6275 §6.1), which is the end of what is printed.
fn fmt_mobility(header: &[u8], f: &mut Formatter<'_>) -> Result<Then, fmt::Error> {
    // With the shortest length that each may have.
    const KINDS: [(&str, usize); 8] = [
        ("BRR", 8),
        ("HoTI", 16),
        ("CoTI", 16),
        ("HoT", 24),
        ("CoT", 24),
        ("BU", 12),
        ("BA", 12),
        ("BE", 24),
    ];
    let (kind, len) = (u8_at(header, 2), header.len());
    let Some(&(name, shortest)) = KINDS.get(usize::from(kind)) else {
        write!(f, "mobility: type-#{kind} len={}", u8_at(header, 1))?;
        return Ok(Then::Nothing);
    };
    if len < shortest {
        write!(f, "(header length {len} is too small for type {kind}) [|mobility]")?;
        return Ok(Then::Nothing);
    }
    write!(f, "mobility: {name}")?;
    // In units of four seconds.
    let lifetime = u32::from(u16_at(header, 10)) * 4;
    match kind {
        3 | 4 => write!(f, " nonce id={:#x}", u16_at(header, 6))?,
        5 => {
            write!(f, " seq#={}", u16_at(header, 6))?;
            let flags = u8_at(header, 8);
            let letters = [(0x80, "A"), (0x40, "H"), (0x20, "L"), (0x10, "K")];
            f.write_str(if flags & 0xf0 == 0 { "" } else { " " })?;
            for (_, letter) in letters.into_iter().filter(|(bit, _)| flags & bit != 0) {
                f.write_str(letter)?;
            }
            write!(f, " lifetime={lifetime}")?;
        }
        6 => {
            let key = if u8_at(header, 7) & 0x80 == 0 { "" } else { " K" };
            let (status, sequence) = (u8_at(header, 6), u16_at(header, 8));
            write!(f, " status={status}{key} seq#={sequence} lifetime={lifetime}")?;
        }
        7 => {
            let home = Ipv6Addr::from(array_at::<16>(header, 8));
            write!(f, " status={} homeaddr {home}", u8_at(header, 6))?;
        }
        _ => {}
    }
    Ok(Then::Nothing)
}

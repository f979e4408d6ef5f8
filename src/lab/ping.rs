//! A ping that needs no package and reports the TTL of the reply.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::LabError;
use super::host::Container;
use crate::packet::icmpv4::{self, Icmpv4, kind};
use crate::packet::ipv4::Ipv4;
use crate::sys::netns::Netns;

/// The reply to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// The TTL in the reply's IP header.
    pub ttl: u8,
    /// Time from sending to receiving.
    pub round_trip: Duration,
}

/// Pings `to` from `netns`, with a new request every `timeout / 5`, until `timeout` has passed.
pub fn ping(netns: &Netns, to: Ipv4Addr, timeout: Duration) -> io::Result<Pong> {
    netns.enter(|| ping_here(to, timeout))?
}

/// Pings from one container to another.
pub fn between(from: &Container, to: &Container, timeout: Duration) -> Result<Pong, LabError> {
    ping(from.netns(), to.address(), timeout).map_err(|e| {
        LabError::Unusable(format!(
            "no ping from {} ({}) to {}: {e}",
            from.netns_name(),
            from.address(),
            to.address()
        ))
    })
}

fn ping_here(to: Ipv4Addr, timeout: Duration) -> io::Result<Pong> {
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let again = (timeout / TRIES).max(Duration::from_millis(1));
    let identifier = std::process::id() as u16;
    let end = Instant::now() + timeout;
    let mut sequence = 0u16;
    let mut last = None;
    while Instant::now() < end {
        sequence = sequence.wrapping_add(1);
        let request = echo_request(identifier, sequence);
        let sent = Instant::now();
        if let Err(e) = socket.send_to(&request, &SocketAddrV4::new(to, 0).into()) {
            last = Some(e);
            std::thread::sleep(again.min(Duration::from_millis(50)));
            continue;
        }
        loop {
            let left = again.saturating_sub(sent.elapsed());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            let mut packet = [0; 1500];
            let len = match socket.read(&mut packet) {
                Ok(len) => len,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(e) => return Err(e),
            };
            if let Some(ttl) = is_answer(&packet[..len], to, &request) {
                return Ok(Pong { ttl, round_trip: sent.elapsed() });
            }
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(ErrorKind::TimedOut, "no answer")))
}

fn echo_request(identifier: u16, sequence: u16) -> [u8; 64] {
    let mut message = [0x5a; 64];
    let (header, payload) = message.split_at_mut(icmpv4::Header::LEN);
    let request = icmpv4::Header::echo_request(identifier, sequence).with_checksum(payload);
    header.copy_from_slice(&request.to_bytes());
    message
}

/// The TTL, if `packet` is the echo reply to `request` from `from`.
fn is_answer(packet: &[u8], from: Ipv4Addr, request: &[u8; 64]) -> Option<u8> {
    let packet = Ipv4::parse(packet).ok()?;
    let (reply, request) = (Icmpv4::parse(packet.payload()).ok()?, Icmpv4::parse(request).ok()?);
    let answers = reply.kind() == kind::ECHO_REPLY
        && reply.echo() == request.echo()
        && reply.payload() == request.payload()
        && packet.source() == from;
    answers.then_some(packet.ttl())
}

const TRIES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{ipv4, protocol};

    #[test]
    fn an_answer_is_told_from_another() {
        let request = echo_request(0x102, 3);
        let (peer, us) = (Ipv4Addr::new(10, 0, 1, 2), Ipv4Addr::new(10, 0, 2, 2));
        let ip = ipv4::Header { ttl: 61, ..ipv4::Header::new(protocol::ICMP, peer, us, 64) };
        let mut packet = [&ip.to_bytes()[..], &request].concat();
        assert_eq!(is_answer(&packet, peer, &request), None, "a request is no answer");
        packet[20] = 0;
        assert_eq!(is_answer(&packet, peer, &request), Some(61));
        assert_eq!(is_answer(&packet, peer, &echo_request(0x102, 4)), None);
        assert_eq!(is_answer(&[], peer, &request), None);
    }
}

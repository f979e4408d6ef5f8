//! A ping of our own: needs no package, and tells the TTL the answer arrived with.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::LabError;
use super::host::Container;
use crate::sys::netns::Netns;

/// An answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// The TTL in the answer's IP header.
    pub ttl: u8,
    /// Time from sending to receiving.
    pub round_trip: Duration,
}

/// Pings `to` from inside `netns`, asking again every `timeout / 5` until `timeout` is over.
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
    let identifier = (std::process::id() as u16).to_be_bytes();
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

fn echo_request(identifier: [u8; 2], sequence: u16) -> [u8; 64] {
    let mut message = [0x5a; 64];
    message[..4].copy_from_slice(&[8, 0, 0, 0]);
    message[4..6].copy_from_slice(&identifier);
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = message
        .chunks_exact(2)
        .fold(0u32, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    message[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    message
}

/// The TTL, if `packet` is the echo reply to `request` from `from`.
fn is_answer(packet: &[u8], from: Ipv4Addr, request: &[u8; 64]) -> Option<u8> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let message = packet.get(header..)?;
    let answers = message.len() == request.len()
        && message[0] == 0
        && message[4..] == request[4..]
        && packet.get(12..16)? == from.octets();
    answers.then_some(packet[8])
}

const TRIES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_another() {
        let request = echo_request([1, 2], 3);
        let peer = Ipv4Addr::new(10, 0, 1, 2);
        let mut packet = vec![0x45, 0, 0, 84, 0, 0, 0, 0, 61, 1, 0, 0];
        packet.extend(peer.octets());
        packet.extend([10, 0, 2, 2]);
        packet.extend(request);
        assert_eq!(is_answer(&packet, peer, &request), None, "a request is no answer");
        packet[20] = 0;
        assert_eq!(is_answer(&packet, peer, &request), Some(61));
        assert_eq!(is_answer(&packet, peer, &echo_request([1, 2], 4)), None);
        assert_eq!(is_answer(&[], peer, &request), None);
    }
}

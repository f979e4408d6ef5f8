//! The name servers of this host.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Files that name the servers that this host resolves names with (`resolv.conf(5)`): the C
/// library's, and the one with the servers behind systemd's local resolver.
pub const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The servers that the files name.
pub(super) fn configured() -> Vec<Ipv4Addr> {
    // A host without name servers has no such file.
    RESOLV_CONF
        .into_iter()
        .flat_map(|path| read(&std::fs::read_to_string(path).unwrap_or_default()))
        .collect()
}

fn read(text: &str) -> Vec<Ipv4Addr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse().ok()
    });
    servers.collect()
}

/// Which name servers answer outside of the overlay; clones share what is known.
#[derive(Clone, Debug, Default)]
pub(super) struct NameServers(Arc<Mutex<HashMap<Ipv4Addr, (Instant, bool)>>>);

impl NameServers {
    /// Whether `server` answers through `interface`. A server that does not is no server that the
    /// overlay's route could take away. The answer is remembered for a while.
    pub(super) async fn answers(&self, server: Ipv4Addr, interface: &str) -> bool {
        let known = self.known().get(&server).copied();
        if let Some((_, answer)) = known.filter(|(at, _)| at.elapsed() < REMEMBERED) {
            return answer;
        }
        // Where the kernel does not let us ask, the server is taken to be there.
        let answer = ask(server, interface).await.unwrap_or(true);
        self.known().insert(server, (Instant::now(), answer));
        answer
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Ipv4Addr, (Instant, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(server: Ipv4Addr, interface: &str) -> io::Result<bool> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Past the overlay's route, if that is in place.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket.into())?;
    if socket.connect(SocketAddrV4::new(server, DNS)).await.is_err() {
        return Ok(false);
    }
    for _ in 0..ATTEMPTS {
        let mut answer = [0; 512];
        let received = match socket.send(&QUERY).await {
            Ok(_) => timeout(ANSWER_TIMEOUT, socket.recv(&mut answer)).await,
            Err(error) => Ok(Err(error)),
        };
        match received {
            Ok(Ok(_)) => return Ok(true),
            // The host is there, whatever has become of its server.
            Ok(Err(error)) => return Ok(error.kind() == ErrorKind::ConnectionRefused),
            Err(_) => {}
        }
    }
    Ok(false)
}

/// The servers of the root zone: a question that every name server understands (RFC 1035, section
/// 4.1).
const QUERY: [u8; 17] = [0x66, 0x6c, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// The port of name servers (RFC 1035).
const DNS: u16 = 53;

/// Queries before a server counts as absent.
const ATTEMPTS: u32 = 2;

/// How long each of them waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(700);

/// How long an answer, or its absence, is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_does() {
        let text = "# nameserver 1.1.1.1\nsearch example\nnameserver 10.0.0.2\n  nameserver\t9.9.9.9 \
                    x\nnameserver fd00::1\nnameserver\nnameservers 8.8.8.8\n";
        assert_eq!(read(text), [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(9, 9, 9, 9)]);
    }
}

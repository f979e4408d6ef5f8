//! Sockets bound to a port and the processes that own them, from `/proc/net` and `/proc/PID/fd`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP; a bound socket is one that listens.
    Tcp,
    /// UDP.
    Udp,
}

/// A bound socket of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSocket {
    /// The address that it is bound to.
    pub address: IpAddr,
    /// Its inode, by which the descriptors of a process name it.
    pub inode: u64,
    /// Datagrams dropped because the socket's receive buffer was full; 0 for TCP.
    pub drops: u64,
    /// Name and id of the process that owns the socket, if this process may see it.
    pub process: Option<(String, u32)>,
}

/// Lists all sockets bound to `port`, of both address families.
pub fn sockets(transport: Transport, port: u16) -> Vec<BoundSocket> {
    let files = match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let mut sockets = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        sockets.extend(text.lines().skip(1).filter_map(|line| parse(line, transport, port)));
    }
    for socket in &mut sockets {
        socket.process = owner(socket.inode);
    }
    sockets
}

/// Records who has these ports now. A process that is confined later may not see the files of others any more
/// (`ptrace(2)`, `landlock(7)`), so the daemon calls this first; nothing is searched while the ports are free.
pub fn remember(ports: impl IntoIterator<Item = (Transport, u16)>) {
    let found = ports.into_iter().flat_map(|(transport, port)| sockets(transport, port)).collect();
    // A second call would be a second daemon in this process: the first record stays.
    let _ = REMEMBERED.set(found);
}

static REMEMBERED: OnceLock<Vec<BoundSocket>> = OnceLock::new();

/// Which process has a port, if that is why it cannot be bound: the rest of a sentence. A process that cannot be
/// identified is left to a command.
pub fn holder(error: &io::Error, transport: Transport, port: u16) -> String {
    if error.kind() != io::ErrorKind::AddrInUse {
        return String::new();
    }
    let mut named: Vec<_> = sockets(transport, port)
        .into_iter()
        .filter_map(|socket| socket.process.or_else(|| remembered(socket.inode)))
        .map(|(name, pid)| format!("{name} (pid {pid})"))
        .collect();
    named.sort();
    named.dedup();
    match (named.is_empty(), transport) {
        (false, _) => format!("; {} is using the port", named.join(" and ")),
        (true, Transport::Tcp) => {
            format!("; `ss -tlnp 'sport = :{port}'` names the process that is using the port")
        }
        (true, Transport::Udp) => {
            format!("; `ss -ulnp 'sport = :{port}'` names the process that is using the port")
        }
    }
}

fn remembered(inode: u64) -> Option<(String, u32)> {
    REMEMBERED.get()?.iter().find(|socket| socket.inode == inode)?.process.clone()
}

/// Parses a line of `/proc/net/tcp` and the like (`Documentation/networking/proc_net_tcp.rst` describes the
/// format).
fn parse(line: &str, transport: Transport, port: u16) -> Option<BoundSocket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, its_port) = fields.get(1)?.split_once(':')?;
    if u16::from_str_radix(its_port, 16).ok()? != port
        || (transport == Transport::Tcp && *fields.get(3)? != LISTEN)
    {
        return None;
    }
    // The kernel prints an address as 32-bit words in the machine's own byte order.
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        _ => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()
        }
    };
    Some(BoundSocket {
        address,
        inode: fields.get(9)?.parse().ok()?,
        drops: match transport {
            Transport::Tcp => 0,
            Transport::Udp => fields.get(12)?.parse().ok()?,
        },
        process: None,
    })
}

fn owner(inode: u64) -> Option<(String, u32)> {
    let wanted = format!("socket:[{inode}]");
    processes().find_map(|pid| {
        let has_it = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().any(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str())
        });
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        has_it.then(|| (name.trim().to_owned(), pid))
    })
}

/// The ids of all processes that this user can see.
pub fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `TCP_LISTEN` (`include/net/tcp_states.h`) as `/proc/net/tcp` prints it.
const LISTEN: &str = "0A";

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn our_own_sockets_are_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = sockets(Transport::Udp, port);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].address, found[0].drops), (Ipv4Addr::LOCALHOST.into(), 0));
        assert_eq!(found[0].process.as_ref().unwrap().1, std::process::id());
        assert_eq!(parse("garbage", Transport::Udp, port), None);
        let dual = TcpListener::bind("[::]:0").unwrap();
        let port = dual.local_addr().unwrap().port();
        let found = sockets(Transport::Tcp, port);
        assert_eq!(found[0].address, IpAddr::from(Ipv6Addr::UNSPECIFIED), "{found:?}");
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let error = UdpSocket::bind(address).unwrap_err();
        let text = holder(&error, Transport::Udp, address.port());
        let pid = std::process::id();
        assert!(text.ends_with(&format!("(pid {pid}) is using the port")), "{text}");
        // Nobody that can be seen: as the confined daemon sees a port that was taken after its start.
        let text = holder(&error, Transport::Tcp, 1);
        assert_eq!(text, "; `ss -tlnp 'sport = :1'` names the process that is using the port");
        assert_eq!(holder(&io::ErrorKind::PermissionDenied.into(), Transport::Tcp, 1), "");
    }
}

//! UDP sockets bound to a port and the processes that own them, from `/proc/net/udp` and
//! `/proc/PID/fd`.

use std::net::Ipv4Addr;

/// A bound UDP socket of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BoundSocket {
    pub(super) address: Ipv4Addr,
    pub(super) inode: u64,
    /// Datagrams dropped because the socket's receive buffer was full.
    pub(super) drops: u64,
    /// Name and id of the process that owns the socket, if this user may see it.
    pub(super) process: Option<(String, u32)>,
}

/// Lists all sockets bound to `port`.
pub(super) fn sockets(port: u16) -> Vec<BoundSocket> {
    let text = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let mut sockets: Vec<_> = text.lines().skip(1).filter_map(|line| parse(line, port)).collect();
    for socket in &mut sockets {
        socket.process = owner(socket.inode);
    }
    sockets
}

/// Parses a line of `/proc/net/udp` (`Documentation/networking/proc_net_tcp.rst` describes the
/// format).
fn parse(line: &str, port: u16) -> Option<BoundSocket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, its_port) = fields.get(1)?.split_once(':')?;
    if u16::from_str_radix(its_port, 16).ok()? != port {
        return None;
    }
    // The kernel prints the address as a 32-bit word in the machine's own byte order.
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some(BoundSocket {
        address: address.into(),
        inode: fields.get(9)?.parse().ok()?,
        drops: fields.get(12)?.parse().ok()?,
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
pub(super) fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_socket_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = sockets(port);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].address, found[0].drops), (Ipv4Addr::LOCALHOST, 0));
        assert_eq!(found[0].process.as_ref().unwrap().1, std::process::id());
        assert_eq!(parse("garbage", port), None);
    }
}

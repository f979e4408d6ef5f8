//! The rules that keep the daemon's own datagrams out of connection tracking.
//!
//! The kernel tracks each datagram that arrives at the port, so a flood from forged addresses fills the table of
//! connections of the whole host. Untracked, it costs an entry for none of them.

use std::net::SocketAddrV4;

use crate::route::Cidr;

/// What the comment of each of these rules begins with.
pub(super) const COMMENT: &str = "flannel-udp notrack";

/// The comment of these rules, which names the network that they belong to.
pub(super) fn comment(network: Cidr) -> String {
    format!("{COMMENT} {network}")
}

/// The matches for iptables, of the rules and of the jumps from the two hooks. One chain serves both: datagrams to
/// the socket arrive, those from it leave.
pub(super) fn iptables(socket: SocketAddrV4) -> [String; 2] {
    let (address, port) = (socket.ip(), socket.port());
    [
        format!("-d {address}/32 -p udp -m udp --dport {port}"),
        format!("-s {address}/32 -p udp -m udp --sport {port}"),
    ]
}

/// The matches for nftables, each with its chain.
pub(super) fn nft(socket: SocketAddrV4) -> [(&'static str, String); 2] {
    let (address, port) = (socket.ip(), socket.port());
    [
        ("notrack-input", format!("ip daddr {address} udp dport {port}")),
        ("notrack-output", format!("ip saddr {address} udp sport {port}")),
    ]
}

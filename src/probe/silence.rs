//! Why a peer does not answer through the overlay.

use std::io;
use std::net::Ipv4Addr;

use super::echo::{Echo, EchoOutcome, IcmpError};
use crate::packet::icmpv4::kind;
use crate::route::Cidr;

/// A likely cause, and what to do about it, with commands in backquotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) text: String,
    pub(crate) remedy: String,
}

impl Cause {
    pub(crate) fn new(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { text: text.into(), remedy: remedy.into() }
    }
}

/// A peer that does not answer.
pub(crate) struct SilentPeer<'a> {
    pub(crate) echo: &'a Echo,
    /// Its underlay address.
    pub(crate) host: Ipv4Addr,
    /// The UDP port of all hosts.
    pub(crate) port: u16,
    pub(crate) subnet: Cidr,
}

impl SilentPeer<'_> {
    /// What the kernel's refusal or an ICMP error says: `outcome` is that of a request through the overlay.
    pub(crate) fn reported(&self, outcome: Option<&io::Result<EchoOutcome>>) -> Option<Cause> {
        let Self { echo, host, port, subnet } = self;
        if let Some(Err(error)) = outcome {
            let text = format!("this host's kernel refuses to send to {subnet}: {error}");
            return Some(Cause::new(text, "check the device and its route: `flannel-udp doctor`"));
        }
        if let Some(IcmpError { kind: kind::UNREACHABLE, code, by, .. }) =
            echo.last_error(*host, *port)
        {
            return Some(match code {
                3 => Cause::new(
                    format!(
                        "{by} reports that no process listens on UDP {port}: no daemon is running there"
                    ),
                    format!(
                        "on {host}: `systemctl start flannel-udp`, or check whether its firewall rejects the port"
                    ),
                ),
                9 | 10 | 13 => Cause::new(
                    format!("a firewall at {by} rejects UDP {port}"),
                    accept(*host, *port),
                ),
                _ => Cause::new(
                    format!("{host} does not answer at all; {by} reports it as unreachable"),
                    format!("`ping -c 3 {host}`; `ip route get {host}`; is that host up?"),
                ),
            });
        }
        let Some(Ok(EchoOutcome::Error(IcmpError { by, kind, .. }))) = outcome else { return None };
        let text = match *kind {
            kind::TIME_EXCEEDED => {
                format!("{by} reports that the packet's TTL expired: a routing loop")
            }
            _ => format!("{by} reports {subnet} as unreachable: the daemon has no route to it"),
        };
        Some(Cause::new(
            text,
            "`flannel-udp routes`; `journalctl -u flannel-udp`; check that the lease store is reachable",
        ))
    }

    /// What remains when nothing is reported; `answers` is whether the host answers pings of its underlay address.
    pub(crate) fn unreported(&self, answers: bool) -> Cause {
        let Self { host, port, .. } = self;
        if answers {
            let text = format!(
                "{host} answers pings, but nothing comes back through the overlay: UDP {port} is \
                 dropped by a firewall, or its daemon hangs or has no route back"
            );
            return Cause::new(text, accept(*host, *port));
        }
        let text = format!(
            "{host} does not answer at all: the host or the network is down, or a firewall drops both ICMP and \
             UDP {port}"
        );
        Cause::new(text, format!("`ping -c 3 {host}`; `ip route get {host}`"))
    }
}

fn accept(host: Ipv4Addr, port: u16) -> String {
    format!(
        "on {host}: `flannel-udp doctor`; `iptables -I INPUT -p udp --dport {port} -j ACCEPT`; the same on \
         every firewall on the path"
    )
}

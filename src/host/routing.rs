//! What this host's kernel does with one packet: input interface, forwarding, reverse path filter, route.
//!
//! The kernel is asked with all of the packet that a policy routing rule (ip-rule(8)) can match but its mark.
//! Its refusals have too few error numbers: Linux 6.14 and later answer `EINVAL` both for a blackhole route and
//! for a packet that fails the reverse path filter, and `EHOSTUNREACH` stands for an interface that does not
//! forward and for an unreachable route (`ip_route_input_slow` in `net/ipv4/route.c`). So a refusal is decided
//! in the kernel's order, with the settings that it reads.

use std::net::Ipv4Addr;

use rtnetlink::packet_route::route::RouteType;

use super::netlink::{KernelRoute, Link, Netlink, NetlinkError, RouteQuestion};
use super::sysctl;
use crate::packet::protocol;

/// What a policy routing rule can match of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination port, where the protocol has ports.
    pub ports: Option<[u16; 2]>,
}

/// Where a packet enters this host's routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A process of this host sends it: the source is one of this host's addresses.
    Host,
    /// It arrives through this interface, which has the route to the source.
    Behind(Link),
    /// The kernel has no route to the source.
    Unknown,
}

/// The kernel's decision about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    /// It is delivered to this host itself.
    Local,
    /// It leaves through this interface.
    Through {
        /// Name of the interface.
        interface: String,
        /// Whether a policy routing rule for its source, input interface, protocol or ports decides: without
        /// these another interface would be used.
        by_rule: bool,
    },
    /// The kernel drops it.
    Refused(Refusal),
}

/// Why the kernel drops a packet instead of sending or delivering it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Forwarding is off for the interface that it arrives through.
    NotForwarded {
        /// Name of the interface.
        input: String,
        /// Whether forwarding is off for the whole host.
        everywhere: bool,
    },
    /// It fails the reverse path filter of the interface that it arrives through.
    ReversePath {
        /// Name of the interface.
        input: String,
        /// 1 for the strict filter, 2 for the loose one.
        mode: u64,
        /// The interface of the route back to the source.
        back: Option<String>,
    },
    /// It arrives with an address of this host as its source.
    OwnSource,
    /// Its source or destination is of a kind that is never routed, such as 127.0.0.1.
    Martian,
    /// A route or rule of this type drops it.
    Route(&'static str),
    /// There is no route.
    NoRoute,
    /// The kernel gives another reason.
    Other(String),
}

impl Refusal {
    /// The refusal of `flow` as a clause that follows a colon.
    pub fn sentence(&self, flow: &Flow) -> String {
        let Flow { source, destination, .. } = flow;
        match self {
            Self::NotForwarded { input, everywhere: true } => format!(
                "net.ipv4.ip_forward is 0, so this host does not forward packets that arrive through {input}"
            ),
            Self::NotForwarded { input, everywhere: false } => format!(
                "forwarding is 0 for {input}, so this host does not forward packets that arrive through it"
            ),
            Self::ReversePath { input, mode, back } => format!(
                "rp_filter of {input} is {mode} ({}), and the route back to {source} {}",
                if *mode == 1 { "strict" } else { "loose" },
                back.as_ref().map_or("does not exist".into(), |name| format!("leads to {name}"))
            ),
            Self::OwnSource => {
                format!(
                    "{source} is an address of this host, and the kernel drops packets that arrive from it"
                )
            }
            Self::Martian => {
                format!("the kernel never routes a packet from {source} to {destination}")
            }
            Self::Route(kind) => {
                format!("a route or rule of type {kind} drops packets to {destination}")
            }
            Self::NoRoute => {
                format!(
                    "the kernel has no route to {destination}, or a policy routing rule hides it"
                )
            }
            Self::Other(error) => error.clone(),
        }
    }

    /// What to do about it, with commands in backquotes.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NotForwarded { everywhere: true, .. } => Some(
                "`sysctl -w net.ipv4.ip_forward=1`, and the same setting in a file in /etc/sysctl.d".into(),
            ),
            Self::NotForwarded { input, .. } => {
                Some(format!("`{}`", sysctl::set_command(input, "forwarding", 1)))
            }
            Self::ReversePath { input, mode: 1, back: Some(_) } => {
                Some(format!("`{}`", sysctl::set_command(input, "rp_filter", 2)))
            }
            Self::Route(kind) => Some(format!(
                "find the route with `ip route show table all type {kind}`, or the rule with `ip rule`, and \
                 delete it"
            )),
            Self::NoRoute => Some("check `ip rule` and `ip route show table all`".into()),
            _ => None,
        }
    }
}

impl Origin {
    /// The interface that the packet arrives through; `None` if a process of this host sends it.
    pub fn input(&self) -> Option<&Link> {
        match self {
            Self::Behind(link) => Some(link),
            Self::Host | Self::Unknown => None,
        }
    }
}

impl Flow {
    /// The command that asks the kernel about this packet.
    pub fn command(&self, origin: &Origin) -> String {
        let mut command = format!("ip route get {}", self.destination);
        // The kernel accepts a source that is not its own only with an input interface.
        if *origin != Origin::Unknown {
            command += &format!(" from {}", self.source);
        }
        if let Some(input) = origin.input() {
            command += &format!(" iif {}", input.name);
        }
        let name = match self.protocol {
            protocol::ICMP => "icmp",
            protocol::TCP => "tcp",
            protocol::UDP => "udp",
            _ => return command,
        };
        command += &format!(" ipproto {name}");
        if let Some([from, to]) = self.ports {
            command += &format!(" sport {from} dport {to}");
        }
        command
    }

    fn question(&self, origin: &Origin) -> RouteQuestion {
        RouteQuestion {
            destination: self.destination,
            source: (*origin != Origin::Unknown).then_some(self.source),
            input: origin.input().map(|link| link.index),
            protocol: Some(self.protocol),
            ports: self.ports,
        }
    }
}

impl Netlink {
    /// Where packets from `source` enter this host's routing: through the interface to which the main table
    /// sends packets for it, whatever policy routing rules say about these.
    pub async fn origin(&self, links: &[Link], source: Ipv4Addr) -> Origin {
        let route = self.route_to(source).await.ok();
        if route.as_ref().is_some_and(|route| route.kind == RouteType::Local) {
            return Origin::Host;
        }
        let routes = self.routes().await.unwrap_or_default();
        let to_source =
            |r: &&KernelRoute| r.kind == RouteType::Unicast && r.destination.contains(source);
        let best = routes
            .iter()
            .filter(to_source)
            .max_by_key(|r| (r.destination.len(), std::cmp::Reverse(r.priority)));
        let oif = best.or(route.as_ref()).and_then(|route| route.oif);
        let link = links.iter().find(|link| Some(link.index) == oif);
        link.map_or(Origin::Unknown, |link| Origin::Behind(link.clone()))
    }

    /// Asks the kernel what it does with a packet.
    pub async fn routing(&self, links: &[Link], flow: &Flow, origin: &Origin) -> Routing {
        if flow.source.is_unspecified() {
            // To the kernel this is a question without a source.
            return Routing::Refused(Refusal::Martian);
        }
        match self.route_for(&flow.question(origin)).await {
            Ok(route) if local(route.kind) => Routing::Local,
            Ok(route) => {
                let plain = self.route_to(flow.destination).await;
                let by_rule = plain.is_ok_and(|plain| plain.oif != route.oif);
                Routing::Through { interface: name(links, route.oif), by_rule }
            }
            Err(error) => Routing::Refused(self.refusal(links, flow, origin.input(), &error).await),
        }
    }

    async fn refusal(
        &self,
        links: &[Link],
        flow: &Flow,
        input: Option<&Link>,
        error: &NetlinkError,
    ) -> Refusal {
        let errno = error.errno();
        if errno == Some(libc::EINVAL) && martian(flow) {
            return Refusal::Martian;
        }
        if let Some(input) = input {
            let off = sysctl::of_interface(&input.name, "forwarding") == Some(0);
            if off && errno == Some(libc::EHOSTUNREACH) {
                let everywhere = sysctl::number("ipv4/ip_forward") == Some(0);
                return Refusal::NotForwarded { input: input.name.clone(), everywhere };
            }
            // `EXDEV` before Linux 6.14.
            if matches!(errno, Some(libc::EINVAL | libc::EXDEV))
                && let Some(refusal) = self.bad_source(links, flow, input).await
            {
                return refusal;
            }
        }
        match errno {
            Some(libc::EINVAL) => Refusal::Route("blackhole"),
            Some(libc::EACCES) => Refusal::Route("prohibit"),
            Some(libc::EHOSTUNREACH) => Refusal::Route("unreachable"),
            Some(libc::ENETUNREACH) => Refusal::NoRoute,
            _ => Refusal::Other(error.to_string()),
        }
    }

    /// Returns why the kernel does not accept the source on this interface (`fib_validate_source` in
    /// `net/ipv4/fib_frontend.c`), if that is so.
    async fn bad_source(&self, links: &[Link], flow: &Flow, input: &Link) -> Option<Refusal> {
        let back = match self.route_to(flow.source).await {
            Ok(route) if local(route.kind) => return Some(Refusal::OwnSource),
            Ok(route) => Some(route.oif),
            Err(_) => None,
        };
        let mode = sysctl::reverse_path_filter(&input.name).filter(|mode| *mode != 0)?;
        let passes = match mode {
            1 => back == Some(Some(input.index)),
            _ => back.is_some(),
        };
        let back = back.map(|oif| name(links, oif));
        (!passes).then(|| Refusal::ReversePath { input: input.name.clone(), mode, back })
    }
}

/// Whether the kernel routes no packet with such an address (`ip_route_input_slow`, RFC 1812, section 5.3.7),
/// multicast routing aside.
fn martian(flow: &Flow) -> bool {
    let Flow { source, destination, .. } = flow;
    let never = |address: &Ipv4Addr| {
        let first = address.octets()[0];
        first == 0 || first >= 224 || address.is_loopback()
    };
    never(source) || never(destination)
}

fn local(kind: RouteType) -> bool {
    matches!(kind, RouteType::Local | RouteType::Broadcast)
}

fn name(links: &[Link], index: Option<u32>) -> String {
    let link = links.iter().find(|link| Some(link.index) == index);
    link.map_or_else(|| "?".into(), |link| link.name.clone())
}

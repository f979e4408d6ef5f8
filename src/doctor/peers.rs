//! The path to every peer through the overlay: reachability, round trip, loss and path MTU.
//!
//! The probes are ICMP echo requests to the peer's flannel0, whose address is the network address
//! of its lease. They are ordinary inner packets, so stock flanneld carries them and the peer's
//! kernel answers them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt, stream};

use super::facts::HostFacts;
use super::finding::Finding;
use super::firewall;
use super::netfilter::Firewalls;
use crate::host::firewall::ToolError;
use crate::packet::wire::OVERHEAD;
use crate::probe::echo::{Echo, EchoOutcome};
use crate::probe::silence::{Cause, SilentPeer};
use crate::probe::size::SizeProbe;
use crate::subnet::admin::Holding;
use crate::sys::udp;

/// This host's firewall rules, if they could be read in time.
type Rules<'a> = Option<&'a Result<Firewalls, ToolError>>;

/// Probes the chosen peers until `end`.
pub(super) async fn check(
    facts: &HostFacts<'_>,
    firewalls: Rules<'_>,
    end: Instant,
) -> Vec<Finding> {
    let chosen: Vec<&Holding> = facts
        .peers
        .iter()
        .copied()
        .filter(|peer| facts.args.peers.includes(peer.public_ip, peer.subnet))
        .filter(|peer| peer.backend_type.as_deref().is_none_or(|k| k.eq_ignore_ascii_case("udp")))
        .collect();
    if chosen.is_empty() {
        return match facts.args.peers {
            super::PeerChoice::None => vec![],
            _ => vec![Finding::note("peers", "none known: no other host holds a lease")],
        };
    }
    let echo = match Echo::open() {
        Ok(echo) => echo,
        Err(error) => {
            let text = format!("not probed: no raw socket for ICMP: {error}");
            let remedy = "run as root or with CAP_NET_RAW";
            return vec![Finding::note("peers", text).remedy(remedy)];
        }
    };
    let probes = stream::iter(chosen).map(|peer| probe(facts, firewalls, &echo, peer, end));
    probes.buffered(PEERS_AT_ONCE).concat().await
}

async fn probe(
    facts: &HostFacts<'_>,
    firewalls: Rules<'_>,
    echo: &Echo,
    peer: &Holding,
    end: Instant,
) -> Vec<Finding> {
    let check = format!("{} ({})", peer.public_ip, peer.subnet);
    if Instant::now() + PEER_TIME_LIMIT > end {
        let note = Finding::note(check, "not probed: the time limit was reached");
        return vec![note.remedy("`flannel-udp doctor --timeout=60`, or --peers=LIST")];
    }
    let target = peer.subnet.network();
    if facts.tun().is_none() {
        let underlay = underlay(echo, peer.public_ip).await;
        let text = format!(
            "not probed through the overlay, which needs a running daemon here; {underlay}"
        );
        return vec![Finding::note(check, text)];
    }
    let rounds = join_all((0..ECHOES_PER_PEER).map(async |number: u32| {
        tokio::time::sleep(ECHO_INTERVAL * number).await;
        echo.ping(target, ECHO_LEN, ECHO_TIMEOUT).await
    }));
    let answers = rounds.await;
    let mut times: Vec<Duration> = answers
        .iter()
        .filter_map(|answer| match answer {
            Ok(EchoOutcome::Reply(reply)) => Some(reply.time),
            _ => None,
        })
        .collect();
    times.sort();
    if times.is_empty() {
        // What this host does itself is not the peer's fault.
        let own = firewalls.and_then(|rules| firewall::drops_peer(facts, rules, peer.public_ip));
        if let Some((text, remedy)) = own {
            return vec![Finding::fault(check, text).remedy(remedy)];
        }
        return vec![diagnose_silence(facts, echo, peer, &check, answers.first()).await];
    }
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let text = format!(
        "{} of {ECHOES_PER_PEER} echoes to {target} answered through the overlay; round trip median \
         {:.2} ms, maximum {:.2} ms",
        times.len(),
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1])
    );
    let lost = ECHOES_PER_PEER as usize - times.len();
    let reach = match lost {
        0 => Finding::ok(&check, text),
        _ => Finding::warning(
            &check,
            format!("{text}; {} % lost", lost * 100 / ECHOES_PER_PEER as usize),
        )
        .remedy(format!(
            "compare with `ping -c 100 {}` on the underlay; check the drops of both daemons: \
                 `flannel-udp status`",
            peer.public_ip
        )),
    };
    vec![reach, path_mtu(facts, echo, peer, &check).await]
}

/// Finds the longest packet that comes back, in rounds that narrow the range of sizes.
async fn path_mtu(facts: &HostFacts<'_>, echo: &Echo, peer: &Holding, check: &str) -> Finding {
    let check = format!("{check} MTU");
    let target = peer.subnet.network();
    let full = facts.tun().map_or(ECHO_LEN, |tun| tun.mtu as usize);
    let mut probe = SizeProbe { echo, to: target, timeout: SIZE_TIMEOUT, attempts: 2 };
    if probe.whole(full).await.is_some() {
        return full_packets_pass(facts, peer, &check, full);
    }
    probe.attempts = 1;
    let good = probe.longest(ECHO_LEN, full).await;
    Finding::fault(
        check,
        format!(
            "packets of up to {good} bytes come back, those of {full} (the overlay's MTU) do not: \
             connections open and then hang. Some link on the path carries at most {} bytes",
            good + OVERHEAD
        ),
    )
    .remedy(format!(
        "raise the MTU of that link, or lower the interface's MTU on every host: \
         `ip link set {} mtu {}`; the daemon adapts, containers must be recreated",
        facts.interface.as_ref().map_or("eth0", |interface| interface.name.as_str()),
        good + OVERHEAD
    ))
}

/// Full packets pass, but the kernel may have to fragment the datagrams that carry them.
fn full_packets_pass(facts: &HostFacts<'_>, peer: &Holding, check: &str, full: usize) -> Finding {
    let outer = full + OVERHEAD;
    match known_path_mtu(facts, peer.public_ip) {
        Ok(path) if (path as usize) < outer && !facts.routes.iter().any(|r| r.mtu.is_some()) => {
            Finding::note(
                check,
                format!(
                    "packets of {full} bytes (the overlay's MTU) pass; an ICMP error reported a path MTU of \
                     {path} to {}, which the daemon ignores",
                    peer.public_ip
                ),
            )
        }
        Ok(path) if (path as usize) < outer => Finding::warning(
            check,
            format!(
                "packets of {full} bytes pass, but in fragments: the kernel knows a path MTU of \
                 {path} to {}, and a full datagram is {outer} bytes long",
                peer.public_ip
            ),
        )
        .remedy(format!(
            "raise that link's MTU, or lower the interface's MTU on every host to \
             {path}: the daemon adapts"
        )),
        _ => Finding::ok(check, format!("packets of {full} bytes (the overlay's MTU) pass")),
    }
}

fn known_path_mtu(facts: &HostFacts<'_>, peer: Ipv4Addr) -> io::Result<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(SocketAddr::from((peer, facts.port())))?;
    udp::path_mtu(&socket)
}

/// Finds out why a peer does not answer through the overlay, from ICMP errors and a ping of its
/// underlay address.
async fn diagnose_silence(
    facts: &HostFacts<'_>,
    echo: &Echo,
    peer: &Holding,
    check: &str,
    first: Option<&io::Result<EchoOutcome>>,
) -> Finding {
    let (host, port) = (peer.public_ip, facts.port());
    let silent = SilentPeer { echo, host, port, subnet: peer.subnet };
    let Cause { text, remedy } = match silent.reported(first) {
        Some(cause) => cause,
        None => {
            let answers = matches!(underlay(echo, host).await, UnderlayPing::Answers(_));
            silent.unreported(answers)
        }
    };
    Finding::fault(check, text).remedy(remedy)
}

enum UnderlayPing {
    Answers(Duration),
    Silent,
}

async fn underlay(echo: &Echo, host: Ipv4Addr) -> UnderlayPing {
    let asked = join_all((0..3).map(|_| echo.ping(host, ECHO_LEN, ECHO_TIMEOUT))).await;
    let answered = asked.into_iter().find_map(|answer| match answer {
        Ok(EchoOutcome::Reply(reply)) => Some(reply.time),
        _ => None,
    });
    answered.map_or(UnderlayPing::Silent, UnderlayPing::Answers)
}

impl std::fmt::Display for UnderlayPing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answers(time) => {
                write!(f, "the host answers pings in {:.2} ms", time.as_secs_f64() * 1000.0)
            }
            Self::Silent => f.write_str("the host does not answer pings"),
        }
    }
}

/// Number of peers that are probed at the same time.
const PEERS_AT_ONCE: usize = 64;
/// Number of small echo requests to each peer.
const ECHOES_PER_PEER: u32 = 10;
/// Time between two echo requests to a peer.
const ECHO_INTERVAL: Duration = Duration::from_millis(40);
/// How long `doctor` waits for the reply to a small echo request.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);
/// How long `doctor` waits for the reply to a request that measures the path MTU.
const SIZE_TIMEOUT: Duration = Duration::from_millis(400);
/// Length of a small echo request in bytes, headers included, as `ping` sends it.
const ECHO_LEN: usize = 84;
/// Longest time that one peer takes: small echoes, then two full packets and three rounds of sizes,
/// or the ping of its underlay address.
const PEER_TIME_LIMIT: Duration = Duration::from_millis(3500);
